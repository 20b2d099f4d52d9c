package cpu

import (
	"math/bits"
	"reflect"
	"sync"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/pkg/errors"
)

// A Buffer is one tensor in ordinary memory, row major.
type Buffer struct {
	backend *Backend
	shape   shapes.Shape

	mu    sync.Mutex
	bytes []byte // nil once finalized; empty, not nil, for tensors without elements
	block *block // where bytes came from
	flat  any    // bytes as a slice of the Go type; made on first use
}

var _ compute.Buffer = (*Buffer)(nil)

var errBufferFinalized = errors.New("cpu: the buffer was finalized or donated")

func (b *Backend) newBuffer(device compute.DeviceNum, shape shapes.Shape) (*Buffer, error) {
	switch {
	case b.finalized.Load():
		return nil, errFinalized
	case device != 0:
		return nil, errors.Errorf("cpu: there is one device, number 0; got %d", device)
	case !shape.Ok() || shape.IsTuple() || shape.IsDynamic():
		return nil, errors.Errorf("cpu: a buffer needs a static shape, got %s", shape)
	}
	if err := checkSize(shape); err != nil {
		return nil, err
	}
	block := b.memory.get(byteSize(shape))
	return &Buffer{backend: b, shape: shape, bytes: block.bytes[:byteSize(shape)], block: block}, nil
}

// largestMemory bounds a tensor, and the memory of a step: beyond it sizes would
// overflow, or the Go runtime end the program instead of returning an error.
const largestMemory = 1 << 40

// checkSize refuses shapes that no tensor can have.
func checkSize(shape shapes.Shape) error {
	size := 1
	for _, d := range shape.Dimensions {
		if d < 0 {
			return errors.Errorf("cpu: the shape %s has a negative dimension", shape)
		}
		if d > 0 && size > largestMemory/d { // before it overflows
			size = largestMemory + 1
			break
		}
		size *= max(d, 1)
	}
	if size > largestMemory || byteSize(shape) > largestMemory {
		return errors.Errorf("cpu: a tensor of shape %s is larger than %d GiB; make the batch or its other dimensions smaller", shape, largestMemory>>30)
	}
	return nil
}

// byteSize is the memory a tensor takes; sub-byte types are packed.
func byteSize(shape shapes.Shape) int {
	if n := shape.Size(); n > 0 {
		return shape.DType.SizeForDimensions(n)
	}
	return 0
}

// Backend returns the backend that made the buffer.
func (b *Buffer) Backend() compute.Backend { return b.backend }

// DeviceNum returns 0, the only device.
func (b *Buffer) DeviceNum() (compute.DeviceNum, error) { return 0, nil }

// Shape returns the shape of the tensor.
func (b *Buffer) Shape() (shapes.Shape, error) { return b.shape, nil }

// Finalize gives the memory back. Finalizing twice does nothing.
func (b *Buffer) Finalize() error {
	b.mu.Lock()
	block := b.block
	b.bytes, b.block, b.flat = nil, nil, nil
	b.mu.Unlock()
	if block != nil && !b.backend.finalized.Load() {
		b.backend.memory.put(block)
	}
	return nil
}

// move finalizes the buffer and returns one of the same memory.
func (b *Buffer) move(shape shapes.Shape) *Buffer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.block == nil || len(b.bytes) != byteSize(shape) {
		return nil
	}
	moved := &Buffer{backend: b.backend, shape: shape, bytes: b.bytes, block: b.block}
	b.bytes, b.block, b.flat = nil, nil, nil
	return moved
}

// Data returns the memory of the buffer as a slice of its Go type.
func (b *Buffer) Data() (any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes == nil {
		return nil, errBufferFinalized
	}
	if b.flat == nil {
		if b.shape.Size() == 0 {
			b.flat = dtypes.MakeAnySlice(b.shape.DType, 0)
		} else {
			b.flat = dtypes.UnsafeAnySliceFromBytes(unsafe.Pointer(&b.bytes[0]), b.shape.DType, b.shape.Size())
		}
	}
	return b.flat, nil
}

// ToFlatData copies the tensor into a slice of its Go type.
func (b *Buffer) ToFlatData(flat any) error {
	dst, err := flatBytesOf(flat, b.shape)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes == nil {
		return errBufferFinalized
	}
	if len(dst) != len(b.bytes) {
		return errors.Errorf("cpu: a tensor of shape %s has %d bytes, the %T given holds %d",
			b.shape, len(b.bytes), flat, len(dst))
	}
	copy(dst, b.bytes)
	return nil
}

// CopyToDevice copies the buffer; the only device is 0.
func (b *Buffer) CopyToDevice(device compute.DeviceNum) (compute.Buffer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes == nil {
		return nil, errBufferFinalized
	}
	c, err := b.backend.newBuffer(device, b.shape)
	if err != nil {
		return nil, err
	}
	copy(c.bytes, b.bytes)
	return c, nil
}

// flatBytes views a flat slice as its bytes.
func flatBytes(flat any) (bytes []byte, err error) {
	defer func() {
		if recover() != nil {
			err = errors.Errorf("cpu: %T is not a slice of a type that tensors hold", flat)
		}
	}()
	if t := reflect.TypeOf(flat); t == nil || t.Kind() != reflect.Slice {
		return nil, errors.Errorf("cpu: %T is not a slice of a type that tensors hold", flat)
	}
	return dtypes.UnsafeByteSliceFromAny(flat), nil
}

// flatBytesOf is flatBytes of a slice of the shape's type.
func flatBytesOf(flat any, shape shapes.Shape) ([]byte, error) {
	bytes, err := flatBytes(flat)
	if err != nil {
		return nil, err
	}
	if t := dtypes.FromGoType(reflect.TypeOf(flat).Elem()); t != shape.DType && !shape.DType.IsPacked() {
		return nil, errors.Errorf("cpu: a tensor of shape %s does not hold what %T does", shape, flat)
	}
	return bytes, nil
}

// A block is 64-byte aligned memory that goes back to its pool.
type block struct {
	bytes []byte // full capacity of the size class
	class int
}

// A memoryPool keeps blocks for reuse. It keeps no more bytes idle than were ever
// in use at once; the rest is left to the garbage collector.
type memoryPool struct {
	mu    sync.Mutex
	idle  [4 * 64][]*block // by size class
	used  int              // bytes handed out; less what is lost to the garbage collector
	most  int              // the most of used
	spare int              // bytes idle
}

// sizeClass rounds up to one of four steps per power of two, so that at most a
// fifth of a block is waste.
func sizeClass(n int) (class, size int) {
	const smallest = 64
	if n <= smallest {
		return 0, smallest
	}
	shift := bits.Len(uint(n-1)) - 3 // keep the top three bits
	steps := (n + 1<<shift - 1) >> shift
	return shift<<2 + steps - 4, steps << shift
}

// looseFit is how many size classes larger a block may be that serves a request:
// up to four times, where blocks are large and few.
const looseFit, large = 8, 1 << 20

func (p *memoryPool) get(n int) *block {
	class, size := sizeClass(n)
	last := class
	if size >= large {
		last += looseFit
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := class; c <= last; c++ {
		if list := p.idle[c]; len(list) > 0 {
			b := list[len(list)-1]
			list[len(list)-1] = nil
			p.idle[c] = list[:len(list)-1]
			p.spare -= len(b.bytes)
			p.take(len(b.bytes))
			return b
		}
	}
	p.take(size)
	const align = 64
	raw := make([]byte, size+align)
	hugePages(raw)
	skip := int(-uintptr(unsafe.Pointer(&raw[0])) & (align - 1))
	return &block{bytes: raw[skip : skip+size : skip+size], class: class}
}

func (p *memoryPool) take(n int) {
	p.used += n
	p.most = max(p.most, p.used)
}

func (p *memoryPool) put(b *block) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = max(0, p.used-len(b.bytes))
	if p.spare+len(b.bytes) > p.most {
		return
	}
	p.spare += len(b.bytes)
	p.idle[b.class] = append(p.idle[b.class], b)
}

// drop forgets all blocks.
func (p *memoryPool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle, p.spare = [4 * 64][]*block{}, 0
}
