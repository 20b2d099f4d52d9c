package resolver

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"

	"github.com/openpith/evidence/pith"
)

// waitsFor is what a submission that was turned away is known by: what it would bring
// to the record as it is now. So what waits in a bundle waits once, however often the
// rest of it changes, and what was rejected is known again.
//
// That are the events that are not here, doubted or not, and what else the bundle says,
// for which only its signer vouches, if it says anything new.
func (r *record) waitsFor(j *job) (Digest, error) {
	here, ids := r.known(), map[string]bool{}
	for _, e := range r.events {
		if e.Invalid == "" {
			ids[e.ID] = true
		}
	}
	var missing []string
	for i, entry := range j.entries {
		switch id := j.ids[i]; {
		case here[entry] || ids[id]:
		case id == "": // it is not valid
			missing = append(missing, entry.String())
		default:
			missing = append(missing, id)
		}
	}
	slices.Sort(missing)
	said := ""
	if j.contents != nil {
		words, err := wordsOf(j.contents.Canonical)
		if err != nil {
			return Digest{}, err
		}
		var known map[string]json.RawMessage
		if r.exists() {
			if err := r.unpack(); err != nil {
				return Digest{}, err
			}
			if known, err = wordsOf(r.bundle); err != nil {
				return Digest{}, err
			}
		}
		if news, err := addsWords(known, words); err != nil {
			return Digest{}, err
		} else if news {
			text, err := json.Marshal(words) // sorted by names
			if err != nil {
				return Digest{}, err
			}
			said = Digest(sha256.Sum256(text)).String()
		}
	}
	return sha256.Sum256([]byte(j.suffix + "\n" + strings.Join(missing, "\n") + "\n\n" + said)), nil
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
