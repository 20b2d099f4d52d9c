package train

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/smoothout"
)

func TestRateAt(t *testing.T) {
	r := Recipe{Batch: 4096, Ghost: 128, LearningRate: 0.1, Milestones: []Milestone{{10, 0.01}, {20.5, 0.001}}}
	for scaling, factor := range map[string]float64{"": 1, "none": 1, "sqrt": math.Sqrt(32), "linear": 32} {
		r.Scaling = scaling
		for epoch, want := range map[float64]float64{0: 0.1, 9.99: 0.1, 10: 0.01, 20: 0.01, 20.5: 0.001, 1000: 0.001} {
			if got := r.RateAt(epoch); math.Abs(got-want*factor) > 1e-12 {
				t.Errorf("%q at %v: %v, want %v", scaling, epoch, got, want*factor)
			}
		}
	}
}

func TestSchedules(t *testing.T) {
	cosine := Recipe{Batch: 8, Epochs: 100, LearningRate: 0.4, Schedule: "cosine", Warmup: 10}
	for epoch, want := range map[float64]float64{
		0: 0, 5: 0.5 * 0.2 * (1 + math.Cos(math.Pi*0.05)), 10: 0.2 * (1 + math.Cos(math.Pi*0.1)), 50: 0.2, 75: 0.2 * (1 - math.Sqrt2/2), 100: 0,
	} {
		if got := cosine.RateAt(epoch); math.Abs(got-want) > 1e-12 {
			t.Errorf("cosine at %v: %v, want %v", epoch, got, want)
		}
	}
	step := Recipe{Batch: 8, Ghost: 2, Epochs: 50, Warmup: 5, Milestones: []Milestone{{10, 0.01}, {20, 0.001}}}
	short := step.WithEpochs(5)
	if want := []Milestone{{1, 0.01}, {2, 0.001}}; short.Epochs != 5 || short.Warmup != 0.5 || !cmp.Equal(short.Milestones, want) {
		t.Errorf("compressed: %+v", short)
	}
	if step.Milestones[0].Epoch != 10 {
		t.Error("the recipe it was made from has changed")
	}
	if long := step.WithMultiplier(3); long.Batch != 24 || long.Ghost != 2 || long.Multiple() != 12 {
		t.Errorf("multiplied: %+v", long)
	}
	if whole := (Recipe{Batch: 8}).WithMultiplier(2); whole.Batch != 16 || whole.Ghost != 8 {
		t.Errorf("multiplied: %+v", whole)
	}
}

func TestRecipeValidate(t *testing.T) {
	good := Recipe{Batch: 8, Epochs: 1, LearningRate: 0.1}
	for name, c := range map[string]struct {
		change func(*Recipe)
		says   string
	}{
		"no batch":               {func(r *Recipe) { r.Batch = 0 }, "batch"},
		"ghost no divisor":       {func(r *Recipe) { r.Ghost = 3 }, "ghost"},
		"ghost too large":        {func(r *Recipe) { r.Ghost = 16 }, "ghost"},
		"negative ghost":         {func(r *Recipe) { r.Ghost = -8 }, "ghost"},
		"negative epochs":        {func(r *Recipe) { r.Epochs = -1 }, "epochs"},
		"NaN rate":               {func(r *Recipe) { r.LearningRate = math.NaN() }, "learning rate"},
		"infinite rate":          {func(r *Recipe) { r.LearningRate = math.Inf(1) }, "learning rate"},
		"scaling":                {func(r *Recipe) { r.Scaling = "cubic" }, "scaling"},
		"momentum 1":             {func(r *Recipe) { r.Momentum = 1 }, "momentum"},
		"NaN decay":              {func(r *Recipe) { r.WeightDecay = math.NaN() }, "weight decay"},
		"negative clip":          {func(r *Recipe) { r.ClipNorm = -1 }, "clip"},
		"recalibrate":            {func(r *Recipe) { r.Recalibrate = -2 }, "recalibrate"},
		"schedule":               {func(r *Recipe) { r.Schedule = "spline" }, "schedule"},
		"cosine and milestones":  {func(r *Recipe) { r.Schedule = "cosine"; r.Milestones = []Milestone{{1, 1}} }, "milestones"},
		"NaN warm-up":            {func(r *Recipe) { r.Warmup = math.NaN() }, "warm-up"},
		"label smoothing 1":      {func(r *Recipe) { r.LabelSmoothing = 1 }, "label smoothing"},
		"select":                 {func(r *Recipe) { r.Select = "luckiest" }, "select"},
		"milestones in disorder": {func(r *Recipe) { r.Milestones = []Milestone{{2, 1}, {1, 1}} }, "milestone 2"},
		"noise":                  {func(r *Recipe) { r.SmoothOut.Strength = -1 }, "strength"},
	} {
		r := good
		c.change(&r)
		if err := r.Validate(); !errors.Is(err, ErrRecipe) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v: want ErrRecipe that says %q", name, err, c.says)
		}
	}
	for _, r := range []Recipe{good, recipe} {
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestRecipeIsData(t *testing.T) {
	b, err := json.Marshal(recipe)
	if err != nil {
		t.Fatal(err)
	}
	var back Recipe
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(recipe, back, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Select" }, cmp.Ignore())); d != "" {
		t.Error(d)
	}
	want := `{"batch":8,"epochs":1,"learning_rate":0.1,"momentum":0,"weight_decay":0,"smoothout":{"strength":0},"seed":0}`
	if b, _ := json.Marshal(Recipe{Batch: 8, Epochs: 1, LearningRate: 0.1, SmoothOut: smoothout.Config{}}); string(b) != want {
		t.Errorf("%s, want %s", b, want)
	}
}
