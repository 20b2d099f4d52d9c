package mirror

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/compare"
	"github.com/openpith/evidence/resolver/memstore"
)

// A mirrorNode is a mirror of the parts that pith serve wires, but for the log.
type mirrorNode struct {
	store      resolver.Store
	known, all *resolver.Service
	server     *httptest.Server
}

// newReal trusts pith.science and eve.
func newReal(t *testing.T, name string) *mirrorNode {
	t.Helper()
	trust, err := pith.PinnedTrust().Merge(pith.TrustFor(testKey("eve").Public(), []string{"*"}, true))
	if err != nil {
		t.Fatal(err)
	}
	c := resolver.Config{Store: memstore.New(), Key: testKey(name), Trust: trust}
	r := &mirrorNode{store: c.Store}
	if r.known, err = resolver.NewService(c); err != nil {
		t.Fatal(err)
	}
	c.Unknown = resolver.Accepted
	if r.all, err = resolver.NewService(c); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	(&Server{Source: NewSource(r.store, r.known.Changed)}).Routes(mux)
	r.server = httptest.NewServer(mux)
	t.Cleanup(r.server.Close)
	return r
}

// submit lets bundles in, whoever signed them.
func (r *mirrorNode) submit(t *testing.T, bundles ...[]byte) {
	t.Helper()
	for _, b := range bundles {
		if _, err := r.all.Submit(context.Background(), resolver.Submission{Data: b, From: "test", Unlimited: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// copyFrom copies another mirror.
func (r *mirrorNode) copyFrom(t *testing.T, other *mirrorNode, all bool) Upstream {
	t.Helper()
	ctx := context.Background()
	up, err := LoadUpstream(ctx, r.store, other.server.URL)
	if errors.Is(err, resolver.ErrNotFound) {
		up, err = Upstream{URL: other.server.URL, All: all}, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := SaveUpstream(ctx, r.store, up); err != nil {
		t.Fatal(err)
	}
	s := &Sync{Target: NewTarget(r.known, r.all), Leaf: leaf, Page: 5, Batch: 2}
	if err := s.Run(ctx, []string{other.server.URL}, false); err != nil {
		t.Fatal(err)
	}
	if up, err = LoadUpstream(ctx, r.store, other.server.URL); err != nil {
		t.Fatal(err)
	}
	return up
}

func (r *mirrorNode) differences(t *testing.T, other *mirrorNode) (found []compare.Difference) {
	t.Helper()
	client, err := NewClient(other.server.URL, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := compare.Diff(context.Background(), NewSet(r.store), client, func(d compare.Difference) error {
		found = append(found, d)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestRealMirrors: two mirrors take different events of the same records, in
// different order, copy each other, and serve the same states, to the byte.
func TestRealMirrors(t *testing.T) {
	a, b := newReal(t, "alpha"), newReal(t, "beta")
	real := mustCanonical(t, seed.Bundle())
	eves := says(t, real, testKey("eve"), "from eve", "")
	anns := says(t, real, testKey("ann"), "from ann", "")
	a.submit(t, another(t, 0), real, another(t, 1), eves)
	b.submit(t, another(t, 2), anns, another(t, 0))
	if n := len(a.differences(t, b)); n != 3 {
		t.Errorf("%d differences before copying, want 3", n)
	}
	if up := a.copyFrom(t, b, true); up.Refused != 0 || up.Lag() != 0 {
		t.Errorf("alpha copied %+v", up)
	}
	b.copyFrom(t, a, true)
	if found := a.differences(t, b); len(found) != 0 {
		t.Fatalf("%d differences after copying: %v", len(found), found)
	}
	for _, suffix := range []string{suffixOf(pith.Verify(real, nil).PithNumber), suffixOf(pith.Verify(another(t, 2), nil).PithNumber)} {
		var states [2][]byte
		for i, m := range []*mirrorNode{a, b} {
			bundle, err := bundleOf(context.Background(), m.store, suffix)
			if err != nil {
				t.Fatal(err)
			}
			if states[i], err = pith.State(bundle); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(states[0], states[1]) {
			t.Errorf("%s: the states differ", suffix)
		}
	}
}

// TestPolicyHolds: of a mirror that is not taken whole, what strangers signed
// waits for a moderator.
func TestPolicyHolds(t *testing.T) {
	a, b := newReal(t, "alpha"), newReal(t, "beta")
	known := mustCanonical(t, seed.Bundle())
	a.submit(t, known, another(t, 0)) // the second is signed by a test key
	up := b.copyFrom(t, a, false)
	counts, err := b.store.Counts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if up.Refused != 1 || counts.Records != 1 || counts.Queued != 1 {
		t.Errorf("%d refused, %+v; want one record, one queued", up.Refused, counts)
	}
	found := a.differences(t, b)
	if len(found) != 1 || found[0].B != nil {
		t.Errorf("compare finds %v, want the record that waits", found)
	}
}

// TestSetFollowsTheStore: the digests change with every change, also with those
// of which no event tells.
func TestSetFollowsTheStore(t *testing.T) {
	a := newReal(t, "alpha")
	set := NewSet(a.store)
	root := func() compare.Sum {
		t.Helper()
		r, err := set.Ranges(context.Background(), []string{""})
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := NewSet(a.store).Ranges(context.Background(), []string{""})
		if err != nil || fresh[0].Sum != r[0].Sum {
			t.Fatalf("%+v, a fresh set says %+v, %v", r[0].Sum, fresh[0].Sum, err)
		}
		return r[0].Sum
	}
	seen := map[compare.Sum]bool{root(): true}
	for i := range 200 { // beyond what is listed one by one
		a.submit(t, another(t, i))
		if i%40 == 0 || i > 195 {
			if s := root(); seen[s] || s.Count != int64(i+1) {
				t.Fatalf("after %d records: %+v", i+1, s)
			} else {
				seen[s] = true
			}
		}
	}
	a.submit(t, says(t, another(t, 7), testKey("eve"), "a slip", ""))
	if s := root(); seen[s] || s.Count != 200 {
		t.Errorf("an event more changes nothing: %+v", s)
	}
}

func TestObjectsOfAStore(t *testing.T) {
	a := newReal(t, "alpha")
	bundle := mustCanonical(t, seed.Bundle())
	a.submit(t, bundle)
	source := NewSource(a.store, a.known.Changed)
	ctx := context.Background()
	if got, err := source.Object(ctx, digestOf(bundle)); err != nil || !bytes.Equal(got, bundle) {
		t.Errorf("the bundle by its digest: %d bytes, %v", len(got), err)
	}
	events, err := source.Events(ctx, 0, 10)
	if err != nil || len(events) != 2 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for _, e := range events {
		d, err := compare.ParseDigest(strings.TrimPrefix(e.ID, "sha256:"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := source.Object(ctx, d); err != nil || digestOf(got) != d {
			t.Errorf("event %s: %d bytes, %v", e.ID, len(got), err)
		}
	}
	if _, err := source.Object(ctx, compare.Digest{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
}

func TestUpstreamsAreKept(t *testing.T) {
	a := newReal(t, "alpha")
	ctx := context.Background()
	for _, url := range []string{"https://b.example", "https://a.example/pith"} {
		if err := SaveUpstream(ctx, a.store, Upstream{URL: url, Next: 3, Head: 5, Hashes: [][]byte{{1}}}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := Upstreams(ctx, a.store)
	if err != nil || len(list) != 2 || list[0].URL != "https://a.example/pith" || list[1].Lag() != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := RemoveUpstream(ctx, a.store, "https://b.example"); err != nil {
		t.Error(err)
	}
	if _, err := LoadUpstream(ctx, a.store, "https://b.example"); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	if err := RemoveUpstream(ctx, a.store, "https://b.example"); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	for _, bad := range [][]byte{nil, []byte("x"), {0x1f, 0x8b, 8, 0}} {
		if _, err := Unpack(bad, 10); err == nil {
			t.Errorf("%q was unpacked", bad)
		}
	}
}
