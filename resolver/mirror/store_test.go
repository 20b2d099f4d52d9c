package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

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
	if err := AddUpstream(ctx, r.store, up); err != nil {
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
			bundle, err := Bundle(context.Background(), m.store, suffix)
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
	if up.Queued != 1 || up.Refused != 0 || counts.Records != 1 || counts.Queued != 1 {
		t.Errorf("%d queued, %d refused, %+v; want one record, one queued", up.Queued, up.Refused, counts)
	}
	found := a.differences(t, b)
	if len(found) != 1 || found[0].B != nil {
		t.Errorf("compare finds %v, want the record that waits", found)
	}
}

// TestTrustedPartIsCopied: of a record that another mirror united, whose word for it the
// policy does not take, what the policy trusts is copied, and does not travel back.
func TestTrustedPartIsCopied(t *testing.T) {
	ctx := context.Background()
	a, b := newReal(t, "alpha"), newReal(t, "beta")
	real := mustCanonical(t, seed.Bundle())
	a.submit(t, real, says(t, real, testKey("eve"), "from eve", ""), says(t, real, testKey("ann"), "from ann", ""))
	if up := b.copyFrom(t, a, false); up.Queued != 1 || up.Refused != 0 {
		t.Errorf("%+v, want one bundle that waits for the rest of it", up)
	}
	records, err := b.store.Records(ctx, "", "", 9)
	if err != nil || len(records) != 1 || records[0].EventCount != 3 {
		t.Fatalf("%+v %v, want pith.science's two events and eve's", records, err)
	}
	before, err := a.store.Counts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if up := a.copyFrom(t, b, false); up.Queued != 0 || up.Refused != 0 {
		t.Errorf("back: %+v", up)
	}
	if after, err := a.store.Counts(ctx); err != nil || after != before {
		t.Errorf("what came back changed %+v to %+v, %v", before, after, err)
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
		if err := AddUpstream(ctx, a.store, Upstream{URL: url, Next: 3, Head: 5, Hashes: [][]byte{{1}}}); err != nil {
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

// TestEvidenceKeepsRoomForProofs: what somebody on the way can cause does not crowd
// out two checkpoints of one size with two roots.
func TestEvidenceKeepsRoomForProofs(t *testing.T) {
	a := newReal(t, "alpha")
	ctx := context.Background()
	const url = "https://b.example"
	for i := range 2 * maxEvidence {
		if err := keepEvidence(ctx, a.store, Evidence{URL: url, Now: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := keepEvidence(ctx, a.store, Evidence{URL: url, Now: "a", Before: "b", Proof: true}); err != nil {
		t.Fatal(err)
	}
	list, err := EvidenceAgainst(ctx, a.store, url)
	if err != nil || len(list) > maxEvidence || !slices.ContainsFunc(list, func(e Evidence) bool { return e.Proof }) {
		t.Errorf("%d are kept, none of them a proof, or too many; %v", len(list), err)
	}
}

// TestCheck: what is kept about a mirror cannot be changed unnoticed.
func TestCheck(t *testing.T) {
	a, b := newLab(t, "alpha"), newReal(t, "beta")
	for i := range 5 {
		a.give(another(t, i))
	}
	ctx, url := context.Background(), a.server.URL
	if err := AddUpstream(ctx, b.store, Upstream{URL: url, LogKey: a.vkey, All: true}); err != nil {
		t.Fatal(err)
	}
	s := &Sync{Target: NewTarget(b.known, b.all), Leaf: leaf}
	if err := s.Once(ctx, url); err != nil {
		t.Fatal(err)
	}
	e := Evidence{URL: url, Before: "before", Now: "now"}
	if err := keepEvidence(ctx, b.store, e); err != nil {
		t.Fatal(err)
	}
	evidence := evidenceKey + url + " " + e.digest()
	for _, tt := range []struct{ key, old, new, code string }{
		{upstreamKey + url, ``, ``, ""},
		{upstreamKey + url, `{`, `[`, "mirror_settings"},
		{upstreamKey + url, `"url":"http`, `"url":"HTTP`, "mirror_settings"},
		{upstreamKey + url, `"log_key":"alpha`, `"log_key":"beta`, "mirror_progress"},
		{progressKey + url, `{`, `[`, "mirror_progress"},
		{progressKey + url, `"next":10`, `"next":11`, "mirror_progress"},
		{progressKey + url, `"proven":10`, `"proven":12`, "mirror_progress"},
		{progressKey + url, `"base":["`, `"base":["AAAA`, "mirror_progress"},
		{progressKey + url, `"checkpoint":"a`, `"checkpoint":"b`, "mirror_progress"},
		{evidence, `:"before"`, `:"Before"`, "mirror_evidence"},
		{evidence, `{`, `[`, "mirror_evidence"},
	} {
		text, err := b.store.Meta(ctx, tt.key)
		if err != nil || !strings.Contains(string(text), tt.old) {
			t.Fatalf("%s: %s, %v", tt.key, text, err)
		}
		changed := strings.Replace(string(text), tt.old, tt.new, 1)
		if err := b.store.SetMeta(ctx, tt.key, []byte(changed)); err != nil {
			t.Fatal(err)
		}
		code := ""
		if err := Check(ctx, b.store, func(p resolver.Problem) { code = p.Code }); err != nil || code != tt.code {
			t.Errorf("%s for %s in %s: found %q, %v; want %q", tt.new, tt.old, tt.key, code, err, tt.code)
		}
		if err := b.store.SetMeta(ctx, tt.key, text); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRemovedWhileItIsCopied: what the operator decides about a mirror is not
// undone by whoever copies it.
func TestRemovedWhileItIsCopied(t *testing.T) {
	tests := []struct {
		name   string
		decide func(ctx context.Context, s resolver.Store, u Upstream) error
		want   func(u Upstream, err error) bool
		fails  bool
	}{
		{"removed", func(ctx context.Context, s resolver.Store, u Upstream) error {
			return RemoveUpstream(ctx, s, u.URL)
		}, func(_ Upstream, err error) bool { return errors.Is(err, resolver.ErrNotFound) }, true},
		{"removed and named again", func(ctx context.Context, s resolver.Store, u Upstream) error {
			return errors.Join(RemoveUpstream(ctx, s, u.URL), AddUpstream(ctx, s, Upstream{URL: u.URL}))
		}, func(u Upstream, err error) bool { return err == nil && u.Next == 0 && !u.All }, true},
		{"taken whole", func(ctx context.Context, s resolver.Store, u Upstream) error {
			return AddUpstream(ctx, s, Upstream{URL: u.URL, All: false})
		}, func(u Upstream, err error) bool { return err == nil && u.Next > 5 && !u.All }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newReal(t, "alpha"), newReal(t, "beta")
			for i := range 6 {
				a.submit(t, another(t, i))
			}
			ctx := context.Background()
			if err := AddUpstream(ctx, b.store, Upstream{URL: a.server.URL, All: true}); err != nil {
				t.Fatal(err)
			}
			pages := 0
			s := &Sync{Target: NewTarget(b.known, b.all), Leaf: leaf, Page: 3, Progress: func(u Upstream) {
				if pages++; pages == 1 {
					if err := tt.decide(ctx, b.store, u); err != nil {
						t.Error(err)
					}
				}
			}}
			if err := s.Once(ctx, a.server.URL); errors.Is(err, ErrRemoved) != tt.fails || err != nil && !tt.fails {
				t.Errorf("error %v", err)
			}
			if u, err := LoadUpstream(ctx, b.store, a.server.URL); !tt.want(u, err) {
				t.Errorf("afterwards %+v, %v", u, err)
			}
		})
	}
}

// TestMisshapenEvents: a mirror that holds invalid events, of whatever shape, can
// be copied, and serves them.
func TestMisshapenEvents(t *testing.T) {
	for name, event := range map[string]string{
		"an id and nothing else": `{"event_id":"sha256:` + strings.Repeat("ab", 32) + `"}`,
		"a number as its id":     `{"event_id":5}`,
		"an object as its id":    `{"event_id":{}}`,
		"no id":                  `{"x":1}`,
		"an endless id":          longID(t),
	} {
		t.Run(name, func(t *testing.T) {
			bundle, err := pith.Adopt(mustCanonical(t, seed.Bundle()), [][]byte{[]byte(event)}, nil)
			if err == nil {
				bundle, err = pith.Sign(bundle, testKey("mallory"), day)
			}
			if err != nil {
				t.Fatal(err)
			}
			a, b := newReal(t, "alpha"), newReal(t, "beta")
			a.submit(t, bundle)
			if up := b.copyFrom(t, a, true); up.Refused != 0 || up.Lag() != 0 {
				t.Errorf("beta copied %+v", up)
			}
			if found := a.differences(t, b); len(found) != 0 {
				t.Errorf("differences after copying: %v", found)
			}
			for _, m := range []*mirrorNode{a, b} {
				source := NewSource(m.store, m.known.Changed)
				events, err := source.Events(context.Background(), 0, 10)
				if err != nil || len(events) != 3 {
					t.Fatalf("%d events, %v", len(events), err)
				}
				for _, e := range events {
					if sum, err := compare.ParseDigest(strings.TrimPrefix(e.ID, "sha256:")); err == nil {
						if _, err := source.Object(context.Background(), sum); err != nil {
							t.Errorf("event %s: %v", e.ID, err)
						}
					}
				}
				if err := resolver.Fsck(context.Background(), m.store, func(p resolver.Problem) { t.Errorf("fsck: %v", p) }, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// longID is an event that is right but for its id.
func longID(t *testing.T) string {
	t.Helper()
	_, entries, err := contents(says(t, seed.Bundle(), testKey("mallory"), "x", ""))
	if err != nil {
		t.Fatal(err)
	}
	last := entries[len(entries)-1]
	for _, e := range entries {
		if bytes.Contains(e.data, []byte(`"correction"`)) {
			last = e
		}
	}
	return strings.Replace(string(last.data), last.id, "sha256:"+strings.Repeat("0", 200), 1)
}

// TestQueueIsFull: what there is no room for is not passed over, and strangers
// cannot take the room of those that the operator named.
func TestQueueIsFull(t *testing.T) {
	a, b := newReal(t, "alpha"), newReal(t, "beta")
	for i := range 12 {
		a.submit(t, another(t, i)) // by nobody whom beta knows
	}
	tight, err := resolver.NewService(resolver.Config{Store: b.store, Key: testKey("beta"), Limits: resolver.Limits{Queued: 1}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := AddUpstream(ctx, b.store, Upstream{URL: a.server.URL}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // strangers fill their part
		_, _ = tight.Submit(ctx, resolver.Submission{Data: another(t, 90+i), From: "stranger"})
	}
	s := &Sync{Target: NewTarget(tight, tight), Leaf: leaf, Page: 4, Batch: 1}
	var refusal *resolver.Refusal
	if err := s.Once(ctx, a.server.URL); !errors.As(err, &refusal) || refusal.Code != resolver.CodeQueueFull || Convicting(err) {
		t.Fatalf("error %v, want a full queue", err)
	}
	counts, err := b.store.Counts(ctx)
	if err != nil || counts.Queued != 10 {
		t.Fatalf("%+v %v, want ten that wait", counts, err)
	}
	held, err := b.store.Held(ctx, resolver.Queued, 0, 5)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range held {
		if err := tight.Reject(ctx, h.ID, "no"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Once(ctx, a.server.URL); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	if u, err := LoadUpstream(ctx, b.store, a.server.URL); err != nil || u.Lag() != 0 {
		t.Errorf("%+v %v", u, err)
	}
}

// TestNothingIsLost: what is trusted and cannot come in yet is here when all that waited
// was accepted.
func TestNothingIsLost(t *testing.T) {
	ctx := context.Background()
	a, b := newReal(t, "alpha"), newReal(t, "beta")
	strange := another(t, 0)
	a.submit(t, strange)
	b.copyFrom(t, a, false)
	a.submit(t, says(t, strange, testKey("eve"), "from eve", ""))
	b.copyFrom(t, a, false)
	held, err := b.store.Held(ctx, resolver.Queued, 0, 10)
	if err != nil || len(held) == 0 {
		t.Fatal(held, err)
	}
	for _, h := range held {
		if _, err := b.known.Accept(ctx, h.ID); err != nil {
			t.Fatal(err)
		}
	}
	if found := a.differences(t, b); len(found) != 0 {
		t.Errorf("they differ in %v", found)
	}
}

// TestAnotherPolicy: when something else decides, what was kept out of a mirror is read
// again, and only then.
func TestAnotherPolicy(t *testing.T) {
	ctx := context.Background()
	a, b := newReal(t, "alpha"), newReal(t, "beta")
	real := mustCanonical(t, seed.Bundle())
	a.submit(t, another(t, 0), real, says(t, real, testKey("eve"), "from eve", "")) // the last is united by alpha
	sync := func(trust *pith.Trust) (Upstream, resolver.Counts) {
		t.Helper()
		var both [2]*resolver.Service
		for i, unknown := range []resolver.Status{resolver.Queued, resolver.Accepted} {
			var err error
			if both[i], err = resolver.NewService(resolver.Config{Store: b.store, Key: testKey("beta"), Trust: trust, Unknown: unknown}); err != nil {
				t.Fatal(err)
			}
		}
		if err := (&Sync{Target: NewTarget(both[0], both[1]), Leaf: leaf, Page: 10, Batch: 1}).Once(ctx, a.server.URL); err != nil {
			t.Fatal(err)
		}
		up, err := LoadUpstream(ctx, b.store, a.server.URL)
		counts, err2 := b.store.Counts(ctx)
		if err != nil || err2 != nil || up.Lag() != 0 || up.Again {
			t.Fatalf("%+v %v %v", up, err, err2)
		}
		return up, counts
	}
	add := func(u Upstream) {
		t.Helper()
		u.URL = a.server.URL
		if err := AddUpstream(ctx, b.store, u); err != nil {
			t.Fatal(err)
		}
	}
	eve := b.known.Trust()
	add(Upstream{})
	if up, c := sync(pith.PinnedTrust()); up.Queued != 2 || c.Events != 2 {
		t.Errorf("pith.science alone: %+v %+v", up, c)
	}
	if up, c := sync(eve); up.Queued != 2 || up.Records != 2 || c.Events != 3 || c.Queued != 2 {
		t.Errorf("and eve: %+v %+v", up, c)
	}
	if up, _ := sync(eve); up.Records != 2 {
		t.Errorf("the same again is read again: %+v", up)
	}
	add(Upstream{All: true})
	if up, c := sync(eve); up.Queued != 0 || c.Records != 2 || len(a.differences(t, b)) != 0 {
		t.Errorf("all: %+v %+v %v", up, c, a.differences(t, b))
	}
	if up, _ := sync(pith.PinnedTrust()); up.Records != 2 {
		t.Errorf("nothing was kept out, and it is read again: %+v", up)
	}
}

// TestBundlesAreBelieved: where the operator says so, how a mirror puts bundles together
// is believed by the key of its log, and nothing else that it signs.
func TestBundlesAreBelieved(t *testing.T) {
	ctx := context.Background()
	a, b := newReal(t, "alpha"), newReal(t, "beta")
	real := mustCanonical(t, seed.Bundle())
	a.submit(t, real, says(t, real, testKey("eve"), "from eve", ""))
	united, err := Bundle(ctx, a.store, suffixOf("pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM"))
	if err != nil {
		t.Fatal(err)
	}
	logKey, err := note.NewEd25519VerifierKey("alpha.example/log", testKey("alpha").Public().Key)
	if err != nil {
		t.Fatal(err)
	}
	up := Upstream{URL: "https://alpha.example", LogKey: logKey}
	target := NewTarget(b.known, b.all)
	policy := target.Policy(up)
	submit := func(bundle []byte) error {
		t.Helper()
		out, err := target.Submit(ctx, up, [][]byte{bundle})
		if err != nil {
			t.Fatal(err)
		}
		return out[0].Refused
	}
	if err := submit(united); err == nil {
		t.Error("nobody said so, and it is believed")
	}
	up.Bundles = true
	if target.Policy(up) == policy {
		t.Error("what decides has the same name")
	}
	if up.Policy = target.Policy(up); up.skims() {
		t.Error("bundles are not asked for where the events are here")
	}
	// A trust file that names the key under another name says nothing against it.
	elsewhere, err := b.known.Trust().Merge(pith.TrustFor(testKey("alpha").Public(), []string{"citation_signature"}, false))
	if err != nil {
		t.Fatal(err)
	}
	other, err := resolver.NewService(resolver.Config{Store: memstore.New(), Key: testKey("beta"), Trust: elsewhere})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := NewTarget(other, other).Submit(ctx, up, [][]byte{united}); err != nil || out[0].Refused != nil {
		t.Errorf("beside a trust file: %v %v", out, err)
	}
	// One that says the same does the same, without the flag.
	if elsewhere, err = b.known.Trust().Merge(pith.TrustFor(testKey("alpha").Public(), nil, true)); err != nil {
		t.Fatal(err)
	}
	if other, err = resolver.NewService(resolver.Config{Store: memstore.New(), Key: testKey("beta"), Trust: elsewhere}); err != nil {
		t.Fatal(err)
	}
	plain := up
	if plain.Bundles, plain.Policy = false, ""; !plain.skims() {
		t.Error("it is believed before anybody says so")
	}
	if plain.Policy = NewTarget(other, other).Policy(plain); plain.skims() {
		t.Error("a trust file says so, and bundles are not asked for")
	}
	if err := submit(united); err != nil {
		t.Error(err)
	}
	if found := a.differences(t, b); len(found) != 0 {
		t.Errorf("they differ in %v", found)
	}
	if err := submit(says(t, united, testKey("alpha"), "from alpha", "")); err == nil {
		t.Error("the mirror's own events are believed")
	}
	if err := AddUpstream(ctx, b.store, Upstream{URL: "https://alpha.example", Bundles: true}); !errors.Is(err, ErrLogKey) {
		t.Errorf("without the key of a log: %v", err)
	}
}

// TestPackingNeedsNoRoom: a bundle of which all events are here does not stop the copy
// when the queue is full, though nobody trusts who united it.
func TestPackingNeedsNoRoom(t *testing.T) {
	ctx := context.Background()
	a, b := newReal(t, "alpha"), newReal(t, "beta")
	for i := range 10 {
		a.submit(t, another(t, i)) // by nobody whom beta knows
	}
	real := mustCanonical(t, seed.Bundle())
	a.submit(t, real, says(t, real, testKey("eve"), "from eve", ""))
	tight, err := resolver.NewService(resolver.Config{Store: b.store, Key: testKey("beta"), Trust: b.known.Trust(), Limits: resolver.Limits{Queued: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := AddUpstream(ctx, b.store, Upstream{URL: a.server.URL}); err != nil {
			t.Fatal(err)
		}
		s := &Sync{Target: NewTarget(tight, tight), Leaf: leaf, Page: 4, Batch: 1}
		if err := s.Once(ctx, a.server.URL); err != nil {
			t.Fatal(err)
		}
		counts, err := b.store.Counts(ctx)
		if err != nil || counts.Queued != 10 || counts.Records != 1 || counts.Events != 3 {
			t.Errorf("%+v %v, want ten that wait and the record", counts, err)
		}
		if err := RemoveUpstream(ctx, b.store, a.server.URL); err != nil { // from the beginning
			t.Fatal(err)
		}
	}
}

// TestEquivocationHidesNowhere: a signer cannot hide a contradiction behind a
// text that looks like the state's count.
func TestEquivocationHidesNowhere(t *testing.T) {
	eve := testKey("eve")
	said := func(bundle []byte, text, prev string) []byte {
		d, err := pith.NewDraft(pith.Correction{Kind: "erratum", Text: text}, day)
		if err != nil {
			t.Fatal(err)
		}
		d.PrevEvent = prev
		d.Payload = []byte(strings.Replace(string(d.Payload), `{`, `{"equivocation_count":0,`, 1))
		bundle, _, err = pith.Append(bundle, eve, day, d)
		if err != nil {
			t.Fatal(err)
		}
		return mustCanonical(t, bundle)
	}
	first := said(another(t, 0), "one", "")
	_, entries, err := contents(first)
	if err != nil {
		t.Fatal(err)
	}
	var prev string
	for _, e := range entries {
		if bytes.Contains(e.data, []byte(`"correction"`)) {
			prev = e.id
		}
	}
	united, err := pith.Merge(said(first, "yes", prev), said(first, "no", prev))
	if err == nil {
		united, err = pith.Sign(united, eve, day)
	}
	if err != nil {
		t.Fatal(err)
	}
	a, b := newReal(t, "alpha"), newReal(t, "beta")
	a.submit(t, united)
	if up := b.copyFrom(t, a, true); up.Conflicts != 1 {
		t.Errorf("%d conflicts counted, want 1", up.Conflicts)
	}
}
