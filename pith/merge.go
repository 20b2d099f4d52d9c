package pith

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
)

// ErrNoBundle reports a call of Merge without bundles.
var ErrNoBundle = errors.New("no bundle to merge")

// A MergeError names the bundle that cannot be merged.
type MergeError struct {
	Index int // among the arguments of Merge, from 0
	Err   error
}

func (e *MergeError) Error() string { return fmt.Sprintf("bundle %d: %v", e.Index+1, e.Err) }

func (e *MergeError) Unwrap() error { return e.Err }

// ErrOtherRecord reports bundles that are not about the same record.
var ErrOtherRecord = errors.New("the bundle is about another record")

// Merge unites bundles of one record (spec §5). The result depends on what they
// hold together, to the byte, and not on their order, on copies or on how it is
// spread over them. It is a bundle without bundle_signature: Sign adds one, and
// Merge takes it as it is. Invalid events are kept, and its state gives the
// reasons.
//
// A bundle that Verify rejects is not merged, with a *RefusedError inside the
// *MergeError.
func Merge(bundles ...[]byte) ([]byte, error) {
	if len(bundles) == 0 {
		return nil, ErrNoBundle
	}
	u := newUnion()
	for i, data := range bundles {
		b, err := readUnsigned(data)
		if err == nil && i > 0 && b.record.sha256 != u.record.sha256 {
			err = fmt.Errorf("%s, the first is about %s: %w", b.record.number, u.record.number, ErrOtherRecord)
		}
		if err != nil {
			return nil, &MergeError{i, err}
		}
		u.add(b)
	}
	return u.bundle()
}

// EventSet returns the digest of the set of events that a bundle holds, in hex:
// two mirrors that agree on it hold the same events (spec §5.9).
func EventSet(bundle []byte) (sha256hex string, err error) {
	b, err := readUnsigned(bundle)
	if err != nil {
		return "", err
	}
	return b.history.digest(), nil
}

// State returns the canonical state that the events of a bundle give (spec §6).
func State(bundle []byte) ([]byte, error) {
	b, err := readUnsigned(bundle)
	if err != nil {
		return nil, err
	}
	return b.stateNow(), nil
}

func (b *bundle) stateNow() []byte {
	state, _ := b.history.state(b.record, joinAliases(b.root.Get("source_aliases")))
	return state
}

// digest is that of the set of events.
func (h *history) digest() string {
	var entries [][]byte
	for _, list := range [][]*event{h.applied, h.invalid} {
		for _, e := range list {
			entries = append(entries, canon.Quote(e.entry()))
		}
	}
	slices.SortFunc(entries, bytes.Compare)
	return hexOf(string(canon.BuildArray(entries...)))
}

// readUnsigned reads a bundle that is not rejected; it need not be signed.
func readUnsigned(data []byte) (*bundle, error) {
	doc, err := canon.Parse(data)
	if err != nil {
		return nil, err
	}
	var c checks
	b := c.bundle(doc.Root())
	signed := doc.Root().Get("bundle_signature").Exists()
	for i := range c.answers {
		a := &c.answers[i]
		if a.ok || a.ifFailed == Valid {
			continue
		}
		check := a.spell(place{&c, a.at}.String())
		if !signed && (check.Path == "/bundle_signature" || check.Path == "/bundle_signature/bundle_sha256") {
			continue
		}
		return nil, &RefusedError{What: "the bundle", Check: check}
	}
	return b, nil
}

// A union is what several bundles hold together.
type union struct {
	record  *record
	aliases []canon.Value     // lists
	events  [][]byte          // canonical
	keys    map[string][]byte // entries of public_keys by fingerprint
	proofs  [][]byte
	hints   [][]byte
	builtAt string
	members map[string][]byte // all others
}

func newUnion() *union {
	return &union{keys: map[string][]byte{}, members: map[string][]byte{}}
}

// recomputed are the members of a bundle that follow from the others, or are
// united in a way of their own.
var recomputed = []string{"events", "public_keys", "source_aliases", "timestamp_proofs", "mirror_hints", "built_at", "state", "bundle_signature"}

func (u *union) add(b *bundle) {
	u.record = b.record
	root := b.root
	u.aliases = append(u.aliases, root.Get("source_aliases"))
	u.events = append(u.events, canonicals(root.Get("events"))...)
	u.proofs = append(u.proofs, canonicals(root.Get("timestamp_proofs"))...)
	u.hints = append(u.hints, canonicals(root.Get("mirror_hints"))...)
	for v := range root.Get("public_keys").Children() {
		keepSmallest(u.keys, v.Get("fingerprint_sha256_hex").Text(), v.Canonical())
	}
	u.builtAt = max(u.builtAt, root.Get("built_at").Text()) // times to the second are ordered as their text is
	for v := range root.Children() {
		if !slices.Contains(recomputed, v.Name()) {
			keepSmallest(u.members, v.Name(), v.Canonical())
		}
	}
}

func canonicals(list canon.Value) [][]byte {
	var out [][]byte
	for v := range list.Children() {
		out = append(out, v.Canonical())
	}
	return out
}

func keepSmallest(kept map[string][]byte, name string, value []byte) {
	if old, ok := kept[name]; !ok || bytes.Compare(value, old) < 0 {
		kept[name] = value
	}
}

// set sorts values and drops copies.
func set(values [][]byte) [][]byte {
	slices.SortFunc(values, bytes.Compare)
	return slices.CompactFunc(values, bytes.Equal)
}

// bundle returns the union as a bundle without signature.
func (u *union) bundle() ([]byte, error) {
	var keys [][]byte
	for _, fingerprint := range slices.Sorted(maps.Keys(u.keys)) {
		keys = append(keys, u.keys[fingerprint])
	}
	keyList := canon.BuildArray(keys...)
	h, err := historyOf(u.record, canon.BuildArray(set(u.events)...), keyList)
	if err != nil {
		return nil, err
	}
	var events [][]byte
	for _, list := range [][]*event{h.applied, h.invalid} {
		for _, e := range list {
			events = append(events, e.value.Canonical())
		}
	}
	aliases := joinAliases(u.aliases...)
	state, _ := h.state(u.record, aliases)
	members := []canon.Member{
		{Name: "events", Value: canon.BuildArray(events...)},
		{Name: "public_keys", Value: keyList},
		{Name: "source_aliases", Value: aliases},
		{Name: "timestamp_proofs", Value: canon.BuildArray(set(u.proofs)...)},
		{Name: "mirror_hints", Value: canon.BuildArray(set(u.hints)...)},
		{Name: "built_at", Value: canon.Quote(u.builtAt)},
		{Name: "state", Value: state},
	}
	for name, value := range u.members {
		members = append(members, canon.Member{Name: name, Value: value})
	}
	out := canon.Build(members...)
	if _, err := readUnsigned(out); err != nil { // the union may break a limit that its parts keep
		return nil, fmt.Errorf("the union: %w", err)
	}
	return out, nil
}

// Sign returns a bundle, such as a result of Merge, with the state that its
// events give, the key's public half, and its signature over the whole. It
// refuses what Verify would reject.
func Sign(bundle []byte, key *PrivateKey, builtAt time.Time) ([]byte, error) {
	b, err := readUnsigned(bundle)
	if err != nil {
		return nil, err
	}
	out, err := b.extend(key, builtAt, nil)
	if err != nil {
		return nil, err
	}
	if r := Verify(out, nil); r.Verdict() > Untrusted {
		return nil, &RefusedError{What: "the signed bundle", Check: r.Failures()[0]}
	}
	return out, nil
}

// SignedBytes returns the bytes whose SHA-256 the signature of an event, a
// bundle or a key document covers: the canonical form without the members that
// hold the digest and the signature (spec §3.1).
func SignedBytes(signed []byte) ([]byte, error) {
	doc, err := canon.Parse(signed)
	if err != nil {
		return nil, err
	}
	root := doc.Root()
	switch {
	case root.Get("event_type").Exists():
		return root.Without(outsideEventDigest...), nil
	case root.Get("bundle_type").Exists():
		return root.Without("bundle_signature"), nil
	case root.Get("document_type").Exists():
		return root.Without(outsideDocumentDigest...), nil
	}
	return nil, errors.New("neither an event nor a bundle nor a key document")
}

// A Difference is what two bundles of one record do not share.
type Difference struct {
	OnlyA, OnlyB []Statement // events that the other lacks, in the order of each
	// Contradictions are the things that cannot be settled by adding what is
	// missing, in words.
	Contradictions []string
	EventSetA      string // digests of the sets of events
	EventSetB      string
	StateA, StateB string // state_sha256
}

// Same reports whether both bundles hold the same events and give the same state.
func (d *Difference) Same() bool { return d.EventSetA == d.EventSetB && d.StateA == d.StateB }

// Diff compares two bundles of one record, signed or not. Errors are those of
// Merge.
func Diff(a, b []byte) (*Difference, error) {
	both := [2]*bundle{}
	for i, data := range [][]byte{a, b} {
		var err error
		if both[i], err = readUnsigned(data); err != nil {
			return nil, &MergeError{i, err}
		}
	}
	if both[0].record.sha256 != both[1].record.sha256 {
		return nil, &MergeError{1, fmt.Errorf("%s, the first is about %s: %w", both[1].record.number, both[0].record.number, ErrOtherRecord)}
	}
	merged, err := Merge(a, b)
	if err != nil {
		return nil, err
	}
	united, err := readUnsigned(merged)
	if err != nil {
		return nil, err
	}
	d := &Difference{
		OnlyA: lacking(both[0], both[1]), OnlyB: lacking(both[1], both[0]),
		EventSetA: both[0].history.digest(), EventSetB: both[1].history.digest(),
		StateA: both[0].stateSHA256, StateB: both[1].stateSHA256,
	}
	d.contradictions(both, united)
	return d, nil
}

// lacking are the events of a that b does not have in any form.
func lacking(a, b *bundle) []Statement {
	has := map[string]bool{}
	for _, e := range b.events {
		has[e.entry()] = true
		if e.reason == "" {
			has[e.id] = true
		}
	}
	var out []Statement
	for _, list := range [][]*event{a.history.applied, a.history.invalid} {
		for _, e := range list {
			if !has[e.entry()] && (e.reason != "" || !has[e.id]) {
				out = append(out, e.statement())
			}
		}
	}
	return out
}

// contradictions says what the two disagree about, not merely lack.
func (d *Difference) contradictions(both [2]*bundle, united *bundle) {
	known := map[string]bool{}
	entries := [2]map[string]*event{{}, {}}
	for i, b := range both {
		for _, found := range b.history.equivocations {
			known[string(found)] = true
		}
		for _, e := range b.events {
			if e.id != "" {
				entries[i][e.id] = e
			}
		}
	}
	for _, found := range united.history.equivocations {
		if !known[string(found)] {
			d.Contradictions = append(d.Contradictions, "a signer told each of them something else: "+string(found))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(entries[0])) {
		x, y := entries[0][id], entries[1][id]
		switch {
		case y == nil || x.entry() == y.entry() && x.reason == y.reason:
		case x.reason != y.reason:
			d.Contradictions = append(d.Contradictions, fmt.Sprintf("%s is %s here and %s there", id, fate(x), fate(y)))
		default:
			d.Contradictions = append(d.Contradictions, fmt.Sprintf("%s has two signatures", id))
		}
	}
	if x, y := joinAliases(both[0].root.Get("source_aliases")), joinAliases(both[1].root.Get("source_aliases")); !bytes.Equal(x, y) {
		d.Contradictions = append(d.Contradictions, "the aliases or their dates differ, which no event explains: each is the word of who signed the bundle")
	}
}

func fate(e *event) string {
	return cmp.Or(string(e.reason), "valid")
}
