package cpu

import (
	"fmt"
	"strings"

	"github.com/gomlx/compute"
)

// simplify merges equal computations and removes operations that do nothing.
// Every operation is a function of its inputs, random bits included, whose state
// is an input.
func (g *graph) simplify() {
	ids := map[*value]int{}
	id := func(v *value) int {
		if _, ok := ids[v]; !ok {
			ids[v] = len(ids)
		}
		return ids[v]
	}
	substitutes := map[*value]*value{}
	seen := map[string]*node{}
	for _, n := range g.nodes {
		for i, in := range n.inputs {
			for substitutes[in] != nil {
				in = substitutes[in]
			}
			n.inputs[i] = in
		}
		if same := unchanged(n); same != nil {
			substitutes[n.outputs[0]] = same
			continue
		}
		var key strings.Builder
		fmt.Fprint(&key, n.op)
		for _, in := range n.inputs {
			fmt.Fprint(&key, " ", id(in))
		}
		for _, out := range n.outputs {
			fmt.Fprint(&key, " ", out.shape)
		}
		if c, ok := n.attrs.(constantAttrs); ok {
			const largest = 1 << 12 // bytes: equal larger constants are rare, and dear to compare
			if len(c.data) > largest {
				continue
			}
			key.Write(c.data)
		} else {
			fmt.Fprintf(&key, " %#v", n.attrs)
		}
		if first, ok := seen[key.String()]; ok {
			for i, out := range n.outputs {
				substitutes[out] = first.outputs[i]
			}
			continue
		}
		seen[key.String()] = n
	}
	g.replace(substitutes)
}

// unchanged returns the operand that an operation passes through, or nil.
func unchanged(n *node) *value {
	if len(n.inputs) != 1 || len(n.outputs) != 1 {
		return nil
	}
	in, out := n.inputs[0], n.outputs[0]
	switch compute.OpType(n.op) {
	case compute.OpTypeIdentity:
		return in
	case compute.OpTypeReshape, compute.OpTypeConvertDType, compute.OpTypeConcatenate, compute.OpTypeBroadcastInDim:
		if in.shape.Equal(out.shape) {
			return in
		}
	case compute.OpTypeTranspose:
		for i, axis := range n.attrs.(axesAttrs).axes {
			if i != axis {
				return nil
			}
		}
		return in
	}
	return nil
}
