package pith

import (
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"github.com/openpith/evidence/pith/internal/canon"
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
	if trust == nil {
		trust = PinnedTrust()
	}
	r := &Result{Signers: []SignerSeen{}}
	var c checks
	defer func() { r.Checks = c }()

	doc, err := canon.Parse(data)
	if err != nil {
		c.unreadable(err)
		return r
	}
	b := c.bundle(doc.Root())
	if b == nil {
		return r
	}
	r.describe(b)
	r.judge(&c, b, trust)
	return r
}

func (c *checks) unreadable(err error) {
	var e *canon.Error
	if errors.As(err, &e) {
		c.is(Code(e.Reason), "", false, e.Detail+" (byte "+strconv.Itoa(e.Offset)+")")
	}
}

// Versions of the bundle and its parts that this package reads and writes.
const (
	bundleType    = "pith_open_graph_bundle"
	bundleVersion = "1.0"
)

// MaxEntries is the largest number of events, keys, aliases or mirror hints in
// one bundle (spec §10). It bounds the work on a stranger's bundle to seconds.
const MaxEntries = 1 << 16

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

	stateSHA256 string // of the state that the events give

	signer *PublicKey // whose signature over the bundle is good, or nil
}

// bundle asks everything about a bundle but trust. It is nil when there is too
// little to go on.
func (c *checks) bundle(root canon.Value) *bundle {
	// The rules below are those of these versions; others may have other rules.
	if !c.shape(CodeBundleType, "", root, envelopeFields) {
		return nil
	}
	for _, name := range []string{"events", "public_keys", "source_aliases", "mirror_hints"} {
		if n := root.Get(name).Len(); n > MaxEntries {
			c.is(CodeListLength, pointer("", name), false, strconv.Itoa(n)+" entries, the limit is "+strconv.Itoa(MaxEntries))
			return nil
		}
	}
	c.shape(CodeBundleShape, "", root, bundleFields)
	if name, found := unknown(root, bundleFields); found {
		c.is(CodeMember, pointer("", name), false, "not a member of bundles of version 1.0")
	}
	b := &bundle{root: root, record: c.record("/canonical_record", root.Get("canonical_record"))}
	b.keys = c.keyring("/public_keys", root.Get("public_keys"))
	if b.record != nil {
		c.identity(root, b.record)
		c.events(b)
		c.state(b)
	}
	b.signer = c.bundleSignature(root, b.keys)
	return b
}

// identity asks whether everything that follows from the record does follow.
func (c *checks) identity(root canon.Value, rec *record) {
	c.equal(CodeRecordDigest, "/canonical_sha256", rec.sha256, root.Get("canonical_sha256").Text())
	c.equal(CodeNumber, "/pith_number", rec.number, root.Get("pith_number").Text())
	c.equal(CodeShortNumber, "/short_pith_number", "pith:"+rec.suffix[:8], root.Get("short_pith_number").Text())
	c.equal(CodeSource, "/source", string(rec.Get("source").Canonical()), string(root.Get("source").Canonical()))
	c.aliases("/source_aliases", root.Get("source_aliases"), rec)
	c.locators("/links", root.Get("links"), rec)
	i := 0
	for hint := range root.Get("mirror_hints").Children() {
		c.locators("/mirror_hints/"+strconv.Itoa(i), hint, rec)
		i++
	}
	if n := root.Get("timestamp_proofs").Len(); n > 0 {
		c.is(CodeProofs, "/timestamp_proofs", false, strconv.Itoa(n)+" timestamp proofs were not checked")
	}
}

var aliasFields = []field{word("alias_kind"), word("alias_value"), second("created_at")}

// aliases change without an event, so nobody but the bundle's signer vouches
// for them. Only what follows from the record is let in.
func (c *checks) aliases(path string, list canon.Value, rec *record) {
	i := 0
	for v := range list.Children() {
		path := path + "/" + strconv.Itoa(i)
		i++
		if !c.closed(CodeAlias, path, v, aliasFields) {
			continue
		}
		kind := v.Get("alias_kind").Text()
		want, ok := rec.alias(kind)
		if !ok {
			c.is(CodeAlias, path+"/alias_kind", false, "aliases of kind "+strconv.Quote(short(kind))+" do not follow from this record")
			continue
		}
		c.equal(CodeAlias, path+"/alias_value", want, v.Get("alias_value").Text())
	}
}

// locators asks whether the addresses of a links or mirror hint object name
// this record. base_url is an address of the whole mirror.
func (c *checks) locators(path string, v canon.Value, rec *record) {
	for m := range v.Children() {
		url := m.Text()
		if m.Name() == "base_url" || !strings.Contains(url, "://") {
			continue
		}
		c.is(CodeLocator, pointer(path, m.Name()), strings.HasPrefix(url, "https://") && strings.Contains(url, rec.suffix),
			"not an https address of "+rec.suffix)
	}
}

// events reads and replays the events.
func (c *checks) events(b *bundle) {
	declared := declaredInvalid(b.root.Get("state"))
	seen := map[string]bool{}
	type span struct{ from, to int }
	var spans []span
	i := 0
	for v := range b.root.Get("events").Children() {
		path := "/events/" + strconv.Itoa(i)
		i++
		from := len(*c)
		e := c.event(path, v, b.record, b.keys)
		spans = append(spans, span{from, len(*c)})
		b.events = append(b.events, e)
		if e.id != "" && e.reason == "" {
			c.is(CodeEventDuplicate, path+"/event_id", !seen[e.id], "the event appears before")
			seen[e.id] = true
		}
	}
	alone := make([]Code, len(b.events)) // reasons before the events meet
	for i, e := range b.events {
		alone[i] = e.reason
	}
	b.history = replay(b.events)
	for i, e := range b.events {
		from := len(*c)
		if alone[i] == "" && len(e.links()) > 0 {
			c.links(e)
		}
		// The state may hold invalid events as long as it says so: then the
		// bundle tells the truth, and the failures below are no reason to
		// reject it.
		if e.reason != "" && declared[string(e.invalidEntry())] {
			forgive((*c)[spans[i].from:spans[i].to])
			forgive((*c)[from:])
		}
	}
	for _, e := range b.history.gaps {
		c.is(CodePrevMissing, e.path+"/prev_event", false, e.prev+" is not in this bundle")
	}
	opened := false
	for _, e := range b.history.applied {
		opened = opened || e.kind == TypeRecordCreated && !b.history.superseded[e.id]
	}
	c.is(CodeRecordCreated, "/events", opened, "no valid record_created event")
}

// links reports what replay found out about supersedes and prev_event.
func (c *checks) links(e *event) {
	switch e.reason {
	case CodeSupersedesTarget, CodeSupersedesSigner:
		c.is(e.reason, e.path+"/supersedes", false, "an event that may not be superseded by this one")
	case CodePrevSigner, CodeLinkCycle:
		c.is(e.reason, e.path+"/prev_event", false, short(e.prev))
	default:
		c.is(CodeSupersedesTarget, e.path+"/supersedes", true, "")
		c.is(CodeSupersedesSigner, e.path+"/supersedes", true, "")
		c.is(CodePrevSigner, e.path+"/prev_event", true, "")
	}
}

// declaredInvalid returns the entries of state.invalid_events in canonical form.
func declaredInvalid(state canon.Value) map[string]bool {
	entries := map[string]bool{}
	for v := range state.Get("invalid_events").Children() {
		entries[string(v.Canonical())] = true
	}
	return entries
}

func forgive(list checks) {
	for i := range list {
		if !list[i].OK {
			list[i].IfFailed = Valid
			list[i].Detail = strings.TrimSpace(list[i].Detail + " (the state lists the event as invalid)")
		}
	}
}

// state asks whether the state is the one that the events give, member by
// member, so that a failure tells where they part.
func (c *checks) state(b *bundle) {
	want, sha256hex := b.history.state(b.record, joinAliases(b.root.Get("source_aliases")))
	b.stateSHA256 = sha256hex
	got := b.root.Get("state")
	if got.Kind() != canon.Object {
		return // bundle_shape has said so
	}
	digest := got.DigestWithout("state_sha256")
	c.equal(CodeStateDigest, "/state/state_sha256", hex.EncodeToString(digest[:]), got.Get("state_sha256").Text())

	if string(want) == string(got.Canonical()) {
		c.is(CodeState, "/state", true, "")
		return
	}
	doc, err := canon.Parse(want)
	if err != nil { // the bundle is so large that its state alone breaks a limit
		c.is(CodeState, "/state", false, "the state that the events give breaks a limit: "+err.Error())
		return
	}
	c.difference("/state", doc.Root(), got)
}

// difference reports where two objects differ, one level into state.current.
func (c *checks) difference(path string, want, got canon.Value) {
	for w := range want.Children() {
		g := got.Get(w.Name())
		at := pointer(path, w.Name())
		switch {
		case string(w.Canonical()) == string(g.Canonical()):
		case at == "/state/state_sha256": // differs because the rest does
		case at == "/state/current" && g.Kind() == canon.Object:
			c.difference(at, w, g)
		case !g.Exists():
			c.equal(CodeState, at, string(w.Canonical()), "nothing")
		default:
			c.equal(CodeState, at, string(w.Canonical()), string(g.Canonical()))
		}
	}
	for g := range got.Children() {
		if !want.Get(g.Name()).Exists() {
			c.equal(CodeState, pointer(path, g.Name()), "nothing", string(g.Canonical()))
		}
	}
}

// bundleSignature asks whether the signature over the whole bundle is good. No
// digest covers this object itself, so it may hold nothing unknown, and its
// signed_at is a claim that nobody signed.
func (c *checks) bundleSignature(root canon.Value, keys keyring) *PublicKey {
	const path = "/bundle_signature"
	v := root.Get("bundle_signature")
	digest := root.DigestWithout("bundle_signature")
	good := c.equal(CodeBundleDigest, path+"/bundle_sha256", hex.EncodeToString(digest[:]), v.Get("bundle_sha256").Text())
	if !c.closed(CodeSignatureShape, path, v, bundleSignatureFields) {
		return nil
	}
	key, ok := c.signature(path, v, digest, keys)
	if !ok || !good {
		return nil
	}
	return &key
}
