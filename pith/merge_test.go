package pith

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/seed"
)

// A pool is what bundles in merge tests are drawn from: the seed's events, and
// events of two signers that follow, replace, contradict and damage each other.
type pool struct {
	labs   []*lab // the same record under other aliases, hints and proofs
	events [][]byte
}

func newPool(t testing.TB) *pool {
	t.Helper()
	l := newLab(t)
	p := &pool{labs: []*lab{l}}
	for _, e := range [][2]string{
		{`"created_at":"2026-05-18T12:32:19Z"`, `"created_at":"2026-05-18T12:30:00Z"`},
		{`"status":"primary"`, `"status":"mirror"`},
		{`"timestamp_proofs":[]`, `"timestamp_proofs":[{"other":1}]`},
		{`"notes":"Pith uses`, `"notes":"pith uses`},
	} {
		canonical, err := canon.Canonical(seed.Bundle())
		if err != nil {
			t.Fatal(err)
		}
		p.labs = append(p.labs, labFrom(t, edit(t, canonical, e[0], e[1])))
	}
	created, graph := l.events[0], l.events[1]
	a1 := l.sign(ada, draft("correction", erratum("a1"), 1))
	next := draft("correction", erratum("a2"), 2)
	next.PrevEvent = a1
	a2 := l.sign(ada, next)
	fork := draft("correction", erratum("fork"), 2)
	fork.PrevEvent = a1
	l.sign(ada, fork)
	replace := draft("correction", erratum("a3"), 3)
	replace.Supersedes = []string{a2}
	l.sign(ada, replace)
	b1 := l.sign(bob, draft("replication_record", replication, 1))
	foreign := draft("correction", erratum("foreign"), 4)
	foreign.Supersedes = []string{b1}
	l.sign(ada, foreign)
	l.sign(bob, draft("replication_record", `{"schema":"replication_record/1"}`, 2))
	l.sign(bob, draft("something_new", `{}`, 3))
	again, _, err := ada.signEvent(draft("correction", erratum("a1"), 1), l.b.record.number, day.AddDate(0, 0, -1))
	if err != nil {
		t.Fatal(err)
	}
	l.events = append(l.events, again, []byte(`{"not":"an event"}`), edit(t, graph, `"target":"graph"`, `"target":"Graph"`))
	p.events = l.events
	l.events = [][]byte{created, graph}
	return p
}

// draw draws a bundle: some of the events, under one of the surroundings, with
// or without bob's key.
func (p *pool) draw(t *rapid.T) []byte {
	l := p.labs[rapid.IntRange(0, len(p.labs)-1).Draw(t, "lab")]
	events := [][]byte{p.events[0]}
	seen := map[string]bool{}
	for _, i := range rapid.Permutation(indexes(len(p.events))).Draw(t, "events") {
		id := string(idOf(p.events[i]))
		if i == 0 || seen[id] || rapid.Bool().Draw(t, "leave out") {
			continue
		}
		seen[id] = id != "" // a bundle with an event twice is rejected
		events = append(events, p.events[i])
	}
	keys := l.keys
	if rapid.Bool().Draw(t, "without bob") {
		keys = keys[:len(keys)-1]
	}
	out, err := ada.assemble(l.b, day.AddDate(0, 0, rapid.IntRange(0, 5).Draw(t, "built")), events, keys)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func indexes(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func idOf(event []byte) string {
	var e struct {
		ID string `json:"event_id"`
	}
	_ = json.Unmarshal(event, &e)
	return e.ID
}

func merge(t interface{ Fatal(...any) }, bundles ...[]byte) []byte {
	out, err := Merge(bundles...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// assembled is what Assemble makes of the record, events and keys of a bundle.
func assembled(bundle []byte) ([]byte, error) {
	var of struct {
		Record json.RawMessage   `json:"canonical_record"`
		Events []json.RawMessage `json:"events"`
		Keys   []json.RawMessage `json:"public_keys"`
	}
	if err := json.Unmarshal(bundle, &of); err != nil {
		return nil, err
	}
	raw := func(list []json.RawMessage) (out [][]byte) {
		for _, v := range list {
			out = append(out, v)
		}
		return out
	}
	return Assemble(of.Record, raw(of.Events), raw(of.Keys))
}

// TestAssembleRefuses: what nobody opened is no bundle.
func TestAssembleRefuses(t *testing.T) {
	l := newLab(t)
	created, graph, record := l.events[0], l.events[1], l.b.record.Canonical()
	for name, c := range map[string]struct {
		record []byte
		events [][]byte
		code   Code
	}{
		"no event":       {record, nil, CodeRecordCreated},
		"no opening":     {record, [][]byte{graph}, CodeRecordCreated},
		"another record": {edit(t, record, `"version":3`, `"version":4`), [][]byte{created}, CodeRecordCreated},
		"no record":      {[]byte(`{}`), [][]byte{created}, ""},
	} {
		_, err := Assemble(c.record, c.events, l.keys)
		var refused *RefusedError
		var check *CheckError
		switch {
		case errors.As(err, &refused) && refused.Check.Code == c.code:
		case c.code == "" && errors.As(err, &check):
		default:
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	if _, err := Assemble(record, [][]byte{[]byte("{")}, l.keys); err == nil {
		t.Error("half an event")
	}
	other := edit(t, l.keys[0], `"notes":"Pith`, `"notes":"!ith`)
	for _, keys := range [][][]byte{{other, l.keys[0]}, {l.keys[0], other}} {
		b, err := Assemble(record, l.events, keys)
		if err != nil || !bytes.Contains(b, other) || !bytes.Contains(b, []byte(`"built_at":"0001-`)) {
			t.Errorf("of two entries the smaller stays, and no bundle is older: %s %v", b, err)
		}
	}
	var refused *RefusedError
	if _, err := Keep(seed.Bundle(), func([32]byte) bool { return false }); !errors.As(err, &refused) || refused.Check.Code != CodeRecordCreated {
		t.Errorf("nothing is kept: %v", err)
	}
}

func TestMergeLaws(t *testing.T) {
	p := newPool(t)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := p.draw(t), p.draw(t), p.draw(t)
		all := merge(t, a, b, c)
		same := func(law string, got []byte) {
			if !bytes.Equal(got, all) {
				t.Fatalf("%s:\n%s\n%s", law, got, all)
			}
		}
		same("commutative", merge(t, c, a, b))
		same("commutative", merge(t, b, a, c))
		same("associative", merge(t, merge(t, a, b), c))
		same("associative", merge(t, a, merge(t, c, b)))
		same("idempotent", merge(t, all))
		same("idempotent", merge(t, all, all, b))
		same("independent of copies", merge(t, a, b, b, c, a))
		least, err := assembled(all)
		if err != nil {
			t.Fatal(err)
		}
		same("least", merge(t, all, least))
		again, err := assembled(least)
		if err != nil || !bytes.Equal(again, least) {
			t.Fatalf("assembled again:\n%s\n%s %v", least, again, err)
		}
		first := sha256.Sum256(p.events[0]) // it opens the record
		keep := map[[32]byte]bool{}
		part, err := Keep(all, func(entry [32]byte) bool {
			keep[entry] = entry == first || rapid.Bool().Draw(t, "keep")
			return keep[entry]
		})
		if err != nil {
			t.Fatal(err)
		}
		rest, err := Keep(all, func(entry [32]byte) bool { return entry == first || !keep[entry] })
		if err != nil {
			t.Fatal(err)
		}
		same("whole again", merge(t, part, rest))
		signed, err := Sign(all, bob, day)
		if err != nil {
			t.Fatal(err)
		}
		if r := Verify(signed, nil); r.Verdict() > Untrusted {
			t.Fatalf("the union is rejected: %v", r.Failures())
		}
		before, err := EventSet(all)
		after, err2 := EventSet(signed)
		if err != nil || err2 != nil || before != after {
			t.Fatalf("signing changed the set of events: %v %v", err, err2)
		}
	})
}

// TestMergeSplit: it does not matter how the events are spread over bundles.
func TestMergeSplit(t *testing.T) {
	p := newPool(t)
	l := p.labs[0]
	bundle := func(events ...[]byte) []byte {
		out, err := ada.assemble(l.b, day, append([][]byte{p.events[0]}, events...), l.keys)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var ones [][]byte
	for _, e := range p.events[1:] {
		ones = append(ones, bundle(e))
	}
	all := merge(t, ones...)
	rapid.Check(t, func(t *rapid.T) {
		parts := make([][][]byte, 3)
		for _, i := range rapid.Permutation(indexes(len(p.events)-1)).Draw(t, "order") {
			n := rapid.IntRange(0, 2).Draw(t, "part")
			parts[n] = append(parts[n], p.events[i+1])
		}
		for n := range parts { // two signatures of one event do not stand in one bundle
			seen := map[string]bool{}
			parts[n] = slices.DeleteFunc(parts[n], func(e []byte) bool {
				twice := seen[idOf(e)] && idOf(e) != ""
				seen[idOf(e)] = true
				return twice
			})
		}
		got := merge(t, append([][]byte{all}, bundle(parts[0]...), bundle(parts[1]...), bundle(parts[2]...))...)
		if !bytes.Equal(got, all) {
			t.Fatal("the parts give something else than the whole")
		}
	})
	r := Verify(mustSign(t, all), nil)
	if r.Events.Equivocations != 1 || r.Events.Invalid != 4 || r.Events.Superseded != 1 {
		t.Errorf("%+v", r.Events)
	}
	reasons := map[Code]bool{}
	for _, s := range r.History {
		reasons[s.Invalid] = true
	}
	for _, want := range []Code{CodeSupersedesSigner, CodePayloadShape, CodeEventShape, CodeEventDigest} {
		if !reasons[want] {
			t.Errorf("no event is invalid for %s: %v", want, reasons)
		}
	}
}

func mustSign(t testing.TB, bundle []byte) []byte {
	t.Helper()
	signed, err := Sign(bundle, ada, day)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestMergeRefuses(t *testing.T) {
	tampered := edit(t, seed.Bundle(), "Smoothing", "smoothing")
	var refused *RefusedError
	var failed *MergeError
	if _, err := Merge(seed.Bundle(), tampered); !errors.As(err, &failed) || failed.Index != 1 || !errors.As(err, &refused) || refused.Check.Code != CodeEventDigest {
		t.Errorf("a tampered bundle: %v", err)
	}
	if _, err := Merge(); !errors.Is(err, ErrNoBundle) {
		t.Errorf("nothing: %v", err)
	}
	// Another record needs another opening, signed by its registry.
	if _, err := Merge([]byte(`[]`)); !errors.As(err, &failed) {
		t.Errorf("no bundle: %v", err)
	}
	unsigned := merge(t, seed.Bundle())
	if _, err := Merge(edit(t, unsigned, `"event_count":2`, `"event_count":3`)); err == nil {
		t.Error("a false state was merged")
	}
}

func TestMergeOfOneKeepsWhatIsThere(t *testing.T) {
	want, err := canon.Parse(seed.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	got, err := canon.Parse(merge(t, seed.Bundle()))
	if err != nil {
		t.Fatal(err)
	}
	for v := range want.Root().Children() {
		if v.Name() != "bundle_signature" && !bytes.Equal(v.Canonical(), got.Root().Get(v.Name()).Canonical()) {
			t.Errorf("%s changed", v.Name())
		}
	}
}

func TestDiff(t *testing.T) {
	l := newLab(t)
	first := l.sign(ada, draft("correction", erratum("a1"), 1))
	base := slices.Clone(l.events)
	left := draft("correction", erratum("left"), 2)
	left.PrevEvent = first
	l.sign(ada, left)
	a := l.bundle()
	l.events = base
	right := draft("correction", erratum("right"), 2)
	right.PrevEvent = first
	l.sign(ada, right)
	b := l.bundle()

	d, err := Diff(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if d.Same() || len(d.OnlyA) != 1 || len(d.OnlyB) != 1 || !strings.Contains(string(d.OnlyA[0].Payload), "left") {
		t.Errorf("%+v", d)
	}
	if len(d.Contradictions) != 1 || !strings.Contains(d.Contradictions[0], "told each of them something else") {
		t.Errorf("contradictions: %q", d.Contradictions)
	}
	if d, err := Diff(a, merge(t, a)); err != nil || !d.Same() || len(d.Contradictions) != 0 {
		t.Errorf("with itself: %+v, %v", d, err)
	}
}

// FuzzMerge: whatever Merge takes it takes again, and nothing panics.
func FuzzMerge(f *testing.F) {
	f.Add(seed.Bundle(), seed.Bundle())
	l := newLab(f)
	l.sign(ada, draft("correction", erratum("x"), 1))
	f.Add(l.bundle(), merge(f, seed.Bundle()))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		one, err := Merge(a, b)
		if err != nil {
			return
		}
		if two, err := Merge(b, a, one); err != nil || !bytes.Equal(one, two) {
			t.Fatalf("%v", err)
		}
	})
}

func TestSignedBytes(t *testing.T) {
	bundle, ids, err := Append(seed.Bundle(), ada, day, draft("correction", erratum("x"), 0))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := canon.Parse(bundle)
	if err != nil {
		t.Fatal(err)
	}
	rotation, err := Rotate(ada, ada2, day, day, day.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	var last canon.Value
	for last = range doc.Root().Get("events").Children() {
	}
	rot, err := canon.Parse(rotation)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		signed []byte
		digest string
	}{
		{last.Canonical(), strings.TrimPrefix(ids[0], "sha256:")},
		{bundle, doc.Root().Get("bundle_signature").Get("bundle_sha256").Text()},
		{rotation, rot.Root().Get("document_sha256").Text()},
	} {
		got, err := SignedBytes(tt.signed)
		if err != nil || hexOf(string(got)) != tt.digest {
			t.Errorf("%.60s: %v", tt.signed, err)
		}
	}
	if _, err := SignedBytes([]byte(`{}`)); err == nil {
		t.Error("an empty object is signed by nobody")
	}
}

// What comes without a bundle is united like what comes in one.
func TestAdopt(t *testing.T) {
	whole, ids, err := Append(seed.Bundle(), ada, day, draft(TypeCorrection, erratum("x"), 0))
	if err != nil {
		t.Fatal(err)
	}
	_, contents := Inspect(whole, nil)
	doc, err := canon.Parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	for v := range doc.Root().Get("events").Children() {
		raw = v.Canonical() // the last one
	}
	e, err := ReadEvent(raw)
	if err != nil {
		t.Fatal(err)
	}
	if e.ID != ids[0] || e.Number != "pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM" || e.Fingerprint != ada.Public().Fingerprint() {
		t.Errorf("read %+v", e)
	}
	entry, _ := ada.Public().MarshalJSON()
	got, err := Adopt(seed.Bundle(), [][]byte{e.Canonical}, [][]byte{entry})
	if err != nil {
		t.Fatal(err)
	}
	want, err := EventSet(whole)
	if err != nil {
		t.Fatal(err)
	}
	if set, err := EventSet(got); err != nil || set != want || set != hex.EncodeToString(contents.EventSet[:]) {
		t.Errorf("event set %s %v, want %s, and Inspect says %x", set, err, want, contents.EventSet)
	}

	// Without the key the event cannot be valid, and the state says so.
	alone, err := Adopt(seed.Bundle(), [][]byte{e.Canonical}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(alone, []byte(`"reason":"signature_key"`)) {
		t.Error("an event whose key is missing is not listed as invalid")
	}
	if _, err := ReadEvent([]byte(`{"event_type":"correction"}`)); err == nil {
		t.Error("half an event was read")
	}
}
