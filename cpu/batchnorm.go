package cpu

import (
	"math"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// splitBatchNorm writes the batch-norm operations as statistics per channel and
// elementwise operations, which fuse with what surrounds them:
//
//	training:  mean, variance, a, b = stats(x);       y  = x*a + b
//	inference: a, b = coefficients(mean, variance);   y  = x*a + b
//	gradient:  dscale, doffset, g, h, k = stats(...); dx = dy*g + (x*h + k)
func (g *graph) splitBatchNorm() {
	b := &rewriter{substitutes: map[*value]*value{}}
	for _, n := range g.nodes {
		attrs, ok := n.attrs.(batchNormAttrs)
		if !ok {
			b.nodes = append(b.nodes, n)
			continue
		}
		// Features last; the transpositions vanish where they meet their inverse.
		x := n.inputs[0]
		last := x.shape.Rank() - 1
		forth, back := identity(last+1), identity(last+1)
		forth = append(slices.Delete(forth, attrs.axis, attrs.axis+1), attrs.axis)
		for i, axis := range forth {
			back[axis] = i
		}
		x = b.transpose(x, forth)
		attrs.axis = last
		feature := n.inputs[1].shape
		row := make([]int, last+1)
		for i := range row {
			row[i] = 1
		}
		row[last] = feature.Dimensions[0]
		spread := func(v *value) *value { return b.reshape(v, row) }
		scaleAndShift := func(factor, term *value) *value {
			return b.binary(compute.OpTypeAdd, b.binary(compute.OpTypeMul, x, spread(factor)), spread(term))
		}
		switch compute.OpType(n.op) {
		case compute.OpTypeBatchNormForTraining:
			s := b.add(newNode(opBatchNormStats, attrs, []*value{x, n.inputs[1], n.inputs[2]}, feature, feature, feature, feature))
			b.substitutes[n.outputs[0]] = b.transpose(scaleAndShift(s.outputs[2], s.outputs[3]), back)
			b.substitutes[n.outputs[1]] = s.outputs[0]
			b.substitutes[n.outputs[2]] = s.outputs[1]
		case compute.OpTypeBatchNormForInference:
			s := b.add(newNode(opBatchNormCoefficients, attrs, slices.Clone(n.inputs[1:]), feature, feature))
			b.substitutes[n.outputs[0]] = b.transpose(scaleAndShift(s.outputs[0], s.outputs[1]), back)
		case compute.OpTypeBatchNormGradient:
			dy := b.transpose(n.inputs[4], forth)
			s := b.add(newNode(opBatchNormGradStats, attrs,
				[]*value{x, n.inputs[1], n.inputs[2], n.inputs[3], dy}, feature, feature, feature, feature, feature))
			dx := b.binary(compute.OpTypeAdd,
				b.binary(compute.OpTypeMul, dy, spread(s.outputs[2])),
				scaleAndShift(s.outputs[3], s.outputs[4]))
			b.substitutes[n.outputs[0]] = b.transpose(dx, back)
			b.substitutes[n.outputs[1]] = s.outputs[0]
			b.substitutes[n.outputs[2]] = s.outputs[1]
		default:
			b.nodes = append(b.nodes, n)
		}
	}
	g.nodes = b.nodes
	g.replace(b.substitutes)
}

// A rewriter collects the nodes of a graph that a stage makes anew.
type rewriter struct {
	nodes       []*node
	substitutes map[*value]*value
}

func (b *rewriter) add(n *node) *node {
	for i, in := range n.inputs {
		for b.substitutes[in] != nil {
			in = b.substitutes[in]
		}
		n.inputs[i] = in
	}
	b.nodes = append(b.nodes, n)
	return n
}

func (b *rewriter) binary(op compute.OpType, x, y *value) *value {
	return b.add(newNode(opcode(op), nil, []*value{x, y}, x.shape)).outputs[0]
}

func (b *rewriter) reshape(x *value, dims []int) *value {
	if slices.Equal(x.shape.Dimensions, dims) {
		return x
	}
	return b.add(newNode(opcode(compute.OpTypeReshape), nil, []*value{x}, shapes.Make(x.shape.DType, dims...))).outputs[0]
}

func (b *rewriter) transpose(x *value, permutation []int) *value {
	if slices.IsSorted(permutation) {
		return x
	}
	dims := make([]int, len(permutation))
	for i, axis := range permutation {
		dims[i] = x.shape.Dimensions[axis]
	}
	return b.add(newNode(opcode(compute.OpTypeTranspose), axesAttrs{permutation}, []*value{x},
		shapes.Make(x.shape.DType, dims...))).outputs[0]
}

// A coefficientsStep computes opBatchNormCoefficients.
type coefficientsStep struct {
	inputs, outputs []int
	epsilon         float64
}

func lowerCoefficients(c *compiler, n *node) (step, int) {
	if n.inputs[0].shape.DType != dtypes.Float32 {
		return nil, 0
	}
	return &coefficientsStep{c.slotsOf(n.inputs), c.slotsOf(n.outputs), float64(n.attrs.(batchNormAttrs).epsilon)}, 0
}

func (s *coefficientsStep) run(x *frame) error {
	scale, offset, mean, variance := x.f32(s.inputs[0]), x.f32(s.inputs[1]), x.f32(s.inputs[2]), x.f32(s.inputs[3])
	a, b := x.f32(s.outputs[0]), x.f32(s.outputs[1])
	for i := range a {
		inverse := 1 / math.Sqrt(float64(variance[i])+s.epsilon)
		a[i] = float32(float64(scale[i]) * inverse)
		b[i] = float32(float64(offset[i]) - float64(mean[i])*float64(scale[i])*inverse)
	}
	return nil
}
