package cpu

import (
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
)

// foldLayouts removes transpositions and reversals whose only effect is on how a
// product or a convolution walks its operands:
//
//	dot(transpose(a), b)       -> dot(a, b) over other axes of a
//	transpose(dot(a, b))       -> dot(b, a), for matrices
//	conv(x, reverse(kernel))   -> conv(x, kernel) with the kernel mirrored
//	transpose(transpose(x))    -> one transposition
func (g *graph) foldLayouts() {
	transpose := opcode(compute.OpTypeTranspose)
	for _, n := range g.nodes {
		switch {
		case n.op == opcode(compute.OpTypeDotGeneral) && nativeDot(n):
			a := n.attrs.(dotAttrs).withCross(n)
			for i, in := range n.inputs {
				if in.node.op != transpose {
					continue
				}
				permutation := in.node.attrs.(axesAttrs).axes
				a.operands[i].through(permutation)
				n.inputs[i] = in.node.inputs[0]
			}
			n.attrs = a
		case n.op == opcode(compute.OpTypeConvGeneral) && nativeConv(n):
			a := n.attrs.(convAttrs)
			kernel := n.inputs[1].node
			if kernel.op != opcode(compute.OpTypeReverse) {
				continue
			}
			axes := slices.Clone(kernel.attrs.(axesAttrs).axes)
			spatial := slices.Clone(a.axes.KernelSpatial)
			slices.Sort(axes)
			slices.Sort(spatial)
			if slices.Equal(axes, spatial) {
				mirrored := a
				mirrored.reverseKernel = !a.reverseKernel
				n.attrs = mirrored
				if !nativeConv(n) { // the gradient of a kernel
					n.attrs = a
					continue
				}
				n.inputs[1] = kernel.inputs[0]
				n.emit = nil // says less than the attributes now
			}
		case n.op == transpose && n.inputs[0].node.op == transpose:
			inner := n.inputs[0].node
			outer := n.attrs.(axesAttrs).axes
			axes := make([]int, len(outer))
			for i, axis := range outer {
				axes[i] = inner.attrs.(axesAttrs).axes[axis]
			}
			n.attrs, n.inputs[0] = axesAttrs{axes}, inner.inputs[0]
			n.emit = func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
				return list(f.Transpose(in[0], axes...))
			}
		}
	}
	g.sweep()
	users := g.users()
	// After the operands: a product whose transposition is all that is used.
	for _, n := range g.nodes {
		if n.op != transpose || n.outputs[0].shape.Rank() != 2 || n.attrs.(axesAttrs).axes[0] != 1 {
			continue
		}
		product := n.inputs[0]
		a, ok := product.node.attrs.(dotSpec)
		if !ok || len(users[product]) != 1 || g.isResult(product) || len(a.operands[0].cross) != 1 || len(a.operands[1].cross) != 1 {
			continue
		}
		a.operands[0], a.operands[1] = a.operands[1], a.operands[0]
		n.op, n.attrs, n.emit = product.node.op, a, nil
		n.inputs = []*value{product.node.inputs[1], product.node.inputs[0]}
	}
}

// A dotSpec is the attributes of DotGeneral with all axes spelled out. The
// result has the batch axes, then the cross axes of either operand, in order.
type dotSpec struct{ operands [2]dotOperand }

// A dotOperand names the axes of one operand.
type dotOperand struct{ batch, cross, contracting []int }

// through expresses the axes of a transposed operand as axes of the original.
func (o *dotOperand) through(permutation []int) {
	for _, axes := range []*[]int{&o.batch, &o.cross, &o.contracting} {
		mapped := make([]int, len(*axes))
		for i, axis := range *axes {
			mapped[i] = permutation[axis]
		}
		*axes = mapped
	}
}

// nativeDot reports whether dot.go has the product.
func nativeDot(n *node) bool {
	a, ok := n.attrs.(dotAttrs)
	if !ok {
		return false
	}
	f32 := func(t dtypes.DType) bool { return t == dtypes.Float32 || t == dtypes.InvalidDType }
	return n.inputs[0].shape.DType == dtypes.Float32 && n.inputs[1].shape.DType == dtypes.Float32 &&
		n.outputs[0].shape.DType == dtypes.Float32 && f32(a.config.AccumulatorDType) && f32(a.config.OutputDType) &&
		n.inputs[0].shape.Size() > 0 && n.inputs[1].shape.Size() > 0
}

// withCross spells out the axes of a product.
func (a dotAttrs) withCross(n *node) dotSpec {
	operand := func(rank int, batch, contracting []int) dotOperand {
		o := dotOperand{batch: batch, contracting: contracting}
		for axis := range rank {
			if !slices.Contains(batch, axis) && !slices.Contains(contracting, axis) {
				o.cross = append(o.cross, axis)
			}
		}
		return o
	}
	return dotSpec{[2]dotOperand{
		operand(n.inputs[0].shape.Rank(), a.lhsBatch, a.lhsContracting),
		operand(n.inputs[1].shape.Rank(), a.rhsBatch, a.rhsContracting),
	}}
}
