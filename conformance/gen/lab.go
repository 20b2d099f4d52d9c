package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

type (
	obj  = map[string]any
	list = []any
	raw  string // a literal that is already canonical, such as a float
)

// canon is the canonical form (section 1) of what the generator builds.
func canon(v any) []byte {
	switch v := v.(type) {
	case nil:
		return []byte("null")
	case bool:
		return strconv.AppendBool(nil, v)
	case int:
		return strconv.AppendInt(nil, int64(v), 10)
	case raw:
		return []byte(v)
	case string:
		return quote(v)
	case []string:
		var out list
		for _, s := range v {
			out = append(out, s)
		}
		return canon(out)
	case list:
		out := []byte{'['}
		for i, e := range v {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, canon(e)...)
		}
		return append(out, ']')
	case obj:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		out := []byte{'{'}
		for i, name := range names {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(append(append(out, quote(name)...), ':'), canon(v[name])...)
		}
		return append(out, '}')
	}
	panic(fmt.Sprintf("canon of a %T", v))
}

func quote(s string) []byte {
	out := []byte{'"'}
	for _, c := range []byte(s) {
		if i := strings.IndexByte("\"\\\b\f\n\r\t", c); i >= 0 {
			out = append(out, '\\', `"\bfnrt`[i])
		} else if c < 0x20 {
			out = fmt.Appendf(out, `\u%04x`, c)
		} else {
			out = append(out, c)
		}
	}
	return append(out, '"')
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func without(o obj, names ...string) obj {
	out := obj{}
	for k, v := range o {
		if !slices.Contains(names, k) {
			out[k] = v
		}
	}
	return out
}

func with(o obj, name string, value any) obj {
	out := without(o)
	out[name] = value
	return out
}

// A signer has a key and the names it goes by.
type signer struct {
	id, role, keyID string
	public          []byte
	sign            func(message []byte) []byte // any bytes: some signatures are meant to be bad
}

// person makes the key of a name; the same name gives the same key.
func person(id, role string) *signer {
	seed := sha256.Sum256([]byte("conformance kit: " + id))
	key := ed25519.NewKeyFromSeed(seed[:])
	return &signer{id, role, strings.SplitN(id, "@", 2)[0] + "-key", key.Public().(ed25519.PublicKey), func(m []byte) []byte { return ed25519.Sign(key, m) }}
}

var (
	registry = person("registry.example", "registry")
	ada      = person("ada@example.org", "individual")
	bob      = person("bob@example.org", "individual")
	eve      = person("eve@example.org", "individual") // in no trust file
)

func (s *signer) fingerprint() string { return sha(s.public)[:32] }

func (s *signer) names() obj {
	return obj{"signer_id": s.id, "signer_type": s.role, "key_id": s.keyID, "public_key_fingerprint": s.fingerprint()}
}

// entry is the key as it stands in public_keys (8.1).
func (s *signer) entry() obj {
	full := sha256.Sum256(s.public)
	return obj{
		"key_id": s.keyID, "algorithm": "ed25519", "format": "raw",
		"public_key_b64": base64.StdEncoding.EncodeToString(s.public), "public_key_hex": hex.EncodeToString(s.public),
		"fingerprint_sha256_hex":              s.fingerprint(),
		"fingerprint_sha256_b32_first128bits": base32.StdEncoding.EncodeToString(full[:])[:26],
		"rotates_at":                          nil, "url": nil, "notes": "a test key",
	}
}

const (
	forEvent    = "open_graph_event_sha256_bytes"
	forRecord   = "canonical_sha256_bytes"
	forBundle   = "bundle_sha256_bytes"
	forDocument = "key_document_sha256_bytes"
)

// signature is a signature object (3.3) over a digest in hex.
func (s *signer) signature(label, digest, at string) obj {
	message, err := hex.DecodeString(digest)
	if err != nil {
		panic(err)
	}
	return obj{
		"signature_status": "signed_v1", "algorithm": "ed25519", "key_id": s.keyID, "public_key_fingerprint": s.fingerprint(),
		"signature_b64": base64.StdEncoding.EncodeToString(s.sign(message)), "signed_message": label, "signed_at": at,
	}
}

// The paper that the cases are about. It does not exist.
const (
	title    = "On Readers that Agree"
	abstract = "We show that two readers agree when the format leaves them no choice."
)

func lowerDigest(s string) string { return sha([]byte(strings.ToLower(s))) }

func newRecord() obj {
	return obj{
		"schema_version": "1.0",
		"source":         obj{"kind": "arxiv", "id": "2603.01234", "version": 2},
		"metadata": obj{
			"submitted_at": "2026-03-02T10:20:30Z", "primary_cat": "cs.DL", "cross_cats_sorted": list{"cs.CR", "cs.LG"},
			"license":            "http://creativecommons.org/licenses/by/4.0/",
			"title_canon_sha256": lowerDigest(title), "abstract_canon_sha256": lowerDigest(abstract),
		},
	}
}

func suffixOf(record obj) string {
	sum := sha256.Sum256(canon(record))
	return base32.StdEncoding.EncodeToString(sum[:])[:26]
}

func numberOf(record obj) string {
	return "pith:" + record["metadata"].(obj)["submitted_at"].(string)[:4] + ":" + suffixOf(record)
}

// An event together with what the case says about its fate.
type event struct {
	obj
	reason     string // why it is invalid; "" if valid
	superseded bool
}

func (e *event) id() string { return e.obj["event_id"].(string) }

// A bundle is one under construction. The history is set by hand: events are
// applied in the order of applied, which is the order of adding unless a case
// says otherwise.
type bundle struct {
	record        obj
	suffix        string
	events        []*event
	applied       []*event // nil: the valid events as added
	equivocations list
	signers       []*signer // whose keys it holds
	keys          list      // entries besides theirs
	aliases       list      // as they stand in the bundle
	joined        list      // as they stand in the state, nil: the same
	proofs        list
	hints         list
	builtAt       string
	by            *signer
	trust         [][]byte
	before        []func(obj) // changes before the bundle is signed
	after         []func(obj) // and after
	text          [][2]string // changes of the text
}

// newBundle has a record_created event by the registry, and trusts everybody
// but eve.
func newBundle() *bundle { return bundleOf(newRecord()) }

func bundleOf(record obj) *bundle {
	b := &bundle{record: record, suffix: suffixOf(record), signers: []*signer{registry, ada, bob}, builtAt: "2026-06-01T00:00:00Z",
		by: registry, trust: [][]byte{trustAll()}}
	b.aliases = list{
		b.alias("arxiv", "2603.01234"), b.alias("arxiv_version", "2603.01234v2"), b.alias("doi", "10.48550/arxiv.2603.01234"),
		b.alias("pith_short_12", b.suffix[:12]), b.alias("pith_short_16", b.suffix[:16]), b.alias("pith_short_8", b.suffix[:8]),
	}
	b.add(registry, "record_created", b.opening(registry), at("2026-03-03T00:00:00Z"), target("record"))
	return b
}

func (b *bundle) alias(kind, value string) obj {
	return obj{"alias_kind": kind, "alias_value": value, "created_at": "2026-03-03T00:00:00Z"}
}

// opening is the payload of record_created (4.2).
func (b *bundle) opening(s *signer) obj {
	const at = "2026-03-03T00:00:00.5Z"
	digest := sha(canon(b.record))
	source := b.record["source"].(obj)
	receipt := s.signature(forRecord, digest, at)
	for k, v := range (obj{"kind": "pith_receipt", "receipt_version": "0.3", "builder_version": "test", "canonical_sha256": digest,
		"first_computed_at": at, "last_reissued_at": at}) {
		receipt[k] = v
	}
	return obj{"canonical_record": b.record, "canonical_sha256": digest, "receipt": receipt, "source_kind": source["kind"],
		"source_id": source["id"], "source_version": source["version"], "attestation_state": "computed"}
}

type option func(obj)

func set(name string, value any) option { return func(e obj) { e[name] = value } }
func at(when string) option             { return set("created_at", when) }
func target(name string) option         { return set("target", name) }
func after(e *event) option             { return set("prev_event", e.id()) }
func replacing(events ...*event) option {
	var ids list
	for _, e := range events {
		ids = append(ids, e.id())
	}
	return set("supersedes", ids)
}

// add signs an event and appends it.
func (b *bundle) add(s *signer, kind string, payload obj, options ...option) *event {
	e := b.draft(s, kind, payload, options...)
	b.events = append(b.events, e)
	return e
}

func (b *bundle) draft(s *signer, kind string, payload obj, options ...option) *event {
	content := obj{
		"event_type": kind, "subject_pith_number": numberOf(b.record), "target": "record", "payload": payload, "signer": s.names(),
		"created_at": "2026-04-01T00:00:00Z", "supersedes": list{}, "prev_event": nil, "schema_version": "1.0",
	}
	for _, o := range options {
		o(content)
	}
	return sealed(s, content)
}

// sealed gives content its digest, id and signature.
func sealed(s *signer, content obj) *event {
	digest := sha(canon(content))
	e := without(content)
	e["content_sha256"], e["event_id"], e["signature"] = digest, "sha256:"+digest, s.signature(forEvent, digest, "2026-05-01T00:00:00Z")
	return &event{obj: e}
}

// note adds an event of a type that no reader knows, so that its payload plays
// no part.
func (b *bundle) note(s *signer, text string, options ...option) *event {
	return b.add(s, "remark", obj{"text": text}, options...)
}

func (b *bundle) valid() []*event {
	if b.applied != nil {
		return b.applied
	}
	var out []*event
	for _, e := range b.events {
		if e.reason == "" {
			out = append(out, e)
		}
	}
	return out
}

func (b *bundle) invalid() []*event {
	var out []*event
	for _, e := range b.events {
		if e.reason != "" {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *event) int { return strings.Compare(sha(canon(a.obj)), sha(canon(b.obj))) })
	return out
}

func ids(events []*event) list {
	out := list{}
	for _, e := range events {
		out = append(out, e.obj["event_id"])
	}
	return out
}

// equivocate records by hand that these events are said twice.
func (b *bundle) equivocate(kind string, prev any, events ...*event) {
	var names []string
	for _, e := range events {
		names = append(names, e.id())
	}
	slices.Sort(names)
	b.equivocations = append(b.equivocations, obj{"kind": kind, "prev_event": prev, "event_ids": names,
		"public_key_fingerprint": events[0].obj["signer"].(obj)["public_key_fingerprint"]})
	slices.SortFunc(b.equivocations, func(a, b any) int { return strings.Compare(string(canon(a)), string(canon(b))) })
}

// state lays the history out as section 6 says.
func (b *bundle) state() obj {
	current := obj{"canonical_record": b.record, "record_created": nil, "source_aliases": b.aliases}
	if b.joined != nil {
		current["source_aliases"] = b.joined
	}
	lists := map[string]string{
		"author_attestation": "author_attestations", "timestamp_anchor": "timestamp_anchors", "storage_attestation": "storage_attestations",
		"citation_signature": "citation_signatures", "replication_record": "replication_records", "correction": "corrections",
		"mirror_hint": "mirror_hints", "graph_snapshot": "graph_snapshots",
	}
	for _, name := range lists {
		current[name] = list{}
	}
	for _, e := range b.valid() {
		if e.superseded {
			continue
		}
		entry := obj{}
		for _, name := range []string{"created_at", "event_id", "payload", "signer", "target"} {
			entry[name] = e.obj[name]
		}
		kind, _ := e.obj["event_type"].(string)
		switch name := lists[kind]; {
		case name != "":
			current[name] = append(current[name].(list), entry)
		case kind != "record_created":
		case current["record_created"] == nil:
			current["record_created"] = entry
		default:
			reissues, _ := current["record_reissues"].(list)
			current["record_reissues"] = append(reissues, entry)
		}
	}
	bad := list{}
	for _, e := range b.invalid() {
		id := e.obj["event_id"]
		if _, ok := id.(string); !ok {
			id = nil
		}
		bad = append(bad, obj{"entry_sha256": sha(canon(e.obj)), "event_id": id, "reason": e.reason})
	}
	equivocations := list{}
	equivocations = append(equivocations, b.equivocations...)
	state := obj{
		"state_type": "pith_open_graph_state", "state_version": "1.0", "pith_number": numberOf(b.record),
		"merge_version": "pith-open-graph-merge-v1", "event_count": len(b.valid()) + len(bad), "valid_event_count": len(b.valid()),
		"invalid_event_count": len(bad), "equivocation_count": len(equivocations), "current": current, "equivocations": equivocations,
		"invalid_events": bad, "applied_event_ids": ids(b.valid()),
	}
	state["state_sha256"] = sha(canon(state))
	return state
}

// object is the whole bundle, signed.
func (b *bundle) object() obj {
	events, keys := list{}, list{}
	for _, e := range b.events {
		events = append(events, e.obj)
	}
	for _, s := range b.signers {
		keys = append(keys, s.entry())
	}
	keys = append(keys, b.keys...)
	o := obj{
		"bundle_type": "pith_open_graph_bundle", "bundle_version": "1.0", "merge_version": "pith-open-graph-merge-v1",
		"pith_number": numberOf(b.record), "short_pith_number": "pith:" + b.suffix[:8], "canonical_record": b.record,
		"canonical_sha256": sha(canon(b.record)), "source": b.record["source"], "source_aliases": b.aliases, "events": events,
		"timestamp_proofs": append(list{}, b.proofs...), "mirror_hints": append(list{}, b.hints...), "public_keys": keys,
		"built_at": b.builtAt, "links": obj{"bundle": "https://pith.example/pith/" + b.suffix + "/bundle.json"}, "state": b.state(),
	}
	for _, f := range b.before {
		f(o)
	}
	digest := sha(canon(o))
	signature := b.by.signature(forBundle, digest, "2026-06-01T00:00:01.25Z")
	signature["bundle_sha256"] = digest
	o["bundle_signature"] = signature
	for _, f := range b.after {
		f(o)
	}
	return o
}

func (b *bundle) json() []byte {
	data := canon(b.object())
	for _, t := range b.text {
		data = edit(data, t[0], t[1])
	}
	return append(data, '\n')
}

// want is what the case says a reader finds.
func (b *bundle) want() obj {
	superseded := 0
	for _, e := range b.valid() {
		if e.superseded {
			superseded++
		}
	}
	var reasons []any
	for _, e := range b.invalid() {
		reasons = append(reasons, e.reason)
	}
	slices.SortFunc(reasons, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	return obj{
		"verdict": "valid", "failures": list{}, "pith_number": numberOf(b.record), "state_sha256": b.state()["state_sha256"],
		"applied": ids(b.valid()), "invalid": append(list{}, reasons...), "superseded": superseded, "equivocations": len(b.equivocations),
	}
}

// Trust files (8.4).

func trusts(signers ...obj) obj {
	all := list{}
	for _, s := range signers {
		all = append(all, s)
	}
	return obj{"trust_type": "pith_trust", "trust_version": "1.0", "signers": all}
}

func (s *signer) trusted() obj {
	return obj{"fingerprint": s.fingerprint(), "signer_id": s.id, "signer_type": s.role, "event_types": list{"*"}, "bundles": true,
		"valid_from": nil, "valid_until": nil}
}

func trustAll() []byte {
	return canon(trusts(registry.trusted(), ada.trusted(), bob.trusted()))
}
