package replicate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/internal/provenance"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/replicate/study"
	"github.com/openpith/evidence/sharpness"
)

// signedStudy runs a tiny study once and hands every test its own copy.
func signedStudy(t *testing.T) (Options, *Result) {
	t.Helper()
	opts := testOptions(t)
	res, err := Run(context.Background(), tinyPlan(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return opts, res
}

// resign replaces the study's bundle by one that holds other drafts, signed
// with the study's own key: what a dishonest signer could do.
func resign(t *testing.T, opts Options, drafts ...pith.Draft) []string {
	t.Helper()
	bundle, ids, err := pith.Append(seed.Bundle(), opts.Key, time.Now().UTC(), drafts...)
	if err != nil {
		t.Fatal(err)
	}
	write(t, opts.Dir, "bundle.json", bundle)
	event, err := findEvent(bundle, ids[0])
	if err != nil {
		t.Fatal(err)
	}
	write(t, opts.Dir, "record.json", event)
	return ids
}

func write(t *testing.T, dir study.Dir, name string, data []byte) {
	t.Helper()
	if err := dir.Write(name, data); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir study.Dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(dir.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A record that bears the right digests and tells another story is refused,
// whichever part of the story it is. One of another schema nobody can sign:
// pith.Append refuses it.
func TestCheckReadsTheWholeRecord(t *testing.T) {
	opts, res := signedStudy(t)
	if _, err := Check(opts.Dir, nil); err != nil {
		t.Fatalf("the honest study: %v", err)
	}
	change := map[string]func(map[string]any){
		"statement": func(p map[string]any) { p["statement"] = "Outcome: successful. +50 points." },
		"outcome":   func(p map[string]any) { p["outcome"] = "successful" },
		"claim":     func(p map[string]any) { p["claim"].(map[string]any)["text"] = "Everything improves." },
		"setting": func(p map[string]any) {
			p["arms"].([]any)[0].(map[string]any)["config"].(map[string]any)["data"].(map[string]any)["name"] = "imagenet"
		},
		"runs": func(p map[string]any) { p["runs"] = []any{} },
		"more": func(p map[string]any) { p["endorsed_by"] = "everyone" },
		"less": func(p map[string]any) { delete(p, "arms") },
	}
	if res.Results.Outcome == study.Successful {
		delete(change, "outcome")
	}
	for name, edit := range change {
		var payload map[string]any
		if err := json.Unmarshal(res.Record.Payload, &payload); err != nil {
			t.Fatal(err)
		}
		edit(payload)
		forged, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		resign(t, opts, pith.Draft{Type: pith.TypeReplicationRecord, Target: RecordTarget, Payload: forged, CreatedAt: time.Now()})
		if _, err := Check(opts.Dir, nil); !errors.Is(err, ErrCheck) || !strings.Contains(err.Error(), "says something else") {
			t.Errorf("%s: error %v, want ErrCheck about something else", name, err)
		}
	}
	resign(t, opts, pith.Draft{Type: pith.TypeReplicationRecord, Target: "record", Payload: res.Record.Payload, CreatedAt: time.Now()})
	if _, err := Check(opts.Dir, nil); !errors.Is(err, ErrCheck) {
		t.Errorf("another target: error %v, want ErrCheck", err)
	}
}

func TestCheckRefusesASupersededRecord(t *testing.T) {
	opts, res := signedStudy(t)
	when := time.Now().UTC()
	bundle, _, err := pith.Append(read(t, opts.Dir, "bundle.json"), opts.Key, when, pith.Draft{
		Type: pith.TypeReplicationRecord, Target: RecordTarget, CreatedAt: when, Supersedes: []string{res.Record.EventID},
		Payload: bytes.Replace(res.Record.Payload, []byte(res.Results.SHA256()), []byte(strings.Repeat("0", 64)), 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, opts.Dir, "bundle.json", bundle)
	if _, err := Check(opts.Dir, nil); !errors.Is(err, ErrCheck) || !strings.Contains(err.Error(), "superseded") {
		t.Errorf("error %v, want ErrCheck about superseded", err)
	}
}

// Under the policy of a reader who does not know the signer, nothing is proven.
func TestCheckUnderAnotherPolicy(t *testing.T) {
	opts, _ := signedStudy(t)
	if _, err := Check(opts.Dir, pith.PinnedTrust()); !errors.Is(err, ErrCheck) || !strings.Contains(err.Error(), "untrusted") {
		t.Errorf("error %v, want ErrCheck about untrusted", err)
	}
}

func TestCheckComparesTheCopies(t *testing.T) {
	opts, _ := signedStudy(t)
	for _, name := range []string{"record.json", "key.pub"} {
		old := read(t, opts.Dir, name)
		write(t, opts.Dir, name, bytes.Replace(old, []byte("tester"), []byte("Einstein"), 1))
		if _, err := Check(opts.Dir, nil); name == "record.json" && (!errors.Is(err, ErrCheck) || !strings.Contains(err.Error(), name)) {
			t.Errorf("%s changed: error %v, want ErrCheck that names it", name, err)
		}
		if err := os.Remove(opts.Dir.Path(name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Check(opts.Dir, nil); !errors.Is(err, ErrCheck) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s gone: error %v, want ErrCheck that names it", name, err)
		}
		write(t, opts.Dir, name, old)
	}
}

// A signed record is never replaced: neither when a file beside it is gone nor
// when the runs were changed since.
func TestASignedStudyIsNotSignedAgain(t *testing.T) {
	opts, _ := signedStudy(t)
	before := read(t, opts.Dir, "bundle.json")
	run := read(t, opts.Dir, "runs/smoothout-seed1.json")
	trust := read(t, opts.Dir, "trust.json")

	if err := os.Remove(opts.Dir.Path("trust.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), tinyPlan(), opts); !errors.Is(err, ErrCheck) {
		t.Errorf("without trust.json: error %v, want ErrCheck", err)
	}
	write(t, opts.Dir, "trust.json", trust)

	// A flattering run whose own digest is right.
	plan, err := opts.Dir.Plan()
	if err != nil {
		t.Fatal(err)
	}
	f, err := opts.Dir.ReadRun(plan, "smoothout", 1)
	if err != nil {
		t.Fatal(err)
	}
	f.Run.Final.TestAccuracy = 1
	if err := opts.Dir.WriteRun(plan, f.Run, f.Timing, f.Code); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), tinyPlan(), opts); !errors.Is(err, ErrCheck) {
		t.Errorf("with a changed run: error %v, want ErrCheck", err)
	}
	write(t, opts.Dir, "runs/smoothout-seed1.json", run)

	if !bytes.Equal(before, read(t, opts.Dir, "bundle.json")) {
		t.Error("the signed bundle was replaced")
	}
	if _, err := Run(context.Background(), tinyPlan(), opts); err != nil {
		t.Errorf("with the files restored: %v", err)
	}
}

// A run that is gone is not made anew under a record that is about another.
func TestARunIsNotMadeAgainAfterSigning(t *testing.T) {
	opts, _ := signedStudy(t)
	gone := opts.Dir.Path("runs/smoothout-seed1.json")
	if err := os.Rename(gone, gone+".old"); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), tinyPlan(), opts); !errors.Is(err, ErrCheck) || !strings.Contains(err.Error(), "runs/smoothout-seed1.json is missing") {
		t.Errorf("error %v, want ErrCheck that names the run", err)
	}
	if _, err := os.Stat(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the run was made again: %v", err)
	}
}

// A study from a processor that rounds otherwise checks out; one whose numbers
// were changed does not, and neither does one with a changed recording.
func TestCheckAllowsForRounding(t *testing.T) {
	opts, _ := signedStudy(t)
	plan, err := opts.Dir.Plan()
	if err != nil {
		t.Fatal(err)
	}
	files, err := opts.Dir.Runs(plan)
	if err != nil {
		t.Fatal(err)
	}
	original := read(t, opts.Dir, "results.json")
	for _, c := range []struct {
		name   string
		change func(*study.Results)
		want   string
	}{
		{"a last bit", func(r *study.Results) {
			r.Arms[0].TestLoss.SD *= 1 + 1e-13
			r.Comparisons[0].P *= 1 - 1e-13
			r.ByBatch[0].Correlations[0].Pearson.Low *= 1 + 1e-12
		}, ""},
		{"no correlations by batch", func(r *study.Results) { r.ByBatch = nil }, ""},
		{"a mean", func(r *study.Results) { r.Arms[1].TestAccuracy.Mean *= 1 + 1e-6 }, "arms[1].test_accuracy.mean"},
		{"a correlation", func(r *study.Results) { r.ByBatch[0].Correlations[0].Kendall.Value += 1e-6 }, "correlations_by_batch[0].correlations[0].kendall.value"},
		{"a count", func(r *study.Results) { r.Arms[2].Done-- }, "arms[2].done"},
		{"a run's last bit", func(r *study.Results) {
			f := *r.Runs[4].Final
			f.TestLoss = math.Nextafter(f.TestLoss, 1)
			r.Runs[4].Final = &f
		}, "runs[4]"},
		{"a word", func(r *study.Results) { r.Outcome = study.Mixed }, "outcome is mixed"},
	} {
		write(t, opts.Dir, "results.json", original)
		changed, err := opts.Dir.Results()
		if err != nil {
			t.Fatal(err)
		}
		c.change(changed)
		write(t, opts.Dir, "results.json", changed.JSON())
		// Signed as it stands, as another machine or a cheat would.
		rec, err := newRecord(plan, changed, files, nil, provenance.CurrentEnvironment(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		payload, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		resign(t, opts, pith.Draft{Type: pith.TypeReplicationRecord, Target: RecordTarget, Payload: payload, CreatedAt: time.Now()})
		_, err = Check(opts.Dir, nil)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.Is(err, ErrCheck) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want ErrCheck about %s", c.name, err, c.want)
		}
	}
}

// Landscapes that lie there when the record is signed are part of it; others are not.
func TestCheckComparesLandscapes(t *testing.T) {
	opts := testOptions(t)
	const name = study.LandscapeFolder + "/plane.jsonl"
	if err := os.MkdirAll(opts.Dir.Path(study.LandscapeFolder), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, opts.Dir, name, []byte("{}\n"))
	if _, err := Run(context.Background(), tinyPlan(), opts); err != nil {
		t.Fatal(err)
	}
	write(t, opts.Dir, study.LandscapeFolder+"/later.jsonl", []byte("{}\n"))
	if res, err := Check(opts.Dir, nil); err != nil || !slices.Equal(res.Uncovered, []string{"landscapes/later.jsonl"}) {
		t.Errorf("a later one: %v, %v", res, err)
	}
	write(t, opts.Dir, name, []byte("{} \n"))
	if _, err := Check(opts.Dir, nil); !errors.Is(err, ErrCheck) || !strings.Contains(err.Error(), name) {
		t.Errorf("a changed one: error %v, want ErrCheck that names it", err)
	}
	if err := os.Remove(opts.Dir.Path(name)); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(opts.Dir, nil); !errors.Is(err, ErrCheck) || !strings.Contains(err.Error(), name+" is missing") {
		t.Errorf("one that is gone: error %v, want ErrCheck that names it", err)
	}
}

// A run says which configuration was trained; one of another is not the plan's.
func TestCheckComparesTheConfigurations(t *testing.T) {
	opts, _ := signedStudy(t)
	plan, err := opts.Dir.Plan()
	if err != nil {
		t.Fatal(err)
	}
	f, err := opts.Dir.ReadRun(plan, "smoothout", 1)
	if err != nil {
		t.Fatal(err)
	}
	f.Run.ConfigSHA256 = strings.Repeat("0", 64)
	if err := opts.Dir.WriteRun(plan, f.Run, f.Timing, f.Code); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(opts.Dir, nil); !errors.Is(err, study.ErrRunFile) || !strings.Contains(err.Error(), "smoothout-seed1") {
		t.Errorf("error %v, want ErrRunFile that names the run", err)
	}
}

// A measure that finds no number costs its value, not the run.
func TestAMeasureThatFailsKeepsTheRun(t *testing.T) {
	p := tinyPlan()
	p.Measures.List = choices(sharpness.Noise{Strength: 0.05, Draws: 2}, sharpness.Noise{Strength: 1e38, Draws: 2})
	opts := testOptions(t)
	res, err := Run(context.Background(), p, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range res.Results.Runs {
		if r.Status != study.StatusDone || r.Measures[0].Error != "" || r.Measures[1].Error == "" {
			t.Fatalf("%s seed %d is %s with %+v", r.Arm, r.Seed, r.Status, r.Measures)
		}
	}
}

// The studies that this repository holds up to others are read as they lie.
func TestCommittedStudies(t *testing.T) {
	plans, err := filepath.Glob("../docs/replications/*/plan.json")
	if err != nil || len(plans) == 0 {
		t.Fatalf("no study found: %v", err)
	}
	for _, plan := range plans {
		if _, err := Check(study.Dir(filepath.Dir(plan)), nil); err != nil {
			t.Error(err)
		}
	}
}
