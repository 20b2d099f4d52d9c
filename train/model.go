package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	gomlx "github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/rivals"
	"github.com/openpith/evidence/smoothout"
)

// Metrics of a classifier on a set of samples.
type Metrics struct {
	Loss     float64 `json:"loss"`     // mean cross-entropy, in nats
	Accuracy float64 `json:"accuracy"` // fraction of samples, 0 to 1
	Samples  int     `json:"samples"`
}

// A Model is a network with its weights on a backend. It is not safe for use
// by several goroutines at once; models on different backends are independent.
type Model struct {
	backend   compute.Backend
	net       gomlx.ModelFn
	store     *model.Store
	shape     []int // of one input
	classes   int
	variables []variable // those of the network, without what trainers add
	batchNorm bool
	clean     *model.Exec
	noisy     map[string]*model.Exec // by the noise of strength 1, as JSON
}

// A variable of the network, as its model function declares it.
type variable struct {
	Path      string `json:"path"`
	Shape     string `json:"shape"`
	Trainable bool   `json:"trainable"`
	size      int
}

// ErrModel reports a model that does not fit the data.
var ErrModel = errors.New("model does not fit")

// newModel checks the model by building it once, on a graph and a store that
// are thrown away, and notes its variables.
func newModel(backend compute.Backend, net gomlx.ModelFn, shape []int, classes int) (m *Model, err error) {
	defer catch(&err)
	m = &Model{
		backend: backend, net: net, store: model.NewStore(), shape: shape, classes: classes,
		noisy: map[string]*model.Exec{},
	}
	const batch = 2
	store := model.NewStore()
	g := NewGraph(backend, "model check")
	defer g.Finalize()
	model.SetStore(g, store)
	store.SetTraining(g, true)
	x := Parameter(g, "x", shapes.Make(dtypes.Float32, append([]int{batch}, shape...)...))
	params := smoothout.Params(func(scope *model.Scope, spec any, inputs []*Node) []*Node {
		out := net(scope, spec, inputs)
		if want := shapes.Make(dtypes.Float32, batch, classes); len(out) != 1 || !out[0].Shape().Equal(want) {
			panic(fmt.Errorf("%w: want one output, logits shaped %s for %d samples, have %v", ErrModel, want, batch, out))
		}
		return out
	}, store.RootScope(), nil, []*Node{x})
	for _, p := range params {
		m.batchNorm = m.batchNorm || p.Role == smoothout.BatchNorm
	}
	for v := range store.IterVariables() {
		if !strings.HasPrefix(v.Name(), "#") { // random state and the number of dropout's masks belong to the run
			m.variables = append(m.variables, variable{v.Path(), v.Shape().String(), v.Trainable, v.Shape().Size()})
		}
	}
	return m, nil
}

// Parameters is the number of trained numbers.
func (m *Model) Parameters() int {
	n := 0
	for _, v := range m.variables {
		if v.Trainable {
			n += v.size
		}
	}
	return n
}

// Store gives access to the variables.
func (m *Model) Store() *model.Store { return m.store }

// Evaluate measures the model at its clean weights: no noise, no dropout, and
// stored batch-norm statistics.
func (m *Model) Evaluate(ctx context.Context, s Samples) (Metrics, error) {
	if m.clean == nil {
		exec, err := m.evaluator(m.net)
		if err != nil {
			return Metrics{}, err
		}
		m.clean = exec
	}
	return m.evaluate(ctx, m.clean, s)
}

// EvaluateNoisy measures the model at w+e, with noise of the given
// configuration and one e for all samples. Equal draws give equal noise, up to
// the strength: the loss over several strengths along one draw is the loss
// along a line. Schedules have no part in it.
func (m *Model) EvaluateNoisy(ctx context.Context, s Samples, noise smoothout.Config, draw int64) (Metrics, error) {
	strength := noise.Strength
	exec, err := m.noisyEvaluator(noise)
	if err != nil {
		return Metrics{}, err
	}
	return m.evaluate(ctx, exec, s, float32(strength), draw)
}

// LossRise is E L(w+e) - L(w): how much noise raises the loss of the samples,
// the mean over so many antithetic pairs of draws. It is what [smoothout.Tune]
// wants.
func (m *Model) LossRise(ctx context.Context, s Samples, noise smoothout.Config, pairs int) (float64, error) {
	clean, err := m.Evaluate(ctx, s)
	if err != nil {
		return 0, err
	}
	exec, err := m.noisyEvaluator(noise)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for d := range pairs {
		for _, sign := range []float64{1, -1} {
			noisy, err := m.evaluate(ctx, exec, s, float32(sign*noise.Strength), int64(d))
			if err != nil {
				return 0, err
			}
			sum += noisy.Loss
		}
	}
	return sum/float64(2*pairs) - clean.Loss, nil
}

// noisyEvaluator compiles the evaluation at w+e, for any strength: that is an
// input of the graph.
func (m *Model) noisyEvaluator(noise smoothout.Config) (*model.Exec, error) {
	noise.Schedule = smoothout.Schedule{}
	if err := noise.Validate(); err != nil {
		return nil, err
	}
	noise.Strength = 1
	key, err := json.Marshal(noise)
	if err != nil {
		return nil, err
	}
	exec := m.noisy[string(key)]
	if exec == nil {
		if exec, err = m.evaluator(smoothout.WrapEval(noise, m.net)); err != nil {
			return nil, err
		}
		m.noisy[string(key)] = exec
	}
	return exec, nil
}

// useAverage makes the average of the weights, if the recipe keeps one and there
// is one, the weights of the model.
func (m *Model) useAverage(r Recipe) (bool, error) {
	if r.Average.Kind == "" {
		return false, nil
	}
	return rivals.Swap(m.store)
}

// evalBatch bounds the memory of an evaluation. It is a constant because it
// decides the order in which float32 losses are added.
const evalBatch = 250

// evaluator compiles net for evaluation: inputs are x, labels, and what else
// net takes; outputs the summed loss and the number of correct samples.
// Labels below 0 mark padding.
func (m *Model) evaluator(net gomlx.ModelFn) (*model.Exec, error) {
	return model.NewExec(m.backend, m.store, func(scope *model.Scope, inputs []*Node) []*Node {
		x, labels := inputs[0], inputs[1]
		g := x.Graph()
		scope.Store().SetTraining(g, false)
		logits := net(scope, nil, append([]*Node{x}, inputs[2:]...))[0]

		labels = Squeeze(labels, -1)
		real := GreaterOrEqual(labels, ScalarZero(g, labels.DType()))
		hot := OneHot(labels, m.classes, logits.DType())
		losses := Neg(ReduceSum(Mul(hot, LogSoftmax(logits, -1)), -1)) // [batch]
		correct := Equal(ArgMax(logits, -1, dtypes.Int32), labels)
		return []*Node{
			ReduceAllSum(Where(real, losses, ZerosLike(losses))),
			ReduceAllSum(ConvertDType(correct, dtypes.Int32)), // padding has no class
		}
	})
}

func (m *Model) evaluate(ctx context.Context, exec *model.Exec, s Samples, extra ...any) (result Metrics, err error) {
	defer catch(&err)
	if err := m.accepts(s); err != nil {
		return Metrics{}, err
	}
	n := s.Len()
	size := min(evalBatch, n)
	var sum float64
	correct := 0
	for start := 0; start < n; start += size {
		if ctx.Err() != nil {
			return Metrics{}, context.Cause(ctx)
		}
		x, y := m.tensors(s, span(start, min(start+size, n)), size)
		out, err := exec.Exec(append([]any{x, y}, extra...)...)
		if err != nil {
			return Metrics{}, err
		}
		sum += float64(tensors.ToScalar[float32](out[0]))
		correct += int(tensors.ToScalar[int32](out[1]))
		for _, t := range append(out, x, y) {
			t.MustFinalizeAll()
		}
	}
	return Metrics{Loss: sum / float64(n), Accuracy: float64(correct) / float64(n), Samples: n}, nil
}

// Recalibrate computes batch-norm statistics anew as plain averages over
// batches of the given samples at the current, clean weights. Samples that fill
// no batch are left out. It does nothing to a model without batch norm.
//
// It speaks GoMLX's protocol for this: layers that see the graph parameter
// BatchNormalizationUpdatePhase average into their statistics. norm.BatchNorm
// of GoMLX does it, and so do the layers of package nets.
func (m *Model) Recalibrate(ctx context.Context, s Samples, batch int) (err error) {
	defer catch(&err)
	if !m.batchNorm {
		return nil
	}
	if err := m.accepts(s); err != nil {
		return err
	}
	if err := norm.ResetBatchNormWeights(m.backend, m.store); err != nil {
		return err
	}
	exec, err := model.NewExec(m.backend, m.store, func(scope *model.Scope, x *Node) *Node {
		g := x.Graph()
		scope.Store().SetTraining(g, false)
		scope.SetGraphParam(g, gomlx.BatchNormalizationUpdatePhase, 0)
		return ReduceAllSum(m.net(scope, nil, []*Node{x})[0])
	})
	if err != nil {
		return err
	}
	defer exec.Finalize()
	batch = min(batch, s.Len())
	for start := 0; start+batch <= s.Len(); start += batch {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		x, y := m.tensors(s, span(start, start+batch), batch)
		out, err := exec.Exec(x)
		if err != nil {
			return err
		}
		for _, t := range append(out, x, y) {
			t.MustFinalizeAll()
		}
	}
	return nil
}

// Digest is the SHA-256, in hexadecimal, of the variables of the network:
// path, shape and little-endian values of each, in the order of the model.
func (m *Model) Digest() (string, error) {
	h := sha256.New()
	for _, v := range m.variables {
		fmt.Fprintf(h, "%s %s\n", v.Path, v.Shape)
		stored := m.store.GetVariable(v.Path)
		if stored == nil || !stored.HasValue() {
			return "", fmt.Errorf("%w: variable %s has no value", ErrModel, v.Path)
		}
		value, err := stored.Value()
		if err != nil {
			return "", err
		}
		if err := value.ConstBytes(func(b []byte) { h.Write(b) }); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// accepts checks that samples have the form the model was built for.
func (m *Model) accepts(s Samples) error {
	if !slices.Equal(s.Shape(), m.shape) || s.Classes() != m.classes {
		return fmt.Errorf("%w: samples of shape %v in %d classes, model for %v in %d", ErrModel, s.Shape(), s.Classes(), m.shape, m.classes)
	}
	if s.Len() == 0 {
		return fmt.Errorf("%w: no samples", ErrModel)
	}
	return nil
}

func (m *Model) acceptsIfAny(what string, s Samples) error {
	if s == nil {
		return nil
	}
	if err := m.accepts(s); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// tensors reads samples into x [size, shape...] and y [size, 1]; rows beyond
// the samples are padding, labelled -1.
func (m *Model) tensors(s Samples, indices []int, size int) (x, y *tensors.Tensor) {
	each := 1
	for _, d := range m.shape {
		each *= d
	}
	xs, ys := make([]float32, size*each), make([]int32, size)
	s.Fill(indices, xs[:len(indices)*each], ys[:len(indices)])
	for i := len(indices); i < size; i++ {
		ys[i] = -1
	}
	return tensors.FromFlatDataAndDimensions(xs, append([]int{size}, m.shape...)...),
		tensors.FromFlatDataAndDimensions(ys, size, 1)
}

// span is the integers from lo to hi-1.
func span(lo, hi int) []int {
	s := make([]int, hi-lo)
	for i := range s {
		s[i] = lo + i
	}
	return s
}
