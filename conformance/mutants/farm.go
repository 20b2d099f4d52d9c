package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/ots"
	"github.com/openpith/evidence/pith/seed"
)

// A farm makes mutants of good bundles: the real one, and one that has everything
// a bundle can have, under the pinned policy and under one with key documents.
type farm struct {
	starts       []start
	covered      map[string]bool // what the signatures of the bundles cover, see essence
	old, current signer          // two keys of one person: a rotation leads from the first to the second
	gone         signer          // a key that was revoked
}

// A start is what mutants are made of.
type start struct {
	bundle []byte
	trust  []byte // a trust file beside the pinned policy, nil for none
}

// A signer signs what mutations have changed.
type signer struct {
	private ed25519.PrivateKey
	key     *pith.PrivateKey
}

func newSigner(name, keyID string) (signer, error) {
	seed := sha256.Sum256([]byte(keyID))
	key, err := pith.NewKey(seed[:], pith.Signer{ID: name, Type: "individual", KeyID: keyID})
	return signer{ed25519.NewKeyFromSeed(seed[:]), key}, err
}

func newFarm() (*farm, error) {
	f := &farm{covered: map[string]bool{}}
	var errs [3]error
	f.old, errs[0] = newSigner("mutant@example.org", "mutant-1")
	f.current, errs[1] = newSigner("mutant@example.org", "mutant-2")
	f.gone, errs[2] = newSigner("gone@example.org", "gone-1")
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	full, err := f.full()
	if err != nil {
		return nil, err
	}
	trust, err := f.policy()
	if err != nil {
		return nil, err
	}
	f.starts = []start{{bundle: seed.Bundle()}, {bundle: full}, {full, trust}}
	for _, s := range f.starts {
		f.covered[essence(s.bundle)] = true
		if a := ask(s); !accepted(a) {
			return nil, fmt.Errorf("a bundle to start from is %v", a)
		}
	}
	return f, nil
}

// now is when the signers sign.
var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// full extends the real bundle by an event of each type, one of a type that nobody
// knows, one that supersedes, an equivocation, an invalid event and a timestamp of
// the bundle.
func (f *farm) full() ([]byte, error) {
	root := decode(seed.Bundle()).(object)
	digestHex := root["canonical_sha256"].(string)
	source := root["canonical_record"].(object)["source"].(object)
	receipt := f.old.signature("canonical_sha256_bytes", digestHex)
	for name, value := range (object{"kind": "pith_receipt", "receipt_version": "0.3", "builder_version": "test", "canonical_sha256": digestHex,
		"first_computed_at": "2026-06-01T00:00:00.5Z", "last_reissued_at": "2026-06-01T00:00:00Z"}) {
		receipt[name] = value
	}
	opening := object{"canonical_record": root["canonical_record"], "canonical_sha256": digestHex, "receipt": receipt,
		"source_kind": source["kind"], "source_id": source["id"], "source_version": source["version"], "attestation_state": "computed"}
	var graph object
	for _, e := range root["events"].([]any) {
		if e := e.(object); e["event_type"] == pith.TypeGraphSnapshot {
			graph = e["payload"].(object)
		}
	}
	items := []any{object{"claim_id": "C1", "text": "é <&> \u2028"}}
	graph["graph_snapshot"].(object)["claims"] = object{"count": 1, "items": items, "snapshot_sha256": digest(object{"payload": items})}

	// A calendar's promise, and a block that attests the SHA-256 of what a 7 was appended to.
	answer, err := hex.DecodeString("ff" + "0083dfe30d2ef90c8e0403612f62" + "f0010708" + "000588960d73d71901012a")
	if err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(digestHex)
	if err != nil {
		return nil, err
	}
	proof, err := ots.New([32]byte(sum), answer)
	if err != nil {
		return nil, err
	}
	anchor := pith.TimestampAnchor{Method: "opentimestamps", Of: "record", DigestSHA256: digestHex, Proof: proof.Bytes()}
	number := root["pith_number"].(string)
	drafts := []pith.Draft{
		raw(pith.TypeRecordCreated, "record", opening),
		raw(pith.TypeGraphSnapshot, "graph", graph),
		raw(pith.TypeReplicationRecord, "replication", object{"schema": "replication_record/1", "claim": object{"id": "c"}, "outcome": "mixed", "plan_sha256": digestHex, "results_sha256": digestHex}),
		raw("remark", "record", object{"x": []any{1, json.Number("2.5e-07"), nil, object{"": "\u2028"}}}),
	}
	for _, p := range []pith.Payload{
		pith.AuthorAttestation{Name: "Ada", Identity: pith.Identity{Scheme: "orcid", Value: "0000-0002-1825-0097"}, Position: 2, Statement: "I wrote section 2."},
		anchor,
		pith.StorageAttestation{Archive: "internet_archive", URL: "https://web.archive.org/web/20260601120000/https://arxiv.org/abs/1805.07898v3", StoredAt: "2026-06-01T12:00:00Z", MediaType: "application/pdf"},
		pith.CitationSignature{Relation: "extends", Citing: pith.Work{Kind: "arxiv", ID: "2601.00001", Title: "On it"}, Claim: "C1"},
		pith.Correction{Kind: "erratum", Text: "é <&> 1", URL: "https://example.org/e"},
		pith.MirrorHint{Name: "M", MirrorType: "https", BundleURL: "https://m.example/" + number[len(number)-26:] + "/bundle.json"},
	} {
		d, err := pith.NewDraft(p, now)
		if err != nil {
			return nil, err
		}
		drafts = append(drafts, d)
	}
	bundle, ids, err := pith.Append(seed.Bundle(), f.old.key, now, drafts...)
	if err != nil {
		return nil, err
	}
	replaced, twice := raw("correction", "record", object{"schema": "correction/2"}), raw("remark", "record", object{})
	replaced.Type, twice.PrevEvent = "remark", ids[0]
	replaced.Supersedes = []string{ids[3]}
	if bundle, _, err = pith.Append(bundle, f.old.key, now.Add(time.Hour), replaced, twice); err != nil {
		return nil, err
	}
	if bundle, _, err = pith.Append(bundle, f.current.key, now.Add(2*time.Hour), raw("remark", "record", object{"y": 1}), raw("remark", "record", object{"y": 2})); err != nil {
		return nil, err
	}
	if bundle, _, err = pith.Append(bundle, f.gone.key, now.Add(3*time.Hour), raw("remark", "record", object{"z": 1})); err != nil {
		return nil, err
	}
	forged := decode(bundle).(object)["events"].([]any)[2].(object)
	forged["created_at"] = "2026-06-02T00:00:00Z"
	if bundle, err = pith.Adopt(bundle, [][]byte{canonical(forged)}, nil); err != nil {
		return nil, err
	}
	root = decode(bundle).(object)
	stamp, err := pith.NewDraft(anchor, now)
	if err != nil {
		return nil, err
	}
	root["timestamp_proofs"] = []any{decode(stamp.Payload)}
	root["mirror_hints"] = append(root["mirror_hints"].([]any), object{"name": "N", "base_url": "https://n.example/"})
	return pith.Sign(canonical(root), f.current.key, now.Add(4*time.Hour))
}

// raw is a draft with this payload.
func raw(eventType, target string, payload object) pith.Draft {
	return pith.Draft{Type: eventType, Target: target, CreatedAt: now, Payload: canonical(payload)}
}

// policy is a trust file that knows the old key, by a rotation the current one,
// and the third with its revocation.
func (f *farm) policy() ([]byte, error) {
	trust, err := pith.TrustFor(f.old.key.Public(), []string{"*"}, true).Within(now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
	if err != nil {
		return nil, err
	}
	rotation, err := pith.Rotate(f.old.key, f.current.key, now, now, now.Add(90*time.Minute))
	if err != nil {
		return nil, err
	}
	revocation, err := pith.Revoke(f.gone.key, now.Add(5*time.Hour), now.Add(4*time.Hour), "compromised")
	if err != nil {
		return nil, err
	}
	files := [][]byte{pith.TrustFor(f.gone.key.Public(), []string{"correction", "remark"}, false).JSON(), rotation, revocation}
	for _, file := range files {
		more, err := pith.ParseTrust(file)
		if err != nil {
			return nil, err
		}
		if trust, err = trust.Merge(more); err != nil {
			return nil, err
		}
	}
	return trust.JSON(), nil
}

// essence is the canonical form of a bundle without the one member that nothing
// covers (spec §7.3). No change of it can be accepted without a signature.
func essence(bundle []byte) string {
	root, ok := decode(bundle).(object)
	if !ok {
		return ""
	}
	if signature, ok := root["bundle_signature"].(object); ok {
		delete(signature, "signed_at")
	}
	return string(canonical(root))
}

// tokens finds strings, numbers, words and punctuation of JSON, however damaged.
func tokens(data []byte) [][2]int {
	var out [][2]int
	for i := 0; i < len(data); {
		start := i
		switch c := data[i]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
			continue
		case c == '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			i = min(i+1, len(data))
		case strings.IndexByte("{}[]:,", c) >= 0:
			i++
		default:
			for i < len(data) && strings.IndexByte("{}[]:, \t\r\n\"", data[i]) < 0 {
				i++
			}
		}
		out = append(out, [2]int{start, i})
	}
	return out
}

// nasty are values that readers disagree about.
var nasty = []string{
	"null", "true", "false", "0", "-0", "1.0", "1e0", "-0.0", "1e400", "1e-400", "NaN", "9007199254740993", "18446744073709551616", "[]", "{}", `""`,
	`"\u0000"`, `"\ud800"`, `"\ud83d\ude00"`, `"é"`, "\"e\u0301\"", "\"\x80\"", `"2026-02-30T00:00:00Z"`, `"2026-06-01T00:00:00.5Z"`, `"1.1"`, `"sha256:"`, "01", "'a'",
}

// mutant makes one mutant by one to three changes, and names their kind.
func (f *farm) mutant(rng *rand.Rand) (kind string, s start) {
	s = f.starts[rng.IntN(len(f.starts))]
	n := 1 + rng.IntN(3)
	switch rng.IntN(10) {
	case 0, 1:
		s.bundle = f.resigned(rng, s.bundle, n, false)
		return "resigned bundle", s
	case 2, 3:
		s.bundle = f.resigned(rng, s.bundle, n, true)
		return "resigned event", s
	case 4, 5:
		if s.trust != nil {
			if rng.IntN(3) > 0 {
				s.trust = f.otherPolicy(rng, s.trust, n)
				return "policy changed", s
			}
			for range n {
				_, s.trust = damage(rng, s.trust)
			}
			return "policy damaged", s
		}
	}
	for range n {
		kind, s.bundle = damage(rng, s.bundle)
	}
	if n > 1 {
		kind = fmt.Sprintf("%d of these", n)
	}
	return kind, s
}

// damage makes one change of bytes, and names it.
func damage(rng *rand.Rand, b []byte) (string, []byte) {
	toks := tokens(b)
	if len(toks) == 0 {
		return "insertion", []byte(nasty[rng.IntN(len(nasty))])
	}
	token := func() [2]int { return toks[rng.IntN(len(toks))] }
	switch rng.IntN(6) {
	case 0:
		out := bytes.Clone(b)
		out[rng.IntN(len(out))] ^= 1 << rng.IntN(8)
		return "bit flip", out
	case 1:
		at := rng.IntN(len(b))
		end := min(len(b), at+1+rng.IntN(1<<rng.IntN(10)))
		return "deletion", slices.Concat(b[:at], b[end:])
	case 2:
		at, from := rng.IntN(len(b)), rng.IntN(len(b))
		piece := b[from:min(len(b), from+1+rng.IntN(1<<rng.IntN(10)))]
		if rng.IntN(2) == 0 {
			piece = []byte{byte(rng.IntN(256))}
		}
		return "insertion", slices.Concat(b[:at], piece, b[at:])
	case 3:
		x, y := token(), token()
		if x[0] > y[0] {
			x, y = y, x
		}
		if x == y {
			return "token swap", slices.Concat(b[:x[0]], b[x[1]:])
		}
		return "token swap", slices.Concat(b[:x[0]], b[y[0]:y[1]], b[x[1]:y[0]], b[x[0]:x[1]], b[y[1]:])
	case 4:
		x := token()
		return "value replaced", slices.Concat(b[:x[0]], []byte(nasty[rng.IntN(len(nasty))]), b[x[1]:])
	}
	x, y := token(), token()
	return "token copied", slices.Concat(b[:x[0]], b[y[0]:y[1]], b[x[1]:])
}

type object = map[string]any

// resigned makes n changes in the tree, brings it back into canonical form, and
// signs what was changed with a key of ours, so that the changes get past the
// signatures.
func (f *farm) resigned(rng *rand.Rand, data []byte, n int, event bool) []byte {
	root := decode(data).(object)
	by := f.current
	if rng.IntN(4) == 0 {
		by = f.old
	}
	public := by.key.Public()
	if !slices.ContainsFunc(root["public_keys"].([]any), func(k any) bool {
		return k.(object)["fingerprint_sha256_hex"] == public.Fingerprint()
	}) {
		root["public_keys"] = append(root["public_keys"].([]any), decode(must(json.Marshal(public))))
	}
	if event {
		events := root["events"].([]any)
		if e := events[rng.IntN(len(events))].(object); rng.IntN(8) > 0 {
			by.changeEvent(rng, root, e, n)
		} else { // as if somebody had sent it twice
			root["events"] = append(events, e)
		}
	} else {
		names := []string{"links", "mirror_hints", "source_aliases", "timestamp_proofs", "public_keys", "built_at", "canonical_record", "source", "state"}
		for range n {
			name := names[rng.IntN(len(names))]
			root[name] = change(rng, root[name])
		}
	}
	if state, ok := root["state"].(object); ok && rng.IntN(8) > 0 {
		delete(state, "state_sha256")
		state["state_sha256"] = digest(state)
	}
	delete(root, "bundle_signature")
	sum := digest(root)
	signature := by.signature("bundle_sha256_bytes", sum)
	signature["bundle_sha256"] = sum
	root["bundle_signature"] = signature
	return canonical(root)
}

// changeEvent makes n changes in an event, seals it again, and puts it where the
// state shows it.
func (s signer) changeEvent(rng *rand.Rand, root, event object, n int) {
	old := event["event_id"]
	for _, name := range []string{"content_sha256", "event_id", "signature"} {
		delete(event, name)
	}
	public := s.key.Public()
	event["signer"] = object{"signer_id": public.Signer.ID, "signer_type": public.Signer.Type, "key_id": public.Signer.KeyID,
		"public_key_fingerprint": public.Fingerprint()}
	if payload, ok := event["payload"].(object); ok {
		if receipt, ok := payload["receipt"].(object); ok && rng.IntN(4) > 0 {
			for name, value := range s.signature("canonical_sha256_bytes", root["canonical_sha256"].(string)) {
				receipt[name] = value
			}
		}
	}
	if rng.IntN(4) > 0 {
		for range n {
			name := anyOf(rng, event)
			event[name] = change(rng, event[name])
		}
	}
	sum := digest(event)
	event["content_sha256"], event["event_id"], event["signature"] = sum, "sha256:"+sum, s.signature("open_graph_event_sha256_bytes", sum)
	patch(root["state"], old, event)
}

// otherPolicy makes n changes in a trust file. Most key documents that they hit
// are signed again.
func (f *farm) otherPolicy(rng *rand.Rand, data []byte, n int) []byte {
	root := decode(data).(object)
	for range n {
		name := anyOf(rng, root)
		documents, ok := root["key_documents"].([]any)
		if !ok || len(documents) == 0 || rng.IntN(3) == 0 {
			root[name] = change(rng, root[name])
			continue
		}
		d, ok := documents[rng.IntN(len(documents))].(object)
		if !ok || len(d) == 0 {
			continue
		}
		by := []signer{f.gone}
		if d["document_type"] == "pith_key_rotation" {
			by = []signer{f.old, f.current}
		}
		name = anyOf(rng, d)
		d[name] = change(rng, d[name])
		if rng.IntN(8) == 0 {
			continue
		}
		delete(d, "document_sha256")
		delete(d, "signatures")
		sum := digest(d)
		var signatures []any
		for _, s := range by {
			signatures = append(signatures, s.signature("key_document_sha256_bytes", sum))
		}
		d["document_sha256"], d["signatures"] = sum, signatures
	}
	return canonical(root)
}

// anyOf chooses a member.
func anyOf(rng *rand.Rand, o object) string {
	names := slices.Sorted(maps.Keys(o))
	return names[rng.IntN(len(names))]
}

// patch replaces what a state says about the event with the old id.
func patch(v any, old any, event object) any {
	switch v := v.(type) {
	case object:
		if v["event_id"] == old {
			for _, name := range []string{"created_at", "event_id", "payload", "signer", "target"} {
				v[name] = event[name]
			}
			return v
		}
		for name := range v {
			v[name] = patch(v[name], old, event)
		}
	case []any:
		for i := range v {
			v[i] = patch(v[i], old, event)
		}
	case string:
		if any(v) == old {
			return event["event_id"]
		}
	}
	return v
}

// change replaces, removes, copies or adds something somewhere below v.
func change(rng *rand.Rand, v any) any {
	switch v := v.(type) {
	case object:
		if len(v) > 0 && rng.IntN(5) > 0 {
			name := anyOf(rng, v)
			if rng.IntN(8) == 0 {
				delete(v, name)
			} else {
				v[name] = change(rng, v[name])
			}
			return v
		}
		if rng.IntN(3) > 0 {
			v["added"] = value(rng)
			return v
		}
	case []any:
		if len(v) > 0 && rng.IntN(5) > 0 {
			i := rng.IntN(len(v))
			switch rng.IntN(6) {
			case 0:
				return slices.Delete(v, i, i+1)
			case 1:
				return append(v, v[i])
			case 2:
				v[0], v[i] = v[i], v[0]
				return v
			}
			v[i] = change(rng, v[i])
			return v
		}
		if rng.IntN(3) > 0 {
			return append(v, value(rng))
		}
	case string:
		if t, err := time.Parse(time.RFC3339, v); err == nil && rng.IntN(4) > 0 { // moved a little, to where windows begin and end
			steps := []time.Duration{time.Second, time.Minute, 30 * time.Minute, time.Hour, 24 * time.Hour}
			return t.Add(time.Duration(rng.IntN(5)-2) * steps[rng.IntN(len(steps))]).Format("2006-01-02T15:04:05Z")
		}
		if len(v) > 0 && rng.IntN(2) == 0 {
			i := rng.IntN(len(v))
			return strings.ToValidUTF8(v[:i]+string(rune('0'+rng.IntN(75)))+v[i+1:], "?")
		}
	}
	return value(rng)
}

// value is one of the nasty values that can be part of a tree.
func value(rng *rand.Rand) any {
	for {
		text := []byte(nasty[rng.IntN(len(nasty))])
		if _, err := pith.Canonical(text); err == nil {
			return decode(text)
		}
	}
}

func decode(data []byte) any {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		panic(err)
	}
	return v
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

func canonical(v any) []byte {
	return must(pith.Canonical(must(json.Marshal(v))))
}

func digest(v any) string {
	sum := sha256.Sum256(canonical(v))
	return hex.EncodeToString(sum[:])
}

func (s signer) signature(label, sum string) object {
	message, err := hex.DecodeString(sum)
	if err != nil {
		panic(err)
	}
	public := s.key.Public()
	return object{"signature_status": "signed_v1", "algorithm": "ed25519", "key_id": public.Signer.KeyID,
		"public_key_fingerprint": public.Fingerprint(), "signature_b64": base64.StdEncoding.EncodeToString(ed25519.Sign(s.private, message)),
		"signed_message": label, "signed_at": "2026-06-01T00:00:00Z"}
}
