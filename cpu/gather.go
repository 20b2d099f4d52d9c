package cpu

import (
	"slices"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// Gathers, scatters and slices at computed places: a window of a tensor starts
// where integers say. Embeddings, their gradients, and metrics come to this.

// A window of an operand at a computed place. For each of the index vectors the
// other tensor, which holds what is gathered or scattered, has a window of its own.
type placedWindows struct {
	indices      int // slot
	indexType    dtypes.DType
	batchDims    []int // of index vectors
	indexStrides []int // along batchDims, in elements
	vectorStride int   // between the components of a vector
	axes         []int // of the operand, per component
	axisStrides  []int // of those
	limits       []int // the last place of the window along each axis
	otherStrides []int // of the other tensor, along batchDims
	window       copyPlan
}

// placeOf reads an index.
func placeOf(b []byte, t dtypes.DType, i int) int {
	p := unsafe.Pointer(unsafe.SliceData(b))
	switch t {
	case dtypes.Int8:
		return int(at[int8](p, i))
	case dtypes.Int16:
		return int(at[int16](p, i))
	case dtypes.Int32:
		return int(at[int32](p, i))
	case dtypes.Int64:
		return int(at[int64](p, i))
	case dtypes.Uint8:
		return int(at[uint8](p, i))
	case dtypes.Uint16:
		return int(at[uint16](p, i))
	case dtypes.Uint32:
		return int(at[uint32](p, i))
	}
	return int(min(at[uint64](p, i), 1<<62))
}

// newPlacedWindows reads the attributes that gathers and scatters share. sizes are
// those of the window along all axes of the operand, otherAxes the axes of the
// other tensor that walk the axes of the operand that are not dropped.
func newPlacedWindows(c *compiler, indices *value, vectorAxis int, operand, other shapes.Shape, axes, dropped, otherAxes, sizes []int) (*placedWindows, bool) {
	if operand.Size() == 0 || other.Size() == 0 || indices.shape.Size() == 0 || elementBytes(operand) == 0 {
		return nil, false
	}
	w := &placedWindows{indices: c.slot(indices), indexType: indices.shape.DType, axes: axes}
	own := stridesOf(indices.shape.Dimensions)
	for i, d := range indices.shape.Dimensions {
		if i == vectorAxis {
			w.vectorStride = own[i]
			continue
		}
		w.batchDims = append(w.batchDims, d)
		w.indexStrides = append(w.indexStrides, own[i])
	}
	operandStrides, otherStrides := stridesOf(operand.Dimensions), stridesOf(other.Dimensions)
	for _, axis := range axes {
		w.axisStrides = append(w.axisStrides, operandStrides[axis])
		w.limits = append(w.limits, operand.Dimensions[axis]-sizes[axis])
	}
	for i := range other.Dimensions {
		if !slices.Contains(otherAxes, i) {
			w.otherStrides = append(w.otherStrides, otherStrides[i])
		}
	}
	if len(w.otherStrides) != len(w.batchDims) {
		return nil, false
	}
	// The window, from the operand to the other tensor.
	next := 0
	for axis, size := range sizes {
		if slices.Contains(dropped, axis) {
			continue
		}
		w.window.dims = append(w.window.dims, size)
		w.window.srcStrides = append(w.window.srcStrides, operandStrides[axis])
		w.window.dstStrides = append(w.window.dstStrides, otherStrides[otherAxes[next]])
		next++
	}
	w.window = w.window.merged()
	return w, true
}

func (w *placedWindows) count() int {
	n := 1
	for _, d := range w.batchDims {
		n *= d
	}
	return n
}

// place returns where window i starts in the operand and in the other tensor.
// Places outside are moved inside if clamp is set; else inside is false for them.
func (w *placedWindows) place(x *frame, i int, clamp bool) (operand, other int, inside bool) {
	index := 0
	for axis := len(w.batchDims) - 1; axis >= 0; axis-- {
		j := i % w.batchDims[axis]
		i /= w.batchDims[axis]
		index += j * w.indexStrides[axis]
		other += j * w.otherStrides[axis]
	}
	inside = true
	for k := range w.axes {
		p := placeOf(x.memory[w.indices], w.indexType, index+k*w.vectorStride)
		if p < 0 || p > w.limits[k] {
			inside = false
		}
		if clamp {
			p = max(0, min(p, w.limits[k]))
		}
		operand += p * w.axisStrides[k]
	}
	return operand, other, inside
}

// A gatherStep copies windows out of the operand.
type gatherStep struct {
	*placedWindows
	x, y, size int
}

func lowerGather(c *compiler, n *node) (step, int) {
	a := n.attrs.(gatherAttrs)
	w, ok := newPlacedWindows(c, n.inputs[1], a.indexVectorAxis, n.inputs[0].shape, n.outputs[0].shape,
		a.startIndexMap, a.collapsedSliceAxes, a.offsetOutputAxes, a.sliceSizes)
	if !ok {
		return nil, 0
	}
	return &gatherStep{w, c.slot(n.inputs[0]), c.slot(n.outputs[0]), elementBytes(n.outputs[0].shape)}, 0
}

func (s *gatherStep) perPart() int { return max(1, targetChunk/product(s.window.dims)) }

func product(dims []int) int {
	p := 1
	for _, d := range dims {
		p *= d
	}
	return p
}

func (s *gatherStep) run(x *frame) error {
	x.parallel((s.count()+s.perPart()-1)/s.perPart(), s)
	return nil
}

func (s *gatherStep) part(x *frame, _, i int) {
	for j := i * s.perPart(); j < min((i+1)*s.perPart(), s.count()); j++ {
		from, to, _ := s.place(x, j, true)
		s.window.copy(x.memory[s.y], to, x.memory[s.x], from, s.size)
	}
}

// copy copies a window between places of two tensors.
func (p *copyPlan) copy(dst []byte, to int, src []byte, from int, size int) {
	last := len(p.dims) - 1
	for row := range p.rows() {
		s, d := from+p.srcStart, to+p.dstStart
		for axis, rest := last-1, row; axis >= 0; axis-- {
			s += rest % p.dims[axis] * p.srcStrides[axis]
			d += rest % p.dims[axis] * p.dstStrides[axis]
			rest /= p.dims[axis]
		}
		copyRow(unsafe.Pointer(&dst[0]), d, p.dstStrides[last], unsafe.Pointer(&src[0]), s, p.srcStrides[last], p.dims[last], size)
	}
}

// A scatterStep combines windows with places of a copy of the operand, one after
// the other, so that sums associate in the order of the indices. Windows that do
// not lie inside are left out. Workers share the innermost axis of the windows, where
// that keeps them apart.
type scatterStep struct {
	*placedWindows
	x, updates, y int
	size          int
	set           *kernels.Set
	op            compute.OpType
	combine       mapKernel
	perPart       int // columns
}

func lowerScatter(c *compiler, n *node) (step, int) {
	a := n.attrs.(scatterAttrs)
	operand, updates := n.inputs[0].shape, n.inputs[2].shape
	sizes := make([]int, operand.Rank())
	next := 0
	for axis := range sizes {
		if slices.Contains(a.insertedWindowAxes, axis) {
			sizes[axis] = 1
			continue
		}
		if next >= len(a.updateWindowAxes) {
			return nil, 0
		}
		sizes[axis] = updates.Dimensions[a.updateWindowAxes[next]]
		next++
	}
	op := map[opcode]compute.OpType{opcode(compute.OpTypeScatterSum): compute.OpTypeAdd,
		opcode(compute.OpTypeScatterMax): compute.OpTypeMax, opcode(compute.OpTypeScatterMin): compute.OpTypeMin}[n.op]
	w, ok := newPlacedWindows(c, n.inputs[1], a.indexVectorAxis, operand, updates,
		a.scatterAxesToOperandAxes, a.insertedWindowAxes, a.updateWindowAxes, sizes)
	combine := mapOf(newNode(opcode(op), nil, []*value{n.inputs[0], n.inputs[2]}, operand))
	if operand.DType == dtypes.Float32 {
		combine = numberKernel[float32](op)
	}
	if !ok || combine == nil {
		return nil, 0
	}
	s := &scatterStep{placedWindows: w, x: c.slot(n.inputs[0]), updates: c.slot(n.inputs[2]), y: c.slot(n.outputs[0]),
		size: operand.DType.Size(), set: c.backend.opts.isa, op: op, combine: combine}
	s.perPart = w.window.dims[len(w.window.dims)-1]
	if s.count()*product(w.window.dims) > targetChunk && s.keepsColumns() {
		const least = 2 * kernels.Lanes
		s.perPart = min(s.perPart, least)
	}
	return s, 0
}

// keepsColumns reports whether an element of the operand is in the same column of every
// window that has it: windows move along axes outside of their innermost one.
func (s *scatterStep) keepsColumns() bool {
	last := len(s.window.dims) - 1
	span := s.window.dims[last] * s.window.srcStrides[last]
	return !slices.ContainsFunc(s.axisStrides, func(stride int) bool { return stride < span })
}

func (s *scatterStep) run(x *frame) error {
	copy(x.memory[s.y], x.memory[s.x])
	columns := s.window.dims[len(s.window.dims)-1]
	x.parallel((columns+s.perPart-1)/s.perPart, s)
	return nil
}

func (s *scatterStep) part(x *frame, _, i int) {
	p := &s.window
	last := len(p.dims) - 1
	first := i * s.perPart
	n := min(s.perPart, p.dims[last]-first)
	y, u := unsafe.Pointer(&x.memory[s.y][0]), unsafe.Pointer(&x.memory[s.updates][0])
	for j := range s.count() {
		to, from, inside := s.place(x, j, false)
		if !inside {
			continue
		}
		for row := range p.rows() {
			d, f := to+first*p.srcStrides[last], from+first*p.dstStrides[last]
			for axis, rest := last-1, row; axis >= 0; axis-- {
				d += rest % p.dims[axis] * p.srcStrides[axis]
				f += rest % p.dims[axis] * p.dstStrides[axis]
				rest /= p.dims[axis]
			}
			dst, src := unsafe.Add(y, d*s.size), unsafe.Add(u, f*s.size)
			if p.srcStrides[last] == 1 {
				s.combine(dst, n, [3]unsafe.Pointer{dst, src}, [3]int{1, p.dstStrides[last]})
				continue
			}
			for k := range n {
				to := unsafe.Add(dst, k*p.srcStrides[last]*s.size)
				s.combine(to, 1, [3]unsafe.Pointer{to, unsafe.Add(src, k*p.dstStrides[last]*s.size)}, [3]int{})
			}
		}
	}
}

// A dynamicSliceStep copies a window that starts where scalars say, moved inside
// if it is not: out of the operand, or into a copy of it.
type dynamicSliceStep struct {
	x, y, update int // update is negative for a slice
	size         int
	starts       []int // slots
	startType    dtypes.DType
	strides      []int
	limits       []int
	window       copyPlan
}

func newDynamicSlice(c *compiler, n *node, starts []*value, small shapes.Shape) *dynamicSliceStep {
	operand := n.inputs[0].shape
	if len(starts) != operand.Rank() || elementBytes(operand) == 0 || small.Size() == 0 {
		return nil
	}
	s := &dynamicSliceStep{x: c.slot(n.inputs[0]), y: c.slot(n.outputs[0]), update: -1, size: elementBytes(operand),
		strides: stridesOf(operand.Dimensions)}
	for i, v := range starts {
		s.starts = append(s.starts, c.slot(v))
		s.startType = v.shape.DType
		if s.startType != starts[0].shape.DType || !isIndex(s.startType) {
			return nil
		}
		s.limits = append(s.limits, operand.Dimensions[i]-small.Dimensions[i])
	}
	s.window = copyPlan{dims: small.Dimensions, srcStrides: s.strides, dstStrides: stridesOf(small.Dimensions)}
	return s
}

func lowerDynamicSlice(c *compiler, n *node) (step, int) {
	s := newDynamicSlice(c, n, n.inputs[1:], n.outputs[0].shape)
	if s == nil {
		return nil, 0
	}
	s.window = s.window.merged()
	return s, 0
}

func lowerDynamicUpdateSlice(c *compiler, n *node) (step, int) {
	s := newDynamicSlice(c, n, n.inputs[2:], n.inputs[1].shape)
	if s == nil {
		return nil, 0
	}
	s.update = c.slot(n.inputs[1])
	s.window.srcStrides, s.window.dstStrides = s.window.dstStrides, s.window.srcStrides
	s.window = s.window.merged()
	return s, 0
}

func (s *dynamicSliceStep) run(x *frame) error {
	place := 0
	for i, slot := range s.starts {
		place += max(0, min(placeOf(x.memory[slot], s.startType, 0), s.limits[i])) * s.strides[i]
	}
	if s.update < 0 {
		s.window.copy(x.memory[s.y], 0, x.memory[s.x], place, s.size)
		return nil
	}
	copy(x.memory[s.y], x.memory[s.x])
	s.window.copy(x.memory[s.y], place, x.memory[s.update], 0, s.size)
	return nil
}
