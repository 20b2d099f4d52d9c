package mirror

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"github.com/openpith/evidence/bench/pith/plain"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver/compare"
)

// A lab is a mirror in memory: what the tests of this package need of a store, a
// log and a service, and no more. What it holds survives "crashes".
type lab struct {
	t    testing.TB
	name string
	key  *pith.PrivateKey

	mu        sync.Mutex
	bundles   map[string][]byte // by suffix
	events    []Event
	has       map[string]bool // event ids
	upstreams map[string]Upstream
	evidence  []Evidence
	changed   chan struct{}
	trie      *compare.Trie
	submits   int
	given     int // bundles that somebody read
	failAt    int // the submit that fails, from 1; 0 for none
	logged    int // events that the checkpoint covers; -1 for all

	signer note.Signer
	vkey   string
	server *httptest.Server
	mirror *Server
}

var (
	day     = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	errDead = errors.New("killed")
)

func testKey(name string) *pith.PrivateKey {
	key, err := pith.NewKey([]byte(strings.Repeat(name+"!", 32))[:32], pith.Signer{ID: name, Type: "individual", KeyID: name + "-1"})
	if err != nil {
		panic(err)
	}
	return key
}

func newLab(t testing.TB, name string) *lab {
	t.Helper()
	l := &lab{
		t: t, name: name, key: testKey(name), logged: -1,
		bundles: map[string][]byte{}, has: map[string]bool{}, upstreams: map[string]Upstream{}, changed: make(chan struct{}),
	}
	l.trie = compare.NewTrie(l.scan)
	skey, vkey, err := note.GenerateKey(zeroReader{}, name+".example/log")
	if err != nil {
		t.Fatal(err)
	}
	l.vkey = vkey
	if l.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	l.mirror = &Server{Source: l}
	l.server = httptest.NewServer(l.handler())
	t.Cleanup(func() { l.mirror.Drain(); l.server.Close() })
	return l
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (l *lab) handler() http.Handler {
	mux := http.NewServeMux()
	l.mirror.Routes(mux)
	mux.HandleFunc("GET /log/checkpoint", func(w http.ResponseWriter, r *http.Request) { w.Write(l.checkpoint()) })
	mux.HandleFunc("GET /log/tile/0/000", func(w http.ResponseWriter, r *http.Request) { l.tile(w, r, layout.TileWidth) })
	mux.HandleFunc("GET /log/tile/0/000.p/{width}", func(w http.ResponseWriter, r *http.Request) {
		width, _ := strconv.Atoi(r.PathValue("width"))
		l.tile(w, r, width)
	})
	mux.HandleFunc("GET /pith/{suffix}/bundle.json", func(w http.ResponseWriter, r *http.Request) {
		data, err := l.Bundle(r.Context(), r.PathValue("suffix"))
		if err != nil {
			http.NotFound(w, r)
		}
		w.Write(data)
	})
	return mux
}

// leaf is the leaf of the lab's log.
func leaf(e Event) []byte { return fmt.Appendf(nil, "%s\n%s\n%s\n", e.ID, e.Suffix, e.SHA256) }

// checkpoint signs what is logged.
func (l *lab) checkpoint() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sign(l.events[:l.size()])
}

// tile gives the first tile of a log that fits into one.
func (l *lab) tile(w http.ResponseWriter, r *http.Request, width int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if width > len(l.events) {
		http.NotFound(w, r)
		return
	}
	for _, e := range l.events[:width] {
		w.Write(rfc6962.DefaultHasher.HashLeaf(leaf(e)))
	}
}

func (l *lab) size() int {
	if l.logged >= 0 {
		return l.logged
	}
	return len(l.events)
}

func (l *lab) sign(events []Event) []byte {
	r := ranges.NewEmptyRange(0)
	for _, e := range events {
		r.Append(rfc6962.DefaultHasher.HashLeaf(leaf(e)), nil)
	}
	root, _ := r.GetRootHash(nil)
	if len(events) == 0 {
		root = rfc6962.DefaultHasher.EmptyRoot()
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", l.signer.Name(), len(events), base64.StdEncoding.EncodeToString(root))
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		l.t.Error(err)
	}
	return signed
}

func (l *lab) Events(_ context.Context, from int64, limit int) ([]Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from = min(from, int64(len(l.events)))
	return slices.Clone(l.events[from:min(int(from)+limit, len(l.events))]), nil
}

func (l *lab) Head(context.Context) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.events)), nil
}

func (l *lab) Bundle(_ context.Context, suffix string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.given++
	if b, ok := l.bundles[suffix]; ok {
		return b, nil
	}
	return nil, ErrNotFound
}

func (l *lab) Object(_ context.Context, digest compare.Digest) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.bundles {
		if sha256.Sum256(b) == digest {
			return b, nil
		}
	}
	return nil, ErrNotFound
}

func (l *lab) Ranges(ctx context.Context, prefixes []string) ([]compare.Range, error) {
	return l.trie.Ranges(ctx, prefixes)
}

func (l *lab) scan(_ context.Context, prefix string) iter.Seq2[compare.Entry, error] {
	return func(yield func(compare.Entry, error) bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		var list []compare.Entry
		for suffix, b := range l.bundles {
			if strings.HasPrefix(suffix, prefix) {
				list = append(list, compare.Entry{Suffix: suffix, Events: eventSet(l.t, b), State: stateOf(l.t, b)})
			}
		}
		slices.SortFunc(list, func(a, b compare.Entry) int { return cmp.Compare(a.Suffix, b.Suffix) })
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func eventSet(t testing.TB, bundle []byte) compare.Digest {
	t.Helper()
	text, err := pith.EventSet(bundle)
	if err != nil {
		t.Error(err)
	}
	d, err := compare.ParseDigest(text)
	if err != nil {
		t.Error(err)
	}
	return d
}

func stateOf(t testing.TB, bundle []byte) compare.Digest {
	t.Helper()
	state, err := pith.State(bundle)
	if err != nil {
		t.Error(err)
	}
	return sha256.Sum256(state)
}

func (l *lab) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *lab) Submit(_ context.Context, _ Upstream, bundles [][]byte) ([]Outcome, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.submits++; l.submits == l.failAt {
		return nil, errDead
	}
	outcomes := make([]Outcome, len(bundles))
	for i, b := range bundles {
		outcomes[i] = l.take(b)
	}
	close(l.changed)
	l.changed = make(chan struct{})
	return outcomes, nil
}

func (l *lab) take(bundle []byte) Outcome {
	r := pith.Verify(bundle, nil)
	o := Outcome{Number: r.PithNumber}
	if r.Structure() != pith.Valid {
		o.Refused = errors.New(r.Failures()[0].String())
		return o
	}
	suffix := suffixOf(r.PithNumber)
	if old, ok := l.bundles[suffix]; ok {
		united, err := pith.Merge(old, bundle)
		if err == nil {
			bundle, err = pith.Sign(united, l.key, day)
		}
		if err != nil {
			o.Refused = err
			return o
		}
		o.Equivocations = pith.Verify(bundle, nil).Events.Equivocations
	}
	_, entries, err := contents(bundle)
	if err != nil {
		o.Refused = err
		return o
	}
	for _, e := range entries {
		if !l.has[e.id] {
			l.has[e.id] = true
			l.events = append(l.events, Event{int64(len(l.events)), e.id, suffix, sha256.Sum256(e.data)})
			o.New++
		}
	}
	l.bundles[suffix] = bundle
	l.trie.Changed(suffix)
	return o
}

func (l *lab) Policy(Upstream) string { return "" }

func (l *lab) Upstream(_ context.Context, url string) (Upstream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Through JSON, as in a store.
	data, err := json.Marshal(l.upstreams[url])
	if err != nil {
		return Upstream{}, err
	}
	var u Upstream
	return u, json.Unmarshal(data, &u)
}

func (l *lab) Has(_ context.Context, events []Event) ([]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	here := make([]bool, len(events))
	for i, e := range events {
		here[i] = slices.ContainsFunc(l.events, func(h Event) bool { return h.ID == e.ID && h.SHA256 == e.SHA256 })
	}
	return here, nil
}

func (l *lab) SaveUpstream(_ context.Context, u Upstream) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.upstreams[u.URL] = u
	return nil
}

func (l *lab) Convict(_ context.Context, e Evidence) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.evidence = append(l.evidence, e)
	return nil
}

// knows makes the lab copy another one, with its log key pinned.
func (l *lab) knows(other *lab) string {
	l.SaveUpstream(context.Background(), Upstream{URL: other.server.URL, LogKey: other.vkey})
	return other.server.URL
}

func (l *lab) sync() *Sync {
	return &Sync{Target: l, Leaf: leaf, Page: 7, Batch: 3, MinWait: time.Millisecond, MaxWait: 5 * time.Millisecond}
}

// give submits bundles one by one.
func (l *lab) give(bundles ...[]byte) {
	l.t.Helper()
	for _, b := range bundles {
		o, err := l.Submit(context.Background(), Upstream{}, [][]byte{b})
		if err != nil || o[0].Refused != nil {
			l.t.Fatalf("%s does not take a bundle: %v %v", l.name, err, o)
		}
	}
}

// another is the bundle of the i-th record.
func another(t testing.TB, i int) []byte {
	t.Helper()
	data, err := plain.Another(seed.Bundle(), ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), i)
	if err == nil {
		data, err = pith.Canonical(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// says adds a correction to a bundle.
func says(t testing.TB, bundle []byte, key *pith.PrivateKey, text, prev string) []byte {
	t.Helper()
	d, err := pith.NewDraft(pith.Correction{Kind: "erratum", Text: text}, day)
	if err != nil {
		t.Fatal(err)
	}
	d.PrevEvent = prev
	data, _, err := pith.Append(bundle, key, day, d)
	if err != nil {
		t.Fatal(err)
	}
	if data, err = pith.Canonical(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// sameState fails unless both serve the same state of the same records, to the
// byte.
func sameState(t testing.TB, a, b *lab) {
	t.Helper()
	if len(a.bundles) != len(b.bundles) {
		t.Errorf("%s has %d records, %s %d", a.name, len(a.bundles), b.name, len(b.bundles))
	}
	for suffix, left := range a.bundles {
		right := b.bundles[suffix]
		if right == nil {
			t.Errorf("%s lacks %s", b.name, suffix)
			continue
		}
		stateA, errA := pith.State(left)
		stateB, errB := pith.State(right)
		if errA != nil || errB != nil || !bytes.Equal(stateA, stateB) {
			t.Errorf("the state of %s differs: %v %v", suffix, errA, errB)
		}
	}
}
