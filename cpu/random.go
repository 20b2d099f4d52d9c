package cpu

import (
	"math"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// A randomStep draws random bits as XLA does for the algorithm "Philox": the
// state is a key and a 128-bit counter, low half first; each counter gives four
// 32-bit words in order, 64-bit numbers take two words, low first, and narrower
// numbers the low bits of one. The counter moves on by the counters used.
type randomStep struct {
	set            *kernels.Set
	state, next, y int
	words          int // 32-bit words needed
	narrow         int // bytes of a number that takes part of a word, or 0
}

// countersPerPart is a multiple of 32, as the kernel wants.
const countersPerPart = 2048

func lowerRandom(c *compiler, n *node) (step, int) {
	out := n.outputs[1].shape
	s := &randomStep{set: c.backend.opts.isa, state: c.slot(n.inputs[0]), next: c.slot(n.outputs[0]), y: c.slot(n.outputs[1])}
	if !n.inputs[0].shape.Equal(compute.RNGStateShape) || out.Size() == 0 {
		return nil, 0
	}
	switch out.DType {
	case dtypes.Uint32, dtypes.Int32:
		s.words = out.Size()
	case dtypes.Uint64, dtypes.Int64:
		s.words = 2 * out.Size()
	case dtypes.Uint16, dtypes.Int16, dtypes.Uint8, dtypes.Int8:
		s.words, s.narrow = out.Size(), out.DType.Size()
	default:
		return nil, 0
	}
	c.needScratch(4 * countersPerPart)
	return s, 0
}

func (s *randomStep) counters() int { return (s.words + 3) / 4 }

func (s *randomStep) run(x *frame) error {
	x.parallel((s.counters()+countersPerPart-1)/countersPerPart, s)
	state, next := x.u64(s.state), x.u64(s.next)
	low := state[1] + uint64(s.counters())
	high := state[2]
	if low < state[1] {
		high++
	}
	next[0], next[1], next[2] = state[0], low, high
	return nil
}

func (s *randomStep) part(x *frame, worker, i int) {
	state := x.u64(s.state)
	key, low, high := state[0], state[1], state[2]
	first := i * countersPerPart
	count := min(countersPerPart, s.counters()-first)
	start := low + uint64(first)
	if start < low {
		high++
	}
	out := x.memory[s.y]
	buffer := unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(x.workspace(worker, 0, 4*countersPerPart)))), 4*countersPerPart)
	whole := s.narrow == 0 && 4*(first+count) <= s.words && count%32 == 0
	dst := buffer
	if whole {
		dst = unsafe.Slice((*uint32)(unsafe.Pointer(&out[16*first])), 4*count)
	}
	padded := (count + 31) &^ 31
	if start > math.MaxUint64-uint64(padded) { // the counter carries within the part
		for j := range count {
			h := high
			if start+uint64(j) < start {
				h++
			}
			words := kernels.Philox4x32(key, start+uint64(j), h)
			copy(dst[4*j:], words[:])
		}
	} else {
		s.set.Philox(&dst[0], key, start, high, padded)
	}
	if whole {
		return
	}
	n := min(4*count, s.words-4*first)
	if s.narrow == 0 {
		copy(out[16*first:], unsafe.Slice((*byte)(unsafe.Pointer(&buffer[0])), 4*n))
		return
	}
	for j, v := range buffer[:n] {
		at := (4*first + j) * s.narrow
		out[at] = byte(v)
		if s.narrow == 2 {
			out[at+1] = byte(v >> 8)
		}
	}
}
