package cpu

import (
	"sync"
	"time"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/openpith/evidence/cpu/internal/kernels"
	"github.com/pkg/errors"
)

// A step is one entry of a compiled plan.
type step interface {
	// run computes the outputs of the step in the memory of the frame.
	run(x *frame) error
}

// An Executable is a compiled graph. It is safe for concurrent use.
type Executable struct {
	backend      *Backend
	name         string
	paramNames   []string
	paramShapes  []shapes.Shape
	outputShapes []shapes.Shape
	plan         plan
	frames       sync.Pool
	finalizers   []func() // of fallbacks

	mu        sync.Mutex
	finalized bool
	running   sync.WaitGroup
	profile   profile
}

var _ compute.Executable = (*Executable)(nil)

// A frame is the memory of one run of an executable.
type frame struct {
	exec *Executable
	// memory holds the bytes of every value, by slot.
	memory [][]byte
	// scratch is private memory of each worker.
	scratch [][]byte
	workers []workerState
	arena   *block
}

// A workerState holds small things that kernels take by reference.
type workerState struct {
	tile  kernels.Tile
	draw  kernels.Draw
	span  kernels.Span
	lanes [kernels.Lanes]float32
	// Where this worker finds tensors, by slot: memory holds the elements from
	// origin on. They differ from the frame's for tensors that live only between
	// the steps of an image loop.
	memory [][]byte
	origin []int
	_      [64]byte // keeps workers off each other's cache lines
}

// f32 views a value as numbers.
func (x *frame) f32(slot int) []float32 {
	b := x.memory[slot]
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
}

// tensor views a value from an element on, as a worker sees it.
func (x *frame) tensor(worker, slot, element int) []float32 {
	w := &x.workers[worker]
	b := w.memory[slot]
	skip := element - w.origin[slot]
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)[skip:]
}

// parallel runs the parts of a task on the backend's workers.
func (x *frame) parallel(parts int, t task) { x.exec.backend.pool.run(x, parts, t) }

// workspace views the first n numbers of a worker's scratch memory.
func (x *frame) workspace(worker, offset, n int) []float32 {
	if n == 0 {
		return nil
	}
	b := x.scratch[worker][4*offset:]
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)[:n:n]
}

// Inputs returns the names and shapes of the parameters.
func (e *Executable) Inputs() ([]string, []shapes.Shape) { return e.paramNames, e.paramShapes }

// Outputs returns the shapes of the results.
func (e *Executable) Outputs() []shapes.Shape { return e.outputShapes }

// Finalize waits for runs under way and frees what the executable holds.
func (e *Executable) Finalize() {
	e.mu.Lock()
	if e.finalized {
		e.mu.Unlock()
		return
	}
	e.finalized = true
	e.mu.Unlock()
	e.running.Wait()
	for _, f := range e.finalizers {
		f()
	}
	if e.backend.opts.dump {
		e.dumpProfile()
		e.backend.dumped.Delete(e)
	}
	e.plan = plan{}
	for e.frames.Get() != nil {
	}
}

// Execute runs the graph. Donated inputs are finalized when it returns. A result
// may be computed in the memory of one, which is then lost even if the run fails.
func (e *Executable) Execute(inputs []compute.Buffer, donate []bool, device compute.DeviceNum) (outputs []compute.Buffer, err error) {
	e.mu.Lock()
	if e.finalized || e.backend.finalized.Load() {
		e.mu.Unlock()
		return nil, errors.Errorf("cpu: executable %q or its backend was finalized", e.name)
	}
	e.running.Add(1)
	e.mu.Unlock()
	defer e.running.Done()

	x, err := e.newFrame(inputs, donate, device)
	if err != nil {
		return nil, err
	}
	defer e.release(x)
	results := make([]compute.Buffer, len(e.outputShapes))
	defer func() {
		if r := recover(); r != nil {
			err = errors.Errorf("cpu: running %q: %v", e.name, r)
		}
		if err != nil {
			for _, b := range results {
				if b != nil {
					_ = b.Finalize()
				}
			}
		}
	}()
	for i, shape := range e.outputShapes {
		buffer := e.takeOver(x, i, inputs, donate)
		if buffer == nil {
			if buffer, err = e.backend.newBuffer(0, shape); err != nil {
				return nil, err
			}
		}
		results[i] = buffer
		if slot := e.plan.outputSlots[i]; slot >= 0 {
			x.memory[slot] = buffer.bytes
		}
	}
	for w := range x.workers {
		copy(x.workers[w].memory, x.memory)
	}
	if e.backend.opts.dump {
		err = e.runProfiled(x)
	} else {
		for _, s := range e.plan.steps {
			if err = s.step.run(x); err != nil {
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	for _, c := range e.plan.copies {
		copy(results[c.output].(*Buffer).bytes, x.memory[c.slot])
	}
	for i := range donate {
		if donate[i] {
			_ = inputs[i].Finalize()
		}
	}
	return results, nil
}

// takeOver makes the buffer of a result of a donated input, or returns nil.
func (e *Executable) takeOver(x *frame, result int, inputs []compute.Buffer, donate []bool) *Buffer {
	param := e.plan.takes[result]
	if param < 0 || len(donate) == 0 || !donate[param] {
		return nil
	}
	bytes := x.memory[e.plan.paramSlots[param]]
	if len(bytes) == 0 {
		return nil
	}
	for i, slot := range e.plan.paramSlots { // the same buffer may be given twice
		if other := x.memory[slot]; i != param && len(other) > 0 && &other[0] == &bytes[0] {
			return nil
		}
	}
	return inputs[param].(*Buffer).move(e.outputShapes[result])
}

// newFrame checks the inputs and lays out memory for a run.
func (e *Executable) newFrame(inputs []compute.Buffer, donate []bool, device compute.DeviceNum) (*frame, error) {
	if device != 0 {
		return nil, errors.Errorf("cpu: there is one device, number 0; got %d", device)
	}
	if len(inputs) != len(e.paramShapes) {
		return nil, errors.Errorf("cpu: %q takes %d inputs, got %d", e.name, len(e.paramShapes), len(inputs))
	}
	if len(donate) != 0 && len(donate) != len(inputs) {
		return nil, errors.Errorf("cpu: %q: %d inputs but %d marks of donation", e.name, len(inputs), len(donate))
	}
	x, _ := e.frames.Get().(*frame)
	if x == nil {
		x = &frame{exec: e, memory: make([][]byte, e.plan.slots), scratch: make([][]byte, e.backend.opts.workers),
			workers: make([]workerState, e.backend.opts.workers)}
		for slot, data := range e.plan.constants {
			x.memory[slot] = data
		}
		for w := range x.workers {
			x.workers[w].memory, x.workers[w].origin = make([][]byte, e.plan.slots), make([]int, e.plan.slots)
		}
	}
	for i, in := range inputs {
		b, ok := in.(*Buffer)
		if !ok || b.backend != e.backend {
			return nil, errors.Errorf("cpu: %q: input %d (%s) is not a buffer of this backend", e.name, i, e.paramNames[i])
		}
		if !b.shape.Equal(e.paramShapes[i]) {
			return nil, errors.Errorf("cpu: %q: input %d (%s) must be %s, got %s", e.name, i, e.paramNames[i], e.paramShapes[i], b.shape)
		}
		b.mu.Lock()
		x.memory[e.plan.paramSlots[i]] = b.bytes
		b.mu.Unlock()
		if x.memory[e.plan.paramSlots[i]] == nil {
			return nil, errors.WithMessagef(errBufferFinalized, "cpu: %q: input %d (%s)", e.name, i, e.paramNames[i])
		}
	}
	workers := e.backend.opts.workers
	x.arena = e.backend.memory.get(e.plan.arenaSize + workers*e.plan.scratchSize)
	for _, t := range e.plan.temporaries {
		x.memory[t.slot] = x.arena.bytes[t.offset : t.offset+t.size : t.offset+t.size]
	}
	for w := range workers {
		start := e.plan.arenaSize + w*e.plan.scratchSize
		x.scratch[w] = x.arena.bytes[start : start+e.plan.scratchSize]
	}
	return x, nil
}

// release gives the memory of a run back.
func (e *Executable) release(x *frame) {
	e.backend.memory.put(x.arena)
	x.arena = nil
	clear(x.scratch)
	for _, slot := range e.plan.transient {
		x.memory[slot] = nil
	}
	for w := range x.workers {
		clear(x.workers[w].memory)
	}
	e.frames.Put(x)
}

// runProfiled is the loop of Execute with a clock.
func (e *Executable) runProfiled(x *frame) error {
	times := make([]time.Duration, len(e.plan.steps))
	for i, s := range e.plan.steps {
		start := time.Now()
		if err := s.step.run(x); err != nil {
			return err
		}
		times[i] = time.Since(start)
	}
	e.profile.add(times)
	return nil
}

// u64 views a value as 64-bit words.
func (x *frame) u64(slot int) []uint64 {
	b := x.memory[slot]
	return unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), len(b)/8)
}

// putInt sets element i of a tensor of integers.
func (x *frame) putInt(slot int, dtype dtypes.DType, i, v int) {
	p := unsafe.Pointer(&x.memory[slot][0])
	if dtype == dtypes.Int64 {
		*(*int64)(unsafe.Add(p, 8*i)) = int64(v)
		return
	}
	*(*int32)(unsafe.Add(p, 4*i)) = int32(v)
}
