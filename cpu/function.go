package cpu

import (
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/notimplemented"
	"github.com/gomlx/compute/shapes"
	"github.com/pkg/errors"
)

// A Builder collects the functions of one computation.
type Builder struct {
	notimplemented.Builder

	backend   *Backend
	name      string
	main      *Function
	functions map[string]*Function
	compiled  bool
}

var _ compute.Builder = (*Builder)(nil)

func newBuilder(b *Backend, name string) *Builder {
	builder := &Builder{backend: b, name: name, functions: map[string]*Function{}}
	builder.main = newFunction(builder, compute.MainName, nil)
	return builder
}

// Name returns the name given to the computation.
func (b *Builder) Name() string { return b.name }

// Main returns the function that will be compiled.
func (b *Builder) Main() compute.Function { return b.main }

// NewFunction returns a new named function, for Call.
func (b *Builder) NewFunction(name string) (compute.Function, error) {
	if name == "" || name == compute.MainName || b.functions[name] != nil {
		return nil, errors.Errorf("cpu: a function needs a new name other than %q, got %q", compute.MainName, name)
	}
	b.functions[name] = newFunction(b, name, nil)
	return b.functions[name], nil
}

// OpShape returns the shape of a value.
func (b *Builder) OpShape(v compute.Value) (shapes.Shape, error) { return b.main.Shape(v) }

// DistributedSPMD accepts one device.
func (b *Builder) DistributedSPMD(numDevices int) error {
	if numDevices == 1 {
		return nil
	}
	return errors.Wrapf(compute.ErrNotImplemented, "cpu: there is one device, %d asked for", numDevices)
}

// DeviceAssignment accepts device 0.
func (b *Builder) DeviceAssignment(devices ...compute.DeviceNum) error {
	if len(devices) == 1 && devices[0] == 0 {
		return nil
	}
	return errors.Wrapf(compute.ErrNotImplemented, "cpu: there is one device, number 0; got %v", devices)
}

// A Function records operations. One that belongs to a parent is a closure and
// may use the parent's values.
type Function struct {
	notimplemented.Function

	builder  *Builder
	name     string
	parent   *Function
	nodes    []*node // in the order they were added, so inputs come first
	params   []*node
	results  []*value
	returned bool
}

var _ compute.Function = (*Function)(nil)

func newFunction(b *Builder, name string, parent *Function) *Function {
	f := &Function{builder: b, name: name, parent: parent}
	f.ErrFn = func(op compute.OpType) error {
		return errors.Wrapf(compute.ErrNotImplemented, "cpu: operation %s", op)
	}
	return f
}

// Name returns the name of the function, "" for closures.
func (f *Function) Name() string { return f.name }

// Builder returns the builder of the function.
func (f *Function) Builder() compute.Builder { return f.builder }

// Parent returns the function this closure was made in, or nil.
func (f *Function) Parent() compute.Function {
	if f.parent == nil {
		return nil
	}
	return f.parent
}

// Closure returns a new function that may use the values of f.
func (f *Function) Closure() (compute.Function, error) {
	return newFunction(f.builder, "", f), nil
}

// Shape returns the shape of a value.
func (f *Function) Shape(v compute.Value) (shapes.Shape, error) {
	x, ok := v.(*value)
	if !ok {
		return shapes.Invalid(), errors.Errorf("cpu: %T is not a value of this backend", v)
	}
	return x.shape, nil
}

// paramAttrs belong to a parameter.
type paramAttrs struct {
	name  string
	index int
}

// Parameter adds an input of the function.
func (f *Function) Parameter(name string, shape shapes.Shape, sharding *compute.ShardingSpec) (compute.Value, error) {
	switch {
	case f.returned:
		return nil, errors.Errorf("cpu: parameter %q added to a function that has returned", name)
	case sharding != nil:
		return nil, errors.Wrapf(compute.ErrNotImplemented, "cpu: sharding of parameter %q", name)
	case !shape.Ok() || shape.IsTuple():
		return nil, errors.Errorf("cpu: parameter %q has the invalid shape %s", name, shape)
	case shape.IsDynamic():
		return nil, errors.Wrapf(compute.ErrNotImplemented, "cpu: parameter %q has the dynamic shape %s; give static shapes", name, shape)
	case !f.builder.backend.reference.Capabilities().DTypes[shape.DType]:
		return nil, errors.Wrapf(compute.ErrNotImplemented, "cpu: parameter %q has the unsupported type %s", name, shape.DType)
	}
	if err := checkSize(shape); err != nil {
		return nil, errors.WithMessagef(err, "cpu: parameter %q", name)
	}
	n := newNode(opcode(compute.OpTypeParameter), paramAttrs{name, len(f.params)}, nil, shape)
	f.add(n)
	f.params = append(f.params, n)
	return n.outputs[0], nil
}

// Constant adds a tensor of fixed values, which are copied.
func (f *Function) Constant(flat any, dims ...int) (compute.Value, error) {
	data, err := flatBytes(flat)
	if err != nil {
		return nil, err
	}
	dtype := dtypes.FromGoType(reflect.TypeOf(flat).Elem())
	if dtype == dtypes.InvalidDType || slices.ContainsFunc(dims, func(d int) bool { return d < 0 }) {
		return nil, errors.Errorf("cpu: no constant can be made of %T with dimensions %v", flat, dims)
	}
	shape := shapes.Make(dtype, dims...)
	if f.returned {
		return nil, errors.Errorf("cpu: constant of shape %s added to a function that has returned", shape)
	}
	if len(data) != byteSize(shape) {
		return nil, errors.Errorf("cpu: a constant of shape %s takes %d bytes, the %T given has %d",
			shape, byteSize(shape), flat, len(data))
	}
	return f.addConstant(data, shape), nil
}

func (f *Function) addConstant(data []byte, shape shapes.Shape) *value {
	aligned := new(memoryPool).get(len(data)).bytes[:len(data)]
	copy(aligned, data)
	n := newNode(opcode(compute.OpTypeConstant), constantAttrs{aligned}, nil, shape)
	f.add(n)
	return n.outputs[0]
}

type constantAttrs struct{ data []byte }

func (f *Function) add(n *node) {
	n.fn = f
	f.nodes = append(f.nodes, n)
}

// Return marks the outputs of the function and ends it.
func (f *Function) Return(outputs []compute.Value, shardings []*compute.ShardingSpec) error {
	if f.returned {
		return errors.Errorf("cpu: function %q has returned before", f.name)
	}
	if slices.ContainsFunc(shardings, func(s *compute.ShardingSpec) bool { return s != nil }) {
		return errors.Wrap(compute.ErrNotImplemented, "cpu: sharding of outputs")
	}
	results, err := f.resolve("Return", outputs)
	if err != nil {
		return err
	}
	f.results, f.returned = results, true
	return nil
}

// resolve checks that values may be used in f: they are ours, of this
// computation, and of f or a function around it.
func (f *Function) resolve(op string, values []compute.Value) ([]*value, error) {
	resolved := make([]*value, len(values))
	for i, v := range values {
		x, ok := v.(*value)
		if !ok || x == nil {
			return nil, errors.Errorf("cpu: %s: operand %d is a %T, not a value of this backend", op, i, v)
		}
		owner := f
		for owner != nil && owner != x.node.fn {
			owner = owner.parent
		}
		if owner == nil {
			return nil, errors.Errorf("cpu: %s: operand %d (%s) belongs to another function or graph", op, i, x.node.op)
		}
		resolved[i] = x
	}
	return resolved, nil
}

// record adds an operation whose output shapes are known.
func (f *Function) record(op opcode, attrs any, inputs []*value, emit emitter, outputs ...shapes.Shape) (*node, error) {
	if f.returned {
		return nil, errors.Errorf("cpu: %s added to a function that has returned", op)
	}
	n := newNode(op, attrs, inputs, outputs...)
	n.emit = emit
	for _, out := range outputs {
		if out.IsTuple() || out.IsDynamic() {
			continue
		}
		if err := checkSize(out); err != nil {
			return nil, errors.WithMessagef(err, "cpu: the result of %s", n.describe())
		}
	}
	f.add(n)
	return n, nil
}

// inferred adds an operation whose output shapes the reference backend infers.
func (f *Function) inferred(op opcode, attrs any, operands []compute.Value, emit emitter) (*node, error) {
	inputs, err := f.resolve(op.String(), operands)
	if err != nil {
		return nil, err
	}
	outputs, err := f.builder.backend.inferShapes(op, inputs, emit)
	if err != nil {
		return nil, err
	}
	return f.record(op, attrs, inputs, emit, outputs...)
}

// Call inserts the operations of another function of the same builder.
func (f *Function) Call(target compute.Function, operands ...compute.Value) ([]compute.Value, error) {
	g, ok := target.(*Function)
	if !ok || g.builder != f.builder || !g.returned || g.parent != nil {
		return nil, errors.New("cpu: Call needs a named function of the same builder that has returned")
	}
	inputs, err := f.resolve("Call", operands)
	if err != nil {
		return nil, err
	}
	if len(inputs) != len(g.params) {
		return nil, errors.Errorf("cpu: Call: function %q has %d parameters, got %d", g.name, len(g.params), len(inputs))
	}
	if f.returned {
		return nil, errors.New("cpu: Call added to a function that has returned")
	}
	inner := map[*value]*value{}
	for i, p := range g.params {
		if !p.outputs[0].shape.Equal(inputs[i].shape) {
			return nil, errors.Errorf("cpu: Call: parameter %d of %q is %s, got %s", i, g.name, p.outputs[0].shape, inputs[i].shape)
		}
		inner[p.outputs[0]] = inputs[i]
	}
	for _, n := range g.nodes {
		if n.op == opcode(compute.OpTypeParameter) {
			continue
		}
		c := newNode(n.op, n.attrs, nil)
		c.emit = n.emit
		for _, in := range n.inputs {
			c.inputs = append(c.inputs, inner[in])
		}
		for i, out := range n.outputs {
			c.outputs = append(c.outputs, &value{node: c, index: i, shape: out.shape})
			inner[out] = c.outputs[i]
		}
		f.add(c)
	}
	results := make([]compute.Value, len(g.results))
	for i, r := range g.results {
		results[i] = inner[r]
	}
	return results, nil
}

// If runs one of two closures without parameters.
func (f *Function) If(pred compute.Value, trueBranch, falseBranch compute.Function) ([]compute.Value, error) {
	return f.control(compute.OpTypeIf, []compute.Value{pred}, []compute.Function{trueBranch, falseBranch},
		func(g compute.Function, subs []compute.Function, in []compute.Value) ([]compute.Value, error) {
			return g.If(in[0], subs[0], subs[1])
		})
}

// While runs the closure body while the closure cond is true.
func (f *Function) While(cond, body compute.Function, initialState ...compute.Value) ([]compute.Value, error) {
	return f.control(compute.OpTypeWhile, initialState, []compute.Function{cond, body},
		func(g compute.Function, subs []compute.Function, in []compute.Value) ([]compute.Value, error) {
			return g.While(subs[0], subs[1], in...)
		})
}

// Sort sorts tensors along an axis by a closure.
func (f *Function) Sort(comparator compute.Function, axis int, isStable bool, inputs ...compute.Value) ([]compute.Value, error) {
	return f.control(compute.OpTypeSort, inputs, []compute.Function{comparator},
		func(g compute.Function, subs []compute.Function, in []compute.Value) ([]compute.Value, error) {
			return g.Sort(subs[0], axis, isStable, in...)
		})
}

// controlSerial makes every control operation distinct for the search for
// common subexpressions, which does not look into closures.
var controlSerial atomic.Int64

type controlAttrs struct{ serial int64 }

// control records an operation with closures. What the closures take from
// outside becomes further inputs of the operation.
func (f *Function) control(op compute.OpType, operands []compute.Value, closures []compute.Function,
	build func(g compute.Function, subs []compute.Function, in []compute.Value) ([]compute.Value, error),
) ([]compute.Value, error) {
	subs := make([]*Function, len(closures))
	all := slices.Clone(operands)
	for i, c := range closures {
		sub, ok := c.(*Function)
		if !ok || sub.parent != f || !sub.returned {
			return nil, errors.Errorf("cpu: %s needs closures of the function it is added to that have returned", op)
		}
		subs[i] = sub
		for _, v := range sub.captured() {
			all = append(all, v)
		}
	}
	n, err := f.inferred(opcode(op), controlAttrs{controlSerial.Add(1)}, all,
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			env := map[*value]compute.Value{}
			captured := in[len(operands):]
			replayed := make([]compute.Function, len(subs))
			for i, sub := range subs {
				for _, v := range sub.captured() {
					env[v], captured = captured[0], captured[1:]
				}
				var err error
				if replayed[i], err = sub.replay(g, env); err != nil {
					return nil, err
				}
			}
			return build(g, replayed, in[:len(operands)])
		})
	if err != nil {
		return nil, err
	}
	return n.values(), nil
}

func (n *node) values() []compute.Value {
	values := make([]compute.Value, len(n.outputs))
	for i, v := range n.outputs {
		values[i] = v
	}
	return values
}

// captured lists the values that a closure uses from the functions around it.
func (f *Function) captured() []*value {
	var list []*value
	note := func(v *value) {
		if v.node.fn != f && !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	for _, n := range f.nodes {
		for _, v := range n.inputs {
			note(v)
		}
	}
	for _, v := range f.results {
		note(v)
	}
	return list
}

// replay adds a closure with the operations of f to a function of another
// backend; env maps captured values.
func (f *Function) replay(outer compute.Function, env map[*value]compute.Value) (compute.Function, error) {
	g, err := outer.Closure()
	if err != nil {
		return nil, err
	}
	for _, n := range f.nodes {
		var outputs []compute.Value
		switch attrs := n.attrs.(type) {
		case paramAttrs:
			v, err := g.Parameter(attrs.name, n.outputs[0].shape, nil)
			if err != nil {
				return nil, err
			}
			outputs = []compute.Value{v}
		case constantAttrs:
			shape := n.outputs[0].shape
			v, err := g.Constant(flatOf(attrs.data, shape), shape.Dimensions...)
			if err != nil {
				return nil, err
			}
			outputs = []compute.Value{v}
		default:
			inputs := make([]compute.Value, len(n.inputs))
			for i, in := range n.inputs {
				inputs[i] = env[in]
			}
			if n.emit == nil {
				return nil, errors.Wrapf(compute.ErrNotImplemented, "cpu: %s inside a closure; use basic operations there", n.op)
			}
			if outputs, err = n.emit(g, inputs); err != nil {
				return nil, err
			}
		}
		for i, out := range n.outputs {
			env[out] = outputs[i]
		}
	}
	results := make([]compute.Value, len(f.results))
	for i, r := range f.results {
		results[i] = env[r]
	}
	return g, g.Return(results, nil)
}
