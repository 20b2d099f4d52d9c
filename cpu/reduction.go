package cpu

import (
	"math"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// floats views memory from p on; the caller keeps within it.
func floats(p *float32, n int) []float32 { return unsafe.Slice(p, n) }

// A reduction sums over the rows of what a program computes: a plain sum, the
// statistics of batch normalisation, or those of its gradient. Each part of the
// program leaves its sums in memory of its own; finish adds them up in order.
type reduction struct {
	op       opcode
	x, y     int // registers
	cols     int
	partials int // slot of [parts][perPart]float32
	inputs   []int
	outputs  []int
	epsilon  float32
}

// perPart is the number of sums that a part leaves.
func (r *reduction) perPart() int {
	switch r.op {
	case opBatchNormStats:
		return 3 * r.cols // shift, sum, sum of squares
	case opBatchNormGradStats:
		return 2 * r.cols
	}
	if r.cols == 1 {
		return kernels.Lanes // sums of every sixteenth element
	}
	return r.cols
}

func (r *reduction) partial(x *frame, part int) []float32 {
	n := r.perPart()
	return x.f32(r.partials)[part*n : (part+1)*n]
}

func (r *reduction) start(x *frame, part int) { clear(r.partial(x, part)) }

// add takes in a block of n elements.
func (r *reduction) add(x *frame, worker int, set *kernels.Set, part int, first bool, at *[maxRegisters]*float32, n int) {
	c, rows := r.cols, n/r.cols
	sums := r.partial(x, part)
	src := at[r.x]
	main := c &^ (kernels.Lanes - 1)
	switch r.op {
	case opBatchNormStats:
		shift, sum, square := sums[:c], sums[c:2*c], sums[2*c:]
		if first {
			// Distances to a value that occurs keep the squares free of cancellation.
			copy(shift, floats(src, c))
		}
		if main > 0 {
			set.ColMoments(&sum[0], &square[0], src, &shift[0], rows, c, main)
		}
		if main < c {
			kernels.Portable.ColMoments(&sum[main], &square[main], &floats(src, c)[main], &shift[main], rows, c, c-main)
		}
	case opBatchNormGradStats:
		mean := x.f32(r.inputs[1])
		sum, product := sums[:c], sums[c:]
		other := at[r.y]
		if main > 0 {
			set.ColProducts(&sum[0], &product[0], src, other, &mean[0], rows, c, main)
		}
		if main < c {
			kernels.Portable.ColProducts(&sum[main], &product[main], &floats(src, c)[main], &floats(other, c)[main], &mean[main], rows, c, c-main)
		}
	default:
		if c == 1 {
			values := floats(src, n)
			whole := n &^ (kernels.Lanes - 1)
			if whole > 0 {
				lanes := &x.workers[worker].lanes
				set.RowSum(&lanes[0], src, whole)
				for i, v := range lanes {
					sums[i] += v
				}
			}
			for i, v := range values[whole:] {
				sums[i] += v
			}
			return
		}
		if main > 0 {
			set.ColSum(&sums[0], src, rows, c, main)
		}
		if main < c {
			kernels.Portable.ColSum(&sums[main], &floats(src, c)[main], rows, c, c-main)
		}
	}
}

// finish adds up the parts, in float64, and derives the results. Parts have the
// given number of rows; the last may be shorter.
func (r *reduction) finish(x *frame, parts, rowsPerPart, rows int) {
	c := r.cols
	switch r.op {
	case opBatchNormStats:
		scale, offset := x.f32(r.inputs[0]), x.f32(r.inputs[1])
		mean, variance := x.f32(r.outputs[0]), x.f32(r.outputs[1])
		a, b := x.f32(r.outputs[2]), x.f32(r.outputs[3])
		for from := 0; from < c; from += columnBlock {
			to := min(from+columnBlock, c)
			var means, squares [columnBlock]float64
			// Means and sums of squared distances of two sets merge exactly: Chan,
			// Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for
			// Computing Sample Variances" (1979).
			count := 0.
			for i := range parts {
				n := float64(min(rowsPerPart, rows-i*rowsPerPart))
				each, share := 1/n, n/(count+n)
				s := r.partial(x, i)
				shift, sums, products := s[from:to], s[c+from:][:to-from], s[2*c+from:][:to-from]
				for j, m := range means[:to-from] {
					sum := float64(sums[j])
					d := float64(shift[j]) + sum*each - m
					means[j] = m + d*share
					squares[j] += float64(products[j]) - sum*sum*each + d*d*count*share
				}
				count += n
			}
			for k, m := range means[:to-from] {
				j, m2 := from+k, squares[k]
				v := max(m2/count, 0)
				if m2 != m2 {
					v = m2 // NaN stays
				}
				mean[j], variance[j] = float32(m), float32(v)
				inverse := 1 / math.Sqrt(v+float64(r.epsilon))
				a[j] = float32(float64(scale[j]) * inverse)
				b[j] = float32(float64(offset[j]) - m*float64(scale[j])*inverse)
			}
		}
	case opBatchNormGradStats:
		scale, mean, variance := x.f32(r.inputs[0]), x.f32(r.inputs[1]), x.f32(r.inputs[2])
		dscale, doffset := x.f32(r.outputs[0]), x.f32(r.outputs[1])
		g, h, constant := x.f32(r.outputs[2]), x.f32(r.outputs[3]), x.f32(r.outputs[4])
		for from := 0; from < c; from += columnBlock {
			to := min(from+columnBlock, c)
			var sums, products [columnBlock]float64
			for i := range parts {
				s := r.partial(x, i)
				addTo(sums[:to-from], s[from:])
				addTo(products[:to-from], s[c+from:])
			}
			for k, sum := range sums[:to-from] {
				j, product := from+k, products[k]
				// With xhat = (x-mean)*inverse:
				// dx = scale*inverse * (dy - sum(dy)/n - xhat*sum(dy*xhat)/n).
				inverse := 1 / math.Sqrt(float64(variance[j])+float64(r.epsilon))
				n := float64(rows)
				ds := product * inverse
				slope := float64(scale[j]) * inverse
				dscale[j], doffset[j] = float32(ds), float32(sum)
				g[j] = float32(slope)
				h[j] = float32(-slope * inverse * ds / n)
				constant[j] = float32(-slope*sum/n + slope*inverse*ds/n*float64(mean[j]))
			}
		}
	default:
		out := x.f32(r.outputs[0])
		if c == 1 {
			var sum float64
			for i := range parts {
				for _, v := range r.partial(x, i) {
					sum += float64(v)
				}
			}
			out[0] = float32(sum)
			return
		}
		for from := 0; from < c; from += columnBlock {
			to := min(from+columnBlock, c)
			var sums [columnBlock]float64
			for i := range parts {
				addTo(sums[:to-from], r.partial(x, i)[from:])
			}
			for k, sum := range sums[:to-from] {
				out[from+k] = float32(sum)
			}
		}
	}
}

// columnBlock is how many columns finish takes at a time, so that it walks the sums of
// a part in the order of memory.
const columnBlock = 64

func addTo(sums []float64, part []float32) {
	part = part[:len(sums)]
	for i, v := range part {
		sums[i] += float64(v)
	}
}

// rowSumAttrs replace the axes of a sum over leading axes, once its operand is
// seen flat.
type rowSumAttrs struct{ cols int }

// leadingReduction returns the width of the rows that a node sums up, or 0 if it
// is not a sum over leading axes.
func leadingReduction(n *node) int {
	switch n.op {
	case opBatchNormStats, opBatchNormGradStats:
		return n.inputs[1].shape.Size() // the scale
	case opcode(compute.OpTypeReduceSum):
		if a, ok := n.attrs.(rowSumAttrs); ok {
			return a.cols
		}
		x, axes := n.inputs[0].shape, n.attrs.(axesAttrs).axes
		reduced := make([]bool, x.Rank())
		for _, a := range axes {
			reduced[a] = true
		}
		cols, kept := 1, false
		for i, d := range x.Dimensions {
			switch {
			case !reduced[i] && len(axes) > 0:
				kept = kept || d > 1
				cols *= d
			case kept && d > 1:
				return 0 // an axis is reduced after one that stays
			}
		}
		return cols
	}
	return 0
}
