package cpu

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
	"github.com/pkg/errors"
)

// A compiler lowers the nodes of a graph to steps.
type compiler struct {
	backend *Backend
	slots   map[*value]int
	scratch int // bytes per worker
	exec    *Executable
}

// slot is the index of a value's memory in a frame. A reshaped value shares that
// of the original.
func (c *compiler) slot(v *value) int {
	v = root(v)
	i, ok := c.slots[v]
	if !ok {
		i = len(c.slots)
		c.slots[v] = i
	}
	return i
}

func (c *compiler) slotsOf(values []*value) []int {
	s := make([]int, len(values))
	for i, v := range values {
		s[i] = c.slot(v)
	}
	return s
}

// needScratch asks for float32 numbers of private memory per worker.
func (c *compiler) needScratch(n int) { c.scratch = max(c.scratch, align(4*n)) }

// temporary adds a hidden result to a node: memory for the time of its step.
func (c *compiler) temporary(n *node, shape shapes.Shape) *value {
	v := &value{node: n, index: len(n.outputs), shape: shape}
	n.outputs = append(n.outputs, v)
	return v
}

// A lowering makes a step of a node, or returns nil where it has no kernel for
// the node's types and attributes. It may report floating-point operations.
type lowering func(c *compiler, n *node) (s step, flops int)

// lowerings are the operations with kernels.
var lowerings map[opcode]lowering

func init() { // here, as lowerings refer to the compiler that refers to them
	lowerings = map[opcode]lowering{
		opProgram:                                 lowerProgram,
		opRandomNext:                              lowerRandomNext,
		opFilterNoise:                             lowerFilterNoise,
		opBatchNormCoefficients:                   lowerCoefficients,
		opcode(compute.OpTypeDotGeneral):          lowerDot,
		opcode(compute.OpTypeConvGeneral):         lowerConv,
		opcode(compute.OpTypeReduceWindow):        lowerReduceWindow,
		opcode(compute.OpTypeSelectAndScatterMax): lowerSelectAndScatter,
		opcode(compute.OpTypeArgMinMax):           lowerArgMinMax,
		opcode(compute.OpTypeRNGBitGenerator):     lowerRandom,
		opcode(compute.OpTypeTranspose):           lowerTranspose,
		opcode(compute.OpTypeReverse):             lowerReverse,
		opcode(compute.OpTypeSlice):               lowerSlice,
		opcode(compute.OpTypeBroadcastInDim):      lowerBroadcast,
		opcode(compute.OpTypeConcatenate):         lowerConcatenate,
		opcode(compute.OpTypePad):                 lowerPad,
		opcode(compute.OpTypeIota):                lowerIota,
		opcode(compute.OpTypeBitcast):             lowerBitcast,
		opcode(compute.OpTypeGather):              lowerGather,
		opcode(compute.OpTypeDynamicSlice):        lowerDynamicSlice,
		opcode(compute.OpTypeDynamicUpdateSlice):  lowerDynamicUpdateSlice,
	}
	for _, op := range []compute.OpType{
		compute.OpTypeReduceSum, compute.OpTypeReduceProduct, compute.OpTypeReduceMax, compute.OpTypeReduceMin,
		compute.OpTypeReduceLogicalAnd, compute.OpTypeReduceLogicalOr, compute.OpTypeReduceLogicalXor,
	} {
		lowerings[opcode(op)] = lowerReduce
	}
	for _, op := range []compute.OpType{compute.OpTypeScatterSum, compute.OpTypeScatterMax, compute.OpTypeScatterMin} {
		lowerings[opcode(op)] = lowerScatter
	}
	for op := range vecOps { // what no program has taken: other types
		if lowerings[op] == nil {
			lowerings[op] = lowerMap
		}
	}
	for _, op := range []compute.OpType{
		compute.OpTypeBitwiseAnd, compute.OpTypeBitwiseOr, compute.OpTypeBitwiseXor, compute.OpTypeBitwiseNot,
		compute.OpTypeShiftLeft, compute.OpTypeShiftRightArithmetic, compute.OpTypeShiftRightLogical,
	} {
		lowerings[opcode(op)] = lowerMap
	}
}

// lower makes the plan of a graph.
func (b *Backend) lower(g *graph, name string) (*Executable, error) {
	e := &Executable{backend: b, name: name}
	c := &compiler{backend: b, slots: map[*value]int{}, exec: e}
	for _, v := range g.params {
		c.slot(v)
		e.paramShapes = append(e.paramShapes, v.shape)
	}
	for _, r := range g.results {
		e.outputShapes = append(e.outputShapes, r.shape)
	}
	for _, n := range g.nodes {
		switch compute.OpType(n.op) {
		case compute.OpTypeConstant:
			c.slot(n.outputs[0])
			continue
		case compute.OpTypeReshape:
			continue
		}
		planned := plannedStep{title: n.op.String(), detail: n.describe(), inputs: n.inputs}
		for _, v := range n.inputs {
			planned.bytes += byteSize(v.shape)
		}
		for _, v := range n.outputs {
			planned.bytes += byteSize(v.shape)
			c.slot(v)
		}
		if f := lowerings[n.op]; f != nil {
			planned.step, planned.flops = f(c, n)
		}
		if planned.step == nil {
			run, finalize, err := b.fallback(n)
			if err != nil {
				for _, f := range e.finalizers {
					f()
				}
				return nil, err
			}
			e.finalizers = append(e.finalizers, finalize)
			planned.step = &fallbackStep{c.slotsOf(n.inputs), c.slotsOf(n.outputs), run}
			planned.fallback = true
		}
		planned.outputs = n.outputs
		planned.heavy = planned.flops > 0
		for _, in := range n.inputs {
			planned.inputSlots = append(planned.inputSlots, c.slot(in))
		}
		planned.outputSlots = c.slotsOf(n.outputs)
		e.plan.steps = append(e.plan.steps, planned)
	}
	results := map[int]bool{}
	for _, r := range g.results {
		results[c.slot(r)] = true
	}
	e.plan.scratchSize = c.scratch
	e.plan.loopImages(results, c.slot)
	e.plan.placeValues(g, c.slots)
	e.plan.takeParams()
	if memory := e.plan.arenaSize + b.opts.workers*e.plan.scratchSize; memory > largestMemory {
		e.Finalize()
		return nil, errors.Errorf("cpu: %q needs %d GiB for what lies between its parameters and results; make its tensors smaller, the batch first", name, memory>>30)
	}
	e.plan.slots = len(c.slots)
	if b.opts.dump {
		e.dumpPlan()
		b.dumped.Store(e, nil)
	}
	for i := range e.plan.steps { // values refer to the whole graph
		e.plan.steps[i].inputs, e.plan.steps[i].outputs = nil, nil
	}
	return e, nil
}

// A fallbackStep runs an operation on the reference backend.
type fallbackStep struct {
	inputs, outputs []int
	call            func(inputs, outputs [][]byte) error
}

func (s *fallbackStep) run(x *frame) error {
	pick := func(slots []int) [][]byte {
		b := make([][]byte, len(slots))
		for i, slot := range slots {
			b[i] = x.memory[slot]
		}
		return b
	}
	return s.call(pick(s.inputs), pick(s.outputs))
}
