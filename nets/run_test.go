package nets_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/internal/seed"
	"github.com/openpith/evidence/nets"
	"github.com/openpith/evidence/smoothout"
	"github.com/openpith/evidence/train"
)

// noise is a training set of random images.
type noise struct{ n int }

func (s noise) Len() int     { return s.n }
func (s noise) Shape() []int { return []int{9, 9, 3} }
func (s noise) Classes() int { return 3 }
func (s noise) Fill(indices []int, x []float32, y []int32) {
	for i, j := range indices {
		seed.Uniform32(seed.Stream(1, "image", j), -1, 1, x[i*243:(i+1)*243])
		y[i] = int32(j % 3)
	}
}

// A run of a network with dropout that is interrupted at any step and resumed
// ends with the weights of the uninterrupted run.
func TestDropoutSurvivesInterruption(t *testing.T) {
	backend, err := cpu.New("workers=1")
	if err != nil {
		t.Fatal(err)
	}
	net := nets.C1(4, 3, 0.5)
	recipe := train.Recipe{Batch: 8, Ghost: 4, Epochs: 2, LearningRate: 0.05, Momentum: 0.9, Seed: 5}
	recipe.SmoothOut.Strength = 0.01
	whole, err := train.Run(context.Background(), backend, net, train.Data{Train: noise{24}}, recipe, train.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for stop := 1; stop <= 5; stop++ {
		opts := train.Options{Checkpoint: filepath.Join(t.TempDir(), "checkpoint")}
		ctx, cancel := context.WithCancel(context.Background())
		opts.Progress = func(p train.Progress) {
			if p.Step == stop {
				cancel()
			}
		}
		if _, err := train.Run(ctx, backend, net, train.Data{Train: noise{24}}, recipe, opts); !errors.Is(err, train.ErrInterrupted) {
			t.Fatalf("stopped at step %d: %v", stop, err)
		}
		opts.Progress = nil
		resumed, err := train.Run(context.Background(), backend, net, train.Data{Train: noise{24}}, recipe, opts)
		if err != nil {
			t.Fatal(err)
		}
		if resumed.Weights != whole.Weights {
			t.Errorf("stopped at step %d: other weights", stop)
		}
		cancel()
	}
	other := recipe
	other.Seed, other.SmoothOut.Seed = 6, 5
	if out, err := train.Run(context.Background(), backend, net, train.Data{Train: noise{24}}, other, train.Options{}); err != nil || out.Weights == whole.Weights {
		t.Error("another seed gives the same weights", err)
	}
}

// Noise in the weights, of whatever kind, leaves the masks as they are.
func TestMethodsShareMasks(t *testing.T) {
	backend, err := cpu.New("workers=1")
	if err != nil {
		t.Fatal(err)
	}
	// A network of one weight, 0, that shows its mask: its output is the mask
	// plus 0 times the perturbed weight.
	shows := func(scope *model.Scope, _ any, inputs []*graph.Node) []*graph.Node {
		w := scope.VariableWithValue("w", []float32{0, 0, 0}).NodeValue(inputs[0].Graph())
		mask := nets.Dropout(scope, graph.OnesLike(inputs[0]), 0.5)
		return []*graph.Node{graph.Add(mask, graph.MulScalar(graph.ReduceAllSum(w), 0))}
	}
	masks := func(cfg smoothout.Config) (all []float32) {
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(4))
		exec, err := model.NewExec(backend, store, func(scope *model.Scope, x *graph.Node) *graph.Node {
			scope.Store().SetTraining(x.Graph(), true)
			return smoothout.Wrap(cfg, shows)(scope, nil, []*graph.Node{x})[0]
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			out, err := exec.Call1(tensors.FromFlatDataAndDimensions(make([]float32, 60), 20, 3))
			if err != nil {
				t.Fatal(err)
			}
			mask, err := tensors.CopyFlatData[float32](out)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, mask...)
		}
		return all
	}
	plain := masks(smoothout.Config{})
	if slices.Equal(plain[:60], plain[60:120]) {
		t.Error("two steps share a mask")
	}
	for name, cfg := range map[string]smoothout.Config{
		"SmoothOut": {Strength: 0.1}, "another seed": {Strength: 0.1, Seed: 9}, "normal, per filter": {Strength: 0.1, Noise: smoothout.Normal, Adapt: smoothout.Filter},
	} {
		if !slices.Equal(masks(cfg), plain) {
			t.Errorf("%s has other masks than plain training", name)
		}
	}
}
