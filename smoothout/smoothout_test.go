package smoothout

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"pgregory.net/rapid"

	"github.com/openpith/evidence/internal/seed"
)

var backend = func() compute.Backend {
	b, err := gobackend.New("ops_sequential") // the parallel mode of v0.1.2 can deadlock
	if err != nil {
		panic(err)
	}
	return b
}()

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A problem is one variable w and a loss of it.
type problem struct {
	store *model.Store
	fn    train.ModelFn
	w     []float32
}

// newProblem makes a model with the variable "/w" of the given shape and value
// whose only output is the scalar f(w).
func newProblem(w []float32, f func(w *Node) *Node, dims ...int) *problem {
	if dims == nil {
		dims = []int{len(w)}
	}
	p := &problem{store: model.NewStore(), w: w}
	p.store.VariableWithValue("/w", tensors.FromFlatDataAndDimensions(slices.Clone(w), dims...))
	p.fn = func(scope *model.Scope, _ any, inputs []*Node) []*Node {
		return []*Node{f(scope.GetVariable("w").NodeValue(inputs[0].Graph()))}
	}
	return p
}

// trainer of the problem: the loss is the model's output, the input is ignored.
func (p *problem) trainer(cfg Config, o optimizer.Interface) *train.Trainer {
	first := func(_, predictions []*Node) *Node { return predictions[0] }
	return train.NewTrainer(backend, p.store, Wrap(cfg, p.fn), first, o, nil, nil)
}

func plainSGD(rate float64) optimizer.Interface {
	return optimizer.StochasticGradientDescent().WithDecay(false).WithLearningRate(rate).Done()
}

func step(tr *train.Trainer) (loss float64) {
	m := must(tr.TrainStep(train.Batch{Inputs: []*tensors.Tensor{tensors.FromValue([]float32{0})}}))
	return float64(tensors.ToScalar[float32](m[0]))
}

func value(store *model.Store, path string) []float32 {
	return must(tensors.CopyFlatData[float32](store.GetVariable(path).MustValue()))
}

// gradient runs one training graph and returns loss and gradient at w.
func (p *problem) gradient(cfg Config) (loss float64, grad []float32) {
	exec := must(model.NewExec(backend, p.store, func(scope *model.Scope, x *Node) []*Node {
		scope.Store().SetTraining(x.Graph(), true)
		l := Wrap(cfg, p.fn)(scope, nil, []*Node{x})[0]
		return []*Node{l, Gradient(l, scope.GetVariable("w").NodeValue(x))[0]}
	}))
	defer exec.Finalize()
	out := must(exec.Exec(float32(0)))
	return float64(tensors.ToScalar[float32](out[0])), must(tensors.CopyFlatData[float32](out[1]))
}

// halfSquare has the gradient w, so a gradient at w+e shows e.
func halfSquare(w *Node) *Node { return MulScalar(ReduceAllSum(Square(w)), 0.5) }

func filled(n int, v float32) []float32 {
	w := make([]float32, n)
	for i := range w {
		w[i] = v
	}
	return w
}

// In one dimension the smoothed slope is the slope of the chord:
// L~'(w) = (L(w+a) - L(w-a)) / 2a. So the gradient is unbiased for any loss.
func TestGradientIsThatOfTheSmoothedLoss(t *testing.T) {
	// Each of n independent coordinates draws its own noise: the mean of their
	// gradients estimates L~'.
	const n = 40000
	l := func(x float64) float64 { return math.Sin(3*x) + x*x/2 }
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.Float64Range(-2, 2).Draw(t, "w")
		a := rapid.Float64Range(0.01, 1.5).Draw(t, "a")
		p := newProblem(filled(n, float32(w)), func(w *Node) *Node {
			return ReduceAllSum(Add(Sin(MulScalar(w, 3)), MulScalar(Square(w), 0.5)))
		})
		_, grad := p.gradient(Config{Strength: a, Seed: rapid.Int64().Draw(t, "seed")})
		var mean, square float64
		for _, g := range grad {
			mean += float64(g) / n
			square += float64(g) * float64(g) / n
		}
		want := (l(w+a) - l(w-a)) / (2 * a)
		// Six standard errors: one false alarm in half a thousand million.
		if tolerance := 6*math.Sqrt(max(square-mean*mean, 0)/n) + 1e-4; !(math.Abs(mean-want) <= tolerance) {
			t.Fatalf("mean gradient %v, want %v ± %v", mean, want, tolerance)
		}
	})
}

// On ½wᵀHw the mean loss rise is a²/6 · tr H, whatever w is.
func TestLossRiseIsTheTrace(t *testing.T) {
	const a, draws = 0.3, 3000
	h := [][]float32{{2, -1, 0.5}, {-1, 3, 0}, {0.5, 0, 1}}
	p := newProblem([]float32{0.7, -0.2, 0.4}, func(w *Node) *Node {
		return MulScalar(ReduceAllSum(Mul(w, Dot(Const(w.Graph(), h), w).Product())), 0.5)
	})
	exec := p.evaluator(Config{Strength: a, Seed: 3})
	at := func(factor float32, draw int64) float64 {
		return float64(tensors.ToScalar[float32](must(exec.Call1(float32(0), factor, draw))))
	}
	clean := at(0, 0)
	var mean, square float64
	for d := range int64(draws) {
		// The antithetic pair cancels the odd orders of the rise.
		rise := (at(1, d)+at(-1, d))/2 - clean
		mean += rise / draws
		square += rise * rise / draws
	}
	want := a * a / 6 * (2 + 3 + 1)
	if tolerance := 6 * math.Sqrt((square-mean*mean)/draws); !(math.Abs(mean-want) <= tolerance) {
		t.Errorf("mean rise %v, want %v ± %v", mean, want, tolerance)
	}
	if at(1, 5) != at(1, 5) || at(1, 5) == at(1, 6) {
		t.Error("a draw is not one fixed noise")
	}
}

func (p *problem) evaluator(cfg Config) *model.Exec {
	return must(model.NewExec(backend, p.store, func(scope *model.Scope, inputs []*Node) *Node {
		return WrapEval(cfg, p.fn)(scope, nil, inputs)[0]
	}))
}

// The loss and the gradient are those at w+e, and nothing but the update
// touches the stored weights.
func TestWeightsAreNeverNoisy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SliceOfN(rapid.Float32Range(-2, 2), 1, 40).Draw(t, "w")
		a := rapid.Float64Range(1e-3, 1).Draw(t, "a")
		const rate = 0.125
		p := newProblem(w, halfSquare)
		loss := step(p.trainer(Config{Strength: a}, plainSGD(rate)))
		_, grad := newProblem(w, halfSquare).gradient(Config{Strength: a}) // the same first step
		var want float64
		for i, after := range value(p.store, "/w") {
			if e := float64(grad[i]) - float64(w[i]); !(math.Abs(e) <= a*1.000001+1e-6) {
				t.Fatalf("noise %v: want within ±%v", e, a)
			}
			if after != w[i]-grad[i]*rate {
				t.Fatalf("weight %v after the step, want %v - %v·%v", after, w[i], rate, grad[i])
			}
			want += float64(grad[i]) * float64(grad[i]) / 2
		}
		if !(math.Abs(loss-want) <= 1e-5*(1+want)) {
			t.Fatalf("loss %v, at w+e it is %v", loss, want)
		}
	})
}

func TestStrengthZeroIsPlainTraining(t *testing.T) {
	// A model with everything random: initial values, dropout.
	fn := func(scope *model.Scope, _ any, inputs []*Node) []*Node {
		x := layers.DenseWithBias(scope.In("a"), inputs[0], 5)
		x = layers.Dropout(scope, x, Scalar(x.Graph(), x.DType(), 0.5))
		return []*Node{layers.DenseWithBias(scope.In("b"), x, 2)}
	}
	run := func(fn train.ModelFn) (weights [][]float32, evaluation []float32) {
		store := model.NewStore()
		must(0, store.SetRNGStateFromSeed(1))
		lossFn := func(_, p []*Node) *Node { return ReduceAllMean(Square(AddScalar(p[0], 1))) }
		tr := train.NewTrainer(backend, store, fn, lossFn, optimizer.Adam().LearningRate(0.01).Done(), nil, nil)
		batch := func() train.Batch {
			return train.Batch{Inputs: []*tensors.Tensor{tensors.FromValue([][]float32{{1, 2, 3}, {-1, 0, 1}})}}
		}
		for range 4 {
			must(tr.TrainStep(batch()))
		}
		for v := range store.IterVariables() {
			if v.Trainable && v.DType() == dtypes.Float32 {
				weights = append(weights, must(tensors.CopyFlatData[float32](v.MustValue())))
			}
		}
		evaluate := must(model.NewExec(backend, store, func(scope *model.Scope, x *Node) *Node { return fn(scope, nil, []*Node{x})[0] }))
		evaluation = must(tensors.CopyFlatData[float32](must(evaluate.Call1([][]float32{{1, 2, 3}}))))
		return weights, evaluation
	}
	plain, _ := run(fn)
	zero, _ := run(Wrap(Config{Adapt: Filter}, fn))
	noisy, _ := run(Wrap(Config{Strength: 0.1}, fn))
	same := func(a, b [][]float32) bool {
		return slices.EqualFunc(a, b, func(x, y []float32) bool { return slices.Equal(x, y) })
	}
	if !same(plain, zero) {
		t.Error("strength 0 changes training")
	}
	if same(plain, noisy) {
		t.Error("strength 0.1 does not change training")
	}
	// Evaluation of a wrapped model: the same graph on the same weights.
	p := newProblem([]float32{1, 2, 3}, halfSquare)
	exec := must(model.NewExec(backend, p.store, func(scope *model.Scope, x *Node) []*Node {
		return append(Wrap(Config{Strength: 9}, p.fn)(scope, nil, []*Node{x}), p.fn(scope, nil, []*Node{x})...)
	}))
	if out := must(exec.Exec(float32(0))); tensors.ToScalar[float32](out[0]) != 7 || tensors.ToScalar[float32](out[1]) != 7 {
		t.Errorf("evaluation of a wrapped model gives %v, clean it is 7", out[0])
	}
}

// Initial weights and dropout do not depend on the noise.
func TestRunsArePaired(t *testing.T) {
	masks := func(cfg Config) (all [][]float32, w []float32) {
		store := model.NewStore()
		must(0, store.SetRNGStateFromSeed(5))
		exec := must(model.NewExec(backend, store, func(scope *model.Scope, x *Node) []*Node {
			scope.Store().SetTraining(x.Graph(), true)
			return Wrap(cfg, func(scope *model.Scope, _ any, in []*Node) []*Node {
				y := layers.DenseWithBias(scope.In("a"), in[0], 4)
				mask := layers.Dropout(scope, OnesLike(y), Scalar(y.Graph(), y.DType(), 0.5))
				return []*Node{mask}
			})(scope, nil, []*Node{x})
		}))
		for range 5 {
			all = append(all, must(tensors.CopyFlatData[float32](must(exec.Exec([][]float32{{1, 2}, {3, 4}}))[0])))
		}
		return all, value(store, "/a/dense/weights")
	}
	plain, w0 := masks(Config{})
	noisy, w1 := masks(Config{Strength: 0.1})
	if !slices.Equal(w0, w1) {
		t.Error("initial weights depend on the noise")
	}
	for i := range plain {
		if !slices.Equal(plain[i], noisy[i]) {
			t.Errorf("dropout of step %d depends on the noise", i)
		}
	}
}

// Each micro-step has its own noise, and only the last of a group moves w.
func TestAccumulatedGradients(t *testing.T) {
	const n, groups = 300, 3
	p := newProblem(filled(n, 1), halfSquare)
	tr := p.trainer(Config{Strength: 0.2}, plainSGD(0.5))
	must(0, tr.AccumulateGradients(groups))
	var losses []float64
	for i := range groups {
		losses = append(losses, step(tr))
		if w := value(p.store, "/w"); i < groups-1 && !slices.Equal(w, p.w) {
			t.Fatalf("micro-step %d changed the weights", i)
		}
	}
	if losses[0] == losses[1] || losses[1] == losses[2] {
		t.Errorf("micro-steps share their noise: losses %v", losses)
	}
	var sums float64 // of squared mean noise, as the update shows it
	for _, w := range value(p.store, "/w") {
		e := (1-float64(w))/0.5 - 1
		sums += e * e
	}
	// The mean of three draws has a third of the variance a²/3.
	if got, want := sums/n, 0.2*0.2/3/groups; !(math.Abs(got-want) < want*0.35) {
		t.Errorf("variance of the averaged noise %v, want about %v", got, want)
	}
	if c := tensors.ToScalar[int64](p.store.GetVariable(StepVariable).MustValue()); c != groups {
		t.Errorf("counter at %d after %d micro-steps", c, groups)
	}
}

// The noise is a function of seed, micro-step and path alone: a store that
// comes from a checkpoint goes on with the noise of the one that went in, and
// excluding a variable leaves the others their noise.
func TestNoiseIsAddressed(t *testing.T) {
	two := func(from int64, cfg Config) (a, b []float32) {
		store := model.NewStore()
		store.VariableWithValue(StepVariable, from)
		for _, name := range []string{"/a", "/b"} {
			store.VariableWithValue(name, make([]float32, 50))
		}
		exec := must(model.NewExec(backend, store, func(scope *model.Scope, x *Node) []*Node {
			scope.Store().SetTraining(x.Graph(), true)
			return Wrap(cfg, func(scope *model.Scope, _ any, in []*Node) []*Node {
				return []*Node{scope.GetVariable("a").NodeValue(in[0]), scope.GetVariable("b").NodeValue(in[0])}
			})(scope, nil, []*Node{x})
		}))
		var out []*tensors.Tensor
		for i := from; i <= 2; i++ {
			out = must(exec.Exec(float32(0)))
		}
		return must(tensors.CopyFlatData[float32](out[0])), must(tensors.CopyFlatData[float32](out[1]))
	}
	at := func(from int64) []float32 { a, _ := two(from, Config{Strength: 1}); return a } // at step 2
	a, b := two(0, Config{Strength: 1})
	if slices.Equal(a, b) {
		t.Error("two variables share their noise")
	}
	withoutA := Config{Strength: 1, Rules: []Rule{{Path: "^/a$"}}}
	if a2, b2 := two(0, withoutA); !slices.Equal(b, b2) || !slices.Equal(a2, make([]float32, 50)) {
		t.Error("excluding a variable changes the noise of another, or does not exclude it")
	}
	if other, _ := two(0, Config{Strength: 1, Seed: 1}); slices.Equal(a, other) {
		t.Error("seeds share their noise")
	}
	// A counter from a checkpoint goes on where it was: step 2 is step 2.
	if resumed := at(2); !slices.Equal(a, resumed) {
		t.Error("a resumed counter draws other noise")
	}
}

// The states of the generator, computed again in plain Go. A change here
// changes the noise of every run and breaks old checkpoints.
func TestStates(t *testing.T) {
	store := model.NewStore()
	params := []noisyParam{
		{Param{store.VariableWithValue("/x/w", []float32{1}), Weight}, 1},
		{Param{store.VariableWithValue("/y", []float32{1}), Weight}, 1},
	}
	exec := must(model.NewExec(backend, store, func(scope *model.Scope, n *Node) []*Node {
		return address{"train", n}.states(n.Graph(), 42, params)
	}))
	for _, number := range []int64{0, 1, 2, 1 << 40, -1} {
		for i, out := range must(exec.Exec(number)) {
			words := seed.Words(42, "smoothout", "train", params[i].Path())
			for j, got := range must(tensors.CopyFlatData[uint64](out)) {
				z := words[j] + uint64(number)*0x9e3779b97f4a7c15
				z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
				z = (z ^ z>>27) * 0x94d049bb133111eb
				if z ^= z >> 31; got != z {
					t.Errorf("number %d, parameter %d, word %d: %x, want %x", number, i, j, got, z)
				}
			}
		}
	}
	if w := seed.Words(42, "smoothout", "train", "/x/w"); w[0] != 0xc4a01d8cff18b564 {
		t.Errorf("the address of /x/w begins with %#x", w[0])
	}
}

func TestNoiseIsUniform(t *testing.T) {
	const n, steps = 20000, 4
	var e [steps][]float32
	p := newProblem(make([]float32, n), halfSquare)
	for i := range e {
		_, e[i] = p.gradient(Config{Strength: 1, Seed: 11})
	}
	var bins [20]int
	var mean, variance, neighbour, next float64
	for s := range steps {
		for i, x := range e[s] {
			if !(x >= -1 && x < 1) {
				t.Fatalf("noise %v outside [-1, 1)", x)
			}
			bins[int((x+1)*10)]++
			mean += float64(x) / (n * steps)
			variance += float64(x) * float64(x) / (n * steps)
			neighbour += float64(x) * float64(e[s][(i+1)%n]) / (n * steps)
			next += float64(x) * float64(e[(s+1)%steps][i]) / (n * steps)
		}
	}
	chi2 := 0.0
	for _, c := range bins {
		want := n * steps / float64(len(bins))
		chi2 += (float64(c) - want) * (float64(c) - want) / want
	}
	if chi2 > 55 { // 19 degrees of freedom: 1 in 40,000
		t.Errorf("chi² of 20 bins is %.1f", chi2)
	}
	se := 1 / math.Sqrt(n*steps)
	for name, c := range map[string]struct{ got, want, tolerance float64 }{
		"mean":                       {mean, 0, 5 * se * math.Sqrt(1./3)},
		"variance":                   {variance, 1. / 3, 5 * se * math.Sqrt(4./45)},
		"correlation of neighbours":  {neighbour, 0, 5 * se / 3},
		"correlation with next step": {next, 0, 5 * se / 3},
	} {
		if !(math.Abs(c.got-c.want) <= c.tolerance) {
			t.Errorf("%s %v, want %v ± %v", name, c.got, c.want, c.tolerance)
		}
	}
}

// The noise of a filter scales with the filter, and its norm is s·‖w_f‖.
func TestFilterNoise(t *testing.T) {
	noise := func(w []float32, dims []int) []float32 {
		_, grad := newProblem(w, halfSquare, dims...).gradient(Config{Strength: 0.5, Adapt: Filter})
		e := make([]float32, len(w))
		for i := range e {
			e[i] = grad[i] - w[i]
		}
		return e
	}
	rapid.Check(t, func(t *rapid.T) {
		dims := rapid.SampledFrom([][]int{{6}, {5, 3}, {3, 3, 2, 4}}).Draw(t, "shape")
		size := shapes.Make(dtypes.Float32, dims...).Size()
		filters := dims[len(dims)-1] // the last axis varies fastest
		w := rapid.SliceOfN(rapid.Float32Range(0.25, 4), size, size).Draw(t, "w")
		// Powers of two scale floats without rounding (but w+e-w rounds).
		scale := make([]float32, filters)
		for f := range scale {
			scale[f] = float32(math.Ldexp(1, rapid.IntRange(-3, 3).Draw(t, "scale")))
		}
		scaled := make([]float32, size)
		for i := range w {
			scaled[i] = w[i] * scale[i%filters]
		}
		e, e2 := noise(w, dims), noise(scaled, dims)
		normW, normE := make([]float64, filters), make([]float64, filters)
		for i := range e {
			if f := scale[i%filters]; !(math.Abs(float64(e2[i]-e[i]*f)) <= 1e-5*float64(f)) {
				t.Fatalf("filter scaled by %v: noise %v becomes %v", f, e[i], e2[i])
			}
			normW[i%filters] += float64(w[i]) * float64(w[i])
			normE[i%filters] += float64(e[i]) * float64(e[i])
		}
		for f := range normW {
			if ratio := math.Sqrt(normE[f] / normW[f]); !(math.Abs(ratio-0.5) < 1e-3) && len(dims) > 1 {
				t.Fatalf("noise of filter %d has %v of its norm, want 0.5", f, ratio)
			}
		}
	})
	for i, e := range noise([]float32{0, 2, -4}, []int{3}) { // filters of one weight
		if want := []float64{0, 1, 2}[i]; !(math.Abs(math.Abs(float64(e))-want) < 1e-2) {
			t.Errorf("element %d of a vector has noise %v, want ±%v", i, e, want)
		}
	}
}

// The norms are constants for the gradient: d/dw of Σ(w+e(w)) is 1.
func TestNoGradientThroughNorms(t *testing.T) {
	w := []float32{1, 2, 3, 4, 5, 6}
	_, grad := newProblem(w, ReduceAllSum, 3, 2).gradient(Config{Strength: 0.7, Adapt: Filter})
	if !slices.Equal(grad, filled(6, 1)) {
		t.Errorf("gradient %v, want ones", grad)
	}
}

func TestOptimizers(t *testing.T) {
	for name, o := range map[string]optimizer.Interface{
		"sgd":  plainSGD(0.05),
		"adam": optimizer.Adam().LearningRate(0.05).Done(),
	} {
		for _, accumulate := range []int{1, 3} {
			p := newProblem(filled(20, 1), halfSquare)
			tr := p.trainer(Config{Strength: 0.1}, o)
			if accumulate > 1 {
				must(0, tr.AccumulateGradients(accumulate))
			}
			for range 120 * accumulate {
				step(tr)
			}
			for _, w := range value(p.store, "/w") {
				if !(math.Abs(float64(w)) < 0.1) {
					t.Errorf("%s, %d micro-steps: weight at %v, want near 0", name, accumulate, w)
				}
			}
		}
	}
}

// Roles come from structure: GoMLX's own batch norm, and one with other names.
func TestRoles(t *testing.T) {
	fn := func(scope *model.Scope, _ any, in []*Node) []*Node {
		x := layers.DenseWithBias(scope.In("dense"), in[0], 3)
		x = norm.BatchNorm(scope, x, -1).UseBackendInference(false).Done()
		x = layers.DenseWithBias(scope.In("second"), x, 4)
		x = norm.LayerNorm(scope, x, -1).Done()
		s := scope.In("mine")
		for _, v := range []string{"p", "q"} {
			x = Mul(x, ExpandDims(s.VariableWithShape(v, shapes.Make(dtypes.Float32, 4)).NodeValue(x), 0))
		}
		for _, v := range []string{"r", "s"} {
			s.VariableWithShape(v, shapes.Make(dtypes.Float32, 4)).SetTrainable(false).NodeValue(x)
		}
		scope.VariableWithShape("unused", shapes.Make(dtypes.Float32, 4))
		return []*Node{x}
	}
	store := model.NewStore()
	got := map[string]Role{}
	g := NewGraph(backend, "roles")
	defer g.Finalize()
	model.SetStore(g, store)
	for _, p := range Params(fn, store.RootScope(), nil, []*Node{Parameter(g, "x", shapes.Make(dtypes.Float32, 2, 5))}) {
		got[p.Path()] = p.Role
	}
	want := map[string]Role{
		"/dense/dense/weights": Weight, "/dense/dense/biases": Bias,
		"/batch_normalization/scale": BatchNorm, "/batch_normalization/offset": BatchNorm,
		"/second/dense/weights": Weight, "/second/dense/biases": Bias,
		"/layer_normalization/gain": Bias, "/layer_normalization/offset": Bias,
		"/mine/p": BatchNorm, "/mine/q": BatchNorm,
	}
	for path, role := range want {
		if got[path] != role {
			t.Errorf("%s: role %q, want %q", path, got[path], role)
		}
		if factor, _ := (Config{}).factor(Param{store.GetVariable(path), role}); (factor > 0) == (role == BatchNorm) {
			t.Errorf("default factor of %q is %v", role, factor)
		}
	}
	if len(got) != len(want) {
		t.Errorf("parameters %v", got)
	}

	// By default Wrap follows the roles, and puts everything back.
	exec := must(model.NewExec(backend, model.NewStore(), func(scope *model.Scope, x *Node) (diffs []*Node) {
		scope.Store().SetTraining(x.Graph(), true)
		paths := []string{"/dense/dense/weights", "/batch_normalization/scale"}
		var inside []*Node
		Wrap(Config{Strength: 1}, func(scope *model.Scope, spec any, in []*Node) []*Node {
			out := fn(scope, spec, in)
			inside = nil // those of the last build
			for _, path := range paths {
				inside = append(inside, scope.Store().GetVariable(path).NodeValue(in[0]))
			}
			return out
		})(scope, nil, []*Node{x})
		for i, path := range paths {
			after := scope.Store().GetVariable(path)
			if after.ChangedInGraph(x.Graph()) {
				t.Errorf("%s is not put back", path)
			}
			diffs = append(diffs, ReduceAllMax(Abs(Sub(inside[i], after.NodeValue(x)))))
		}
		return diffs
	}))
	out := must(exec.Exec([][]float32{{1, 2, 3, 4, 5}, {5, 4, 3, 2, 0}}))
	if w, bn := tensors.ToScalar[float32](out[0]), tensors.ToScalar[float32](out[1]); w == 0 || bn != 0 {
		t.Errorf("largest noise: %v on weights, %v on batch norm, want some and none", w, bn)
	}
}

// Noise that reaches nothing is a mistake, not plain training.
func TestNothingSelected(t *testing.T) {
	p := newProblem([]float32{1}, halfSquare)
	nothing := Config{Strength: 1, Rules: []Rule{{}}}
	_, err := p.trainer(nothing, plainSGD(1)).TrainStep(train.Batch{Inputs: []*tensors.Tensor{tensors.FromValue([]float32{0})}})
	if !errors.Is(err, ErrConfig) {
		t.Errorf("error %v, want ErrConfig", err)
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"negative":      {Strength: -1},
		"not a number":  {Strength: math.NaN()},
		"infinite":      {Strength: math.Inf(1)},
		"unknown adapt": {Strength: 1, Adapt: "weigth"},
		"unknown noise": {Strength: 1, Noise: "cauchy"},
	} {
		if err := c.Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: error %v, want ErrConfig", name, err)
		}
		// A caller who did not validate learns it from the step, not by a crash.
		p := newProblem([]float32{1}, halfSquare)
		if _, err := p.trainer(c, plainSGD(1)).TrainStep(train.Batch{Inputs: []*tensors.Tensor{tensors.FromValue([]float32{0})}}); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: step gave %v, want ErrConfig", name, err)
		}
	}
	for _, c := range []Config{{}, {Strength: 0.1, Adapt: None, Noise: Uniform}, {Strength: 2, Adapt: Filter}} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// WrapEval is for evaluation only, and its draws are not those of training.
func TestWrapEval(t *testing.T) {
	p := newProblem(make([]float32, 30), func(w *Node) *Node { return w })
	noisy := must(tensors.CopyFlatData[float32](must(p.evaluator(Config{Strength: 1}).Call1(float32(0), float32(1), int64(0)))))
	_, trained := newProblem(make([]float32, 30), halfSquare).gradient(Config{Strength: 1})
	if slices.Equal(noisy, trained) {
		t.Error("draw 0 of evaluation is the noise of training step 0")
	}
	training := must(model.NewExec(backend, p.store, func(scope *model.Scope, inputs []*Node) *Node {
		scope.Store().SetTraining(inputs[0].Graph(), true)
		return WrapEval(Config{Strength: 1}, p.fn)(scope, nil, inputs)[0]
	}))
	if _, err := training.Exec(float32(0), float32(1), int64(0)); err == nil {
		t.Error("WrapEval accepts a training graph")
	}
	if _, err := p.evaluator(Config{Strength: 1}).Exec(float32(0), float32(1)); err == nil {
		t.Error("WrapEval accepts a missing draw")
	}
}
