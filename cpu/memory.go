package cpu

import (
	"cmp"
	"slices"

	"github.com/gomlx/compute"
)

// A plan is the compiled form of a graph: steps, and where values live.
type plan struct {
	steps []plannedStep
	slots int

	paramSlots  []int
	constants   map[int][]byte
	outputSlots []int // per result: the slot computed in its buffer, or -1 for a copy
	copies      []resultCopy
	local       map[int]bool // slots that live between the steps of an image loop
	temporaries []temporary
	transient   []int // slots that must not keep memory alive between runs

	arenaSize   int // bytes of all temporaries
	scratchSize int // bytes per worker
}

// A plannedStep is a step with what a dump tells about it.
type plannedStep struct {
	step     step
	title    string // kind of step
	detail   string // shapes and attributes
	flops    int    // of matrix products and convolutions
	bytes    int    // of operands and results
	fallback bool
	heavy    bool // does much arithmetic on each image
	inputs   []*value
	outputs  []*value

	inputSlots, outputSlots []int
}

type resultCopy struct{ output, slot int }

// A temporary lives in the arena from the step that makes it to its last use.
type temporary struct {
	slot, offset, size int
	first, last        int // steps
}

// alignment of temporaries: a cache line.
const alignment = 64

func align(n int) int { return (n + alignment - 1) &^ (alignment - 1) }

// placeValues assigns memory to every value of the graph.
func (p *plan) placeValues(g *graph, slotOf map[*value]int) {
	p.constants = map[int][]byte{}
	for _, v := range g.params {
		p.paramSlots = append(p.paramSlots, slotOf[v])
		p.transient = append(p.transient, slotOf[v])
	}
	// owner is the value whose memory a value uses.
	fixed := map[*value]bool{} // not a temporary
	for _, v := range g.params {
		fixed[v] = true
	}
	for _, n := range g.nodes {
		if n.op == opcode(compute.OpTypeConstant) {
			fixed[n.outputs[0]] = true
			p.constants[slotOf[n.outputs[0]]] = n.attrs.(constantAttrs).data
		}
	}
	for i, r := range g.results {
		owner := root(r)
		if fixed[owner] { // a parameter, a constant, or returned before
			p.outputSlots = append(p.outputSlots, -1)
			p.copies = append(p.copies, resultCopy{i, slotOf[owner]})
			continue
		}
		fixed[owner] = true
		p.outputSlots = append(p.outputSlots, slotOf[owner])
		p.transient = append(p.transient, slotOf[owner])
	}

	lives := map[*value]*temporary{}
	var order []*temporary
	for i, s := range p.steps {
		for _, out := range s.outputs {
			if fixed[out] || p.local[slotOf[out]] {
				continue
			}
			t := &temporary{slot: slotOf[out], size: byteSize(out.shape), first: i, last: i}
			lives[out] = t
			order = append(order, t)
			p.transient = append(p.transient, t.slot)
		}
		for _, in := range s.inputs {
			if t := lives[root(in)]; t != nil {
				t.last = i
			}
		}
	}
	p.arenaSize = placeTemporaries(order)
	for _, t := range order {
		p.temporaries = append(p.temporaries, *t)
	}
}

// placeTemporaries gives offsets to temporaries such that those alive at the
// same step do not overlap, the largest first, each at the lowest free place.
// It returns the size of the arena.
func placeTemporaries(all []*temporary) int {
	bySize := slices.Clone(all)
	slices.SortStableFunc(bySize, func(a, b *temporary) int { return cmp.Compare(b.size, a.size) })
	var placed []*temporary // by offset
	total := 0
	for _, t := range bySize {
		at := 0
		for _, other := range placed {
			if other.last < t.first || t.last < other.first {
				continue
			}
			if at+t.size <= other.offset {
				break
			}
			at = max(at, align(other.offset+other.size))
		}
		t.offset = at
		total = max(total, align(at+t.size))
		i, _ := slices.BinarySearchFunc(placed, t, func(a, b *temporary) int { return cmp.Compare(a.offset, b.offset) })
		placed = slices.Insert(placed, i, t)
	}
	return total
}
