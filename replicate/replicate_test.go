package replicate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/replicate/study"
)

// tinyPlan trains in a fraction of a second.
func tinyPlan() *study.Plan {
	p := quick(func() bool { return false })
	p.Name = "tiny"
	p.Data = study.Data{Name: Glyphs, Train: 64, Validation: 20, Test: 40}
	p.Network.Width = 8
	p.Training.Batch, p.Training.Ghost, p.Training.Epochs, p.Training.Milestones = 32, 16, 2, nil
	p.Seeds = []uint64{1, 2, 3, 4, 5}
	p.Flatness = study.Flatness{Samples: 32, Draws: 2, SmoothOut: []float64{0.05}, AdaSmoothOut: []float64{0.5}}
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
			if len(p.Seeds) < study.MinimumPairs {
				t.Errorf("%s: %d seeds cannot give a verdict", name, len(p.Seeds))
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
	for name := range documented {
		if _, ok := event.Payload[name]; !ok {
			t.Errorf("the specification lists %q, which the payload lacks", name)
		}
	}
}

// A run that diverges is a result: it is listed, explained, and settles that
// its comparison is inconclusive. The study goes on and is signed.
func TestDivergedRunsAreListed(t *testing.T) {
	p := tinyPlan()
	p.Arms[1].Strength = 1e38 // the perturbed weights overflow at once
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
		if p.JustDone != nil {
			trained[p.Run]++
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
	data, err := loadData(tinyPlan().Data, "")
	if err != nil {
		t.Fatal(err)
	}
	p := tinyPlan()
	p.Data = data.resolved
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

// No image may serve two purposes.
func TestSplitsAreDisjoint(t *testing.T) {
	s, err := loadData(study.Data{Name: Glyphs, Train: 200, Validation: 50, Test: 50}, "")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]string{}
	for name, split := range map[string]interface {
		Len() int
		Fill([]int, []float32, []int32)
	}{"train": s.train, "validation": s.validation, "test": s.test} {
		x, y := make([]float32, 28*28), make([]int32, 1)
		for i := range split.Len() {
			split.Fill([]int{i}, x, y)
			var b bytes.Buffer
			for _, v := range x {
				b.WriteByte(byte(v*127 + 128))
			}
			sum := sha256.Sum256(b.Bytes())
			if other, ok := seen[sum]; ok && other != name {
				t.Fatalf("a sample of %s is also in %s", name, other)
			}
			seen[sum] = name
		}
	}
	if len(seen) != 300 {
		t.Errorf("%d different samples, want 300", len(seen))
	}
}
