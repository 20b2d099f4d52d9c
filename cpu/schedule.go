package cpu

import "github.com/gomlx/compute"

// schedule moves operations that give less than they take, such as gradients of
// kernels, to where their operands have just been computed: the operands are
// still in cache, and their memory is free the sooner.
func (g *graph) schedule() {
	users := g.users()
	waiting := map[*node]int{} // inputs not yet computed, for shrinking nodes
	for _, n := range g.nodes {
		if g.hurries(n) {
			for _, in := range n.inputs {
				if in.node.op != opcode(compute.OpTypeParameter) {
					waiting[n]++
				}
			}
		}
	}
	var order []*node
	placed := map[*node]bool{}
	var place func(n *node)
	place = func(n *node) {
		if placed[n] {
			return
		}
		placed[n] = true
		order = append(order, n)
		var ready []*node
		for _, out := range n.outputs {
			for _, u := range users[out] {
				if waiting[u]--; waiting[u] == 0 && g.hurries(u) {
					ready = append(ready, u)
				}
			}
		}
		for _, u := range ready {
			place(u)
		}
	}
	for _, n := range g.nodes {
		place(n)
	}
	g.nodes = order
}

// hurries reports whether a node's place is right after its operands.
func (g *graph) hurries(n *node) bool { return shrinks(n) || g.updates(n) }

// updates reports whether a node makes results only, of parameters and of a matrix
// product: the update of weights. Gradients by convolution are left to image loops,
// which an update between them would cut.
func (g *graph) updates(n *node) bool {
	if n.op != opProgram {
		return false
	}
	for _, out := range n.outputs {
		if !g.isResult(out) {
			return false
		}
	}
	products := 0
	for _, in := range n.inputs {
		switch root(in).node.op {
		case opcode(compute.OpTypeParameter), opcode(compute.OpTypeConstant):
		case opcode(compute.OpTypeDotGeneral):
			products++
		default:
			return false
		}
	}
	return products == 1
}

// shrinks reports whether a node's results are much smaller than what it reads.
func shrinks(n *node) bool {
	if n.op == opcode(compute.OpTypeReshape) {
		return true // a view, which costs nothing
	}
	const much = 4
	var in, out int
	for _, v := range n.inputs {
		in += byteSize(v.shape)
	}
	for _, v := range n.outputs {
		out += byteSize(v.shape)
	}
	return in > 0 && much*out < in
}
