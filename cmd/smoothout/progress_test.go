package main

import (
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/replicate"
	"github.com/openpith/evidence/replicate/study"
)

// After a study is resumed, the steps of the earlier session must not make the
// rest look shorter than it is.
func TestTimeLeftIsThatOfThisSession(t *testing.T) {
	var out strings.Builder
	clock := time.Unix(0, 0)
	p := newProgress(&out)
	p.now = func() time.Time { return clock }
	p.update(replicate.Progress{Steps: 501, NewSteps: 1, TotalSteps: 1000, Runs: 5, TotalRuns: 10})
	clock = clock.Add(100 * time.Second) // 100 steps at 1 s each, 399 to go
	run := &study.Run{Arm: "sgd", Seed: 6, Status: study.StatusDone, Final: &study.Final{TestAccuracy: 0.987, ValidationAccuracy: 0.9}}
	p.update(replicate.Progress{Steps: 601, NewSteps: 101, TotalSteps: 1000, Runs: 6, TotalRuns: 10, JustDone: run})
	if got, want := out.String(), "6/10 runs, about 7 min left: sgd seed 6 done\n"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestProgressOfTheLastAndOfAFailedRun(t *testing.T) {
	var out strings.Builder
	p := newProgress(&out)
	p.update(replicate.Progress{Steps: 100, NewSteps: 0, TotalSteps: 100, Runs: 10, TotalRuns: 10,
		JustDone: &study.Run{Arm: "sgd", Seed: 6, Status: study.StatusFailed, Error: "diverged"}})
	if got, want := out.String(), "10/10 runs: sgd seed 6 failed: diverged\n"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}
