package cpu_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/openpith/evidence/bench"
	"github.com/openpith/evidence/cpu"
)

func newBackend(t testing.TB, config string) compute.Backend {
	b, err := cpu.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Finalize)
	return b
}

var smallNets = []bench.Training{
	{Name: "F1", Net: bench.F1(5, 64), Shape: []int{32, 28, 28, 1}},
	{Name: "C1", Net: bench.C1(16, 32, 24), Shape: []int{8, 32, 32, 3}},
	{Name: "ResNet", Net: bench.ResNet(1, 16, 32, 64), Shape: []int{8, 16, 16, 3}},
}

// start prepares a training whose failures are the test's.
func start(t *testing.T, tr bench.Training, backend compute.Backend) func(train.Batch) float64 {
	step := tr.Start(backend)
	return func(batch train.Batch) float64 {
		loss, err := step(batch)
		if err != nil {
			t.Fatal(err)
		}
		return loss
	}
}

// The first losses of a training are those of the reference backend, but that one of
// three trainings may meet a rectifier or a maximum so close to its kink that rounding
// decides which gradient it has.
func TestLossesFollowReference(t *testing.T) {
	const trainings, steps = 3, 4
	for _, tr := range smallNets {
		t.Run(tr.Name, func(t *testing.T) {
			reference, err := gobackend.New("ops_sequential")
			if err != nil {
				t.Fatal(err)
			}
			defer reference.Finalize()
			all, other := tr.Batches(trainings*steps), tr.Batches(trainings*steps) // tensors belong to one backend
			var strayed []string
			for first := 0; first < len(all); first += steps {
				ours, theirs := start(t, tr, newBackend(t, "")), start(t, tr, reference)
				for i := range steps {
					got, want := ours(all[first+i]), theirs(other[first+i])
					// Rounding differences grow from step to step.
					if tolerance := 2e-6 * math.Pow(6, float64(i)); !(math.Abs(got-want) <= tolerance*want) {
						strayed = append(strayed, fmt.Sprintf("training %d, step %d: loss %.7f, the reference has %.7f", first/steps, i, got, want))
						break
					}
				}
			}
			if len(strayed) > 1 {
				t.Errorf("%d of %d trainings strayed:\n%s", len(strayed), trainings, strings.Join(strayed, "\n"))
			}
		})
	}
}

// Along its own direction the gradient is the slope of the loss: for every whole
// network, with the forward pass that training uses.
func TestGradientsOfNetworks(t *testing.T) {
	const step = 1e-3
	for _, tr := range smallNets {
		t.Run(tr.Name, func(t *testing.T) {
			backend := newBackend(t, "")
			store := model.NewStore()
			exec, err := model.NewExec(backend, store, func(scope *model.Scope, x, labels, along *Node) (*Node, *Node) {
				g := x.Graph()
				store.SetTraining(g, true)
				lossAt := func() *Node {
					logits := tr.Net(scope.ResetVisited().WithInitializer(bench.FixedInit), x)
					return ReduceAllMean(loss.SparseCategoricalCrossEntropyLogits([]*Node{labels}, []*Node{logits}))
				}
				start := lossAt()
				var weights []*model.Variable
				var values []*Node
				for v := range store.IterVariables() {
					if v.Trainable && v.InUseByGraph(g) {
						weights = append(weights, v)
						values = append(values, v.NodeValue(g))
					}
				}
				gradients := Gradient(start, values...)
				square := ScalarZero(g, dtypes.Float32)
				for _, d := range gradients {
					square = Add(square, ReduceAllSum(Square(d)))
				}
				norm := Sqrt(square)
				for i, v := range weights {
					v.SetNodeValue(Add(values[i], Mul(along, StopGradient(Div(gradients[i], norm)))))
				}
				there := lossAt()
				for i, v := range weights {
					v.SetNodeValue(values[i])
				}
				return norm, there
			})
			if err != nil {
				t.Fatal(err)
			}
			batch := tr.Batches(1)[0]
			at := func(along float32) (norm, loss float64) {
				out, err := exec.Call(batch.Inputs[0], batch.Labels[0], along)
				if err != nil {
					t.Fatal(err)
				}
				return float64(out[0].Value().(float32)), float64(out[1].Value().(float32))
			}
			norm, above := at(step)
			_, below := at(-step)
			slope := (above - below) / (2 * step)
			if !(math.Abs(slope-norm) <= 0.01*norm) {
				t.Errorf("the gradient has length %.5f, the loss changes by %.5f per unit along it", norm, slope)
			}
		})
	}
}

// Any number of workers gives the same bits.
func TestWorkersDoNotMatter(t *testing.T) {
	for _, tr := range smallNets {
		for _, isa := range []string{"", ",isa=go"} {
			t.Run(tr.Name+isa, func(t *testing.T) {
				losses := func(config string) (list []float64) {
					take := start(t, tr, newBackend(t, config+isa))
					for _, batch := range tr.Batches(3) {
						list = append(list, take(batch))
					}
					return list
				}
				want := losses("workers=1")
				for _, config := range []string{"workers=2", "workers=7"} {
					if got := losses(config); !slices.Equal(got, want) {
						t.Errorf("%s: losses %v, with one worker %v", config, got, want)
					}
				}
			})
		}
	}
}
