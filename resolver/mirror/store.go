package mirror

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/compare"
	"github.com/openpith/evidence/resolver/tlog"
)

// NewSource returns what a Server offers of a store. changed is that of the
// service that writes to it.
func NewSource(store resolver.Store, changed func() <-chan struct{}) Source {
	return &storeSource{store: store, changed: changed, set: NewSet(store)}
}

type storeSource struct {
	store   resolver.Store
	changed func() <-chan struct{}
	set     compare.Set
}

func (s *storeSource) Events(ctx context.Context, from int64, limit int) ([]Event, error) {
	rows, err := s.store.EventsFrom(ctx, from, limit)
	events := make([]Event, len(rows))
	for i, e := range rows {
		events[i] = Event{Seq: e.Seq, ID: e.ID, Suffix: e.Suffix, SHA256: compare.Digest(e.SHA256)}
	}
	return events, err
}

func (s *storeSource) Head(ctx context.Context) (int64, error) {
	c, err := s.store.Counts(ctx)
	return c.Events, err
}

func (s *storeSource) Bundle(ctx context.Context, suffix string) ([]byte, error) {
	return Bundle(ctx, s.store, suffix)
}

// Bundle reads the bundle of a record from a store. Errors: resolver.ErrNotFound.
func Bundle(ctx context.Context, store resolver.Store, suffix string) ([]byte, error) {
	_, packed, err := store.Bundle(ctx, suffix)
	if err != nil {
		return nil, err
	}
	data, err := resolver.Gunzip(packed)
	if err != nil {
		return nil, fmt.Errorf("the bundle of %s in the store is damaged: %w", suffix, err)
	}
	return data, nil
}

// Object finds an event by the digest of its content, which names it, or a
// bundle that is served now.
func (s *storeSource) Object(ctx context.Context, digest compare.Digest) ([]byte, error) {
	suffix, err := s.store.ByDigest(ctx, resolver.Digest(digest))
	if err == nil {
		data, err := Bundle(ctx, s.store, suffix)
		return data, notFound(err)
	}
	if !errors.Is(err, resolver.ErrNotFound) {
		return nil, err
	}
	id := "sha256:" + digest.String()
	e, err := s.store.Event(ctx, id)
	if err != nil {
		return nil, notFound(err)
	}
	bundle, err := Bundle(ctx, s.store, e.Suffix)
	if err != nil {
		return nil, notFound(err)
	}
	_, entries, err := contents(bundle)
	if err != nil {
		return nil, err
	}
	for _, x := range entries {
		if x.id != id {
			continue
		}
		// The bytes that have this digest: the content, without what is about it.
		signed, err := pith.SignedBytes(x.data)
		if err == nil && digestOf(signed) == digest {
			return signed, nil
		}
	}
	return nil, ErrNotFound // an invalid event that claims an id that is not its own
}

func notFound(err error) error {
	if errors.Is(err, resolver.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

func (s *storeSource) Ranges(ctx context.Context, prefixes []string) ([]compare.Range, error) {
	return s.set.Ranges(ctx, prefixes)
}

func (s *storeSource) Changed() <-chan struct{} { return s.changed() }

// NewSet returns a store as package compare wants it. It follows the changes of
// the store, also those of other processes.
func NewSet(store resolver.Store) compare.Set {
	s := &storeSet{store: store}
	s.trie = compare.NewTrie(s.scan)
	return s
}

type storeSet struct {
	store resolver.Store
	trie  *compare.Trie

	mu       sync.Mutex
	revision int64 // the trie knows of all changes up to this one
	started  bool
}

// Ranges tells the trie first what has changed since the last question.
func (s *storeSet) Ranges(ctx context.Context, prefixes []string) ([]compare.Range, error) {
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	return s.trie.Ranges(ctx, prefixes)
}

func (s *storeSet) catchUp(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts, err := s.store.Counts(ctx)
	if err != nil {
		return err
	}
	const page, most = 1000, 50_000
	if !s.started || counts.Revision < s.revision || counts.Revision-s.revision > most {
		// So much has changed that reading everything again is cheaper.
		s.trie.Forget()
		s.revision, s.started = counts.Revision, true
		return nil
	}
	for s.revision < counts.Revision {
		records, err := s.store.ChangedAfter(ctx, s.revision, page)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			s.revision = counts.Revision
		}
		for _, r := range records {
			s.trie.Changed(r.Suffix)
			s.revision = r.Revision
		}
	}
	return nil
}

func (s *storeSet) scan(ctx context.Context, prefix string) iter.Seq2[compare.Entry, error] {
	return func(yield func(compare.Entry, error) bool) {
		err := s.store.Fingerprints(ctx, prefix, func(f resolver.Fingerprint) error {
			if !yield(compare.Entry{Suffix: f.Suffix, Events: compare.Digest(f.Events), State: compare.Digest(f.State)}, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(compare.Entry{}, err)
		}
	}
}

// A service is what a target needs of resolver.Service.
type service interface {
	SubmitAll(ctx context.Context, subs []resolver.Submission) ([]resolver.Outcome, error)
	Store() resolver.Store
	Trust() *pith.Trust
	Policy() string
}

// NewTarget returns the target that lets bundles in through one of two
// services: known for mirrors that are judged by the policy, all for those of
// which everything valid is taken.
func NewTarget(known, all *resolver.Service) Target { return &storeTarget{known: known, all: all} }

type storeTarget struct{ known, all service }

// Where the store keeps what is known about mirrors that are copied: what the
// operator decided, how far each was copied, and what convicts them. They are
// apart, so that none of those who write them takes back what another wrote.
const (
	upstreamKey = "mirror/upstream/"
	progressKey = "mirror/progress/"
	evidenceKey = "mirror/evidence/"
)

// settings are what the operator decided about a mirror.
type settings struct {
	URL     string `json:"url"`
	LogKey  string `json:"log_key,omitempty"`
	All     bool   `json:"all,omitempty"`
	Bundles bool   `json:"bundles,omitempty"`
	Named   string `json:"named"` // of this naming: what was copied under another one is forgotten
}

// progress is how far a mirror was copied.
type progress struct {
	Named string `json:"named"`
	Upstream
}

// judge returns the service that what a mirror sends goes through, by what it is judged
// there, and whether that believes how the mirror puts bundles together.
func (t *storeTarget) judge(from Upstream) (to service, trust *pith.Trust, believed bool) {
	if to = t.known; from.All {
		to = t.all
	}
	trust = to.Trust()
	key, err := tlog.PublicKey(from.LogKey)
	if err != nil {
		return to, trust, false // a mirror without a log
	}
	public := pith.PublicKey{Signer: pith.Signer{ID: from.URL, Type: "mirror"}, Key: key}
	known, bundles, ok := trust.Signer(public.Fingerprint())
	if ok {
		public.Signer = known
	}
	if from.Bundles && !bundles {
		// Where a trust file says until when to believe this key, it has the last word.
		if more, err := trust.Merge(pith.TrustFor(public, nil, true)); err == nil {
			return to, more, true
		}
	}
	return to, trust, bundles
}

// Policy implements Target.
func (t *storeTarget) Policy(from Upstream) string {
	to, _, believed := t.judge(from)
	if believed {
		return to.Policy() + " " + from.LogKey
	}
	return to.Policy()
}

func (t *storeTarget) Submit(ctx context.Context, from Upstream, bundles [][]byte) ([]Outcome, error) {
	to, trust, _ := t.judge(from)
	subs := make([]resolver.Submission, len(bundles))
	for i, b := range bundles {
		subs[i] = resolver.Submission{Data: b, From: from.URL, Trust: trust, Unlimited: true}
	}
	got, err := to.SubmitAll(ctx, subs)
	if err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, len(got))
	for i, o := range got {
		// The cursor must not move past what there was no room for.
		if r := new(resolver.Refusal); errors.As(o.Err, &r) && r.Code == resolver.CodeQueueFull {
			return nil, fmt.Errorf("copying waits until a moderator has made room: %w", o.Err)
		}
		if outcomes[i].Refused = o.Err; o.Receipt != nil {
			outcomes[i].Number, outcomes[i].New = o.Receipt.Number, o.Receipt.New
		}
		if o.Receipt != nil && o.Receipt.New > 0 {
			if outcomes[i].Equivocations, err = t.equivocations(ctx, bundles[i], o.Receipt.Number); err != nil {
				return nil, err
			}
		}
	}
	return outcomes, nil
}

// equivocations counts those of a record that came with new events. A
// freshly registered record has none, which is seen without reading it again.
func (t *storeTarget) equivocations(ctx context.Context, bundle []byte, number string) (int, error) {
	r, err := t.known.Store().Record(ctx, suffixOf(number))
	if err != nil {
		return 0, err
	}
	if !r.United { // it is served as it came, verified
		return equivocations(bundle)
	}
	united, err := Bundle(ctx, t.known.Store(), r.Suffix)
	if err != nil {
		return 0, err
	}
	return pith.Verify(united, nil).Events.Equivocations, nil
}

func (t *storeTarget) Has(ctx context.Context, events []Event) ([]bool, error) {
	type exact struct {
		id     string
		digest resolver.Digest
	}
	records := map[string]map[exact]bool{}
	here := make([]bool, len(events))
	for i, e := range events {
		known, read := records[e.Suffix]
		if !read {
			have, err := t.known.Store().RecordEvents(ctx, e.Suffix)
			if err != nil {
				return nil, err
			}
			known = map[exact]bool{}
			for _, h := range have {
				known[exact{h.ID, h.SHA256}] = true
			}
			records[e.Suffix] = known
		}
		here[i] = known[exact{e.ID, resolver.Digest(e.SHA256)}]
	}
	return here, nil
}

func (t *storeTarget) Upstream(ctx context.Context, url string) (Upstream, error) {
	return LoadUpstream(ctx, t.known.Store(), url)
}

func (t *storeTarget) SaveUpstream(ctx context.Context, u Upstream) error {
	return SaveUpstream(ctx, t.known.Store(), u)
}

// LoadUpstream returns what a store keeps about a mirror that is copied. Errors:
// resolver.ErrNotFound.
func LoadUpstream(ctx context.Context, store resolver.Store, url string) (Upstream, error) {
	set, err := loadSettings(ctx, store, url)
	if err != nil {
		return Upstream{}, err
	}
	var p progress
	if err := load(ctx, store, progressKey+url, &p); err != nil && !errors.Is(err, resolver.ErrNotFound) {
		return Upstream{}, err
	}
	if p.Named != set.Named {
		p = progress{}
	}
	p.URL, p.LogKey, p.All, p.Bundles, p.named = set.URL, set.LogKey, set.All, set.Bundles, set.Named
	return p.Upstream, nil
}

func loadSettings(ctx context.Context, store resolver.Store, url string) (set settings, err error) {
	return set, load(ctx, store, upstreamKey+url, &set)
}

// load reads a value of the store. Errors: resolver.ErrNotFound.
func load(ctx context.Context, store resolver.Store, key string, v any) error {
	data, err := store.Meta(ctx, key)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("what is stored as %s is damaged: %w", key, err)
	}
	return nil
}

func save(ctx context.Context, store resolver.Store, key string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return store.SetMeta(ctx, key, data)
}

// ErrLogKey reports a text that is no key of a log.
var ErrLogKey = errors.New("not the key of a log")

// AddUpstream names a mirror to copy, or changes what was decided about it. How
// far it was copied stays; of a new one it is what u says. Errors: ErrLogKey.
func AddUpstream(ctx context.Context, store resolver.Store, u Upstream) error {
	if u.LogKey != "" || u.Bundles {
		if _, err := tlog.PublicKey(u.LogKey); err != nil {
			return fmt.Errorf("%w: %q: %w", ErrLogKey, u.LogKey, err)
		}
	}
	set, err := loadSettings(ctx, store, u.URL)
	fresh := errors.Is(err, resolver.ErrNotFound)
	if err != nil && !fresh {
		return err
	}
	if fresh {
		set.Named = rand.Text()
	}
	set.URL, set.LogKey, set.All, set.Bundles = u.URL, u.LogKey, u.All, u.Bundles
	if err := save(ctx, store, upstreamKey+u.URL, set); err != nil || !fresh {
		return err
	}
	return save(ctx, store, progressKey+u.URL, progress{set.Named, u})
}

// SaveUpstream keeps how far a mirror was copied that LoadUpstream returned.
// Errors: ErrRemoved, also when it was named again since.
func SaveUpstream(ctx context.Context, store resolver.Store, u Upstream) error {
	set, err := loadSettings(ctx, store, u.URL)
	if errors.Is(err, resolver.ErrNotFound) || err == nil && set.Named != u.named {
		return fmt.Errorf("%s: %w", u.URL, ErrRemoved)
	}
	if err != nil {
		return err
	}
	return save(ctx, store, progressKey+u.URL, progress{set.Named, u})
}

// RemoveUpstream forgets a mirror. What was taken from it stays, and so does what
// convicts it.
func RemoveUpstream(ctx context.Context, store resolver.Store, url string) error {
	if _, err := loadSettings(ctx, store, url); err != nil {
		return err
	}
	if err := store.SetMeta(ctx, upstreamKey+url, nil); err != nil {
		return err
	}
	return store.SetMeta(ctx, progressKey+url, nil)
}

// Convict implements Target.
func (t *storeTarget) Convict(ctx context.Context, e Evidence) error {
	return keepEvidence(ctx, t.known.Store(), e)
}

// maxEvidence is how much is kept about one mirror: one is enough. What is no proof
// by itself, which somebody on the way can cause again and again, keeps room for
// proofs.
const maxEvidence = 64

func keepEvidence(ctx context.Context, store resolver.Store, e Evidence) error {
	have, err := store.MetaKeys(ctx, evidenceKey+e.URL+" ")
	if err != nil {
		return err
	}
	most := maxEvidence
	if !e.Proof {
		most /= 2
	}
	key := evidenceKey + e.URL + " " + e.digest()
	if len(have) >= most || slices.Contains(have, key) {
		return nil
	}
	return save(ctx, store, key, e)
}

// digest names evidence by its checkpoints.
func (e Evidence) digest() string { return digestOf([]byte(e.Before + "\n" + e.Now)).String() }

// EvidenceAgainst returns what was found against a mirror, the oldest first.
func EvidenceAgainst(ctx context.Context, store resolver.Store, url string) ([]Evidence, error) {
	keys, err := store.MetaKeys(ctx, evidenceKey+url+" ")
	list := make([]Evidence, len(keys))
	for i := range keys {
		if err == nil {
			err = load(ctx, store, keys[i], &list[i])
		}
	}
	slices.SortStableFunc(list, func(a, b Evidence) int { return a.At.Compare(b.At) })
	return list, err
}

// Upstreams lists the mirrors that are copied, in the order of their addresses.
func Upstreams(ctx context.Context, store resolver.Store) ([]Upstream, error) {
	keys, err := store.MetaKeys(ctx, upstreamKey)
	if err != nil {
		return nil, err
	}
	var list []Upstream
	for _, key := range keys {
		u, err := LoadUpstream(ctx, store, strings.TrimPrefix(key, upstreamKey))
		if err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, nil
}

// At is when the mirror last answered all questions well, "" for never.
func (u Upstream) At() string {
	if u.SyncedAt.IsZero() {
		return ""
	}
	return u.SyncedAt.Format(time.RFC3339)
}

// Lag is how many events the mirror had that were not here when it was last
// asked.
func (u Upstream) Lag() int64 { return max(0, u.Head-u.Next) }
