package cpu

import (
	"fmt"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
)

// An opcode is an operation: GoMLX's, or one of those the compiler makes.
type opcode int

const (
	// opBatchNormStats(x, scale, offset) -> mean, variance, a, b with
	// normalised = x*a + b per channel.
	opBatchNormStats = opcode(compute.OpTypeLast) + 1 + iota
	// opBatchNormGradStats(x, scale, mean, variance, dy) -> dscale, doffset, g, h, k
	// with dx = dy*g + (x*h + k) per channel.
	opBatchNormGradStats
	// opBatchNormCoefficients(scale, offset, mean, variance) -> a, b with
	// normalised = x*a + b per channel.
	opBatchNormCoefficients
	// opRandomFloat(state) -> the 32-bit words that RNGBitGenerator draws, as float32.
	opRandomFloat
	// opRandomNext(state) -> the state after drawing randomAttrs.words words.
	opRandomNext
	// opFilterNoise(w, state, s) -> w with noise measured against norms of columns,
	// see filternoise.go.
	opFilterNoise
	// opProgram is a fused group of operations; its attributes are programAttrs.
	opProgram
)

func (op opcode) String() string {
	switch op {
	case opBatchNormStats:
		return "BatchNormStats"
	case opBatchNormGradStats:
		return "BatchNormGradStats"
	case opBatchNormCoefficients:
		return "BatchNormCoefficients"
	case opRandomFloat:
		return "RandomFloat"
	case opRandomNext:
		return "RandomNext"
	case opFilterNoise:
		return "FilterNoise"
	case opProgram:
		return "Fused"
	}
	return compute.OpType(op).String()
}

// A node is one operation of a graph, with at least one output.
type node struct {
	op      opcode
	inputs  []*value
	outputs []*value
	attrs   any // what the operation needs besides inputs, see attrs.go
	fn      *Function

	// emit adds the same operation to a function of another backend. It is nil
	// for parameters, constants and nodes made by the compiler.
	emit emitter

	// shared marks a value that the graph uses more than once. All uses must see
	// the same rounding, so it is not contracted into one of them.
	shared bool
}

// A value is one output of a node: a tensor in the graph.
type value struct {
	node  *node
	index int // among the outputs of node
	shape shapes.Shape
}

type emitter func(f compute.Function, inputs []compute.Value) ([]compute.Value, error)

// newNode makes a node with one output per shape. It is part of no function yet.
func newNode(op opcode, attrs any, inputs []*value, outputs ...shapes.Shape) *node {
	n := &node{op: op, attrs: attrs, inputs: inputs}
	for i, s := range outputs {
		n.outputs = append(n.outputs, &value{node: n, index: i, shape: s})
	}
	return n
}

// describe writes the operation with its shapes, for errors and dumps.
func (n *node) describe() string {
	var s strings.Builder
	s.WriteString(n.op.String())
	s.WriteByte('(')
	for i, v := range n.inputs {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(v.shape.String())
	}
	s.WriteByte(')')
	for i, v := range n.outputs {
		if i == 0 {
			s.WriteString(" -> ")
		} else {
			s.WriteString(", ")
		}
		s.WriteString(v.shape.String())
	}
	switch a := n.attrs.(type) {
	case nil:
	case fmt.Stringer:
		s.WriteByte(' ')
		s.WriteString(a.String())
	case constantAttrs:
	default:
		fmt.Fprintf(&s, " %+v", a)
	}
	return s.String()
}

func inputShapes(inputs []*value) []shapes.Shape {
	s := make([]shapes.Shape, len(inputs))
	for i, v := range inputs {
		s[i] = v.shape
	}
	return s
}
