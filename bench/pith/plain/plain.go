// Package plain is Pith as one would write it in an afternoon, with maps and the
// standard library: the baseline of the benchmarks, and what their data are made
// with. It knows the events of a freshly registered record and nothing else, and
// shares no code with package pith.
package plain

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Bundle is a bundle as encoding/json reads it, numbers as json.Number.
type Bundle = map[string]any

// Parse reads a bundle.
func Parse(data []byte) (Bundle, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var b Bundle
	err := d.Decode(&b)
	return b, err
}

// Canonical writes a value in canonical form: encoding/json sorts members by
// name and, told so, leaves <, > and & alone.
func Canonical(v any) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // maps, slices, strings and numbers cannot fail
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}

// digest is the SHA-256 of an object without some of its members.
func digest(v any, without ...string) [32]byte {
	members := map[string]any{}
	for name, m := range object(v) {
		if !slices.Contains(without, name) {
			members[name] = m
		}
	}
	return sha256.Sum256(Canonical(members))
}

func hexOf(sum [32]byte) string { return hex.EncodeToString(sum[:]) }

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }
func list(v any) []any            { l, _ := v.([]any); return l }
func text(v any) string           { s, _ := v.(string); return s }

func suffixOf(sum [32]byte) string { return base32.StdEncoding.EncodeToString(sum[:])[:26] }

func numberOf(record map[string]any) string {
	return "pith:" + text(object(record["metadata"])["submitted_at"])[:4] + ":" + suffixOf(digest(record))
}

// ErrInvalid reports a bundle that is not what its signer signed.
var ErrInvalid = errors.New("invalid bundle")

// Verify recomputes number, digests, event ids, receipts, signatures and state.
func Verify(data []byte) error {
	b, err := Parse(data)
	if err != nil {
		return err
	}
	keys := map[string]ed25519.PublicKey{}
	for _, k := range list(b["public_keys"]) {
		raw, err := base64.StdEncoding.Strict().DecodeString(text(object(k)["public_key_b64"]))
		if err != nil || len(raw) != ed25519.PublicKeySize {
			return fmt.Errorf("public key: %w", ErrInvalid)
		}
		sum := sha256.Sum256(raw)
		keys[hex.EncodeToString(sum[:16])] = raw
	}
	signed := func(v any, sum [32]byte) bool {
		s := object(v)
		sig, err := base64.StdEncoding.Strict().DecodeString(text(s["signature_b64"]))
		key := keys[text(s["public_key_fingerprint"])]
		return err == nil && key != nil && ed25519.Verify(key, sum[:], sig)
	}

	record := object(b["canonical_record"])
	recordDigest := digest(record)
	if text(b["canonical_sha256"]) != hexOf(recordDigest) || text(b["pith_number"]) != numberOf(record) {
		return fmt.Errorf("identity: %w", ErrInvalid)
	}
	for i, e := range list(b["events"]) {
		event := object(e)
		sum := digest(event, outsideEvent...)
		if text(event["content_sha256"]) != hexOf(sum) || text(event["event_id"]) != "sha256:"+hexOf(sum) || !signed(event["signature"], sum) {
			return fmt.Errorf("event %d: %w", i, ErrInvalid)
		}
		payload := object(event["payload"])
		if receipt := payload["receipt"]; receipt != nil &&
			(!signed(receipt, recordDigest) || !bytes.Equal(Canonical(payload["canonical_record"]), Canonical(record))) {
			return fmt.Errorf("receipt of event %d: %w", i, ErrInvalid)
		}
		if graph := object(payload["graph_snapshot"]); graph != nil {
			title := sha256.Sum256([]byte(strings.ToLower(text(object(graph["paper"])["title"]))))
			if hexOf(title) != text(object(record["metadata"])["title_canon_sha256"]) {
				return fmt.Errorf("title: %w", ErrInvalid)
			}
		}
	}
	if !bytes.Equal(Canonical(State(b)), Canonical(b["state"])) {
		return fmt.Errorf("state: %w", ErrInvalid)
	}
	sum := digest(b, "bundle_signature")
	signature := object(b["bundle_signature"])
	if text(signature["bundle_sha256"]) != hexOf(sum) || !signed(signature, sum) {
		return fmt.Errorf("bundle signature: %w", ErrInvalid)
	}
	return nil
}

var outsideEvent = []string{"content_sha256", "event_id", "signature"}

// State replays the events of a record that was registered and not touched since.
func State(b Bundle) map[string]any {
	current := map[string]any{"canonical_record": b["canonical_record"], "source_aliases": b["source_aliases"]}
	for _, name := range []string{"author_attestations", "timestamp_anchors", "storage_attestations", "citation_signatures",
		"replication_records", "corrections", "mirror_hints", "graph_snapshots"} {
		current[name] = []any{}
	}
	ids := []any{}
	for _, e := range list(b["events"]) {
		event := object(e)
		ids = append(ids, event["event_id"])
		shown := map[string]any{}
		for _, name := range []string{"event_id", "target", "created_at", "signer", "payload"} {
			shown[name] = event[name]
		}
		if text(event["event_type"]) == "record_created" {
			current["record_created"] = shown
		} else {
			current["graph_snapshots"] = append(list(current["graph_snapshots"]), shown)
		}
	}
	state := map[string]any{
		"state_type": "pith_open_graph_state", "state_version": "1.0", "merge_version": "pith-open-graph-merge-v1",
		"pith_number": b["pith_number"], "current": current, "applied_event_ids": ids,
		"event_count": len(ids), "valid_event_count": len(ids), "invalid_event_count": 0, "equivocation_count": 0,
		"equivocations": []any{}, "invalid_events": []any{},
	}
	state["state_sha256"] = hexOf(digest(state))
	return state
}

// SignerType is the role in which Another signs.
const SignerType = "benchmark"

// Another returns a bundle like b for the n-th record of a family: another
// source, another title, all digests recomputed, everything signed by key.
func Another(data []byte, key ed25519.PrivateKey, n int) ([]byte, error) {
	b, err := Parse(data)
	if err != nil {
		return nil, err
	}
	record := object(b["canonical_record"])
	oldNumber, oldID := text(b["pith_number"]), text(object(record["source"])["id"])
	var oldTitle string
	for _, e := range list(b["events"]) {
		if graph := object(object(object(e)["payload"])["graph_snapshot"]); graph != nil {
			oldTitle = text(object(graph["paper"])["title"])
		}
	}
	id, title := idOf(n), fmt.Sprintf("%s, part %d", oldTitle, n)
	object(record["source"])["id"] = id
	titleSum := sha256.Sum256([]byte(strings.ToLower(title)))
	object(record["metadata"])["title_canon_sha256"] = hexOf(titleSum)
	recordDigest, number := digest(record), numberOf(record)
	public := key.Public().(ed25519.PublicKey)
	keySum := sha256.Sum256(public)
	fingerprint := hex.EncodeToString(keySum[:16])

	// What repeats number, suffix, id or fingerprint is replaced wherever it stands.
	entry := object(list(b["public_keys"])[0])
	oldSuffix, suffix := oldNumber[10:], number[10:]
	replace := strings.NewReplacer(oldSuffix, suffix, oldSuffix[:16], suffix[:16], oldSuffix[:12], suffix[:12], oldSuffix[:8], suffix[:8],
		oldTitle, title, text(entry["fingerprint_sha256_hex"]), fingerprint, "pith_registry", SignerType)
	b = rewrite(b, func(s string) string {
		if id := strings.Replace(s, oldID, id, 1); len(s) <= len("10.48550/arxiv.")+len(oldID) && id != s {
			return id
		}
		return replace.Replace(s)
	}).(Bundle)
	entry = object(list(b["public_keys"])[0])
	entry["public_key_b64"] = base64.StdEncoding.EncodeToString(public)
	entry["public_key_hex"] = hex.EncodeToString(public)
	entry["fingerprint_sha256_b32_first128bits"] = suffixOf(keySum)

	sign := func(v any, sum [32]byte) {
		object(v)["signature_b64"] = base64.StdEncoding.EncodeToString(ed25519.Sign(key, sum[:]))
	}
	record["source"] = object(b["canonical_record"])["source"]
	b["canonical_record"] = record
	b["canonical_sha256"] = hexOf(recordDigest)
	for _, e := range list(b["events"]) {
		event := object(e)
		payload := object(event["payload"])
		if receipt := object(payload["receipt"]); receipt != nil {
			payload["canonical_record"] = record
			payload["canonical_sha256"] = hexOf(recordDigest)
			receipt["canonical_sha256"] = hexOf(recordDigest)
			sign(receipt, recordDigest)
		}
		sum := digest(event, outsideEvent...)
		event["content_sha256"], event["event_id"] = hexOf(sum), "sha256:"+hexOf(sum)
		sign(event["signature"], sum)
	}
	b["state"] = State(b)
	sum := digest(b, "bundle_signature")
	object(b["bundle_signature"])["bundle_sha256"] = hexOf(sum)
	sign(b["bundle_signature"], sum)
	return Canonical(b), nil
}

// rewrite returns a copy of v with every string replaced.
func rewrite(v any, with func(string) string) any {
	switch v := v.(type) {
	case string:
		return with(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = rewrite(e, with)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, m := range v {
			out[name] = rewrite(m, with)
		}
		return out
	}
	return v
}
