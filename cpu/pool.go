package cpu

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// A window is pooling over the two middle axes of [batch, height, width,
// channels]; windows are cut off at the borders, as padding never wins.
type window struct {
	n, h, w, c     int
	oh, ow         int
	kh, kw         int
	stride, before [2]int
}

// windowOf reads the attributes of a pooling whose larger side has dimensions x
// and whose smaller side has dimensions y.
func windowOf(a windowAttrs, x, y []int) (p window, ok bool) {
	if len(x) != 4 || len(a.window) != 4 || a.window[0] != 1 || a.window[3] != 1 {
		return p, false
	}
	for _, list := range [][]int{a.inputDilations, a.windowDilations} {
		for _, d := range list {
			if d > 1 {
				return p, false
			}
		}
	}
	strides := a.strides
	if len(strides) == 0 {
		strides = a.window
	}
	if strides[0] != 1 || strides[3] != 1 {
		return p, false
	}
	p = window{n: x[0], h: x[1], w: x[2], c: x[3], oh: y[1], ow: y[2], kh: a.window[1], kw: a.window[2],
		stride: [2]int{strides[1], strides[2]}}
	if len(a.paddings) > 0 {
		if a.paddings[0] != [2]int{} || a.paddings[3] != [2]int{} {
			return p, false
		}
		p.before = [2]int{a.paddings[1][0], a.paddings[2][0]}
		for i, k := range []int{p.kh, p.kw} { // every window has a pixel
			if a.paddings[i+1][0] < 0 || a.paddings[i+1][1] < 0 || a.paddings[i+1][0] >= k || a.paddings[i+1][1] >= k {
				return p, false
			}
		}
	}
	return p, y[0] == x[0] && y[3] == x[3]
}

// cut returns the pixels of window i along an axis.
func (p *window) cut(axis, i int) (from, count int) {
	size, k := p.h, p.kh
	if axis == 1 {
		size, k = p.w, p.kw
	}
	start := i*p.stride[axis] - p.before[axis]
	from = max(0, start)
	return from, min(size, start+k) - from
}

// each visits the windows of an image: the first pixel in the larger side, the
// pixel of the smaller side, and the size.
func (p *window) each(visit func(large, small, kh, kw int)) {
	for i := range p.oh {
		h, kh := p.cut(0, i)
		for j := range p.ow {
			w, kw := p.cut(1, j)
			visit((h*p.w+w)*p.c, (i*p.ow+j)*p.c, kh, kw)
		}
	}
}

type poolKind uint8

const (
	poolMax poolKind = iota
	poolSum
	poolMaxGrad // SelectAndScatterMax
)

// A poolStep pools images, or takes the gradient of max pooling.
type poolStep struct {
	window
	dealing
	set       *kernels.Set
	kind      poolKind
	x, src, y int // slots; src is x unless for the gradient
}

func lowerReduceWindow(c *compiler, n *node) (step, int) {
	a := n.attrs.(windowAttrs)
	kind := poolMax
	switch a.reduction {
	case compute.ReduceOpMax:
	case compute.ReduceOpSum:
		kind = poolSum
	default:
		return nil, 0
	}
	x, y := n.inputs[0].shape, n.outputs[0].shape
	p, ok := windowOf(a, x.Dimensions, y.Dimensions)
	if !ok || x.DType != dtypes.Float32 || x.Size() == 0 || y.Size() == 0 {
		return nil, 0
	}
	return &poolStep{window: p, dealing: deal(p.n, 1), set: c.backend.opts.isa, kind: kind, x: c.slot(n.inputs[0]), src: c.slot(n.inputs[0]), y: c.slot(n.outputs[0])}, 0
}

func lowerSelectAndScatter(c *compiler, n *node) (step, int) {
	x, src := n.inputs[0].shape, n.inputs[1].shape
	p, ok := windowOf(n.attrs.(windowAttrs), x.Dimensions, src.Dimensions)
	if !ok || x.DType != dtypes.Float32 || x.Size() == 0 || src.Size() == 0 {
		return nil, 0
	}
	return &poolStep{window: p, dealing: deal(p.n, 1), set: c.backend.opts.isa, kind: poolMaxGrad,
		x: c.slot(n.inputs[0]), src: c.slot(n.inputs[1]), y: c.slot(n.outputs[0])}, 0
}

func (s *poolStep) run(x *frame) error {
	x.parallel(s.n, s)
	return nil
}

func (s *poolStep) part(x *frame, worker, image int) { s.image(x, worker, image) }

func (s *poolStep) byImage() (operands, results []int) {
	return []int{s.x, s.src}, []int{s.y}
}
func (s *poolStep) prepare(*frame)    {}
func (s *poolStep) begin(*frame, int) {}
func (s *poolStep) finish(*frame)     {}

func (s *poolStep) do(x *frame, worker, _, lo, hi int) {
	for image := lo; image < hi; image++ {
		s.image(x, worker, image)
	}
}

func (s *poolStep) image(x *frame, worker, image int) {
	large, small := s.h*s.w*s.c, s.oh*s.ow*s.c
	in := x.tensor(worker, s.x, image*large)[:large]
	row, pixel := 4*s.w*s.c, 4*s.c
	// Channels beyond a multiple of 16 go through the portable kernels.
	main := s.c &^ (kernels.Lanes - 1)
	for _, part := range []struct {
		set      *kernels.Set
		from, to int
	}{{s.set, 0, main}, {kernels.Portable, main, s.c}} {
		from, cols := part.from, part.to-part.from
		if cols == 0 {
			continue
		}
		switch s.kind {
		case poolMax:
			out := x.tensor(worker, s.y, image*small)[:small]
			s.each(func(large, small, kh, kw int) {
				part.set.MaxPool(&out[small+from], &in[large+from], row, pixel, kh, kw, cols)
			})
		case poolSum:
			out := x.tensor(worker, s.y, image*small)[:small]
			s.each(func(large, small, kh, kw int) {
				clear(out[small+from : small+from+cols])
				for i := range kh {
					part.set.ColSum(&out[small+from], &in[large+from+i*s.w*s.c], kw, s.c, cols)
				}
			})
		case poolMaxGrad:
			out := x.tensor(worker, s.y, image*large)[:large]
			if from == 0 {
				clear(out)
			}
			src := x.tensor(worker, s.src, image*small)[:small]
			s.each(func(large, small, kh, kw int) {
				part.set.MaxPoolGrad(&out[large+from], &in[large+from], &src[small+from], row, pixel, kh, kw, cols)
			})
		}
	}
}
