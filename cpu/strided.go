package cpu

import (
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
)

// A stridedCopy writes a tensor whose elements lie in another at regular
// distances: transpositions, slices, reversals, and the parts of concatenations
// and paddings, of any type of whole bytes.
type stridedCopy struct {
	src, dst int // slots
	size     int // bytes of an element
	copyPlan
}

// A copyPlan walks two tensors together. Offsets and strides are in elements and
// may be negative.
type copyPlan struct {
	dims, srcStrides, dstStrides []int
	srcStart, dstStart           int
}

func stridesOf(dims []int) []int {
	strides := make([]int, len(dims))
	stride := 1
	for i := len(dims) - 1; i >= 0; i-- {
		strides[i] = stride
		stride *= dims[i]
	}
	return strides
}

// merged drops axes of length 1 and joins axes that are walked as one.
func (p copyPlan) merged() copyPlan {
	m := copyPlan{srcStart: p.srcStart, dstStart: p.dstStart}
	for i, d := range p.dims {
		if d == 1 {
			continue
		}
		s, t := p.srcStrides[i], p.dstStrides[i]
		if last := len(m.dims) - 1; last >= 0 && m.srcStrides[last] == d*s && m.dstStrides[last] == d*t {
			m.dims[last] *= d
			m.srcStrides[last], m.dstStrides[last] = s, t
			continue
		}
		m.dims = append(m.dims, d)
		m.srcStrides = append(m.srcStrides, s)
		m.dstStrides = append(m.dstStrides, t)
	}
	if len(m.dims) == 0 {
		m.dims, m.srcStrides, m.dstStrides = []int{1}, []int{1}, []int{1}
	}
	return m
}

// rows is the number of runs along the innermost axis.
func (p *copyPlan) rows() int {
	n := 1
	for _, d := range p.dims[:len(p.dims)-1] {
		n *= d
	}
	return n
}

const rowsPerPart = 256

func (s *stridedCopy) run(x *frame) error {
	rows := s.rows()
	if rows*s.dims[len(s.dims)-1] < targetChunk {
		s.copyRows(x, 0, rows)
		return nil
	}
	x.parallel((rows+rowsPerPart-1)/rowsPerPart, s)
	return nil
}

func (s *stridedCopy) part(x *frame, _, i int) {
	s.copyRows(x, i*rowsPerPart, min((i+1)*rowsPerPart, s.rows()))
}

func (s *stridedCopy) copyRows(x *frame, from, to int) {
	last := len(s.dims) - 1
	n := s.dims[last]
	src, dst := unsafe.Pointer(&x.memory[s.src][0]), unsafe.Pointer(&x.memory[s.dst][0])
	for row := from; row < to; row++ {
		so, do := s.srcStart, s.dstStart
		for axis, rest := last-1, row; axis >= 0; axis-- {
			i := rest % s.dims[axis]
			rest /= s.dims[axis]
			so += i * s.srcStrides[axis]
			do += i * s.dstStrides[axis]
		}
		copyRow(dst, do, s.dstStrides[last], src, so, s.srcStrides[last], n, s.size)
	}
}

func copyRow(dst unsafe.Pointer, do, dStride int, src unsafe.Pointer, so, sStride, n, size int) {
	if dStride == 1 && sStride == 1 {
		copy(unsafe.Slice((*byte)(unsafe.Add(dst, do*size)), n*size), unsafe.Slice((*byte)(unsafe.Add(src, so*size)), n*size))
		return
	}
	switch size {
	case 1:
		copyElements[uint8](dst, do, dStride, src, so, sStride, n)
	case 2:
		copyElements[uint16](dst, do, dStride, src, so, sStride, n)
	case 4:
		copyElements[uint32](dst, do, dStride, src, so, sStride, n)
	case 8:
		copyElements[uint64](dst, do, dStride, src, so, sStride, n)
	case 16:
		copyElements[[2]uint64](dst, do, dStride, src, so, sStride, n)
	}
}

func copyElements[T any](dst unsafe.Pointer, do, dStride int, src unsafe.Pointer, so, sStride, n int) {
	size := int(unsafe.Sizeof(*new(T)))
	d, s := unsafe.Add(dst, do*size), unsafe.Add(src, so*size)
	for i := range n {
		*(*T)(unsafe.Add(d, i*dStride*size)) = *(*T)(unsafe.Add(s, i*sStride*size))
	}
}

// elementBytes is the size of an element, or 0 if elements share bytes.
func elementBytes(s shapes.Shape) int {
	if s.DType.IsPacked() {
		return 0
	}
	return s.DType.Size()
}

// lowerStrided makes a copy of a node with one operand, given strides of that
// operand along the axes of the result.
func lowerStrided(c *compiler, n *node, start int, strides []int) (step, int) {
	out := n.outputs[0].shape
	size := elementBytes(out)
	if size == 0 || out.Size() == 0 {
		return nil, 0
	}
	p := copyPlan{dims: out.Dimensions, srcStrides: strides, dstStrides: stridesOf(out.Dimensions), srcStart: start}.merged()
	return &stridedCopy{src: c.slot(n.inputs[0]), dst: c.slot(n.outputs[0]), size: size, copyPlan: p}, 0
}

func lowerTranspose(c *compiler, n *node) (step, int) {
	in := stridesOf(n.inputs[0].shape.Dimensions)
	strides := make([]int, len(in))
	for i, axis := range n.attrs.(axesAttrs).axes {
		strides[i] = in[axis]
	}
	return lowerStrided(c, n, 0, strides)
}

func lowerReverse(c *compiler, n *node) (step, int) {
	dims := n.inputs[0].shape.Dimensions
	strides, start := stridesOf(dims), 0
	for _, axis := range n.attrs.(axesAttrs).axes {
		start += (dims[axis] - 1) * strides[axis]
		strides[axis] = -strides[axis]
	}
	return lowerStrided(c, n, start, strides)
}

func lowerSlice(c *compiler, n *node) (step, int) {
	a := n.attrs.(sliceAttrs)
	strides, start := stridesOf(n.inputs[0].shape.Dimensions), 0
	for i := range strides {
		start += a.starts[i] * strides[i]
		if len(a.strides) > 0 {
			strides[i] *= a.strides[i]
		}
	}
	return lowerStrided(c, n, start, strides)
}

func lowerBroadcast(c *compiler, n *node) (step, int) {
	in := n.inputs[0].shape
	strides := make([]int, n.outputs[0].shape.Rank())
	own := stridesOf(in.Dimensions)
	for i, axis := range n.attrs.(broadcastAttrs).axes {
		if in.Dimensions[i] > 1 {
			strides[axis] = own[i]
		}
	}
	return lowerStrided(c, n, 0, strides)
}

// A sequence runs steps one after the other.
type sequence []step

func (s sequence) run(x *frame) error {
	for _, part := range s {
		if err := part.run(x); err != nil {
			return err
		}
	}
	return nil
}

func lowerConcatenate(c *compiler, n *node) (step, int) {
	out := n.outputs[0].shape
	size := elementBytes(out)
	if size == 0 || out.Size() == 0 {
		return nil, 0
	}
	axis := n.attrs.(concatAttrs).axis
	strides := stridesOf(out.Dimensions)
	var s sequence
	at := 0
	for _, in := range n.inputs {
		if in.shape.Size() > 0 {
			p := copyPlan{dims: in.shape.Dimensions, srcStrides: stridesOf(in.shape.Dimensions), dstStrides: strides,
				dstStart: at * strides[axis]}.merged()
			s = append(s, &stridedCopy{src: c.slot(in), dst: c.slot(n.outputs[0]), size: size, copyPlan: p})
		}
		at += in.shape.Dimensions[axis]
	}
	return s, 0
}

// A fillStep sets all elements of a tensor to a scalar.
type fillStep struct{ scalar, dst, size int }

func (s *fillStep) run(x *frame) error {
	dst, v := x.memory[s.dst], x.memory[s.scalar][:s.size]
	copy(dst, v)
	for n := s.size; n < len(dst); n *= 2 {
		copy(dst[n:], dst[:n])
	}
	return nil
}

func lowerPad(c *compiler, n *node) (step, int) {
	in, out := n.inputs[0].shape, n.outputs[0].shape
	size := elementBytes(out)
	if size == 0 || out.Size() == 0 {
		return nil, 0
	}
	fill := &fillStep{c.slot(n.inputs[1]), c.slot(n.outputs[0]), size}
	p := copyPlan{srcStrides: stridesOf(in.Dimensions), dstStrides: stridesOf(out.Dimensions)}
	axes := n.attrs.(padAttrs).axes
	for i, d := range in.Dimensions {
		var a compute.PadAxis
		if i < len(axes) {
			a = axes[i]
		}
		step := a.Interior + 1
		// Negative padding cuts off: keep the elements first <= j < end that land
		// inside the result.
		first := 0
		if a.Start < 0 {
			first = (-a.Start + step - 1) / step
		}
		end := first
		for end < d && a.Start+end*step < out.Dimensions[i] {
			end++
		}
		if end == first {
			return fill, 0
		}
		p.dims = append(p.dims, end-first)
		p.srcStart += first * p.srcStrides[i]
		p.dstStart += (a.Start + first*step) * p.dstStrides[i]
		p.dstStrides[i] *= step
	}
	return sequence{fill, &stridedCopy{src: c.slot(n.inputs[0]), dst: c.slot(n.outputs[0]), size: size, copyPlan: p.merged()}}, 0
}
