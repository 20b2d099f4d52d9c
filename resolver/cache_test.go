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
