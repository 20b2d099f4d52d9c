package cpu

import (
	"slices"

	"github.com/gomlx/compute"
	"github.com/pkg/errors"
)

// A graph is the compiler's own copy of a function: nodes in an order in which
// inputs come first. Stages change it in place.
type graph struct {
	params  []*value
	nodes   []*node // without parameters
	results []*value
}

// Compile turns the main function into an executable.
func (b *Builder) Compile() (exec compute.Executable, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.Errorf("cpu: compiling %q: %v", b.name, r)
		}
	}()
	switch {
	case b.backend.finalized.Load():
		return nil, errFinalized
	case b.compiled:
		return nil, errors.Errorf("cpu: %q was compiled before", b.name)
	case !b.main.returned:
		return nil, errors.Errorf("cpu: the main function of %q has not returned", b.name)
	}
	b.compiled = true
	g := copyGraph(b.main)
	for _, stage := range stages {
		g.sweep()
		stage(g)
	}
	e, err := b.backend.lower(g, b.name)
	if err != nil {
		return nil, err
	}
	for _, p := range b.main.params {
		e.paramNames = append(e.paramNames, p.attrs.(paramAttrs).name)
	}
	return e, nil
}

// stages of the compiler, in order. Before each, dead nodes are swept.
var stages = []func(*graph){
	(*graph).simplify,
	(*graph).splitBatchNorm,
	(*graph).foldLayouts,
	(*graph).simplify, // what the two stages above made alike
	(*graph).fuseRandom,
	(*graph).fuseFilterNoise,
	(*graph).fuse,
	(*graph).schedule,
}

// copyGraph copies the nodes of a function.
func copyGraph(f *Function) *graph {
	g := &graph{}
	copies := map[*value]*value{}
	for _, n := range f.nodes {
		c := &node{op: n.op, attrs: n.attrs, emit: n.emit}
		for _, in := range n.inputs {
			c.inputs = append(c.inputs, copies[in])
		}
		for i, out := range n.outputs {
			c.outputs = append(c.outputs, &value{node: c, index: i, shape: out.shape})
			copies[out] = c.outputs[i]
		}
		if n.op == opcode(compute.OpTypeParameter) {
			g.params = append(g.params, c.outputs[0])
		} else {
			g.nodes = append(g.nodes, c)
		}
	}
	for _, r := range f.results {
		g.results = append(g.results, copies[r])
	}
	return g
}

// sweep removes nodes that no result needs, and restores the order.
func (g *graph) sweep() {
	var order []*node
	const visiting, visited = 1, 2
	state := map[*node]int{}
	for _, p := range g.params {
		state[p.node] = visited
	}
	var visit func(n *node)
	visit = func(n *node) {
		switch state[n] {
		case visited:
			return
		case visiting:
			panic("the graph has a cycle through " + n.describe())
		}
		state[n] = visiting
		for _, in := range n.inputs {
			visit(in.node)
		}
		state[n] = visited
		order = append(order, n)
	}
	// In the order of recording, so that the backward pass does not run ahead and
	// keep tensors alive.
	needed := g.needed()
	for _, n := range g.nodes {
		if needed[n] {
			visit(n)
		}
	}
	for _, r := range g.results {
		visit(r.node)
	}
	g.nodes = order
}

func (g *graph) needed() map[*node]bool {
	needed := map[*node]bool{}
	var stack []*node
	for _, r := range g.results {
		stack = append(stack, r.node)
	}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if needed[n] {
			continue
		}
		needed[n] = true
		for _, in := range n.inputs {
			stack = append(stack, in.node)
		}
	}
	return needed
}

// users lists the nodes that take each value, once per operand.
func (g *graph) users() map[*value][]*node {
	users := map[*value][]*node{}
	for _, n := range g.nodes {
		for _, in := range n.inputs {
			users[in] = append(users[in], n)
		}
	}
	return users
}

// isResult reports whether the graph returns the value.
func (g *graph) isResult(v *value) bool { return slices.Contains(g.results, v) }

// replace makes every user of old take new instead.
func (g *graph) replace(substitutes map[*value]*value) {
	find := func(v *value) *value {
		for substitutes[v] != nil {
			v = substitutes[v]
		}
		return v
	}
	for _, n := range g.nodes {
		for i, in := range n.inputs {
			n.inputs[i] = find(in)
		}
	}
	for i, r := range g.results {
		g.results[i] = find(r)
	}
}

// root follows reshapes back to the value whose memory a view shows.
func root(v *value) *value {
	for v.node.op == opcode(compute.OpTypeReshape) {
		v = v.node.inputs[0]
	}
	return v
}
