package study

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/openpith/evidence/sharpness"
)

// examplePlan is a small valid plan with two treatments, one more arm and five
// seeds, as a study begins with it.
func examplePlan() *Plan {
	p := &Plan{
		Schema: PlanSchema, Name: "example", Title: "Example",
		Claim:       Claim{PithNumber: "pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM", ID: "c", Text: "It helps.", Source: "abstract"},
		Sweep:       Sweep{Schema: SweepSchema, Recipe: "quick", Seeds: []int64{1, 2, 3, 4, 5}, Baseline: "sgd", Set: map[string]any{"epochs": "2"}},
		Comparisons: []string{"so", "ada"},
		Outcome:     Outcome{Metric: "test_accuracy", Test: "paired t", Alpha: 0.05, MinimumEffect: 0.001},
		Measures: Measures{Examples: 100, Seed: 1, List: []sharpness.Choice{
			{Measure: sharpness.Filled(sharpness.Noise{Strength: 0.01, Draws: 2})}, {Measure: sharpness.Filled(sharpness.Keskar{})},
		}},
	}
	for _, name := range []string{"sgd", "so", "ada", "sam"} {
		p.Sweep.Arms = append(p.Sweep.Arms, SweepArm{Name: name, Set: map[string]any{"method": name}})
		p.Arms = append(p.Arms, Arm{Name: name, Label: strings.ToUpper(name), Method: name, Config: json.RawMessage(`{"data": {"name": "glyphs"}, "recipe": {"epochs": 2, "batch": 64}}`)})
	}
	return p
}

// runsWith gives every arm the test accuracies listed, one per seed; a NaN is
// a failed run.
func runsWith(p *Plan, accuracies map[string][]float64) []Run {
	var runs []Run
	for _, a := range p.Arms {
		for i, s := range p.Seeds() {
			r := Run{PlanSHA256: p.SHA256(), Arm: a.Name, Seed: s, ConfigSHA256: strings.Repeat("c", 64), Status: StatusDone, Epochs: []Epoch{}, Measures: []Measured{}}
			acc := 0.5
			if list := accuracies[a.Name]; list != nil {
				acc = list[i]
			}
			if math.IsNaN(acc) {
				r.Status, r.Error = StatusFailed, "the loss is not a number at step 3"
			} else {
				r.Final = &Final{TrainAccuracy: 1, TrainLoss: 0.1, TrainSamples: 9, ValidationAccuracy: acc, ValidationLoss: 0.2, ValidationSamples: 8, TestAccuracy: acc, TestLoss: 0.3, TestSamples: 7}
				for k, label := range p.Measures.Labels() {
					r.Measures = append(r.Measures, Measured{Measure: label, Value: float64(k+1) * (1.1 - acc), StandardError: 0.1})
				}
				r.WeightsSHA256 = strings.Repeat("a", 64)
				for e := range 2 {
					r.Epochs = append(r.Epochs, Epoch{Epoch: e + 1, LearningRate: 0.1, TrainLoss: 1, ValidationLoss: 1, ValidationAccuracy: acc})
				}
			}
			runs = append(runs, r)
		}
	}
	return runs
}

func TestJudge(t *testing.T) {
	nan := math.NaN()
	base := []float64{0.90, 0.91, 0.92, 0.90, 0.91}
	plus := func(d ...float64) []float64 {
		out := make([]float64, len(base))
		for i := range base {
			out[i] = base[i] + d[i%len(d)]
		}
		return out
	}
	tests := []struct {
		name    string
		so, ada []float64
		each    []string
		overall string
	}{
		{"both clearly better", plus(0.010, 0.011, 0.009), plus(0.02, 0.021, 0.019), []string{Successful, Successful}, Successful},
		{"both clearly worse", plus(-0.010, -0.011), plus(-0.02, -0.021), []string{Failed, Failed}, Failed},
		{"no difference at all excludes the planned effect", plus(0), plus(0), []string{Failed, Failed}, Failed},
		{"one better, one worse", plus(0.010, 0.011), plus(-0.02, -0.021), []string{Successful, Failed}, Mixed},
		{"one better, one unclear", plus(0.010, 0.011), plus(-0.02, 0.02), []string{Successful, Inconclusive}, Mixed},
		{"one worse, one unclear", plus(-0.010, -0.011), plus(-0.02, 0.02), []string{Failed, Inconclusive}, Inconclusive},
		{"noise", plus(0.03, -0.03), plus(-0.02, 0.02), []string{Inconclusive, Inconclusive}, Inconclusive},
		{"better, but by less than counts", plus(0.0005, 0.0006), plus(0.0005, 0.0006), []string{Failed, Failed}, Failed},
		{"a failed run settles nothing", plus(0.010, 0.011), append([]float64{nan}, plus(0.01, 0.011)[1:]...), []string{Successful, Inconclusive}, Mixed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := examplePlan()
			res, err := p.Judge(runsWith(p, map[string][]float64{"sgd": base, "so": tt.so, "ada": tt.ada}))
			if err != nil {
				t.Fatal(err)
			}
			var each []string
			for _, c := range res.Comparisons {
				each = append(each, c.Outcome)
			}
			if diff := cmp.Diff(tt.each, each); diff != "" {
				t.Errorf("comparisons (-want +got):\n%s%s", diff, res.Statement)
			}
			if res.Outcome != tt.overall {
				t.Errorf("overall %s, want %s", res.Outcome, tt.overall)
			}
			if !strings.HasPrefix(res.Statement, "Outcome: "+tt.overall) {
				t.Errorf("statement %q", res.Statement)
			}
		})
	}
}

func TestFewerThanFiveSeedsAreInconclusive(t *testing.T) {
	p := examplePlan()
	p.Sweep.Seeds = p.Sweep.Seeds[:4]
	res, err := p.Judge(runsWith(p, map[string][]float64{
		"sgd": {0.5, 0.5, 0.5, 0.5}, "so": {0.9, 0.91, 0.92, 0.9}, "ada": {0.1, 0.11, 0.1, 0.11},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Outcome != Inconclusive {
		t.Errorf("four seeds gave %s", res.Outcome)
	}
}

func TestFailedRunsStayListed(t *testing.T) {
	p := examplePlan()
	nan := math.NaN()
	res, err := p.Judge(runsWith(p, map[string][]float64{
		"sgd": {0.5, 0.5, 0.5, 0.5, 0.5}, "so": {nan, nan, nan, nan, nan}, "ada": {0.6, 0.6, 0.6, 0.6, nan},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Runs) != 20 || res.Arms[1].Failed != 5 || res.Arms[1].TestAccuracy != nil || res.Comparisons[1].FailedRuns != 1 {
		t.Errorf("runs %d, arm %+v, comparison %+v", len(res.Runs), res.Arms[1], res.Comparisons[1])
	}
	if _, err := json.Marshal(res); err != nil {
		t.Errorf("results with failed runs do not marshal: %v", err)
	}
}

func TestJudgeInsistsOnEveryRun(t *testing.T) {
	p := examplePlan()
	acc := []float64{0.5, 0.6, 0.5, 0.6, 0.5}
	all := runsWith(p, map[string][]float64{"sgd": acc, "so": acc, "ada": acc})
	foreign := all[0]
	foreign.Seed = 99
	odd := all[0]
	final := *odd.Final
	final.TestAccuracy = 1.5
	odd.Final = &final
	huge, stranger, fewer, short := all[0], all[0], all[0], all[0]
	final2 := *all[0].Final
	final2.TestLoss = 1.7e308
	huge.Final = &final2
	stranger.Measures = []Measured{{Measure: "feeling"}, all[0].Measures[1]}
	fewer.Measures = all[0].Measures[:1]
	short.Epochs = short.Epochs[:1]
	if _, err := p.Judge(all[1:]); !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), "sgd seed 1") {
		t.Errorf("a missing run: %v, want ErrIncomplete about sgd seed 1", err)
	}
	tests := []struct {
		name string
		runs []Run
		want string
	}{
		{"overflow", append([]Run{huge}, all[1:]...), "loss"},
		{"a measure of no plan", append([]Run{stranger}, all[1:]...), "feeling"},
		{"a measure left out", append([]Run{fewer}, all[1:]...), "measures"},
		{"too few epochs", append([]Run{short}, all[1:]...), "status"},
		{"twice", append(all[:len(all):len(all)], all[0]), "there twice"},
		{"foreign", append(all[:len(all):len(all)], foreign), "not in the plan"},
		{"impossible", append([]Run{odd}, all[1:]...), "accuracy"},
	}
	for _, tt := range tests {
		if _, err := p.Judge(tt.runs); err == nil || !errors.Is(err, ErrRunFile) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one about %q", tt.name, err, tt.want)
		}
	}
}

// Within each batch size the flatter networks have the smaller gap; over all, the
// large batches are sharper and yet have the smaller gap, since they learned less.
func TestCorrelationsByBatch(t *testing.T) {
	p := examplePlan()
	for i := range p.Arms {
		if i%2 == 1 {
			p.Arms[i].Config = json.RawMessage(strings.Replace(string(p.Arms[i].Config), `"batch": 64`, `"batch": 8`, 1))
		}
	}
	runs := runsWith(p, nil)
	for i := range runs {
		large := i/5%2 == 0
		k := float64(i%5) + 5*float64(i/10) // counts the runs of one batch size
		runs[i].Final.TrainAccuracy, runs[i].Measures[0].Value = 0.9+0.001*k, 1+k
		if large {
			runs[i].Final.TrainAccuracy, runs[i].Measures[0].Value = 0.7+0.001*k, 100+k
		}
	}
	res, err := p.Judge(runs)
	if err != nil {
		t.Fatal(err)
	}
	if k := res.Correlations[0].Kendall; k == nil || k.Value > -0.05 {
		t.Errorf("over all runs %+v, want a negative τ", k)
	}
	if len(res.ByBatch) != 2 || res.ByBatch[0].Batch != 64 || res.ByBatch[1].Batch != 8 {
		t.Fatalf("groups: %+v", res.ByBatch)
	}
	for _, b := range res.ByBatch {
		if c := b.Correlations[0]; c.N != 10 || c.Kendall == nil || !(c.Kendall.Value > 1-1e-9) || len(b.Correlations) != 2 {
			t.Errorf("batch %d: %+v, want τ = 1 over 10 runs", b.Batch, c)
		}
	}
}

// An improvement of exactly what counts is one, however the sums round.
func TestThresholdsStandAboveRounding(t *testing.T) {
	p := examplePlan()
	base := []float64{0.9031, 0.9127, 0.9243, 0.9009, 0.9188}
	so, ada := make([]float64, 5), make([]float64, 5)
	for i, b := range base {
		so[i] = b + 0.001                                                  // constant but for rounding
		ada[i] = b + []float64{0.0009, 0.0011, 0.00105, 0.00095, 0.001}[i] // 0.001 on average
	}
	res, err := p.Judge(runsWith(p, map[string][]float64{"sgd": base, "so": so, "ada": ada}))
	if err != nil {
		t.Fatal(err)
	}
	if c := res.Comparisons[0]; c.Outcome != Successful || c.T != 0 || c.Effect.SD != 0 {
		t.Errorf("constant: %+v", c)
	}
	if c := res.Comparisons[1]; c.Outcome != Successful {
		t.Errorf("on average: %+v, mean %v", c, c.Effect.Mean)
	}
}

// The verdict must not depend on the order in which runs finished.
func TestJudgeIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := examplePlan()
		acc := rapid.SliceOfN(rapid.Float64Range(0, 1), 5, 5)
		runs := runsWith(p, map[string][]float64{
			"sgd": acc.Draw(t, "sgd"), "so": acc.Draw(t, "so"), "ada": acc.Draw(t, "ada"),
		})
		want, err := p.Judge(runs)
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "shuffle"), 0))
		r.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
		got, err := p.Judge(runs)
		if err != nil {
			t.Fatal(err)
		}
		if want.SHA256() != got.SHA256() {
			t.Fatalf("results differ:\n%s", cmp.Diff(want, got))
		}
	})
}

func TestParsePlanRefuses(t *testing.T) {
	valid := string(examplePlan().JSON())
	if _, err := ParsePlan([]byte(valid)); err != nil {
		t.Fatalf("the example is refused: %v", err)
	}
	tests := []struct{ name, old, new, want string }{
		{"unknown field", `"baseline"`, `"base_line"`, "base_line"},
		{"duplicate key", `"name": "example"`, `"name": "example", "name": "other"`, "name"},
		{"trailing data", "\n}\n", "\n} {}", ""},
		{"other schema", PlanSchema, "evidence.plan/9", "schema"},
		{"baseline without arm", `"baseline": "sgd"`, `"baseline": "adam"`, "sweep.baseline"},
		{"seed twice", "1,\n      2", "1,\n      1", "sweep.seeds"},
		{"no seeds", `"seeds": [
      1,
      2,
      3,
      4,
      5
    ]`, `"seeds": []`, "sweep.seeds"},
		{"a sweep of another form", SweepSchema, "evidence.sweep/9", "sweep.schema"},
		{"a grid", `"recipe": "quick",`, `"recipe": "quick", "grid": {},`, "grid"},
		{"path in a name", `"name": "so"`, `"name": "../so"`, "sweep.arms"},
		{"arm twice", `"name": "so"`, `"name": "sgd"`, "sweep.arms"},
		{"judging nobody", `"so",
    "ada"
`, `"nobody"
`, "comparisons"},
		{"judging the baseline", `"so",
    "ada"
`, `"sgd"
`, "comparisons"},
		{"judging nothing", `[
    "so",
    "ada"
  ]`, `[]`, "comparisons"},
		{"unknown measure", `"measure": "keskar"`, `"measure": "feeling"`, "feeling"},
		{"a measure without its settings", `"one_sided": false`, `"one_side": false`, "one_side"},
		{"spelled twice", `"alpha": 0.05`, `"alpha": 0.05, "ALPHA": 0.5`, "outcome"},
		{"missing field", `"alpha": 0.05,`, ``, "outcome.alpha"},
		{"wrong type", `"alpha": 0.05`, `"alpha": "low"`, "outcome.alpha"},
		{"escape sequence in a label", `"label": "SGD"`, `"label": "\u001b[2KSGD"`, "label"},
		{"second line in the title", `"title": "Example"`, `"title": "Example\n\n## Check it"`, "title"},
		{"an arm that the sweep lacks", `"name": "ada",
      "label"`, `"name": "eve",
      "label"`, "arms"},
		{"no epochs", `"epochs": 2,`, `"epochs": 0,`, "epochs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(valid, tt.old, tt.new, 1)
			if text == valid {
				t.Fatalf("the example does not contain %q", tt.old)
			}
			_, err := ParsePlan([]byte(text))
			if !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want ErrPlan about %q", err, tt.want)
			}
		})
	}
}

func TestPlanDigestIgnoresLayoutOnly(t *testing.T) {
	p := examplePlan()
	var compact any
	if err := json.Unmarshal(p.JSON(), &compact); err != nil {
		t.Fatal(err)
	}
	small, _ := json.Marshal(compact)
	q, err := ParsePlan(small)
	if err != nil {
		t.Fatal(err)
	}
	if p.SHA256() != q.SHA256() {
		t.Error("white space and key order change the digest")
	}
	q.Outcome.MinimumEffect = 0.002
	if p.SHA256() == q.SHA256() {
		t.Error("another threshold has the same digest")
	}
}

func TestDirKeepsRunsAndNoticesDamage(t *testing.T) {
	p := examplePlan()
	d := Dir(filepath.Join(t.TempDir(), "study"))
	if _, err := d.Plan(); !errors.Is(err, ErrNoStudy) {
		t.Errorf("an absent study: %v, want ErrNoStudy", err)
	}
	if err := d.Create(p); err != nil {
		t.Fatal(err)
	}
	if err := d.Create(p); err != nil {
		t.Errorf("continuing the same study: %v", err)
	}
	acc := []float64{0.5, 0.6, 0.5, 0.6, 0.5}
	runs := runsWith(p, map[string][]float64{"sgd": acc, "so": acc, "ada": acc})
	for _, r := range runs[:2] {
		if err := d.WriteRun(p, r, Timing{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.Runs(p)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d runs, error %v; want 2", len(got), err)
	}
	if diff := cmp.Diff(runs[0], got[0].Run); diff != "" {
		t.Errorf("a run changed on its way through the file:\n%s", diff)
	}
	if _, err := d.ReadRun(p, "ada", 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a run that was not made: %v, want ErrNotExist", err)
	}

	other := examplePlan()
	other.Sweep.Seeds = []int64{7, 8, 9, 10, 11}
	if err := d.Create(other); !errors.Is(err, ErrOtherStudy) {
		t.Errorf("another plan in the same place: %v, want ErrOtherStudy", err)
	}

	path := d.Path(RunName("sgd", 1))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string]string{
		"truncated": string(text[:len(text)/2]),
		"empty":     "",
		"altered":   strings.Replace(string(text), `"test_accuracy": 0.5`, `"test_accuracy": 0.9`, 1),
		"twice":     strings.Replace(string(text), `"test_accuracy": 0.5`, `"test_accuracy": 0.5, "Test_Accuracy": 0.9`, 1),
		"unknown":   strings.Replace(string(text), `"schema"`, `"scheme"`, 1),
	}
	for name, content := range damage {
		if content == string(text) {
			t.Fatalf("%s: nothing was damaged", name)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := d.ReadRun(p, "sgd", 1)
		if !errors.Is(err, ErrRunFile) || !strings.Contains(fmt.Sprint(err), path) {
			t.Errorf("%s: error %v, want ErrRunFile that names %s", name, err, path)
		}
	}
}

// What another reader sees in results.json must be what we see.
func TestResultsAreReadStrictly(t *testing.T) {
	p := examplePlan()
	acc := []float64{0.5, 0.6, 0.5, 0.6, 0.5}
	res, err := p.Judge(runsWith(p, map[string][]float64{"sgd": acc, "so": acc, "ada": acc}))
	if err != nil {
		t.Fatal(err)
	}
	d := Dir(t.TempDir())
	for _, x := range []struct{ name, old, new string }{
		{"as written", "", ""},
		{"outcome twice", `"outcome": "failed"`, `"outcome": "successful", "Outcome": "failed"`},
		{"outcome repeated", `"outcome": "failed"`, `"outcome": "successful", "outcome": "failed"`},
		{"outcome missing", `"outcome": "failed",`, ``},
	} {
		if err := d.Write("results.json", []byte(strings.Replace(string(res.JSON()), x.old, x.new, 1))); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Results(); (err == nil) != (x.old == "") {
			t.Errorf("%s: error %v", x.name, err)
		}
	}
}

// A start that was interrupted before plan.json was written can be repeated.
func TestCreateAfterAnInterruptedStart(t *testing.T) {
	d := Dir(t.TempDir())
	for _, sub := range []string{"runs"} {
		if err := os.Mkdir(d.Path(sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{d.LockPath(), d.Path(".plan.json.123.tmp")} {
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Create(examplePlan()); err != nil {
		t.Error(err)
	}
	d.Sweep()
	if _, err := os.Stat(d.Path(".plan.json.123.tmp")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a torn write stayed: %v", err)
	}
	if _, err := d.Plan(); err != nil {
		t.Errorf("sweeping took more than that: %v", err)
	}
}

// A measure that one run could not take has no summary, instead of one over the
// runs that were lucky, and is left out of the correlation.
func TestAMeasureThatFailed(t *testing.T) {
	p := examplePlan()
	acc := []float64{0.5, 0.6, 0.55, 0.61, 0.52}
	runs := runsWith(p, map[string][]float64{"sgd": acc, "so": acc, "ada": acc})
	runs[2].Measures = []Measured{{Measure: runs[2].Measures[0].Measure, Error: "the loss is Inf"}, runs[2].Measures[1]}
	res, err := p.Judge(runs)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Arms[0].Measures) != 1 || len(res.Arms[1].Measures) != 2 {
		t.Errorf("summaries: %+v and %+v", res.Arms[0].Measures, res.Arms[1].Measures)
	}
	c := res.Correlations
	if len(c) != 2 || c[0].N != 19 || c[1].N != 20 || !c[0].Logarithm {
		t.Fatalf("correlations: %+v", c)
	}
	// The value is proportional to the gap plus 0.1: ranks agree.
	if k := c[1].Kendall; k == nil || math.Abs(k.Value-1) > 1e-9 {
		t.Errorf("Kendall's τ of ranks that agree: %+v", k)
	}
}

// Arms that are not judged are reported, without a say in the outcome.
func TestOtherArmsAreReported(t *testing.T) {
	p := examplePlan()
	base := []float64{0.90, 0.91, 0.92, 0.90, 0.91}
	plus := func(d float64) []float64 {
		var out []float64
		for i, x := range base {
			out = append(out, x+d+0.001*float64(i%2))
		}
		return out
	}
	res, err := p.Judge(runsWith(p, map[string][]float64{"sgd": base, "so": plus(0.01), "ada": plus(0.02), "sam": plus(-0.3)}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Outcome != Successful || len(res.Comparisons) != 2 {
		t.Errorf("outcome %s of %d comparisons", res.Outcome, len(res.Comparisons))
	}
	if len(res.Reported) != 1 || res.Reported[0].Arm != "sam" || res.Reported[0].Effect.Mean > -0.29 {
		t.Errorf("reported: %+v", res.Reported)
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Dir(dir).Create(examplePlan()); !errors.Is(err, ErrOtherStudy) {
		t.Errorf("error %v, want ErrOtherStudy", err)
	}
}
