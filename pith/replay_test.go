package pith

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/pith/internal/canon"
)

// crowded has every kind of event there is to merge: chains, replacements,
// equivocation, gaps, unknown types, and invalid ones of several kinds.
func crowded(t testing.TB) *lab {
	l := newLab(t)
	first := l.sign(ada, draft("replication_record", replication, 5))
	second := draft("replication_record", replication, 1) // older than what it replaces
	second.Supersedes, second.PrevEvent = []string{first}, first
	l.sign(ada, second)
	fork := draft("correction", `{"text":"fork"}`, 9)
	fork.PrevEvent = first // the same prev_event as second's
	l.sign(ada, fork)
	gap := draft("mirror_hint", `{}`, 2)
	gap.PrevEvent = "sha256:" + strings.Repeat("0", 64)
	l.sign(bob, gap)
	l.sign(bob, draft("something_new", `{"x":1e16}`, 3))
	l.sign(bob, draft("something_new", `{"x":2}`, 3)) // at the same time: the id decides
	foreign := draft("correction", `{}`, 4)
	foreign.Supersedes = []string{first}
	bad := l.sign(bob, foreign)
	onBad := draft("correction", `{"n":2}`, 4)
	onBad.Supersedes = []string{bad} // its target is invalid
	l.sign(bob, onBad)
	stolen := draft("correction", `{}`, 6)
	stolen.PrevEvent = first
	l.sign(bob, stolen)
	l.sign(bob, draft("replication_record", `{"schema":"replication_record/1"}`, 7))
	l.events = append(l.events, []byte(`{"event_id":"sha256:34a2"}`), []byte(`17`))
	return l
}

func TestReplay(t *testing.T) {
	r := Verify(crowded(t).bundle(), trusting(t, ada, bob))
	if r.Verdict() != Valid {
		t.Fatalf("%v: %v", r.Verdict(), failing(r))
	}
	if d := cmp.Diff(EventCounts{Total: 14, Valid: 8, Invalid: 6, Superseded: 1, Equivocations: 1}, r.Events); d != "" {
		t.Error(d)
	}
	var applied []string
	reasons := map[string]int{}
	for _, s := range r.History {
		if s.Invalid != "" {
			reasons[string(s.Invalid)]++
			continue
		}
		applied = append(applied, s.Type)
	}
	// The replacement was dated before what it replaces, and still follows it.
	if d := cmp.Diff([]string{"record_created", "graph_snapshot", "mirror_hint", "something_new", "something_new", "replication_record", "replication_record", "correction"}, applied); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]int{"supersedes_signer": 1, "supersedes_target": 1, "prev_event_signer": 1, "payload_shape": 1, "event_shape": 2}, reasons); d != "" {
		t.Error(d)
	}
	gaps := 0
	for _, c := range r.Notes() {
		if c.Code == CodePrevMissing {
			gaps++
		}
	}
	if gaps != 1 {
		t.Errorf("%d gaps, want 1", gaps)
	}
}

func TestProjection(t *testing.T) {
	doc, err := canon.Parse(crowded(t).bundle())
	if err != nil {
		t.Fatal(err)
	}
	state := doc.Root().Get("state")
	got := map[string]int{}
	for list := range state.Get("current").Children() {
		if list.Kind() == canon.Array {
			got[list.Name()] = list.Len()
		}
	}
	want := map[string]int{
		"source_aliases": 6, "graph_snapshots": 1, "author_attestations": 0, "timestamp_anchors": 0, "storage_attestations": 0,
		"citation_signatures": 0, "replication_records": 1, "corrections": 1, "mirror_hints": 1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if n := state.Get("equivocations").Len(); n != 1 {
		t.Errorf("%d equivocations", n)
	}
}

// TestInvalidEventsMustBeDeclared: a bundle may hold invalid events only as
// long as its state says so.
func TestInvalidEventsMustBeDeclared(t *testing.T) {
	l := newLab(t)
	l.sign(ada, draft("replication_record", `{"schema":"replication_record/1"}`, 1))
	good := l.bundle()
	if r := Verify(good, trusting(t, ada)); r.Verdict() != Valid || r.Events.Invalid != 1 {
		t.Fatalf("%v %+v: %v", r.Verdict(), r.Events, failing(r))
	}
	r := Verify(edit(t, good, `"reason":"payload_shape"`, `"reason":"event_subject"`), trusting(t, ada))
	got := failing(r)
	if r.Verdict() != Rejected || got[0] != "payload_shape" {
		t.Errorf("%v: %v", r.Verdict(), got)
	}
}

func TestReissuedRecord(t *testing.T) {
	l := newLab(t)
	payload := string(l.b.events[0].value.Get("payload").Canonical())
	// ada repeats the registry's opening: its receipt is not hers.
	l.sign(ada, draft("record_created", payload, 1))
	r := Verify(l.bundle(), trusting(t, ada))
	if r.Verdict() != Valid || r.Events.Invalid != 1 {
		t.Fatalf("%v %+v: %v", r.Verdict(), r.Events, failing(r))
	}

	// With a receipt of her own she may; the earliest opening stands.
	l = newLab(t)
	for i, state := range []string{"computed", "recomputed"} {
		receipt := ada.sign(signsRecord, l.b.record.Digest(), day,
			canon.Member{Name: "kind", Value: canon.Quote("pith_receipt")},
			canon.Member{Name: "receipt_version", Value: canon.Quote("0.3")},
			canon.Member{Name: "builder_version", Value: canon.Quote("test")},
			canon.Member{Name: "canonical_sha256", Value: canon.Quote(l.b.record.sha256)},
			canon.Member{Name: "first_computed_at", Value: canon.Quote("2026-06-01T12:00:00Z")},
			canon.Member{Name: "last_reissued_at", Value: canon.Quote("2026-06-01T12:00:00Z")})
		old := l.b.events[0].value.Get("payload")
		var members []canon.Member
		for m := range old.Children() {
			members = append(members, canon.Member{Name: m.Name(), Value: m.Canonical()})
			switch m.Name() {
			case "receipt":
				members[len(members)-1].Value = receipt
			case "attestation_state":
				members[len(members)-1].Value = canon.Quote(state)
			}
		}
		l.sign(ada, draft("record_created", string(canon.Build(members...)), i))
	}
	bundle := l.bundle()
	r = Verify(bundle, trusting(t, ada))
	if r.Verdict() != Valid || r.Events.Valid != 4 || r.Events.Equivocations != 1 {
		t.Fatalf("%v %+v: %v", r.Verdict(), r.Events, failing(r))
	}
	var file struct {
		State struct {
			Current struct {
				Created  struct{ Signer map[string]string } `json:"record_created"`
				Reissues []any                              `json:"record_reissues"`
			}
			Equivocations []struct{ Kind string }
		}
	}
	if err := json.Unmarshal(bundle, &file); err != nil {
		t.Fatal(err)
	}
	if c := file.State.Current; c.Created.Signer["signer_id"] != "pith.science" || len(c.Reissues) != 2 || file.State.Equivocations[0].Kind != "record_created" {
		t.Errorf("%+v", file.State)
	}
}

func TestDuplicates(t *testing.T) {
	l := newLab(t)
	l.sign(ada, draft("correction", `{}`, 1))
	l.events = append(l.events, l.events[2])
	r := Verify(l.bundle(), trusting(t, ada))
	if d := cmp.Diff([]string{"event_duplicate"}, failing(r)); d != "" {
		t.Error(d)
	}
	if r.Events.Total != 3 {
		t.Errorf("a copy was counted: %+v", r.Events)
	}
}

func TestAliasesJoin(t *testing.T) {
	parse := func(s string) canon.Value {
		doc, err := canon.Parse([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return doc.Root()
	}
	a := parse(`[{"alias_kind":"b","alias_value":"1","created_at":"2026-01-02T00:00:00Z"},{"alias_kind":"a","alias_value":"2","created_at":"2026-01-01T00:00:00Z"}]`)
	b := parse(`[{"alias_kind":"b","alias_value":"1","created_at":"2026-01-01T00:00:00Z"},{"alias_kind":"a","alias_value":"1","created_at":"2026-01-03T00:00:00Z"}]`)
	want := `[{"alias_kind":"a","alias_value":"1","created_at":"2026-01-03T00:00:00Z"},{"alias_kind":"a","alias_value":"2","created_at":"2026-01-01T00:00:00Z"},{"alias_kind":"b","alias_value":"1","created_at":"2026-01-01T00:00:00Z"}]`
	if got := joinAliases(a, b); string(got) != want || !bytes.Equal(got, joinAliases(b, a, a)) {
		t.Errorf("got %s", got)
	}
}

// TestCopies: a set has no copies, and of two signatures on one event the
// earlier one stays, whoever comes first.
func TestCopies(t *testing.T) {
	l := newLab(t)
	d := draft("correction", `{}`, 1)
	early, id, err := ada.signEvent(d, l.b.record.number, day)
	if err != nil {
		t.Fatal(err)
	}
	late, _, err := ada.signEvent(d, l.b.record.number, day.AddDate(0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := canon.Parse(canon.BuildArray(l.keys...))
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][][]byte{{early, late}, {late, early}, {late, early, late, early}} {
		var c checks
		ring := c.keyring(c.root(), keys.Root())
		var events []*event
		for _, raw := range order {
			doc, err := canon.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			e := &event{value: doc.Root(), path: c.root()}
			c.event(e, l.b.record, ring)
			events = append(events, e)
		}
		c.settle()
		c.reasons(events)
		h := replay(events)
		if len(h.applied) != 1 || len(h.invalid) != 0 || h.applied[0].id != id || !bytes.Equal(h.applied[0].value.Canonical(), early) {
			t.Errorf("%d applied, %d invalid, or not the earlier signature", len(h.applied), len(h.invalid))
		}
	}
}
