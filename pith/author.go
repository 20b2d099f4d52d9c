package pith

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
)

// A Draft is an event that is not signed yet.
type Draft struct {
	Type       string          // event type, like "replication_record"
	Target     string          // what the event is about within the record, like "record"
	Payload    json.RawMessage // an object
	CreatedAt  time.Time       // to the second
	Supersedes []string        // ids of the signer's own events that this one replaces
	PrevEvent  string          // "" means: the signer's newest event on this record, if any
}

// A RefusedError reports that Append would have to sign, or to build on,
// something that Verify rejects.
type RefusedError struct {
	What  string // "the bundle", "the new event" or "event 2 of 3"
	Check Check  // the first failure

	authored bool // What is what the caller wants to say
}

// Authored reports whether it is what the caller wants to say that is refused, not
// a bundle that was received.
func (e *RefusedError) Authored() bool { return e.authored }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s is not valid: %v", e.What, &CheckError{e.Check})
}

// Hint says what to do: for a received bundle what Explain says, for a new event
// what its author can change.
func (e *RefusedError) Hint() string {
	if e.authored {
		if hint, ok := authorHints[e.Check.Code]; ok {
			return hint
		}
		return "nothing was signed; spec/04-events.md says what an event may hold"
	}
	if e.Check.lacksSignature() {
		return hintUnsigned
	}
	return codes[e.Check.Code].hint
}

// hintUnsigned is for bundles that lack their signature.
const hintUnsigned = "nobody signed it as a whole, as when it comes from pith merge; pith sign does that"

const hintNoRoom = "the bundle would be larger than readers take; nothing was signed, and the limits stand in spec/10-limits.md"

// authorHints are for people whose own event is refused. What Explain says is for
// those who received one.
var authorHints = map[Code]string{
	CodeEventShape:       "type, target and ids are strings of 1 to 256 bytes, the payload is an object",
	CodePayloadShape:     "mend the payload; spec/04-events.md has the members of each event type",
	CodePayloadSchema:    "a payload names its schema, as in \"schema\": \"correction/1\"; pith event new writes it by itself",
	CodePayloadRecord:    "the payload, or the proof in it, is about another record than the bundle, or cites the record itself",
	CodeTimestampProof:   "the proof is not one of this record; pith ots show tells what it is of",
	CodeReceiptDigest:    "the receipt is for another record",
	CodeGraphTitle:       "write the title as at the source: its digest stands in the record",
	CodeSupersedesTarget: "only a valid event of this bundle can be superseded; pith log lists their ids",
	CodeSupersedesSigner: "you can supersede your own events alone; correct another's statement with an event of type correction",
	CodePrevSigner:       "leave prev_event out: it is your newest event by itself",
	CodeProofLimit:       "the bundle has no room for more timestamp proofs",
	CodeListLength:       hintNoRoom,

	Code(canon.ReasonSize):   hintNoRoom,
	Code(canon.ReasonValues): hintNoRoom,
}

// ErrNoDraft reports a call of Append without drafts.
var ErrNoDraft = errors.New("no event to append")

// Append signs the drafts as events of the bundle's record, in order, and
// returns a bundle that holds them behind the events that were there, with the
// signer's public key, the state that all of them give, and the signer's
// signature over the whole. What was there keeps its canonical bytes. builtAt
// is when; the same call gives the same bytes.
//
// Append refuses what Verify would: it neither builds on a rejected bundle nor
// signs an invalid event. Trust does not matter here. Errors are *RefusedError
// for a check that failed.
func Append(bundle []byte, key *PrivateKey, builtAt time.Time, drafts ...Draft) (newBundle []byte, eventIDs []string, err error) {
	if len(drafts) == 0 {
		return nil, nil, ErrNoDraft
	}
	var c checks
	doc, err := canon.Parse(bundle)
	if err != nil {
		return nil, nil, err
	}
	b := c.bundle(doc.Root())
	if failure := c.firstFailure(); failure != nil {
		return nil, nil, &RefusedError{What: "the bundle", Check: *failure}
	}

	public := key.Public()
	b.keys[public.Fingerprint()] = public
	prev := b.history.last(public.Fingerprint())
	var events [][]byte
	for i, d := range drafts {
		if d.PrevEvent == "" {
			d.PrevEvent = prev
		}
		event, id, err := key.signEvent(d, b.record.number, builtAt)
		if err == nil {
			err = checkNew(nameOf(i, len(drafts)), event, b)
		}
		if err != nil {
			return nil, nil, err
		}
		events, eventIDs, prev = append(events, event), append(eventIDs, id), id
	}

	newBundle, err = b.extend(key, builtAt, events)
	if limit := (*CheckError)(nil); errors.As(err, &limit) {
		return nil, nil, &RefusedError{"the extended bundle", limit.Check, true}
	}
	if limit := (*canon.Error)(nil); errors.As(err, &limit) {
		check := Check{Code: Code(limit.Reason), IfFailed: Unreadable, Detail: limit.Detail}
		return nil, nil, &RefusedError{"the extended bundle", check, true}
	}
	if err != nil {
		return nil, nil, err
	}
	// The judge has the last word: what it would not accept is not handed out.
	result := Verify(newBundle, nil)
	if result.Verdict() > Untrusted {
		return nil, nil, &RefusedError{"the extended bundle", result.Failures()[0], true}
	}
	for _, s := range result.History[result.Events.Valid:] {
		for i, id := range eventIDs {
			if s.EventID == id {
				check := Check{Code: s.Invalid, Path: "/events", Detail: codes[s.Invalid].asks}
				return nil, nil, &RefusedError{nameOf(i, len(drafts)), check, true}
			}
		}
	}
	return newBundle, eventIDs, nil
}

// nameOf is what the i-th of n drafts is called.
func nameOf(i, n int) string {
	if n == 1 {
		return "the new event"
	}
	return fmt.Sprintf("event %d of %d", i+1, n)
}

// checkNew asks about a new event what can be asked of it alone.
func checkNew(what string, raw []byte, b *bundle) error {
	doc, err := canon.Parse(raw)
	if err != nil {
		return err
	}
	c := checks{proofs: proofBudget}
	c.event(&event{value: doc.Root(), path: c.root()}, b.record, b.keys)
	c.settle()
	if failure := c.firstFailure(); failure != nil {
		return &RefusedError{what, *failure, true}
	}
	for _, a := range c.answers {
		if !a.ok && a.code == CodePayloadSchema { // nobody adds what no reader checks (spec §4.14)
			return &RefusedError{what, a.spell(place{&c, a.at}.String()), true}
		}
	}
	return nil
}

// signEvent returns the draft as a signed event in canonical form, and its id.
func (k *PrivateKey) signEvent(d Draft, number string, at time.Time) (event []byte, id string, err error) {
	payload, err := canon.Canonical(d.Payload)
	if err != nil {
		return nil, "", fmt.Errorf("payload: %w", err)
	}
	prev := []byte("null")
	if d.PrevEvent != "" {
		prev = canon.Quote(d.PrevEvent)
	}
	var supersedes [][]byte
	for _, s := range d.Supersedes {
		supersedes = append(supersedes, canon.Quote(s))
	}
	content := []canon.Member{
		{Name: "event_type", Value: canon.Quote(d.Type)},
		{Name: "subject_pith_number", Value: canon.Quote(number)},
		{Name: "target", Value: canon.Quote(d.Target)},
		{Name: "payload", Value: payload},
		{Name: "signer", Value: canon.Build(
			canon.Member{Name: "signer_id", Value: canon.Quote(k.signer.ID)},
			canon.Member{Name: "signer_type", Value: canon.Quote(k.signer.Type)},
			canon.Member{Name: "key_id", Value: canon.Quote(k.signer.KeyID)},
			canon.Member{Name: "public_key_fingerprint", Value: canon.Quote(k.Public().Fingerprint())},
		)},
		{Name: "created_at", Value: canon.Quote(d.CreatedAt.UTC().Format(secondsFormat))},
		{Name: "supersedes", Value: canon.BuildArray(supersedes...)},
		{Name: "prev_event", Value: prev},
		{Name: "schema_version", Value: canon.Quote("1.0")},
	}
	digest := sha256.Sum256(canon.Build(content...))
	sum := hex.EncodeToString(digest[:])
	id = "sha256:" + sum
	return canon.Build(append(content,
		canon.Member{Name: "content_sha256", Value: canon.Quote(sum)},
		canon.Member{Name: "event_id", Value: canon.Quote(id)},
		canon.Member{Name: "signature", Value: k.sign(signsEvent, digest, at)},
	)...), id, nil
}

// extend returns the bundle with more events, signed by key.
func (b *bundle) extend(key *PrivateKey, builtAt time.Time, more [][]byte) ([]byte, error) {
	events, keys := [][]byte{}, [][]byte{}
	for v := range b.root.Get("events").Children() {
		events = append(events, v.Canonical())
	}
	known := false
	for v := range b.root.Get("public_keys").Children() {
		entry := v.Canonical()
		if v.Get("fingerprint_sha256_hex").Is(key.Public().Fingerprint()) {
			known = true
			if !v.Get("key_id").Is(key.signer.KeyID) { // the owner knows the label
				entry = key.Public().entry()
			}
		}
		keys = append(keys, entry)
	}
	if !known {
		keys = append(keys, key.Public().entry())
	}
	return key.assemble(b, builtAt, append(events, more...), keys)
}

// assemble makes a bundle of these events and keys, with the state that they
// give and the signature over the whole. Everything else is b's.
func (k *PrivateKey) assemble(b *bundle, builtAt time.Time, events, keys [][]byte) ([]byte, error) {
	eventList, keyList := canon.BuildArray(events...), canon.BuildArray(keys...)
	state, err := stateOf(b, eventList, keyList)
	if err != nil {
		return nil, err
	}
	replaced := map[string][]byte{
		"events":      eventList,
		"public_keys": keyList,
		"built_at":    canon.Quote(builtAt.UTC().Format(secondsFormat)),
		"state":       state,
	}
	var members []canon.Member
	for v := range b.root.Children() {
		m := canon.Member{Name: v.Name(), Value: v.Canonical()}
		if value, ok := replaced[m.Name]; ok {
			m.Value = value
		}
		if m.Name != "bundle_signature" {
			members = append(members, m)
		}
	}
	digest := sha256.Sum256(canon.Build(members...))
	signature := k.sign(signsBundle, digest, builtAt,
		canon.Member{Name: "bundle_sha256", Value: canon.Quote(hex.EncodeToString(digest[:]))})
	return canon.Build(append(members, canon.Member{Name: "bundle_signature", Value: signature})...), nil
}

// stateOf replays a list of events under a list of keys.
func stateOf(b *bundle, eventList, keyList []byte) ([]byte, error) {
	h, err := historyOf(b.record, eventList, keyList)
	if err != nil {
		return nil, err
	}
	state, _ := h.state(b.record, joinAliases(b.root.Get("source_aliases")))
	return state, nil
}

func historyOf(rec *record, eventList, keyList []byte) (*history, error) {
	events, err := canon.Parse(eventList)
	if err != nil {
		return nil, err
	}
	keys, err := canon.Parse(keyList)
	if err != nil {
		return nil, err
	}
	c := checks{proofs: proofBudget}
	ring := c.keyring(c.root(), keys.Root())
	all := c.readEvents(c.root(), events.Root(), rec, ring)
	if c.proofsSpent() {
		return nil, &CheckError{Check{Code: CodeProofLimit, IfFailed: Unreadable, Detail: proofLimitText}}
	}
	c.settle()
	c.reasons(all)
	return replay(all), nil
}
