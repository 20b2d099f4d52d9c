package pith

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/seed"
)

// TestForgivenFailuresHideNothing: failures of events that the state declares
// invalid decide nothing, however many there are, and must not push the one that
// decides out of the list. Here a stranger changes what the signature of
// the whole covers, with more forged copies of an event than a result lists.
func TestForgivenFailuresHideNothing(t *testing.T) {
	for _, copies := range []int{0, 1, MaxFailures - 1, MaxFailures, MaxFailures + 1} {
		var bundle map[string]json.RawMessage
		if err := json.Unmarshal(seed.Bundle(), &bundle); err != nil {
			t.Fatal(err)
		}
		var events []json.RawMessage
		if err := json.Unmarshal(bundle["events"], &events); err != nil {
			t.Fatal(err)
		}
		good := base64.StdEncoding
		var first struct {
			Signature struct {
				B64 string `json:"signature_b64"`
			} `json:"signature"`
		}
		if err := json.Unmarshal(events[0], &first); err != nil {
			t.Fatal(err)
		}
		signature, err := good.DecodeString(first.Signature.B64)
		if err != nil {
			t.Fatal(err)
		}
		original := events[0]
		for i := range copies {
			forged := bytes.Clone(signature)
			forged[0], forged[1], forged[2] = forged[0]^0x5a, byte(i), byte(i>>8)
			events = append(events, bytes.Replace(original, []byte(first.Signature.B64), []byte(good.EncodeToString(forged)), 1))
		}
		set := func(name string, v any) {
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			bundle[name] = raw
		}
		set("events", events)
		set("built_at", "2031-01-01T00:00:00Z") // what is forged
		whole := func() []byte {
			raw, err := json.Marshal(bundle)
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		doc, err := canon.Parse(whole())
		if err != nil {
			t.Fatal(err)
		}
		var c checks
		bundle["state"] = c.bundle(doc.Root()).stateNow()
		signed, err := SignedBytes(whole())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(signed)
		var mark map[string]any
		if err := json.Unmarshal(bundle["bundle_signature"], &mark); err != nil {
			t.Fatal(err)
		}
		mark["bundle_sha256"] = hex.EncodeToString(sum[:])
		set("bundle_signature", mark)

		r := Verify(whole(), nil)
		if r.Verdict() != Rejected || r.Structure() != Rejected {
			t.Errorf("%d copies: verdict %v, structure %v", copies, r.Verdict(), r.Structure())
		}
		if f := r.Failures(); len(f) != 1 || f[0].Code != CodeSignature || f[0].Path != "/bundle_signature/signature_b64" {
			t.Errorf("%d copies: failures %v", copies, f)
		}
	}
}
