package cpu

import (
	"math"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// A reduceStep reduces neighbouring axes of a tensor seen as [outer, middle,
// inner] over the middle: sums, largest and smallest elements. Sums over leading
// axes are parts of programs instead (reduction.go).
type reduceStep struct {
	set                  *kernels.Set
	op                   compute.OpType
	x, y                 int
	outer, middle, inner int
}

// outerPerPart is the number of elements a part of a reduction reads, or more.
func (s *reduceStep) outerPerPart() int { return max(1, targetChunk/(s.middle*s.inner)) }

func lowerReduce(c *compiler, n *node) (step, int) {
	in, op := n.inputs[0].shape, compute.OpType(n.op)
	if in.Size() == 0 {
		return nil, 0
	}
	vector := in.DType == dtypes.Float32 && op != compute.OpTypeReduceProduct
	kernel := reduceKernelOf(op, in.DType)
	if !vector && kernel == nil {
		return nil, 0
	}
	outer, middle, inner, x, order := reducedAxes(c, n)
	y := c.slot(n.outputs[0])
	var s step = &scalarReduceStep{kernel: kernel, x: x, y: y, outer: outer, middle: middle, inner: inner}
	if vector {
		s = &reduceStep{set: c.backend.opts.isa, op: op, x: x, y: y, outer: outer, middle: middle, inner: inner}
	}
	if order != nil {
		return sequence{order, s}, 0
	}
	return s, 0
}

func (s *reduceStep) run(x *frame) error {
	per := s.outerPerPart()
	x.parallel((s.outer+per-1)/per, s)
	return nil
}

func (s *reduceStep) part(x *frame, worker, i int) {
	per := s.outerPerPart()
	in, out := x.f32(s.x), x.f32(s.y)
	for o := i * per; o < min(s.outer, (i+1)*per); o++ {
		src := in[o*s.middle*s.inner : (o+1)*s.middle*s.inner]
		if s.inner == 1 {
			out[o] = s.row(src, &x.workers[worker].lanes)
		} else {
			s.columns(out[o*s.inner:(o+1)*s.inner], src)
		}
	}
}

// row reduces contiguous elements.
func (s *reduceStep) row(src []float32, lanes *[kernels.Lanes]float32) float32 {
	whole := len(src) &^ (kernels.Lanes - 1)
	switch s.op {
	case compute.OpTypeReduceSum:
		var sum float64
		if whole > 0 {
			s.set.RowSum(&lanes[0], &src[0], whole)
			for _, v := range lanes {
				sum += float64(v)
			}
		}
		for _, v := range src[whole:] {
			sum += float64(v)
		}
		return float32(sum)
	case compute.OpTypeReduceMax:
		largest := float32(math.Inf(-1))
		if whole > 0 {
			s.set.RowMax(&lanes[0], &src[0], whole)
			for _, v := range lanes {
				largest = max(largest, v)
			}
		}
		for _, v := range src[whole:] {
			largest = max(largest, v)
		}
		return largest
	}
	smallest := src[0]
	for _, v := range src {
		smallest = min(smallest, v)
	}
	return smallest
}

// columns reduces rows of inner elements.
func (s *reduceStep) columns(dst, src []float32) {
	main := s.inner &^ (kernels.Lanes - 1)
	if s.op == compute.OpTypeReduceSum {
		clear(dst)
		if main > 0 {
			s.set.ColSum(&dst[0], &src[0], s.middle, s.inner, main)
		}
		if main < s.inner {
			kernels.Portable.ColSum(&dst[main], &src[main], s.middle, s.inner, s.inner-main)
		}
		return
	}
	op := kernels.Max
	if s.op == compute.OpTypeReduceMin {
		op = kernels.Min
	}
	copy(dst, src)
	for i := 1; i < s.middle; i++ {
		row := src[i*s.inner : (i+1)*s.inner]
		if main > 0 {
			s.set.Vec[op](&dst[0], &dst[0], &row[0], nil, main)
		}
		for j := main; j < s.inner; j++ {
			if op == kernels.Max {
				dst[j] = max(dst[j], row[j])
			} else {
				dst[j] = min(dst[j], row[j])
			}
		}
	}
}

// An argStep finds the position of the largest or smallest element along an
// axis, the first of several; a NaN wins over everything.
type argStep struct {
	x, y                 int
	outer, middle, inner int
	isMin                bool
	dtype                dtypes.DType
	best                 func(src unsafe.Pointer, start, step, n int, isMin bool) int
}

func lowerArgMinMax(c *compiler, n *node) (step, int) {
	in, out := n.inputs[0].shape, n.outputs[0].shape
	a := n.attrs.(argMinMaxAttrs)
	best := firstBestOf[in.DType]
	if best == nil || in.Size() == 0 || out.DType != dtypes.Int32 && out.DType != dtypes.Int64 {
		return nil, 0
	}
	s := &argStep{x: c.slot(n.inputs[0]), y: c.slot(n.outputs[0]), isMin: a.isMin, dtype: out.DType, outer: 1, inner: 1, best: best}
	axis := (a.axis + in.Rank()) % in.Rank()
	for i, d := range in.Dimensions {
		switch {
		case i < axis:
			s.outer *= d
		case i == axis:
			s.middle = d
		default:
			s.inner *= d
		}
	}
	return s, 0
}

func (s *argStep) run(x *frame) error {
	in := unsafe.Pointer(&x.memory[s.x][0])
	for o := range s.outer {
		for j := range s.inner {
			x.putInt(s.y, s.dtype, o*s.inner+j, s.best(in, o*s.middle*s.inner+j, s.inner, s.middle, s.isMin))
		}
	}
	return nil
}
