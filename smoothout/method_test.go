package smoothout

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"pgregory.net/rapid"
)

// noiser returns the noise that training adds to a variable of the given value.
func noiser(cfg Config, w []float32, dims ...int) (at func(microStep int64) []float32) {
	if dims == nil {
		dims = []int{len(w)}
	}
	store := model.NewStore()
	v := store.VariableWithValue("/w", tensors.FromFlatDataAndDimensions(slices.Clone(w), dims...))
	exec := must(model.NewExec(backend, store, func(_ *model.Scope, number *Node) *Node {
		return cfg.training(number.Graph(), number, []noisyParam{{Param{v, Weight}, 1}})[0]
	}))
	return func(microStep int64) []float32 {
		return must(tensors.CopyFlatData[float32](must(exec.Call1(microStep))))
	}
}

// What runs on record were trained with must come out again: these are the
// numbers of the first release.
func TestNoiseStays(t *testing.T) {
	_, e := newProblem(make([]float32, 5), halfSquare).gradient(Config{Strength: 0.3, Seed: 11})
	if want := []float32{-0.076992296, -0.018217243, 0.2139826, 0.075251095, 0.10021485}; !slices.Equal(e, want) {
		t.Errorf("uniform noise %v, want %v", e, want)
	}
	_, g := newProblem([]float32{1, 2, 3, 4, 5, 6}, halfSquare, 3, 2).gradient(Config{Strength: 0.3, Adapt: Filter, Seed: 11})
	if want := []float32{0.45014197, 1.7309035, 4.528206, 5.111573, 5.7157073, 7.9318314}; !slices.Equal(g, want) {
		t.Errorf("weights with filter noise %v, want %v", g, want)
	}
}

func TestErfInv(t *testing.T) {
	var x []float32
	for i := range 4000 {
		x = append(x, float32(i-2000)/2000.5)
	}
	for e := 3; e <= 24; e++ { // to the ends of what a uniform number can be
		x = append(x, float32(1-math.Ldexp(1, -e)), float32(math.Ldexp(1, -e)-1))
	}
	exec := must(NewExec(backend, erfInv))
	for i, got := range must(tensors.CopyFlatData[float32](must(exec.Call1(x)))) {
		want := math.Erfinv(float64(x[i]))
		if !(math.Abs(float64(got)-want) <= 1e-4*math.Abs(want)) {
			t.Errorf("erfInv(%v) = %v, want %v", x[i], got, want)
		}
	}
}

// Uniform numbers of float64 come closer to 1 than those of float32, which normal
// numbers are made for.
func TestNormalIsFinite(t *testing.T) {
	exec := must(NewExec(backend, normal))
	u := []float64{0, 0.25, 0.5, 1 - math.Ldexp(1, -24), 1 - math.Ldexp(1, -25), 1 - math.Ldexp(1, -26), 1 - math.Ldexp(1, -53)}
	got := must(tensors.CopyFlatData[float64](must(exec.Call1(u))))
	for i, x := range got {
		if !(math.Abs(x) < 5.5) || i > 0 && x < got[i-1] {
			t.Errorf("the quantile of %v is %v after %v", u[i], x, got)
		}
	}
	if got[len(got)-1] < 5 || math.Abs(got[2]) > 1e-6 {
		t.Errorf("%v", got)
	}
}

// The laws, by their moments and by the fraction below some points.
func TestLaws(t *testing.T) {
	const n = 60000
	for _, law := range []struct {
		Noise
		below      []float64 // points
		fraction   []float64 // of the noise below them
		fourth     float64   // moment
		outermost  float64
		unimodular bool
	}{
		{Uniform, []float64{-0.5, 0, 0.8}, []float64{0.25, 0.5, 0.9}, 1. / 5, 1, false},
		{Normal, []float64{-1.959964, -0.674490, 0, 1, 2.326348}, []float64{0.025, 0.25, 0.5, 0.841345, 0.99}, 3, 6, false},
		{Rademacher, []float64{0}, []float64{0.5}, 1, 1, true},
	} {
		e := noiser(Config{Strength: 1, Noise: law.Noise, Seed: 5}, make([]float32, n))(3)
		var mean, variance, fourth float64
		below := make([]float64, len(law.below))
		for _, x := range e {
			x := float64(x)
			mean += x / n
			variance += x * x / n
			fourth += x * x * x * x / n
			for i, b := range law.below {
				if x < b {
					below[i] += 1. / n
				}
			}
			if !(math.Abs(x) <= law.outermost) || law.unimodular && math.Abs(x) != 1 {
				t.Fatalf("%s noise %v", law.Noise, x)
			}
		}
		want := law.variance()
		if se := math.Sqrt(want / n); !(math.Abs(mean) < 5*se) {
			t.Errorf("%s: mean %v", law.Noise, mean)
		}
		if !(math.Abs(variance-want) < 0.03*want) || !(math.Abs(fourth-law.fourth) < 0.06*law.fourth) {
			t.Errorf("%s: second and fourth moments %v and %v, want %v and %v", law.Noise, variance, fourth, want, law.fourth)
		}
		for i, f := range law.fraction {
			if !(math.Abs(below[i]-f) < 5*math.Sqrt(f*(1-f)/n)) {
				t.Errorf("%s: %v below %v, want %v", law.Noise, below[i], law.below[i], f)
			}
		}
	}
}

// Each way of measuring, against its formula: the raw noise does not depend on
// it, so Adapt None shows it.
func TestAdapts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dims := rapid.SampledFrom([][]int{{}, {6}, {5, 3}, {3, 2, 2, 4}}).Draw(t, "shape")
		size := shapes.Make(dtypes.Float32, dims...).Size()
		w := rapid.SliceOfN(rapid.Float32Range(-2, 2), size, size).Draw(t, "w")
		cfg := Config{
			Strength: rapid.Float64Range(0.01, 2).Draw(t, "strength"),
			Noise:    rapid.SampledFrom([]Noise{Uniform, Normal, Rademacher}).Draw(t, "law"),
			Adapt:    rapid.SampledFrom([]Adapt{None, Weights, Filter, Layer, FilterNorm}).Draw(t, "adapt"),
		}
		plain := cfg
		plain.Adapt, plain.Strength = None, 1
		at := rapid.Int64Range(0, 1000).Draw(t, "micro-step")
		e, u := noiser(cfg, w, dims...)(at), noiser(plain, w, dims...)(at)

		filters := 1 // filter of element i: i % filters, the last axis varying fastest
		if len(dims) > 0 {
			filters = dims[len(dims)-1]
		}
		normW, normU := make([]float64, filters), make([]float64, filters)
		var allW, allU float64
		for i := range w {
			x, y := float64(w[i])*float64(w[i]), float64(u[i])*float64(u[i])
			normW[i%filters] += x
			normU[i%filters] += y
			allW, allU = allW+x, allU+y
		}
		for i := range w {
			f := i % filters
			want := cfg.Strength * float64(u[i])
			switch cfg.Adapt {
			case Weights:
				want *= math.Abs(float64(w[i]))
			case Filter:
				want *= math.Sqrt(normW[f]) / (math.Sqrt(normU[f]) + 1e-6)
			case Layer:
				want *= math.Sqrt(allW) / (math.Sqrt(allU) + 1e-6)
			case FilterNorm:
				if len(dims) <= 1 {
					want *= math.Sqrt(allW)
				} else {
					want *= math.Sqrt(normW[f])
				}
			}
			if !(math.Abs(float64(e[i])-want) <= 1e-5*(math.Abs(want)+1e-3)) {
				t.Fatalf("%+v: noise of element %d of %v is %v, want %v (u %v)", cfg, i, dims, e[i], want, u[i])
			}
		}
	})
}

// Equal units, equal loss rise: on ½Σw² the rise is Var/2 for each weight, and
// E L(w+e) - L(w) = s²/2 · Σ_f ‖w_f‖²/d_f · tr H_ff for noise per filter.
func TestUnits(t *testing.T) {
	const d, filters, draws = 400, 3, 60
	w := make([]float32, d*filters)
	var square float64
	for i := range w {
		w[i] = float32(i%7)/3 - 1
		square += float64(w[i]) * float64(w[i])
	}
	rise := func(cfg Config) float64 {
		p := newProblem(w, halfSquare, d, filters)
		exec := p.evaluator(cfg)
		at := func(factor float32, draw int64) float64 {
			return float64(tensors.ToScalar[float32](must(exec.Call1(float32(0), factor, draw))))
		}
		clean, sum := at(0, 0), 0.0
		for i := range int64(draws) {
			sum += (at(1, i)+at(-1, i))/2 - clean // the pair cancels the odd orders
		}
		return sum / draws
	}
	const a, s, gamma = 0.3, 0.4, 0.02
	for name, c := range map[string]struct {
		cfg  Config
		want float64
	}{
		"uniform":     {Config{Strength: a}, a * a / 6 * d * filters},
		"normal":      {Config{Strength: GaussianSigma(a), Noise: Normal}, a * a / 6 * d * filters},
		"from normal": {Config{Strength: FromGaussian(GaussianSigma(a))}, a * a / 6 * d * filters},
		"rademacher":  {Config{Strength: GaussianSigma(a), Noise: Rademacher}, a * a / 6 * d * filters},
		"filter":      {Config{Strength: s, Adapt: Filter}, s * s / 2 * square},
		"flat-lora":   {Config{Strength: FromFlatLoRA(s), Adapt: Filter, Noise: Normal}, s * s / 2 * square},
		"layer":       {Config{Strength: s, Adapt: Layer}, s * s / 2 * square},
		"weight":      {Config{Strength: s, Adapt: Weights}, s * s / 6 * square},
		"lpf":         {Config{Strength: gamma, Adapt: FilterNorm, Noise: Normal}, gamma * gamma * d / 2 * square},
		"lpf as s":    {Config{Strength: FromLPF(gamma, d), Adapt: Filter}, gamma * gamma * d / 2 * square},
	} {
		if got := rise(c.cfg); !(math.Abs(got-c.want) < 0.02*c.want) {
			t.Errorf("%s: loss rises by %v, want %v", name, got, c.want)
		}
	}
	if got := FromLPF(0.0075, 3*3*512); !(math.Abs(got-0.51) < 0.005) {
		t.Errorf("gamma 0.0075 on 4608 weights is s = %v, want 0.51", got)
	}
}

func TestSchedules(t *testing.T) {
	cosine := Schedule{Kind: CosineRise, Factor: 15, Steps: 100}
	for _, c := range []struct {
		schedule Schedule
		step     int
		want     float64
	}{
		{Schedule{}, 7, 1},
		{Schedule{Kind: Anneal}, 0, 1},
		{Schedule{Kind: Anneal}, 9, math.Pow(10, -0.275)},
		{Schedule{Kind: TanhRise, Steps: 100}, 50, 0.5},
		{Schedule{Kind: TanhRise, Steps: 100}, 0, (math.Tanh(-5) + 1) / 2},
		{Schedule{Kind: TanhRise, Steps: 100}, 75, (math.Tanh(2.5) + 1) / 2},
		{cosine, 0, 1},
		{cosine, 50, 8},
		{cosine, 100, 15},
		{Schedule{Delay: 0.25, Steps: 100}, 24, 0},
		{Schedule{Delay: 0.25, Steps: 100}, 25, 1},
		{Schedule{Kind: CosineRise, Factor: 3, Delay: 0.5, Steps: 100}, 49, 0},
		{Schedule{Kind: CosineRise, Factor: 3, Delay: 0.5, Steps: 100}, 75, 2},
	} {
		if got := c.schedule.At(c.step); !(math.Abs(got-c.want) < 1e-12) {
			t.Errorf("%+v at step %d: %v, want %v", c.schedule, c.step, got, c.want)
		}
	}
	// The graph computes the same, for each micro-step of an optimizer step.
	rapid.Check(t, func(t *rapid.T) {
		s := Schedule{
			Kind:       rapid.SampledFrom([]Kind{"", Constant, Anneal, TanhRise, CosineRise}).Draw(t, "kind"),
			Delay:      rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(t, "delay"),
			Steps:      rapid.IntRange(1, 5000).Draw(t, "steps"),
			MicroSteps: rapid.IntRange(0, 32).Draw(t, "micro-steps"),
		}
		if s.Kind == CosineRise {
			s.Factor = rapid.Float64Range(0.1, 30).Draw(t, "factor")
		}
		if err := s.validate(); err != nil {
			t.Fatal(err)
		}
		exec := must(NewExec(backend, s.coefficient))
		defer exec.Finalize()
		for range 10 {
			k := rapid.Int64Range(0, int64(s.Steps*max(1, s.MicroSteps)-1)).Draw(t, "k")
			want := s.At(int(k) / max(1, s.MicroSteps))
			if got := tensors.ToScalar[float32](must(exec.Call1(k))); !(math.Abs(float64(got)-want) <= 2e-5*(1+want)) {
				t.Fatalf("%+v at micro-step %d: %v, want %v", s, k, got, want)
			}
		}
	})
}

// The schedule scales the noise and leaves its address alone, in one compiled
// graph; where it is off, training is plain.
// Tables and tuning speak of noise at its strongest.
func TestMaxOfSchedules(t *testing.T) {
	for _, s := range []Schedule{{}, {Kind: Anneal}, {Kind: TanhRise}, {Kind: CosineRise, Factor: 15}, {Kind: CosineRise, Factor: 0.5}, {Delay: 0.3}} {
		s.Steps = 1000
		most := 0.0
		for step := range s.Steps {
			most = max(most, s.At(step))
		}
		if !(math.Abs(most-s.Max()) < 1e-3) {
			t.Errorf("%+v reaches %v, Max is %v", s, most, s.Max())
		}
	}
	w := []float64{1, -1, 1, -1}
	row := Row{Shape: []int{4}}
	rising := Config{Strength: 0.1, Noise: Rademacher, Schedule: Schedule{Kind: CosineRise, Factor: 15}}
	if rising.measure(&row, w, 1); !(math.Abs(row.Noise-1.5) < 1e-9) {
		t.Errorf("noise of %v times the weights, want 1.5", row.Noise)
	}
}

func TestScheduledNoise(t *testing.T) {
	w := []float32{1, -2, 3, 4}
	s := Schedule{Kind: CosineRise, Factor: 4, Delay: 0.5, Steps: 10, MicroSteps: 2}
	scheduled, constant := noiser(Config{Strength: 0.1, Schedule: s}, w), noiser(Config{Strength: 0.1}, w)
	for k := range int64(20) {
		e, full := scheduled(k), constant(k)
		for i := range e {
			if want := s.At(int(k)/2) * float64(full[i]); !(math.Abs(float64(e[i])-want) <= 1e-6) {
				t.Fatalf("noise %v at micro-step %d, want %v", e[i], k, want)
			}
		}
	}
	// Evaluation has no steps, and so no schedule.
	unscheduled := newProblem(w, halfSquare).evaluator(Config{Strength: 0.1, Schedule: Schedule{Kind: CosineRise, Factor: 4}})
	plain := newProblem(w, halfSquare).evaluator(Config{Strength: 0.1})
	a, b := must(unscheduled.Call1(float32(0), float32(1), int64(2))), must(plain.Call1(float32(0), float32(1), int64(2)))
	if a, b := tensors.ToScalar[float32](a), tensors.ToScalar[float32](b); a != b {
		t.Errorf("loss %v under noise with a schedule, %v without", a, b)
	}
	// From the stored counter: a resumed run goes on where it was.
	p := newProblem(w, halfSquare)
	p.store.VariableWithValue(StepVariable, int64(13)).SetTrainable(false)
	if _, grad := p.gradient(Config{Strength: 0.1, Schedule: s}); !slices.Equal(sub(grad, w), sub(add(w, scheduled(13)), w)) {
		t.Error("a resumed schedule starts anew")
	}
}

func add(a, b []float32) []float32 {
	out := make([]float32, len(a))
	for i := range a {
		out[i] = a[i] + b[i]
	}
	return out
}

func sub(a, b []float32) []float32 {
	out := make([]float32, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}

// Pairs of micro-steps are mirror images, so on a quadratic their mean gradient
// is exactly that at w; pairs differ.
func TestAntithetic(t *testing.T) {
	for _, cfg := range []Config{
		{Strength: 0.5, Antithetic: true},
		{Strength: 0.5, Antithetic: true, Noise: Normal, Adapt: Filter, Schedule: Schedule{Kind: Anneal, MicroSteps: 2}},
	} {
		w := []float32{1, 2, 3}
		at := noiser(cfg, w)
		for k := int64(0); k < 8; k += 2 {
			plus, minus := at(k), at(k+1)
			if !slices.Equal(add(plus, minus), make([]float32, 3)) || slices.Equal(plus, minus) {
				t.Errorf("%+v: noise %v, then %v", cfg, plus, minus)
			}
			if slices.Equal(plus, at(k+2)) {
				t.Errorf("%+v: pairs share their noise", cfg)
			}
		}
	}
}

// Without de-noising the noise adds up in the stored weights; anticorrelated
// noise leaves only the last one there.
func TestNoiseThatStays(t *testing.T) {
	w := []float32{1, 2, 3, 4, 5}
	const steps, rate = 6, 0.125
	// L = ½Σw² + Σ sin w, whose gradient is not linear.
	loss := func(w *Node) *Node { return Add(halfSquare(w), ReduceAllSum(Sin(w))) }
	gradient := func(x float64) float64 { return x + math.Cos(x) }
	after := func(cfg Config) []float32 {
		p := newProblem(w, loss)
		tr := p.trainer(cfg, plainSGD(rate))
		for range steps {
			step(tr)
		}
		return value(p.store, "/w")
	}
	e := noiser(Config{Strength: 0.3}, w)
	near := func(a, b float64) bool { return math.Abs(a-b) <= 2e-6*(1+math.Abs(b)) }

	kept := after(Config{Strength: 0.3, KeepNoise: true})
	anti := after(Config{Strength: 0.3, Anticorrelated: true})
	clean := after(Config{Strength: 0.3})
	for i := range w {
		noisy, z, previous := float64(w[i]), float64(w[i]), 0.0
		pgd := float64(w[i])
		for k := range int64(steps) {
			x := float64(e(k)[i])
			noisy += x // p += n, and never p -= n
			noisy -= rate * gradient(noisy)
			z -= rate * gradient(z+x)
			pgd += x - previous // w + ξ_k - ξ_(k-1)
			pgd -= rate * gradient(pgd)
			previous = x
		}
		if !near(float64(kept[i]), noisy) {
			t.Errorf("noisy SGD ends at %v, want %v", kept[i], noisy)
		}
		if !near(float64(anti[i]), pgd) {
			t.Errorf("Anti-PGD ends at %v, want %v", anti[i], pgd)
		}
		if !near(float64(clean[i]), z) {
			t.Errorf("SmoothOut ends at %v, want %v", clean[i], z)
		}
		if !near(float64(anti[i])-previous, z) {
			t.Errorf("Anti-PGD less its last noise is %v, SmoothOut is at %v", float64(anti[i])-previous, z)
		}
	}
	for _, adapt := range []Adapt{Weights, Filter} {
		if err := (Config{Anticorrelated: true, Adapt: adapt}).Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("anticorrelated noise with adapt %q: %v", adapt, err)
		}
	}
}

// Half-precision weights: noise is drawn and scaled in float32.
func TestHalfPrecision(t *testing.T) {
	w := make([]bfloat16.BFloat16, 64)
	for i := range w {
		w[i] = bfloat16.FromFloat32(float32(i%5) - 2)
	}
	store := model.NewStore()
	v := store.VariableWithValue("/w", tensors.FromFlatDataAndDimensions(w, 16, 4))
	exec := must(model.NewExec(backend, store, func(_ *model.Scope, number *Node) []*Node {
		e := Config{Strength: 0.01, Adapt: Filter}.training(number.Graph(), number, []noisyParam{{Param{v, Weight}, 1}})[0]
		if e.DType() != dtypes.BFloat16 {
			panic(fmt.Errorf("noise of type %s", e.DType()))
		}
		w := ConvertDType(v.NodeValue(number), dtypes.Float32)
		return []*Node{filterNorm(ConvertDType(e, dtypes.Float32)), filterNorm(w)}
	}))
	out := must(exec.Exec(int64(0)))
	e, n := must(tensors.CopyFlatData[float32](out[0])), must(tensors.CopyFlatData[float32](out[1]))
	for i := range e {
		if ratio := e[i] / n[i]; !(math.Abs(float64(ratio)-0.01) < 1e-4) {
			t.Errorf("noise of filter %d is %v of its norm, want 0.01", i, ratio)
		}
	}
}

func TestRules(t *testing.T) {
	store := model.NewStore()
	params := map[string]Param{}
	for path, role := range map[string]Role{"/embed/weights": Weight, "/a/weights": Weight, "/a/biases": Bias, "/bn/scale": BatchNorm} {
		params[path] = Param{store.VariableWithValue(path, []float32{1}), role}
	}
	for name, c := range map[string]struct {
		rules []Rule
		want  map[string]float64 // 0 where absent
	}{
		"default":         {nil, map[string]float64{"/embed/weights": 1, "/a/weights": 1, "/a/biases": 1}},
		"batch norm too":  {[]Rule{{Role: BatchNorm, Factor: 1}}, map[string]float64{"/embed/weights": 1, "/a/weights": 1, "/a/biases": 1, "/bn/scale": 1}},
		"no biases":       {[]Rule{{Role: Bias}}, map[string]float64{"/embed/weights": 1, "/a/weights": 1}},
		"a factor":        {[]Rule{{Path: "^/embed", Factor: 0.5}}, map[string]float64{"/embed/weights": 0.5, "/a/weights": 1, "/a/biases": 1}},
		"only":            {[]Rule{{}, {Path: "^/a/", Factor: 2}}, map[string]float64{"/a/weights": 2, "/a/biases": 2}},
		"the last counts": {[]Rule{{Path: "^/a/", Factor: 2}, {Path: "^/a/", Role: Bias}}, map[string]float64{"/embed/weights": 1, "/a/weights": 2}},
	} {
		for path, p := range params {
			got, why := Config{Rules: c.rules}.factor(p)
			if got != c.want[path] || (got == 0) != (why != "") {
				t.Errorf("%s: factor of %s is %v (%q), want %v", name, path, got, why, c.want[path])
			}
		}
	}
	for name, r := range map[string]Rule{
		"pattern": {Path: "("}, "role": {Role: "kernel"}, "negative": {Factor: -1}, "not a number": {Factor: math.NaN()},
	} {
		if err := (Config{Rules: []Rule{{}, r}}).Validate(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "rule 2") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	// A factor scales the noise and nothing else.
	full, half := newProblem(make([]float32, 9), halfSquare), newProblem(make([]float32, 9), halfSquare)
	_, e := full.gradient(Config{Strength: 0.5})
	if _, h := half.gradient(Config{Strength: 0.5, Rules: []Rule{{Factor: 0.5}}}); !slices.Equal(add(h, h), e) {
		t.Errorf("noise at half strength %v, at full %v", h, e)
	}
}

func TestDescribe(t *testing.T) {
	fn := func(scope *model.Scope, _ any, in []*Node) []*Node {
		x := layers.DenseWithBias(scope.In("a"), in[0], 3)
		x = norm.BatchNorm(scope.In("bn"), x, -1).UseBackendInference(false).Done()
		return []*Node{layers.DenseWithBias(scope.In("b"), x, 2)}
	}
	cfg := Config{Strength: 0.25, Adapt: Filter, Rules: []Rule{{Path: "^/b/", Role: Bias}}}
	store := model.NewStore()
	table := must(Describe(cfg, backend, store, fn, shapes.Make(dtypes.Float32, 8, 40)))
	var text bytes.Buffer
	n := must(table.WriteTo(&text))
	if int(n) != text.Len() {
		t.Errorf("%d bytes written, %d reported", text.Len(), n)
	}
	want := map[string]struct {
		filters int
		noise   float64
		why     string
	}{
		"/a/dense/weights":              {3, 0.25, ""},
		"/a/dense/biases":               {3, 0, ""}, // zero: noise in proportion is zero
		"/bn/batch_normalization/scale": {3, 0, "batch norm"}, "/bn/batch_normalization/offset": {3, 0, "batch norm"},
		"/b/dense/weights": {2, 0.25, ""},
		"/b/dense/biases":  {2, 0, "rule 1"},
	}
	if len(table) != len(want) {
		t.Errorf("table of %d rows:\n%s", len(table), &text)
	}
	for _, r := range table {
		w, ok := want[r.Path]
		if !ok || r.Filters != w.filters || !(math.Abs(r.Noise-w.noise) < 1e-9) && w.why == "" || r.Why != w.why {
			t.Errorf("row %+v, want %+v", r, w)
		}
		if !strings.Contains(text.String(), r.Path) || r.Why != "" && !strings.Contains(text.String(), "none: "+r.Why) {
			t.Errorf("printed table lacks %s:\n%s", r.Path, &text)
		}
	}

	// What the table says is what the noise is.
	weights := value(store, "/a/dense/weights")
	for _, adapt := range []Adapt{None, Weights, Filter, Layer, FilterNorm} {
		for _, law := range []Noise{Uniform, Normal} {
			cfg := Config{Strength: 0.02, Adapt: adapt, Noise: law}
			row := must(Describe(cfg, backend, store, fn, shapes.Make(dtypes.Float32, 8, 40)))[0]
			var noise, signal float64
			at := noiser(cfg, weights, 40, 3)
			const draws = 40
			for k := range int64(draws) {
				for _, x := range at(k) {
					noise += float64(x) * float64(x) / draws
				}
			}
			for _, x := range weights {
				signal += float64(x) * float64(x)
			}
			if ratio := math.Sqrt(noise / signal); !(math.Abs(ratio-row.Noise) < 0.05*row.Noise) {
				t.Errorf("%s, %s: noise is %v of the weights, the table says %v", adapt, law, ratio, row.Noise)
			}
		}
	}
	if _, err := Describe(Config{Strength: -1}, backend, store, fn, shapes.Make(dtypes.Float32, 8, 40)); !errors.Is(err, ErrConfig) {
		t.Errorf("error %v", err)
	}
	if _, err := Describe(cfg, backend, store, fn, shapes.Make(dtypes.Float32, 8, 41)); err == nil {
		t.Error("no error for inputs that do not fit the model")
	}
}

func TestTune(t *testing.T) {
	for _, start := range []float64{1e-6, 0.1, 300, 5e3} {
		for _, target := range []float64{0.001, 0.1, 2} {
			calls := 0
			got, err := Tune(func(s float64) (float64, error) { // as on a bowl
				calls++
				if s > 1e3 {
					return math.NaN(), nil // counts as too large
				}
				return 3 * s * s, nil
			}, target, start)
			want := math.Sqrt(target / 3)
			if err != nil || !(math.Abs(got.Strength-want) < 0.011*want) || got.Gap != 3*got.Strength*got.Strength || got.Evaluations != calls {
				t.Errorf("target %v from %v: %+v after %d calls, %v; want strength %v", target, start, got, calls, err, want)
			}
		}
	}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		gap    func(float64) (float64, error)
		target float64
		want   error
	}{
		"flat":       {func(float64) (float64, error) { return 0, nil }, 0.1, ErrTune},
		"steep":      {func(float64) (float64, error) { return 1, nil }, 0.1, ErrTune},
		"broken":     {func(float64) (float64, error) { return 0, broken }, 0.1, broken},
		"bad target": {func(s float64) (float64, error) { return s, nil }, math.NaN(), ErrTune},
	} {
		if _, err := Tune(c.gap, c.target, 1); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
