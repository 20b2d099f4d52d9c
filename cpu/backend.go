package cpu

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/notimplemented"
	"github.com/gomlx/compute/shapes"
	"github.com/pkg/errors"
)

// Name under which the backend is registered with GoMLX.
const Name = "cpu"

func init() {
	compute.Register(Name, func(config string) (compute.Backend, error) { return New(config) })
	compute.DefaultConfig = Name
}

// A Backend runs GoMLX graphs on the processor. Create it with [New]. It is
// safe for concurrent use.
type Backend struct {
	notimplemented.Backend // so that methods added to the interface later fail gently

	opts      options
	pool      *workerPool
	memory    memoryPool
	reference compute.Backend // the "go" backend: operations without a kernel here
	finalized atomic.Bool

	dumped sync.Map // *Executable: with the option dump, those not yet finalized
}

var _ compute.Backend = (*Backend)(nil)

// New creates a backend from its configuration string, see [Help].
func New(config string) (*Backend, error) {
	opts, err := parseOptions(config)
	if err != nil {
		return nil, err
	}
	// ops_sequential: the default parallel mode of "go" can deadlock when several
	// large products run at once, and here every executable holds one operation.
	reference, err := gobackend.New("ops_sequential")
	if err != nil {
		return nil, errors.WithMessage(err, "cpu: creating the reference backend")
	}
	return &Backend{opts: opts, pool: newWorkerPool(opts.workers), reference: reference}, nil
}

// Name returns "cpu".
func (b *Backend) Name() string { return Name }

// String returns "cpu".
func (b *Backend) String() string { return Name }

// Description names the instruction set and the number of workers in use.
func (b *Backend) Description() string {
	return fmt.Sprintf("cpu backend (%s kernels, %d workers)", b.opts.isa.Name, b.opts.workers)
}

// DeviceDescription describes the only device, number 0.
func (b *Backend) DeviceDescription(compute.DeviceNum) string { return b.Description() }

// Capabilities lists what the backend runs: everything the "go" backend does,
// batch normalisation, max-pool gradients and slices at computed places besides,
// and no dynamic shapes.
func (b *Backend) Capabilities() compute.Capabilities {
	c := b.reference.Capabilities().Clone()
	c.DynamicAxes = false
	for _, op := range []compute.OpType{
		compute.OpTypeDynamicReshape, compute.OpTypeDynamicShape, compute.OpTypeDynamicDimensionSize,
		// Declined so that GoMLX hands over the primitive operations, which fuse
		// with their neighbours and have gradients.
		compute.OpTypeFusedDense, compute.OpTypeFusedGelu, compute.OpTypeFusedLayerNorm, compute.OpTypeFusedSoftmax,
	} {
		delete(c.Operations, op)
	}
	for _, op := range []compute.OpType{
		compute.OpTypeBatchNormForInference, compute.OpTypeBatchNormForTraining, compute.OpTypeBatchNormGradient,
		compute.OpTypeSelectAndScatterMax, compute.OpTypeDynamicSlice, compute.OpTypeDynamicUpdateSlice,
	} {
		c.Operations[op] = true
	}
	return c
}

// Builder starts a computation.
func (b *Backend) Builder(name string) compute.Builder {
	return newBuilder(b, name)
}

// Finalize stops the workers and frees the memory that the backend keeps for
// reuse. Buffers still held by callers stay readable.
func (b *Backend) Finalize() {
	if b.finalized.Swap(true) {
		return
	}
	b.dumped.Range(func(e, _ any) bool {
		e.(*Executable).dumpProfile()
		return true
	})
	b.pool.stop()
	b.memory.drop()
	b.reference.Finalize()
}

// IsFinalized reports whether Finalize was called.
func (b *Backend) IsFinalized() bool { return b.finalized.Load() }

var errFinalized = errors.New("cpu: the backend was finalized")

// HasSharedBuffers is true: buffers live in ordinary memory.
func (b *Backend) HasSharedBuffers() bool { return true }

// NewSharedBuffer returns a buffer and the slice that is its memory.
func (b *Backend) NewSharedBuffer(device compute.DeviceNum, shape shapes.Shape) (compute.Buffer, any, error) {
	buffer, err := b.newBuffer(device, shape)
	if err != nil {
		return nil, nil, err
	}
	clear(buffer.bytes)
	flat, err := buffer.Data()
	return buffer, flat, err
}

// BufferFromFlatData copies a slice of the shape's Go type into a new buffer.
func (b *Backend) BufferFromFlatData(device compute.DeviceNum, flat any, shape shapes.Shape) (compute.Buffer, error) {
	buffer, err := b.newBuffer(device, shape)
	if err != nil {
		return nil, err
	}
	src, err := flatBytesOf(flat, shape)
	if err != nil {
		return nil, err
	}
	if len(src) != len(buffer.bytes) {
		return nil, errors.Errorf("cpu: a buffer of shape %s takes %d bytes, the %T given has %d",
			shape, len(buffer.bytes), flat, len(src))
	}
	copy(buffer.bytes, src)
	return buffer, nil
}
