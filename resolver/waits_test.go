package resolver

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
)

// TestAddsWords: a bundle says something new, beside events, exactly where uniting it
// changes something else.
func TestAddsWords(t *testing.T) {
	key, err := pith.NewKey(bytes.Repeat([]byte{1}, ed25519.SeedSize), pith.Signer{ID: "a", Type: "individual", KeyID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	base, err := pith.Merge(seed.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	variants := map[string][]byte{"the same": base}
	for name, edit := range map[string][2]string{
		"another hint":    {`"status":"primary"`, `"status":"mirror"`},
		"a proof":         {`"timestamp_proofs":[]`, `"timestamp_proofs":[{"other":1}]`},
		"a smaller link":  {`"links":{"bundle":"https://pith`, `"links":{"bundle":"https://aith`},
		"a larger link":   {`"links":{"bundle":"https://pith`, `"links":{"bundle":"https://qith`},
		"one more member": {`{"built_at"`, `{"aaa":1,"built_at"`},
		"another day":     {`"built_at":"2026-05-26T04:00:15Z"`, `"built_at":"2026-05-27T04:00:15Z"`},
	} {
		edited := bytes.Replace(base, []byte(edit[0]), []byte(edit[1]), 1)
		if bytes.Equal(edited, base) {
			t.Fatalf("%s: there is no %s", name, edit[0])
		}
		signed, err := pith.Sign(edited, key, time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)) // with the state that it has now
		if err == nil {
			variants[name], err = pith.Merge(signed)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var of struct {
		Record json.RawMessage `json:"canonical_record"`
	}
	if err := pith.Decode(base, &of); err != nil {
		t.Fatal(err)
	}
	for name, year := range map[string]int{"aliases that are older": 2025, "aliases that are younger": 2027} {
		opened, _, err := pith.Open(of.Record, key, time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC))
		if err == nil {
			variants[name], err = pith.Merge(opened)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	words := func(bundle []byte) (map[string]json.RawMessage, string) {
		w, err := wordsOf(bundle)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		return w, string(text)
	}
	found := map[bool]int{}
	for a, known := range variants {
		for b, other := range variants {
			union, err := pith.Merge(known, other)
			if err != nil {
				t.Fatal(err)
			}
			have, before := words(known)
			says, _ := words(other)
			_, after := words(union)
			news, err := addsWords(have, says)
			if err != nil || news != (before != after) {
				t.Errorf("to %q %q adds something: %v, %v", a, b, news, err)
			}
			found[news]++
		}
		if says, _ := words(known); len(says) == 0 {
			t.Errorf("%s says nothing", a)
		} else if news, err := addsWords(nil, says); err != nil || !news {
			t.Errorf("to nothing %q adds nothing: %v", a, err)
		}
	}
	if found[true] < 20 || found[false] < 20 {
		t.Errorf("%v", found)
	}
}
