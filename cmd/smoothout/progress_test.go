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
	p.update(replicate.Progress{Fraction: 0.501, NewFraction: 0.001, Runs: 5, TotalRuns: 10})
	clock = clock.Add(100 * time.Second) // a tenth in 100 s, four tenths to go
	run := &study.Run{Arm: "sgd", Seed: 6, Status: study.StatusDone, Final: &study.Final{TestAccuracy: 0.987, ValidationAccuracy: 0.9}}
	p.update(replicate.Progress{Fraction: 0.601, NewFraction: 0.101, Runs: 6, TotalRuns: 10, JustDone: run})
	if got, want := out.String(), "6/10 runs, about 7 min left: sgd seed 6 done\n"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestProgressOfTheLastAndOfAFailedRun(t *testing.T) {
	var out strings.Builder
	p := newProgress(&out)
	p.update(replicate.Progress{Fraction: 1, Runs: 10, TotalRuns: 10,
		JustDone: &study.Run{Arm: "sgd", Seed: 6, Status: study.StatusFailed, Error: "diverged"}})
	if got, want := out.String(), "10/10 runs: sgd seed 6 failed: diverged\n"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

// Where runs are taken over there are no steps to tell a rate by, but runs.
func TestTimeLeftOfRunsTakenOver(t *testing.T) {
	var out strings.Builder
	clock := time.Unix(0, 0)
	p := newProgress(&out)
	p.now = func() time.Time { return clock }
	run := &study.Run{Arm: "sgd", Seed: 6, Status: study.StatusDone}
	p.update(replicate.Progress{Fraction: 0.1, Runs: 1, TotalRuns: 10})
	clock = clock.Add(10 * time.Second)
	p.update(replicate.Progress{Fraction: 0.2, Runs: 2, TotalRuns: 10, JustDone: run})
	if got, want := out.String(), "2/10 runs, about 1 min left: sgd seed 6 done\n"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}
