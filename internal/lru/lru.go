// Package lru keeps values that were used lately, up to a weight.
package lru

import (
	"container/list"
	"sync"
)

// A Cache holds values up to a total weight. What was not used for longest makes
// room. It is safe for use by many goroutines.
type Cache[K comparable, V any] struct {
	mu     sync.Mutex
	limit  int64
	most   int64 // of one value
	weight int64
	byKey  map[K]*list.Element // of *entry
	recent list.List           // most recently used first
}

type entry[K comparable, V any] struct {
	key    K
	value  V
	weight int64
}

// New returns a cache for values that together weigh no more than limit, in
// whatever unit Put is told, and of which none weighs more than a sixteenth of it.
func New[K comparable, V any](limit int64) *Cache[K, V] {
	return NewUneven[K, V](limit, limit/16)
}

// NewUneven is New for values of which one may weigh up to most.
func NewUneven[K comparable, V any](limit, most int64) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, most: min(most, limit), byKey: map[K]*list.Element{}}
}

// Get returns the value of a key.
func (c *Cache[K, V]) Get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return value, false
	}
	c.recent.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

// Put keeps a value, unless it weighs more than one may. Where valid
// is not nil it is asked first, while no other method runs.
func (c *Cache[K, V]) Put(key K, value V, weight int64, valid func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if weight > c.most || valid != nil && !valid() {
		return
	}
	c.remove(key)
	for c.weight+weight > c.limit {
		c.remove(c.recent.Back().Value.(*entry[K, V]).key)
	}
	c.byKey[key] = c.recent.PushFront(&entry[K, V]{key, value, weight})
	c.weight += weight
}

// Remove forgets a key.
func (c *Cache[K, V]) Remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
}

func (c *Cache[K, V]) remove(key K) {
	if e, ok := c.byKey[key]; ok {
		delete(c.byKey, key)
		c.weight -= c.recent.Remove(e).(*entry[K, V]).weight
	}
}

// Clear forgets everything.
func (c *Cache[K, V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.byKey)
	c.recent.Init()
	c.weight = 0
}

// Weight returns what the values weigh together.
func (c *Cache[K, V]) Weight() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.weight
}
