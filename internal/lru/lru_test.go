package lru

import (
	"testing"

	"pgregory.net/rapid"
)

// TestBounded: whatever is done, the weight is the sum of what is held and no
// more than the limit, and what is held is what was put last.
func TestBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 320
		c := New[int, int](limit)
		put, weights := map[int]int{}, map[int]int64{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				key, value, weight := rapid.IntRange(0, 30).Draw(t, "key"), rapid.Int().Draw(t, "value"), rapid.Int64Range(0, 25).Draw(t, "weight")
				valid := rapid.Bool().Draw(t, "valid")
				c.Put(key, value, weight, func() bool { return valid })
				if valid && weight <= limit/16 {
					put[key], weights[key] = value, weight
				}
			},
			"remove": func(t *rapid.T) {
				key := rapid.IntRange(0, 30).Draw(t, "key")
				c.Remove(key)
				delete(put, key)
			},
			"clear": func(t *rapid.T) { c.Clear(); clear(put) },
			"": func(t *rapid.T) {
				var sum int64
				for key := range 31 {
					got, ok := c.Get(key)
					want, known := put[key]
					if ok && (!known || got != want) {
						t.Fatalf("%d is %d, want %d (%v)", key, got, want, known)
					}
					if ok {
						sum += weights[key]
					}
				}
				if sum != c.Weight() || sum > limit {
					t.Fatalf("%d by hand, %d by the cache, limit %d", sum, c.Weight(), limit)
				}
			},
		})
	})
}

// TestOldestGoes: what was used lately stays.
func TestOldestGoes(t *testing.T) {
	c := New[string, int](32)
	for i, key := range []string{"a", "b", "c"} {
		c.Put(key, i, 2, nil)
	}
	c.Get("a")
	for i := range 14 { // fills it: one has to go
		c.Put(string(rune('d'+i)), i, 2, nil)
	}
	for key, want := range map[string]bool{"a": true, "b": false, "c": true} {
		if _, ok := c.Get(key); ok != want {
			t.Errorf("%s is there: %v", key, ok)
		}
	}
}
