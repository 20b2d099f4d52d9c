package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/internal/safetensors"
	"github.com/openpith/evidence/internal/seed"
)

// A checkpoint within an epoch, and no warning before the end: what a kill is.
func TestResumeWithinEpoch(t *testing.T) {
	want := mustRun(t, recipe, Options{})
	path := filepath.Join(t.TempDir(), "run.ckpt")
	_, err := Run(context.Background(), newBackend(t), net, data(), recipe, Options{Checkpoint: path, SaveSteps: 2, Progress: func(p Progress) {
		if p.Step == 11 && p.Done == nil {
			panic("killed")
		}
	}})
	if err == nil {
		t.Fatal("not killed")
	}
	out := mustRun(t, recipe, Options{Checkpoint: path, Progress: func(p Progress) {
		if p.First != 10 { // 2, 4, the end of the epoch, 8, 10
			t.Fatalf("continued after step %d, want 10", p.First)
		}
	}})
	same(t, out, want)
}

func TestLoadersAndCostChangeNothing(t *testing.T) {
	want := mustRun(t, recipe, Options{})
	same(t, mustRun(t, recipe, Options{Loaders: 4}), want)

	long := recipe
	long.Epochs = 12
	want = mustRun(t, long, Options{})
	var cost float64
	got := mustRun(t, long, Options{Cost: true, Progress: func(p Progress) { cost = p.Cost }})
	same(t, got, want)
	if !(cost > 0) {
		t.Errorf("cost %v: want a positive number", cost)
	}
}

// shifted samples differ by epoch.
type shifted struct {
	*blobs
	mu    sync.Mutex
	calls map[int]int // samples by epoch
	fail  error
}

func (s *shifted) FillEpoch(epoch int, indices []int, x []float32, y []int32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[epoch] += len(indices)
	s.Fill(indices, x, y)
	for i := range x {
		x[i] += float32(epoch) / 10
	}
	return s.fail
}

func TestAugmentedSamples(t *testing.T) {
	d := data()
	s := &shifted{blobs: newBlobs(1, 200), calls: map[int]int{}}
	d.Train = s
	out, err := Run(context.Background(), newBackend(t), net, d, recipe, Options{Loaders: 3})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[int]int{0: 192, 1: 192, 2: 192}, s.calls); diff != "" {
		t.Errorf("training did not ask for each epoch: %s", diff)
	}
	plain := mustRun(t, recipe, Options{})
	if out.Weights == plain.Weights {
		t.Error("trained on the unchanged samples")
	}
	if first := out.History[0].TrainingLoss; first != plain.History[0].TrainingLoss {
		t.Errorf("first epoch, not shifted: loss %v, want %v", first, plain.History[0].TrainingLoss)
	}
	s.fail = errors.New("a file is gone")
	if _, err := Run(context.Background(), newBackend(t), net, d, recipe, Options{}); !errors.Is(err, s.fail) {
		t.Errorf("error %v, want that of the samples", err)
	}
	bad := panicking{newBlobs(1, 200)}
	d.Train = bad
	if _, err := Run(context.Background(), newBackend(t), net, d, recipe, Options{}); err == nil {
		t.Error("samples that panic: no error")
	}
}

type panicking struct{ *blobs }

func (panicking) Fill([]int, []float32, []int32) { panic("no such sample") }

func TestBest(t *testing.T) {
	v := func(loss, accuracy float64) Epoch { return Epoch{Validation: &Metrics{Loss: loss, Accuracy: accuracy}} }
	for _, c := range []struct {
		history []Epoch
		want    int
	}{
		{nil, 0},
		{[]Epoch{v(1, 0.5), v(1, 0.7), v(1, 0.6)}, 2},
		{[]Epoch{v(1, 0.5), v(2, 0.7), v(1, 0.7)}, 3},
		{[]Epoch{v(1, 0.7), v(1, 0.7), v(1, 0.7)}, 1},
		{[]Epoch{v(1, 0.7), v(1, 0.5), {}}, 3},
	} {
		if got := Best(c.history); got != c.want {
			t.Errorf("%v: epoch %d, want %d", c.history, got, c.want)
		}
	}
}

// noisyLate trains well first and then badly, so that the last epoch is not
// the best.
func noisyLate() Recipe {
	r := recipe
	r.Epochs, r.Select = 6, "best"
	r.Milestones = []Milestone{{Epoch: 4, LearningRate: 8}}
	return r
}

func TestSelectBest(t *testing.T) {
	r := noisyLate()
	best := filepath.Join(t.TempDir(), "best.safetensors")
	dir := t.TempDir()
	out := mustRun(t, r, Options{Best: best, EpochWeights: func(epoch int) string {
		if epoch%2 == 0 {
			return filepath.Join(dir, fmt.Sprint(epoch))
		}
		return ""
	}})
	if found, _ := filepath.Glob(filepath.Join(dir, "*")); len(found) != 3 {
		t.Errorf("weights of epochs: %v", found)
	}
	if out.Selected >= 6 || out.Selected != Best(out.History) {
		t.Fatalf("selected epoch %d of %+v", out.Selected, out.History)
	}
	if want := *out.History[out.Selected-1].Validation; *out.Validation != want {
		t.Errorf("validation %+v, in the selected epoch %+v", *out.Validation, want)
	}
	file, err := os.ReadFile(best)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(newBackend(t), net, data().Test, file)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := loaded.Digest(); err != nil || d != out.Weights {
		t.Errorf("%s holds weights %s, want %s, %v", best, d, out.Weights, err)
	}
	if m, err := loaded.Evaluate(context.Background(), data().Test); err != nil || m != *out.Test {
		t.Errorf("evaluated from the file: %+v, want %+v, %v", m, *out.Test, err)
	}

	// Interrupted after the best epoch and resumed, the choice stands.
	path := filepath.Join(t.TempDir(), "run.ckpt")
	ctx, cancel := context.WithCancel(context.Background())
	_, err = Run(ctx, newBackend(t), net, data(), r, Options{Checkpoint: path, Progress: func(p Progress) {
		if p.Step == 33 {
			cancel()
		}
	}})
	if !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	same(t, mustRun(t, r, Options{Checkpoint: path}), out)

	none := data()
	none.Validation = nil
	if _, err := Run(context.Background(), newBackend(t), net, none, r, Options{}); !errors.Is(err, ErrRecipe) {
		t.Errorf("no validation set: %v, want ErrRecipe", err)
	}
}

func TestInit(t *testing.T) {
	out := mustRun(t, recipe, Options{})
	weights, err := out.Model.Weights(map[string]string{"who": "test"})
	if err != nil {
		t.Fatal(err)
	}
	still := recipe
	still.Epochs = 0
	if got := mustRun(t, still, Options{Init: weights}); got.Weights != out.Weights || *got.Test != *out.Test {
		t.Errorf("begun with weights %s, want %s", got.Weights, out.Weights)
	}
	more := mustRun(t, recipe, Options{Init: weights})
	if more.Weights == out.Weights || more.History[0].TrainingLoss >= out.History[0].TrainingLoss {
		t.Error("did not go on from the weights given")
	}
	// Another start is another run.
	path := filepath.Join(t.TempDir(), "run.ckpt")
	mustRun(t, recipe, Options{Init: weights, Checkpoint: path})
	if _, err := Run(context.Background(), newBackend(t), net, data(), recipe, Options{Checkpoint: path}); !errors.Is(err, ErrCheckpointForeign) {
		t.Errorf("continued without the weights it began with: %v", err)
	}
	// A checkpoint serves as weights too.
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Model.SetWeights(whole); err != nil {
		t.Error(err)
	}

	all, meta, err := safetensors.Decode(weights)
	if err != nil || meta["who"] != "test" {
		t.Fatal(meta, err)
	}
	before, _ := out.Model.Digest()
	for name, change := range map[string]func([]safetensors.Tensor) []safetensors.Tensor{
		"one is missing": func(ts []safetensors.Tensor) []safetensors.Tensor { return ts[1:] },
		"another shape": func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[0].Shape = []int{len(ts[0].Data) / 4}
			return ts
		},
		"another type": func(ts []safetensors.Tensor) []safetensors.Tensor { ts[0].DType = "I32"; return ts },
	} {
		file, err := safetensors.Encode(change(append([]safetensors.Tensor{}, all...)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Model.SetWeights(file); !errors.Is(err, ErrWeights) {
			t.Errorf("%s: %v, want ErrWeights", name, err)
		}
	}
	if err := out.Model.SetWeights([]byte("no")); !errors.Is(err, ErrWeights) || !errors.Is(err, safetensors.ErrFormat) {
		t.Errorf("no file of weights: %v", err)
	}
	for _, at := range []int{len(weights) - 1, len(weights) / 2} {
		torn := append([]byte{}, weights...)
		torn[at] ^= 1
		if err := out.Model.SetWeights(torn); !errors.Is(err, ErrWeights) {
			t.Errorf("a bit flipped in byte %d: %v", at, err)
		}
	}
	if after, _ := out.Model.Digest(); after != before {
		t.Error("weights that were refused changed the model")
	}
}

// Weights that are no longer finite do not replace a good checkpoint, even if
// no loss has shown them yet.
func TestLastGoodCheckpointStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.ckpt")
	var good []byte
	r, err := newRun(newBackend(t), net, data(), recipe, Options{Checkpoint: path})
	if err != nil {
		t.Fatal(err)
	}
	order := seed.Perm(seed.Stream(1, "x"), 32)
	input := load(r.data.Train, 0, order, 8, 1)
	defer input.stop()
	if _, _, _, err := r.step(input); err != nil {
		t.Fatal(err)
	}
	if err := r.save(); err != nil {
		t.Fatal(err)
	}
	if good, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	v := r.model.store.GetVariable("/out/dense/biases")
	if v == nil {
		for w := range r.model.store.IterVariables() {
			if w.Trainable && w.Shape().Rank() == 1 {
				v = w
			}
		}
	}
	bad := make([]float32, v.Shape().Size())
	bad[1] = float32(math.NaN())
	if err := v.SetValue(tensors.FromFlatDataAndDimensions(bad, len(bad))); err != nil {
		t.Fatal(err)
	}
	if err := r.save(); !errors.Is(err, ErrDiverged) {
		t.Errorf("error %v, want ErrDiverged", err)
	}
	if now, _ := os.ReadFile(path); string(now) != string(good) {
		t.Error("the good checkpoint is gone")
	}
}
