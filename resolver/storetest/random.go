package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
)

// testRandom puts the same calls to a store and to the plainest one, and asks that
// they answer alike.
func testRandom(t *testing.T, a resolver.Store) {
	const seed, steps = 1, 400
	ctx, b, r := t.Context(), memstore.New(), rand.New(rand.NewPCG(seed, 0))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	texts := []string{"", "alpha beta", "Beta\x00gamma", "\x1a0", "ΑΛΦΑ İx", "q&bio", "a'b\"c", "%_", "\u2028", "Zürich αλφα", "日本語 テキスト", "ﬁne ½ ǆ", "'quoted':* & |"}
	suffix := func() string {
		return strings.Repeat(pick("A", "B", "C", "Z"), 24) + pick("A", "7") + pick("2", "3", "Z")
	}
	date := func() time.Time {
		return []time.Time{{}, second, second.Add(-time.Hour), time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)}[r.IntN(7)]
	}
	digest := func() resolver.Digest { return sha256.Sum256([]byte{byte(r.IntN(20))}) }
	eventID := func() string {
		return pick(fmt.Sprintf("sha256:%x", digest()), fmt.Sprintf("sha256:%X", digest()), "", "x", "sha256:", "\x00", "sha256:"+strings.Repeat("é", 32), strings.Repeat("a", 100))
	}
	revisions := map[string]int64{}
	limit := func() int { return []int{1, 2, 3, 100}[r.IntN(4)] }
	number := func() int64 { return []int64{0, 1, 2, 3, 5, 8, -1, math.MaxInt64, math.MinInt64}[r.IntN(9)] }
	seq := int64(0)
	same := func(what string, got, want any, gotErr, wantErr error) {
		t.Helper()
		for _, known := range []error{resolver.ErrNotFound, resolver.ErrConflict} {
			if errors.Is(gotErr, known) != errors.Is(wantErr, known) {
				t.Fatalf("%s: error %v and %v", what, gotErr, wantErr)
			}
		}
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("%s: error %v and %v", what, gotErr, wantErr)
		}
		if gotErr != nil {
			return
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", what, diff)
		}
	}
	for step := range steps {
		what := func(format string, args ...any) string {
			return fmt.Sprintf("seed %d step %d: ", seed, step) + fmt.Sprintf(format, args...)
		}
		switch r.IntN(24) {
		case 0, 1, 2, 3, 4, 5:
			var ups []resolver.Update
			for range 1 + r.IntN(3) {
				s := suffix()
				if slices.ContainsFunc(ups, func(u resolver.Update) bool { return u.Suffix == s }) {
					continue
				}
				u := resolver.Update{Base: revisions[s], Bundle: []byte(pick(texts...)), Record: resolver.Record{
					Suffix: s, Number: "pith:2018:" + s, Digest: sha256.Sum256(fmt.Append(nil, s, r.IntN(3))), Size: r.IntN(100), Events: digest(), State: digest(), United: r.IntN(2) == 0,
					EventCount: r.IntN(5), Replications: r.IntN(3), Source: pick(texts...), Title: pick(texts...), Authors: pick(texts...), Abstract: pick(texts...), Submitted: date(), BuiltAt: date(),
				}}
				for range r.IntN(3) {
					u.Aliases = append(u.Aliases, resolver.Alias{Kind: pick("doi", "DOI ", "arxiv", "\x00", ""), Value: pick(append(texts, "10.1/x", "https://doi.org/10.1/X", "arXiv:1")...)})
					u.Categories = append(u.Categories, pick(texts...))
				}
				if r.IntN(10) == 0 {
					u.Base = int64(r.IntN(10))
				}
				for range r.IntN(4) {
					e := resolver.Event{ID: eventID(), Suffix: s, SHA256: sha256.Sum256(fmt.Append(nil, r.IntN(200))), Type: pick("citation_signature", "x\x00"), SignerID: pick(texts...), Fingerprint: pick("aa", "bb"), CreatedAt: date(), ReceivedAt: date(), Invalid: pick("", "", "bad")}
					if r.IntN(60) == 0 {
						e.Suffix = suffix()
					}
					u.Events = append(u.Events, e)
					if r.IntN(3) == 0 && e.Invalid == "" && !slices.ContainsFunc(u.Events[:len(u.Events)-1], func(o resolver.Event) bool { return o.ID == e.ID }) {
						u.Cites = append(u.Cites, resolver.Citation{Kind: pick("arxiv", "\x00"), ID: pick(texts...), Suffix: s, EventID: e.ID, Relation: pick(texts...)})
					}
				}
				for range r.IntN(3) {
					u.Keys = append(u.Keys, resolver.Key{Fingerprint: pick("aa", "bb", "cc"), SignerID: pick(texts...), Entry: []byte(pick(texts...)), DeclaredAt: date()})
				}
				ups = append(ups, u)
			}
			x, err1 := a.Commit(ctx, ups)
			y, err2 := b.Commit(ctx, ups)
			if err1 != nil && err2 != nil { // of several faults either may be named
				continue
			}
			same(what("commit"), x, y, err1, err2)
			if err1 == nil {
				for i, u := range ups {
					revisions[u.Suffix] = x[i].Revision
					seq = x[i].FirstSeq + int64(len(u.Events))
				}
			}
		case 6:
			s := suffix()
			x, p, err1 := a.Bundle(ctx, s)
			y, q, err2 := b.Bundle(ctx, s)
			same(what("bundle %s", s), []any{x, string(p)}, []any{y, string(q)}, err1, err2)
		case 7:
			p, n := pick("", "A", "B", "AAAAAAAAAAAAAAAAAAAAAAAA", suffix(), "a", "Z"), limit()
			x, err1 := a.Resolve(ctx, p, n)
			y, err2 := b.Resolve(ctx, p, n)
			same(what("resolve %q %d", p, n), x, y, err1, err2)
		case 8:
			al, n := resolver.FoldAlias(pick("doi", "arxiv", "\x00", ""), pick(append(texts, "10.1/x", "1")...)), limit()
			x, err1 := a.ByAlias(ctx, al.Kind, al.Value, n)
			y, err2 := b.ByAlias(ctx, al.Kind, al.Value, n)
			same(what("alias %q", al), x, y, err1, err2)
		case 9:
			d := resolver.Digest(sha256.Sum256(fmt.Append(nil, suffix(), r.IntN(3))))
			x, err1 := a.ByDigest(ctx, d)
			y, err2 := b.ByDigest(ctx, d)
			same(what("digest %s", d), x, y, err1, err2)
		case 10, 11:
			q, o := pick(append(texts, "al", "b g", "αλφα", "te", "1 2", "a", "zu")...), r.IntN(2)
			x, n, err1 := a.Search(ctx, q, 100, o)
			y, m, err2 := b.Search(ctx, q, 100, o)
			list := func(l []resolver.Record) (out []string) {
				for _, r := range l {
					out = append(out, r.Suffix)
				}
				slices.Sort(out)
				return out
			}
			if o > 0 {
				same(what("search %q from %d", q, o), []any{len(x), n}, []any{len(y), m}, err1, err2)
			} else {
				same(what("search %q", q), []any{list(x), n}, []any{list(y), m}, err1, err2)
			}
		case 12:
			p, af, n := pick("", "A", "B", suffix()), pick("", "A", "B", suffix(), suffix(), "Z"), limit()
			x, err1 := a.Records(ctx, p, af, n)
			y, err2 := b.Records(ctx, p, af, n)
			same(what("records %q %q %d", p, af, n), x, y, err1, err2)
		case 13:
			at, n := number(), limit()
			x, err1 := a.ChangedAfter(ctx, at, n)
			y, err2 := b.ChangedAfter(ctx, at, n)
			same(what("changed after %d", at), x, y, err1, err2)
		case 14:
			p := pick("", "A", "B", suffix())
			var x, y []resolver.Fingerprint
			err1 := a.Fingerprints(ctx, p, func(f resolver.Fingerprint) error { x = append(x, f); return nil })
			err2 := b.Fingerprints(ctx, p, func(f resolver.Fingerprint) error { y = append(y, f); return nil })
			same(what("fingerprints %q", p), x, y, err1, err2)
		case 15:
			at, n := number(), limit()
			if r.IntN(2) == 0 {
				at = seq - int64(r.IntN(4))
			}
			x, err1 := a.EventsFrom(ctx, at, n)
			y, err2 := b.EventsFrom(ctx, at, n)
			same(what("events from %d", at), x, y, err1, err2)
			x, err1 = a.RecentEvents(ctx, at, n)
			y, err2 = b.RecentEvents(ctx, at, n)
			same(what("events before %d", at), x, y, err1, err2)
		case 16:
			s := suffix()
			x, err1 := a.RecordEvents(ctx, s)
			y, err2 := b.RecordEvents(ctx, s)
			same(what("events of %s", s), x, y, err1, err2)
		case 17:
			id := eventID()
			if id == "" { // no event is looked up by that
				continue
			}
			x, err1 := a.Event(ctx, id)
			y, err2 := b.Event(ctx, id)
			same(what("event %q", id), x, y, err1, err2)
		case 18:
			k, id, n := pick("arxiv", "\x00"), pick(texts...), limit()
			x, err1 := a.Citations(ctx, k, id, n)
			y, err2 := b.Citations(ctx, k, id, n)
			same(what("citations %q %q", k, id), x, y, err1, err2)
		case 19:
			k, forget := resolver.Key{Fingerprint: pick("aa", "bb", "cc", "dd", "ee"), SignerID: pick(texts...), Entry: []byte("{}"), DeclaredAt: date()}, date()
			same(what("put key %+v, forget %s", k, forget), nil, nil, a.PutKey(ctx, k, forget), b.PutKey(ctx, k, forget))
			x, err1 := a.Keys(ctx, "", 100)
			y, err2 := b.Keys(ctx, "", 100)
			same(what("keys"), x, y, err1, err2)
		case 20:
			h := resolver.Held{Status: resolver.Status(pick("refused", "queued")), Digest: digest(), SHA256: digest(), Suffix: pick(texts...), Code: pick(texts...), Detail: pick(texts...), Signer: pick("aa", "dd", ""), From: pick(texts...), ReceivedAt: date(), Data: []byte(pick(texts...)), Truncated: r.IntN(2) == 0}
			x, p, err1 := a.PutHeld(ctx, h)
			y, q, err2 := b.PutHeld(ctx, h)
			same(what("put held"), []any{x, p}, []any{y, q}, err1, err2)
			d := digest()
			x, p, err1 = a.FindHeld(ctx, d)
			y, q, err2 = b.FindHeld(ctx, d)
			same(what("find held"), []any{x, p}, []any{y, q}, err1, err2)
		case 21:
			id, from, to := number(), resolver.Status(pick("refused", "queued", "accepted")), resolver.Status(pick("rejected", "accepted", "queued"))
			same(what("move held %d", id), nil, nil, a.MoveHeld(ctx, id, from, to, "c", "d"), b.MoveHeld(ctx, id, from, to, "c", "d"))
			x, err1 := a.HeldByID(ctx, id)
			y, err2 := b.HeldByID(ctx, id)
			same(what("held %d", id), x, y, err1, err2)
		case 22:
			k := pick(append(texts, "a/", "a/%", "A/x")...)
			var v []byte
			if r.IntN(2) == 0 {
				v = []byte(pick(texts...))
			}
			same(what("set meta %q", k), nil, nil, a.SetMeta(ctx, k, v), b.SetMeta(ctx, k, v))
			x, err1 := a.Meta(ctx, k)
			y, err2 := b.Meta(ctx, k)
			same(what("meta %q", k), string(x), string(y), err1, err2)
			p := pick("", "a", "a/", "A", "日", "'")
			xs, err1 := a.MetaKeys(ctx, p)
			ys, err2 := b.MetaKeys(ctx, p)
			same(what("meta keys %q", p), xs, ys, err1, err2)
		case 23:
			x, err1 := a.Counts(ctx)
			y, err2 := b.Counts(ctx)
			same(what("counts"), x, y, err1, err2)
			st := resolver.Status(pick("refused", "queued", "accepted", "rejected", "?"))
			l, err1 := a.Held(ctx, st, 2, 3)
			m, err2 := b.Held(ctx, st, 2, 3)
			same(what("held"), l, m, err1, err2)
		}
	}
	err := a.Check(ctx, func(p resolver.Problem) {
		switch p.Code {
		case "citation_type", "citation_twice", "key_unused": // these calls care for no types and no keys
		default:
			t.Errorf("seed %d: %v", seed, p)
		}
	})
	if err != nil {
		t.Error(err)
	}
}
