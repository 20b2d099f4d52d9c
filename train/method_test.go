package train

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	gomlx "github.com/gomlx/gomlx/ml/train"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/openpith/evidence/rivals"
	"github.com/openpith/evidence/smoothout"
)

// Every method by name: it says its name, survives JSON, does something, and at
// strength 0 is plain training, bit for bit.
func TestMethods(t *testing.T) {
	base := recipe
	base.Epochs, base.Milestones, base.SmoothOut = 1, nil, smoothout.Config{}
	plain := mustRun(t, base, Options{})
	digests := map[string]string{plain.Weights: "sgd"}
	for _, m := range Methods() {
		if m.Strength == "" {
			continue
		}
		r, err := recipe.WithMethod(m.Name, m.Default) // from another method
		if err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		r.Epochs, r.Milestones = 1, nil
		if r.Method() != m.Name {
			t.Errorf("%s calls itself %s", m.Name, r.Method())
		}
		var back Recipe
		if b, err := json.Marshal(r); err != nil || json.Unmarshal(b, &back) != nil || !cmp.Equal(r, back) {
			t.Errorf("%s does not survive JSON: %s, %v", m.Name, b, err)
		}
		out := mustRun(t, r, Options{})
		if other, there := digests[out.Weights]; there {
			t.Errorf("%s ends where %s does", m.Name, other)
		}
		digests[out.Weights] = m.Name
		zero, err := recipe.WithMethod(m.Name, 0)
		if err != nil {
			t.Fatalf("%s at strength 0: %v", m.Name, err)
		}
		zero.Epochs, zero.Milestones = 1, nil
		if out := mustRun(t, zero, Options{}); out.Weights != plain.Weights || zero.Method() != "sgd" {
			t.Errorf("%s at strength 0 is not plain training", m.Name)
		}
	}
	sam, _ := recipe.WithMethod("sam", 0.05)
	// SAM knows the loss at unperturbed weights, the lower one, in every step.
	steps := 0
	for _, r := range []Recipe{sam, recipe} {
		mustRun(t, r, Options{Progress: func(p Progress) {
			if p.Done != nil {
				return
			}
			if steps++; (p.Unperturbed != nil) != (r.SAM.Rho > 0) || p.Unperturbed != nil && !(*p.Unperturbed < p.Loss && *p.Unperturbed > 0) {
				t.Fatalf("%s, step %d: loss %v, unperturbed %v", r.Method(), p.Step, p.Loss, p.Unperturbed)
			}
		}})
	}
	if steps != 2*3*6 {
		t.Errorf("%d steps", steps)
	}
	// Noise that no name stands for is called what it is.
	for want, change := range map[string]func(*Recipe){
		"smoothout, adapt layer":       func(r *Recipe) { r.SmoothOut.Adapt = smoothout.Layer },
		"smoothout, adapt weight":      func(r *Recipe) { r.SmoothOut.Adapt = smoothout.Weights },
		"smoothout, adapt filter-norm": func(r *Recipe) { r.SmoothOut.Adapt = smoothout.FilterNorm },
		"smoothout, normal":            func(r *Recipe) { r.SmoothOut.Adapt, r.SmoothOut.Noise = smoothout.None, smoothout.Normal },
		"adasmoothout":                 func(r *Recipe) { r.SmoothOut.Seed, r.SmoothOut.Noise = 9, "" },
		"adasmoothout, rademacher":     func(r *Recipe) { r.SmoothOut.Noise = smoothout.Rademacher },
		"adasmoothout, antithetic":     func(r *Recipe) { r.SmoothOut.Antithetic = true },
		"adasmoothout, tanh from 0.5":  func(r *Recipe) { r.SmoothOut.Schedule = smoothout.Schedule{Kind: smoothout.TanhRise, Delay: 0.5} },
		"noisy-sgd, adapt filter":      func(r *Recipe) { r.SmoothOut.KeepNoise = true },
		"lpf-sgd, constant":            func(r *Recipe) { r.SmoothOut = rivals.LPF(0.1, 1) },
		"lpf-sgd, cosine x20":          func(r *Recipe) { r.SmoothOut = rivals.LPF(0.1, 20) },
		"lpf-sgd":                      func(r *Recipe) { r.SmoothOut = rivals.LPF(0.1, 15) },
		"lpf-sgd, rules":               func(r *Recipe) { r.SmoothOut = rivals.LPF(0.1, 15); r.SmoothOut.Rules = nil },
		"smoothout, varied": func(r *Recipe) {
			r.SmoothOut.Adapt, r.SmoothOut.Noise, r.SmoothOut.Antithetic = smoothout.Layer, smoothout.Rademacher, true
		},
	} {
		r, err := recipe.WithMethod("adasmoothout", 0.1)
		if err != nil {
			t.Fatal(err)
		}
		if change(&r); r.Method() != want || len(want) > 40 {
			t.Errorf("%+v is called %q, want %q", r.SmoothOut, r.Method(), want)
		}
	}
	if r, err := sam.WithMethod("lpf-sgd", 0.01); err != nil || r.Method() != "lpf-sgd" {
		t.Errorf("lpf-sgd after sam is %s, %v", r.Method(), err)
	}
	for name, strength := range map[string]float64{"sgdd": 0.1, "sgd": 0.1, "sam": -1, "smoothout": math.NaN()} {
		if _, err := recipe.WithMethod(name, strength); !errors.Is(err, ErrRecipe) {
			t.Errorf("method %s at %v: error %v", name, strength, err)
		}
	}
}

func TestStrengthAt(t *testing.T) {
	lpf, _ := recipe.WithMethod("lpf-sgd", 0.01)
	sam, _ := recipe.WithMethod("sam", 0.05)
	for _, c := range []struct {
		r    Recipe
		step int
		want float64
	}{{lpf, 0, 0.01}, {lpf, 50, 0.08}, {lpf, 100, 0.15}, {sam, 7, 0.05}, {recipe, 7, 0.05}, {Recipe{Batch: 1}, 0, 0}} {
		if got := c.r.StrengthAt(c.step, 100); !(math.Abs(got-c.want) < 1e-12) {
			t.Errorf("%s: strength %v at step %d of 100, want %v", c.r.Method(), got, c.step, c.want)
		}
	}
}

// A delay of half the run is half its optimizer steps, however many micro-steps
// they have: until then it is plain training.
func TestSchedulesCountOptimizerSteps(t *testing.T) {
	losses := func(change func(*Recipe)) (all []float64) {
		r := recipe // 6 steps per epoch, 4 ghost batches each
		r.Epochs, r.Milestones = 1, nil
		change(&r)
		mustRun(t, r, Options{Progress: func(p Progress) {
			if p.Done == nil {
				all = append(all, p.Loss)
			}
		}})
		return all
	}
	plain := losses(func(r *Recipe) { r.SmoothOut = smoothout.Config{} })
	delayed := losses(func(r *Recipe) { r.SmoothOut.Schedule.Delay = 0.5 })
	for i := range plain {
		if same := plain[i] == delayed[i]; same != (i < 3) {
			t.Errorf("step %d: loss %v, without noise %v", i, delayed[i], plain[i])
		}
	}
}

// variants use everything that has a state of its own.
func variants() map[string]Recipe {
	v := map[string]Recipe{}
	add := func(name string, change func(*Recipe)) {
		r := recipe
		change(&r)
		v[name] = r
	}
	add("sam", func(r *Recipe) { r.SmoothOut = smoothout.Config{}; r.SAM.Rho = 0.1 })
	add("adam, ema", func(r *Recipe) {
		r.Optimizer, r.LearningRate = "adam", 0.01
		r.Average = rivals.Average{Kind: rivals.EMA, Decay: 0.8}
	})
	add("nesterov, swa", func(r *Recipe) { r.Optimizer = "nesterov"; r.Average = rivals.Average{Kind: rivals.SWA, Start: 0.4} })
	add("adamw, copies", func(r *Recipe) {
		r.Optimizer, r.LearningRate = "adamw", 0.01
		r.Copies, r.SmoothOut.Antithetic = 2, true
	})
	add("scheduled", func(r *Recipe) {
		r.SmoothOut = smoothout.Config{Strength: 0.02, Noise: smoothout.Normal, Adapt: smoothout.Layer,
			Schedule: smoothout.Schedule{Kind: smoothout.CosineRise, Factor: 5, Delay: 0.2}}
	})
	add("anti-pgd", func(r *Recipe) { r.SmoothOut = rivals.AntiPGD(0.05) })
	return v
}

func TestMethodsResumeExactly(t *testing.T) {
	for name, r := range variants() {
		t.Run(name, func(t *testing.T) {
			want := mustRun(t, r, Options{})
			path := filepath.Join(t.TempDir(), "run.ckpt")
			for _, stop := range []int{4, 11} {
				ctx, cancel := context.WithCancel(context.Background())
				_, err := Run(ctx, newBackend(t), net, data(), r, Options{Checkpoint: path, Progress: func(p Progress) {
					if p.Step == stop {
						cancel()
					}
				}})
				if !errors.Is(err, ErrInterrupted) {
					t.Fatalf("error %v: want ErrInterrupted", err)
				}
			}
			same(t, mustRun(t, r, Options{Checkpoint: path}), want)
			same(t, mustRun(t, r, Options{Checkpoint: path}), want) // finished, and evaluated again
		})
	}
}

// Copies see the same data and the same dropout, and differ in their noise
// alone: without noise they change nothing, and antithetic pairs of a function
// whose gradient is linear in the weights cancel.
func TestCopies(t *testing.T) {
	backend := newBackend(t)
	const rate = 0.5
	run := func(r Recipe) (w []float32, losses []float32) {
		m := &Model{backend: backend, store: model.NewStore(), net: func(scope *model.Scope, _ any, in []*Node) []*Node {
			w := scope.VariableWithValue("w", []float32{1, -2, 3}).NodeValue(in[0].Graph())
			number := scope.Store().VariableWithValue(microstepVariable, int64(0)).SetTrainable(false)
			now := number.NodeValue(in[0].Graph())
			number.SetNodeValue(OnePlus(now))
			mask := Mod(AddScalar(ConvertDType(now, w.DType()), 1), Scalar(w.Graph(), w.DType(), 3)) // in place of dropout
			x := ReduceMean(in[0], 0)
			square := MulScalar(ReduceAllSum(Square(Sub(Mul(w, mask), x))), 0.5)
			return []*Node{ExpandDims(Stack([]*Node{Neg(square), square}, 0), 0)}
		}}
		r.LearningRate, r.Epochs = rate, 1
		tr, err := newTrainer(m, r, 3)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 * r.ghosts() {
			x := []float32{float32(i), 2, -1}
			metrics, err := tr.TrainStep(gomlx.Batch{
				Inputs: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, 1, 3)},
				Labels: []*tensors.Tensor{tensors.FromFlatDataAndDimensions([]int32{0}, 1, 1)},
			})
			if err != nil {
				t.Fatal(err)
			}
			losses = append(losses, tensors.ToScalar[float32](metrics[0]))
		}
		return tensors.MustCopyFlatData[float32](m.store.GetVariable("/w").MustValue()), losses
	}
	for _, ghosts := range []int{1, 2} {
		r := Recipe{Batch: ghosts, Ghost: 1}
		once, lossesOnce := run(r)
		r.Copies = 2
		twice, lossesTwice := run(r)
		for i := range once {
			if !(math.Abs(float64(once[i]-twice[i])) < 1e-5) {
				t.Errorf("%d ghosts: two copies without noise end at %v, one at %v", ghosts, twice, once)
				break
			}
		}
		for i := range lossesOnce {
			if !(math.Abs(float64(lossesOnce[i]-lossesTwice[i])) < 1e-4*(1+math.Abs(float64(lossesOnce[i])))) {
				t.Errorf("%d ghosts: losses %v, of one copy %v", ghosts, lossesTwice, lossesOnce)
				break
			}
		}
		r.SmoothOut = smoothout.Config{Strength: 0.3}
		if noisy, _ := run(r); slices.Equal(noisy, twice) {
			t.Error("copies have no noise")
		}
	}
}

// Adam with weight decay and clipping, by its formula; torch's names for both
// kinds of decay.
func TestAdamFollowsItsFormula(t *testing.T) {
	backend := newBackend(t)
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Float64Range(-2, 2)
		r := Recipe{
			Batch: 1, Optimizer: rapid.SampledFrom([]string{"adam", "adamw"}).Draw(t, "kind"),
			LearningRate: rapid.Float64Range(0.01, 0.3).Draw(t, "lr"),
			WeightDecay:  rapid.SampledFrom([]float64{0, 0.1}).Draw(t, "decay"),
			ClipNorm:     rapid.SampledFrom([]float64{0, 0.5}).Draw(t, "clip"),
		}
		w := [2]float64{number.Draw(t, "a"), number.Draw(t, "b")}
		store := model.NewStore()
		store.VariableWithValue("/a", []float32{float32(w[0])})
		store.VariableWithValue("/deep/b", []float32{float32(w[1])})
		fn := func(scope *model.Scope, _ any, in []*Node) []*Node {
			a := scope.GetVariable("a").NodeValue(in[0])
			b := scope.In("deep").GetVariable("b").NodeValue(in[0])
			return []*Node{MulScalar(ReduceAllSum(Add(Square(Sub(a, in[0])), Square(Sub(b, in[0])))), 0.5)}
		}
		tr := gomlx.NewTrainer(backend, store, fn, func(_, p []*Node) *Node { return p[0] }, r.optimizer(), nil, nil)
		var m, v [2]float64
		for n := 1; n <= 4; n++ {
			x := number.Draw(t, "x")
			if _, err := tr.TrainStep(gomlx.Batch{Inputs: []*tensors.Tensor{tensors.FromValue([]float32{float32(x)})}}); err != nil {
				t.Fatal(err)
			}
			g := [2]float64{w[0] - x, w[1] - x}
			if r.ClipNorm > 0 {
				c := min(1, r.ClipNorm/(math.Hypot(g[0], g[1])+1e-6))
				g[0], g[1] = c*g[0], c*g[1]
			}
			for i := range g {
				decay := r.WeightDecay * w[i]
				if r.Optimizer == "adam" {
					g[i] += decay
					decay = 0
				}
				m[i] = 0.9*m[i] + 0.1*g[i]
				v[i] = 0.999*v[i] + 0.001*g[i]*g[i]
				mHat, vHat := m[i]/(1-math.Pow(0.9, float64(n))), v[i]/(1-math.Pow(0.999, float64(n)))
				w[i] -= r.LearningRate * (mHat/(math.Sqrt(vHat)+1e-8) + decay)
			}
			if math.Abs(g[0]) < 1e-3 || math.Abs(g[1]) < 1e-3 {
				t.Skip("the sign of a gradient is rounding")
			}
		}
		for i, path := range []string{"/a", "/deep/b"} {
			got := float64(tensors.MustCopyFlatData[float32](store.GetVariable(path).MustValue())[0])
			if !(math.Abs(got-w[i]) <= 1e-3*(1+math.Abs(w[i]))) {
				t.Fatalf("%s is %v, want %v (%+v)", path, got, w[i], r)
			}
		}
	})
}

// The result of a run with an average is the average, with statistics of its
// own; training goes on as without it.
func TestAverageIsTheResult(t *testing.T) {
	r := recipe // 18 steps
	running := mustRun(t, r, Options{})
	r.Recalibrate = -1
	recalibrated := mustRun(t, r, Options{})
	r.Recalibrate = 0
	for name, c := range map[string]struct {
		average rivals.Average
		want    *Outcome // nil: neither
	}{
		"of the last weights alone": {rivals.Average{Kind: rivals.SWA, Start: 0.94, Every: 1}, recalibrated},
		"of nothing":                {rivals.Average{Kind: rivals.SWA, Start: 0.94, Every: 5}, running},
		"of the last epochs":        {rivals.Average{Kind: rivals.SWA, Start: 0.3}, nil},
		"over the run":              {rivals.Average{Kind: rivals.EMA, Decay: 0.9}, nil},
	} {
		r.Average = c.average
		got := mustRun(t, r, Options{})
		switch {
		case c.want != nil && (got.Weights != c.want.Weights || got.BatchNorm != c.want.BatchNorm):
			t.Errorf("average %s: not the last weights, or not with %s statistics", name, c.want.BatchNorm)
		case c.want == nil && (got.Weights == running.Weights || got.Weights == recalibrated.Weights || got.BatchNorm != "recalibrated"):
			t.Errorf("average %s: it is the last weights, or has %s statistics", name, got.BatchNorm)
		}
		for i, e := range got.History {
			if e.TrainingLoss != running.History[i].TrainingLoss {
				t.Errorf("average %s: keeping it changes training", name)
			}
		}
	}
}

// SWA takes the weights at the end of each epoch, unless told otherwise.
func TestSWAPerEpoch(t *testing.T) {
	weights := func(every int) string {
		r := recipe // 6 steps per epoch
		r.Average = rivals.Average{Kind: rivals.SWA, Every: every}
		return mustRun(t, r, Options{}).Weights
	}
	if epoch := weights(0); epoch != weights(6) || epoch == weights(1) {
		t.Error("SWA does not average over the ends of epochs")
	}
}

func TestMethodValidation(t *testing.T) {
	for name, change := range map[string]func(*Recipe){
		"optimizer":         func(r *Recipe) { r.Optimizer = "lion" },
		"copies":            func(r *Recipe) { r.Copies = -1 },
		"two methods":       func(r *Recipe) { r.SAM.Rho = 0.1 },
		"adaptive nothing":  func(r *Recipe) { r.SmoothOut.Strength = 0; r.SAM.Adaptive = true },
		"rho":               func(r *Recipe) { r.SmoothOut.Strength = 0; r.SAM.Rho = -1 },
		"average":           func(r *Recipe) { r.Average.Kind = "mean" },
		"average and best":  func(r *Recipe) { r.Average = rivals.Average{Kind: rivals.SWA}; r.Select = "best" },
		"schedule":          func(r *Recipe) { r.SmoothOut.Schedule.Kind = "sine" },
		"cosine to nowhere": func(r *Recipe) { r.SmoothOut.Schedule.Kind = smoothout.CosineRise },
		"half a pair":       func(r *Recipe) { r.SmoothOut.Antithetic = true; r.Ghost = r.Batch },
		"rule":              func(r *Recipe) { r.SmoothOut.Rules = []smoothout.Rule{{Path: "("}} },
	} {
		r := recipe
		change(&r)
		if err := r.Validate(); !errors.Is(err, ErrRecipe) {
			t.Errorf("%s: error %v, want ErrRecipe", name, err)
		}
	}
	for name, r := range variants() {
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The loss rise is the mean over antithetic pairs, and grows with the strength,
// so that a strength can be found for it.
func TestLossRise(t *testing.T) {
	out := mustRun(t, recipe, Options{})
	ctx := context.Background()
	cfg := smoothout.Config{Adapt: smoothout.Filter, Seed: 3}
	rise := func(s float64) (float64, error) {
		cfg.Strength = s
		return out.Model.LossRise(ctx, data().Test, cfg, 3)
	}
	clean, err := out.Model.Evaluate(ctx, data().Test)
	if err != nil {
		t.Fatal(err)
	}
	got, err := rise(0.4)
	if err != nil {
		t.Fatal(err)
	}
	exec, err := out.Model.noisyEvaluator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := -clean.Loss
	for draw := range int64(3) {
		for _, factor := range []float32{0.4, -0.4} {
			noisy, err := out.Model.evaluate(ctx, exec, data().Test, factor, draw)
			if err != nil {
				t.Fatal(err)
			}
			want += noisy.Loss / 6
		}
	}
	if !(got > 0) || !(math.Abs(got-want) < 1e-9) {
		t.Errorf("rise %v, want %v", got, want)
	}
	if zero, err := rise(0); err != nil || math.Abs(zero) > 1e-7 {
		t.Errorf("rise %v without noise, %v", zero, err)
	}
	tuned, err := smoothout.Tune(rise, 0.1, 0.05)
	if err != nil || !(math.Abs(tuned.Gap-0.1) < 0.005) {
		t.Errorf("tuned to %+v, %v; want a gap of 0.1", tuned, err)
	}
}

// Statistics of clean passes are those of plain training while the weights are the
// same, after the first step; and the pass changes nothing but statistics.
func TestCleanStatistics(t *testing.T) {
	base := recipe
	base.Epochs, base.Milestones = 1, nil
	base.Batch = data().Train.Len() // one step
	base.Ghost = base.Batch
	values := func(r Recipe) (statistics, weights map[string][]float32, batchNorm string) {
		out := mustRun(t, r, Options{})
		statistics, weights = map[string][]float32{}, map[string][]float32{}
		for _, v := range out.Model.variables {
			value := tensors.MustCopyFlatData[float32](out.Model.store.GetVariable(v.Path).MustValue())
			if v.Trainable {
				weights[v.Path] = value
			} else {
				statistics[v.Path] = value
			}
		}
		return statistics, weights, out.BatchNorm
	}
	plain := base
	plain.SmoothOut = smoothout.Config{}
	clean := base
	clean.Statistics = "clean"
	plainS, plainW, _ := values(plain)
	noisyS, noisyW, how := values(base)
	cleanS, cleanW, said := values(clean)
	if how != "running" || said != "running, from clean passes" {
		t.Errorf("the results say %q and %q", how, said)
	}
	if len(cleanS) == 0 || !cmp.Equal(cleanS, plainS) || cmp.Equal(noisyS, plainS) {
		t.Errorf("statistics: clean ones those of plain training %v, noisy ones too %v", cmp.Equal(cleanS, plainS), cmp.Equal(noisyS, plainS))
	}
	if !cmp.Equal(cleanW, noisyW) || cmp.Equal(noisyW, plainW) {
		t.Error("the pass for statistics changes the weights")
	}
	for _, name := range []string{"anti-pgd", "noisy-sgd"} {
		r, _ := base.WithMethod(name, 0.01)
		r.Statistics = "clean"
		if err := r.Validate(); !errors.Is(err, ErrRecipe) {
			t.Errorf("%s with clean statistics: %v", name, err)
		}
	}
}

// Clean weights can be measured within an epoch, for every method, without changing
// what comes out.
func TestMonitorSteps(t *testing.T) {
	for _, m := range Methods() {
		r, err := recipe.WithMethod(m.Name, m.Default)
		if err != nil {
			t.Fatal(err)
		}
		r.Epochs, r.Milestones = 1, nil // 6 steps
		var at []int
		out := mustRun(t, r, Options{Monitor: 50, MonitorSteps: 2, Progress: func(p Progress) {
			if p.Clean != nil {
				at = append(at, p.Step)
				if p.Clean.Samples != 50 || !(p.Clean.Loss > 0) {
					t.Errorf("%s: %+v", m.Name, p.Clean)
				}
			}
		}})
		if !slices.Equal(at, []int{2, 4}) || out.History[0].Train == nil { // the epoch ends with the sixth
			t.Errorf("%s: measured after steps %v", m.Name, at)
		}
		if plain := mustRun(t, r, Options{}); plain.Weights != out.Weights {
			t.Errorf("%s: measuring changes the weights", m.Name)
		}
	}
}
