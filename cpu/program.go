package cpu

import (
	"slices"
	"unsafe"

	"github.com/gomlx/compute/dtypes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// A program computes a chain of elementwise operations, and sums over rows of
// what they give, in one pass over memory: block by block, with everything in
// between in blocks that stay in the first cache level.
//
// Tensors are seen flat: all that a program reads or writes in full has the same
// number of elements, whatever its dimensions.
type program struct {
	size       int // elements
	block      int // elements per block: a multiple of 16 and of the width of rows
	chunk      int // elements per part: a multiple of block
	registers  int // loads come first, then results of instructions
	buffers    int // blocks of scratch memory
	loads      []load
	instrs     []instr
	stores     []store
	reductions []reduction
	bufferOf   []int // per register
}

// targetBlock makes some ten operands of a block fit the first cache level.
const targetBlock = 1024

// targetChunk is the number of elements worth handing to a worker.
const targetChunk = 16 << 10

// largestUnit bounds what a block must be a multiple of.
const largestUnit = 8 * targetBlock

// maxRegisters bounds loads and instructions of a program: each of maxFused
// nodes has a result and up to three operands.
const maxRegisters = 4*maxFused + 4

// A load brings one operand into a register, block by block.
type load struct {
	slot  int
	dtype dtypes.DType
	kind  loadKind
	value float32 // of a literal
	width int     // of rows, for loadRow

	draw drawing // for loadRandom

	// For loadStrided: the element at flat position i of the iteration is at
	// sum over axes of index(i, axis)*stride(axis).
	dims, strides []int
}

type loadKind uint8

const (
	loadFull    loadKind = iota // element i is at i
	loadScalar                  // one element for all
	loadLiteral                 // a constant of the program
	loadRow                     // element i is at i mod width
	loadStrided
	loadRandom // random words drawn from a state, as numbers
)

// opNoise adds numbers that it draws, as load a says, times the number in b to c.
const opNoise = kernels.NumOps

// An instr computes dst = op(a, b, c) on a block.
type instr struct {
	op           kernels.Op
	dst, a, b, c int
	out          int // the slot to write to directly, or -1
}

// A store writes a register to a tensor that no instruction can write directly:
// truth values, and loads passed on.
type store struct {
	reg, slot int
	dtype     dtypes.DType
}

// A programStep runs a program.
type programStep struct {
	program
	set   *kernels.Set
	batch dealing // of no images if the tensors are not seen as such
}

func (p *program) parts() int { return (p.size + p.chunk - 1) / p.chunk }

// granule is what kernels want the length of a block to be a multiple of. Blocks
// have room for it, and one that is not such a multiple passes through buffers.
func (p *program) granule() int {
	for _, l := range p.loads {
		if l.kind == loadRandom {
			return 4 * philoxUnit
		}
	}
	return kernels.Lanes
}

// bufferSize is the room of a block with its padding.
func (p *program) bufferSize() int { return roundUp(p.block, p.granule()) }

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

func (s *programStep) run(x *frame) error {
	x.parallel(s.parts(), s)
	for i := range s.reductions {
		r := &s.reductions[i]
		r.finish(x, s.parts(), s.chunk/r.cols, s.size/r.cols)
	}
	return nil
}

func (s *programStep) part(x *frame, worker, i int) {
	s.begin(x, i)
	start := i * s.chunk
	s.runRange(x, worker, i, start, min(start+s.chunk, s.size), true)
}

func (s *programStep) dealt() *dealing { return &s.batch }

func (s *programStep) byImage() (operands, results []int) {
	for _, l := range s.loads {
		if l.kind == loadFull {
			operands = append(operands, l.slot)
		}
	}
	for _, l := range s.loads { // one that is also read otherwise is not
		if l.kind != loadFull && l.kind != loadLiteral {
			operands = slices.DeleteFunc(operands, func(slot int) bool { return slot == l.slot })
		}
	}
	for _, in := range s.instrs {
		if in.out >= 0 {
			results = append(results, in.out)
		}
	}
	for _, st := range s.stores {
		results = append(results, st.slot)
	}
	return operands, results
}

func (s *programStep) prepare(*frame) {}

func (s *programStep) begin(x *frame, part int) {
	for i := range s.reductions {
		s.reductions[i].start(x, part)
	}
}

func (s *programStep) do(x *frame, worker, part, lo, hi int) {
	each := s.size / s.batch.images
	s.runRange(x, worker, part, lo*each, hi*each, lo%s.batch.perPart == 0)
}

func (s *programStep) finish(x *frame) {
	each := s.size / s.batch.images
	for i := range s.reductions {
		r := &s.reductions[i]
		r.finish(x, s.batch.parts(), s.batch.perPart*each/r.cols, s.size/r.cols)
	}
}

// runRange computes the elements from start, a multiple of the width of rows, up
// to end, and adds to the sums of the given part, which start begins if first is
// set.
func (s *programStep) runRange(x *frame, worker, part, start, end int, first bool) {
	granule := s.granule()
	room := s.bufferSize()
	scratch := x.workspace(worker, 0, s.buffers*room)
	buffer := func(reg int) *float32 { return &scratch[s.bufferOf[reg]*room] }
	var at [maxRegisters]*float32
	for r := range s.loads {
		if l := &s.loads[r]; l.once(s.block) {
			l.fill(x, unsafe.Slice(buffer(r), room))
			at[r] = buffer(r)
		}
	}
	for lo := start; lo < end; lo += s.block {
		n := min(s.block, end-lo)
		padded := roundUp(n, granule)
		whole := n == padded
		for r := range s.loads {
			l := &s.loads[r]
			switch {
			case l.once(s.block) || l.draw.late:
			case l.kind == loadRandom:
				d, set := l.from(x, worker, s.set, lo, padded)
				set.Uniform(buffer(r), d, padded/4)
				at[r] = buffer(r)
			case l.kind == loadFull && l.dtype == dtypes.Float32 && whole:
				at[r] = &x.tensor(worker, l.slot, lo)[0]
			default:
				b := unsafe.Slice(buffer(r), room)
				l.convert(x, worker, s.set, b[:n], lo)
				clear(b[n:padded])
				at[r] = &b[0]
			}
		}
		for i := range s.instrs {
			in := &s.instrs[i]
			dst := buffer(in.dst)
			if in.out >= 0 && whole {
				dst = &x.tensor(worker, in.out, lo)[0]
			}
			at[in.dst] = dst
			if in.op == opNoise {
				d, set := s.loads[in.a].from(x, worker, s.set, lo, padded)
				d.Factor = *at[in.b]
				set.Noise(dst, d, padded/4, at[in.c])
			} else {
				s.set.Vec[in.op](dst, at[in.a], at[in.b], at[in.c], padded)
			}
			if in.out >= 0 && !whole {
				copy(x.tensor(worker, in.out, lo)[:n], unsafe.Slice(dst, n))
			}
		}
		for i := range s.stores {
			s.stores[i].write(x, worker, unsafe.Slice(at[s.stores[i].reg], n), lo)
		}
		for i := range s.reductions {
			s.reductions[i].add(x, worker, s.set, part, first && lo == start, &at, n)
		}
	}
}

// once reports whether the block is the same for every block of a part.
func (l *load) once(block int) bool {
	switch l.kind {
	case loadScalar, loadLiteral:
		return true
	case loadRow:
		return block%l.width == 0
	}
	return false
}

// fill writes a block that stays the same.
func (l *load) fill(x *frame, dst []float32) {
	switch l.kind {
	case loadLiteral:
		fillWith(dst, l.value)
	case loadScalar:
		fillWith(dst, l.element(x, 0))
	case loadRow:
		for j := range l.width {
			dst[j] = l.element(x, j)
		}
		for n := l.width; n < len(dst); n *= 2 {
			copy(dst[n:], dst[:n])
		}
	}
}

func fillWith(dst []float32, v float32) {
	for i := range dst {
		dst[i] = v
	}
}

// element reads one element of the operand.
func (l *load) element(x *frame, i int) float32 {
	p := unsafe.Pointer(&x.memory[l.slot][0])
	switch l.dtype {
	case dtypes.Int32:
		return float32(*(*int32)(unsafe.Add(p, 4*i)))
	case dtypes.Uint32:
		return float32(*(*uint32)(unsafe.Add(p, 4*i)))
	case dtypes.Bool:
		return float32(*(*uint8)(unsafe.Add(p, i)))
	}
	return *(*float32)(unsafe.Add(p, 4*i))
}

// from points at the words of the n elements from lo, which starts a counter.
func (l *load) from(x *frame, worker int, set *kernels.Set, lo, n int) (*kernels.Draw, *kernels.Set) {
	d := &x.workers[worker].draw
	const words = 4 // per counter
	set = drawFrom(set, d, x.u64(l.slot), lo/words, n/words)
	d.Limit, d.Scale, d.Shift = l.draw.limit, l.draw.scale, l.draw.shift
	return d, set
}

// convert writes the operand's block that starts at element lo.
func (l *load) convert(x *frame, worker int, set *kernels.Set, dst []float32, lo int) {
	if l.kind == loadFull {
		whole := len(dst) &^ (kernels.Lanes - 1)
		src := x.memory[l.slot]
		switch l.dtype {
		case dtypes.Float32:
			copy(dst, x.tensor(worker, l.slot, lo))
			return
		case dtypes.Int32:
			set.FromInt32(&dst[0], &src[4*lo], whole)
		case dtypes.Uint32:
			set.FromUint32(&dst[0], &src[4*lo], whole)
		case dtypes.Bool:
			set.FromBool(&dst[0], &src[lo], whole)
		}
		for i := whole; i < len(dst); i++ {
			dst[i] = l.element(x, lo+i)
		}
		return
	}
	if l.kind == loadRow {
		for n := 0; n < len(dst); {
			j := (lo + n) % l.width
			m := min(l.width-j, len(dst)-n)
			if l.dtype == dtypes.Float32 {
				copy(dst[n:n+m], x.f32(l.slot)[j:])
			} else {
				for k := range m {
					dst[n+k] = l.element(x, j+k)
				}
			}
			n += m
		}
		return
	}
	l.gather(x, dst, lo)
}

// gather follows strides, the innermost axis in one go.
func (l *load) gather(x *frame, dst []float32, lo int) {
	last := len(l.dims) - 1
	inner, step := l.dims[last], l.strides[last]
	f32 := l.dtype == dtypes.Float32
	for n := 0; n < len(dst); {
		i := lo + n
		j := i % inner
		m := min(inner-j, len(dst)-n)
		offset := j * step
		for axis, rest := last-1, i/inner; axis >= 0; axis-- {
			offset += rest % l.dims[axis] * l.strides[axis]
			rest /= l.dims[axis]
		}
		switch {
		case step == 0:
			fillWith(dst[n:n+m], l.element(x, offset))
		case step == 1 && f32:
			copy(dst[n:n+m], x.f32(l.slot)[offset:])
		default:
			for k := range m {
				dst[n+k] = l.element(x, offset+k*step)
			}
		}
		n += m
	}
}

func (s *store) write(x *frame, worker int, src []float32, lo int) {
	if s.dtype == dtypes.Bool {
		dst := x.memory[s.slot][lo : lo+len(src)]
		for i, v := range src {
			dst[i] = 0
			if v != 0 {
				dst[i] = 1
			}
		}
		return
	}
	copy(x.tensor(worker, s.slot, lo), src)
}

// allocateBuffers gives each register a block of scratch memory, reused after
// the last instruction that reads it.
func (p *program) allocateBuffers() {
	last := make([]int, p.registers) // the last instruction that needs the register
	for i, in := range p.instrs {
		for _, r := range []int{in.a, in.b, in.c, in.dst} {
			last[r] = i
		}
	}
	end := len(p.instrs)
	for r := range p.loads { // kept from block to block, or nearly free
		last[r] = end
	}
	for _, s := range p.stores {
		last[s.reg] = end
	}
	for i := range p.reductions {
		last[p.reductions[i].x], last[p.reductions[i].y] = end, end
	}
	p.bufferOf = make([]int, p.registers)
	var free []int
	take := func() int {
		if len(free) > 0 {
			b := free[len(free)-1]
			free = free[:len(free)-1]
			return b
		}
		p.buffers++
		return p.buffers - 1
	}
	for r := range p.loads {
		p.bufferOf[r] = take()
	}
	for i, in := range p.instrs {
		// Kernels may write over their operands, so buffers that end here are free.
		var seen [4]int
		operands := seen[:0]
		for _, r := range []int{in.a, in.b, in.c} {
			duplicate := false
			for _, o := range operands {
				duplicate = duplicate || o == r
			}
			operands = append(operands, r)
			if !duplicate && last[r] == i && r != in.dst {
				free = append(free, p.bufferOf[r])
			}
		}
		p.bufferOf[in.dst] = take()
	}
}

// sizeBlocks chooses the block and the chunk, given the width of rows that are
// summed up, or 1.
func (p *program) sizeBlocks(rows int) {
	unit := lcm(p.granule(), rows)
	if unit > largestUnit {
		const words = 4         // of a counter
		unit = lcm(words, rows) // blocks are then padded
	}
	// Rows that operands repeat are expanded once if they fit a block evenly.
	for _, l := range p.loads {
		if u := lcm(unit, max(l.width, 1)); u <= largestUnit {
			unit = u
		}
	}
	p.block = max(1, targetBlock/unit) * unit
	p.chunk = max(1, targetChunk/p.block) * p.block
}

func lcm(a, b int) int {
	g, r := a, b
	for r != 0 {
		g, r = r, g%r
	}
	return a / g * b
}
