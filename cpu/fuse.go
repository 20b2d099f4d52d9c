package cpu

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// vecOps are the operations that run inside programs.
var vecOps = map[opcode]struct {
	op      kernels.Op
	swapped bool // the operands trade places
}{
	opcode(compute.OpTypeAdd):            {op: kernels.Add},
	opcode(compute.OpTypeSub):            {op: kernels.Sub},
	opcode(compute.OpTypeMul):            {op: kernels.Mul},
	opcode(compute.OpTypeDiv):            {op: kernels.Div},
	opcode(compute.OpTypeMax):            {op: kernels.Max},
	opcode(compute.OpTypeMin):            {op: kernels.Min},
	opcode(compute.OpTypePow):            {op: kernels.Pow},
	opcode(compute.OpTypeRem):            {op: kernels.Rem},
	opcode(compute.OpTypeEqual):          {op: kernels.Equal},
	opcode(compute.OpTypeNotEqual):       {op: kernels.NotEqual},
	opcode(compute.OpTypeLessThan):       {op: kernels.Less},
	opcode(compute.OpTypeLessOrEqual):    {op: kernels.LessEqual},
	opcode(compute.OpTypeGreaterThan):    {op: kernels.Less, swapped: true},
	opcode(compute.OpTypeGreaterOrEqual): {op: kernels.LessEqual, swapped: true},
	opcode(compute.OpTypeLogicalAnd):     {op: kernels.Min}, // truth is 1
	opcode(compute.OpTypeLogicalOr):      {op: kernels.Max},
	opcode(compute.OpTypeLogicalXor):     {op: kernels.NotEqual},
	opcode(compute.OpTypeWhere):          {op: kernels.Choose},
	opcode(compute.OpTypeNeg):            {op: kernels.Neg},
	opcode(compute.OpTypeAbs):            {op: kernels.Abs},
	opcode(compute.OpTypeSqrt):           {op: kernels.Sqrt},
	opcode(compute.OpTypeRsqrt):          {op: kernels.Rsqrt},
	opcode(compute.OpTypeFloor):          {op: kernels.Floor},
	opcode(compute.OpTypeCeil):           {op: kernels.Ceil},
	opcode(compute.OpTypeRound):          {op: kernels.Round},
	opcode(compute.OpTypeSign):           {op: kernels.Sign},
	opcode(compute.OpTypeExp):            {op: kernels.Exp},
	opcode(compute.OpTypeLog):            {op: kernels.Log},
	opcode(compute.OpTypeExpm1):          {op: kernels.Expm1},
	opcode(compute.OpTypeLog1p):          {op: kernels.Log1p},
	opcode(compute.OpTypeTanh):           {op: kernels.Tanh},
	opcode(compute.OpTypeLogistic):       {op: kernels.Logistic},
	opcode(compute.OpTypeErf):            {op: kernels.Erf},
	opcode(compute.OpTypeSin):            {op: kernels.Sin},
	opcode(compute.OpTypeCos):            {op: kernels.Cos},
	opcode(compute.OpTypeIsFinite):       {op: kernels.IsFinite},
	opcode(compute.OpTypeIsNaN):          {op: kernels.IsNaN},
	opcode(compute.OpTypeBroadcastInDim): {op: kernels.Copy},
	opcode(compute.OpTypeConvertDType):   {op: kernels.Copy},
	opcode(compute.OpTypeLogicalNot):     {op: kernels.Equal}, // to the literal 0
	opRandomFloat:                        {op: kernels.Copy},  // of a load that draws
}

// maxFused bounds the nodes of a group, so that its blocks stay in cache.
const maxFused = 32

// inProgram reports whether a node can be part of a program.
func inProgram(n *node) bool {
	if _, ok := vecOps[n.op]; !ok || len(n.outputs) != 1 || n.outputs[0].shape.Size() == 0 {
		return false
	}
	if n.op == opRandomFloat {
		return true
	}
	native := func(t dtypes.DType) bool { return t == dtypes.Float32 || t == dtypes.Bool }
	if !native(n.outputs[0].shape.DType) {
		return false
	}
	for _, in := range n.inputs {
		t := in.shape.DType
		converts := n.op == opcode(compute.OpTypeConvertDType) && n.outputs[0].shape.DType == dtypes.Float32 &&
			(t == dtypes.Int32 || t == dtypes.Uint32)
		if !native(t) && !converts {
			return false
		}
	}
	return true
}

// reducible reports whether a node is a sum that a program can carry.
func reducible(n *node) bool {
	if len(n.inputs) == 0 || n.inputs[0].shape.DType != dtypes.Float32 || n.inputs[0].shape.Size() == 0 {
		return false
	}
	return leadingReduction(n) > 0
}

// iterations is the number of elements that a node of a program runs over.
func iterations(n *node) int {
	if _, ok := vecOps[n.op]; ok {
		return n.outputs[0].shape.Size()
	}
	return n.inputs[0].shape.Size()
}

// fullInput reports whether an operand has one element per iteration.
func fullInput(n *node, v *value) bool {
	return v.shape.Size() == iterations(n) && (v.shape.DType == dtypes.Float32 || v.shape.DType == dtypes.Bool)
}

// cheap operations are rather repeated than stored and read again.
func cheap(n *node) bool {
	if n.op == opRandomFloat {
		return false
	}
	switch vecOps[n.op].op {
	case kernels.Div, kernels.Sqrt, kernels.Rsqrt, kernels.Exp, kernels.Log, kernels.Expm1, kernels.Log1p, kernels.Tanh,
		kernels.Logistic, kernels.Erf, kernels.Sin, kernels.Cos, kernels.Pow, kernels.Rem:
		return false
	}
	return true
}

// A group is a set of nodes that will be one program.
type group struct {
	nodes []*node
	size  int
}

// fuse gathers elementwise operations, and the sums over rows they feed, into
// programs.
func (g *graph) fuse() {
	fusable := map[*node]bool{}
	for _, n := range g.nodes {
		fusable[n] = inProgram(n) || reducible(n)
		if fusable[n] {
			if n.op == opcode(compute.OpTypeReduceSum) {
				n.attrs = rowSumAttrs{leadingReduction(n)}
			}
			for i, in := range n.inputs { // flat, so reshapes do not matter
				if fullInput(n, in) {
					n.inputs[i] = root(in)
				}
			}
		}
	}
	g.sweep()
	for v, list := range g.users() {
		v.node.shared = v.node.shared || len(list) > 1 || g.isResult(v)
	}
	g.repeatCheap(fusable)
	g.sweep()

	groupOf := map[*node]*group{}
	order := map[*node]int{}
	for i, n := range g.nodes {
		order[n] = i * (largestClosure + 1)
		if fusable[n] {
			groupOf[n] = &group{nodes: []*node{n}, size: iterations(n)}
		}
	}
	users := g.users()
	for _, n := range g.nodes {
		if !fusable[n] {
			continue
		}
		for _, in := range n.inputs {
			producer := groupOf[in.node]
			if producer == nil || producer == groupOf[n] || !inProgram(in.node) || producer.size != iterations(n) || !fullInput(n, in) {
				continue
			}
			g.merge(producer, groupOf[n], groupOf, users)
		}
	}
	g.recompute(groupOf, order, users)
	g.buildPrograms(groupOf, order)
}

// repeatCheap gives each user its own copy of cheap values that are computed
// from at most one full tensor: reading that tensor costs what reading the value
// would, and the value need not be written.
func (g *graph) repeatCheap(fusable map[*node]bool) {
	users := g.users()
	var result []*node
	for _, n := range slices.Backward(g.nodes) {
		result = append(result, n)
		if !fusable[n] || !inProgram(n) || !cheap(n) || g.isResult(n.outputs[0]) {
			continue
		}
		out := n.outputs[0]
		full := 0
		for _, in := range n.inputs {
			if fullInput(n, in) && n.op != opcode(compute.OpTypeBroadcastInDim) || in.shape.DType == dtypes.Int32 || in.shape.DType == dtypes.Uint32 {
				full++
			}
		}
		list := users[out]
		repeat := full <= 1 && len(list) > 1
		for _, u := range list {
			repeat = repeat && (fusable[u] && iterations(u) == iterations(n) || readsImages(u, out))
		}
		if !repeat {
			continue
		}
		users[out] = nil
		seen := map[*node]*node{}
		for _, u := range list {
			c := seen[u]
			if c == nil {
				if len(seen) == 0 {
					c = n
				} else {
					c = newNode(n.op, n.attrs, slices.Clone(n.inputs), out.shape)
					c.shared = n.shared
					fusable[c] = true
					// Just before its user; the list runs backwards.
					result = slices.Insert(result, slices.Index(result, u)+1, c)
					for _, in := range c.inputs {
						users[in] = append(users[in], c)
					}
				}
				seen[u] = c
			}
			for i, in := range u.inputs {
				if in == out {
					u.inputs[i] = c.outputs[0]
				}
			}
			users[c.outputs[0]] = append(users[c.outputs[0]], u)
		}
	}
	slices.Reverse(result)
	g.nodes = result
}

// readsImages reports whether a convolution takes a value image by image, so that
// a copy computed for it alone can stay in cache.
func readsImages(n *node, v *value) bool {
	geometry, ok := convGeometryOf(n)
	if !ok || geometry.n < 2 {
		return false
	}
	return n.inputs[0] == v && (geometry.gradient || n.inputs[1] != v) || geometry.gradient && n.inputs[1] == v
}

// merge makes one group of two if no path leads from one through other nodes to
// the other.
func (g *graph) merge(a, b *group, groupOf map[*node]*group, users map[*value][]*node) {
	if len(a.nodes)+len(b.nodes) > maxFused {
		return
	}
	// Sums are known only when the whole program has run, and all are over rows of
	// one width. Statistics read their small operands when that is so, from memory.
	inside := func(n *node) bool { gr := groupOf[n]; return gr != nil && (gr == a || gr == b) }
	width := 0
	for _, n := range slices.Concat(a.nodes, b.nodes) {
		if inProgram(n) {
			continue
		}
		cols := leadingReduction(n)
		if width != 0 && cols != width || lcm(kernels.Lanes, cols) > largestUnit {
			return
		}
		width = cols
		if slices.ContainsFunc(smallOperands(n), func(v *value) bool { return inside(root(v).node) }) {
			return
		}
		for _, out := range n.outputs {
			if slices.ContainsFunc(users[out], inside) {
				return
			}
		}
	}
	// A path from the union through an outside node back into it.
	visited := map[*node]bool{}
	var stack []*node
	push := func(n *node) {
		members := []*node{n}
		if gr := groupOf[n]; gr != nil {
			members = gr.nodes // a group runs as a whole
		}
		for _, m := range members {
			if !visited[m] {
				visited[m] = true
				stack = append(stack, m)
			}
		}
	}
	for _, n := range slices.Concat(a.nodes, b.nodes) {
		for _, out := range n.outputs {
			for _, u := range users[out] {
				if !inside(u) {
					push(u)
				}
			}
		}
	}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, out := range n.outputs {
			for _, u := range users[out] {
				if inside(u) {
					return
				}
				push(u)
			}
		}
	}
	a.nodes = append(a.nodes, b.nodes...)
	for _, n := range b.nodes {
		groupOf[n] = a
	}
}

// smallOperands lists what statistics read besides the rows that they sum up.
func smallOperands(n *node) []*value {
	switch n.op {
	case opBatchNormStats:
		return n.inputs[1:] // scale, offset
	case opBatchNormGradStats:
		return n.inputs[1:4] // scale, mean, variance
	}
	return nil
}

// buildPrograms replaces the nodes of each group by one.
func (g *graph) buildPrograms(groupOf map[*node]*group, order map[*node]int) {
	users := g.users()
	substitutes := map[*value]*value{}
	var nodes []*node
	for _, n := range g.nodes {
		gr := groupOf[n]
		if gr == nil {
			nodes = append(nodes, n)
			continue
		}
		slices.SortFunc(gr.nodes, func(a, b *node) int { return order[a] - order[b] })
		if n != gr.nodes[len(gr.nodes)-1] {
			continue // built in the place of the last
		}
		fused, outputs := g.buildProgram(gr, groupOf, users)
		for i, v := range outputs {
			substitutes[v] = fused.outputs[i]
		}
		nodes = append(nodes, fused)
	}
	g.nodes = nodes
	g.replace(substitutes)
	g.nodes = g.topological()
}

// topological orders nodes by their inputs, else as they are.
func (g *graph) topological() []*node {
	var order []*node
	done := map[*node]bool{}
	for _, p := range g.params {
		done[p.node] = true
	}
	var visit func(n *node)
	visit = func(n *node) {
		if done[n] {
			return
		}
		done[n] = true
		for _, in := range n.inputs {
			visit(in.node)
		}
		order = append(order, n)
	}
	for _, n := range g.nodes {
		visit(n)
	}
	return order
}

// String lists the operations.
func (a programAttrs) String() string { return fmt.Sprint(a.ops) }

// programAttrs is what a fused node carries: a program whose slots are indices
// of the node's operands and results until it is lowered.
type programAttrs struct {
	program *program
	ops     []opcode // for dumps
}

// buildProgram makes the node of a group. It returns the values of the graph
// that the outputs of the node stand for.
func (g *graph) buildProgram(gr *group, groupOf map[*node]*group, users map[*value][]*node) (*node, []*value) {
	b := &programBuilder{
		program: &program{size: gr.size},
		regOf:   map[*value]int{}, loadOf: map[string]int{}, inputOf: map[*value]int{}, instrOf: map[instr]int{},
		uses: map[*value]int{},
	}
	inside := func(n *node) bool { return groupOf[n] == gr }
	var kept []*value
	for _, n := range gr.nodes {
		for _, in := range n.inputs {
			if inside(in.node) {
				b.uses[in]++
			}
		}
		for _, out := range n.outputs {
			outside := g.isResult(out)
			for _, u := range users[out] {
				outside = outside || !inside(u)
			}
			if outside || !inProgram(n) {
				kept = append(kept, out)
				b.uses[out]++
			}
		}
	}
	// Loads first, so that they have the low registers.
	for _, n := range gr.nodes {
		for i, in := range n.inputs {
			if !inside(in.node) && (inProgram(n) || fullInput(n, in)) {
				b.load(n, i)
			}
		}
		if n.op == opcode(compute.OpTypeLogicalNot) || n.op == opcode(compute.OpTypeConvertDType) && n.outputs[0].shape.DType == dtypes.Bool {
			b.literal(0)
		}
	}
	fused := newNode(opProgram, nil, nil)
	for _, v := range kept {
		fused.outputs = append(fused.outputs, &value{node: fused, index: len(fused.outputs), shape: v.shape})
	}
	b.program.registers = len(b.program.loads)
	for _, n := range gr.nodes {
		if inProgram(n) {
			b.instruction(n)
		}
	}
	rows := 1
	for _, n := range gr.nodes {
		if !inProgram(n) {
			rows = leadingReduction(n)
		}
	}
	b.program.sizeBlocks(rows)
	for _, n := range gr.nodes {
		if !inProgram(n) {
			b.reduction(n, kept, fused)
		}
	}
	b.finish(kept)
	fused.inputs = b.inputs
	ops := make([]opcode, len(gr.nodes))
	for i, n := range gr.nodes {
		ops[i] = n.op
	}
	fused.attrs = programAttrs{b.program, ops}
	return fused, kept
}

type programBuilder struct {
	program *program
	inputs  []*value
	inputOf map[*value]int
	loadOf  map[string]int
	regOf   map[*value]int // of values inside
	instrOf map[instr]int  // register of an equal instruction
	uses    map[*value]int
}

// input is the index of an operand of the fused node.
func (b *programBuilder) input(v *value) int {
	if _, ok := b.inputOf[v]; !ok {
		b.inputOf[v] = len(b.inputs)
		b.inputs = append(b.inputs, v)
	}
	return b.inputOf[v]
}

func (b *programBuilder) addLoad(l load) int {
	key := fmt.Sprint(l)
	if r, ok := b.loadOf[key]; ok {
		return r
	}
	r := len(b.program.loads)
	b.program.loads = append(b.program.loads, l)
	b.loadOf[key] = r
	return r
}

func (b *programBuilder) literal(v float32) int { return b.addLoad(load{kind: loadLiteral, value: v}) }

// load returns the register of operand i of a node, which is computed outside.
func (b *programBuilder) load(n *node, i int) int {
	v := n.inputs[i]
	if n.op == opRandomFloat {
		return b.addLoad(load{slot: b.input(v), dtype: v.shape.DType, kind: loadRandom})
	}
	if c, ok := root(v).node.attrs.(constantAttrs); ok && v.shape.Size() == 1 && v.shape.DType == dtypes.Float32 {
		return b.literal(flatOf(c.data, v.shape).([]float32)[0])
	}
	l := load{slot: b.input(root(v)), dtype: v.shape.DType}
	axes := identity(v.shape.Rank())
	out := v.shape
	if inProgram(n) {
		out = n.outputs[0].shape
		if a, ok := n.attrs.(broadcastAttrs); ok {
			axes = a.axes
		}
	}
	l.describe(v.shape, out, axes)
	return b.addLoad(l)
}

func identity(n int) []int {
	axes := make([]int, n)
	for i := range axes {
		axes[i] = i
	}
	return axes
}

// describe sets how an operand of one shape is spread over another, whose axes
// are given per axis of the operand.
func (l *load) describe(in, out shapes.Shape, axes []int) {
	if in.Size() == out.Size() {
		l.kind = loadFull
		return
	}
	if in.Size() == 1 {
		l.kind = loadScalar
		return
	}
	strides := make([]int, out.Rank())
	stride := 1
	for i := in.Rank() - 1; i >= 0; i-- {
		if in.Dimensions[i] > 1 {
			strides[axes[i]] = stride
		}
		stride *= in.Dimensions[i]
	}
	// Merge axes that are walked as one.
	for i := 0; i < out.Rank(); i++ {
		d := out.Dimensions[i]
		if d == 1 {
			continue
		}
		last := len(l.dims) - 1
		if last >= 0 && l.strides[last] == d*strides[i] {
			l.dims[last] *= d
			l.strides[last] = strides[i]
			continue
		}
		l.dims = append(l.dims, d)
		l.strides = append(l.strides, strides[i])
	}
	if len(l.dims) == 2 && l.strides[0] == 0 && l.strides[1] == 1 {
		l.kind, l.width = loadRow, l.dims[1]
		l.dims, l.strides = nil, nil
		return
	}
	l.kind = loadStrided
}

// operand is the register that operand i of a node is in.
func (b *programBuilder) operand(n *node, i int) int {
	if r, ok := b.regOf[n.inputs[i]]; ok {
		return r
	}
	return b.load(n, i)
}

// emit adds an instruction unless an equal one is there.
func (b *programBuilder) emit(op kernels.Op, a, x, y int) int {
	in := instr{op: op, a: a, b: x, c: y, out: -1}
	if r, ok := b.instrOf[in]; ok {
		return r
	}
	r := b.program.registers
	b.program.registers++
	b.instrOf[in] = r
	in.dst = r
	b.program.instrs = append(b.program.instrs, in)
	return r
}

// instruction adds the instruction of a node.
func (b *programBuilder) instruction(n *node) {
	v := vecOps[n.op]
	var r [3]int
	for i := range n.inputs {
		r[i] = b.operand(n, i)
	}
	for i := len(n.inputs); i < 3; i++ {
		r[i] = r[0]
	}
	if v.swapped {
		r[0], r[1] = r[1], r[0]
	}
	out := n.outputs[0]
	switch {
	case n.op == opcode(compute.OpTypeLogicalNot):
		r[1] = b.literal(0)
	case n.op == opcode(compute.OpTypeConvertDType) && out.shape.DType == dtypes.Bool && n.inputs[0].shape.DType != dtypes.Bool:
		v.op, r[1] = kernels.NotEqual, b.literal(0)
	case v.op == kernels.Copy:
		b.regOf[out] = r[0]
		return
	case v.op == kernels.Add:
		// a*b + c in one instruction where the product serves nothing else.
		for i, factor := range n.inputs {
			other := 1 - i
			if p := b.product(factor); p != nil {
				b.regOf[out] = b.emit(kernels.FMA, p.a, p.b, r[other])
				return
			}
		}
	case v.op == kernels.Sign:
		if s := b.signPlusOne(n.inputs[0]); s >= 0 {
			b.regOf[out] = b.emit(kernels.NonNegative, s, s, s)
			return
		}
	}
	b.regOf[out] = b.emit(v.op, r[0], r[1], r[2])
}

// made returns the instruction that computed a value inside, or nil.
func (b *programBuilder) made(v *value) *instr {
	r, ok := b.regOf[v]
	if !ok || r < len(b.program.loads) {
		return nil
	}
	return &b.program.instrs[r-len(b.program.loads)]
}

// product returns the multiplication behind a value that has one use.
func (b *programBuilder) product(v *value) *instr {
	if in := b.made(v); in != nil && in.op == kernels.Mul && b.uses[v] == 1 && !v.node.shared {
		return in
	}
	return nil
}

// signPlusOne returns the register of x where v is sign(x)+1, or -1.
func (b *programBuilder) signPlusOne(v *value) int {
	sum := b.made(v)
	if sum == nil || sum.op != kernels.Add {
		return -1
	}
	for _, pair := range [][2]int{{sum.a, sum.b}, {sum.b, sum.a}} {
		one, s := pair[0], pair[1]-len(b.program.loads)
		if one >= len(b.program.loads) || s < 0 || b.program.instrs[s].op != kernels.Sign {
			continue
		}
		if l := b.program.loads[one]; l.kind == loadLiteral && l.value == 1 {
			return b.program.instrs[s].a
		}
	}
	return -1
}

// reduction adds a sum over rows.
func (b *programBuilder) reduction(n *node, kept []*value, fused *node) {
	r := reduction{op: n.op, cols: leadingReduction(n), x: b.operand(n, 0)}
	small := func(values ...*value) {
		for _, v := range values {
			r.inputs = append(r.inputs, b.input(root(v)))
		}
	}
	switch n.op {
	case opBatchNormStats:
		small(n.inputs[1:]...)
		r.epsilon = n.attrs.(batchNormAttrs).epsilon
	case opBatchNormGradStats:
		// The kernel sums its first operand, dy, and its product with x - mean.
		r.y = r.x
		r.x = b.operand(n, 4)
		small(n.inputs[1], n.inputs[3], n.inputs[2])
		r.inputs = []int{r.inputs[0], r.inputs[2], r.inputs[1]} // scale, mean, variance
		r.epsilon = n.attrs.(batchNormAttrs).epsilon
	}
	for _, out := range n.outputs {
		r.outputs = append(r.outputs, slices.Index(kept, out))
	}
	parts := max(b.program.parts(), imageParts)
	r.partials = len(fused.outputs)
	fused.outputs = append(fused.outputs, &value{node: fused, index: r.partials,
		shape: shapes.Make(dtypes.Float32, parts, r.perPart())})
	b.program.reductions = append(b.program.reductions, r)
}

// live marks the registers that something reads in the end.
func (b *programBuilder) live(kept []*value) []bool {
	p := b.program
	live := make([]bool, p.registers)
	for _, v := range kept {
		if r, ok := b.regOf[v]; ok {
			live[r] = true
		}
	}
	for _, r := range p.reductions {
		live[r.x] = true
		if r.op == opBatchNormGradStats {
			live[r.y] = true
		}
	}
	for i := len(p.instrs) - 1; i >= 0; i-- {
		if in := p.instrs[i]; live[in.dst] {
			live[in.a], live[in.b], live[in.c] = true, true, true
		}
	}
	return live
}

// finish drops what nothing reads and writes results where they belong.
func (b *programBuilder) finish(kept []*value) {
	p := b.program
	b.foldDraws(kept)
	live := b.live(kept)
	rename := make([]int, p.registers)
	next := 0
	var loads []load
	for r, l := range p.loads {
		if live[r] {
			rename[r] = next
			next++
			loads = append(loads, l)
		}
	}
	var instrs []instr
	for _, in := range p.instrs {
		if live[in.dst] {
			rename[in.dst] = next
			next++
			in.dst, in.a, in.b, in.c = rename[in.dst], rename[in.a], rename[in.b], rename[in.c]
			instrs = append(instrs, in)
		}
	}
	p.loads, p.instrs, p.registers = loads, instrs, next
	for i := range p.reductions {
		p.reductions[i].x, p.reductions[i].y = rename[p.reductions[i].x], rename[p.reductions[i].y]
		if p.reductions[i].op != opBatchNormGradStats {
			p.reductions[i].y = p.reductions[i].x
		}
	}
	for i, v := range kept {
		r, ok := b.regOf[v]
		if !ok {
			continue // a sum
		}
		r = rename[r]
		if r >= len(p.loads) && v.shape.DType == dtypes.Float32 && p.instrs[r-len(p.loads)].out < 0 {
			p.instrs[r-len(p.loads)].out = i
			continue
		}
		p.stores = append(p.stores, store{r, i, v.shape.DType})
	}
	p.allocateBuffers()
}

// lowerProgram replaces operand and result indices by slots.
func lowerProgram(c *compiler, n *node) (step, int) {
	p := n.attrs.(programAttrs).program
	inputs, outputs := c.slotsOf(n.inputs), c.slotsOf(n.outputs)
	for i := range p.loads {
		if p.loads[i].kind != loadLiteral {
			p.loads[i].slot = inputs[p.loads[i].slot]
		}
	}
	for i := range p.instrs {
		if p.instrs[i].out >= 0 {
			p.instrs[i].out = outputs[p.instrs[i].out]
		}
	}
	for i := range p.stores {
		p.stores[i].slot = outputs[p.stores[i].slot]
	}
	for i := range p.reductions {
		r := &p.reductions[i]
		for j := range r.inputs {
			r.inputs[j] = inputs[r.inputs[j]]
		}
		for j := range r.outputs {
			r.outputs[j] = outputs[r.outputs[j]]
		}
		r.partials = outputs[r.partials]
	}
	c.needScratch(p.buffers * p.bufferSize())
	s := &programStep{program: *p, set: c.backend.opts.isa}
	if batch := p.images(n); batch > 0 {
		s.batch = deal(batch, 1)
	}
	return s, 0
}

// images is the size of the batch if the program can run image by image: its
// tensors have one first axis, and an image is whole rows of whole registers.
func (p *program) images(n *node) int {
	batch := 0
	for _, v := range slices.Concat(n.inputs, n.outputs) {
		if v.shape.Size() != p.size || v.shape.Rank() < 2 {
			continue
		}
		if d := v.shape.Dimensions[0]; batch == 0 {
			batch = d
		} else if batch != d {
			return 0
		}
	}
	if batch == 0 || p.size/batch%kernels.Lanes != 0 {
		return 0
	}
	for _, l := range p.loads {
		if l.kind == loadRow && p.size/batch%l.width != 0 {
			return 0
		}
	}
	for _, r := range p.reductions {
		if r.cols == 1 || p.size/batch%r.cols != 0 {
			return 0
		}
	}
	return batch
}
