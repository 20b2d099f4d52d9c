package rivals

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/metric"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"pgregory.net/rapid"

	"github.com/openpith/evidence/smoothout"
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

func plainSGD(rate float64) optimizer.Interface {
	return optimizer.StochasticGradientDescent().WithDecay(false).WithLearningRate(rate).Done()
}

func value(store *model.Store, path string) []float32 {
	return must(tensors.CopyFlatData[float32](store.GetVariable(path).MustValue()))
}

func batch(x any) train.Batch {
	return train.Batch{Inputs: []*tensors.Tensor{tensors.MustFromAnyValue(x)}, Labels: []*tensors.Tensor{tensors.FromValue(float32(0))}}
}

// first is the loss of models whose output it is.
func first(_, predictions []*Node) *Node { return predictions[0] }

// The problem is ½·aᵀHa + ½·k·(b-x)²: two variables, so that the norm must be
// over both, and an input, so that micro-steps can differ.
var hessian = [][]float32{{2, -1, 0.5}, {-1, 3, 0}, {0.5, 0, 1}}

func problem(k float64) train.ModelFn {
	return func(scope *model.Scope, _ any, in []*Node) []*Node {
		g := in[0].Graph()
		a, b := scope.GetVariable("a").NodeValue(g), scope.In("deep").GetVariable("b").NodeValue(g)
		return []*Node{MulScalar(Add(
			ReduceAllSum(Mul(a, Dot(Const(g, hessian), a).Product())),
			MulScalar(ReduceAllSum(Square(Sub(b, in[0]))), k)), 0.5)}
	}
}

// gradient of the problem at w = (a0, a1, a2, b).
func gradient(w [4]float64, k, x float64) (g [4]float64) {
	for i := range 3 {
		for j := range 3 {
			g[i] += float64(hessian[i][j]) * w[j]
		}
	}
	g[3] = k * (w[3] - x)
	return g
}

func loss(w [4]float64, k, x float64) float64 {
	g := gradient([4]float64{w[0], w[1], w[2], 0}, 0, 0)
	return (w[0]*g[0]+w[1]*g[1]+w[2]*g[2])/2 + k/2*(w[3]-x)*(w[3]-x)
}

func newStore(w [4]float64) *model.Store {
	store := model.NewStore()
	store.VariableWithValue("/a", []float32{float32(w[0]), float32(w[1]), float32(w[2])})
	store.VariableWithValue("/deep/b", []float32{float32(w[3])})
	return store
}

// Steps of SAM and ASAM against their formulas, alone and with accumulated
// gradients, where each micro-step climbs by itself (m-sharpness).
func TestSAMFollowsItsFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Float64Range(-2, 2)
		s := SAM{Rho: rapid.Float64Range(0.01, 1).Draw(t, "rho"), Adaptive: rapid.Bool().Draw(t, "adaptive")}
		micro := rapid.IntRange(1, 3).Draw(t, "micro-steps")
		const k, rate = 2.0, 0.1
		var w [4]float64
		for i := range w {
			w[i] = float64(float32(number.Draw(t, "w")))
		}
		store := newStore(w)
		fn, lossFn := s.Wrap(problem(k), first)
		clean := func(_ *model.Scope, _, p []*Node) *Node { return CleanLoss(p[0].Graph()) }
		tr := train.NewTrainer(backend, store, fn, lossFn, plainSGD(rate),
			[]metric.Interface{metric.NewBaseMetric("clean", "clean", metric.LossMetricType, clean, nil)}, nil)
		if micro > 1 {
			must(0, tr.AccumulateGradients(micro))
		}
		for range 2 {
			var mean [4]float64
			for range micro {
				x := float64(float32(number.Draw(t, "x")))
				metrics := must(tr.TrainStep(batch([]float32{float32(x)})))
				g := gradient(w, k, x)
				square := 0.0
				for i := range g {
					scaled := g[i]
					if s.Adaptive {
						scaled *= w[i]
					}
					square += scaled * scaled
				}
				if square < 1e-4 {
					t.Skip("at the minimum the direction is rounding")
				}
				at := w
				for i := range g {
					e := s.Rho * g[i] / math.Sqrt(square)
					if s.Adaptive {
						e *= w[i] * w[i]
					}
					at[i] += e
				}
				for i, gi := range gradient(at, k, x) {
					mean[i] += gi / float64(micro)
				}
				for j, want := range map[int]float64{0: loss(at, k, x), 2: loss(w, k, x)} {
					if got := float64(tensors.ToScalar[float32](metrics[j])); !(math.Abs(got-want) <= 1e-4*(1+math.Abs(want))) {
						t.Fatalf("loss %d is %v, want %v", j, got, want)
					}
				}
			}
			for i := range w {
				w[i] -= rate * mean[i]
			}
			got := append(value(store, "/a"), value(store, "/deep/b")...)
			for i := range w {
				if !(math.Abs(float64(got[i])-w[i]) <= 1e-4*(1+math.Abs(w[i]))) {
					t.Fatalf("%+v, %d micro-steps: weights %v, want %v", s, micro, got, w)
				}
				w[i] = float64(got[i])
			}
		}
	})
}

// A network with everything that a second pass could disturb: statistics of
// batch norm, dropout, a regularizer.
func network(scope *model.Scope, _ any, in []*Node) []*Node {
	x := layers.DenseWithBias(scope.In("a"), in[0], 5)
	x = norm.BatchNorm(scope.In("bn"), x, -1).UseBackendInference(false).Done()
	x = layers.Dropout(scope, Tanh(x), Scalar(x.Graph(), x.DType(), 0.4))
	x = layers.DenseWithBias(scope.In("b"), x, 1)
	g := x.Graph()
	train.AddRegularizationLoss(MulScalar(ReduceAllSum(Square(scope.Store().GetVariable("/b/dense/weights").NodeValue(g))), 0.01))
	return []*Node{x}
}

func meanSquare(_, p []*Node) *Node { return ReduceAllMean(Square(AddScalar(p[0], -1))) }

// trained makes steps with a method and returns all variables.
func trained(m Method, steps int) (map[string][]float32, *train.Trainer) {
	store := model.NewStore()
	must(0, store.SetRNGStateFromSeed(4))
	fn, lossFn := train.ModelFn(network), train.LossFn(meanSquare)
	if m != nil {
		fn, lossFn = m.Wrap(fn, lossFn)
	}
	tr := train.NewTrainer(backend, store, fn, lossFn, optimizer.Adam().LearningRate(0.01).Done(), nil, nil)
	for range steps {
		must(tr.TrainStep(batch([][]float32{{1, 2, 3}, {-1, 0, 1}, {2, 2, 0}, {0, -3, 1}})))
	}
	all := map[string][]float32{}
	for v := range store.IterVariables() {
		if strings.HasPrefix(v.Path(), "/metrics/") {
			continue // named at random by GoMLX
		}
		if v.DType() == tensors.FromValue(float32(0)).DType() {
			all[v.Path()] = value(store, v.Path())
		} else if v.Name() == model.RNGStateVariableName {
			for _, word := range must(tensors.CopyFlatData[uint64](v.MustValue()))[:2] { // gobackend leaves the third undefined
				all[v.Path()] = append(all[v.Path()], float32(word%1_000_003))
			}
		}
	}
	return all, tr
}

func TestZeroStrengthIsPlainTraining(t *testing.T) {
	plain, _ := trained(nil, 4)
	for _, m := range []Method{SAM{}, SAM{Adaptive: true}, Noise{}} {
		if got, _ := trained(m, 4); len(got) != len(plain) {
			t.Errorf("%#v has other variables", m)
		} else {
			for path, v := range plain {
				if !slices.Equal(got[path], v) {
					t.Errorf("%#v changes %s", m, path)
				}
			}
		}
	}
}

// After one step, weights aside, a run with SAM is where one without it is:
// statistics and random states moved on once.
func TestSecondPassLeavesNoTrace(t *testing.T) {
	plain, _ := trained(nil, 1)
	sam, tr := trained(SAM{Rho: 0.1}, 1)
	states := 0
	for path, v := range plain {
		trainable := tr.Store().GetVariable(path).Trainable
		if !trainable && (path == "/"+model.RNGStateVariableName || tr.Store().GetVariable(path).Scope() == "/bn/batch_normalization") {
			states++
			if !slices.Equal(sam[path], v) {
				t.Errorf("%s is %v, by plain training %v", path, sam[path], v)
			}
		}
	}
	if states < 3 {
		t.Errorf("%d states were compared, want those of batch norm and the random one", states)
	}
	if slices.Equal(sam["/a/dense/weights"], plain["/a/dense/weights"]) {
		t.Error("SAM changes nothing")
	}
	// Evaluation is that of the model.
	fn, lossFn := SAM{Rho: 0.1}.Wrap(network, meanSquare)
	exec := must(model.NewExec(backend, tr.Store(), func(scope *model.Scope, x *Node) []*Node {
		a, b := fn(scope, nil, []*Node{x}), network(scope.ResetVisited(), nil, []*Node{x})
		return []*Node{a[0], b[0], lossFn(nil, a), meanSquare(nil, b)}
	}))
	out := must(exec.Exec([][]float32{{1, 2, 3}}))
	for _, i := range []int{0, 2} {
		if a, b := must(tensors.CopyFlatData[float32](out[i])), must(tensors.CopyFlatData[float32](out[i+1])); !slices.Equal(a, b) {
			t.Errorf("evaluation gives %v, the model itself %v", a, b)
		}
	}
}

// Both passes see the same dropout mask, and a regularizer counts once.
func TestPassesAreOfOneFunction(t *testing.T) {
	const n, rho, decay = 64, 0.5, 0.3
	store := model.NewStore()
	must(0, store.SetRNGStateFromSeed(4))
	w := make([]float32, n)
	for i := range w {
		w[i] = 1
	}
	store.VariableWithValue("/w", w)
	fn, lossFn := SAM{Rho: rho}.Wrap(func(scope *model.Scope, _ any, in []*Node) []*Node {
		w := scope.GetVariable("w").NodeValue(in[0].Graph())
		train.AddRegularizationLoss(MulScalar(ReduceAllSum(w), decay))
		return []*Node{ReduceAllSum(layers.Dropout(scope, w, Scalar(w.Graph(), w.DType(), 0.5)))}
	}, first)
	tr := train.NewTrainer(backend, store, fn, lossFn, plainSGD(1), nil, nil)
	total := float64(tensors.ToScalar[float32](must(tr.TrainStep(batch([]float32{0})))[0]))
	// L = Σ mᵢwᵢ + decay·Σwᵢ is linear: the gradient is g = m + decay at any w,
	// and the loss at w+e is L(w) + ρ‖g‖, if the mask is the same.
	var square, clean float64
	kept := 0
	for _, after := range value(store, "/w") {
		g := 1 - float64(after)
		square += g * g
		clean += g
		if g > 1 {
			kept++
		}
		if !(math.Abs(g-decay) < 1e-5 || math.Abs(g-2-decay) < 1e-5) {
			t.Fatalf("gradient %v, want %v or %v", g, decay, 2+decay)
		}
	}
	if want := clean + rho*math.Sqrt(square); !(math.Abs(total-want) < 1e-3) || kept == 0 || kept == n {
		t.Errorf("loss at w+e is %v, want %v (%d of %d kept)", total, want, kept, n)
	}
}

// What ASAM is for: with a layer scaled up and the next scaled down the network
// computes the same, and ASAM's worst loss is the same; SAM's is not.
func TestASAMDoesNotSeeScale(t *testing.T) {
	worst := func(s SAM, scale float32) float64 {
		store := model.NewStore()
		store.VariableWithValue("/u", []float32{1 * scale, -2 * scale})
		store.VariableWithValue("/v", []float32{0.5 / scale, 3 / scale})
		fn, lossFn := s.Wrap(func(scope *model.Scope, _ any, in []*Node) []*Node {
			u, v := scope.GetVariable("u").NodeValue(in[0]), scope.GetVariable("v").NodeValue(in[0])
			return []*Node{Square(AddScalar(ReduceAllSum(Mul(u, v)), 2))}
		}, first)
		tr := train.NewTrainer(backend, store, fn, lossFn, plainSGD(0.001), nil, nil)
		return float64(tensors.ToScalar[float32](must(tr.TrainStep(batch([]float32{0})))[0]))
	}
	asam, sam := SAM{Rho: 0.2, Adaptive: true}, SAM{Rho: 0.2}
	if a, b := worst(asam, 1), worst(asam, 8); !(math.Abs(a-b) < 1e-4*a) {
		t.Errorf("ASAM's loss is %v, and %v for the same network scaled", a, b)
	}
	if a, b := worst(sam, 1), worst(sam, 8); !(math.Abs(a-b) > 0.1*a) {
		t.Errorf("SAM's loss is %v, and %v for the same network scaled: is it ASAM's?", a, b)
	}
}

// LPF's noise has the standard deviation γ·‖w_f‖ and grows.
func TestLPF(t *testing.T) {
	cfg := LPF(0.01, 15)
	if err := cfg.Validate(); err == nil {
		t.Error("a growing noise without a number of steps is valid")
	}
	cfg.Schedule.Steps = 100
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	if start, end := cfg.Schedule.At(0), cfg.Schedule.At(100); start != 1 || !(math.Abs(end-15) < 1e-9) {
		t.Errorf("noise grows from %v to %v, want 1 to 15", start, end)
	}
	const d, filters, gamma = 3000, 2, 0.01
	store := model.NewStore()
	w := make([]float32, d*filters)
	for i := range w {
		w[i] = float32(1 + 2*(i%filters)) // filters of ones and of threes
	}
	store.VariableWithValue("/w", tensors.FromFlatDataAndDimensions(w, d, filters))
	fn, _ := Noise(LPF(gamma, 1)).Wrap(func(scope *model.Scope, _ any, in []*Node) []*Node {
		return []*Node{scope.GetVariable("w").NodeValue(in[0])}
	}, first)
	exec := must(model.NewExec(backend, store, func(scope *model.Scope, x *Node) []*Node {
		scope.Store().SetTraining(x.Graph(), true)
		return fn(scope, nil, []*Node{x})
	}))
	var square [filters]float64
	for i, x := range must(tensors.CopyFlatData[float32](must(exec.Exec(float32(0)))[0])) {
		e := float64(x) - float64(w[i])
		square[i%filters] += e * e / d
	}
	for f, got := range square {
		want := gamma * float64(1+2*f) * math.Sqrt(d)
		if !(math.Abs(math.Sqrt(got)-want) < 0.06*want) {
			t.Errorf("filter %d: standard deviation %v, want %v", f, math.Sqrt(got), want)
		}
	}
}

// Anti-PGD on a quadratic: w_(n+1) = w_n - η·∇L(w_n) + ξ_(n+1) - ξ_n, and w - ξ
// is SmoothOut with the same noise.
func TestAntiPGD(t *testing.T) {
	w := [4]float64{1, -1, 0.5, 2}
	const steps = 5
	run := func(cfg smoothout.Config) []float32 {
		store := newStore(w)
		fn, lossFn := Noise(cfg).Wrap(problem(2), first)
		tr := train.NewTrainer(backend, store, fn, lossFn, plainSGD(0.1), nil, nil)
		for range steps {
			must(tr.TrainStep(batch([]float32{0.3})))
		}
		return append(value(store, "/a"), value(store, "/deep/b")...)
	}
	cfg := AntiPGD(0.25)
	anti := run(cfg)
	cfg.Anticorrelated = false
	for i, z := range run(cfg) { // they differ by the last noise, ±sigma
		if d := math.Abs(float64(anti[i] - z)); !(math.Abs(d-0.25) < 1e-5) {
			t.Errorf("weight %d: Anti-PGD at %v, SmoothOut at %v; want them 0.25 apart", i, anti[i], z)
		}
	}
}

// Averages against their formulas: the weights fall by the gradient 1 per step.
func TestAverages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Average{
			Kind:  rapid.SampledFrom([]string{EMA, SWA}).Draw(t, "kind"),
			Start: rapid.SampledFrom([]float64{0, 0.3, 0.75}).Draw(t, "start"),
			Every: rapid.IntRange(0, 3).Draw(t, "every"),
			Steps: rapid.IntRange(1, 12).Draw(t, "steps"),
		}
		if a.Kind == EMA {
			a.Decay = rapid.Float64Range(0.1, 0.99).Draw(t, "decay")
		}
		micro := rapid.IntRange(1, 2).Draw(t, "micro-steps")
		store := model.NewStore()
		store.VariableWithValue("/w", []float32{10, 20})
		store.VariableWithValue("/frozen", []float32{7}).SetTrainable(false)
		fn := func(scope *model.Scope, _ any, in []*Node) []*Node {
			frozen := scope.GetVariable("frozen").NodeValue(in[0])
			return []*Node{Add(ReduceAllSum(scope.GetVariable("w").NodeValue(in[0])), ReduceAllSum(frozen))}
		}
		tr := train.NewTrainer(backend, store, fn, first, a.Wrap(plainSGD(1)), nil, nil)
		if micro > 1 {
			must(0, tr.AccumulateGradients(micro))
		}
		var mean float64
		count := 0
		for n := 1; n <= a.Steps; n++ {
			for range micro {
				must(tr.TrainStep(batch([]float32{0})))
			}
			w := 10 - float64(n)
			since := n - int(math.Ceil(a.Start*float64(a.Steps)))
			if since <= 0 || since%max(1, a.Every) != 0 {
				continue
			}
			switch {
			case count == 0:
				mean = w
			case a.Kind == EMA:
				mean = a.Decay*mean + (1-a.Decay)*w
			default:
				mean += (w - mean) / float64(count+1)
			}
			count++
		}
		last := 10 - float64(a.Steps)
		for _, want := range []float64{mean, last} { // swapping twice undoes it
			there, err := Swap(store)
			if err != nil || there != (count > 0) {
				t.Fatalf("%+v: swapped %v, %v after %d contributions", a, there, err, count)
			}
			if count == 0 {
				want = last
			}
			got := value(store, "/w")
			if !(math.Abs(float64(got[0])-want) < 1e-4) || !(math.Abs(float64(got[1])-want-10) < 1e-4) {
				t.Fatalf("%+v: weights %v, want %v and %v", a, got, want, want+10)
			}
		}
		if value(store, "/frozen")[0] != 7 {
			t.Fatal("a frozen variable changed")
		}
		if err := a.Wrap(plainSGD(1)).Clear(store.RootScope()); err != nil {
			t.Fatal(err)
		}
		if there, _ := Swap(store); there {
			t.Fatal("the average is not cleared")
		}
	})
	if there, err := Swap(model.NewStore()); there || err != nil {
		t.Errorf("swapped %v, %v without an average", there, err)
	}
}

func TestValidation(t *testing.T) {
	for name, err := range map[string]error{
		"negative rho":         SAM{Rho: -1}.Validate(),
		"infinite rho":         SAM{Rho: math.Inf(1)}.Validate(),
		"rho not a number":     SAM{Rho: math.NaN()}.Validate(),
		"unknown kind":         Average{Kind: "mean"}.Validate(),
		"settings alone":       Average{Decay: 0.9}.Validate(),
		"EMA without decay":    Average{Kind: EMA}.Validate(),
		"SWA with decay":       Average{Kind: SWA, Decay: 0.9}.Validate(),
		"start without steps":  Average{Kind: SWA, Start: 0.5}.Validate(),
		"start after the end":  Average{Kind: SWA, Start: 1, Steps: 5}.Validate(),
		"negative every":       Average{Kind: SWA, Every: -1}.Validate(),
		"decay not a number":   Average{Kind: EMA, Decay: math.NaN()}.Validate(),
		"an average that ends": Average{Kind: EMA, Decay: 1}.Validate(),
	} {
		if !errors.Is(err, ErrMethod) {
			t.Errorf("%s: error %v, want ErrMethod", name, err)
		}
	}
	for _, err := range []error{
		SAM{}.Validate(), SAM{Rho: 0.05, Adaptive: true}.Validate(), Average{}.Validate(), Average{Steps: 3}.Validate(),
		Average{Kind: EMA, Decay: 0.999}.Validate(), Average{Kind: SWA, Start: 0.75, Every: 10, Steps: 100}.Validate(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	// Who did not validate learns it from the step.
	fn, lossFn := SAM{Rho: -1}.Wrap(network, meanSquare)
	if _, err := train.NewTrainer(backend, model.NewStore(), fn, lossFn, plainSGD(1), nil, nil).TrainStep(batch([][]float32{{1, 2, 3}, {0, 1, 0}})); !errors.Is(err, ErrMethod) {
		t.Errorf("step gave %v", err)
	}
}
