package pith

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/ots"
)

// Verify recomputes everything that a bundle claims: number, digests, event
// ids, receipts, signatures, the state by replaying the events, and the
// signature over the whole. It then asks trust, by default [PinnedTrust], who
// may say what. The answers are in the result; Verify stops at no failure,
// never panics, and needs no network, clock or file.
//
// What is valid does not depend on trust. A bundle that a stranger extended and
// signed is Untrusted until the policy names the stranger.
func Verify(data []byte, trust *Trust) *Result {
	r, _ := verify(data, trust)
	return r
}

// verify is Verify that also returns the bundle, nil where there is none.
func verify(data []byte, trust *Trust) (r *Result, b *bundle) {
	if trust == nil {
		trust = PinnedTrust()
	}
	r = &Result{Signers: []SignerSeen{}}
	c := idle.Get().(*checks)
	defer func() {
		r.complete(b)
		r.Checks = c.list()
		c.release()
	}()

	doc, err := canon.Parse(data)
	if err != nil {
		c.unreadable(err)
		return r, nil
	}
	if b = c.bundle(doc.Root()); b == nil {
		return r, nil
	}
	r.describe(b)
	r.judge(c, b, trust)
	return r, b
}

func (c *checks) unreadable(err error) {
	var e *canon.Error
	if errors.As(err, &e) {
		c.fail(Code(e.Reason), c.root(), e.Detail+" (byte "+strconv.Itoa(e.Offset)+")")
	}
}

// Versions of the bundle and its parts that this package reads and writes.
const (
	bundleType    = "pith_open_graph_bundle"
	bundleVersion = "1.0"
)

// MaxEntries is the largest number of events, and of keys, aliases, mirror hints
// and timestamp proofs, in one bundle (spec §10). It bounds the work on a stranger's bundle to seconds.
const MaxEntries = 1 << 16

// What the timestamp proofs of one bundle may cost together (spec §10).
const (
	MaxProofNodes = 1 << 18 // operations and attestations
	MaxProofHeld  = 1 << 24 // bytes of results
)

var (
	proofBudget    = ots.Budget{Nodes: MaxProofNodes, Held: MaxProofHeld}
	proofLimitText = fmt.Sprintf("more than %d operations or %d bytes of results in all timestamp proofs", MaxProofNodes, MaxProofHeld)
)

// proofsSpent reports whether the proofs read so far are too much together.
func (c *checks) proofsSpent() bool { return c.proofs.Nodes < 0 || c.proofs.Held < 0 }

var envelopeFields = []field{
	constant("bundle_type", bundleType),
	constant("bundle_version", bundleVersion),
	constant("merge_version", MergeVersion),
}

var bundleFields = append([]field{
	text("pith_number"),
	text("short_pith_number"),
	object("canonical_record"),
	text("canonical_sha256"),
	object("source"),
	array("source_aliases"),
	array("events"),
	array("timestamp_proofs"),
	array("mirror_hints"),
	array("public_keys"),
	second("built_at"),
	object("links"),
	object("state"),
	object("bundle_signature"),
}, envelopeFields...)

// A bundle is a parsed bundle together with what was recomputed from it.
type bundle struct {
	root    canon.Value
	record  *record
	keys    keyring
	events  []*event
	history *history
	proofs  []*ots.Proof // the good ones of timestamp_proofs

	stateSHA256 string // of the state that the events give

	signer string // fingerprint of the key whose signature over the bundle is good, or ""
}

// bundle asks everything about a bundle but trust. It is nil when there is too
// little to go on.
func (c *checks) bundle(root canon.Value) *bundle {
	// The rules below are those of these versions; others may have other rules.
	if !c.shape(CodeBundleType, c.root(), root, envelopeFields) {
		return nil
	}
	for _, name := range []string{"events", "public_keys", "source_aliases", "mirror_hints", "timestamp_proofs"} {
		if n := root.Get(name).Len(); n > MaxEntries {
			c.fail(CodeListLength, c.at(name), strconv.Itoa(n)+" entries, the limit is "+strconv.Itoa(MaxEntries))
			return nil
		}
	}
	start := len(c.answers)
	c.shape(CodeBundleShape, c.root(), root, bundleFields)
	if name, found := unknown(root, bundleFields); found {
		c.fail(CodeMember, c.at(name), "not a member of bundles of version 1.0")
	}
	c.proofs = proofBudget
	b := &bundle{root: root, record: c.record(c.at("canonical_record"), root.Get("canonical_record"))}
	b.keys = c.keyring(c.at("public_keys"), root.Get("public_keys"))
	if b.record != nil {
		c.identity(root, b.record)
		b.proofs = c.timestampProofs(root.Get("timestamp_proofs"), b.record)
		b.events = c.readEvents(c.at("events"), root.Get("events"), b.record, b.keys)
	}
	if c.proofsSpent() {
		// Whatever was asked meanwhile is forgotten: what a reader learns must not
		// depend on the order in which it reads.
		c.answers, c.claims, c.claimed = c.answers[:start], c.claims[:0], c.claimed[:0]
		c.fail(CodeProofLimit, c.root(), proofLimitText)
		return nil
	}
	from := len(c.answers)
	c.bundleSignature(root, b.keys)
	to := len(c.answers)
	c.settle()
	if firstFailure(c.answers[from:to]) == nil {
		b.signer = root.Get("bundle_signature").Get("public_key_fingerprint").Text()
	}
	if b.record != nil {
		c.reasons(b.events)
		c.meet(b)
		c.state(b)
	}
	return b
}

// identity asks whether everything that follows from the record does follow.
func (c *checks) identity(root canon.Value, rec *record) {
	c.equal(CodeRecordDigest, c.at("canonical_sha256"), rec.sha256, root.Get("canonical_sha256").Text())
	c.equal(CodeNumber, c.at("pith_number"), rec.number, root.Get("pith_number").Text())
	c.equals(CodeShortNumber, c.at("short_pith_number"), root.Get("short_pith_number").Text(), "pith:", rec.suffix[:8])
	c.same(CodeSource, c.at("source"), rec.source, root.Get("source"))
	c.aliases(c.at("source_aliases"), root.Get("source_aliases"), rec)
	c.locators(c.at("links"), root.Get("links"), rec)
	i := 0
	for hint := range root.Get("mirror_hints").Children() {
		c.locators(c.at("mirror_hints").item(i), hint, rec)
		i++
	}
}

var aliasFields = []field{word("alias_kind"), word("alias_value"), second("created_at")}

// aliases change without an event, so nobody but the bundle's signer vouches
// for them. Only what follows from the record is let in.
func (c *checks) aliases(path place, list canon.Value, rec *record) {
	i := 0
	for v := range list.Children() {
		path := path.item(i)
		i++
		if !c.closed(CodeAlias, path, v, aliasFields) {
			continue
		}
		kind := v.Get("alias_kind").Text()
		want, ok := rec.alias(kind)
		if !ok {
			c.fail(CodeAlias, path.at("alias_kind"), "aliases of kind "+strconv.Quote(short(kind))+" do not follow from this record")
			continue
		}
		c.equals(CodeAlias, path.at("alias_value"), v.Get("alias_value").Text(), want[:]...)
	}
}

// locators asks whether the addresses of a links or mirror hint object name
// this record. base_url is an address of the whole mirror.
func (c *checks) locators(path place, v canon.Value, rec *record) {
	from := len(c.answers)
	for m := range v.Children() {
		url := m.Text()
		if m.Name() == "base_url" || !strings.Contains(url, "://") {
			continue
		}
		if len(c.answers)-from > manyAnswers { // which of a million addresses are odd, nobody asks
			return
		}
		if strings.HasPrefix(url, "https://") && strings.Contains(url, rec.suffix) {
			c.pass(CodeLocator, path.at(m.Name()))
		} else {
			c.fail(CodeLocator, path.at(m.Name()), "not an https address of "+rec.suffix)
		}
	}
}

// meet asks what can be asked of the events together, and replays them.
func (c *checks) meet(b *bundle) {
	declared := declaredInvalid(b.root.Get("state"))
	seen := map[string]bool{} // ids of valid events, digests of all that was received of the others
	for _, e := range b.events {
		name, path := e.id, e.path
		if e.reason == "" {
			path = path.at("event_id")
		} else {
			name = e.entry()
		}
		c.is(CodeEventDuplicate, path, !seen[name], "the event appears before")
		seen[name] = true
	}
	alone := make([]Code, len(b.events)) // reasons before the events meet
	for i, e := range b.events {
		alone[i] = e.reason
	}
	b.history = replay(b.events)
	for i, e := range b.events {
		from := len(c.answers)
		if alone[i] == "" && len(e.links()) > 0 {
			c.links(e)
		}
		// The state may hold invalid events as long as it says so: then the
		// bundle tells the truth, and the failures below are no reason to
		// reject it.
		if e.reason != "" && declared[string(e.invalidEntry())] {
			forgive(c.answers[e.from:e.to])
			forgive(c.answers[from:])
		}
	}
	for _, e := range b.history.gaps {
		c.fail(CodePrevMissing, e.path.at("prev_event"), e.prev+" is not in this bundle")
	}
	opened := false
	for _, e := range b.history.applied {
		opened = opened || e.kind == TypeRecordCreated && !e.superseded
	}
	c.is(CodeRecordCreated, c.at("events"), opened, "no valid record_created event")
}

// links reports what replay found out about supersedes and prev_event.
func (c *checks) links(e *event) {
	switch e.reason {
	case CodeSupersedesTarget, CodeSupersedesSigner:
		c.fail(e.reason, e.path.at("supersedes"), "an event that may not be superseded by this one")
	case CodePrevSigner, CodeLinkCycle:
		c.fail(e.reason, e.path.at("prev_event"), short(e.prev))
	default:
		c.pass(CodeSupersedesTarget, e.path.at("supersedes"))
		c.pass(CodeSupersedesSigner, e.path.at("supersedes"))
		c.pass(CodePrevSigner, e.path.at("prev_event"))
	}
}

// declaredInvalid returns the entries of state.invalid_events in canonical form.
func declaredInvalid(state canon.Value) map[string]bool {
	var entries map[string]bool
	for v := range state.Get("invalid_events").Children() {
		if entries == nil {
			entries = map[string]bool{}
		}
		entries[string(v.Canonical())] = true
	}
	return entries
}

func forgive(answers []answer) {
	for i := range answers {
		if a := &answers[i]; !a.ok {
			a.ifFailed = Valid
			a.detail = strings.TrimSpace(a.detail + " (the state lists the event as invalid)")
		}
	}
}

// state asks whether the state is the one that the events give, member by
// member, so that a failure tells where they part.
func (c *checks) state(b *bundle) {
	want, digest := b.history.state(b.record, joinAliases(b.root.Get("source_aliases")))
	got, path := b.root.Get("state"), c.at("state")
	if bytes.Equal(want, got.Canonical()) { // and so is the digest in it
		b.stateSHA256 = got.Get("state_sha256").Text()
		c.pass(CodeStateDigest, path.at("state_sha256"))
		c.pass(CodeState, path)
		return
	}
	b.stateSHA256 = hex.EncodeToString(digest[:])
	if got.Kind() != canon.Object {
		return // bundle_shape has said so
	}
	from := len(c.answers)
	c.digest(CodeStateDigest, path.at("state_sha256"), "", got.DigestWithout("state_sha256"), got.Get("state_sha256").Text())
	doc, err := canon.Parse(want)
	if err != nil { // the bundle is so large that its state alone breaks a limit
		c.fail(CodeState, path, "the state that the events give breaks a limit: "+err.Error())
		return
	}
	c.difference(path, doc.Root(), got)
	if firstFailure(c.answers[from:]) == nil { // cannot happen, and must not let a wrong state pass
		c.fail(CodeState, path, "not the state that the events give")
	}
}

// difference reports where two objects differ, one level into state.current.
func (c *checks) difference(path place, want, got canon.Value) {
	for w := range want.Children() {
		g := got.Get(w.Name())
		at := path.at(w.Name())
		switch {
		case string(w.Canonical()) == string(g.Canonical()):
		case w.Name() == "state_sha256": // differs because the rest does
		case w.Name() == "current" && g.Kind() == canon.Object:
			c.difference(at, w, g)
		case !g.Exists():
			c.equal(CodeState, at, string(w.Canonical()), "nothing")
		default:
			c.equal(CodeState, at, string(w.Canonical()), string(g.Canonical()))
		}
	}
	from := len(c.answers)
	for g := range got.Children() {
		if len(c.answers)-from > manyAnswers { // a few of them are enough to be wrong
			return
		}
		if !want.Get(g.Name()).Exists() {
			c.equal(CodeState, path.at(g.Name()), "nothing", string(g.Canonical()))
		}
	}
}

// bundleSignature asks whether the signature over the whole bundle is good. No
// digest covers this object itself, so it may hold nothing unknown, and its
// signed_at is a claim that nobody signed.
func (c *checks) bundleSignature(root canon.Value, keys keyring) {
	path := c.at("bundle_signature")
	v := root.Get("bundle_signature")
	digest := root.DigestWithout("bundle_signature")
	c.digest(CodeBundleDigest, path.at("bundle_sha256"), "", digest, v.Get("bundle_sha256").Text())
	if !c.closed(CodeSignatureShape, path, v, bundleSignatureFields) {
		return
	}
	if key, known := keys[v.Get("public_key_fingerprint").Text()]; known {
		// For events the signer's words fix the label; here only the list of keys does.
		c.equal(CodeSignatureKey, path.at("key_id"), key.Signer.KeyID, v.Get("key_id").Text())
	}
	c.signature(path, v, digest, keys)
}
