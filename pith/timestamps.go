package pith

import (
	"encoding/hex"

	"github.com/openpith/evidence/pith/ots"
)

// A Timestamp is a good proof that stands in a bundle. Whether its attestations
// are true, ots.Proof.Verify tells by block headers.
type Timestamp struct {
	Of      string // "record", or an event id
	EventID string // of the timestamp_anchor, "" for an entry of timestamp_proofs
	Proof   *ots.Proof
}

// Timestamps returns the proofs of a bundle that is not rejected: those of valid
// timestamp_anchor events that are not superseded, then those of timestamp_proofs.
func Timestamps(bundle []byte) ([]Timestamp, error) {
	b, err := readUnsigned(bundle)
	if err != nil {
		return nil, err
	}
	var out []Timestamp
	add := func(eventID string, proof *ots.Proof) {
		of := hex.EncodeToString(proof.Digest())
		if of = eventIDPrefix + of; of == eventIDPrefix+b.record.sha256 {
			of = "record"
		}
		out = append(out, Timestamp{of, eventID, proof})
	}
	for _, e := range b.history.applied {
		if e.proof != nil && !e.superseded {
			add(e.id, e.proof)
		}
	}
	for _, proof := range b.proofs {
		add("", proof)
	}
	return out, nil
}
