package cpu

import (
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// Noise that is as large as a part of what it is added to (AdaSmoothOut) needs
// norms of both before the sum:
//
//	w + s * u * norm(w)/(norm(u) + epsilon)
//
// with u uniform numbers and the norms those of columns, w being seen as a matrix.
// Left to programs this would read w twice and write and read u in between. A
// filterNoiseStep takes a strip of columns at a time, which stays in the second
// cache level from the norms to the sum.

type filterNoiseAttrs struct {
	draw    drawing
	cols    int
	epsilon float32
}

func (a filterNoiseAttrs) String() string {
	return fmt.Sprintf("columns:%d epsilon:%g", a.cols, a.epsilon)
}

// fuseFilterNoise finds such sums. It runs when random numbers are nodes of their
// own (fuseRandom).
func (g *graph) fuseFilterNoise() {
	m := &matcher{graph: g, users: g.users()}
	for _, n := range g.nodes {
		if n.op != opcode(compute.OpTypeAdd) || n.outputs[0].shape.DType != dtypes.Float32 {
			continue
		}
		for i := range 2 {
			if w, state, s, attrs, ok := m.filterNoise(n.inputs[i], n.inputs[1-i]); ok {
				n.op, n.attrs, n.emit = opFilterNoise, attrs, nil
				n.inputs = []*value{w, state, s}
				break
			}
		}
	}
}

// A matcher recognises values by how they are computed.
type matcher struct {
	*graph
	users map[*value][]*node
}

// operation returns the operands of a value that is computed by op, seen through
// changes of shape that keep the order of elements.
func (m *matcher) operation(v *value, op compute.OpType) ([]*value, bool) {
	n := m.core(v).node
	return n.inputs, n.op == opcode(op)
}

// core follows reshapes, and broadcasts of one row over others, to what is
// computed.
func (m *matcher) core(v *value) *value {
	for {
		n := v.node
		if n.op != opcode(compute.OpTypeReshape) && !repeatsRow(n) {
			return v
		}
		v = n.inputs[0]
	}
}

// repeatsRow reports whether a node repeats its operand along outer axes.
func repeatsRow(n *node) bool {
	a, ok := n.attrs.(broadcastAttrs)
	if !ok {
		return false
	}
	x, y := n.inputs[0].shape.Dimensions, n.outputs[0].shape.Dimensions
	next := len(y) - 1
	for i := len(x) - 1; i >= 0; i-- {
		if x[i] == 1 {
			continue
		}
		for y[next] == 1 {
			next--
		}
		if a.axes[i] != next {
			return false
		}
		next--
	}
	return true
}

// binary returns the operands of v = op(x, y) where one of them, x, passes a test.
func (m *matcher) binary(v *value, op compute.OpType, test func(x *value) bool) (x, y *value, ok bool) {
	in, ok := m.operation(v, op)
	if !ok {
		return nil, nil, false
	}
	switch {
	case test(in[0]):
		return in[0], in[1], true
	case test(in[1]):
		return in[1], in[0], true
	}
	return nil, nil, false
}

func isScalar(v *value) bool { return v.shape.Size() == 1 && v.shape.DType == dtypes.Float32 }

// literalOf returns the number of a constant scalar.
func literalOf(v *value) (float32, bool) {
	c, ok := root(v).node.attrs.(constantAttrs)
	if !ok || !isScalar(v) {
		return 0, false
	}
	return flatOf(c.data, v.shape).([]float32)[0], true
}

func isLiteral(v *value) bool { _, ok := literalOf(v); return ok }

// columnNorm reports whether v is the norm of the columns of x.
func (m *matcher) columnNorm(v, x *value, cols int) bool {
	in, ok := m.operation(v, compute.OpTypeSqrt)
	if !ok {
		return false
	}
	sum := m.core(in[0])
	square, ok := m.operation(sum, compute.OpTypeReduceSum)
	if !ok || sum.node.inputs[0].shape.Size() == 0 || leadingReduction(sum.node) != cols {
		return false
	}
	factors, ok := m.operation(square[0], compute.OpTypeMul)
	return ok && root(factors[0]) == root(x) && root(factors[1]) == root(x)
}

// filterNoise takes apart the sum of w and e.
func (m *matcher) filterNoise(w, e *value) (_, state, s *value, attrs filterNoiseAttrs, ok bool) {
	fail := func() (_, _, _ *value, _ filterNoiseAttrs, _ bool) { return nil, nil, nil, filterNoiseAttrs{}, false }
	alone := func(v *value) bool { return len(m.users[v]) == 1 && !m.isResult(v) }
	size, rank := w.shape.Size(), w.shape.Rank()
	if rank < 2 || e.shape.Size() != size || !alone(e) {
		return fail()
	}
	cols := w.shape.Dimensions[rank-1]
	if !filterNoiseShape(size, cols) {
		return fail()
	}
	// e = (u * ratio) * s
	s, product, ok := m.binary(e, compute.OpTypeMul, isScalar)
	if !ok || !alone(product) {
		return fail()
	}
	u, ratio, ok := m.binary(product, compute.OpTypeMul, func(v *value) bool { return v.shape.Size() == size && m.core(v).shape.Size() == size })
	if !ok || m.core(ratio).shape.Size() != cols {
		return fail()
	}
	// ratio = norm(w) / (norm(u) + epsilon)
	norms, ok := m.operation(ratio, compute.OpTypeDiv)
	if !ok || !m.columnNorm(norms[0], w, cols) {
		return fail()
	}
	epsilon, norm, ok := m.binary(norms[1], compute.OpTypeAdd, isLiteral)
	if !ok || !m.columnNorm(norm, u, cols) {
		return fail()
	}
	// u is made of random words and used for nothing else: three operands.
	if len(m.users[u]) != 3 || m.isResult(u) {
		return fail()
	}
	attrs.cols = cols
	attrs.epsilon, _ = literalOf(epsilon)
	if state, attrs.draw, ok = m.drawn(u); !ok {
		return fail()
	}
	return w, state, s, attrs, true
}

// drawn takes apart numbers made of random words by arithmetic that a drawing can
// stand for.
func (m *matcher) drawn(u *value) (state *value, d drawing, ok bool) {
	type operation struct {
		op kernels.Op
		c  float32
	}
	var list []operation
	v := root(u)
	for v.node.op != opRandomFloat {
		if v != root(u) && (len(m.users[v]) != 1 || m.isResult(v)) {
			return nil, d, false
		}
		o := operation{op: vecOps[v.node.op].op}
		next := v.node.inputs
		switch {
		case len(next) == 1 && o.op == kernels.Abs:
			v = root(next[0])
		case len(next) == 2 && isLiteral(next[1]):
			o.c, _ = literalOf(next[1])
			v = root(next[0])
		case len(next) == 2 && isLiteral(next[0]) && o.op != kernels.Sub:
			o.c, _ = literalOf(next[0])
			v = root(next[1])
		default:
			return nil, d, false
		}
		list = append(list, o)
	}
	if v != root(u) && len(m.users[v]) != 1 {
		return nil, d, false
	}
	d = plainDrawing
	for _, o := range slices.Backward(list) {
		if !d.then(o.op, o.c) {
			return nil, d, false
		}
	}
	return v.node.inputs[0], d, true
}

// filterNoiseShape reports whether the kernels take a tensor of so many elements in
// rows of cols: as strips of columns, or narrow rows several at a time.
func filterNoiseShape(size, cols int) bool {
	const mostRows = 1 << 14 // of scratch memory: 8 MB
	wide := max(cols, kernels.StripWidth)
	return size > 0 && wide%cols == 0 && wide%kernels.StripWidth == 0 && size%wide == 0 && size/wide <= mostRows
}

// A filterNoiseStep adds noise in proportion to norms of columns.
type filterNoiseStep struct {
	set            *kernels.Set
	w, state, s, y int
	rows, cols     int // cols a multiple of the width of a strip
	period         int // columns that have a norm of their own
	draw           drawing
	epsilon        float32
}

func lowerFilterNoise(c *compiler, n *node) (step, int) {
	a := n.attrs.(filterNoiseAttrs)
	s := &filterNoiseStep{set: c.backend.opts.isa, w: c.slot(n.inputs[0]), state: c.slot(n.inputs[1]), s: c.slot(n.inputs[2]),
		y: c.slot(n.outputs[0]), cols: max(a.cols, kernels.StripWidth), period: a.cols, draw: a.draw, epsilon: a.epsilon}
	s.rows = n.outputs[0].shape.Size() / s.cols
	c.needScratch((s.rows + 3) * kernels.StripWidth)
	return s, 0
}

func (s *filterNoiseStep) run(x *frame) error {
	x.parallel(s.cols/kernels.StripWidth, s)
	return nil
}

func (s *filterNoiseStep) part(x *frame, worker, strip int) {
	const width = kernels.StripWidth
	u := x.workspace(worker, 0, s.rows*width)
	sums := x.workspace(worker, s.rows*width, 2*width)
	factor := x.workspace(worker, (s.rows+2)*width, width)
	first := strip * width
	w, y := x.f32(s.w)[first:], x.f32(s.y)[first:]

	d := &x.workers[worker].draw
	const words = 4 // per counter
	set := drawFrom(s.set, d, x.u64(s.state), first/words, s.rows*s.cols/words)
	d.Limit, d.Scale, d.Shift = s.draw.limit, s.draw.scale, s.draw.shift
	d.Step = uint64(s.cols / words)

	var total [2 * width]float64
	const most = 256 // rows of which squares are added up in float32
	for from := 0; from < s.rows; from += most {
		clear(sums)
		set.StripNorms(&u[from*width], d, &w[from*s.cols], &sums[0], min(most, s.rows-from), s.cols)
		for i, v := range sums {
			total[i] += float64(v)
		}
	}
	period := min(s.period, width)
	strength := x.f32(s.s)[0]
	for j := range period {
		var ofU, ofW float64
		for k := j; k < width; k += period {
			ofU += total[k]
			ofW += total[width+k]
		}
		f := float32(math.Sqrt(ofW)) / (float32(math.Sqrt(ofU)) + s.epsilon) * strength
		for k := j; k < width; k += period {
			factor[k] = f
		}
	}
	set.StripAdd(&y[0], &u[0], &w[0], &factor[0], s.rows, s.cols)
}
