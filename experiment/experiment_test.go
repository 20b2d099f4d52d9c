package experiment

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/train"
)

// tiny is a run of a fraction of a second.
func tiny(t *testing.T, settings ...string) Config {
	t.Helper()
	c, err := RecipeByName("quick")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"width": "16", "train-samples": "256", "validation": "64", "test": "64", "batch": "64", "ghost": "32", "epochs": "4"}
	for _, s := range settings {
		name, v, _ := strings.Cut(s, "=")
		values[name] = v
	}
	if c, err = c.Apply(values); err != nil {
		t.Fatal(err)
	}
	return c
}

func testOptions() Options {
	return Options{
		Backend: func() (compute.Backend, error) { return cpu.New("workers=1") }, BackendName: "cpu:workers=1", Monitor: 100,
	}
}

func mustRun(t *testing.T, d Dir, c Config, o Options) *Result {
	t.Helper()
	r, err := d.Run(context.Background(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The settings of the reference, as they stand in its models and scripts.
func TestRecipesAreThoseOfTheReference(t *testing.T) {
	for name, want := range map[string]string{
		"paper/f1-sb":            "f1 mnist 128/128 50 ep wd 0.0001 lr 0.1 [{10 0.01} {20 0.001} {30 0.0001}]",
		"paper/f1-lb":            "f1 mnist 4096/128 50 ep wd 0.0001 lr 0.1 [{10 0.01} {20 0.001} {30 0.0001}]",
		"paper/f1-lb-ra":         "f1 mnist 4096/128 1600 ep wd 0.0001 lr 0.1 [{320 0.01} {640 0.001} {960 0.0001}]",
		"paper/c1-lb":            "c1 cifar-10 4096/128 200 ep wd 0.0005 lr 0.001 [{60 0.01} {120 0.001} {180 0.0001}]",
		"paper/c3-lb":            "c3 cifar-100 4096/128 200 ep wd 0.0005 lr 0.001 [{60 0.01} {120 0.001} {180 0.0001}]",
		"paper/resnet44-lb":      "resnet44 cifar-10 2048/256 200 ep wd 0.0001 lr 0.1 [{81 0.01} {122 0.001} {164 0.0001}]",
		"paper/resnet44-c100-lb": "resnet44 cifar-100 2048/256 200 ep wd 0.0001 lr 0.1 [{81 0.01} {122 0.001} {164 0.0001}]",
		"paper/wrn-16-4-lb":      "wrn-16-4 cifar-100 1024/128 200 ep wd 0.0001 lr 0.1 [{60 0.02} {120 0.004} {140 0.0001}]",
		"paper/resnet18-lb":      "resnet18 ./imagenet 2048/256 100 ep wd 0.0001 lr 0.1 [{30 0.01} {60 0.001} {90 0.0001}]",
		"paper/alexnet-lb":       "alexnet ./imagenet 2048/128 60 ep wd 0.0005 lr 0.01 [{20 0.001} {40 0.0001}]",
		"paper/alexnet-vlr":      "alexnetv3 ./imagenet 16384/128 60 ep wd 0 lr 0.01 [{20 0.001} {40 0.0001}]",
	} {
		c, err := RecipeByName(name)
		if err != nil {
			t.Fatal(err)
		}
		r := c.Recipe
		got := fmt.Sprintf("%s %s %d/%d %d ep wd %g lr %g %v", c.Network.Name, c.Data.Name, r.Batch, r.Ghost, r.Epochs, r.WeightDecay, r.LearningRate, r.Milestones)
		if got != want {
			t.Errorf("%s:\n %s, want\n %s", name, got, want)
		}
		if r.Momentum != 0.9 || r.ClipNorm != 5 || r.Scaling != "sqrt" || c.Source == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// The rate that the reference states for its very large batches.
	if c, err := RecipeByName("paper/alexnet-vlr"); err != nil || !(math.Abs(c.Recipe.RateAt(0)-11.3137e-2) < 1e-6) {
		t.Errorf("alexnet-vlr begins at rate %v, %v", c.Recipe.RateAt(0), err)
	}
	// Another folder keeps what a network sees of the images.
	if c, err := RecipeByName("paper/resnet18-sb"); err != nil {
		t.Error(err)
	} else if c, err = c.Apply(map[string]string{"dataset": "./pets"}); err != nil || c.Data.Name != "./pets" || c.Data.Images == nil || c.Data.Images.Crop != "area" {
		t.Errorf("on another folder: %+v, %v", c.Data, err)
	}
	if _, err := RecipeByName("paper/none"); !errors.Is(err, ErrRecipe) || !strings.Contains(err.Error(), "paper/f1-lb") {
		t.Errorf("unknown recipe: %v", err)
	}
}

func TestConfigIsData(t *testing.T) {
	seen := map[string]string{}
	for _, c := range Recipes() {
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		back, err := Parse(c.JSON())
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if d := cmp.Diff(c, back); d != "" {
			t.Errorf("%s: %s", c.Name, d)
		}
		if other, ok := seen[c.SHA256()]; ok {
			t.Errorf("%s and %s are the same", c.Name, other)
		}
		seen[c.SHA256()] = c.Name
		words := c
		words.Name, words.Notes = "other", nil
		if words.SHA256() != c.SHA256() || len(Differences(words, c)) != 0 {
			t.Errorf("%s: words decide", c.Name)
		}
	}
	good := string(tiny(t).JSON())
	for name, text := range map[string]string{
		"no JSON":        "{",
		"unknown field":  strings.Replace(good, `"network"`, `"netwrok"`, 1),
		"other schema":   strings.Replace(good, Schema, "evidence.plan/1", 1),
		"trailing":       good + "{}",
		"wrong type":     strings.Replace(good, `"batch": 64`, `"batch": "64"`, 1),
		"bad recipe":     strings.Replace(good, `"batch": 64`, `"batch": 0`, 1),
		"no network":     strings.Replace(good, `"name": "f1"`, `"name": ""`, 1),
		"other network":  strings.Replace(good, `"name": "f1"`, `"name": "f9"`, 1),
		"negative split": strings.Replace(good, `"validation": 64`, `"validation": -64`, 1),
	} {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range Recipes() {
		f.Add(c.JSON())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		back, err := Parse(c.JSON())
		if err != nil || back.SHA256() != c.SHA256() {
			t.Fatalf("%v: %s", err, c.JSON())
		}
	})
}

func TestSettings(t *testing.T) {
	base, err := RecipeByName("paper/f1-lb")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		set  string
		want string // differences to the recipe
	}{
		{"", ""},
		{"epochs=5", `recipe.epochs is 5, not 50; recipe.milestones is [{"epoch":1,"learning_rate":0.01},{"epoch":2,"learning_rate":0.001},{"epoch":3,"learning_rate":0.0001}], not [{"epoch":10,"learning_rate":0.01},{"epoch":20,"learning_rate":0.001},{"epoch":30,"learning_rate":0.0001}]`},
		{"batch=64", `recipe.batch is 64, not 4096; recipe.ghost is unset, not 128`},
		{"ghost=64 batch=8192", `recipe.batch is 8192, not 4096; recipe.ghost is 64, not 128`},
		{"batch-multiplier=2", `recipe.batch is 8192, not 4096`},
		{"method=sam", `recipe.sam.rho is 0.05, not unset`},
		{"strength=0.5 method=adasmoothout", `recipe.smoothout.adapt is "filter", not unset; recipe.smoothout.noise is "uniform", not unset; recipe.smoothout.strength is 0.5, not 0`},
		{"strength=0.5 method=asam", `recipe.sam.adaptive is true, not unset; recipe.sam.rho is 0.5, not unset`},
		{"method=smoothout noise-schedule=cosine,factor=15,delay=0.1", `recipe.smoothout.adapt is "none", not unset; recipe.smoothout.noise is "uniform", not unset; recipe.smoothout.schedule.delay is 0.1, not unset; recipe.smoothout.schedule.factor is 15, not unset; recipe.smoothout.schedule.kind is "cosine", not unset; recipe.smoothout.strength is 0.009, not 0`},
		{"method=noisy-sgd rules=bias=0,batch-norm=1,/a=b$=0.5", `recipe.smoothout.keep_noise is true, not unset; recipe.smoothout.rules is [{"factor":0,"role":"bias"},{"factor":1,"role":"batch norm"},{"factor":0.5,"path":"/a=b$"}], not unset; recipe.smoothout.strength is 0.0005, not 0`},
		{"rules=default", ""},
		{"average=ema=0.99,start=0.5", `recipe.average.decay is 0.99, not unset; recipe.average.kind is "ema", not unset; recipe.average.start is 0.5, not unset`},
		{"test=none augment=none", `data.test is -1, not unset; data.augment.pad is unset, not 2`},
		{"augment=pad=3,flip,cutout=4,fill=9", `data.augment.cutout is 4, not unset; data.augment.fill is 9, not unset; data.augment.flip is true, not unset; data.augment.pad is 3, not 2`},
		{"lr=0.2", `recipe.learning_rate is 0.2, not 0.1; recipe.milestones is [{"epoch":10,"learning_rate":0.02},{"epoch":20,"learning_rate":0.002},{"epoch":30,"learning_rate":0.0002}], not [{"epoch":10,"learning_rate":0.01},{"epoch":20,"learning_rate":0.001},{"epoch":30,"learning_rate":0.0001}]`},
	} {
		values := map[string]string{}
		for _, s := range strings.Fields(c.set) {
			name, v, _ := strings.Cut(s, "=")
			values[name] = v
		}
		got, err := base.Apply(values)
		if err != nil {
			t.Errorf("%s: %v", c.set, err)
			continue
		}
		if d := strings.Join(Differences(got, base), "; "); d != c.want {
			t.Errorf("%s:\n %s, want\n %s", c.set, d, c.want)
		}
	}
	stretched, err := base.Apply(map[string]string{"stretch": "batch"})
	if err != nil || stretched.Recipe.Epochs != 1600 || stretched.Recipe.Milestones[0].Epoch != 320 {
		t.Errorf("regime adaptation: %+v, %v", stretched.Recipe, err)
	}
	if base.Recipe.Milestones[0].Epoch != 10 {
		t.Error("the recipe that settings were applied to has changed")
	}
	for _, bad := range []string{"epochs=x", "lr=NaN", "method=magic", "augment=pad=x", "augment=blur", "noise-schedule=cosine,f=1", "batch-multiplier=0", "antithetic=maybe", "rules=bias", "rules=bias=x", "rules==1", "strength=1", "no-such=1", "seed=1.5"} {
		name, v, _ := strings.Cut(bad, "=")
		if _, err := base.Apply(map[string]string{name: v}); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want ErrConfig that names it", bad, err)
		}
	}
}

// Runs side by side are told apart by what changes training, in few words.
func TestContrast(t *testing.T) {
	for _, c := range []struct{ a, b, wantA, wantB string }{
		{"seed=1", "seed=2 test=none", "", ""},
		{"epochs=5", "width=32", "epochs 5", "width 32, epochs 50"},
		{"lr=0.2", "", "learning_rate 0.2", "learning_rate 0.1"}, // milestones go with it
	} {
		var configs []Config
		for _, set := range []string{c.a, c.b} {
			base, err := RecipeByName("paper/f1-lb")
			if err != nil {
				t.Fatal(err)
			}
			values := map[string]string{}
			for _, s := range strings.Fields(set) {
				name, v, _ := strings.Cut(s, "=")
				values[name] = v
			}
			if base, err = base.Apply(values); err != nil {
				t.Fatal(err)
			}
			configs = append(configs, base)
		}
		if got := Contrast(configs); got[0] != c.wantA || got[1] != c.wantB {
			t.Errorf("%q beside %q: %q", c.a, c.b, got)
		}
	}
	a, _ := RecipeByName("paper/f1-lb")
	b := a
	b.Recipe.Milestones = nil // the only difference
	if got := Contrast([]Config{a, b}); got[0] == got[1] || !strings.HasPrefix(got[0], "milestones ") {
		t.Errorf("lists alone: %q", got)
	}
}

func TestRun(t *testing.T) {
	dir := Dir(filepath.Join(t.TempDir(), "run"))
	c := tiny(t, "method=adasmoothout", "strength=0.2")
	opts := testOptions()
	opts.KeepEvery = 2
	var last Progress
	opts.Progress = func(p Progress) { last = p }
	r := mustRun(t, dir, c, opts)
	if last.Step != 16 || last.Time != 4 || last.Strength != 0.2 {
		t.Errorf("progress ended at %+v", last)
	}
	if r.Status != Done || r.BatchNorm != "recalibrated" || r.SelectedEpoch != 4 || r.Train.Samples != 256 || r.Validation.Samples != 64 || r.Test.Samples != 64 {
		t.Errorf("%+v", r)
	}
	stored, err := dir.Result()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, stored); d != "" {
		t.Error(d)
	}
	config, err := dir.Config()
	if err != nil || config.Data.TrainSHA256 == "" || config.Data.TestSHA256 == "" {
		t.Errorf("%+v, %v", config, err)
	}

	lines, err := dir.Lines()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, l := range lines {
		kinds[l.Kind]++
		if (l.TestLoss != nil) != (l.Kind == "final") {
			t.Errorf("the test set in a line of kind %s", l.Kind)
		}
	}
	if d := cmp.Diff(map[string]int{"step": 16, "epoch": 4, "final": 1}, kinds); d != "" {
		t.Error(d)
	}
	text, err := os.ReadFile(dir.Path(CSVFile))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 5 || rows[4][0] != "4" || rows[4][1] != "16" {
		t.Errorf("%q, %v", rows, err)
	}
	if events, _ := filepath.Glob(dir.Path("events.out.tfevents.*")); len(events) != 1 {
		t.Errorf("event files: %v", events)
	}
	if s := dir.Sessions(); len(s) != 1 || s[0].Code.Module == "" || s[0].FirstStep != 0 {
		t.Errorf("sessions: %+v", s)
	}

	// Again, it is only read.
	opts.Progress = func(Progress) { t.Error("trained again") }
	if again := mustRun(t, dir, c, opts); !cmp.Equal(again, r) {
		t.Error(cmp.Diff(r, again))
	}
	// Another configuration does not get the directory.
	_, err = dir.Run(context.Background(), tiny(t, "epochs=5"), testOptions())
	if !errors.Is(err, ErrOtherRun) || !strings.Contains(err.Error(), "recipe.epochs is 4, not 5") {
		t.Errorf("another configuration: %v", err)
	}

	// Whoever opens it finds the weights the result is about.
	run, err := Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	backend, err := cpu.New("workers=1")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	m, err := run.Model(backend, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Evaluate(context.Background(), run.Data.Test); err != nil || got != *r.Test {
		t.Errorf("evaluated %+v, in the result %+v, %v", got, *r.Test, err)
	}
	for which, ok := range map[string]bool{"final": true, "best": true, "last": true, "2": true, "epoch 4": true, "3": false, "worst": false} {
		if _, err := run.Model(backend, which); (err == nil) != ok {
			t.Errorf("weights %q: %v", which, err)
		}
	}
}

// Interrupted and continued, a run has the result and the lines of one that was
// left alone, also if the log is behind the checkpoint or ahead of it.
func TestContinue(t *testing.T) {
	root := t.TempDir()
	c := tiny(t, "method=smoothout", "augment=pad=2,flip")
	opts := testOptions()
	opts.SaveSteps = 1
	want := mustRun(t, Dir(filepath.Join(root, "whole")), c, opts)
	wantLines := comparable(t, Dir(filepath.Join(root, "whole")))
	for name, damage := range map[string]func(dir Dir, lines []byte) []byte{
		"as it was": func(_ Dir, b []byte) []byte { return b },
		"lines are missing": func(_ Dir, b []byte) []byte { // what a kill between checkpoint and log leaves
			var kept []byte
			for line := range bytes.Lines(b) {
				if !bytes.Contains(line, []byte(`"epoch":2,`)) {
					kept = append(kept, line...)
				}
			}
			return kept
		},
		"the end is missing": func(_ Dir, b []byte) []byte {
			return b[:bytes.Index(b, []byte(`"step":7,`))]
		},
		"lines are ahead": func(_ Dir, b []byte) []byte {
			return append(b, []byte(`{"kind":"step","time":"2026-01-01T00:00:00Z","step":12,"epoch":3}`+"\n")...)
		},
		"a line is torn": func(_ Dir, b []byte) []byte { return append(b, []byte(`{"kind":"st`)...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := Dir(t.TempDir())
			ctx, cancel := context.WithCancel(context.Background())
			o := opts
			o.Progress = func(p Progress) {
				if p.Step == 10 {
					cancel()
				}
			}
			if _, err := dir.Run(ctx, c, o); !errors.Is(err, ErrInterrupted) {
				t.Fatalf("%v, want ErrInterrupted", err)
			}
			text, err := os.ReadFile(dir.Path(MetricsFile))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir.Path(MetricsFile), damage(dir, text), 0o644); err != nil {
				t.Fatal(err)
			}
			got := mustRun(t, dir, c, opts)
			got.Timing, want.Timing = Timing{}, Timing{}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			lines := comparable(t, dir)
			if strings.HasSuffix(name, "missing") { // steps that nobody knows any more stay unknown
				lines, wantLines := only(lines, "epoch"), only(wantLines, "epoch")
				if d := cmp.Diff(wantLines, lines); d != "" {
					t.Error(d)
				}
			} else if d := cmp.Diff(wantLines, lines); d != "" {
				t.Error(d)
			}
			if s := dir.Sessions(); len(s) != 2 || s[1].FirstStep != 10 {
				t.Errorf("sessions: %+v", s)
			}
		})
	}
}

// comparable is the log without what the clock says.
func comparable(t *testing.T, d Dir) []Line {
	t.Helper()
	lines, err := d.Lines()
	if err != nil {
		t.Fatal(err)
	}
	for i := range lines {
		l := &lines[i]
		l.Time, l.ImagesPerSecond, l.InputFraction = time.Time{}, nil, nil
	}
	return lines
}

func only(lines []Line, kind string) (out []Line) {
	for _, l := range lines {
		if l.Kind == kind {
			out = append(out, l)
		}
	}
	return out
}

func TestDiverged(t *testing.T) {
	dir := Dir(t.TempDir())
	c := tiny(t, "lr=1e30", "clip=0", "momentum=0")
	r, err := dir.Run(context.Background(), c, testOptions())
	if !errors.Is(err, train.ErrDiverged) || r == nil || r.Status != Diverged {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := dir.Run(context.Background(), c, testOptions()); !errors.Is(err, train.ErrDiverged) || r.Status != Diverged {
		t.Errorf("asked again: %+v, %v", r, err)
	}
}

// What the recipe does to the images of its set is not done to those of another; what
// was asked for is.
func TestAugmentationFollowsTheSet(t *testing.T) {
	for _, c := range []struct {
		recipe, settings string
		want             datasets.Augmentation
	}{
		{"paper/c1-sb", "dataset=mnist", datasets.Reference("mnist")}, // neither gray nor mirrored
		{"paper/f1-sb", "dataset=glyphs", datasets.Augmentation{}},
		{"paper/f1-sb", "dataset=fashion-mnist", datasets.Reference("fashion-mnist")},
		{"paper/f1-sb", "dataset=fashion-mnist augment=pad=2", datasets.Augmentation{Pad: 2}},
		{"paper/f1-sb", "dataset=mnist", datasets.Reference("mnist")},
		{"paper/c1-sb", "dataset=./pets", datasets.Augmentation{}},
		{"paper/resnet18-sb", "dataset=cifar-10", datasets.Reference("cifar-10")},
		{"quick", "dataset=mnist", datasets.Reference("mnist")},
	} {
		r, err := RecipeByName(c.recipe)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]string{}
		for _, s := range strings.Fields(c.settings) {
			name, v, _ := strings.Cut(s, "=")
			values[name] = v
		}
		got, err := r.Apply(values)
		if err == nil {
			err = got.Validate()
		}
		if a := augmentation(got.Data.Augment); a != c.want || err != nil {
			t.Errorf("%s, %s: %+v, %v, want %+v", c.recipe, c.settings, a, err, c.want)
		}
		chosen := datasets.Augmentation{Cutout: 4}
		r.Data.Augment, r.Data.Images = &chosen, nil
		if got, _ := r.Apply(map[string]string{"dataset": "mnist"}); augmentation(got.Data.Augment) != chosen {
			t.Errorf("%s: an augmentation that was chosen became %+v", c.recipe, got.Data.Augment)
		}
	}
}

// A run whose result is nowhere is not finished, also if it diverged.
func TestDivergedUnwritten(t *testing.T) {
	c := tiny(t, "lr=1e30", "clip=0", "momentum=0")
	table := &Table{Rows: []Row{{"x", 1, c}}, Baseline: "x"}
	dir := t.TempDir()
	full := func(SweepProgress) { // something that cannot be replaced is in the way
		if err := os.MkdirAll(filepath.Join(RunDir(dir, table.Rows[0]).Path(ResultFile), "x"), 0o755); err != nil {
			t.Error(err)
		}
	}
	err := table.Run(context.Background(), dir, SweepOptions{Options: testOptions(), Progress: full})
	if err == nil || errors.Is(err, train.ErrDiverged) || !strings.Contains(err.Error(), "diverged") {
		t.Errorf("error %v: want that of writing, with why", err)
	}
}

func TestRunRefuses(t *testing.T) {
	ctx := context.Background()
	foreign := Dir(t.TempDir())
	if err := os.WriteFile(foreign.Path("thesis.tex"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := foreign.Run(ctx, tiny(t), testOptions()); !errors.Is(err, ErrOtherRun) || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("a directory that holds something else: %v", err)
	}
	c := tiny(t)
	late := Dir(t.TempDir())
	if _, err := late.Run(ctx, tiny(t, "batch=512"), testOptions()); !errors.Is(err, train.ErrRecipe) {
		t.Errorf("a batch larger than the data: %v", err)
	}
	mustRun(t, late, tiny(t, "epochs=1"), testOptions()) // nothing was trained there
	c.Data.TrainSHA256 = strings.Repeat("0", 64)
	if _, err := Dir(t.TempDir()).Run(ctx, c, testOptions()); !errors.Is(err, ErrData) {
		t.Errorf("other samples: %v, want ErrData", err)
	}
	if _, err := Open(Dir(t.TempDir()), ""); !errors.Is(err, ErrNoRun) {
		t.Errorf("no run: %v", err)
	}
	c = tiny(t, "dataset=cifar-10", "net=f1")
	if _, err := c.Load(t.TempDir()); !errors.Is(err, datasets.ErrMissing) {
		t.Errorf("data that is not there: %v", err)
	}
}

func TestInit(t *testing.T) {
	root := t.TempDir()
	first := Dir(filepath.Join(root, "first"))
	mustRun(t, first, tiny(t), testOptions())
	opts := testOptions()
	opts.Init = first.Path(FinalFile)
	second := Dir(filepath.Join(root, "second"))
	r := mustRun(t, second, tiny(t, "epochs=0", "recalibrate=0"), opts)
	a, err := first.Result()
	if err != nil {
		t.Fatal(err)
	}
	if r.WeightsSHA256 != a.WeightsSHA256 {
		t.Errorf("begun with %s, want %s", r.WeightsSHA256, a.WeightsSHA256)
	}
	// What does not fit takes no directory.
	opts.Init = first.Path(ConfigFile)
	third := Dir(filepath.Join(root, "third"))
	if _, err := third.Run(context.Background(), tiny(t), opts); !errors.Is(err, train.ErrWeights) {
		t.Errorf("weights that are none: %v", err)
	}
	if _, err := third.Config(); !errors.Is(err, ErrNoRun) {
		t.Errorf("the directory is taken: %v", err)
	}
	// It goes on without being told again, and by its own copy.
	c, err := second.Config()
	if err != nil || c.InitSHA256 == "" {
		t.Fatal(err)
	}
	mustRun(t, second, c, testOptions())
}

func TestSweep(t *testing.T) {
	text := `{"schema": "evidence.sweep/1", "recipe": "quick",
	  "set": {"width": 16, "train-samples": 256, "validation": 64, "test": "none", "batch": 64, "ghost": 32, "epochs": 2},
	  "arms": [{"name": "sgd", "set": {"method": "sgd"}}, {"name": "noisy", "set": {"method": "smoothout", "strength": 0.02}}],
	  "grid": {"lr": [0.1, 0.05]}, "seeds": [1, 2, 3]}`
	s, err := ParseSweep([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	table, err := s.Table()
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 12 || table.Baseline != "sgd lr=0.1" || table.Rows[11].Name() != "noisy-lr=0.05-seed3" || table.Rows[11].Config.Recipe.SmoothOut.Strength != 0.02 {
		t.Fatalf("%d rows, baseline %q, last %s", len(table.Rows), table.Baseline, table.Rows[len(table.Rows)-1].Name())
	}
	dir := t.TempDir()
	// Interrupted after three runs, and continued by three workers.
	ctx, cancel := context.WithCancel(context.Background())
	err = table.Run(ctx, dir, SweepOptions{Options: testOptions(), Progress: func(p SweepProgress) {
		if p.Runs == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, ErrInterrupted) {
		t.Fatalf("%v, want ErrInterrupted", err)
	}
	half, err := table.Summarize(dir, "validation_accuracy")
	if err != nil || half.Missing == 0 || half.Missing > 9 {
		t.Fatalf("%+v, %v", half, err)
	}
	trained := 0
	if err := table.Run(context.Background(), dir, SweepOptions{Options: testOptions(), Workers: 3, Progress: func(p SweepProgress) {
		if p.Done != nil {
			trained++
		}
	}}); err != nil {
		t.Fatal(err)
	}
	got, err := table.Summarize(dir, "validation_accuracy")
	if err != nil || got.Missing != 0 || len(got.Arms) != 4 || trained != 12 {
		t.Fatalf("%+v, %v, %d runs reported", got, err, trained)
	}
	for i, a := range got.Arms {
		if (a.Against == nil) != (i == 0) || a.Done != 3 {
			t.Errorf("%+v", a)
		}
		if _, read := a.Measures["test_accuracy"]; read {
			t.Error("the test set was read")
		}
	}
	// The comparison is that of the runs, paired by seed.
	var mean float64
	for seed := range int64(3) {
		at := func(arm string) float64 {
			for _, r := range table.Rows {
				if r.Arm == arm && r.Seed == seed+1 {
					res, err := RunDir(dir, r).Result()
					if err != nil {
						t.Fatal(err)
					}
					return res.Validation.Accuracy
				}
			}
			t.Fatal("no such row")
			return 0
		}
		mean += (at("noisy lr=0.05") - at("sgd lr=0.1")) / 3
	}
	if d := got.Arms[3].Against.Effect.Mean - mean; !(math.Abs(d) < 1e-12) {
		t.Errorf("effect off by %v", d)
	}
	if err := table.Write(dir, got); err != nil {
		t.Fatal(err)
	}
	var back Summary
	b, err := os.ReadFile(filepath.Join(dir, "summary.json"))
	if err != nil || json.Unmarshal(b, &back) != nil || !cmp.Equal(*got, back) {
		t.Errorf("summary.json: %v %s", err, cmp.Diff(*got, back))
	}
}

func TestSweepRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":          `[`,
		"unknown field":    `{"schema": "evidence.sweep/1", "recipe": "quick", "gird": {}}`,
		"schema":           `{"recipe": "quick"}`,
		"no recipe":        `{"schema": "evidence.sweep/1"}`,
		"unknown recipe":   `{"schema": "evidence.sweep/1", "recipe": "slow"}`,
		"unknown setting":  `{"schema": "evidence.sweep/1", "recipe": "quick", "grid": {"speed": [1]}}`,
		"grid of seeds":    `{"schema": "evidence.sweep/1", "recipe": "quick", "grid": {"seed": [1]}}`,
		"bad value":        `{"schema": "evidence.sweep/1", "recipe": "quick", "grid": {"lr": ["fast"]}}`,
		"value of a list":  `{"schema": "evidence.sweep/1", "recipe": "quick", "set": {"lr": [1]}}`,
		"arm twice":        `{"schema": "evidence.sweep/1", "recipe": "quick", "arms": [{"name": "a"}, {"name": "a"}]}`,
		"seed twice":       `{"schema": "evidence.sweep/1", "recipe": "quick", "seeds": [1, 1]}`,
		"unknown baseline": `{"schema": "evidence.sweep/1", "recipe": "quick", "baseline": "adam"}`,
		"empty grid":       `{"schema": "evidence.sweep/1", "recipe": "quick", "grid": {"lr": []}}`,
		"in both":          `{"schema": "evidence.sweep/1", "recipe": "quick", "arms": [{"name": "a", "set": {"lr": 1}}], "grid": {"lr": [1]}}`,
	} {
		s, err := ParseSweep([]byte(text))
		if err == nil {
			_, err = s.Table()
		}
		if !errors.Is(err, ErrSweep) {
			t.Errorf("%s: %v, want ErrSweep", name, err)
		}
	}
}

func TestTune(t *testing.T) {
	c := tiny(t, "method=smoothout", "validation=128")
	tuned, err := c.Tune(context.Background(), Dir(t.TempDir()), 0.05, 3, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if !(math.Abs(tuned.Gap-0.05) < 0.005) || !(tuned.Strength > 0) {
		t.Errorf("%+v, want a gap of 0.05", tuned)
	}
	// Noise that grows is tuned where it is largest.
	rising, err := tiny(t, "method=smoothout", "validation=128", "noise-schedule=cosine,factor=10").Tune(context.Background(), Dir(t.TempDir()), 0.05, 3, testOptions())
	if err != nil || !(math.Abs(10*rising.Strength/tuned.Strength-1) < 0.05) {
		t.Errorf("growing tenfold, noise begins at %v, %v; constant it is %v", rising.Strength, err, tuned.Strength)
	}
	for name, bad := range map[string]Config{"sgd": tiny(t), "sam": tiny(t, "method=sam"), "no validation": tiny(t, "method=smoothout", "validation=0")} {
		if _, err := bad.Tune(context.Background(), Dir(t.TempDir()), 0.05, 1, testOptions()); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}
