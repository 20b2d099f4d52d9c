// Package storetest is the one suite that every store passes.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/resolver"
)

// Run puts the suite to the stores that open returns, each of them empty.
func Run(t *testing.T, open func(t *testing.T) resolver.Store) {
	for name, test := range map[string]func(*testing.T, resolver.Store){
		"commit":   testCommit,
		"conflict": testConflict,
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
