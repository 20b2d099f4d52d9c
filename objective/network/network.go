// Package network makes a loss over weights (package objective) of any GoMLX
// model and data.
package network

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/objective"
	"github.com/openpith/evidence/smoothout"
)

// A Batch is a part of the examples: the inputs of the model and the labels of
// the loss, each with Examples rows.
type Batch struct {
	Inputs, Labels []*tensors.Tensor
	Examples       int
}

// A Model is an objective.Func made of a GoMLX model: the network in evaluation (no
// dropout, batch norm by the statistics in w), its loss averaged over batches.
// It reads the variables of the store once, in New, and never changes them.
type Model struct {
	*shared
	batches  []Batch
	examples int
}

// shared is what a model and its parts have in common.
type shared struct {
	layout              *objective.Layout
	variables           []*model.Variable
	start               []float32
	loss, gradient, hvp *model.Exec
	counts              bool // accuracy is known

	once   sync.Once // whether second derivatives exist is asked when first needed
	curved error
}

// New returns the loss of a model on data as a function of its weights.
//
// fn is the model function, unwrapped; store holds its variables with their
// values. loss is any loss of GoMLX (losses.SparseCategoricalCrossEntropyLogits
// for class numbers): the scalar or one number per example that it returns is
// averaged. correct, which may be nil, counts right examples in a batch:
// [CorrectClasses] does so for class numbers.
//
// The labels and inputs of all batches must have the same types and, but for
// the number of rows, the same shapes. Errors are objective.ErrModel or those of the backend.
func New(backend compute.Backend, store *model.Store, fn train.ModelFn, loss train.LossFn,
	correct func(labels, outputs []*Node) *Node, batches []Batch) (m *Model, err error) {
	defer catch(&err)
	if len(batches) == 0 {
		return nil, fmt.Errorf("%w: no batches", objective.ErrModel)
	}
	m = &Model{shared: &shared{counts: correct != nil}, batches: batches}
	for i, b := range batches {
		if b.Examples <= 0 || len(b.Inputs) == 0 {
			return nil, fmt.Errorf("%w: batch %d is empty", objective.ErrModel, i)
		}
		m.examples += b.Examples
	}
	if err := m.readVariables(backend, store, fn, batches[0]); err != nil {
		return nil, err
	}

	nx, ny := len(batches[0].Inputs), len(batches[0].Labels)
	// at builds the loss with the variables replaced by inputs of the graph.
	at := func(scope *model.Scope, inputs, w []*Node) (lossNode, right *Node) {
		g := inputs[0].Graph()
		scope.Store().SetTraining(g, false)
		clean := make([]*Node, len(w))
		for i, v := range m.variables {
			clean[i] = v.NodeValue(g)
			v.SetNodeValue(w[i])
		}
		outputs := fn(scope, nil, inputs[:nx])
		for i, v := range m.variables {
			v.SetNodeValue(clean[i])
		}
		labels := inputs[nx : nx+ny]
		lossNode = ReduceAllMean(loss(labels, outputs))
		right = ScalarZero(g, dtypes.Float32)
		if correct != nil {
			right = ConvertDType(correct(labels, outputs), dtypes.Float32)
		}
		return lossNode, right
	}
	n := len(m.variables)
	m.loss, err = model.NewExec(backend, store, func(scope *model.Scope, in []*Node) []*Node {
		l, right := at(scope, in[n:], in[:n])
		return []*Node{l, right}
	})
	if err != nil {
		return nil, err
	}
	m.gradient, err = model.NewExec(backend, store, func(scope *model.Scope, in []*Node) []*Node {
		l, right := at(scope, in[n:], in[:n])
		return append([]*Node{l, right}, Gradient(l, m.trained(in[:n])...)...)
	})
	if err != nil {
		return nil, err
	}
	// H·v is the gradient of ⟨∇L, v⟩ with v constant.
	m.hvp, err = model.NewExec(backend, store, func(scope *model.Scope, in []*Node) []*Node {
		w, v := in[:n], in[n:2*n]
		l, _ := at(scope, in[2*n:], w)
		trained := m.trained(w)
		var slope *Node
		along := m.trained(v)
		for i, g := range Gradient(l, trained...) {
			term := ReduceAllSum(Mul(g, along[i]))
			if slope == nil {
				slope = term
			} else {
				slope = Add(slope, term)
			}
		}
		return Gradient(slope, trained...)
	})
	return m, err
}

// CorrectClasses counts the examples whose largest output is that of their
// label, a class number.
func CorrectClasses(labels, outputs []*Node) *Node {
	y := ConvertDType(labels[0], dtypes.Int32)
	if y.Rank() == outputs[0].Rank() {
		y = Squeeze(y, -1)
	}
	return ReduceAllSum(ConvertDType(Equal(ArgMax(outputs[0], -1, dtypes.Int32), y), dtypes.Int32))
}

// readVariables finds the variables of the model by building it once, and
// copies their values.
func (m *Model) readVariables(backend compute.Backend, store *model.Store, fn train.ModelFn, b Batch) error {
	g := NewGraph(backend, "objective variables")
	defer g.Finalize()
	model.SetStore(g, store)
	store.SetTraining(g, false)
	inputs := make([]*Node, len(b.Inputs))
	for i, x := range b.Inputs {
		inputs[i] = Parameter(g, fmt.Sprintf("x%d", i), x.Shape())
	}
	roles := map[string]objective.Role{}
	for _, p := range smoothout.Params(fn, store.RootScope(), nil, inputs) {
		roles[p.Path()] = objective.Role(p.Role) // the words are the same
	}
	fn(store.RootScope().ResetVisited(), nil, inputs)
	var list []objective.Tensor
	for v := range store.IterVariables() {
		if !v.InUseByGraph(g) || !v.DType().IsFloat() {
			continue
		}
		if v.DType() != dtypes.Float32 {
			return fmt.Errorf("%w: %s is %s: only float32 is measured", objective.ErrModel, v.Path(), v.DType())
		}
		if !v.HasValue() {
			return fmt.Errorf("%w: %s has no value: load or train the weights first", objective.ErrModel, v.Path())
		}
		role, trained := roles[v.Path()]
		if !trained {
			role = objective.Statistic
		}
		value, err := v.Value()
		if err != nil {
			return err
		}
		if err := tensors.ConstFlatData(value, func(x []float32) { m.start = append(m.start, x...) }); err != nil {
			return err
		}
		list = append(list, objective.Tensor{Path: v.Path(), Shape: v.Shape().Dimensions, Role: role})
		m.variables = append(m.variables, v)
	}
	if len(roles) == 0 {
		return fmt.Errorf("%w: the model has no trained variable", objective.ErrModel)
	}
	m.layout = objective.NewLayout(list...)
	return nil
}

// trained picks the trained ones of nodes that stand for the variables.
func (m *Model) trained(all []*Node) []*Node {
	var out []*Node
	for i, t := range m.layout.Tensors {
		if t.Role != objective.Statistic {
			out = append(out, all[i])
		}
	}
	return out
}

// Start returns a copy of the weights that the store held when New was called.
func (m *Model) Start() []float32 { return append([]float32(nil), m.start...) }

// Layout implements objective.Func.
func (m *Model) Layout() *objective.Layout { return m.layout }

// Examples implements objective.Func.
func (m *Model) Examples() int { return m.examples }

// Parts implements objective.Func.
func (m *Model) Parts() int { return len(m.batches) }

// Part implements objective.Func.
func (m *Model) Part(i int) objective.Func {
	return &Model{shared: m.shared, batches: m.batches[i : i+1], examples: m.batches[i].Examples}
}

// Finalize frees what was compiled, for parts of the model too.
func (m *Model) Finalize() {
	for _, e := range []*model.Exec{m.loss, m.gradient, m.hvp} {
		if e != nil {
			e.Finalize()
		}
	}
}

// Loss implements objective.Func.
func (m *Model) Loss(ctx context.Context, w []float32) (objective.Value, error) {
	return m.run(ctx, m.loss, nil, w)
}

// Gradient implements objective.Func.
func (m *Model) Gradient(ctx context.Context, w, grad []float32) (objective.Value, error) {
	return m.run(ctx, m.gradient, grad, w)
}

// HessianVector implements objective.Curved: the gradient of ⟨∇L, v⟩.
func (m *Model) HessianVector(ctx context.Context, w, v, hv []float32) error {
	m.once.Do(func() {
		// An operation without a second derivative stops the building of the
		// graph, which a compilation for the first batch finds out.
		m.curved = m.precompile(m.hvp, w, v)
	})
	if m.curved != nil {
		return fmt.Errorf("%w: %w", objective.ErrNotCurved, m.curved)
	}
	_, err := m.run(ctx, m.hvp, hv, w, v)
	return err
}

func (m *Model) precompile(exec *model.Exec, vectors ...[]float32) (err error) {
	defer catch(&err)
	args, free := m.upload(vectors...)
	defer free()
	out, err := exec.Exec(m.arguments(args, m.batches[0])...)
	for _, t := range out {
		t.MustFinalizeAll()
	}
	return err
}

// run executes exec on every batch and averages what it returns by examples:
// loss and number of right examples, unless exec is that of H·v, then one
// tensor per trained variable, into sum.
func (m *Model) run(ctx context.Context, exec *model.Exec, sum []float32, vectors ...[]float32) (value objective.Value, err error) {
	defer catch(&err)
	for _, v := range append(vectors, sum) {
		if v != nil && len(v) != m.layout.Size() {
			return objective.Value{}, fmt.Errorf("%w: a vector of %d for a model of %d", objective.ErrModel, len(v), m.layout.Size())
		}
	}
	args, free := m.upload(vectors...)
	defer free()
	clear(sum)
	right := 0.0
	for _, b := range m.batches {
		if ctx.Err() != nil {
			return objective.Value{}, context.Cause(ctx)
		}
		out, err := exec.Exec(m.arguments(args, b)...)
		if err != nil {
			return objective.Value{}, err
		}
		share := float64(b.Examples) / float64(m.examples)
		rest := out
		if exec != m.hvp {
			value.Loss += share * float64(tensors.ToScalar[float32](out[0]))
			right += float64(tensors.ToScalar[float32](out[1]))
			rest = out[2:]
		}
		if sum != nil {
			m.accumulate(sum, rest, float32(share))
		}
		for _, t := range out {
			t.MustFinalizeAll()
		}
	}
	value.Accuracy = math.NaN()
	if m.counts {
		value.Accuracy = right / float64(m.examples)
	}
	return value, nil
}

// accumulate adds share times the tensors, one per trained variable, to sum.
func (m *Model) accumulate(sum []float32, out []*tensors.Tensor, share float32) {
	k := 0
	for _, t := range m.layout.Tensors {
		if t.Role == objective.Statistic {
			continue
		}
		part := sum[t.Offset : t.Offset+t.Size]
		tensors.MustConstFlatData(out[k], func(x []float32) {
			for i, v := range x {
				part[i] += share * v
			}
		})
		k++
	}
}

// upload makes tensors of vectors, one per variable; free releases them.
func (m *Model) upload(vectors ...[]float32) (args []any, free func()) {
	for _, w := range vectors {
		for _, t := range m.layout.Tensors {
			args = append(args, tensors.FromFlatDataAndDimensions(w[t.Offset:t.Offset+t.Size], t.Shape...))
		}
	}
	return args, func() {
		for _, a := range args {
			a.(*tensors.Tensor).MustFinalizeAll()
		}
	}
}

func (m *Model) arguments(weights []any, b Batch) []any {
	args := append([]any(nil), weights...)
	for _, list := range [][]*tensors.Tensor{b.Inputs, b.Labels} {
		for _, t := range list {
			args = append(args, t)
		}
	}
	return args
}

// catch turns a panic of GoMLX's graph building into an error.
func catch(err *error) {
	switch e := recover().(type) {
	case nil:
	case error:
		*err = e
	default:
		*err = fmt.Errorf("%w: %v", objective.ErrModel, e)
	}
}
