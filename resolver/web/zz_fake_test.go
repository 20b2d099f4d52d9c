package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
)

type fakeStore struct {
	resolver.Store
	recs  map[string]resolver.Stored
	views map[string]*recordView
	order []string
}

func fill(t testing.TB, trust *pith.Trust, bundles ...[]byte) resolver.Store {
	f := &fakeStore{recs: map[string]resolver.Stored{}, views: map[string]*recordView{}}
	for _, b := range bundles {
		v, err := newRecordView(b, trust)
		if err != nil {
			t.Fatal(err)
		}
		var z bytes.Buffer
		g := gzip.NewWriter(&z)
		g.Write(b)
		g.Close()
		r := resolver.Record{Suffix: v.Suffix, Number: v.Number, Digest: sha256.Sum256(b), Size: len(b), Title: v.result.Title, Authors: strings.Join(v.Authors, ", "), Source: v.result.Source, Categories: v.Categories, Submitted: v.Submitted, EventCount: v.Events.Total, Replications: len(v.Replications)}
		f.recs[v.Suffix] = resolver.Stored{Record: r, Bundle: z.Bytes()}
		f.views[v.Suffix] = v
		f.order = append(f.order, v.Suffix)
	}
	sort.Strings(f.order)
	return f
}
func (f *fakeStore) Record(_ context.Context, s string) (resolver.Record, error) {
	if r, ok := f.recs[s]; ok {
		return r.Record, nil
	}
	return resolver.Record{}, resolver.ErrNotFound
}
func (f *fakeStore) Bundle(_ context.Context, s string) (resolver.Record, []byte, error) {
	if r, ok := f.recs[s]; ok {
		return r.Record, r.Bundle, nil
	}
	return resolver.Record{}, nil, resolver.ErrNotFound
}
func (f *fakeStore) filter(limit int, ok func(*recordView) bool) (out []string, err error) {
	for _, s := range f.order {
		if ok(f.views[s]) && len(out) < limit {
			out = append(out, s)
		}
	}
	return
}
func (f *fakeStore) Resolve(_ context.Context, p string, n int) ([]string, error) {
	return f.filter(n, func(v *recordView) bool { return strings.HasPrefix(v.Suffix, p) })
}
func (f *fakeStore) ByAlias(_ context.Context, k, x string, n int) ([]string, error) {
	return f.filter(n, func(v *recordView) bool {
		for _, a := range v.Aliases {
			if a.Kind == k && a.Value == x {
				return true
			}
		}
		return false
	})
}
func (f *fakeStore) Search(_ context.Context, q string, n, o int) (out []resolver.Record, total int, err error) {
	for _, s := range f.order {
		r := f.recs[s].Record
		if strings.Contains(strings.ToLower(r.Title+r.Authors+strings.Join(r.Categories, " ")), strings.ToLower(q)) {
			if total >= o && len(out) < n {
				out = append(out, r)
			}
			total++
		}
	}
	return
}
func (f *fakeStore) events(s string) (out []resolver.Event) {
	for i, h := range f.views[s].History {
		out = append(out, resolver.Event{Seq: int64(i), ID: h.EventID, Suffix: s, Type: h.Type, SignerID: h.Signer.ID, ReceivedAt: time.Now()})
	}
	return
}
func (f *fakeStore) RecentEvents(_ context.Context, _ int64, n int) (out []resolver.Event, err error) {
	for _, s := range f.order {
		for _, e := range f.events(s) {
			if len(out) < n {
				out = append(out, e)
			}
		}
	}
	return
}
func (f *fakeStore) RecordEvents(_ context.Context, s string) ([]resolver.Event, error) {
	return f.events(s), nil
}
func (f *fakeStore) Citations(_ context.Context, k, id string, n int) (out []resolver.Citation, err error) {
	for s, v := range f.views {
		for _, c := range v.CitedBy {
			if k == "pith" && c.Work.URL == "/pith/"+id {
				out = append(out, resolver.Citation{Suffix: s, EventID: c.EventID, Relation: c.Relation})
			}
		}
	}
	return
}
func (f *fakeStore) Counts(context.Context) (resolver.Counts, error) {
	return resolver.Counts{Records: int64(len(f.recs)), Events: 12345}, nil
}
