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
	draw := &x.workers[worker].draw
	count := min(countersPerPart, s.counters()-first)
	out := x.memory[s.y]
	buffer := unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(x.workspace(worker, 0, 4*countersPerPart)))), 4*countersPerPart)
	whole := s.narrow == 0 && 4*(first+count) <= s.words && count%philoxUnit == 0
	dst := buffer
	if whole {
		dst = unsafe.Slice((*uint32)(unsafe.Pointer(&out[16*first])), 4*count)
	}
	padded := (count + philoxUnit - 1) &^ (philoxUnit - 1)
	drawFrom(s.set, draw, x.u64(s.state), first, padded).Philox(&dst[0], draw, padded)
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

// philoxUnit is the number of counters that kernels take at a time.
const philoxUnit = 32

// drawFrom points d at a counter of a state, and returns the kernels to draw the
// next count counters with.
func drawFrom(set *kernels.Set, d *kernels.Draw, state []uint64, first, count int) *kernels.Set {
	d.Keys = kernels.RoundKeys(state[0])
	d.Low, d.High = state[1]+uint64(first), state[2]
	if d.Low < state[1] {
		d.High++
	}
	if d.Low > math.MaxUint64-uint64(count) {
		return kernels.Portable // the counter carries on the way
	}
	return set
}

// fuseRandom lets programs draw random words themselves, where all that is done
// with the words is to convert them to float32: they then never reach memory. What
// follows, up to noise on top of weights, can be part of the drawing (foldDraws).
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

// foldDraws moves arithmetic on random words into the kernels that draw them, as
// long as the result has the same bits:
//
//	x * 2^k, abs(x), min(x, c), then x + c    parts of the load
//	x * a + w                                 noise on weights w, one instruction
//
// where the value before serves nothing else. This is how GoMLX makes uniform
// numbers of words, and how noise is added to weights.
func (b *programBuilder) foldDraws(kept []*value) {
	p := b.program
	for r := range p.loads {
		l := &p.loads[r]
		if l.kind != loadRandom {
			continue
		}
		l.draw = plainDrawing
		for {
			user := b.onlyUser(r, kept)
			if user == nil || !b.fold(l, user, r) {
				break
			}
		}
	}
}

// A drawing makes numbers of words: min(word, limit)*scale + shift.
type drawing struct {
	limit, scale, shift float32
	late                bool // drawn by a noise instruction
}

// plainDrawing makes numbers that are the words.
var plainDrawing = drawing{limit: math.MaxFloat32, scale: 1}

// then adds an operation on the numbers, with a constant as the second operand, if
// the result has the same bits.
func (d *drawing) then(op kernels.Op, c float32) bool {
	n := *d
	switch {
	case op == kernels.Abs && n.shift == 0 && n.scale > 0:
	case op == kernels.Mul && n.shift == 0 && powerOfTwo(c):
		n.scale *= c
	case op == kernels.Min && n.shift == 0 && c > 0:
		n.limit = min(n.limit, c/n.scale)
	case op == kernels.Add && n.shift == 0:
		n.shift = c
	case op == kernels.Sub && n.shift == 0:
		n.shift = -c
	default:
		return false
	}
	if !(n.scale >= 0x1p-64 && n.scale <= 0x1p64) {
		return false
	}
	*d = n
	return true
}

// fold makes an instruction that reads only register r, a load that draws, and
// literals a part of the load.
func (b *programBuilder) fold(l *load, in *instr, r int) bool {
	literal := func(reg int) (float32, bool) {
		if reg >= len(b.program.loads) || b.program.loads[reg].kind != loadLiteral {
			return 0, false
		}
		return b.program.loads[reg].value, true
	}
	x, y := in.a, in.b
	if y == r && in.op != kernels.Sub {
		x, y = y, x
	}
	if x != r || y == r && in.op != kernels.Abs {
		return false
	}
	c, known := literal(y)
	d := l.draw
	switch {
	case in.op == kernels.FMA && in.c == r:
		return false
	case in.op == kernels.FMA:
		shift, ok := literal(in.c)
		if ok && known && d.then(kernels.Mul, c) && d.then(kernels.Add, shift) {
			break
		}
		// Noise: all lanes of the factor are the same.
		if y >= len(b.program.loads) || b.program.loads[y].kind != loadLiteral && b.program.loads[y].kind != loadScalar {
			return false
		}
		l.draw.late = true
		in.op, in.a, in.b = opNoise, r, y
		return false // nothing more to fold
	case in.op != kernels.Abs && !known || !d.then(in.op, c):
		return false
	}
	l.draw = d
	b.rename(in.dst, r)
	return true
}

// powerOfTwo reports whether products with c > 0 are exact.
func powerOfTwo(c float32) bool {
	fraction, _ := math.Frexp(float64(c))
	return fraction == 0.5
}

// onlyUser returns the only live instruction that reads a register, if nothing
// else does.
func (b *programBuilder) onlyUser(r int, kept []*value) *instr {
	live := b.live(kept)
	var user *instr
	for _, v := range kept {
		if reg, ok := b.regOf[v]; ok && reg == r {
			return nil
		}
	}
	for _, s := range b.program.reductions {
		if s.x == r || s.op == opBatchNormGradStats && s.y == r {
			return nil
		}
	}
	for i := range b.program.instrs {
		in := &b.program.instrs[i]
		if !live[in.dst] || in.a != r && in.b != r && in.c != r {
			continue
		}
		if user != nil {
			return nil
		}
		user = in
	}
	return user
}

// rename makes all that reads one register read another.
func (b *programBuilder) rename(from, to int) {
	for i := range b.program.instrs {
		in := &b.program.instrs[i]
		for _, reg := range []*int{&in.a, &in.b, &in.c} {
			if *reg == from {
				*reg = to
			}
		}
	}
	for i := range b.program.reductions {
		s := &b.program.reductions[i]
		for _, reg := range []*int{&s.x, &s.y} {
			if *reg == from {
				*reg = to
			}
		}
	}
	for v, reg := range b.regOf {
		if reg == from {
			b.regOf[v] = to
		}
	}
}

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
