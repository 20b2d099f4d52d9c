package pith

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/seed"
)

func TestDecode(t *testing.T) {
	type inner struct {
		Kind  string          `json:"kind"`
		Plain int             // by its own name
		Raw   json.RawMessage `json:"raw"`
		Skip  string          `json:"-"`
	}
	type all struct {
		inner
		At   time.Time        `json:"at"`
		List []inner          `json:"list"`
		Map  map[string]inner `json:"map"`
		Ptr  *inner           `json:"ptr"`
		Any  any              `json:"any"`
		Data []byte           `json:"data"`
	}
	// Every name stands there once as it is and once folded; S and K have partners
	// beyond ASCII.
	const text = `{"kind":"a","Kind":"x","\u212aind":"x","Plain":1,"plain":2,"raw":{"KIND":1,"kind":2},"Raw":3,"-":"x","Skip":"x","skip":"x",
		"at":"2026-06-01T00:00:00Z","AT":7,"list":[{"kind":"b","KIND":"x"}],"li\u017ft":5,"map":{"kind":{"kind":"c","kinD":"x"},"Kind":{}},"Map":1,
		"ptr":{"kind":"d","kiNd":"x"},"any":{"Kind":1},"ANY":2,"data":"AAE=","Data":1}`
	var got all
	if err := Decode([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	want := all{inner: inner{Kind: "a", Plain: 1, Raw: json.RawMessage(`{"KIND":1,"kind":2}`)}, At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
		List: []inner{{Kind: "b"}}, Map: map[string]inner{"kind": {Kind: "c"}, "Kind": {}}, Ptr: &inner{Kind: "d"}, Any: map[string]any{"Kind": 1.0}, Data: []byte{0, 1}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(all{})); d != "" {
		t.Error(d)
	}
	var syntax *SyntaxError
	if err := Decode([]byte(`{"kind":"a","kind":"b"}`), &got); !errors.As(err, &syntax) {
		t.Errorf("a name twice: %v", err)
	}
	if err := Decode([]byte(`{"kind":5}`), &got); err == nil {
		t.Error("a number for a string")
	}
}

// folded are names that encoding/json takes for name and that are not it.
func folded(name string) []string {
	return []string{strings.ToUpper(name), strings.Replace(name, "s", "ſ", 1), strings.Replace(name, "k", "\u212a", 1), strings.ToUpper(name[:1]) + name[1:]}
}

// TestFoldedMembersSayNothing: beside every member of every payload stand its
// folded copies with another value, and each is read as if they were not there.
func TestFoldedMembersSayNothing(t *testing.T) {
	for kind, tt := range payloads(t) {
		doc, err := canon.Parse([]byte(tt.good))
		if err != nil {
			t.Fatal(err)
		}
		plain, _, err := Append(seed.Bundle(), ada, day, draft(kind, tt.good, 0))
		if err != nil {
			t.Fatal(err)
		}
		want, ok := Verify(plain, nil).History[2].Typed()
		if !ok {
			t.Fatalf("%s has no typed form", kind)
		}
		for _, other := range []string{`5`, `"retraction"`, `null`} {
			members := map[string][]byte{}
			for m := range doc.Root().Children() {
				for _, name := range folded(m.Name()) {
					members[name] = []byte(other)
				}
			}
			var all []canon.Member
			for m := range doc.Root().Children() {
				members[m.Name()] = m.Canonical()
			}
			for name, value := range members {
				all = append(all, canon.Member{Name: name, Value: value})
			}
			bundle, _, err := Append(seed.Bundle(), ada, day, draft(kind, string(canon.Build(all...)), 0))
			if err != nil {
				t.Fatal(err)
			}
			got, ok := Verify(bundle, nil).History[2].Typed()
			if d := cmp.Diff(want, got); !ok || d != "" {
				t.Errorf("%s with folded copies of its members, all %s: %v %s", kind, other, ok, d)
			}
		}
	}
}

// TestHiddenRetraction: what the checks take for a retraction is shown as one, and
// what they take for an erratum is not.
func TestHiddenRetraction(t *testing.T) {
	for payload, want := range map[string]int{
		`{"schema":"correction/1","kind":"erratum","\u212aind":"retraction","text":"t"}`: 0,
		`{"schema":"correction/1","kind":"retraction","text":"t","About":"x"}`:           1,
		`{"schema":"correction/1","kind":"retraction","text":"t","Claim":5}`:             1,
	} {
		bundle, _, err := Append(seed.Bundle(), ada, day, draft("correction", payload, 0))
		if err != nil {
			t.Fatal(err)
		}
		if got := Verify(bundle, nil).Withdrawals(); len(got) != want {
			t.Errorf("%s: %d withdrawals, want %d", payload, len(got), want)
		}
	}
}
