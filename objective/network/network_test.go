package network_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"

	_ "github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/nets"
	"github.com/openpith/evidence/objective"
	"github.com/openpith/evidence/objective/network"
)

// small and has everything: kernel, bias, batch norm, ReLU.
func small(scope *model.Scope, _ any, inputs []*Node) []*Node {
	x := layers.Dense(scope.In("hidden"), inputs[0], true, 5)
	x = Max(nets.BatchNorm(scope.In("norm"), x), ScalarZero(x.Graph(), x.DType()))
	return []*Node{layers.Dense(scope.In("out"), x, true, 3)}
}

// pooled has what GoMLX cannot differentiate twice.
func pooled(scope *model.Scope, spec any, inputs []*Node) []*Node {
	x := layers.Dense(scope.In("first"), inputs[0], true, 6)
	x = MaxPool(InsertAxes(x, -1, -1)).WindowPerAxis(2, 1).Done() // [batch, 3, 1, 1]
	return small(scope, spec, []*Node{Reshape(x, inputs[0].Shape().Dimensions[0], 3)})
}

func newModel(t *testing.T, fn train.ModelFn) *network.Model {
	t.Helper()
	backend, err := compute.NewWithConfig("cpu:workers=1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Finalize)
	store := model.NewStore()
	store.SetRNGStateFromSeed(1)
	r := rand.New(rand.NewPCG(1, 2))
	var batches []network.Batch
	for _, n := range []int{8, 8, 5} { // the last one is smaller
		x, y := make([]float32, n*4), make([]int32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		for i := range y {
			y[i] = int32(r.IntN(3))
		}
		batches = append(batches, network.Batch{
			Inputs:   []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, n, 4)},
			Labels:   []*tensors.Tensor{tensors.FromFlatDataAndDimensions(y, n, 1)},
			Examples: n,
		})
	}
	init := model.MustNewExec(backend, store, func(scope *model.Scope, x *Node) *Node {
		return fn(scope, nil, []*Node{x})[0]
	})
	init.MustCall(batches[0].Inputs[0])
	m, err := network.New(backend, store, fn, loss.SparseCategoricalCrossEntropyLogits, network.CorrectClasses, batches)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Finalize)
	return m
}

func TestGradientIsThatOfTheLoss(t *testing.T) {
	for name, fn := range map[string]train.ModelFn{"network": small, "max pool": pooled} {
		t.Run(name, func(t *testing.T) {
			m, ctx := newModel(t, fn), context.Background()
			w := m.Start()
			grad := make([]float32, len(w))
			at, err := m.Gradient(ctx, w, grad)
			if err != nil {
				t.Fatal(err)
			}
			clean, err := m.Loss(ctx, w)
			if err != nil || clean != at {
				t.Fatalf("loss %v, with the gradient %v (%v)", clean, at, err)
			}
			const h = 2e-3
			for _, tensor := range m.Layout().Tensors {
				for i := tensor.Offset; i < tensor.Offset+tensor.Size; i++ {
					if tensor.Role == objective.Statistic {
						if grad[i] != 0 {
							t.Errorf("%s: gradient %v of a statistic", tensor.Path, grad[i])
						}
						continue
					}
					slope := (lossAt(t, m, w, i, h) - lossAt(t, m, w, i, -h)) / (2 * h)
					if d := math.Abs(slope - float64(grad[i])); !(d < 2e-3) {
						t.Errorf("%s[%d]: gradient %v, slope %v", tensor.Path, i-tensor.Offset, grad[i], slope)
					}
				}
			}
		})
	}
}

func lossAt(t *testing.T, f objective.Func, w []float32, i int, h float32) float64 {
	t.Helper()
	moved := append([]float32(nil), w...)
	moved[i] += h
	v, err := f.Loss(context.Background(), moved)
	if err != nil {
		t.Fatal(err)
	}
	return v.Loss
}

func TestPartsAverageToTheWhole(t *testing.T) {
	m, ctx := newModel(t, small), context.Background()
	w := m.Start()
	sum := objective.Value{}
	for i := range m.Parts() {
		p := m.Part(i)
		v, err := p.Loss(ctx, w)
		if err != nil {
			t.Fatal(err)
		}
		sum.Loss += v.Loss * float64(p.Examples()) / float64(m.Examples())
		sum.Accuracy += v.Accuracy * float64(p.Examples()) / float64(m.Examples())
	}
	whole, err := m.Loss(ctx, w)
	if err != nil || math.Abs(whole.Loss-sum.Loss) > 1e-6 || math.Abs(whole.Accuracy-sum.Accuracy) > 1e-6 {
		t.Errorf("whole %v, parts %v (%v)", whole, sum, err)
	}
}

func TestHessianVector(t *testing.T) {
	m, ctx := newModel(t, small), context.Background()
	w := m.Start()
	r := rand.New(rand.NewPCG(3, 4))
	v, hv := make([]float32, len(w)), make([]float32, len(w))
	for _, tensor := range m.Layout().Select(objective.Selection{}) {
		for i := range tensor.Size {
			v[tensor.Offset+i] = float32(r.NormFloat64())
		}
	}
	if err := m.HessianVector(ctx, w, v, hv); err != nil {
		t.Fatal(err)
	}
	// Against differences of gradients.
	const h = 1e-3
	up, down := make([]float32, len(w)), make([]float32, len(w))
	for i := range w {
		up[i], down[i] = w[i]+h*v[i], w[i]-h*v[i]
	}
	gu, gd := make([]float32, len(w)), make([]float32, len(w))
	if _, err := m.Gradient(ctx, up, gu); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Gradient(ctx, down, gd); err != nil {
		t.Fatal(err)
	}
	size := 0.0
	for i := range w {
		size += math.Abs(float64(hv[i]))
		if want := float64(gu[i]-gd[i]) / (2 * h); !(math.Abs(want-float64(hv[i])) < 5e-3*(1+math.Abs(want))) {
			t.Errorf("element %d: %v, by differences %v", i, hv[i], want)
		}
	}
	if size == 0 {
		t.Error("no curvature at all")
	}
}

func TestMaxPoolHasNoSecondDerivative(t *testing.T) {
	m := newModel(t, pooled)
	w := m.Start()
	err := m.HessianVector(context.Background(), w, w, make([]float32, len(w)))
	if !errors.Is(err, objective.ErrNotCurved) {
		t.Errorf("error %v", err)
	}
}

func TestLayout(t *testing.T) {
	l := newModel(t, small).Layout()
	roles := map[objective.Role]int{}
	for _, tensor := range l.Tensors {
		roles[tensor.Role] += tensor.Size
	}
	want := map[objective.Role]int{objective.Weight: 4*5 + 5*3, objective.Bias: 5 + 3, objective.BatchNorm: 10, objective.Statistic: 10}
	for role, n := range want {
		if roles[role] < n { // our layer may keep a counter beside its statistics
			t.Errorf("%s: %d elements, want %d", role, roles[role], n)
		}
	}
	if n := l.Trained(); n != 53 {
		t.Errorf("%d trained elements", n)
	}
}
