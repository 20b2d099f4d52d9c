package train

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	gomlx "github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"pgregory.net/rapid"
)

// On ½Σ(w-x)² the gradient is w-x, so every step of torch.optim.SGD after
// clip_grad_norm_ can be written down. Micro-steps with different x show that
// gradients are averaged first and clipped then.
func TestSGDFollowsItsFormula(t *testing.T) {
	backend := newBackend(t)
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Float64Range(-2, 2)
		o := SGD{
			LearningRate: rapid.Float64Range(0.01, 0.5).Draw(t, "lr"),
			Momentum:     rapid.SampledFrom([]float64{0, 0.5, 0.9}).Draw(t, "momentum"),
			Nesterov:     rapid.Bool().Draw(t, "nesterov"),
			WeightDecay:  rapid.SampledFrom([]float64{0, 0.01, 0.3}).Draw(t, "decay"),
			ClipNorm:     rapid.SampledFrom([]float64{0, 0.5, 5}).Draw(t, "clip"),
		}
		micro := rapid.IntRange(1, 3).Draw(t, "micro-steps")
		// Two variables: the norm is that of both together.
		w := [2]float64{number.Draw(t, "a"), number.Draw(t, "b")}
		store := model.NewStore()
		store.VariableWithValue("/a", []float32{float32(w[0])})
		store.VariableWithValue("/deep/b", []float32{float32(w[1])})
		fn := func(scope *model.Scope, _ any, in []*Node) []*Node {
			a := scope.GetVariable("a").NodeValue(in[0])
			b := scope.In("deep").GetVariable("b").NodeValue(in[0])
			return []*Node{MulScalar(ReduceAllSum(Add(Square(Sub(a, in[0])), Square(Sub(b, in[0])))), 0.5)}
		}
		tr := gomlx.NewTrainer(backend, store, fn, func(_, p []*Node) *Node { return p[0] }, o, nil, nil)
		if micro > 1 {
			if err := tr.AccumulateGradients(micro); err != nil {
				t.Fatal(err)
			}
		}
		var v [2]float64
		for range 3 {
			mean := 0.0
			for range micro {
				x := number.Draw(t, "x")
				mean += x / float64(micro)
				if _, err := tr.TrainStep(gomlx.Batch{Inputs: []*tensors.Tensor{tensors.FromValue([]float32{float32(x)})}}); err != nil {
					t.Fatal(err)
				}
			}
			g := [2]float64{w[0] - mean, w[1] - mean}
			if o.ClipNorm > 0 {
				c := min(1, o.ClipNorm/(math.Hypot(g[0], g[1])+1e-6))
				g[0], g[1] = c*g[0], c*g[1]
			}
			for i := range g {
				g[i] += o.WeightDecay * w[i]
				v[i] = o.Momentum*v[i] + g[i]
				step := v[i]
				if o.Nesterov {
					step = g[i] + o.Momentum*v[i]
				}
				w[i] -= o.LearningRate * step
			}
		}
		for i, path := range []string{"/a", "/deep/b"} {
			got := float64(tensors.MustCopyFlatData[float32](store.GetVariable(path).MustValue())[0])
			if !(math.Abs(got-w[i]) <= 1e-5*(1+math.Abs(w[i]))) {
				t.Fatalf("%s is %v, want %v (%+v, %d micro-steps)", path, got, w[i], o, micro)
			}
		}
		if got := optimizer.GetGlobalStep(store); got != 3 {
			t.Fatalf("global step %d, want 3", got)
		}
		if err := o.Clear(store.RootScope()); err != nil || store.GetVariable("/optimizers/sgd/a") != nil {
			t.Fatal("momentum is not cleared", err)
		}
	})
}
