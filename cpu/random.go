package cpu

import (
	"math"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
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

// countersPerPart is a multiple of philoxUnit.
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
	advance(x.u64(s.next), x.u64(s.state), s.counters())
	return nil
}

func (s *randomStep) part(x *frame, worker, i int) {
	first := i * countersPerPart
	count := min(countersPerPart, s.counters()-first)
	out := x.memory[s.y]
	buffer := unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(x.workspace(worker, 0, 4*countersPerPart)))), 4*countersPerPart)
	whole := s.narrow == 0 && 4*(first+count) <= s.words && count%philoxUnit == 0
	dst := buffer
	if whole {
		dst = unsafe.Slice((*uint32)(unsafe.Pointer(&out[16*first])), 4*count)
	}
	drawWords(s.set, dst, x.u64(s.state), first, count)
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

// philoxUnit is the number of counters that the kernel takes at a time.
const philoxUnit = 32

// drawWords writes the words of count counters from the first on; dst has room
// for a multiple of philoxUnit counters.
func drawWords(set *kernels.Set, dst []uint32, state []uint64, first, count int) {
	key, low, high := state[0], state[1], state[2]
	start := low + uint64(first)
	if start < low {
		high++
	}
	padded := (count + philoxUnit - 1) &^ (philoxUnit - 1)
	if start <= math.MaxUint64-uint64(padded) {
		set.Philox(&dst[0], key, start, high, padded)
		return
	}
	for j := range count { // the counter carries on the way
		h := high
		if start+uint64(j) < start {
			h++
		}
		words := kernels.Philox4x32(key, start+uint64(j), h)
		copy(dst[4*j:], words[:])
	}
}

// fuseRandom lets programs draw random words themselves, where all that is done
// with the words is to convert them to float32: they then never reach memory.
func (g *graph) fuseRandom() {
	users := g.users()
	b := &rewriter{substitutes: map[*value]*value{}}
	for _, n := range g.nodes {
		if n.op != opcode(compute.OpTypeRNGBitGenerator) || n.outputs[1].shape.DType != dtypes.Uint32 ||
			n.outputs[1].shape.Size() == 0 || !n.inputs[0].shape.Equal(compute.RNGStateShape) || g.isResult(n.outputs[1]) {
			b.add(n)
			continue
		}
		converts := func(u *node) bool {
			return u.op == opcode(compute.OpTypeConvertDType) && u.outputs[0].shape.DType == dtypes.Float32
		}
		all := true
		for _, u := range users[n.outputs[1]] {
			all = all && converts(u)
		}
		if !all {
			b.add(n)
			continue
		}
		words := n.outputs[1].shape
		next := b.add(newNode(opRandomNext, randomAttrs{words.Size()}, []*value{n.inputs[0]}, n.outputs[0].shape))
		b.substitutes[n.outputs[0]] = next.outputs[0]
		floats := b.add(newNode(opRandomFloat, randomAttrs{words.Size()}, []*value{n.inputs[0]}, shapes.Make(dtypes.Float32, words.Dimensions...)))
		for _, u := range users[n.outputs[1]] {
			b.substitutes[u.outputs[0]] = floats.outputs[0]
		}
	}
	g.nodes = b.nodes
	g.replace(b.substitutes)
}

type randomAttrs struct{ words int }

// A nextStep moves the state of the generator on.
type nextStep struct{ state, next, counters int }

func lowerRandomNext(c *compiler, n *node) (step, int) {
	return &nextStep{c.slot(n.inputs[0]), c.slot(n.outputs[0]), (n.attrs.(randomAttrs).words + 3) / 4}, 0
}

func (s *nextStep) run(x *frame) error {
	advance(x.u64(s.next), x.u64(s.state), s.counters)
	return nil
}

// advance writes the state after so many counters.
func advance(next, state []uint64, counters int) {
	low, high := state[1]+uint64(counters), state[2]
	if low < state[1] {
		high++
	}
	next[0], next[1], next[2] = state[0], low, high
}
