package pith

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
)

// Contents are what a bundle holds, as who keeps bundles wants to index it.
type Contents struct {
	Canonical   []byte            // the whole bundle in canonical form
	Suffix      string            // the 26 characters behind "pith:YYYY:"
	EventSet    [sha256.Size]byte // see EventSet
	State       [sha256.Size]byte // state_sha256
	SubmittedAt time.Time         // of the paper, as its record says; zero if it does not
	BuiltAt     time.Time
	Categories  []string // of the record, the primary one first
	// Authors and Abstract are the texts of the newest description
	// (graph_snapshot) that stands, whoever signed it.
	Authors, Abstract string
	Aliases           []Alias // of the bundle
	Names             []Alias // all that follow from the record, of which a bundle may lack some (spec §6.5)
	Keys              []KeyEntry
	// Entries are the digests of the events' whole canonical forms
	// (entry_sha256, spec §6.6), one for each statement of Result.History.
	Entries [][sha256.Size]byte
}

// An Alias is another name of a record.
type Alias struct{ Kind, Value string }

// A KeyEntry is one entry of public_keys, in canonical form.
type KeyEntry struct {
	Fingerprint string
	Entry       []byte
}

// Inspect is Verify that also returns what the bundle holds, read once. The
// contents are nil when the structure is not Valid.
func Inspect(data []byte, trust *Trust) (*Result, *Contents) {
	r, b := verify(data, trust)
	if b == nil || b.history == nil || r.Structure() != Valid {
		return r, nil
	}
	return r, b.contents()
}

func (b *bundle) contents() *Contents {
	c := &Contents{Canonical: b.root.Canonical(), Suffix: b.record.suffix}
	hex.Decode(c.EventSet[:], []byte(b.history.digest())) // both are hex of 32 bytes by construction
	hex.Decode(c.State[:], []byte(b.stateSHA256))
	c.SubmittedAt, _ = parseTime(b.record.submittedAt.Text())
	c.BuiltAt, _ = parseTime(b.root.Get("built_at").Text())
	if primary := b.record.primaryCat.Text(); primary != "" {
		c.Categories = append(c.Categories, primary)
	}
	for v := range b.record.crossCats.Children() {
		c.Categories = append(c.Categories, v.Text())
	}
	for v := range b.root.Get("source_aliases").Children() {
		c.Aliases = append(c.Aliases, Alias{v.Get("alias_kind").Text(), v.Get("alias_value").Text()})
	}
	c.Names = b.record.names()
	for v := range b.root.Get("public_keys").Children() {
		c.Keys = append(c.Keys, KeyEntry{v.Get("fingerprint_sha256_hex").Text(), v.Canonical()})
	}
	for _, e := range b.history.applied {
		if e.kind == TypeGraphSnapshot && !e.superseded {
			paper := e.value.Get("payload").Get("graph_snapshot").Get("paper")
			c.Authors, c.Abstract = paper.Get("authors_text").Text(), paper.Get("abstract_excerpt").Text()
		}
	}
	for _, list := range [][]*event{b.history.applied, b.history.invalid} {
		for _, e := range list {
			c.Entries = append(c.Entries, e.value.Digest())
		}
	}
	return c
}

// A LooseEvent is an event outside a bundle, as far as it can be read there.
// Nothing about it has been checked but its syntax and that it has these
// members.
type LooseEvent struct {
	Canonical   []byte
	Number      string // of the record that it is about
	ID          string
	Fingerprint string // of the key that should have signed it
}

// ReadEvent reads an event that came without its bundle. Errors are
// *SyntaxError or *CheckError. See Adopt.
func ReadEvent(data []byte) (*LooseEvent, error) {
	doc, err := canon.Parse(data)
	if err != nil {
		return nil, err
	}
	v := doc.Root()
	var c checks
	if !c.shape(CodeEventShape, c.root(), v, eventFields) || !c.shape(CodeEventShape, c.at("signer"), v.Get("signer"), signerFields) {
		return nil, &CheckError{*c.firstFailure()}
	}
	return &LooseEvent{
		Canonical:   v.Canonical(),
		Number:      v.Get("subject_pith_number").Text(),
		ID:          v.Get("event_id").Text(),
		Fingerprint: v.Get("signer").Get("public_key_fingerprint").Text(),
	}, nil
}

// Adopt unites a bundle with events that came without theirs, and with the entries
// for public_keys of the keys that signed them; those of keys that the bundle has stay
// as they are. Like the result of Merge, of which it is a case, what it returns has no bundle_signature. An
// event that is not valid in that company is listed as invalid, with the reason.
func Adopt(bundle []byte, events, keyEntries [][]byte) ([]byte, error) {
	b, err := readUnsigned(bundle)
	if err != nil {
		return nil, err
	}
	u := newUnion()
	u.add(b)
	return u.adopt(events, keyEntries)
}

// Assemble returns the bundle of a record that has these events, signed by keys with
// these entries for public_keys, and nothing else but what follows from the record:
// no aliases, links, hints or timestamps, which only the signer of a bundle vouches
// for. It is the least of all bundles with these events and entries: united with any
// other of them it gives that other (spec §5.8). Like the result of Merge it has no
// bundle_signature. One of the events must open the record. Errors are those of Number and Merge.
func Assemble(record []byte, events, keyEntries [][]byte) ([]byte, error) {
	r, err := readRecord(record)
	if err != nil {
		return nil, err
	}
	return r.union().adopt(events, keyEntries)
}

// Keep returns a bundle with those of its events of whose digest (entry_sha256, spec
// §6.6) keep says so, and with everything else that it holds. Like the result of Merge
// it has no bundle_signature. One of the events must open the record. Errors are those
// of Merge.
func Keep(bundle []byte, keep func(entry [sha256.Size]byte) bool) ([]byte, error) {
	b, err := readUnsigned(bundle)
	if err != nil {
		return nil, err
	}
	u := newUnion()
	u.add(b)
	u.events = slices.DeleteFunc(u.events, func(event []byte) bool { return !keep(sha256.Sum256(event)) })
	return u.bundle()
}

// adopt returns the bundle of the union with some events more, and with entries of keys
// that it does not have yet; of several for one key the smallest, as Merge keeps it.
func (u *union) adopt(events, keyEntries [][]byte) ([]byte, error) {
	for _, event := range events {
		doc, err := canon.Parse(event)
		if err != nil {
			return nil, err
		}
		u.events = append(u.events, doc.Root().Canonical())
	}
	had := maps.Clone(u.keys)
	for _, entry := range keyEntries {
		key, err := canon.Parse(entry)
		if err != nil {
			return nil, err
		}
		fingerprint := key.Root().Get("fingerprint_sha256_hex").Text()
		if _, has := had[fingerprint]; !has {
			keepSmallest(u.keys, fingerprint, key.Root().Canonical())
		}
	}
	return u.bundle()
}

// ReadKey reads an entry of public_keys and returns it in canonical form.
// Errors are *SyntaxError or *CheckError.
func ReadKey(entry []byte) (PublicKey, []byte, error) {
	doc, err := canon.Parse(entry)
	if err != nil {
		return PublicKey{}, nil, err
	}
	var c checks
	key, ok := c.publicKey(c.root(), doc.Root())
	if !ok {
		return PublicKey{}, nil, &CheckError{*c.firstFailure()}
	}
	return key, doc.Root().Canonical(), nil
}
