package pith

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/pith/seed"
)

var invented = Publication{
	Kind: "arxiv", ID: "2603.01234", Version: 2, SubmittedAt: time.Date(2026, 3, 2, 10, 20, 30, 0, time.UTC),
	Categories: []string{"cs.DL", "cs.LG", "cs.CR"}, License: "http://creativecommons.org/licenses/by/4.0/",
	Title: "On Readers that Agree", Abstract: "  Two readers agree\nwhen " + strings.Repeat("they must ", 60) + "agree.\n",
}

// TestOpen: a record begins with a bundle that holds an event of each type, each
// from its constructor, and reads them back as they were said.
func TestOpen(t *testing.T) {
	record, err := invented.Record()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(record), `"cross_cats_sorted":["cs.CR","cs.LG"]`) || !strings.Contains(string(record), `"title_canon_sha256":"`+hexOf("on readers that agree")+`"`) ||
		!strings.Contains(string(record), `"abstract_canon_sha256":"`+hexOf("two readers agree when "+strings.Repeat("they must ", 60)+"agree.")+`"`) {
		t.Fatalf("%s", record)
	}
	_, digest, err := Number(record)
	if err != nil {
		t.Fatal(err)
	}
	graph, err := NewGraphSnapshot(record, invented.Title, "Ada, Bob", invented.Abstract)
	if err != nil {
		t.Fatal(err)
	}
	said := []Payload{graph, ReplicationRecord{Claim: Claim{ID: "c", Text: "it holds", Source: "abstract"}, Outcome: "failed", PlanSHA256: digest, ResultsSHA256: digest}}
	var drafts []Draft
	for i, p := range said {
		d, err := NewDraft(p, day.Add(time.Duration(i)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		drafts = append(drafts, d)
	}
	bundle, ids, err := Open(record, ada, day, drafts...)
	if err != nil {
		t.Fatal(err)
	}
	r := Verify(bundle, trusting(t, ada))
	if r.Verdict() != Valid || len(r.Notes()) > 0 || len(ids) != 3 || r.Title != invented.Title || r.Completeness[4].Valid != 1 {
		t.Fatalf("%v %v %v %q", r.Verdict(), failing(r), r.Notes(), r.Title)
	}
	opening, err := NewRecordCreated(record, ada, day)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range append([]Payload{opening}, said...) {
		s := r.History[i]
		typed, ok := s.Typed()
		if !ok || s.EventID != ids[i] {
			t.Fatalf("%s %v", s.Type, ok)
		}
		for _, p := range []Payload{p, typed} {
			again, err := NewDraft(p, day)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(s.Payload), string(again.Payload)); d != "" || again.Target != s.Target {
				t.Errorf("%s about %s: %s", s.Type, again.Target, d)
			}
		}
	}
	single := invented
	single.Categories = single.Categories[:1]
	if record, err := single.Record(); err != nil || !strings.Contains(string(record), `"cross_cats_sorted":[]`) {
		t.Errorf("one category: %s %v", record, err)
	}
	if alone, ids, err := Open(record, ada, day); err != nil || len(ids) != 1 || Verify(alone, trusting(t, ada)).Verdict() != Valid {
		t.Errorf("without drafts: %v", err)
	}

	// A second registry opens the record as well, and nobody contradicts anybody.
	other, err := NewRecordCreated(record, bob, day)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDraft(other, day)
	if err != nil {
		t.Fatal(err)
	}
	both, _, err := Append(bundle, bob, day, d)
	if err != nil {
		t.Fatal(err)
	}
	if r := Verify(both, trusting(t, ada, bob)); r.Verdict() != Valid || r.Events.Equivocations != 0 {
		t.Errorf("opened twice: %v %+v", failing(r), r.Events)
	}
}

func TestOpenRefuses(t *testing.T) {
	var check *CheckError
	for _, p := range []Publication{
		{},
		{Kind: "zenodo", ID: "1", Version: 0, Categories: []string{"x"}, SubmittedAt: day},
		{Kind: "zenodo", ID: "1", Version: 1, SubmittedAt: day},
		{Kind: strings.Repeat("x", 257), ID: "1", Version: 1, Categories: []string{"x"}, SubmittedAt: day},
	} {
		_, err := p.Record()
		if !errors.As(err, &check) || check.Check.Code != CodeRecordShape {
			t.Errorf("%+v: %v", p, err)
		}
	}
	slip := invented
	slip.ID = "2603.01234v2" // the version has a member of its own
	if _, err := slip.Record(); !errors.Is(err, ErrIdentifier) {
		t.Errorf("%s: %v", slip.ID, err)
	}
	record, err := invented.Record()
	if err != nil {
		t.Fatal(err)
	}
	graph, err := NewGraphSnapshot(record, "On Writers", "", "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDraft(graph, day)
	if err != nil {
		t.Fatal(err)
	}
	var refused *RefusedError
	if _, _, err := Open(record, ada, day, d); !errors.As(err, &refused) || refused.Check.Code != CodeGraphTitle || !refused.Authored() {
		t.Errorf("another title: %v", err)
	}
	if _, _, err := Open(record, ada, day.AddDate(9000, 0, 0)); !errors.As(err, &refused) || refused.What != "the new bundle" || !refused.Authored() {
		t.Errorf("in a year that no bundle can name: %v", err)
	}
	if _, _, err := Open([]byte(`{}`), ada, day); !errors.As(err, &check) {
		t.Errorf("no record: %v", err)
	}
	var syntax *SyntaxError
	if _, _, err := Open(nil, ada, day); !errors.As(err, &syntax) {
		t.Errorf("nothing: %v", err)
	}
}

// TestRealPayloads: the typed forms lose nothing of what pith.science signed.
func TestRealPayloads(t *testing.T) {
	for _, s := range Verify(seed.Bundle(), nil).History {
		p, ok := s.Typed()
		if !ok {
			t.Fatalf("%s has no typed form", s.Type)
		}
		d, err := NewDraft(p, day)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(s.Payload), string(d.Payload)); d != "" {
			t.Errorf("%s: %s", s.Type, d)
		}
	}
}
