package cpu

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A task is work split into parts that may run at the same time. The split is
// fixed by shapes, never by the number of workers, so that sums associate the
// same way on every machine.
type task interface {
	// part does part i. The worker number is below the pool's number of workers
	// and no other part runs under it at the same time in the same frame.
	part(x *frame, worker, i int)
}

// A workerPool shares parts of tasks among goroutines that wait between them.
//
// The steps of a plan take microseconds, and waking a goroutine that has gone to
// sleep takes tens of them, more on a virtual machine. So whoever waits looks out
// for a while before he sleeps, and a caller who has done all parts himself takes
// back what he offered to workers that are not yet awake.
type workerPool struct {
	workers int
	helpers []*helper
	quit    atomic.Bool
	free    sync.Pool
}

// A helper is a goroutine of the pool.
type helper struct {
	// offer is nil while the helper has nothing to do, the job that somebody
	// offers, or taken.
	offer atomic.Pointer[job]
	sleeper
	_ [64]byte // keeps helpers off each other's cache lines
}

// taken stands in place of an offer that the helper has accepted.
var taken = new(job)

// A job is a task under way.
type job struct {
	task     task
	frame    *frame
	parts    int64
	next     atomic.Int64 // the next part nobody has taken
	numbers  atomic.Int64 // worker numbers handed out besides 0, the caller's
	finished atomic.Int64 // helpers that took the job and have left it
	failure  atomic.Pointer[string]
	sleeper        // the caller, who waits for helpers
	offered  []int // the helpers asked
}

func newWorkerPool(workers int) *workerPool {
	p := &workerPool{workers: workers}
	p.free.New = func() any { return &job{sleeper: newSleeper()} }
	for range workers - 1 {
		h := &helper{sleeper: newSleeper()}
		p.helpers = append(p.helpers, h)
		go p.help(h)
	}
	return p
}

// stop ends the goroutines of a pool that nobody uses any more.
func (p *workerPool) stop() {
	p.quit.Store(true)
	for _, h := range p.helpers {
		h.wake()
	}
}

func (p *workerPool) help(h *helper) {
	asked := func() bool { return h.offer.Load() != nil || p.quit.Load() }
	for {
		h.wait(asked)
		j := h.offer.Load()
		switch {
		case j == nil && p.quit.Load():
			return
		case j == nil || !h.offer.CompareAndSwap(j, taken): // taken back
			continue
		}
		j.work(int(j.numbers.Add(1)))
		h.offer.Store(nil)
		j.finished.Add(1)
		j.wake()
	}
}

// work does parts until none is left.
func (j *job) work(worker int) {
	defer func() {
		if r := recover(); r != nil {
			s := fmt.Sprint(r)
			j.failure.Store(&s)
			j.next.Store(j.parts)
		}
	}()
	for {
		i := j.next.Add(1) - 1
		if i >= j.parts {
			return
		}
		j.task.part(j.frame, worker, int(i))
	}
}

// run does all parts of a task, together with workers that are idle. It panics
// when a part does.
func (p *workerPool) run(x *frame, parts int, t task) {
	if parts == 1 || p.workers == 1 {
		for i := range parts {
			t.part(x, 0, i)
		}
		return
	}
	j := p.free.Get().(*job)
	j.task, j.frame, j.parts = t, x, int64(parts)
	j.next.Store(0)
	j.numbers.Store(0)
	j.finished.Store(0)
	for i, h := range p.helpers {
		if len(j.offered) == parts-1 {
			break
		}
		// A helper that is not idle works for another graph.
		if h.offer.CompareAndSwap(nil, j) {
			j.offered = append(j.offered, i)
			h.wake()
		}
	}
	j.work(0)
	at := int64(0) // helpers that were quicker
	for _, i := range j.offered {
		if !p.helpers[i].offer.CompareAndSwap(j, nil) {
			at++
		}
	}
	j.wait(func() bool { return j.finished.Load() == at })
	j.offered = j.offered[:0]
	failure := j.failure.Swap(nil)
	j.task, j.frame = nil, nil
	p.free.Put(j)
	if failure != nil {
		panic(*failure)
	}
}

// A sleeper is how one goroutine waits for what others do.
type sleeper struct {
	asleep atomic.Bool
	awake  chan struct{}
}

func newSleeper() sleeper { return sleeper{awake: make(chan struct{}, 1)} }

// How long a sleeper looks out before it sleeps.
const lookout = 100 * time.Microsecond

// wait returns when done does. Whoever makes done true calls wake afterwards.
func (s *sleeper) wait(done func() bool) {
	var start time.Time
	for {
		for range 64 {
			if done() {
				return
			}
		}
		if start.IsZero() {
			start = time.Now()
		} else if time.Since(start) > lookout {
			break
		}
		runtime.Gosched()
	}
	for !done() {
		s.asleep.Store(true)
		// Either nobody had seen that we sleep, or a token is on its way.
		if done() && s.asleep.CompareAndSwap(true, false) {
			return
		}
		<-s.awake
	}
}

// wake ends the sleep of a goroutine, if it sleeps.
func (s *sleeper) wake() {
	if s.asleep.CompareAndSwap(true, false) {
		s.awake <- struct{}{}
	}
}
