package sharpness_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train/loss"

	_ "github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/nets"
	"github.com/openpith/evidence/objective"
	"github.com/openpith/evidence/objective/network"
	"github.com/openpith/evidence/sharpness"
)

const hidden = 6

func relu(x *Node) *Node { return Max(x, ScalarZero(x.Graph(), x.DType())) }

func newNetwork(t *testing.T, activation func(*Node) *Node) *network.Model {
	t.Helper()
	backend, err := compute.NewWithConfig("cpu:workers=1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Finalize)
	net := func(scope *model.Scope, _ any, inputs []*Node) []*Node {
		x := layers.Dense(scope.In("hidden"), inputs[0], true, hidden)
		x = activation(nets.BatchNorm(scope.In("norm"), x))
		return []*Node{layers.Dense(scope.In("out"), x, true, 3)}
	}
	store := model.NewStore()
	store.SetRNGStateFromSeed(1)
	r := rand.New(rand.NewPCG(1, 2))
	const n, features = 40, 5
	x, y := make([]float32, n*features), make([]int32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for i := range y {
		y[i] = int32(r.IntN(3))
	}
	batch := network.Batch{
		Inputs:   []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, n, features)},
		Labels:   []*tensors.Tensor{tensors.FromFlatDataAndDimensions(y, n, 1)},
		Examples: n,
	}
	init := model.MustNewExec(backend, store, func(scope *model.Scope, x *Node) *Node {
		return net(scope, nil, []*Node{x})[0]
	})
	init.MustCall(batch.Inputs[0])
	m, err := network.New(backend, store, net, loss.SparseCategoricalCrossEntropyLogits, network.CorrectClasses, []network.Batch{batch})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Finalize)
	return m
}

func part(t *testing.T, l *objective.Layout, w []float32, path string) []float32 {
	t.Helper()
	for _, tensor := range l.Tensors {
		if strings.Contains(tensor.Path, path) {
			return w[tensor.Offset : tensor.Offset+tensor.Size]
		}
	}
	t.Fatalf("no tensor %q", path)
	return nil
}

// rescaled multiplies the filters in front of batch norm by positive numbers
// and moves the statistics along, which leaves the network the same function.
func rescaled(t *testing.T, l *objective.Layout, w []float32) []float32 {
	w = append([]float32(nil), w...)
	factors := []float32{1. / 32, 32, 1. / 16, 1, 1. / 8, 16} // powers of two: exact
	kernel := part(t, l, w, "/hidden/dense/weights")
	for i := range kernel {
		kernel[i] *= factors[i%hidden]
	}
	bias, mean, variance := part(t, l, w, "/hidden/dense/biases"), part(t, l, w, "/mean"), part(t, l, w, "/variance")
	for i, f := range factors {
		bias[i] *= f
		mean[i] *= f
		variance[i] *= f * f
	}
	return w
}

// TestFilterRescaling: two weight vectors of one function. A measure against
// the norms of filters cannot tell them apart, one against nothing must.
func TestFilterRescaling(t *testing.T) {
	m := newNetwork(t, relu)
	l := m.Layout()
	a := m.Start()
	for i, v := range part(t, l, a, "/variance") {
		part(t, l, a, "/variance")[i] = 64 * v // far above batch norm's epsilon
	}
	b := rescaled(t, l, a)
	vectorsOff := objective.Selection{ExceptBias: true}
	for _, tt := range []struct {
		name      string
		m         sharpness.Measure
		invariant bool
	}{
		{"filter noise", sharpness.Noise{Strength: 0.5, Norm: objective.Filter, Selection: vectorsOff}, true},
		{"weight noise", sharpness.Noise{Strength: 0.5, Norm: objective.Each, Selection: vectorsOff}, true},
		{"plain noise", sharpness.Noise{Strength: 0.5, Selection: vectorsOff}, false},
		{"layer noise", sharpness.Noise{Strength: 0.5, Norm: objective.Layer, Selection: vectorsOff}, false},
		{"ASAM", sharpness.Ascent{Rho: 0.5, Adaptive: true}, true},
		{"SAM", sharpness.Ascent{Rho: 0.5}, false},
		{"largest eigenvalue", sharpness.Eigenvalues{N: 1, Products: sharpness.Exact}, false},
		{"trace", sharpness.Trace{Products: sharpness.Exact}, false},
	} {
		at, scaled := run(t, tt.m, m, a), run(t, tt.m, m, b)
		if math.Abs(at.Loss-scaled.Loss) > 1e-5 {
			t.Fatalf("not the same function: loss %v and %v", at.Loss, scaled.Loss)
		}
		change := math.Abs(at.Value-scaled.Value) / math.Abs(at.Value)
		if tt.invariant && !(change < 0.01) || !tt.invariant && !(change > 0.05) {
			t.Errorf("%s: %v, rescaled %v: changed by %.1f %%", tt.name, at.Value, scaled.Value, 100*change)
		}
	}
}

func TestExactAndDifferencesAgree(t *testing.T) {
	m := newNetwork(t, Tanh) // smooth: a kink has no second derivative, but a difference
	w := m.Start()
	for _, tt := range []struct {
		name string
		of   func(sharpness.Products) sharpness.Measure
	}{
		{"eigenvalue", func(p sharpness.Products) sharpness.Measure { return sharpness.Eigenvalues{N: 2, Products: p} }},
		{"trace", func(p sharpness.Products) sharpness.Measure { return sharpness.Trace{Draws: 20, Products: p} }},
		{"wᵀHw", func(p sharpness.Products) sharpness.Measure { return sharpness.FisherRao{Products: p} }},
	} {
		exact, differences := run(t, tt.of(sharpness.Exact), m, w), run(t, tt.of(sharpness.Differences), m, w)
		near(t, tt.name+" by differences", differences.Value, exact.Value, 0.02*math.Abs(exact.Value)+1e-3)
		if !(exact.Cost.HessianVectors > 0) || exact.Cost.Gradients != 0 || !(differences.Cost.Gradients > 0) {
			t.Errorf("%s: costs %+v and %+v", tt.name, exact.Cost, differences.Cost)
		}
	}
}
