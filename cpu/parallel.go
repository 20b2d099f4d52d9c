package cpu

import (
	"fmt"
	"sync"
	"sync/atomic"
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
type workerPool struct {
	workers int
	jobs    chan *job
	quit    chan struct{}
	free    sync.Pool
}

type job struct {
	task    task
	frame   *frame
	parts   int64
	next    atomic.Int64 // the next part nobody has taken
	helpers atomic.Int64 // worker numbers handed out besides 0, the caller's
	done    sync.WaitGroup
	failure atomic.Pointer[string]
}

func newWorkerPool(workers int) *workerPool {
	p := &workerPool{workers: workers, jobs: make(chan *job), quit: make(chan struct{})}
	p.free.New = func() any { return new(job) }
	for range workers - 1 {
		go p.help()
	}
	return p
}

func (p *workerPool) stop() { close(p.quit) }

func (p *workerPool) help() {
	for {
		select {
		case j := <-p.jobs:
			j.work(int(j.helpers.Add(1)))
			j.done.Done()
		case <-p.quit:
			return
		}
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
	j.helpers.Store(0)
	for range min(p.workers, parts) - 1 {
		j.done.Add(1)
		select {
		case p.jobs <- j:
			continue
		default: // nobody is idle: another graph is running
		}
		j.done.Done()
		break
	}
	j.work(0)
	j.done.Wait()
	failure := j.failure.Swap(nil)
	j.task, j.frame = nil, nil
	p.free.Put(j)
	if failure != nil {
		panic(*failure)
	}
}
