package resolver

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/openpith/evidence/internal/lru"
)

// Limits bound what one stranger can cost a mirror. Zero values mean the
// defaults, negative ones no limit.
type Limits struct {
	Size       int     // bytes of a submission; default 4 MiB, at most pith.MaxSize
	PerSigner  float64 // events per second of one key, on average; default 5
	PerAddress float64 // submissions per second from one address; default 10
	Burst      int     // how many may come at once; default 50
	Queued     int64   // how many submissions may wait for a moderator; default 10,000; ten times more from mirrors that are copied
	Refused    int64   // how many refused submissions are kept; default 100,000
}

func (l Limits) withDefaults() Limits {
	if l.Size == 0 {
		l.Size = 4 << 20
	}
	if l.PerSigner == 0 {
		l.PerSigner = 5
	}
	if l.PerAddress == 0 {
		l.PerAddress = 10
	}
	if l.Burst == 0 {
		l.Burst = 50
	}
	if l.Queued == 0 {
		l.Queued = 10_000
	}
	if l.Refused == 0 {
		l.Refused = 100_000
	}
	return l
}

// limiter holds a token bucket for each name that was seen lately. The names
// are strangers' choice, so their number is bounded: the one that was idle
// longest makes room. Whoever cycles through that many names is limited by the
// address they come from.
type limiter struct {
	Limits
	now func() time.Time

	mu      sync.Mutex
	buckets *lru.Cache[string, *rate.Limiter] // each weighs 1
}

const maxBuckets = 1 << 14

func newLimiter(l Limits, now func() time.Time) *limiter {
	return &limiter{Limits: l.withDefaults(), now: now, buckets: lru.New[string, *rate.Limiter](maxBuckets)}
}

// take takes n tokens of the bucket with a name, or returns how long it takes
// until they are there. More than a burst is as much as a burst.
func (l *limiter) take(name string, perSecond float64, n int) (wait time.Duration, ok bool) {
	_, wait, ok = l.takeAll(map[string]int{name: n}, perSecond)
	return wait, ok
}

// takeAll takes so many tokens of several buckets, or of none of them: then it
// names the one that lacks most, and how long it takes until it does not.
func (l *limiter) takeAll(wanted map[string]int, perSecond float64) (name string, wait time.Duration, ok bool) {
	if perSecond < 0 {
		return "", 0, true
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	reserved := make([]*rate.Reservation, 0, len(wanted))
	for each, n := range wanted {
		bucket, known := l.buckets.Get(each)
		if !known {
			bucket = rate.NewLimiter(rate.Limit(perSecond), l.Burst)
			l.buckets.Put(each, bucket, 1, nil)
		}
		r := bucket.ReserveN(now, min(n, l.Burst))
		reserved = append(reserved, r)
		if delay := r.DelayFrom(now); delay > wait {
			name, wait = each, delay
		}
	}
	if wait == 0 {
		return "", 0, true
	}
	for _, r := range reserved {
		r.CancelAt(now)
	}
	return name, wait, false
}
