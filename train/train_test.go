package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	gomlx "github.com/gomlx/gomlx/ml/train"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/openpith/evidence/internal/seed"
	"github.com/openpith/evidence/rivals"
	"github.com/openpith/evidence/smoothout"
)

func newBackend(t *testing.T) compute.Backend {
	t.Helper()
	b, err := gobackend.New("ops_sequential") // the parallel mode of v0.1.2 can deadlock
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Finalize)
	return b
}

// blobs are points around one centre per class, overlapping.
type blobs struct {
	x             []float32
	y             []int32
	dims, classes int
}

func newBlobs(s int64, n int) *blobs {
	b := &blobs{dims: 6, classes: 3}
	centres := make([]float32, b.dims*b.classes)
	seed.Uniform32(seed.Stream(1, "centres"), -1, 1, centres)
	src := seed.Stream(s, "points")
	for range n {
		c := seed.Below(src, b.classes)
		p := make([]float32, b.dims)
		seed.Uniform32(src, -1, 1, p)
		for i := range p {
			p[i] += centres[c*b.dims+i]
		}
		b.x, b.y = append(b.x, p...), append(b.y, int32(c))
	}
	return b
}

func (b *blobs) Len() int     { return len(b.y) }
func (b *blobs) Shape() []int { return []int{b.dims} }
func (b *blobs) Classes() int { return b.classes }
func (b *blobs) Fill(indices []int, x []float32, y []int32) {
	for i, j := range indices {
		copy(x[i*b.dims:(i+1)*b.dims], b.x[j*b.dims:])
		y[i] = b.y[j]
	}
}

// net is a small network with dropout, so that the random state matters, and
// statistics in the form of batch norm, so that they do.
func net(scope *model.Scope, _ any, inputs []*Node) []*Node {
	x := inputs[0]
	x = layers.DenseWithBias(scope.In("hidden"), x, 8)
	x = statistics(scope.In("bn"), x)
	x = Max(x, ZerosLike(x))
	x = layers.Dropout(scope, x, Scalar(x.Graph(), x.DType(), 0.1))
	return []*Node{layers.DenseWithBias(scope.In("out"), x, 3)}
}

// statistics is a batch norm without gradient through the statistics; it
// follows GoMLX's protocol for recalibration.
func statistics(scope *model.Scope, x *Node) *Node {
	scope = scope.In("batch_normalization")
	g := x.Graph()
	shape := shapes.Make(dtypes.Float32, x.Shape().Dim(-1))
	scale := scope.WithInitializer(func(g *Graph, s shapes.Shape) *Node { return Ones(g, s) }).VariableWithShape("scale", shape).NodeValue(g)
	zero := scope.WithInitializer(func(g *Graph, s shapes.Shape) *Node { return Zeros(g, s) })
	mean := zero.VariableWithShape("mean", shape).SetTrainable(false)
	variance := zero.VariableWithShape("variance", shape).SetTrainable(false)
	weight := zero.VariableWithShape("avg_weight", shapes.Make(dtypes.Float32)).SetTrainable(false)
	m, v := mean.NodeValue(g), variance.NodeValue(g)
	recalibrating := model.GetGraphParamOr(scope, g, gomlx.BatchNormalizationUpdatePhase, -1) >= 0
	if recalibrating || scope.IsTraining(g) {
		m = StopGradient(ReduceMean(x, 0))
		v = StopGradient(ReduceMean(Square(Sub(x, ExpandDims(m, 0))), 0))
		keep := Scalar(g, dtypes.Float32, 0.9)
		if recalibrating {
			k := weight.NodeValue(g)
			weight.SetNodeValue(OnePlus(k))
			keep = Div(k, OnePlus(k))
		}
		for s, batch := range map[*model.Variable]*Node{mean: m, variance: v} {
			s.SetNodeValue(Add(Mul(keep, s.NodeValue(g)), Mul(OneMinus(keep), batch)))
		}
	}
	x = Div(Sub(x, ExpandDims(m, 0)), ExpandDims(Sqrt(AddScalar(v, 1e-5)), 0))
	return Mul(x, ExpandDims(scale, 0))
}

var recipe = Recipe{
	Batch: 32, Ghost: 8, Epochs: 3, LearningRate: 0.1, Momentum: 0.9, WeightDecay: 1e-4, ClipNorm: 5,
	Milestones: []Milestone{{Epoch: 1.5, LearningRate: 0.05}, {Epoch: 2, LearningRate: 0.01}},
	Scaling:    "sqrt",
	SmoothOut:  smoothout.Config{Strength: 0.05, Adapt: smoothout.Filter},
	Seed:       7,
}

func data() Data {
	return Data{Train: newBlobs(1, 200), Validation: newBlobs(2, 120), Test: newBlobs(3, 300)}
}

func mustRun(t *testing.T, r Recipe, o Options) *Outcome {
	t.Helper()
	out, err := Run(context.Background(), newBackend(t), net, data(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// same compares outcomes in everything but wall-clock time.
func same(t *testing.T, got, want *Outcome) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Outcome{}, "Model", "Seconds"), cmpopts.IgnoreFields(Epoch{}, "Seconds", "InputSeconds")); d != "" {
		t.Errorf("outcomes differ (-want +got):\n%s", d)
	}
}

func TestRunLearnsAndRepeats(t *testing.T) {
	first := mustRun(t, recipe, Options{Monitor: 50})
	same(t, mustRun(t, recipe, Options{Monitor: 50}), first)

	if got := first.Test.Accuracy; got < 0.6 {
		t.Errorf("test accuracy %.3f: want more than chance, 0.33", got)
	}
	if first.SamplesPerEpoch != 192 || first.StepsPerEpoch != 6 || first.Parameters != 6*8+8+8+8*3+3 {
		t.Errorf("steps %d, samples %d, parameters %d", first.StepsPerEpoch, first.SamplesPerEpoch, first.Parameters)
	}
	if first.BatchNorm != "running" || first.Train.Samples != 200 || first.Test.Samples != 300 || first.History[0].Train.Samples != 50 {
		t.Errorf("outcome %+v", first)
	}
	other := recipe
	other.Seed = 8
	if out := mustRun(t, other, Options{}); out.Weights == first.Weights {
		t.Error("another seed gave the same weights")
	}
	for s, want := range map[int64]bool{recipe.Seed: true, 99: false} {
		r := recipe
		r.SmoothOut.Seed = s
		if got := mustRun(t, r, Options{}).Weights == first.Weights; got != want {
			t.Errorf("noise seed %d, recipe seed %d: same weights is %v", s, recipe.Seed, got)
		}
	}
}

// Interrupted after any step and resumed, a run ends as if nothing had happened.
func TestResumeIsBitIdentical(t *testing.T) {
	want := mustRun(t, recipe, Options{})
	for _, stops := range [][]int{{1}, {6}, {9}, {18}, {2, 3, 11, 12, 13}} {
		t.Run(fmt.Sprint(stops), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "run.ckpt")
			backend := newBackend(t)
			for _, stop := range stops {
				ctx, cancel := context.WithCancel(context.Background())
				_, err := Run(ctx, backend, net, data(), recipe, Options{Checkpoint: path, Progress: func(p Progress) {
					if p.Step == stop {
						cancel()
					}
				}})
				if !errors.Is(err, ErrInterrupted) || !errors.Is(err, context.Canceled) {
					t.Fatalf("error %v: want ErrInterrupted", err)
				}
			}
			got, err := Run(context.Background(), backend, net, data(), recipe, Options{Checkpoint: path, Progress: func(p Progress) {
				if last := stops[len(stops)-1]; p.First != last {
					t.Fatalf("continued after step %d, want %d", p.First, last)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, want)
			// A finished run is not trained again, and gives the same outcome.
			again, err := Run(context.Background(), newBackend(t), net, data(), recipe, Options{Checkpoint: path, Progress: func(Progress) {
				t.Error("trained again")
			}})
			if err != nil {
				t.Fatal(err)
			}
			same(t, again, want)
			if d := cmp.Diff(trainable(want), trainable(again)); d != "" {
				t.Error("trained variables differ after resuming:", d)
			}
		})
	}
}

// cancelling are samples that end a run when they are read.
type cancelling struct {
	Samples
	cancel func()
}

func (c cancelling) Fill(indices []int, x []float32, y []int32) {
	c.cancel()
	c.Samples.Fill(indices, x, y)
}

// The final evaluation looks at the average, which must not become what a resumed
// run goes on from.
func TestResumeInFinalEvaluation(t *testing.T) {
	for _, average := range []rivals.Average{{}, {Kind: rivals.EMA, Decay: 0.9}, {Kind: rivals.SWA}} {
		r := recipe
		r.Average = average
		want := mustRun(t, r, Options{})
		for name, change := range map[string]func(*Data, func()){
			"train": func(d *Data, cancel func()) { d.Train = cancelling{d.Train, cancel} }, // recalibration, if there is an average
			"test":  func(d *Data, cancel func()) { d.Test = cancelling{d.Test, cancel} },
		} {
			path := filepath.Join(t.TempDir(), "run.ckpt")
			ctx, cancel := context.WithCancel(context.Background())
			d := data()
			var last atomic.Bool // the samples are read by other goroutines
			change(&d, func() {
				if last.Load() {
					cancel()
				}
			})
			_, err := Run(ctx, newBackend(t), net, d, r, Options{Checkpoint: path, Progress: func(p Progress) { last.Store(p.Done != nil && p.Epoch == p.Epochs) }})
			if !errors.Is(err, ErrInterrupted) || !errors.Is(err, context.Canceled) {
				t.Fatalf("%+v, %s: error %v: want ErrInterrupted", average, name, err)
			}
			same(t, mustRun(t, r, Options{Checkpoint: path}), want)
		}
	}
}

// An unclean end leaves the checkpoint of the last epoch, which serves too.
func TestResumeFromEpochBoundary(t *testing.T) {
	want := mustRun(t, recipe, Options{})
	path := filepath.Join(t.TempDir(), "run.ckpt")
	_, err := Run(context.Background(), newBackend(t), net, data(), recipe, Options{Checkpoint: path, Progress: func(p Progress) {
		if p.Step == 8 {
			panic("killed")
		}
	}})
	if err == nil {
		t.Fatal("not killed")
	}
	out := mustRun(t, recipe, Options{Checkpoint: path, Progress: func(p Progress) {
		if p.First != 6 {
			t.Fatalf("continued after step %d, want 6", p.First)
		}
	}})
	same(t, out, want)
}

func trainable(o *Outcome) (paths []string) {
	for v := range o.Model.Store().IterVariables() {
		if v.Trainable {
			paths = append(paths, v.Path())
		}
	}
	return paths
}

// The training loss of an epoch is the mean over its steps.
func TestHistory(t *testing.T) {
	var sum [3]float64
	var seconds float64
	out := mustRun(t, recipe, Options{Progress: func(p Progress) {
		if p.Done == nil {
			sum[p.Epoch] += p.Loss / 6
			if want := recipe.RateAt(float64(p.Step-1) / 6); p.LearningRate != want {
				t.Errorf("learning rate %v in step %d, want %v", p.LearningRate, p.Step, want)
			}
		}
	}})
	for i, e := range out.History {
		if e.Epoch != i+1 || math.Abs(e.TrainingLoss-sum[i]) > 1e-9 || e.Train != nil || e.Validation.Samples != 120 {
			t.Errorf("epoch %d: %+v, mean loss of its steps %v", i+1, e, sum[i])
		}
		if want := 2 * []float64{0.1, 0.05, 0.01}[i]; e.LearningRate != want { // batch/ghost is 4
			t.Errorf("epoch %d ends with learning rate %v, want %v", i+1, e.LearningRate, want)
		}
		seconds += e.Seconds
	}
	if out.Seconds != seconds || seconds <= 0 {
		t.Errorf("%v seconds in total, %v in the epochs", out.Seconds, seconds)
	}
}

func TestCheckpointIsStrict(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.ckpt")
	r := recipe
	r.Epochs = 1
	mustRun(t, r, Options{Checkpoint: path, Identity: "a"})
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(content []byte, r Recipe, o Options) error {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		o.Checkpoint = path
		_, err := Run(context.Background(), newBackend(t), net, data(), r, o)
		var ce *CheckpointError
		if err != nil && !errors.As(err, &ce) {
			t.Errorf("error %T %v: want *CheckpointError", err, err)
		}
		if now, _ := os.ReadFile(path); string(now) != string(content) {
			t.Error("the checkpoint was changed")
		}
		return err
	}
	if err := try(good, r, Options{Identity: "a"}); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 7, 9, 100, len(good) / 2, len(good) - 1} {
		bad := append([]byte{}, good...)
		bad[at] ^= 1
		if err := try(bad, r, Options{Identity: "a"}); !errors.Is(err, ErrCheckpointDamaged) {
			t.Errorf("bit flipped in byte %d: %v", at, err)
		}
	}
	for _, n := range []int{0, 5, 8, 500, len(good) - 1} {
		if err := try(good[:n], r, Options{Identity: "a"}); !errors.Is(err, ErrCheckpointDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if err := try(append(append([]byte{}, good...), 0), r, Options{Identity: "a"}); !errors.Is(err, ErrCheckpointDamaged) {
		t.Errorf("one byte more: %v", err)
	}
	if err := try(good, r, Options{Identity: "b"}); !errors.Is(err, ErrCheckpointForeign) {
		t.Errorf("another identity: %v", err)
	}
	r.Momentum = 0.8
	if err := try(good, r, Options{Identity: "a"}); !errors.Is(err, ErrCheckpointForeign) {
		t.Errorf("another recipe: %v", err)
	}
}

func TestDivergence(t *testing.T) {
	r := recipe
	r.LearningRate, r.ClipNorm, r.Momentum = 1e30, 0, 0
	_, err := Run(context.Background(), newBackend(t), net, data(), r, Options{})
	var d *DivergedError
	if !errors.Is(err, ErrDiverged) || !errors.As(err, &d) || d.Epoch != 1 || d.Step < 1 || d.Loss <= maxLoss {
		t.Fatalf("error %v (%+v)", err, d)
	}
}

// A loss that is still a number, and that nothing comes back from, ends a run too.
func TestDivergenceBeforeOverflow(t *testing.T) {
	r := recipe
	r.LearningRate, r.ClipNorm, r.Momentum = 1e4, 0, 0
	_, err := Run(context.Background(), newBackend(t), net, data(), r, Options{})
	var d *DivergedError
	if !errors.As(err, &d) || !(d.Loss > maxLoss && d.Loss < 1e30) {
		t.Fatalf("error %v (%+v)", err, d)
	}
}

// recorded notes which samples are read.
type recorded struct {
	Samples
	seen *[]int
}

func (r recorded) Fill(indices []int, x []float32, y []int32) {
	*r.seen = append(*r.seen, indices...)
	r.Samples.Fill(indices, x, y)
}

// Which samples are read, and when, depends on the seed and not on the method;
// an epoch reads no sample twice; the test set waits for the end.
func TestOrderOfSamples(t *testing.T) {
	order := func(r Recipe) (train []int) {
		d := data()
		n, test := d.Train.Len(), []int{}
		d.Train, d.Test = recorded{d.Train, &train}, recorded{d.Test, &test}
		_, err := Run(context.Background(), newBackend(t), net, d, r, Options{Progress: func(Progress) {
			if len(test) > 0 {
				t.Fatal("the test set was read before the end")
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if len(test) != d.Test.Len() {
			t.Errorf("the test set was read %v times", float64(len(test))/float64(d.Test.Len()))
		}
		return train[:len(train)-n] // the final evaluation reads all
	}
	noisy := order(recipe)
	plain := recipe
	plain.SmoothOut = smoothout.Config{}
	if d := cmp.Diff(noisy, order(plain)); d != "" {
		t.Error("batches depend on the method")
	}
	per := 192
	if len(noisy) != 3*per {
		t.Fatalf("%d samples read in 3 epochs, want %d", len(noisy), 3*per)
	}
	for e := range 3 {
		seen := map[int]bool{}
		for _, i := range noisy[e*per : (e+1)*per] {
			if seen[i] {
				t.Fatalf("epoch %d reads sample %d twice", e+1, i)
			}
			seen[i] = true
		}
	}
	if cmp.Equal(noisy[:per], noisy[per:2*per]) {
		t.Error("two epochs have the same order")
	}
}

// Two runs at once, on a backend each, do not disturb each other.
func TestParallelRuns(t *testing.T) {
	want := mustRun(t, recipe, Options{})
	results := make(chan *Outcome)
	for range 2 {
		backend := newBackend(t)
		go func() {
			out, err := Run(context.Background(), backend, net, data(), recipe, Options{})
			if err != nil {
				t.Error(err)
			}
			results <- out
		}()
	}
	for range 2 {
		if out := <-results; out != nil {
			same(t, out, want)
		}
	}
}

func TestEvaluate(t *testing.T) {
	ctx := context.Background()
	out := mustRun(t, recipe, Options{})
	m, test := out.Model, data().Test

	before, _ := m.Digest()
	clean, err := m.Evaluate(ctx, test) // 300 samples: a full batch and a padded one
	if err != nil || clean != *out.Test {
		t.Errorf("evaluated again: %+v, in the outcome %+v, %v", clean, *out.Test, err)
	}
	// Batch sizes and padding do not matter: one by one gives the same.
	var loss, correct float64
	for i := range 20 {
		one, err := m.Evaluate(ctx, &view{test, []int{i}})
		if err != nil {
			t.Fatal(err)
		}
		loss, correct = loss+one.Loss, correct+one.Accuracy
	}
	twenty, err := m.Evaluate(ctx, &view{test, span(0, 20)})
	if err != nil || math.Abs(twenty.Loss-loss/20) > 1e-6 || math.Abs(twenty.Accuracy-correct/20) > 1e-9 || twenty.Samples != 20 {
		t.Errorf("%+v in one batch, loss %v and accuracy %v one by one, %v", twenty, loss/20, correct/20, err)
	}

	noise := smoothout.Config{Adapt: smoothout.Filter}
	if got, err := m.EvaluateNoisy(ctx, test, noise, 1); err != nil || got != clean {
		t.Errorf("strength 0: %+v, %v; clean %+v", got, err, clean)
	}
	rise := 0.0
	for draw := range int64(8) {
		noise.Strength = 0.5
		a, err := m.EvaluateNoisy(ctx, test, noise, draw)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := m.EvaluateNoisy(ctx, test, noise, draw); a != b {
			t.Errorf("draw %d: %+v, then %+v", draw, a, b)
		}
		if b, _ := m.EvaluateNoisy(ctx, test, noise, draw+100); a == b {
			t.Errorf("draws %d and %d are equal", draw, draw+100)
		}
		rise += (a.Loss - clean.Loss) / 8
	}
	if !(rise > 0) {
		t.Errorf("mean loss rise under strong noise is %v", rise)
	}
	exec, err := m.evaluator(smoothout.WrapEval(smoothout.Config{Adapt: smoothout.Filter, Strength: 0.5}, net))
	if err != nil {
		t.Fatal(err)
	}
	want, err := m.evaluate(ctx, exec, test, float32(1), int64(3))
	if got, _ := m.EvaluateNoisy(ctx, test, noise, 3); err != nil || got != want {
		t.Errorf("noise of strength 0.5: %+v, by smoothout.WrapEval %+v, %v", got, want, err)
	}
	noise.Rules = []smoothout.Rule{{}, {Role: smoothout.Bias, Factor: 1}}
	if a, err := m.EvaluateNoisy(ctx, test, noise, 0); err != nil || a == clean || math.Abs(a.Loss-clean.Loss) > rise*20+1 {
		t.Errorf("noise on biases only: %+v, %v", a, err)
	}
	noise.Strength = -1
	if _, err := m.EvaluateNoisy(ctx, test, noise, 0); !errors.Is(err, smoothout.ErrConfig) {
		t.Errorf("error %v, want ErrConfig", err)
	}
	if after, _ := m.Digest(); after != before {
		t.Error("evaluation changed the model")
	}
}

func TestRecalibration(t *testing.T) {
	running := mustRun(t, recipe, Options{})
	r := recipe
	r.Recalibrate = -1
	all := mustRun(t, r, Options{})
	r.Recalibrate = 40
	some := mustRun(t, r, Options{})
	if running.BatchNorm != "running" || all.BatchNorm != "recalibrated" || some.BatchNorm != "recalibrated" {
		t.Errorf("batch norm %q, %q, %q", running.BatchNorm, all.BatchNorm, some.BatchNorm)
	}
	if running.Weights == all.Weights || some.Weights == all.Weights {
		t.Error("recalibration changed nothing")
	}
	if !cmp.Equal(running.History, all.History, cmpopts.IgnoreFields(Epoch{}, "Seconds", "InputSeconds")) {
		t.Error("recalibration reached into training")
	}
	// The first layer's inputs do not depend on statistics, so the recalibrated
	// mean there is the mean over the samples of what the layer sees. The variance is
	// a mean over batches, each around its own mean: a little less, if all classes are
	// in every batch.
	ctx := context.Background()
	stat := func(o *Outcome, name string) float32 {
		v := o.Model.Store().GetVariable("/bn/batch_normalization/" + name)
		return tensors.MustCopyFlatData[float32](v.MustValue())[0]
	}
	first, variance := stat(all, "mean"), stat(all, "variance")
	for _, s := range []Samples{newBlobs(9, 40), data().Train} { // the last call alone counts
		if err := all.Model.Recalibrate(ctx, s, 200); err != nil {
			t.Fatal(err)
		}
	}
	if got := stat(all, "mean"); math.Abs(float64(got-first)) > 1e-5 {
		t.Errorf("mean %v in batches of 8, %v in one batch", first, got)
	}
	if got := stat(all, "variance"); !(variance > 0.8*got && variance <= got*1.15) {
		t.Errorf("variance %v in batches of 8, %v in one batch", variance, got)
	}
}

func TestRunRefuses(t *testing.T) {
	short := recipe
	short.Batch, short.Ghost = 256, 0
	wide := func(scope *model.Scope, _ any, in []*Node) []*Node {
		return []*Node{layers.DenseWithBias(scope.In("out"), in[0], 4)}
	}
	otherTest := data()
	otherTest.Test = &blobs{dims: 5, classes: 3}
	noTest := data()
	noTest.Test = &blobs{dims: 6, classes: 3}
	for name, c := range map[string]struct {
		net    gomlx.ModelFn
		data   Data
		recipe Recipe
		want   error
		says   string
	}{
		"invalid recipe":     {net, data(), Recipe{}, ErrRecipe, "batch"},
		"too few samples":    {net, data(), short, ErrRecipe, "larger than the training set"},
		"no training data":   {net, Data{}, recipe, ErrRecipe, "no training data"},
		"wrong output":       {wide, data(), recipe, ErrModel, "want one output"},
		"other test samples": {net, otherTest, recipe, ErrModel, "test data"},
		"empty test set":     {net, noTest, recipe, ErrModel, "no samples"},
		"panicking model":    {func(*model.Scope, any, []*Node) []*Node { panic("oh dear") }, data(), recipe, nil, "oh dear"},
		"index out of range": {func(_ *model.Scope, _ any, in []*Node) []*Node { return in[1:2] }, data(), recipe, nil, "out of range"},
	} {
		_, err := Run(context.Background(), newBackend(t), c.net, c.data, c.recipe, Options{})
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want %v that says %q", name, err, c.want, c.says)
		}
	}
}

// Without epochs there is still a model: the initial one.
func TestNoEpochs(t *testing.T) {
	r := recipe
	r.Epochs = 0
	out := mustRun(t, r, Options{})
	if len(out.History) != 0 || out.Test.Samples != 300 {
		t.Errorf("%+v", out)
	}
}

// Label smoothing moves the target: the loss of a training step is the mix of
// the plain one and the mean over all classes.
func TestLabelSmoothing(t *testing.T) {
	labels := []int32{0, 2}
	logits := [][]float32{{1, 2, 0}, {0.5, -1, 3}}
	got := MustExecOnce(newBackend(t), func(y, z *Node) *Node {
		return crossEntropy(Recipe{LabelSmoothing: 0.3})([]*Node{ExpandDims(y, -1)}, []*Node{z})
	}, labels, logits)
	want := 0.0
	for i, z := range logits {
		var sum, mean float64
		for _, l := range z {
			sum += math.Exp(float64(l))
			mean += float64(l) / 3
		}
		want += (math.Log(sum) - 0.7*float64(z[labels[i]]) - 0.3*mean) / 2
	}
	if d := float64(tensors.ToScalar[float32](got)) - want; !(math.Abs(d) < 1e-5) {
		t.Errorf("loss off by %v", d)
	}
}
