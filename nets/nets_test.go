package nets

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
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
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

// build traces a network for a batch of two and returns its store.
func build(fn train.ModelFn, seed int64, input ...int) (*model.Store, []int) {
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, seed)
	g := NewGraph(backend, "build")
	defer g.Finalize()
	model.SetStore(g, store)
	store.SetTraining(g, true)
	out := fn(store.RootScope(), nil, []*Node{Parameter(g, "x", shapes.Make(dtypes.Float32, append([]int{2}, input...)...))})
	return store, out[0].Shape().Dimensions
}

func parameters(store *model.Store) (n int) {
	for v := range store.IterVariables() {
		if v.Trainable {
			n += v.Shape().Size()
		}
	}
	return n
}

func TestF1(t *testing.T) {
	fn := must(ByName("f1", Options{}))
	store, out := build(fn, 0, 28, 28, 1)
	if n := parameters(store); n != 1462794 {
		t.Errorf("%d parameters, want 1462794 (784-512x5-10 with batch norm)", n)
	}
	if !slices.Equal(out, []int{2, 10}) {
		t.Errorf("output %v", out)
	}
	small, out := build(must(ByName("f1", Options{Width: 32, Classes: 3})), 0, 8, 8, 1)
	if n, want := parameters(small), 64*32+32+4*(32*32+32)+5*64+32*3+3; n != want || out[1] != 3 {
		t.Errorf("width 32: %d parameters, want %d; output %v", n, want, out)
	}
}

func TestByName(t *testing.T) {
	if _, err := ByName("f9", Options{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v, want ErrUnknown", err)
	}
	if _, err := ByName("f1", Options{Width: -1}); err == nil {
		t.Error("negative width accepted")
	}
	if !slices.Contains(Names(), "f1") {
		t.Errorf("names %v", Names())
	}
}

// Initial values follow PyTorch's Linear, and are a function of seed and path.
func TestInitialValues(t *testing.T) {
	values := func(s int64) map[string][]float32 {
		store, _ := build(F1(50, 10), s, 10, 10, 1)
		must(0, store.InitializeVariables(backend, nil))
		m := map[string][]float32{}
		for v := range store.IterVariables() {
			m[v.Path()] = must(tensors.CopyFlatData[float32](v.MustValue()))
		}
		return m
	}
	a := values(1)
	for path, in := range map[string]float64{
		"/layer_0/dense/weights": 100, "/layer_0/dense/biases": 100,
		"/layer_1/dense/weights": 50, "/output/dense/biases": 50,
	} {
		bound, largest, square := 1/math.Sqrt(in), 0.0, 0.0
		for _, x := range a[path] {
			largest = max(largest, math.Abs(float64(x)))
			square += float64(x) * float64(x) / float64(len(a[path]))
		}
		if n := float64(len(a[path])); largest > bound || n > 100 && (largest < bound*0.996 || math.Abs(square*3/bound/bound-1) > 5/math.Sqrt(n)) {
			t.Errorf("%s: largest %v, mean square %v: want uniform within ±%v", path, largest, square, bound)
		}
	}
	for path, want := range map[string]float32{"scale": 1, "offset": 0, "mean": 0, "variance": 1} {
		for _, x := range a["/layer_2/batch_normalization/"+path] {
			if x != want {
				t.Errorf("%s starts at %v, want %v", path, x, want)
			}
		}
	}
	if b := values(1); !slices.Equal(a["/output/dense/weights"], b["/output/dense/weights"]) {
		t.Error("the same seed gives other values")
	}
	if b := values(2); slices.Equal(a["/output/dense/weights"], b["/output/dense/weights"]) {
		t.Error("another seed gives the same values")
	}
	if slices.Equal(a["/layer_1/dense/weights"], a["/layer_2/dense/weights"]) {
		t.Error("two layers start alike")
	}
}

// bn runs one batch-norm layer in training mode on x [n, c] and returns the
// output, the gradients of Σ r·y with respect to x, scale and offset, and the
// running statistics after it.
func bn(x, r []float32, c int, scale, offset []float32) (y, gx, gs, gb, mean, variance []float32) {
	store := model.NewStore()
	dims := []int{len(x) / c, c}
	exec := must(model.NewExec(backend, store, func(scope *model.Scope, in []*Node) []*Node {
		g := in[0].Graph()
		scope.Store().SetTraining(g, true)
		y := BatchNorm(scope, in[0])
		s := scope.Store().GetVariable("/batch_normalization/scale").NodeValue(g)
		b := scope.Store().GetVariable("/batch_normalization/offset").NodeValue(g)
		return append([]*Node{y}, Gradient(ReduceAllSum(Mul(y, in[1])), in[0], s, b)...)
	}))
	store.VariableWithValue("/batch_normalization/scale", scale)
	store.VariableWithValue("/batch_normalization/offset", offset)
	out := must(exec.Exec(tensors.FromFlatDataAndDimensions(x, dims...), tensors.FromFlatDataAndDimensions(r, dims...)))
	flat := func(t *tensors.Tensor) []float32 { return must(tensors.CopyFlatData[float32](t)) }
	stat := func(name string) []float32 {
		return flat(store.GetVariable("/batch_normalization/" + name).MustValue())
	}
	return flat(out[0]), flat(out[1]), flat(out[2]), flat(out[3]), stat("mean"), stat("variance")
}

// Against float64 by the book: output, running statistics, and gradients by
// central differences. (Statistics held constant in the gradient, as in
// GoMLX's layer without backend support, fail this.)
func TestBatchNormTraining(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, c := rapid.IntRange(2, 9).Draw(t, "n"), rapid.IntRange(1, 4).Draw(t, "c")
		src := seed.Stream(rapid.Int64().Draw(t, "seed"))
		random := func(n int, lo, hi float32) []float32 {
			v := make([]float32, n)
			seed.Uniform32(src, lo, hi, v)
			return v
		}
		x, r, scale, offset := random(n*c, -2, 2), random(n*c, -1, 1), random(c, 0.5, 2), random(c, -1, 1)
		y, gx, gs, gb, mean, variance := bn(x, r, c, scale, offset)

		stats := func(x []float64, f int) (m, v float64) {
			for i := f; i < n*c; i += c {
				m += x[i] / float64(n)
			}
			for i := f; i < n*c; i += c {
				v += (x[i] - m) * (x[i] - m) / float64(n)
			}
			return m, v
		}
		forward := func(x, scale, offset []float64) (y []float64, sum float64) {
			y = make([]float64, n*c)
			for i := range y {
				m, v := stats(x, i%c)
				y[i] = scale[i%c]*(x[i]-m)/math.Sqrt(v+1e-5) + offset[i%c]
				sum += y[i] * float64(r[i])
			}
			return y, sum
		}
		wide := func(v []float32) (w []float64) {
			for _, x := range v {
				w = append(w, float64(x))
			}
			return w
		}
		near := func(what string, got float32, want, tolerance float64) {
			if !(math.Abs(float64(got)-want) <= tolerance*(1+math.Abs(want))) {
				t.Fatalf("%s: %v, want %v", what, got, want)
			}
		}
		X, S, B := wide(x), wide(scale), wide(offset)
		want, _ := forward(X, S, B)
		smallest := math.Inf(1)
		for f := range c {
			m, v := stats(X, f)
			smallest = min(smallest, v)
			near("running mean", mean[f], 0.1*m, 1e-5)
			near("running variance", variance[f], 0.9+0.1*v*float64(n)/float64(n-1), 1e-5)
		}
		if smallest < 0.05 {
			t.Skip("almost constant feature: differences say little")
		}
		for i := range y {
			near("output", y[i], want[i], 1e-4)
		}
		slope := func(v []float64, i int) float64 {
			const h = 1e-5
			old := v[i]
			v[i] = old + h
			_, up := forward(X, S, B)
			v[i] = old - h
			_, down := forward(X, S, B)
			v[i] = old
			return (up - down) / (2 * h)
		}
		for i := range X {
			near("gradient of x", gx[i], slope(X, i), 2e-3)
		}
		for i := range S {
			near("gradient of scale", gs[i], slope(S, i), 1e-3)
			near("gradient of offset", gb[i], slope(B, i), 1e-3)
		}
	})
}

func TestBatchNormEvaluationAndRecalibration(t *testing.T) {
	store := model.NewStore()
	exec := func(phase int, training bool) *model.Exec {
		return must(model.NewExec(backend, store, func(scope *model.Scope, x *Node) *Node {
			g := x.Graph()
			scope.Store().SetTraining(g, training)
			if phase >= 0 {
				scope.SetGraphParam(g, train.BatchNormalizationUpdatePhase, phase)
			}
			return BatchNorm(scope.In("layer"), x)
		}))
	}
	stat := func(name string) float32 {
		return must(tensors.CopyFlatData[float32](store.GetVariable("/layer/batch_normalization/" + name).MustValue()))[0]
	}
	near := func(what string, got, want float32) {
		t.Helper()
		if !(math.Abs(float64(got-want)) < 1e-5) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	batches := [][][]float32{{{1}, {3}}, {{5}, {9}}, {{0}, {0}}} // means 2, 7, 0; variances over n-1: 2, 8, 0

	training := exec(-1, true)
	must(training.Exec(batches[0]))
	near("running mean", stat("mean"), 0.2)
	near("running variance", stat("variance"), 0.9+0.2)
	y := must(tensors.CopyFlatData[float32](must(exec(-1, false).Call1([][]float32{{1.2}})))) // one sample is enough here
	near("evaluation", y[0], float32(1/math.Sqrt(1.1+1e-5)))
	near("mean after evaluation", stat("mean"), 0.2)
	if _, err := training.Exec([][]float32{{1}}); err == nil {
		t.Error("training on one value per feature is accepted")
	}

	// GoMLX's reset finds this layer; the batches then count alike.
	recalibrate := exec(0, false)
	for range 2 {
		must(0, norm.ResetBatchNormWeights(backend, store))
		for _, b := range batches {
			must(recalibrate.Exec(b))
		}
		near("recalibrated mean", stat("mean"), 3)
		near("recalibrated variance", stat("variance"), 10./3)
	}
}
