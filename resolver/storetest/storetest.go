// Package storetest is the one suite that every store passes.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/resolver"
)

// Run puts the suite to the stores that open returns, each of them empty.
func Run(t *testing.T, open func(t *testing.T) resolver.Store) {
	for name, test := range map[string]func(*testing.T, resolver.Store){
		"commit":       testCommit,
		"conflict":     testConflict,
		"change":       testChange,
		"look-up":      testLookUp,
		"search":       testSearch,
		"iteration":    testIteration,
		"events":       testEvents,
		"keys":         testKeys,
		"held":         testHeld,
		"meta":         testMeta,
		"lock":         testLock,
		"many writers": testWriters,
		"odd text":     testOddText,
		"cancelled":    testCancelled,
		"check":        testCheck,
		"random":       testRandom,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { _ = s.Close() })
			test(t, s)
		})
	}
}

var second = time.Date(2026, 5, 17, 23, 59, 22, 0, time.UTC)

// update makes a record with a number of events.
func update(n, events int) resolver.Update {
	suffix := fmt.Sprintf("AAAAAAAA%018d", n)
	u := resolver.Update{
		Record: resolver.Record{
			Suffix: suffix, Number: "pith:2018:" + suffix,
			Digest: sha256.Sum256([]byte("bundle " + suffix)), Size: 13_500,
			Events: sha256.Sum256([]byte("events " + suffix)), State: sha256.Sum256([]byte("state " + suffix)),
			EventCount: events, Replications: n % 2,
			Aliases: []resolver.Alias{{Kind: "arxiv", Value: fmt.Sprintf("1805.%05d", n)}, {Kind: "doi", Value: fmt.Sprintf("10.48550/arXiv.1805.%05d", n)}},
			Source:  fmt.Sprintf("arxiv:1805.%05dv3", n), Title: fmt.Sprintf("Smoothing Out Sharp Minima %d", n), Authors: "Wei Wen, Müller",
			Categories: []string{"cs.LG", "stat.ML"}, Abstract: "In Deep Learning …", Submitted: second.Add(time.Duration(n) * time.Hour), BuiltAt: second,
		},
		Bundle: []byte("gzip of " + suffix),
		Keys:   []resolver.Key{{Fingerprint: "8d4b5ee74e4693bcd1df2446408b0d54", SignerID: "pith.science", Entry: []byte("{}"), DeclaredAt: second}},
	}
	for i := range events {
		u.Events = append(u.Events, event(suffix, i))
	}
	return u
}

func event(suffix string, i int) resolver.Event {
	digest := sha256.Sum256(fmt.Appendf(nil, "event %s %d", suffix, i))
	return resolver.Event{
		ID: fmt.Sprintf("sha256:%x", digest), Suffix: suffix, SHA256: sha256.Sum256(digest[:]), Type: "graph_snapshot",
		SignerID: "pith.science", Fingerprint: "8d4b5ee74e4693bcd1df2446408b0d54", CreatedAt: second, ReceivedAt: second.Add(time.Minute),
	}
}

func commit(t *testing.T, s resolver.Store, updates ...resolver.Update) []resolver.Committed {
	t.Helper()
	got, err := s.Commit(t.Context(), updates)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func testCommit(t *testing.T, s resolver.Store) {
	ctx := context.Background()
	one, two := update(1, 2), update(2, 3)
	same(t, "committed", commit(t, s, one, two), []resolver.Committed{{Revision: 1, FirstSeq: 0}, {Revision: 2, FirstSeq: 2}})
	got, bundle, err := s.Bundle(ctx, one.Suffix)
	if err != nil {
		t.Fatal(err)
	}
	one.Revision = 1
	same(t, "record", got, one.Record)
	same(t, "bundle", string(bundle), string(one.Bundle))
	if _, err := s.Record(ctx, "AAAAAAAA"); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("a record that is not there: %v", err)
	}
	events, err := s.EventsFrom(ctx, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []resolver.Event{one.Events[1], two.Events[0]}
	want[0].Seq, want[1].Seq = 1, 2
	same(t, "events from 1", events, want)
}

func testConflict(t *testing.T, s resolver.Store) {
	commit(t, s, update(1, 2))
	fresh, stale := update(2, 1), update(1, 0)
	if _, err := s.Commit(t.Context(), []resolver.Update{fresh, stale}); !errors.Is(err, resolver.ErrConflict) {
		t.Errorf("a stale update: %v", err)
	}
	if _, err := s.Record(t.Context(), fresh.Suffix); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("half of a batch was written: %v", err)
	}
	stale.Base = 1
	same(t, "committed", commit(t, s, stale), []resolver.Committed{{Revision: 2, FirstSeq: 2}})
}

// A record that changes keeps its events and leaves nothing of its old row.
func testChange(t *testing.T, s resolver.Store) {
	ctx := t.Context()
	old := update(1, 2)
	commit(t, s, old, update(2, 1))
	u := update(1, 0)
	u.Base, u.Record.Title, u.Record.Digest, u.Bundle = 1, "Regained", sha256.Sum256([]byte("other")), []byte("other")
	u.Record.Aliases = []resolver.Alias{{Kind: "doi", Value: "10.1/NEW"}}
	u.Events = []resolver.Event{event(old.Suffix, 7)}
	same(t, "committed", commit(t, s, u), []resolver.Committed{{Revision: 3, FirstSeq: 3}})

	got, bundle, err := s.Bundle(ctx, u.Suffix)
	u.Record.Revision = 3
	same(t, "record", got, u.Record)
	same(t, "bundle and error", []any{string(bundle), err}, []any{"other", nil})
	events, err := s.RecordEvents(ctx, u.Suffix)
	var seqs []int64
	for _, e := range events {
		seqs = append(seqs, e.Seq)
	}
	same(t, "events and error", []any{seqs, err}, []any{[]int64{0, 1, 3}, nil})
	if _, err := s.ByDigest(ctx, old.Record.Digest); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("the old digest is still found: %v", err)
	}
	for alias, want := range map[resolver.Alias][]string{
		resolver.FoldAlias("arxiv", "1805.00001"):  nil,
		resolver.FoldAlias("doi", "10.1/new"):      {u.Suffix},
		resolver.FoldAlias("arxiv", "1805.00002"):  {update(2, 0).Suffix},
		resolver.FoldAlias("nothing", "of a kind"): nil,
	} {
		found, err := s.ByAlias(ctx, alias.Kind, alias.Value, 10)
		same(t, "alias "+alias.Value, []any{found, err}, []any{want, nil})
	}
	if found, _, err := s.Search(ctx, "smoothing", 10, 0); err != nil || len(found) != 1 || found[0].Suffix != update(2, 0).Suffix {
		t.Errorf("words of the old title find %d records, %v", len(found), err)
	}
	changed, err := s.ChangedAfter(ctx, 1, 10)
	if err != nil || len(changed) != 2 || changed[0].Revision != 2 || changed[1].Revision != 3 {
		t.Errorf("changed: %+v %v", changed, err)
	}

	// An event that is there already spoils the whole batch.
	u.Base = 3
	if _, err := s.Commit(ctx, []resolver.Update{update(4, 1), u}); err == nil {
		t.Error("an event was accepted twice")
	}
	counts, err := s.Counts(ctx)
	same(t, "counts and error", []any{counts, err}, []any{resolver.Counts{Records: 2, Events: 4, Keys: 1, Revision: 3}, nil})
}

func testLookUp(t *testing.T, s resolver.Store) {
	ctx := t.Context()
	one, two, ten := update(1, 1), update(2, 1), update(10, 1)
	ten.Record.Aliases = one.Record.Aliases
	commit(t, s, two, one, ten)
	for _, tt := range []struct {
		prefix string
		limit  int
		want   []string
	}{
		{"AAAAAAAA", 10, []string{one.Suffix, two.Suffix, ten.Suffix}},
		{"AAAAAAAA", 2, []string{one.Suffix, two.Suffix}},
		{one.Suffix, 2, []string{one.Suffix}},
		{"B", 2, nil},
	} {
		got, err := s.Resolve(ctx, tt.prefix, tt.limit)
		same(t, "resolve "+tt.prefix, []any{got, err}, []any{tt.want, nil})
	}
	got, err := s.ByAlias(ctx, "doi", "10.48550/arxiv.1805.00001", 10)
	same(t, "alias", []any{got, err}, []any{[]string{one.Suffix, ten.Suffix}, nil})
	suffix, err := s.ByDigest(ctx, two.Record.Digest)
	same(t, "digest", []any{suffix, err}, []any{two.Suffix, nil})
	e, err := s.Event(ctx, two.Events[0].ID)
	same(t, "event", []any{e, err}, []any{two.Events[0], nil})
	if _, err := s.Event(ctx, "sha256:00"); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("no event: %v", err)
	}
	stored, err := s.Bundles(ctx, []string{one.Suffix, "BBBB", two.Suffix})
	if err != nil || len(stored) != 2 {
		t.Errorf("bundles: %d, %v", len(stored), err)
	}
}

func testSearch(t *testing.T, s resolver.Store) {
	ctx := t.Context()
	a, b := update(1, 1), update(2, 1)
	b.Record.Title, b.Record.Authors, b.Record.Categories = "Quantum Things", "Ada Lovelace", []string{"quant-ph", "q&bio", "a<b", "say \"hi\"\nthere"}
	c := update(3, 1)
	c.Record.Title = "Cafe\u0301s \uFB01nies Ελλάδα Łódź İstanbul हिन्दी 한국어 a\U0001E900b\x00nul ½"
	c.Record.Authors = strings.Repeat("x", 5000) + " Йорк"
	c.Record.Abstract = strings.Repeat("many ", 20_000) + "words" // too many to be found
	commit(t, s, a, b, c)
	for _, tt := range []struct {
		query string
		want  []string
	}{
		{"smoothing", []string{a.Suffix}},
		{"SHARP smooth", []string{a.Suffix}}, // any case, beginnings of words
		{"lovelace quantum", []string{b.Suffix}},
		{"quant-ph", []string{b.Suffix}},
		{"q&bio", []string{b.Suffix}},
		{"bio there", []string{b.Suffix}}, // how categories are stored makes no difference
		{"u0026bio", nil},
		{"lovelace smoothing", nil}, // all words
		{"moothing", nil},           // but not their ends
		{"Müller", []string{a.Suffix}},
		{"MULLER", []string{a.Suffix}}, // accents make no difference
		{"Mu\u0308ller wei", []string{a.Suffix}},
		{"cafés", []string{c.Suffix}},
		{"cafe\u0301s finies", []string{c.Suffix}},
		{"ελλαδα ΕΛΛΆΔΑ", []string{c.Suffix}},
		{"Łodz istanbul", []string{c.Suffix}},
		{"lodz", nil}, // a stroke is no accent
		{"йорк Йорк иорк", []string{c.Suffix}},
		{"हिन्दी", []string{c.Suffix}},
		{"हन्दी", nil}, // a vowel is no accent
		{"한국", []string{c.Suffix}},
		{"하", nil},
		{"a\U0001E900b nul 1", []string{c.Suffix}},
		{strings.Repeat("x", 5000) + " many", []string{c.Suffix}},
		{"words", nil},
		{"1805.00001", nil}, // names are looked up, not searched
		{"\x00", nil},
		{`" OR title:* NEAR( -x`, nil}, // no syntax gets through
		{"' OR 1=1; --", nil},
		{"& | ! <-> :*", nil},
		{"", nil},
	} {
		found, total, err := s.Search(ctx, tt.query, 10, 0)
		if err != nil {
			t.Errorf("search %q: %v", tt.query, err)
		}
		var got []string
		for _, r := range found {
			got = append(got, r.Suffix)
		}
		same(t, "search "+tt.query, []any{got, total}, []any{tt.want, len(tt.want)})
	}
	b2 := update(2, 0)
	b2.Base, b2.Record.Title = 2, "Regained smoothing"
	commit(t, s, b2)
	if found, total, err := s.Search(ctx, "quantum", 10, 0); err != nil || total != 0 || len(found) != 0 {
		t.Errorf("the old words of a record find %d, %v", total, err)
	}
	found, total, err := s.Search(ctx, "smoothing", 10, 0)
	if err != nil || total != 2 || len(found) != 2 {
		t.Errorf("smoothing: %d of %d, %v", len(found), total, err)
	}
	if found, total, err := s.Search(ctx, "smoothing", 10, 2); err != nil || total != 2 || len(found) != 0 {
		t.Errorf("behind the end: %d of %d, %v", len(found), total, err)
	}
	first, total, err := s.Search(ctx, "deep", 1, 0)
	second, _, err2 := s.Search(ctx, "deep", 1, 1)
	if err != nil || err2 != nil || total != 2 || len(first) != 1 || len(second) != 1 || first[0].Suffix == second[0].Suffix {
		t.Errorf("pages: %d of %d, then %d, %v %v", len(first), total, len(second), err, err2)
	}
}

func testIteration(t *testing.T, s resolver.Store) {
	ctx := t.Context()
	var want []resolver.Fingerprint
	for i := 1; i <= 5; i++ {
		u := update(i, 1)
		commit(t, s, u)
		want = append(want, resolver.Fingerprint{Suffix: u.Suffix, Events: u.Record.Events, State: u.Record.State})
	}
	var got []resolver.Fingerprint
	err := s.Fingerprints(ctx, "AAAAAAAA", func(f resolver.Fingerprint) error { got = append(got, f); return nil })
	same(t, "fingerprints", []any{got, err}, []any{want, nil})
	stop := errors.New("enough")
	if err := s.Fingerprints(ctx, "", func(resolver.Fingerprint) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped: %v", err)
	}
	var suffixes []string
	for after := ""; ; {
		page, err := s.Records(ctx, "", after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			suffixes = append(suffixes, r.Suffix)
		}
		after = page[len(page)-1].Suffix
	}
	if len(suffixes) != 5 || suffixes[4] != want[4].Suffix {
		t.Errorf("records: %v", suffixes)
	}
	if page, err := s.Records(ctx, want[2].Suffix, "", 9); err != nil || len(page) != 1 {
		t.Errorf("records below a suffix: %d, %v", len(page), err)
	}
}

func testEvents(t *testing.T, s resolver.Store) {
	ctx := t.Context()
	u := update(1, 3)
	u.Events[1].Invalid, u.Events[1].ID = "event_digest", u.Events[0].ID // an invalid event may claim any id
	u.Events[2].ID = ""
	u.Cites = []resolver.Citation{{Kind: "arxiv", ID: "2001.00001", Suffix: u.Suffix, EventID: u.Events[0].ID, Relation: "extends"}}
	commit(t, s, update(2, 2), u)
	e, err := s.Event(ctx, u.Events[0].ID)
	if err != nil || e.Seq != 2 {
		t.Errorf("the valid event of an id: %+v %v", e, err)
	}
	recent, err := s.RecentEvents(ctx, 0, 2)
	if err != nil || len(recent) != 2 || recent[0].Seq != 4 || recent[1].Seq != 3 {
		t.Errorf("recent: %+v %v", recent, err)
	}
	recent, err = s.RecentEvents(ctx, 2, 9)
	if err != nil || len(recent) != 2 || recent[0].Seq != 1 {
		t.Errorf("before 2: %+v %v", recent, err)
	}
	cites, err := s.Citations(ctx, "arxiv", "2001.00001", 9)
	want := u.Cites[0]
	want.Seq = 2
	same(t, "citations", []any{cites, err}, []any{[]resolver.Citation{want}, nil})
	later := update(1, 3) // one of an event that is there, whose number the caller knows
	later.Base, later.Events = 2, nil
	all := []resolver.Citation{want}
	for _, seq := range []int64{4, 3} {
		c := resolver.Citation{Kind: "arxiv", ID: "2001.00001", Suffix: u.Suffix, EventID: "sha256:later", Relation: "extends", Seq: seq}
		all, later.Cites = slices.Insert(all, 1, c), []resolver.Citation{c}
		later.Base = commit(t, s, later)[0].Revision
	}
	cites, err = s.Citations(ctx, "arxiv", "2001.00001", 9)
	same(t, "citations", []any{cites, err}, []any{all, nil})
	if past, err := s.EventsFrom(ctx, 99, 9); err != nil || len(past) != 0 {
		t.Errorf("events past the end: %v %v", past, err)
	}
}

func testKeys(t *testing.T, s resolver.Store) {
	ctx := t.Context()
	b := resolver.Key{Fingerprint: "bb", SignerID: "bob", Entry: []byte(`{"b":1}`), DeclaredAt: second}
	a := resolver.Key{Fingerprint: "aa", SignerID: "", Entry: []byte(`{}`), DeclaredAt: second}
	put := func(k resolver.Key, forget time.Time) {
		t.Helper()
		if err := s.PutKey(ctx, k, forget); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []resolver.Key{b, a, {Fingerprint: "bb", SignerID: "eve", Entry: []byte("x"), DeclaredAt: second}} {
		put(k, second)
	}
	got, err := s.Key(ctx, "bb")
	same(t, "key", []any{got, err}, []any{b, nil})
	keys, err := s.Keys(ctx, "", 10)
	same(t, "keys", []any{keys, err}, []any{[]resolver.Key{a, b}, nil})
	if _, err := s.Key(ctx, "cc"); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("no key: %v", err)
	}
	if c, err := s.Counts(ctx); err != nil || c.Keys != 2 {
		t.Errorf("counts %+v %v", c, err)
	}

	// Of five old keys one was declared again, one waits for a moderator, two have
	// come in a bundle; nothing came of the fifth.
	for _, name := range []string{"cc", "dd", "ee"} {
		put(resolver.Key{Fingerprint: name, SignerID: name, Entry: []byte(`{}`), DeclaredAt: second}, second)
	}
	later := resolver.Key{Fingerprint: "aa", Entry: []byte(`{}`), DeclaredAt: second.Add(time.Hour)}
	put(later, second) // declared again
	if _, _, err := s.PutHeld(ctx, resolver.Held{Status: resolver.Queued, Signer: "cc", Data: []byte("x"), ReceivedAt: second}); err != nil {
		t.Fatal(err)
	}
	u, v := update(1, 0), update(2, 0)
	u.Keys = []resolver.Key{{Fingerprint: "dd", SignerID: "dora", Entry: []byte(`{}`), DeclaredAt: second}, later}
	v.Keys = u.Keys
	commit(t, s, u, v)
	put(resolver.Key{Fingerprint: "ff", SignerID: "f", Entry: []byte(`{}`), DeclaredAt: second.Add(2 * time.Hour)}, second.Add(time.Second))
	put(resolver.Key{Fingerprint: "dd", SignerID: "d", Entry: []byte(`{}`), DeclaredAt: second.Add(2 * time.Hour)}, second) // a bundle has it: nothing changes
	keys, err = s.Keys(ctx, "", 10)
	var left []string
	for _, k := range keys {
		left = append(left, k.Fingerprint+" "+k.SignerID+" "+k.DeclaredAt.Format("15:04"))
	}
	at := func(d time.Duration) string { return second.Add(d).Format("15:04") }
	same(t, "keys of which something came, and new ones", []any{left, err}, []any{[]string{"aa  " + at(time.Hour), "cc cc " + at(0), "dd dd " + at(0), "ff f " + at(2*time.Hour)}, nil})
	if c, err := s.Counts(ctx); err != nil || c.Keys != 4 {
		t.Errorf("counts %+v %v", c, err)
	}
}

func testHeld(t *testing.T, s resolver.Store) {
	ctx := t.Context()
	h := resolver.Held{Status: resolver.Refused, Digest: sha256.Sum256([]byte("x")), SHA256: sha256.Sum256([]byte("bytes")), Code: "event_digest", Detail: "no", From: "::1", ReceivedAt: second, Data: []byte("gzip")}
	put := func(h resolver.Held) (int64, resolver.Status) {
		t.Helper()
		id, now, err := s.PutHeld(ctx, h)
		if err != nil {
			t.Fatal(err)
		}
		return id, now
	}
	if id, now, err := s.FindHeld(ctx, h.Digest); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("found before it is there: %d %s %v", id, now, err)
	}
	id, _ := put(h)
	if found, now, err := s.FindHeld(ctx, h.Digest); err != nil || found != id || now != resolver.Refused {
		t.Errorf("found: %d %s %v, want %d", found, now, err, id)
	}
	h.Status, h.Code, h.Signer = resolver.Queued, "trust_key", "aa" // the key was declared meanwhile
	h.From, h.ReceivedAt, h.Suffix = "::2", second.Add(time.Hour), "CWPYLZDW7AWAX7TQ5ZRNS3OHEM"
	if again, now := put(h); again != id || now != resolver.Queued {
		t.Errorf("again: %d is %s, want %d", again, now, id)
	}
	h.Status = resolver.Refused
	if _, now := put(h); now != resolver.Queued {
		t.Errorf("what waits was made %s", now)
	}
	got, err := s.HeldByID(ctx, id)
	h.ID, h.Status = id, resolver.Queued
	same(t, "held", []any{got, err}, []any{h, nil})
	if c, err := s.Counts(ctx); err != nil || c.Queued != 1 || c.Refused != 0 {
		t.Errorf("counts %+v %v", c, err)
	}
	if err := s.MoveHeld(ctx, id, resolver.Queued, resolver.Rejected, "moderated", "spam"); err != nil {
		t.Fatal(err)
	}
	if err := s.MoveHeld(ctx, id, resolver.Queued, resolver.Accepted, "", ""); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("moved twice: %v", err)
	}
	if _, now := put(h); now != resolver.Rejected {
		t.Errorf("what was rejected is %s again", now)
	}
	list, err := s.Held(ctx, resolver.Rejected, 0, 10)
	if err != nil || len(list) != 1 || list[0].Detail != "spam" || len(list[0].Data) != 0 {
		t.Errorf("rejected: %+v %v", list, err)
	}
	if _, err := s.HeldByID(ctx, 99); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("nothing held: %v", err)
	}

	// What is known by something else than its bytes.
	sum := func(text string) resolver.Digest { return sha256.Sum256([]byte(text)) }
	again := resolver.Held{Status: resolver.Queued, Digest: sum("packed"), SHA256: sum("one"), Code: "trust_key", Signer: "aa", ReceivedAt: second, Data: []byte("1")}
	id, _ = put(again)
	for _, digest := range []resolver.Digest{again.Digest, again.SHA256} {
		if found, now, err := s.FindHeld(ctx, digest); err != nil || found != id || now != resolver.Queued {
			t.Errorf("found: %d %s %v, want %d", found, now, err, id)
		}
	}
	again.Digest, again.Code, again.Signer = sum("less"), "trust_bundle", "bb" // the same bytes wait for something else now
	if other, now := put(again); other != id || now != resolver.Queued {
		t.Errorf("for something else: %d is %s, want %d", other, now, id)
	}
	got, err = s.HeldByID(ctx, id)
	again.ID = id
	same(t, "held for something else", []any{got, err}, []any{again, nil})
	if err := s.MoveHeld(ctx, id, resolver.Queued, resolver.Accepted, "trust_bundle", ""); err != nil {
		t.Fatal(err)
	}
	if _, now := put(again); now != resolver.Accepted {
		t.Errorf("what was accepted is %s", now)
	}
	again.Digest = sum("packing")
	if other, now := put(again); other != id || now != resolver.Queued {
		t.Errorf("the same bytes for something else are %s as %d, want %d", now, other, id)
	}
	if err := s.MoveHeld(ctx, id, resolver.Queued, resolver.Accepted, "trust_bundle", ""); err != nil {
		t.Fatal(err)
	}
	again.SHA256, again.Data = sum("two"), []byte("2")
	if other, now := put(again); other != id || now != resolver.Queued {
		t.Errorf("other bytes of what was accepted are %s as %d, want %d", now, other, id)
	}
	got, err = s.HeldByID(ctx, id)
	same(t, "held again", []any{got, err}, []any{again, nil})
}

func testMeta(t *testing.T, s resolver.Store) {
	ctx := t.Context()
	for key, value := range map[string]string{"a/1": "x", "a/2": "", "b": "z"} {
		if err := s.SetMeta(ctx, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetMeta(ctx, "a/1", []byte("y")); err != nil {
		t.Fatal(err)
	}
	v, err := s.Meta(ctx, "a/1")
	same(t, "meta", []any{string(v), err}, []any{"y", nil})
	keys, err := s.MetaKeys(ctx, "a/")
	same(t, "keys", []any{keys, err}, []any{[]string{"a/1", "a/2"}, nil})
	if err := s.SetMeta(ctx, "a/1", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Meta(ctx, "a/1"); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
}

func testLock(t *testing.T, s resolver.Store) {
	var group sync.WaitGroup
	inside, most := 0, 0
	for range 8 {
		group.Go(func() {
			err := s.Lock(context.Background(), "log", func(context.Context) error {
				inside++ // the race detector would see two at once
				most = max(most, inside)
				inside--
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if most != 1 {
		t.Errorf("%d were inside at once", most)
	}
	stop := errors.New("stop")
	err := s.Lock(t.Context(), "log", func(ctx context.Context) error {
		return s.Lock(ctx, "mirror/another", func(context.Context) error { return stop })
	})
	if !errors.Is(err, stop) {
		t.Errorf("the function's error: %v", err)
	}
}

// Sequence numbers and revisions stay dense whoever writes.
func testWriters(t *testing.T, s resolver.Store) {
	ctx := context.Background()
	const writers, each = 4, 8
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				if _, err := s.Commit(ctx, []resolver.Update{update(1000*w+i, 2), update(1000*w+100+i, 1)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	events, err := s.EventsFrom(ctx, 0, 10_000)
	if err != nil || len(events) != writers*each*3 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for i, e := range events {
		if e.Seq != int64(i) {
			t.Fatalf("event %d has the number %d", i, e.Seq)
		}
	}
	changed, err := s.ChangedAfter(ctx, 0, 10_000)
	if err != nil || len(changed) != writers*each*2 || changed[len(changed)-1].Revision != writers*each*2 {
		t.Errorf("%d changes, %v", len(changed), err)
	}
}

// Text is kept as it is, whatever is in it.
func testOddText(t *testing.T, s resolver.Store) {
	u := update(1, 1)
	u.Record.Title = "a 'quoted' \"title\" \u2028 \U0001F600 \\ %s ; DROP TABLE record \x00 \x1a \x1a0 \r\n\t"
	u.Record.Authors, u.Record.Categories, u.Record.Aliases, u.Record.Submitted = "", nil, nil, time.Time{}
	long := strings.Repeat("€", 100_000) // what is looked up may be longer than a page of an index
	u.Record.Aliases = []resolver.Alias{{Kind: "other", Value: long}, {Kind: "other", Value: "\x00"}}
	u.Events[0].ID, u.Events[0].Type, u.Events[0].SignerID = "not a digest", "t\x00", "s\x1a"
	claims := event(u.Suffix, 1)
	claims.ID, claims.Invalid = long, "event_id"
	u.Events = append(u.Events, claims)
	u.Cites = []resolver.Citation{{Kind: "other", ID: long, Suffix: u.Suffix, EventID: "not a digest", Relation: "\x00"}}
	commit(t, s, u)
	got, err := s.Record(t.Context(), u.Suffix)
	u.Record.Revision = 1
	same(t, "record", []any{got, err}, []any{u.Record, nil})
	e, err := s.Event(t.Context(), "not a digest")
	same(t, "event", []any{e, err}, []any{u.Events[0], nil})
	e, err = s.Event(t.Context(), long)
	claims.Seq = 1
	same(t, "event of a long id", []any{e, err}, []any{claims, nil})
	cites, err := s.Citations(t.Context(), "other", long, 9)
	same(t, "citations", []any{cites, err}, []any{u.Cites, nil})
	for _, value := range []string{long, "\x00"} {
		found, err := s.ByAlias(t.Context(), "other", value, 9)
		same(t, "alias", []any{found, err}, []any{[]string{u.Suffix}, nil})
	}
	if err := s.SetMeta(t.Context(), "odd/\x00\x1a", []byte("\x00")); err != nil {
		t.Fatal(err)
	}
	keys, err := s.MetaKeys(t.Context(), "odd/")
	same(t, "small values", []any{keys, err}, []any{[]string{"odd/\x00\x1a"}, nil})
	h := resolver.Held{Status: resolver.Refused, Detail: "\x00", From: "\x1a", Code: "x", ReceivedAt: second, Data: []byte{0}}
	id, _, err := s.PutHeld(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	h.ID = id
	held, err := s.HeldByID(t.Context(), id)
	same(t, "held", []any{held, err}, []any{h, nil})
}

func testCancelled(t *testing.T, s resolver.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, []resolver.Update{update(1, 1)}); err == nil {
		t.Error("a cancelled commit succeeded")
	}
	if c, err := s.Counts(t.Context()); err != nil || c.Records != 0 {
		t.Errorf("counts %+v %v", c, err)
	}
	commit(t, s, update(1, 1)) // and the next one works
}

func testCheck(t *testing.T, s resolver.Store) {
	commit(t, s, update(1, 2), update(2, 1))
	if _, _, err := s.PutHeld(t.Context(), resolver.Held{Status: resolver.Queued, ReceivedAt: second}); err != nil {
		t.Fatal(err)
	}
	err := s.Check(t.Context(), func(p resolver.Problem) { t.Errorf("a sound store: %v", p) })
	if err != nil {
		t.Error(err)
	}
}
