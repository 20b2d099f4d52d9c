package study

import (
	"errors"
	"fmt"
	"strings"

	"github.com/openpith/evidence/internal/stats"
)

// ResultsSchema names the format of results.json.
const ResultsSchema = "evidence.results/1"

// ErrIncomplete reports a study that still has runs to make.
var ErrIncomplete = errors.New("not every run is made")

// Outcome words, after FORRT's replication database.
const (
	Successful   = "successful"   // the claimed improvement was seen
	Failed       = "failed"       // an improvement of the planned size is excluded
	Mixed        = "mixed"        // seen for some methods of the claim, not for all
	Inconclusive = "inconclusive" // the runs cannot tell
)

// Results are the numbers of a study and what follows from them. They are a
// function of the plan and the runs alone.
type Results struct {
	Schema      string       `json:"schema"`
	PlanSHA256  string       `json:"plan_sha256"`
	Outcome     string       `json:"outcome"`
	Statement   string       `json:"statement"` // the outcome in one or two sentences
	Comparisons []Comparison `json:"comparisons"`
	Arms        []ArmSummary `json:"arms"`
	Runs        []Run        `json:"runs"` // all of them, in the order of the plan
}

// A Summary describes one number over the seeds of an arm.
type Summary = stats.Summary

// ArmSummary describes an arm over its complete runs. Gap is train minus test
// accuracy.
type ArmSummary struct {
	Arm           string            `json:"arm"`
	Done          int               `json:"done"`
	Failed        int               `json:"failed"`
	TestAccuracy  *Summary          `json:"test_accuracy,omitempty"` // absent when every run failed
	TrainAccuracy *Summary          `json:"train_accuracy,omitempty"`
	TestLoss      *Summary          `json:"test_loss,omitempty"`
	TrainLoss     *Summary          `json:"train_loss,omitempty"`
	Gap           *Summary          `json:"generalization_gap,omitempty"`
	LossRise      []LossRiseSummary `json:"loss_rise"`
}

// LossRiseSummary is the rise of the training loss under one noise, over the
// complete runs. It is absent where the loss of one of them was not finite.
type LossRiseSummary struct {
	Noise    string  `json:"noise"`
	Strength float64 `json:"strength"`
	Rise     Summary `json:"rise"`
}

// A Comparison holds an arm against the baseline on the primary outcome,
// paired by seed. Differences are arm minus baseline, in the order of Seeds.
type Comparison struct {
	Arm         string    `json:"arm"`
	Baseline    string    `json:"baseline"`
	Metric      string    `json:"metric"`
	Seeds       []uint64  `json:"seeds"` // those with both runs complete
	Differences []float64 `json:"differences"`
	FailedRuns  int       `json:"failed_runs"` // of either arm
	Effect      *Summary  `json:"effect,omitempty"`
	T           float64   `json:"t"`
	P           float64   `json:"p"`          // two-sided
	PAdjusted   float64   `json:"p_adjusted"` // Holm, over all comparisons
	Outcome     string    `json:"outcome"`
	Reason      string    `json:"reason"` // why this outcome, in words
}

// Judge turns runs into results by the plan's rule and nothing else. Runs
// must hold every arm and seed of the plan exactly once, in any order.
//
// For each arm against the baseline, with the differences d of the paired
// runs, their mean m and its 95 % interval:
//
//	inconclusive  any failed run, or fewer than [MinimumPairs] complete pairs
//	failed        the interval ends below the minimum effect: an improvement
//	              of that size is excluded
//	successful    m is at least the minimum effect, and the two-sided paired
//	              t-test is below alpha after Holm's correction
//	inconclusive  otherwise
//
// The study is what all comparisons agree on; mixed when at least one, but not
// every one, is successful; inconclusive when none is and some could not tell.
func (p *Plan) Judge(runs []Run) (*Results, error) {
	ordered, err := p.arrange(runs)
	if err != nil {
		return nil, err
	}
	res := &Results{Schema: ResultsSchema, PlanSHA256: p.SHA256(), Runs: ordered}
	for _, a := range p.Arms {
		res.Arms = append(res.Arms, p.summarizeArm(a.Name, ordered))
		if a.Name != p.Baseline {
			res.Comparisons = append(res.Comparisons, p.compare(a.Name, ordered))
		}
	}
	ps := make([]float64, len(res.Comparisons))
	for i, c := range res.Comparisons {
		ps[i] = c.P
	}
	for i, adjusted := range stats.Holm(ps) {
		c := &res.Comparisons[i]
		c.PAdjusted = adjusted
		c.Outcome, c.Reason = p.Outcome.judge(c)
	}
	res.Outcome = overall(res.Comparisons)
	res.Statement = p.statement(res)
	return res, nil
}

// arrange puts the runs in the order of the plan and insists on every one.
func (p *Plan) arrange(runs []Run) ([]Run, error) {
	type key struct {
		arm  string
		seed uint64
	}
	byKey := map[key]Run{}
	for _, r := range runs {
		k := key{r.Arm, r.Seed}
		if _, twice := byKey[k]; twice {
			return nil, fmt.Errorf("%w: %s seed %d is there twice", ErrRunFile, r.Arm, r.Seed)
		}
		if err := r.check(p); err != nil {
			return nil, fmt.Errorf("%s seed %d: %w", r.Arm, r.Seed, err)
		}
		byKey[k] = r
	}
	var out []Run
	for _, a := range p.Arms {
		for _, s := range p.Seeds {
			r, ok := byKey[key{a.Name, s}]
			if !ok {
				return nil, fmt.Errorf("%w: %s seed %d is missing", ErrIncomplete, a.Name, s)
			}
			out = append(out, r)
		}
	}
	if len(out) != len(runs) {
		return nil, fmt.Errorf("%w: %d runs are not in the plan", ErrRunFile, len(runs)-len(out))
	}
	return out, nil
}

func (p *Plan) compare(arm string, runs []Run) Comparison {
	c := Comparison{Arm: arm, Baseline: p.Baseline, Metric: p.Outcome.Metric, T: 0, P: 1, PAdjusted: 1, Seeds: []uint64{}, Differences: []float64{}}
	base := map[uint64]Run{}
	for _, r := range runs {
		if r.Arm == p.Baseline {
			base[r.Seed] = r
		}
	}
	for _, r := range runs {
		if r.Arm != arm {
			continue
		}
		b := base[r.Seed]
		if r.Status == StatusFailed {
			c.FailedRuns++
		}
		if b.Status == StatusFailed {
			c.FailedRuns++
		}
		if r.Final == nil || b.Final == nil {
			continue
		}
		c.Seeds = append(c.Seeds, r.Seed)
		c.Differences = append(c.Differences, r.Final.TestAccuracy-b.Final.TestAccuracy)
	}
	if n := len(c.Differences); n >= 1 {
		s := stats.Summarize(c.Differences)
		c.Effect = &s
		if n >= 2 {
			c.T, c.P = stats.PairedT(s)
		}
	}
	return c
}

func (o Outcome) judge(c *Comparison) (outcome, reason string) {
	switch {
	case c.FailedRuns > 0:
		return Inconclusive, fmt.Sprintf("%d of the runs failed", c.FailedRuns)
	case len(c.Differences) < MinimumPairs:
		return Inconclusive, fmt.Sprintf("%d pairs are fewer than %d", len(c.Differences), MinimumPairs)
	case c.Effect.High < o.MinimumEffect:
		return Failed, fmt.Sprintf("the interval excludes an improvement of %.2f points", 100*o.MinimumEffect)
	case c.Effect.Mean < o.MinimumEffect || c.Effect.Mean <= 0:
		return Inconclusive, fmt.Sprintf("the mean is below %.2f points, which the interval does not exclude", 100*o.MinimumEffect)
	case !(c.PAdjusted < o.Alpha):
		return Inconclusive, fmt.Sprintf("p after Holm's correction is not below %v", o.Alpha)
	}
	return Successful, fmt.Sprintf("at least %.2f points, and p after Holm's correction below %v", 100*o.MinimumEffect, o.Alpha)
}

func overall(cs []Comparison) string {
	count := map[string]int{}
	for _, c := range cs {
		count[c.Outcome]++
	}
	switch {
	case count[Successful] == len(cs):
		return Successful
	case count[Failed] == len(cs):
		return Failed
	case count[Successful] > 0:
		return Mixed
	}
	return Inconclusive
}

func (p *Plan) summarizeArm(arm string, runs []Run) ArmSummary {
	s := ArmSummary{Arm: arm, LossRise: []LossRiseSummary{}}
	var finals []*Final
	for _, r := range runs {
		switch {
		case r.Arm != arm:
		case r.Final == nil:
			s.Failed++
		default:
			s.Done++
			finals = append(finals, r.Final)
		}
	}
	if len(finals) == 0 {
		return s
	}
	over := func(get func(*Final) float64) *Summary {
		xs := make([]float64, len(finals))
		for i, f := range finals {
			xs[i] = get(f)
		}
		sum := stats.Summarize(xs)
		return &sum
	}
	s.TestAccuracy = over(func(f *Final) float64 { return f.TestAccuracy })
	s.TrainAccuracy = over(func(f *Final) float64 { return f.TrainAccuracy })
	s.TestLoss = over(func(f *Final) float64 { return f.TestLoss })
	s.TrainLoss = over(func(f *Final) float64 { return f.TrainLoss })
	s.Gap = over((*Final).Gap)
	for _, probe := range p.Flatness.Probes() {
		var rises []float64
		for _, f := range finals {
			for _, l := range f.LossRise {
				if (Probe{l.Noise, l.Strength}) == probe {
					rises = append(rises, l.Mean)
				}
			}
		}
		if len(rises) == len(finals) {
			s.LossRise = append(s.LossRise, LossRiseSummary{Noise: probe.Noise, Strength: probe.Strength, Rise: stats.Summarize(rises)})
		}
	}
	return s
}

// statement says in words what was seen: the outcome, the effect of every arm,
// and how many runs stand behind it.
func (p *Plan) statement(res *Results) string {
	var parts []string
	for _, c := range res.Comparisons {
		label, base := p.Arm(c.Arm).Label, p.Arm(c.Baseline).Label
		switch {
		case c.Effect == nil:
			parts = append(parts, fmt.Sprintf("%s: %s, no complete pair (%s)", label, c.Outcome, c.Reason))
		case c.Effect.N == 1:
			parts = append(parts, fmt.Sprintf("%s %+.2f points of test accuracy against %s in the only pair: %s (%s)",
				label, 100*c.Effect.Mean, base, c.Outcome, c.Reason))
		default:
			parts = append(parts, fmt.Sprintf("%s %+.2f points of test accuracy against %s (95 %% interval %+.2f to %+.2f, n = %d, Holm's p %s): %s, %s",
				label, 100*c.Effect.Mean, base, 100*c.Effect.Low, 100*c.Effect.High,
				c.Effect.N, formatP(c.PAdjusted), c.Outcome, c.Reason))
		}
	}
	return fmt.Sprintf("Outcome: %s. %s.", res.Outcome, strings.Join(parts, "; "))
}

func formatP(p float64) string {
	if p < 0.001 {
		return "< 0.001"
	}
	return fmt.Sprintf("= %.3f", p)
}

// JSON is the content of results.json.
func (r *Results) JSON() []byte { return indented(r) }

// SHA256 is the digest of the results in canonical form.
func (r *Results) SHA256() string { return digest(r) }
