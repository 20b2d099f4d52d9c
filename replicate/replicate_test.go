package replicate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/replicate/study"
	"github.com/openpith/evidence/sharpness"
)

// tinyPlan trains in a fraction of a second.
func tinyPlan() *study.Plan {
	p := quick(func() bool { return false })
	p.Name = "tiny"
	p.Sweep.Set = set("width", "8", "train-samples", "64", "validation", "20", "test", "40", "batch", "32", "ghost", "16", "epochs", "2")
	p.Sweep.Seeds = []int64{1, 2, 3, 4, 5}
	p.Measures = study.Measures{Examples: 32, Seed: 1, List: choices(sharpness.Noise{Strength: 0.05, Draws: 2}, sharpness.Ascent{})}
	return p
}

func testOptions(t *testing.T) Options {
	t.Helper()
	key, err := pith.NewKey(bytes.Repeat([]byte{7}, 32), pith.Signer{ID: "tester", Type: "replicator", KeyID: "tester-1"})
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Dir: study.Dir(filepath.Join(t.TempDir(), "study")), Bundle: seed.Bundle(), Trust: pith.PinnedTrust(), Key: key,
		Backend: func() (compute.Backend, error) { return gobackend.New("ops_sequential") }, BackendName: "go:ops_sequential", Workers: 2,
	}
}

func TestBuiltinPlansAreValid(t *testing.T) {
	for _, have := range []bool{false, true} {
		for _, name := range PlanNames() {
			p := BuiltinPlan(name, func() bool { return have })
			if p == nil || p.Name != name {
				t.Fatalf("plan %s: %+v", name, p)
			}
			if err := p.Validate(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if c, err := configs(p); err != nil || len(c) != len(p.Sweep.Arms) {
				t.Errorf("%s: %d configurations, %v", name, len(c), err)
			}
			if _, err := study.ParsePlan(p.JSON()); err != nil {
				t.Errorf("%s as a file: %v", name, err)
			}
			if len(p.Seeds()) < study.MinimumPairs {
				t.Errorf("%s: %d seeds cannot give a verdict", name, len(p.Seeds()))
			}
		}
	}
	if BuiltinPlan("nothing", nil) != nil {
		t.Error("an unknown plan was found")
	}
}

// The payload that is signed has exactly the fields that its specification
// lists, so that neither can change without the other.
func TestRecordFollowsItsSpecification(t *testing.T) {
	opts := testOptions(t)
	res, err := Run(context.Background(), tinyPlan(), opts)
	if err != nil {
		t.Fatal(err)
	}
	var event struct {
		ID      string                     `json:"event_id"`
		Type    string                     `json:"event_type"`
		Target  string                     `json:"target"`
		Payload map[string]json.RawMessage `json:"payload"`
	}
	data, err := os.ReadFile(opts.Dir.Path("record.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &event); err != nil {
		t.Fatal(err)
	}
	if event.ID != res.Record.EventID || event.Type != "replication_record" || event.Target != RecordTarget {
		t.Errorf("event %s, type %s, target %s", event.ID, event.Type, event.Target)
	}
	spec, err := os.ReadFile(filepath.Join("..", "spec", "replication-record.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| ((?:`[a-z_0-9.\\[\\]]+`(?:, )?)+) \\|").FindAllStringSubmatch(string(spec), -1) {
		for _, name := range regexp.MustCompile("`([a-z_0-9]+)").FindAllStringSubmatch(m[1], -1) {
			documented[name[1]] = true
		}
	}
	delete(documented, "inconclusive") // the table of the rule has words, not fields
	delete(documented, "failed")
	delete(documented, "successful")
	for name := range event.Payload {
		if !documented[name] {
			t.Errorf("the payload has %q, which the specification does not list", name)
		}
	}
	optional := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)[^`]*` \\| [a-z]+ \\| optional").FindAllStringSubmatch(string(spec), -1) {
		optional[m[1]] = true
	}
	for name := range documented {
		if _, ok := event.Payload[name]; !ok && !optional[name] {
			t.Errorf("the specification lists %q, which the payload lacks", name)
		}
	}
}

// A run that diverges is a result: it is listed, explained, and settles that
// its comparison is inconclusive. The study goes on and is signed.
func TestDivergedRunsAreListed(t *testing.T) {
	p := tinyPlan()
	p.Sweep.Arms[1].Set["strength"] = "1e38" // the perturbed weights overflow at once
	opts := testOptions(t)
	res, err := Run(context.Background(), p, opts)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, r := range res.Results.Runs {
		if r.Status == study.StatusFailed {
			failed++
			if r.Arm != "smoothout" || !strings.Contains(r.Error, "diverged") {
				t.Errorf("%s failed with %q", r.Arm, r.Error)
			}
		}
	}
	if failed != 5 || len(res.Results.Runs) != 15 {
		t.Errorf("%d of %d runs failed, want 5 of 15", failed, len(res.Results.Runs))
	}
	if res.Results.Comparisons[0].Outcome != study.Inconclusive {
		t.Errorf("the comparison with failed runs is %s", res.Results.Comparisons[0].Outcome)
	}
	if _, err := Check(opts.Dir, nil); err != nil {
		t.Errorf("check: %v", err)
	}
}

// Workers share nothing that could change a result.
func TestWorkersDoNotMatter(t *testing.T) {
	var want string
	for _, workers := range []int{1, 3} {
		opts := testOptions(t)
		opts.Workers = workers
		res, err := Run(context.Background(), tinyPlan(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = res.Results.SHA256()
		} else if got := res.Results.SHA256(); got != want {
			t.Errorf("%d workers: results %s, with one %s", workers, got, want)
		}
	}
}

func TestCancelledStudyContinues(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	opts := testOptions(t)
	opts.Progress = func(p Progress) {
		if p.Runs == 2 {
			cancel()
		}
	}
	if _, err := Run(ctx, tinyPlan(), opts); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("error %v, want ErrInterrupted", err)
	}
	trained := map[string]int{}
	opts.Progress = func(p Progress) {
		if r := p.JustDone; r != nil {
			trained[study.RunName(r.Arm, r.Seed)]++
		}
	}
	if _, err := Run(context.Background(), tinyPlan(), opts); err != nil {
		t.Fatal(err)
	}
	if len(trained) >= 15 || len(trained) < 11 {
		t.Errorf("%d runs were made after the interruption: %v", len(trained), trained)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	opts := testOptions(t)
	p, _, err := begin(tinyPlan(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := opts.Dir.Create(p); err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(opts.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), tinyPlan(), opts); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want ErrBusy", err)
	}
	unlock()
	if _, err := Run(context.Background(), tinyPlan(), opts); err != nil {
		t.Errorf("after the lock was released: %v", err)
	}
}

// A study over the runs of a sweep trains nothing and comes to the same
// results as one that trained them itself; runs of another configuration are
// refused.
func TestRunsOfASweepAreTakenOver(t *testing.T) {
	opts := testOptions(t)
	res, err := Run(context.Background(), tinyPlan(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(opts.Dir.Path(study.WorkName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the weights of the runs stayed: %v", err)
	}

	dir := t.TempDir()
	text, err := json.Marshal(tinyPlan().Sweep)
	if err != nil {
		t.Fatal(err)
	}
	sweep, err := experiment.ParseSweep(text)
	if err != nil {
		t.Fatal(err)
	}
	table, err := sweep.Table()
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Run(context.Background(), dir, experiment.SweepOptions{Options: experiment.Options{Backend: opts.Backend, BackendName: opts.BackendName, Monitor: 16}}); err != nil {
		t.Fatal(err)
	}
	over := testOptions(t)
	over.Sweep = dir
	over.Progress = func(p Progress) {
		if p.NewFraction > 0 {
			t.Error("something was trained")
		}
	}
	again, err := Run(context.Background(), tinyPlan(), over)
	if err != nil {
		t.Fatal(err)
	}
	// Each is marked as older than the plan, and all else is the same.
	plan, err := over.Dir.Plan()
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range again.Results.Runs {
		f, err := over.Dir.ReadRun(plan, r.Arm, r.Seed)
		if err != nil || !r.TakenOver || !f.Run.TakenOver || res.Results.Runs[i].TakenOver {
			t.Fatalf("%s seed %d: taken over %v, in its file %v, trained by the study itself %v; %v", r.Arm, r.Seed, r.TakenOver, f.Run.TakenOver, res.Results.Runs[i].TakenOver, err)
		}
		again.Results.Runs[i].TakenOver, again.Results.Runs[i].SHA256 = false, res.Results.Runs[i].SHA256
	}
	if !bytes.Contains(again.Record.Payload, []byte(`"taken_over":true`)) || bytes.Contains(res.Record.Payload, []byte("taken_over")) {
		t.Error("the record does not say which runs are older than the plan")
	}
	if again.Results.SHA256() != res.Results.SHA256() {
		t.Errorf("results %s, trained by the study itself %s", again.Results.SHA256(), res.Results.SHA256())
	}
	if _, err := os.Stat(experiment.RunDir(dir, table.Rows[0]).Path(experiment.FinalFile)); err != nil {
		t.Errorf("the sweep lost its weights: %v", err)
	}

	other := testOptions(t)
	other.Sweep = dir
	p := tinyPlan()
	p.Sweep.Set["epochs"] = "3"
	if _, err := Run(context.Background(), p, other); !errors.Is(err, experiment.ErrOtherRun) || !strings.Contains(err.Error(), "recipe.epochs is 2, not 3") {
		t.Errorf("runs of another plan: %v", err)
	}
	// Weights that are not those of the result are not measured.
	rows := table.Rows
	if err := os.Rename(experiment.RunDir(dir, rows[0]).Path(experiment.FinalFile), experiment.RunDir(dir, rows[1]).Path(experiment.FinalFile)); err != nil {
		t.Fatal(err)
	}
	wrong := testOptions(t)
	wrong.Sweep, wrong.Workers = dir, 1
	if _, err := Run(context.Background(), tinyPlan(), wrong); err == nil {
		t.Error("the weights of another run were measured")
	}
}

// The arms of a plan that was begun are what counts, not what this program
// makes of the names in its sweep.
func TestABegunPlanStandsOnItsOwn(t *testing.T) {
	begun, _, err := begin(tinyPlan(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !Continues(tinyPlan(), begun) || !Continues(begun, begun) {
		t.Error("a plan does not continue what began with it")
	}
	other := tinyPlan()
	other.Sweep.Arms[1].Set["strength"] = "0.05"
	if Continues(other, begun) {
		t.Error("another strength continues it")
	}
	begun.Sweep.Recipe = "a recipe of tomorrow"
	again, table, err := begin(begun, "")
	if err != nil {
		t.Fatal(err)
	}
	if again.SHA256() != begun.SHA256() || len(table.Rows) != 15 {
		t.Errorf("%d runs, another plan: %v", len(table.Rows), again.SHA256() != begun.SHA256())
	}
	for name, change := range map[string]func(*study.Sweep){
		"recipe.smoothout.strength": func(s *study.Sweep) { s.Arms[1].Set = set("method", "smoothout", "strength", "0.05") },
		"recipe.epochs":             func(s *study.Sweep) { s.Set = set("epochs", "3") },
		"network.name":              func(s *study.Sweep) { s.Recipe = "paper/c1-lb" },
		"there is no setting":       func(s *study.Sweep) { s.Set = set("speed", "11") },
	} {
		p := *begun
		p.Sweep.Recipe, p.Sweep.Arms = experiment.DefaultRecipe, slices.Clone(begun.Sweep.Arms)
		change(&p.Sweep)
		if _, _, err := begin(&p, ""); !errors.Is(err, study.ErrPlan) || !strings.Contains(err.Error(), name) {
			t.Errorf("a sweep that says something else than the arms: %v, want one about %s", err, name)
		}
	}
	begun.Arms[2].Config = bytes.Replace(begun.Arms[2].Config, []byte(`"test_sha256": "`), []byte(`"test_sha256": "0`), 1)
	if _, _, err := begin(begun, ""); !errors.Is(err, experiment.ErrData) {
		t.Errorf("other samples: %v", err)
	}
}

func TestPlansThatCannotBeJudgedAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*study.Plan)
		want   string
	}{
		"no test set":        {func(p *study.Plan) { p.Sweep.Set["test"] = "none" }, "test set"},
		"no validation":      {func(p *study.Plan) { p.Sweep.Set["validation"] = "0" }, "validation"},
		"another test set":   {func(p *study.Plan) { p.Sweep.Arms[1].Set["test"] = "30" }, "other test samples"},
		"an unknown setting": {func(p *study.Plan) { p.Sweep.Set["speed"] = "11" }, "speed"},
		"an unknown recipe":  {func(p *study.Plan) { p.Sweep.Recipe = "stew" }, "stew"},
	} {
		p := tinyPlan()
		c.change(p)
		if _, _, err := begin(p, ""); !errors.Is(err, study.ErrPlan) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrPlan about %q", name, err, c.want)
		}
	}
}
