package nets

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/internal/seed"
)

// Counts are those of the reference's modules: the numbers of PyTorch where
// they are published, else the sum over its layers.
func TestParameters(t *testing.T) {
	for _, c := range []struct {
		name    string
		options Options
		want    int
	}{
		{"f1", Options{}, 1_462_794},
		{"c1", Options{}, 1_388_490},
		{"c3", Options{}, 1_405_860},
		{"c1", Options{Classes: 100}, 1_405_860},
		{"resnet44", Options{}, 661_338},
		{"resnet44", Options{Classes: 100}, 661_338 + 90*65},
		{"resnet8", Options{}, 78_042},
		{"resnet20", Options{}, 272_474},
		{"resnet110", Options{}, 1_730_714},
		{"wrn-16-4", Options{}, 2_800_804}, // the first convolution is wide too
		{"resnet18", Options{}, 11_689_512},
		{"alexnet", Options{}, 61_110_184},
		{"alexnetv3", Options{}, 61_110_184},
	} {
		n := must(Lookup(c.name))
		fn := must(n.New(c.options))
		store, out := build(fn, 0, n.Input...)
		if got := parameters(store); got != c.want {
			t.Errorf("%s %+v: %d parameters, want %d", c.name, c.options, got, c.want)
		}
		if want := []int{2, cmp.Or(c.options.Classes, n.Default.Classes)}; !slices.Equal(out, want) {
			t.Errorf("%s: output %v, want %v", c.name, out, want)
		}
		layers, sum := must(Describe(backend, fn, n.Input...)), 0
		for _, l := range layers {
			sum += l.Parameters
		}
		if sum != c.want || !slices.Equal(layers[len(layers)-1].Output, out[1:]) {
			t.Errorf("%s: described with %d parameters and output %v", c.name, sum, layers[len(layers)-1].Output)
		}
	}
}

func TestDescribe(t *testing.T) {
	layers := must(Describe(backend, must(ByName("c1", Options{})), 32, 32, 3))
	var got []string
	for _, l := range layers {
		got = append(got, fmt.Sprint(l.Path, " ", l.Kind, " ", l.Output, " ", l.Parameters, " ", l.MultiplyAdds))
	}
	want := []string{
		"/conv_0/conv conv 5x5 [32 32 64] 4800 4915200",
		"/conv_0/max_pool max pool 3x3 /2 [15 15 64] 0 0",
		"/conv_0/batch_normalization batch norm [15 15 64] 128 0",
		"/conv_1/conv conv 5x5 [15 15 64] 102400 23040000",
		"/conv_1/max_pool max pool 3x3 /2 [7 7 64] 0 0",
		"/conv_1/batch_normalization batch norm [7 7 64] 128 0",
		"/hidden_0/dense dense [384] 1204224 1204224",
		"/hidden_0/batch_normalization batch norm [384] 768 0",
		"/hidden_0/dropout dropout 0.5 [384] 0 0",
		"/hidden_1/dense dense [192] 73728 73728",
		"/hidden_1/batch_normalization batch norm [192] 384 0",
		"/hidden_1/dropout dropout 0.5 [192] 0 0",
		"/output/dense dense [10] 1930 1920",
	}
	if !slices.Equal(got, want) {
		t.Errorf("C1 is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// The shapes that the reference's comments and its Linear(256·6·6) imply.
	for name, at := range map[string]struct {
		path  string
		shape []int
	}{
		"alexnet":  {"/conv_4/max_pool", []int{6, 6, 256}},
		"resnet18": {"/stage_3/block_1/b/conv", []int{7, 7, 512}},
		"resnet44": {"/stage_2/block_6/b/conv", []int{8, 8, 64}},
		"wrn-16-4": {"/stage_2/block_1/b/conv", []int{8, 8, 256}},
	} {
		n := must(Lookup(name))
		i := slices.IndexFunc(must(Describe(backend, must(n.New(Options{})), n.Input...)), func(l Layer) bool {
			return l.Path == at.path && slices.Equal(l.Output, at.shape)
		})
		if i < 0 {
			t.Errorf("%s: no %s with shape %v", name, at.path, at.shape)
		}
	}
	for _, input := range [][]int{{8, 8, 3}, {0, 0, 3}, {224, 224}, {-1, 224, 3}} {
		if layers, err := Describe(backend, must(ByName("alexnet", Options{})), input...); err == nil || layers != nil {
			t.Errorf("AlexNet takes %v", input)
		}
	}
}

func TestLookup(t *testing.T) {
	for name, known := range map[string]bool{
		"resnet8": true, "resnet44": true, "resnet56": true, "resnet1202": true, "wrn-10-1": true, "wrn-28-10": true, "resnet18": true,
		"resnet2": false, "resnet45": false, "resnet1208": false, "resnet044": false, "resnet+44": false, "resnet": false, "resnet-44": false,
		"wrn-16": false, "wrn-15-4": false, "wrn-16-0": false, "wrn-16-65": false, "wrn-16-4x": false, "wrn-4-4": false, "": false, "F1": false,
	} {
		n, err := Lookup(name)
		if known != (err == nil) || !known && !errors.Is(err, ErrUnknown) || known && n.Name != name {
			t.Errorf("%q: %+v, %v", name, n, err)
		}
	}
	for _, n := range List() {
		if m := must(Lookup(n.Name)); m.Title != n.Title || len(n.Input) != 3 || n.Default.Classes == 0 || n.Default.Width == 0 {
			t.Errorf("%+v", n)
		}
	}
}

// Convolutions of ResNets start as normal numbers of variance 2/(k·k·out), those
// of C1 and AlexNet as PyTorch's default, uniform within 1/sqrt(k·k·in).
func TestInitialFilters(t *testing.T) {
	weights := func(name, path string) []float32 {
		n := must(Lookup(name))
		store, _ := build(must(n.New(Options{})), 1, n.Input...)
		v := store.GetVariable(path)
		for _, other := range slices.Collect(store.IterVariables()) {
			if other != v {
				must(0, store.DeleteVariable(other.Path())) // drawing all of AlexNet takes long
			}
		}
		must(0, store.InitializeVariables(backend, nil))
		return must(tensors.CopyFlatData[float32](v.MustValue()))
	}
	for _, c := range []struct {
		name, path string
		variance   float64
		bound      float64
	}{
		{"resnet44", "/stage_1/block_0/a/conv/weights", 2. / (9 * 32), 0},
		{"resnet44", "/stage_1/block_0/shortcut/conv/weights", 2. / 32, 0},
		{"resnet18", "/stem/conv/weights", 2. / (49 * 64), 0},
		{"c1", "/conv_0/conv/weights", 1. / (3 * 25 * 3), 1 / math.Sqrt(25*3)},
		{"alexnet", "/conv_0/conv/weights", 1. / (3 * 121 * 3), 1 / math.Sqrt(121*3)},
	} {
		w := weights(c.name, c.path)
		var square, fourth, largest float64
		for _, x := range w {
			z := float64(x) * float64(x) / c.variance
			square += z / float64(len(w))
			fourth += z * z / float64(len(w))
			largest = max(largest, math.Abs(float64(x)))
		}
		n, kurtosis := float64(len(w)), 3.
		if c.bound > 0 {
			kurtosis = 1.8
		}
		if math.Abs(square-1) > 5*math.Sqrt((kurtosis-1)/n) || math.Abs(fourth-kurtosis) > 0.6 || c.bound > 0 && largest > c.bound {
			t.Errorf("%s%s: variance %v of what it should be, fourth moment %v (want %v), largest %v", c.name, c.path, square, fourth, kurtosis, largest)
		}
	}
}

// small gives each kind of network a size that the slow backend can differentiate.
var small = []struct {
	name  string
	fn    train.ModelFn
	input []int
}{
	{"f1", F1(6, 3), []int{3, 3, 2}},
	{"c1", C1(2, 3, 0), []int{9, 9, 2}},
	{"c1 with dropout", C1(2, 3, 0.5), []int{9, 9, 2}},
	{"resnet8", ResNet(8, 2, 3), []int{8, 8, 2}},
	{"wrn-10-2", must(ByName("wrn-10-2", Options{Classes: 3, Width: 3})), []int{6, 6, 2}},
	{"resnet18", ResNet18(2, 3), []int{34, 34, 2}},
	{"alexnet", AlexNet(1, 3, 0), []int{64, 64, 2}},
}

// A probe runs a network on fixed data: loss and its gradients by path, and the
// loss alone.
type probe struct {
	store    *model.Store
	gradient *model.Exec
	loss     *model.Exec
	x        *tensors.Tensor
	paths    []string
}

func newProbe(backend compute.Backend, fn train.ModelFn, input []int, dtype dtypes.DType, training bool) *probe {
	const batch = 6
	p := &probe{store: model.NewStore()}
	p.store.SetParam(model.ParamInitialSeed, int64(3))
	size := batch
	for _, d := range input {
		size *= d
	}
	values := make([]float32, size)
	seed.Uniform32(seed.Stream(7, "input"), -1, 1, values)
	shape := append([]int{batch}, input...)
	p.x = tensors.FromFlatDataAndDimensions(values, shape...)
	if dtype == dtypes.Float64 {
		wide := make([]float64, size)
		for i, v := range values {
			wide[i] = float64(v)
		}
		p.x = tensors.FromFlatDataAndDimensions(wide, shape...)
	}
	loss := func(scope *model.Scope, x *Node) *Node {
		scope.Store().SetTraining(x.Graph(), training)
		logits := fn(scope, nil, []*Node{x})[0]
		hot := OneHot(Const(x.Graph(), []int32{0, 1, 2, 0, 1, 2}), 3, x.DType())
		return Neg(ReduceAllMean(ReduceSum(Mul(hot, LogSoftmax(logits, -1)), -1)))
	}
	p.loss = must(model.NewExec(backend, p.store, loss))
	p.gradient = must(model.NewExec(backend, p.store, func(scope *model.Scope, x *Node) []*Node {
		l := loss(scope, x)
		var at []*Node
		p.paths = nil
		for v := range scope.Store().IterVariables() {
			if v.Trainable && v.InUseByGraph(x.Graph()) {
				p.paths, at = append(p.paths, v.Path()), append(at, v.NodeValue(x.Graph()))
			}
		}
		return append([]*Node{l}, Gradient(l, at...)...)
	}))
	return p
}

// Gradients in float64 against central differences, along a random direction of
// every variable, in training and in evaluation.
func TestGradients(t *testing.T) {
	for _, c := range small {
		for _, training := range []bool{true, false} {
			p := newProbe(backend, c.fn, c.input, dtypes.Float64, training)
			micro := func() { // the same dropout each time
				if v := p.store.GetVariable(MicrostepVariable); v != nil {
					must(0, v.SetValue(tensors.FromScalar(int64(0))))
				}
			}
			// Away from the initial values, at which dead units sit exactly on
			// the kink of ReLU.
			must(p.loss.Exec(p.x))
			for v := range p.store.IterVariables() {
				if v.Shape().Rank() != 1 || v.DType() != dtypes.Float64 {
					continue
				}
				moved := make([]float32, v.Shape().Size())
				seed.Uniform32(seed.Stream(9, v.Path()), 0.2, 1, moved)
				wide := make([]float64, len(moved))
				for j, x := range moved {
					wide[j] = float64(x)
				}
				must(0, v.SetValue(tensors.FromFlatDataAndDimensions(wide, len(wide))))
			}
			micro()
			out := must(p.gradient.Exec(p.x))
			if len(p.paths) < 12 {
				t.Fatalf("%s: gradients of %v only", c.name, p.paths)
			}
			for i, path := range p.paths {
				v := p.store.GetVariable(path)
				w := must(tensors.CopyFlatData[float64](v.MustValue()))
				g := must(tensors.CopyFlatData[float64](out[i+1]))
				d := make([]float32, len(w))
				seed.Uniform32(seed.Stream(5, path), -1, 1, d)
				slope := 0.
				for j := range d {
					slope += float64(d[j]) * g[j]
				}
				at := func(h float64) float64 {
					moved := slices.Clone(w)
					for j := range moved {
						moved[j] += h * float64(d[j])
					}
					must(0, v.SetValue(tensors.FromFlatDataAndDimensions(moved, v.Shape().Dimensions...)))
					micro()
					return tensors.ToScalar[float64](must(p.loss.Call1(p.x)))
				}
				const h = 1e-6
				numeric := (at(h) - at(-h)) / (2 * h)
				at(0)
				if !(math.Abs(numeric-slope) <= 1e-6+1e-4*math.Abs(slope)) {
					t.Errorf("%s, training %v: slope along %s is %v, by differences %v", c.name, training, path, slope, numeric)
				}
			}
		}
	}
}

// The fast backend and the reference one compute the same, up to rounding.
func TestBackendsAgree(t *testing.T) {
	fast := must(cpu.New("workers=1"))
	for _, c := range small {
		for _, training := range []bool{true, false} {
			if c.name == "c1 with dropout" && training {
				continue // each backend has its own generator
			}
			var got [2]map[string][]float32
			for i, b := range []compute.Backend{backend, fast} {
				p := newProbe(b, c.fn, c.input, dtypes.Float32, training)
				out := must(p.gradient.Exec(p.x))
				got[i] = map[string][]float32{"loss": {tensors.ToScalar[float32](out[0])}}
				for k, path := range p.paths {
					got[i][path] = must(tensors.CopyFlatData[float32](out[k+1]))
				}
				for v := range p.store.IterVariables() {
					if !v.Trainable && v.DType() == dtypes.Float32 {
						got[i][v.Path()] = must(tensors.CopyFlatData[float32](v.MustValue())) // running statistics
					}
				}
			}
			for path, want := range got[0] {
				scale := 1e-3
				for _, x := range want {
					scale = max(scale, math.Abs(float64(x)))
				}
				for j, x := range got[1][path] {
					if !(math.Abs(float64(x-want[j])) <= 1e-3*scale) {
						t.Errorf("%s, training %v: %s[%d] is %v, on the reference backend %v", c.name, training, path, j, x, want[j])
						break
					}
				}
			}
			if len(got[0]) != len(got[1]) || len(got[0]) < 13 {
				t.Errorf("%s: %d and %d values to compare", c.name, len(got[0]), len(got[1]))
			}
		}
	}
}

func TestDropout(t *testing.T) {
	const rows, columns = 500, 40
	masks := func(s int64, training bool, passes int) (runs [3][][]float32) {
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, s)
		exec := must(model.NewExec(backend, store, func(scope *model.Scope, x *Node) []*Node {
			scope.Store().SetTraining(x.Graph(), training)
			var out []*Node
			for range passes {
				scope = scope.ResetVisited()
				out = append(out, Dropout(scope.In("a"), x, 0.3), Dropout(scope.In("b"), x, 0.3))
			}
			return out
		}))
		ones := make([]float32, rows*columns)
		for i := range ones {
			ones[i] = 1
		}
		for i := range runs {
			for _, y := range must(exec.Exec(tensors.FromFlatDataAndDimensions(ones, rows, columns))) {
				runs[i] = append(runs[i], must(tensors.CopyFlatData[float32](y)))
			}
		}
		return runs
	}
	one, two := masks(1, true, 1), masks(1, true, 2)
	seen := map[string]bool{}
	for i, run := range one {
		for k, mask := range run {
			kept := 0
			for _, v := range mask {
				switch v {
				case 0:
				case float32(1 / 0.7):
					kept++
				default:
					t.Fatalf("1 became %v", v)
				}
			}
			if n := float64(rows * columns); math.Abs(float64(kept)-0.7*n) > 5*math.Sqrt(0.21*n) {
				t.Errorf("kept %d of %v", kept, n)
			}
			seen[fmt.Sprint(mask)] = true
			if !slices.Equal(mask, two[i][k]) || !slices.Equal(mask, two[i][k+2]) {
				t.Errorf("execution %d, layer %d: another pass over the same data has another mask", i, k)
			}
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d different masks of 2 layers and 3 executions", len(seen))
	}
	if other := masks(2, true, 1); slices.Equal(other[0][0], one[0][0]) {
		t.Error("another seed gives the same mask")
	}
	for _, v := range masks(1, false, 1)[2][0] {
		if v != 1 {
			t.Fatal("dropout outside training")
		}
	}
}
