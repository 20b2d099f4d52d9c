package resolver_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
	"github.com/openpith/evidence/resolver/storetest"
)

func TestCacheIsAStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) resolver.Store { return resolver.NewCache(memstore.New(), 1<<20) })
}

// put commits the n-th version of a record.
func put(t testing.TB, s resolver.Store, suffix string, n int) {
	t.Helper()
	base := int64(0)
	if have, err := s.Record(context.Background(), suffix); err == nil {
		base = have.Revision
	} else if !errors.Is(err, resolver.ErrNotFound) {
		t.Fatal(err)
	}
	bundle := []byte("version " + strconv.Itoa(n))
	_, err := s.Commit(context.Background(), []resolver.Update{{Base: base, Bundle: bundle, Record: resolver.Record{Suffix: suffix, Number: "pith:2018:" + suffix, Digest: sha256.Sum256(bundle)}}})
	if err != nil {
		t.Fatal(err)
	}
}

func cached(t testing.TB, c *resolver.Cache, suffix string) string {
	t.Helper()
	tag, err := c.Tag(context.Background(), suffix)
	if err != nil {
		t.Fatal(err)
	}
	digest, packed, err := c.Packed(context.Background(), suffix)
	if err != nil || digest != sha256.Sum256(packed) || digest != tag {
		t.Fatalf("%q under %x, tag %x: %v", packed, digest, tag, err)
	}
	return string(packed)
}

// TestCache: what is committed through a cache is seen at once, what others
// commit a moment later, and what is asked for twice is read once.
func TestCache(t *testing.T) {
	inner := &counting{Store: memstore.New()}
	c := resolver.NewCache(inner, 1<<20)
	var now atomic.Int64
	c.SetNow(func() time.Time { return day.Add(time.Duration(now.Load())) })
	check := func(want string) {
		t.Helper()
		if got := cached(t, c, suffix); got != want {
			t.Errorf("serves %q, want %q", got, want)
		}
	}
	if _, err := c.Tag(t.Context(), suffix); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("a record that is not there: %v", err)
	}
	put(t, c, suffix, 1)
	check("version 1")
	put(t, c, suffix, 2)
	check("version 2")
	before := inner.bundles.Load()
	if _, err := c.Commit(t.Context(), []resolver.Update{{Record: resolver.Record{Suffix: suffix}}}); !errors.Is(err, resolver.ErrConflict) {
		t.Errorf("a record that is there as a new one: %v", err)
	}
	for range 10 {
		check("version 2")
	}
	if n := inner.bundles.Load() - before; n > 0 {
		t.Errorf("read %d times more", n)
	}
	put(t, inner, suffix, 3) // somebody else, on the same medium
	check("version 2")
	now.Add(int64(time.Second))
	check("version 3")
	for i := range 300 { // more than is looked up one by one
		put(t, inner, "AAAAAAAAAAAAAAAAAAAAAAA"+string([]byte{'A' + byte(i/26/26), 'A' + byte(i/26%26), 'A' + byte(i%26)}), i)
	}
	put(t, inner, suffix, 4)
	now.Add(int64(time.Second))
	check("version 4")
}

// TestCacheRace: what was read before a commit, and arrives after it, is not kept.
func TestCacheRace(t *testing.T) {
	inner := &counting{Store: memstore.New()}
	c := resolver.NewCache(inner, 1<<20)
	put(t, c, suffix, 1)
	inner.meanwhile = func() {
		inner.meanwhile = nil
		put(t, c, suffix, 2)
	}
	if _, packed, err := c.Packed(t.Context(), suffix); err != nil || string(packed) != "version 1" {
		t.Fatalf("%q, %v", packed, err)
	}
	if got := cached(t, c, suffix); got != "version 2" {
		t.Errorf("serves %q after version 2 was committed", got)
	}
}

// TestWriteFailure: whoever writes through a cache, it remembers what failed until
// something succeeds.
func TestWriteFailure(t *testing.T) {
	inner := &failing{Store: memstore.New()}
	c := resolver.NewCache(inner, 1<<20)
	now := day
	c.SetNow(func() time.Time { return now })
	ctx, over := context.WithCancel(t.Context())
	over()
	update := []resolver.Update{{Record: resolver.Record{Suffix: suffix, Number: "pith:2018:" + suffix}}}
	writes := map[string]func(context.Context) error{
		"Commit": func(ctx context.Context) error {
			_, err := c.Commit(ctx, update)
			return err
		},
		"PutHeld": func(ctx context.Context) error {
			_, _, err := c.PutHeld(ctx, resolver.Held{Status: resolver.Queued})
			return err
		},
		"PutKey": func(ctx context.Context) error { return c.PutKey(ctx, resolver.Key{Fingerprint: "f"}, time.Time{}) },
		"MoveHeld": func(ctx context.Context) error {
			return c.MoveHeld(ctx, 1, resolver.Queued, resolver.Rejected, "", "")
		},
	}
	for name, write := range writes {
		inner.err = resolver.ErrConflict // says nothing about the store
		if err := write(t.Context()); err == nil || c.WriteFailure() != nil {
			t.Fatalf("%s: a conflict (%v) is taken for a failure: %v", name, err, c.WriteFailure())
		}
		inner.err = resolver.ErrFull
		if err := write(ctx); err == nil || c.WriteFailure() != nil {
			t.Fatalf("%s: what was cancelled (%v) is taken for a failure: %v", name, err, c.WriteFailure())
		}
		since := now
		for range 2 {
			if err := write(t.Context()); !errors.Is(err, resolver.ErrFull) {
				t.Fatalf("%s: %v", name, err)
			}
			if f := c.WriteFailure(); f == nil || !errors.Is(f.Err, resolver.ErrFull) || !f.Since.Equal(since) {
				t.Errorf("%s: remembered %+v, want what failed at %v", name, f, since)
			}
			now = now.Add(time.Minute)
		}
		inner.err = nil
		if _, _, err := c.PutHeld(t.Context(), resolver.Held{Status: resolver.Queued}); err != nil || c.WriteFailure() != nil {
			t.Errorf("%s: after a success (%v) it remembers %+v", name, err, c.WriteFailure())
		}
	}
}

// failing is a store whose writes fail.
type failing struct {
	resolver.Store
	err error
}

func (f *failing) Commit(ctx context.Context, updates []resolver.Update) ([]resolver.Committed, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.Store.Commit(ctx, updates)
}

func (f *failing) PutHeld(ctx context.Context, h resolver.Held) (int64, resolver.Status, error) {
	if f.err != nil {
		return 0, "", f.err
	}
	return f.Store.PutHeld(ctx, h)
}

func (f *failing) PutKey(ctx context.Context, k resolver.Key, forget time.Time) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.PutKey(ctx, k, forget)
}

func (f *failing) MoveHeld(ctx context.Context, id int64, from, to resolver.Status, code, detail string) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.MoveHeld(ctx, id, from, to, code, detail)
}

// TestCacheAsksNoMore: when the store does not even count, it is asked nothing
// else, and what was kept is forgotten.
func TestCacheAsksNoMore(t *testing.T) {
	inner := &uncounted{Store: memstore.New()}
	c := resolver.NewCache(inner, 1<<20)
	now := day
	c.SetNow(func() time.Time { return now })
	put(t, c, suffix, 1)
	cached(t, c, suffix)
	put(t, inner, suffix, 2) // by somebody else
	now = now.Add(time.Second)
	inner.broken, inner.asked = true, 0
	if got := cached(t, c, suffix); got != "version 2" || inner.asked != 0 {
		t.Errorf("serves %q after asking %d times what changed", got, inner.asked)
	}
}

type uncounted struct {
	resolver.Store
	broken bool
	asked  int
}

func (u *uncounted) Counts(ctx context.Context) (resolver.Counts, error) {
	if u.broken {
		return resolver.Counts{}, errors.New("the disk is gone")
	}
	return u.Store.Counts(ctx)
}

func (u *uncounted) ChangedAfter(ctx context.Context, revision int64, limit int) ([]resolver.Record, error) {
	u.asked++
	return u.Store.ChangedAfter(ctx, revision, limit)
}

// counting counts how often bundles are read.
type counting struct {
	resolver.Store
	bundles   atomic.Int64
	meanwhile func() // happens between reading and returning
}

func (c *counting) Bundle(ctx context.Context, suffix string) (resolver.Record, []byte, error) {
	c.bundles.Add(1)
	rec, packed, err := c.Store.Bundle(ctx, suffix)
	if c.meanwhile != nil {
		c.meanwhile()
	}
	return rec, packed, err
}
