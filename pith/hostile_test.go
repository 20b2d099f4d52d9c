package pith

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/seed"
)

// TestHostileBundles: the work on a bundle is in proportion to its size, whatever
// it holds. Memory stands for work here, as nobody can assert a time.
func TestHostileBundles(t *testing.T) {
	doc, err := canon.Parse(seed.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	whole := string(doc.Root().Canonical())
	var opening map[string]any
	for v := range doc.Root().Get("events").Children() {
		if v.Get("event_type").Is(TypeRecordCreated) {
			if err := json.Unmarshal(v.Canonical(), &opening); err != nil {
				t.Fatal(err)
			}
		}
	}
	opening["payload"].(map[string]any)["canonical_record"] = map[string]any{}
	other, err := json.Marshal(opening)
	if err != nil {
		t.Fatal(err)
	}
	events := func(n int, event string, bundle string) string {
		return string(edit(t, []byte(bundle), `"events":[`, `"events":[`+strings.Repeat(event+",", n)))
	}
	within := func(name, member string, n int, bundle string) string { // n members more in an object of the bundle
		var more strings.Builder
		for i := range n {
			fmt.Fprintf(&more, `"!%06d":%s,`, i, member)
		}
		return string(edit(t, []byte(bundle), `"`+name+`":{`, `"`+name+`":{`+more.String()))
	}
	var long strings.Builder
	for i := range 15 {
		fmt.Fprintf(&long, `"%d%s":"://",`, i, strings.Repeat("<", 1<<20)) // which JSON for web pages writes in six bytes
	}
	const alias = `{"alias_kind":"arxiv","alias_value":"1805.07898","created_at":"2026-05-17T23:59:22Z"},`
	tests := []struct {
		name, bundle string
		code         Code
		failures     int // of that code
		mebibytes    uint64
	}{
		// Each alias is compared with a source that has members before id: minutes, if
		// id were looked up for each.
		{"a large source", strings.Replace(within("source", "1", 400_000, whole), `"source_aliases":[`, `"source_aliases":[`+strings.Repeat(alias, 40_000), 1), CodeAlias, 3, 300},
		// Neither a state nor links have a million members.
		{"a large state", within("state", "1", 900_000, whole), CodeState, MaxFailures, 250},
		{"a large set of links", within("links", `"://"`, 900_000, whole), CodeLocator, 0, 250},
		// A name of a megabyte stands once in the bundle, and in no path.
		{"long names", string(edit(t, []byte(whole), `"links":{`, `"links":{`+long.String())), CodeLocator, 0, 250},
		// Each event is compared with a record of a megabyte, which it does not repeat.
		{"a large record", events(1000, string(other), string(edit(t, []byte(whole), `"license":"`, `"license":"`+strings.Repeat("x", 1<<20)))), CodePayloadRecord, MaxFailures, 60},
		// Each of the smallest events lacks a dozen members.
		{"empty events", events(MaxEntries-2, "{}", whole), CodeEventShape, MaxFailures, 250},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := Verify([]byte(tt.bundle), nil)
			runtime.ReadMemStats(&after)
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > tt.mebibytes {
				t.Errorf("%d MiB for %d bytes, want at most %d", used, len(tt.bundle), tt.mebibytes)
			}
			var last Check
			n := 0
			for _, c := range r.Failures() {
				if c.Code == tt.code {
					last = c
					n++
				}
			}
			if r.Verdict() != Rejected || n != tt.failures || n == MaxFailures && !strings.Contains(last.Detail, "more of this code") {
				t.Errorf("%v, %d failures %s, the last: %+v", r.Verdict(), n, tt.code, last)
			}
			if text, err := json.Marshal(r); err != nil || len(text) > 8<<20 {
				t.Errorf("%d bytes of JSON, %v", len(text), err)
			}
		})
	}
}
