package resolver

import (
	"context"
	"time"
)

// SetNow gives a cache another clock.
func (c *Cache) SetNow(now func() time.Time) { c.now = now }

// Unite takes all the room that there is to unite in, until release is called.
func (s *Service) Unite() (release func()) {
	if err := s.uniting.Acquire(context.Background(), unitingBytes); err != nil {
		panic(err)
	}
	return func() { s.uniting.Release(unitingBytes) }
}

// Waiting reports whether somebody waits for room to unite in.
func (s *Service) Waiting() bool { return !s.uniting.TryAcquire(0) }
