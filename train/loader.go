package train

import (
	"sync"
	"time"
)

// Augmented are samples that are seen differently in every epoch. FillEpoch is
// to Fill what a random crop is to an image; it must be a function of epoch
// (from 0) and index, and safe for concurrent use. Evaluation uses Fill.
type Augmented interface {
	Samples
	FillEpoch(epoch int, indices []int, x []float32, y []int32) error
}

// A chunk is one ghost batch as numbers.
type chunk struct {
	x   []float32
	y   []int32
	err error
}

// A loader reads the ghost batches of an epoch ahead of the steps, so that a
// step does not wait for its input. Which worker reads a ghost batch does not
// change what is in it, and they come out in order.
type loader struct {
	out  chan chan chunk // in order; each gives one chunk
	quit chan struct{}
	busy sync.WaitGroup
	wait time.Duration // spent in next, waiting
}

// load begins to read batches of samples, each of the given size, in the order
// of indices. Whoever calls it calls stop.
func load(s Samples, epoch int, indices []int, size, workers int) *loader {
	workers = max(1, workers)
	each := 1
	for _, d := range s.Shape() {
		each *= d
	}
	fill := func(part []int) (c chunk) {
		defer catch(&c.err)
		c.x, c.y = make([]float32, len(part)*each), make([]int32, len(part))
		if a, ok := s.(Augmented); ok {
			c.err = a.FillEpoch(epoch, part, c.x, c.y)
		} else {
			s.Fill(part, c.x, c.y)
		}
		return c
	}
	type job struct {
		part []int
		done chan chunk
	}
	// Beside what the workers hold, as many chunks wait as there are workers,
	// and one: enough to be ahead, little enough for any memory.
	l := &loader{out: make(chan chan chunk, workers+1), quit: make(chan struct{})}
	jobs := make(chan job)
	l.busy.Add(workers + 1)
	for range workers {
		go func() {
			defer l.busy.Done()
			for j := range jobs {
				j.done <- fill(j.part)
			}
		}()
	}
	go func() {
		defer l.busy.Done()
		defer close(jobs)
		for ; len(indices) >= size; indices = indices[size:] {
			j := job{indices[:size], make(chan chunk, 1)}
			select {
			case l.out <- j.done:
			case <-l.quit:
				return
			}
			select {
			case jobs <- j:
			case <-l.quit:
				return
			}
		}
	}()
	return l
}

// next is the next chunk. It must not be called more often than there are.
func (l *loader) next() chunk {
	start := time.Now()
	c := <-<-l.out
	l.wait += time.Since(start)
	return c
}

// stop ends the reading; afterwards nothing touches the samples any more.
func (l *loader) stop() {
	close(l.quit)
	l.busy.Wait()
}
