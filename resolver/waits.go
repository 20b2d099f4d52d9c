package resolver

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"slices"
	"strings"

	"github.com/openpith/evidence/pith"
)

// waitsFor is what a submission that was turned away is known by: what it would bring
// to the record as it is now. So what waits in a bundle waits once, however often the
// rest of it changes, and what was rejected is known again.
//
// That are the events that are not here, doubted or not. Where all are here it is what
// else the bundle says, for which only its signer vouches; ok is false where it says
// nothing new.
func (r *record) waitsFor(j *job) (digest Digest, ok bool, err error) {
	missing := r.missing(j)
	if len(missing) > 0 {
		ids := make([]string, 0, len(missing))
		for i := range missing {
			if ids = append(ids, j.ids[i]); j.ids[i] == "" { // it is not valid
				ids[len(ids)-1] = j.entries[i].String()
			}
		}
		slices.Sort(ids)
		return knownAs(j.suffix, ids...), true, nil
	}
	if j.contents == nil {
		return Digest{}, false, nil
	}
	words, err := wordsOf(j.contents.Canonical)
	if err != nil {
		return Digest{}, false, err
	}
	if err := r.unpack(); err != nil { // it is there: no bundle is without events
		return Digest{}, false, err
	}
	here, err := wordsOf(r.bundle)
	if err != nil {
		return Digest{}, false, err
	}
	news, err := addsWords(here, words)
	if err != nil || !news {
		return Digest{}, false, err
	}
	text, err := json.Marshal(words) // sorted by names
	return knownAs(j.suffix, "words", string(text)), true, err
}

// knownAs is a digest that no submission has by its bytes: it is of another function.
func knownAs(suffix string, texts ...string) Digest {
	return sha512.Sum512_256([]byte(suffix + "\n" + strings.Join(texts, "\n")))
}

// missing are the events of a submission, by their places in it, that the record lacks.
func (r *record) missing(j *job) map[int]bool {
	here, ids := r.known(), r.validIDs()
	missing := map[int]bool{}
	for i, entry := range j.entries {
		if !here[entry] && (j.ids[i] == "" || !ids[j.ids[i]]) {
			missing[i] = true
		}
	}
	return missing
}

// wordsOf are the members of a bundle that do not follow from its events and are not
// about the bundle itself (spec §5.8).
func wordsOf(bundle []byte) (map[string]json.RawMessage, error) {
	var words map[string]json.RawMessage
	err := pith.Decode(bundle, &words)
	for _, name := range []string{"events", "public_keys", "built_at", "state", "bundle_signature"} {
		delete(words, name)
	}
	return words, err
}

// addsWords reports whether some words add something to those that are known, as pith.Merge
// unites them.
func addsWords(known, words map[string]json.RawMessage) (bool, error) {
	for name, value := range words {
		old, has := known[name]
		switch name {
		case "source_aliases":
			type alias struct {
				Kind  string `json:"alias_kind"`
				Value string `json:"alias_value"`
				At    string `json:"created_at"`
			}
			var before, now []alias
			if err := pith.Decode(value, &now); err != nil {
				return false, err
			}
			if has {
				if err := pith.Decode(old, &before); err != nil {
					return false, err
				}
			}
			for _, a := range now {
				if !slices.ContainsFunc(before, func(b alias) bool { return b.Kind == a.Kind && b.Value == a.Value && b.At <= a.At }) {
					return true, nil
				}
			}
		case "mirror_hints", "timestamp_proofs":
			var before, now []json.RawMessage
			if err := pith.Decode(value, &now); err != nil {
				return false, err
			}
			if has {
				if err := pith.Decode(old, &before); err != nil {
					return false, err
				}
			}
			entries := map[string]bool{}
			for _, v := range before {
				entries[string(v)] = true
			}
			if slices.ContainsFunc(now, func(v json.RawMessage) bool { return !entries[string(v)] }) {
				return true, nil
			}
		default:
			if !has || bytes.Compare(value, old) < 0 {
				return true, nil
			}
		}
	}
	return false, nil
}
