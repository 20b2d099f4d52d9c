package cpu

import (
	"slices"

	"github.com/gomlx/compute"
)

// recompute lets programs compute again what another program would have to write
// for them, where the tensors it comes from are in memory anyway and reading them
// costs no more than reading the value. The typical case is the mask of a ReLU:
// the backward pass derives it from the normalised convolution, which it reads
// for other reasons.
func (g *graph) recompute(groupOf map[*node]*group, order map[*node]int, users map[*value][]*node) {
	for _, n := range slices.Clone(g.nodes) {
		own := groupOf[n]
		if own == nil || !inProgram(n) || g.isResult(n.outputs[0]) {
			continue
		}
		v := n.outputs[0]
		readers := map[*group][]*node{}
		possible := true
		for _, u := range users[v] {
			switch h := groupOf[u]; {
			case h == own:
			case h == nil || h.size != own.size || !fullInput(u, v) || slices.Contains(smallOperands(u), v):
				possible = false
			default:
				readers[h] = append(readers[h], u)
			}
		}
		if !possible || len(readers) == 0 {
			continue
		}
		nodes, leaves := closure(n, own, groupOf)
		for h := range readers {
			possible = possible && len(nodes) > 0 && len(h.nodes)+len(nodes) <= maxFused && g.free(leaves, own, h, groupOf, order, users)
		}
		if !possible {
			continue
		}
		// In the order of the graph, so that a compilation can be repeated.
		var heads []*group
		for _, u := range users[v] {
			if h := groupOf[u]; h != own && !slices.Contains(heads, h) {
				heads = append(heads, h)
			}
		}
		users[v] = slices.DeleteFunc(users[v], func(u *node) bool { return groupOf[u] != own })
		for _, h := range heads {
			first := readers[h][0]
			for _, u := range readers[h] {
				if order[u] < order[first] {
					first = u
				}
			}
			copies := map[*value]*value{}
			for i, m := range nodes {
				c := newNode(m.op, m.attrs, slices.Clone(m.inputs), m.outputs[0].shape)
				c.shared = m.shared
				for j, in := range c.inputs {
					if copies[in] != nil {
						c.inputs[j] = copies[in]
					}
					users[c.inputs[j]] = append(users[c.inputs[j]], c)
				}
				copies[m.outputs[0]] = c.outputs[0]
				groupOf[c] = h
				h.nodes = append(h.nodes, c)
				order[c] = order[first] - len(nodes) + i
				g.nodes = append(g.nodes, c)
			}
			for _, u := range readers[h] {
				for i, in := range u.inputs {
					if in == v {
						u.inputs[i] = copies[v]
						users[copies[v]] = append(users[copies[v]], u)
					}
				}
			}
		}
	}
}

// largestClosure bounds what is computed again. Orders of nodes leave room for so
// many between neighbours.
const largestClosure = 8

// closure returns the cheap nodes of a group that a node is computed by, inputs
// first, and the full tensors they start from; none if there are too many.
func closure(n *node, own *group, groupOf map[*node]*group) (nodes []*node, leaves []*value) {
	var visit func(m *node)
	visit = func(m *node) {
		if slices.Contains(nodes, m) {
			return
		}
		for _, in := range m.inputs {
			switch {
			case groupOf[in.node] == own && inProgram(in.node) && cheap(in.node):
				visit(in.node)
			case fullInput(m, in) && !slices.Contains(leaves, in):
				leaves = append(leaves, in)
			}
		}
		nodes = append(nodes, m)
	}
	if !cheap(n) {
		return nil, nil
	}
	visit(n)
	if len(nodes) > largestClosure || len(leaves) > 2 {
		return nil, nil
	}
	return nodes, leaves
}

// free reports whether a group can start from the leaves at no cost: each is in
// memory when the group runs, and at most one is read only for this.
func (g *graph) free(leaves []*value, own, h *group, groupOf map[*node]*group, order map[*node]int, users map[*value][]*node) bool {
	start := order[h.nodes[0]]
	for _, m := range h.nodes {
		start = min(start, order[m])
	}
	extra := 0
	for _, l := range leaves {
		reads, alive := false, l.node.op == opcode(compute.OpTypeParameter)
		for _, u := range users[l] {
			reads = reads || groupOf[u] == h
			alive = alive || groupOf[u] != own && order[u] >= start
		}
		if !reads {
			extra++
		}
		if !reads && !alive {
			return false
		}
	}
	return extra <= 1
}
