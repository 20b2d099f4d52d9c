package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
)

// A farm makes mutants of good bundles: the real one, and one that a test key
// extended.
type farm struct {
	bundles [][]byte
	covered map[string]bool // what their signatures cover, see essence
	tokens  [][][2]int      // of each bundle, where its JSON tokens stand
	key     ed25519.PrivateKey
	public  pith.PublicKey
}

func newFarm() (*farm, error) {
	seed32 := sha256.Sum256([]byte("mutants"))
	signer := pith.Signer{ID: "mutant@example.org", Type: "individual", KeyID: "mutant-key"}
	key, err := pith.NewKey(seed32[:], signer)
	if err != nil {
		return nil, err
	}
	f := &farm{covered: map[string]bool{}, key: ed25519.NewKeyFromSeed(seed32[:]), public: key.Public()}
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	extended, _, err := pith.Append(seed.Bundle(), key, at,
		pith.Draft{Type: "correction", Target: "record", CreatedAt: at, Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"é <&> 1"}`)},
		pith.Draft{Type: "remark", Target: "record", CreatedAt: at, Payload: json.RawMessage(`{"x":[1,2.5e-7,null,{"":"\u2028"}]}`)})
	if err != nil {
		return nil, err
	}
	f.bundles = [][]byte{seed.Bundle(), extended}
	for _, b := range f.bundles {
		f.tokens = append(f.tokens, tokens(b))
		f.covered[essence(b)] = true
		if v := pith.Verify(b, nil).Verdict(); v > pith.Untrusted {
			return nil, fmt.Errorf("a bundle to start from is %v", v)
		}
	}
	return f, nil
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

// tokens finds strings, numbers, words and punctuation of good JSON.
func tokens(data []byte) [][2]int {
	var out [][2]int
	for i := 0; i < len(data); {
		start := i
		switch c := data[i]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
			continue
		case c == '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			i++
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

// mutant makes one mutant, and names the kind of mutation.
func (f *farm) mutant(rng *rand.Rand) (string, []byte) {
	i := rng.IntN(len(f.bundles))
	b, toks := f.bundles[i], f.tokens[i]
	token := func() [2]int { return toks[rng.IntN(len(toks))] }
	switch rng.IntN(8) {
	case 0:
		out := bytes.Clone(b)
		for range 1 + rng.IntN(2) {
			out[rng.IntN(len(out))] ^= 1 << rng.IntN(8)
		}
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
	case 5:
		x, y := token(), token()
		return "token copied", slices.Concat(b[:x[0]], b[y[0]:y[1]], b[x[1]:])
	case 6:
		return "resigned bundle", f.resigned(rng, b, false)
	}
	return "resigned event", f.resigned(rng, b, true)
}

type object = map[string]any

// resigned changes the tree, brings it back into canonical form, and signs what
// was changed with the test key, so that the change gets past the signatures.
func (f *farm) resigned(rng *rand.Rand, data []byte, event bool) []byte {
	var root object
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&root); err != nil {
		panic(err) // the bundles to start from are good
	}
	if !slices.ContainsFunc(root["public_keys"].([]any), func(k any) bool {
		return k.(object)["fingerprint_sha256_hex"] == f.public.Fingerprint()
	}) {
		root["public_keys"] = append(root["public_keys"].([]any), decode(must(json.Marshal(f.public))))
	}
	if event {
		events := root["events"].([]any)
		f.changeEvent(rng, root, events[rng.IntN(len(events))].(object))
	} else {
		names := []string{"links", "mirror_hints", "source_aliases", "timestamp_proofs", "public_keys", "built_at", "canonical_record", "source", "state"}
		name := names[rng.IntN(len(names))]
		root[name] = change(rng, root[name])
	}
	if state, ok := root["state"].(object); ok && rng.IntN(8) > 0 {
		delete(state, "state_sha256")
		state["state_sha256"] = digest(state)
	}
	delete(root, "bundle_signature")
	sum := digest(root)
	root["bundle_signature"] = f.signature("bundle_sha256_bytes", sum)
	root["bundle_signature"].(object)["bundle_sha256"] = sum
	return canonical(root)
}

// changeEvent changes an event, seals it again, and puts it where the state
// shows it.
func (f *farm) changeEvent(rng *rand.Rand, root, event object) {
	old := event["event_id"]
	for _, name := range []string{"content_sha256", "event_id", "signature"} {
		delete(event, name)
	}
	event["signer"] = object{"signer_id": f.public.Signer.ID, "signer_type": f.public.Signer.Type, "key_id": f.public.Signer.KeyID,
		"public_key_fingerprint": f.public.Fingerprint()}
	if payload, ok := event["payload"].(object); ok {
		if receipt, ok := payload["receipt"].(object); ok && rng.IntN(4) > 0 {
			for name, value := range f.signature("canonical_sha256_bytes", root["canonical_sha256"].(string)) {
				receipt[name] = value
			}
		}
	}
	if rng.IntN(4) > 0 {
		names := make([]string, 0, len(event))
		for name := range event {
			names = append(names, name)
		}
		slices.Sort(names)
		name := names[rng.IntN(len(names))]
		event[name] = change(rng, event[name])
	}
	sum := digest(event)
	event["content_sha256"], event["event_id"], event["signature"] = sum, "sha256:"+sum, f.signature("open_graph_event_sha256_bytes", sum)
	patch(root["state"], old, event)
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
			names := make([]string, 0, len(v))
			for name := range v {
				names = append(names, name)
			}
			slices.Sort(names)
			name := names[rng.IntN(len(names))]
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

func (f *farm) signature(label, sum string) object {
	message, err := hex.DecodeString(sum)
	if err != nil {
		panic(err)
	}
	return object{"signature_status": "signed_v1", "algorithm": "ed25519", "key_id": f.public.Signer.KeyID,
		"public_key_fingerprint": f.public.Fingerprint(), "signature_b64": base64.StdEncoding.EncodeToString(ed25519.Sign(f.key, message)),
		"signed_message": label, "signed_at": "2026-06-01T00:00:00Z"}
}
