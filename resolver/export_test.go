package resolver

import "time"

// SetNow gives a cache another clock.
func (c *Cache) SetNow(now func() time.Time) { c.now = now }
