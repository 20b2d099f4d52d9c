package cpu

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A countingTask counts what is done of it, and by how many at once as which worker.
type countingTask struct {
	done    []atomic.Int32
	inside  []atomic.Int32 // by worker number
	clashes atomic.Int32
	fail    int // the part that panics, or -1
	slow    time.Duration
}

func newCountingTask(parts, workers int) *countingTask {
	return &countingTask{done: make([]atomic.Int32, parts), inside: make([]atomic.Int32, workers), fail: -1}
}

func (c *countingTask) part(_ *frame, worker, i int) {
	if c.inside[worker].Add(1) > 1 {
		c.clashes.Add(1)
	}
	time.Sleep(c.slow)
	c.done[i].Add(1)
	c.inside[worker].Add(-1)
	if i == c.fail {
		panic("part of a test")
	}
}

// Every part is done once, no worker number is given out twice, whether workers are
// still looking out for work, asleep, or busy with the task of another graph.
func TestWorkerPool(t *testing.T) {
	const workers = 4
	pool := newWorkerPool(workers)
	defer pool.stop()
	var callers sync.WaitGroup
	for caller := range 3 {
		callers.Go(func() {
			for round := range 400 {
				c := newCountingTask(1+(round*7+caller)%23, workers)
				if round%50 == caller {
					time.Sleep(3 * lookout)
					c.slow = lookout / 4
				}
				pool.run(nil, len(c.done), c)
				for i := range c.done {
					if n := c.done[i].Load(); n != 1 {
						t.Errorf("part %d of %d was done %d times when run returned", i, len(c.done), n)
					}
				}
				if c.clashes.Load() > 0 {
					t.Error("two parts ran at once as one worker")
				}
			}
		})
	}
	callers.Wait()
}

// Who has gone to sleep is woken: a worker who is asked, so that two parts that wait
// for each other end, and a caller who waits for a worker.
func TestWorkerPoolWakes(t *testing.T) {
	pool := newWorkerPool(2)
	defer pool.stop()
	for range 20 {
		time.Sleep(2 * lookout)
		done := make(chan struct{})
		go func() {
			pool.run(nil, 2, make(meetingTask))
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("somebody sleeps on")
		}
	}
}

type meetingTask chan int

func (m meetingTask) part(_ *frame, worker, i int) {
	if i == 0 {
		m <- i
	} else {
		<-m
	}
	if worker > 0 {
		time.Sleep(3 * lookout)
	}
}

// A part that panics makes run panic, and the pool goes on working.
func TestWorkerPoolPanics(t *testing.T) {
	pool := newWorkerPool(3)
	defer pool.stop()
	for round := range 50 {
		c := newCountingTask(8, 3)
		c.fail = round % 8
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(r.(string), "part of a test") {
					t.Errorf("recovered %v", r)
				}
			}()
			pool.run(nil, 8, c)
			t.Error("run returned")
		}()
		c = newCountingTask(8, 3)
		pool.run(nil, 8, c)
		for i := range c.done {
			if c.done[i].Load() != 1 {
				t.Errorf("part %d was done %d times after a panic", i, c.done[i].Load())
			}
		}
	}
}
