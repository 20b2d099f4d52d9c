package cpu

import (
	"cmp"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
)

// A plan is the compiled form of a graph: steps, and where values live.
type plan struct {
	steps []plannedStep
	slots int

	paramSlots  []int
	constants   map[int][]byte
	outputSlots []int // per result: the slot computed in its buffer, or -1 for a copy
	copies      []resultCopy
	takes       []int        // per result: the parameter whose memory it takes over if donated, or -1
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

// takeParams finds results that can be computed over a parameter, so that a
// donated one is updated in place: by a program that reads each element before it
// writes the result there, as the last step that reads the parameter.
func (p *plan) takeParams() {
	p.takes = make([]int, len(p.outputSlots))
	resultOf, paramOf := map[int]int{}, map[int]int{} // by slot
	for i, slot := range p.outputSlots {
		p.takes[i] = -1
		if slot >= 0 {
			resultOf[slot] = i
		}
	}
	for i, slot := range p.paramSlots {
		paramOf[slot] = i
	}
	lastRead := map[int]int{}
	for i, s := range p.steps {
		for _, slot := range s.inputSlots {
			lastRead[slot] = i
		}
	}
	for _, c := range p.copies {
		lastRead[c.slot] = len(p.steps)
	}
	for i, s := range p.steps {
		program, ok := s.step.(*programStep)
		if !ok {
			continue
		}
		for at, in := range program.instrs {
			result, ok := resultOf[in.out]
			if in.out < 0 || !ok {
				continue
			}
			for r, l := range program.loads {
				param, ok := paramOf[l.slot]
				if ok && l.kind == loadFull && l.dtype == dtypes.Float32 && lastRead[l.slot] == i && program.readsLast(r, at) {
					p.takes[result] = param
					delete(paramOf, l.slot)
					break
				}
			}
		}
	}
}

// readsLast reports whether instruction at is the last to read load r, and nothing
// else in the program reads the same operand.
func (p *program) readsLast(r, at int) bool {
	for i, l := range p.loads {
		if i != r && l.kind != loadLiteral && l.slot == p.loads[r].slot {
			return false
		}
	}
	for _, in := range p.instrs[at+1:] {
		if in.a == r || in.b == r || in.c == r {
			return false
		}
	}
	for _, s := range p.stores {
		if s.reg == r {
			return false
		}
	}
	for _, s := range p.reductions {
		if s.x == r || s.y == r || slices.Contains(s.inputs, p.loads[r].slot) {
			return false
		}
	}
	return true
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
