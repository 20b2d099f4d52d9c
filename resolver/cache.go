package resolver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openpith/evidence/internal/lru"
)

// A Cache is a store that keeps in memory which bundles were asked for lately,
// with their digests, and whether the store can write. What is committed through
// it is seen at once; what another process commits to the same medium, after
// cacheAge at most.
type Cache struct {
	Store
	quick   Quick
	now     func() time.Time
	bundles *lru.Cache[string, packed]
	changes atomic.Int64 // how often something was forgotten
	asked   atomic.Int64 // when the store was last asked what others changed, in ns
	failed  atomic.Pointer[WriteFailure]

	mu   sync.Mutex
	seen int64 // revision up to which all changes have been forgotten
}

var _ Quick = (*Cache)(nil)

type packed struct {
	digest Digest
	gzip   []byte // nil where only the digest was asked for
}

// cacheAge is how old an answer may be where other processes write to the store.
const cacheAge = 200 * time.Millisecond

// NewCache returns a cache of so many bytes before a store, of which one bundle may
// take half: readers who take a large one slowly all hold the same bytes.
func NewCache(s Store, bytes int64) *Cache {
	return &Cache{Store: s, quick: QuickOf(s), now: time.Now, bundles: lru.NewUneven[string, packed](bytes, bytes/2)}
}

// A WriteFailure is why a store cannot write.
type WriteFailure struct {
	Err   error
	Since time.Time
}

// WriteFailure returns why the store could not write when somebody last tried, or
// nil. Small values (SetMeta) do not count: they may fit where nothing else does.
func (c *Cache) WriteFailure() *WriteFailure { return c.failed.Load() }

// wrote remembers what came of writing.
func (c *Cache) wrote(ctx context.Context, err error) {
	switch {
	case err == nil:
		c.failed.Store(nil)
	case errors.Is(err, ErrConflict), errors.Is(err, ErrNotFound), ctx.Err() != nil: // says nothing about the store
	case c.failed.Load() == nil:
		c.failed.CompareAndSwap(nil, &WriteFailure{err, c.now().UTC()})
	}
}

// PutHeld implements Store.
func (c *Cache) PutHeld(ctx context.Context, h Held) (id int64, now Status, err error) {
	id, now, err = c.Store.PutHeld(ctx, h)
	c.wrote(ctx, err)
	return id, now, err
}

// PutKey implements Store.
func (c *Cache) PutKey(ctx context.Context, key Key, forget time.Time) error {
	err := c.Store.PutKey(ctx, key, forget)
	c.wrote(ctx, err)
	return err
}

// MoveHeld implements Store.
func (c *Cache) MoveHeld(ctx context.Context, id int64, from, to Status, code, detail string) error {
	err := c.Store.MoveHeld(ctx, id, from, to, code, detail)
	c.wrote(ctx, err)
	return err
}

// Commit implements Store.
func (c *Cache) Commit(ctx context.Context, updates []Update) ([]Committed, error) {
	out, err := c.Store.Commit(ctx, updates)
	c.wrote(ctx, err)
	if errors.Is(err, ErrConflict) { // nothing was committed
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range updates { // also after another error: perhaps it was committed after all
		c.forget(u.Suffix)
	}
	for _, done := range out {
		if done.Revision == c.seen+1 { // nobody else came between
			c.seen = done.Revision
		}
	}
	return out, err
}

func (c *Cache) forget(suffix string) {
	c.changes.Add(1)
	c.bundles.Remove(suffix)
}

// Tag implements Quick.
func (c *Cache) Tag(ctx context.Context, suffix string) (Digest, error) {
	c.refresh(ctx)
	if p, ok := c.bundles.Get(suffix); ok {
		return p.digest, nil
	}
	before := c.changes.Load()
	digest, err := c.quick.Tag(ctx, suffix)
	if err == nil {
		c.keep(suffix, packed{digest, nil}, before)
	}
	return digest, err
}

// Packed implements Quick. Nobody may write to the bytes.
func (c *Cache) Packed(ctx context.Context, suffix string) (Digest, []byte, error) {
	c.refresh(ctx)
	if p, ok := c.bundles.Get(suffix); ok && p.gzip != nil {
		return p.digest, p.gzip, nil
	}
	before := c.changes.Load()
	digest, gzip, err := c.quick.Packed(ctx, suffix)
	if err == nil {
		c.keep(suffix, packed{digest, gzip}, before)
	}
	return digest, gzip, err
}

// keep keeps what was read from the store, unless something was forgotten since:
// it might have been that.
func (c *Cache) keep(suffix string, p packed, before int64) {
	const overhead = 256 // of an entry, about
	c.bundles.Put(suffix, p, int64(len(p.gzip)+overhead), func() bool { return c.changes.Load() == before })
}

// refresh forgets what others have changed. Of all who come at that time one
// asks the store.
func (c *Cache) refresh(ctx context.Context) {
	now, last := c.now().UnixNano(), c.asked.Load()
	if now-last < int64(cacheAge) || !c.asked.CompareAndSwap(last, now) {
		return
	}
	// It is not the business of the reader who happened to come.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	counts, err := c.Counts(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && counts.Revision == c.seen {
		return
	}
	const most = 256 // beyond it is cheaper to begin anew
	var changed []Record
	if err == nil {
		changed, err = c.ChangedAfter(ctx, c.seen, most)
	}
	if err != nil || len(changed) == most {
		c.changes.Add(1)
		c.bundles.Clear()
		c.seen = max(c.seen, counts.Revision)
		return
	}
	for _, r := range changed {
		c.forget(r.Suffix)
		c.seen = max(c.seen, r.Revision)
	}
}
