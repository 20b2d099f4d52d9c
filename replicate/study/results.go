package study

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/openpith/evidence/internal/stats"
)

// ResultsSchema names the format of results.json.
const ResultsSchema = "evidence.results/2"

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
	Schema       string        `json:"schema"`
	PlanSHA256   string        `json:"plan_sha256"`
	Outcome      string        `json:"outcome"`
	Statement    string        `json:"statement"` // the outcome in one or two sentences
	Comparisons  []Comparison  `json:"comparisons"`
	Reported     []Difference  `json:"reported"` // arms that are not judged, in the order of the plan
	Arms         []ArmSummary  `json:"arms"`
	Correlations []Correlation `json:"correlations"` // of each measure, in the order of the plan
	// ByBatch has the same correlations among the runs of one batch size, in the
	// order of the plan: over all runs, a difference between batch sizes can hide
	// or turn what holds within each. Results of earlier programs lack it.
	ByBatch []BatchCorrelations `json:"correlations_by_batch,omitempty"`
	Runs    []RunResult         `json:"runs"` // all of them, in the order of the plan
}

// A Summary describes one number over the seeds of an arm.
type Summary = stats.Summary

// ArmSummary describes an arm over its complete runs. Gap is train minus test
// accuracy.
type ArmSummary struct {
	Arm           string           `json:"arm"`
	Done          int              `json:"done"`
	Failed        int              `json:"failed"`
	TestAccuracy  *Summary         `json:"test_accuracy,omitempty"` // absent when every run failed
	TrainAccuracy *Summary         `json:"train_accuracy,omitempty"`
	TestLoss      *Summary         `json:"test_loss,omitempty"`
	TrainLoss     *Summary         `json:"train_loss,omitempty"`
	Gap           *Summary         `json:"generalization_gap,omitempty"`
	Measures      []MeasureSummary `json:"measures"`
}

// MeasureSummary is one measure over the complete runs of an arm. It is absent
// where one of them could not be measured, instead of being one over the runs
// that were lucky.
type MeasureSummary struct {
	Measure string  `json:"measure"`
	Summary Summary `json:"summary"`
}

// A Correlation is how a measure of sharpness goes with the generalisation gap
// over all complete runs that it could measure. Runs of one arm are alike, so
// the intervals, which take runs for independent, are rather too narrow.
type Correlation struct {
	Measure string `json:"measure"`
	N       int    `json:"n"`
	// Logarithm says that Pearson's coefficient is of the measure's logarithm:
	// where all values are positive, since sharpness spans decades.
	Logarithm bool            `json:"logarithm"`
	Pearson   *stats.Interval `json:"pearson,omitempty"` // absent where it is not defined
	Kendall   *stats.Interval `json:"kendall,omitempty"`
}

// BatchCorrelations are those of the runs with one batch size.
type BatchCorrelations struct {
	Batch        int           `json:"batch"` // samples per optimizer step, as the recipe says
	Correlations []Correlation `json:"correlations"`
}

// A RunResult is a run with the digest of all that its file says of it.
type RunResult struct {
	Arm           string     `json:"arm"`
	Seed          int64      `json:"seed"`
	Status        string     `json:"status"`
	Error         string     `json:"error,omitempty"`
	TakenOver     bool       `json:"taken_over,omitempty"` // see [Run]
	SHA256        string     `json:"sha256"`
	Final         *Final     `json:"final,omitempty"`
	Measures      []Measured `json:"measures"`
	WeightsSHA256 string     `json:"weights_sha256,omitempty"`
}

// A Difference holds an arm against the baseline on the primary outcome,
// paired by seed. Differences are arm minus baseline, in the order of Seeds.
type Difference struct {
	Arm         string    `json:"arm"`
	Baseline    string    `json:"baseline"`
	Metric      string    `json:"metric"`
	Seeds       []int64   `json:"seeds"` // those with both runs complete
	Differences []float64 `json:"differences"`
	FailedRuns  int       `json:"failed_runs"` // of either arm
	Effect      *Summary  `json:"effect,omitempty"`
}

// A Comparison is a difference that is judged.
type Comparison struct {
	Difference
	T         float64 `json:"t"`
	P         float64 `json:"p"`          // two-sided
	PAdjusted float64 `json:"p_adjusted"` // Holm, over all comparisons
	Outcome   string  `json:"outcome"`
	Reason    string  `json:"reason"` // why this outcome, in words
}

// Judge turns runs into results by the plan's rule and nothing else. Runs
// must hold every arm and seed of the plan exactly once, in any order.
//
// For each comparison of the plan, with the differences d of the paired
// runs, their mean m and its 95 % interval:
//
//	inconclusive  any failed run, or fewer than [MinimumPairs] complete pairs
//	failed        the interval ends below the minimum effect: an improvement
//	              of that size is excluded
//	successful    m is at least the minimum effect, and the two-sided paired
//	              t-test is below alpha after Holm's correction
//	inconclusive  otherwise
//
// Before they meet a threshold or become words, numbers are rounded to 1e-12,
// so that the last bit of a sum, which depends on the processor, decides nothing.
//
// The study is what all comparisons agree on; mixed when at least one, but not
// every one, is successful; inconclusive when none is and some could not tell.
func (p *Plan) Judge(runs []Run) (*Results, error) {
	if len(p.Arms) == 0 {
		return nil, fmt.Errorf("%w: arms: the study was not begun", ErrPlan)
	}
	ordered, err := p.arrange(runs)
	if err != nil {
		return nil, err
	}
	res := &Results{Schema: ResultsSchema, PlanSHA256: p.SHA256(), Reported: []Difference{}}
	for _, c := range p.Comparisons {
		res.Comparisons = append(res.Comparisons, p.compare(c, ordered))
	}
	for _, a := range p.Arms {
		res.Arms = append(res.Arms, p.summarizeArm(a.Name, ordered))
		if a.Name != p.Baseline() && !slices.Contains(p.Comparisons, a.Name) {
			res.Reported = append(res.Reported, p.difference(a.Name, ordered))
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
	res.Correlations = p.correlate(ordered)
	if res.ByBatch, err = p.correlateByBatch(ordered); err != nil {
		return nil, err
	}
	for _, r := range ordered {
		res.Runs = append(res.Runs, RunResult{
			Arm: r.Arm, Seed: r.Seed, Status: r.Status, Error: r.Error, TakenOver: r.TakenOver, SHA256: digest(r),
			Final: r.Final, Measures: r.Measures, WeightsSHA256: r.WeightsSHA256,
		})
	}
	res.Outcome = overall(res.Comparisons)
	res.Statement = p.statement(res)
	return res, nil
}

// arrange puts the runs in the order of the plan and insists on every one.
func (p *Plan) arrange(runs []Run) ([]Run, error) {
	type key struct {
		arm  string
		seed int64
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
		for _, s := range p.Seeds() {
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
	c := Comparison{Difference: p.difference(arm, runs), T: 0, P: 1, PAdjusted: 1}
	if c.Effect != nil && c.Effect.N >= 2 {
		c.T, c.P = stats.PairedT(*c.Effect)
	}
	return c
}

func (p *Plan) difference(arm string, runs []Run) Difference {
	d := Difference{Arm: arm, Baseline: p.Baseline(), Metric: p.Outcome.Metric, Seeds: []int64{}, Differences: []float64{}}
	base := map[int64]Run{}
	for _, r := range runs {
		if r.Arm == d.Baseline {
			base[r.Seed] = r
		}
	}
	for _, r := range runs {
		if r.Arm != arm {
			continue
		}
		b := base[r.Seed]
		if r.Status == StatusFailed {
			d.FailedRuns++
		}
		if b.Status == StatusFailed {
			d.FailedRuns++
		}
		if r.Final == nil || b.Final == nil {
			continue
		}
		d.Seeds = append(d.Seeds, r.Seed)
		// Rounded, or equal differences would leave a spread of rounding errors.
		d.Differences = append(d.Differences, steady(r.Final.TestAccuracy-b.Final.TestAccuracy))
	}
	if len(d.Differences) >= 1 {
		s := stats.Summarize(d.Differences)
		d.Effect = &s
	}
	return d
}

// correlateByBatch does so among the runs of each batch size.
func (p *Plan) correlateByBatch(runs []Run) ([]BatchCorrelations, error) {
	var batches []int
	of := map[int][]Run{}
	for i, a := range p.Arms {
		s, err := a.Setting()
		if err != nil {
			return nil, fmt.Errorf("%w: arms: %s: config: %w", ErrPlan, a.Name, err)
		}
		b := s.Recipe.Batch
		if !slices.Contains(batches, b) {
			batches = append(batches, b)
		}
		n := len(p.Seeds()) // runs are in the order of the plan
		of[b] = append(of[b], runs[i*n:(i+1)*n]...)
	}
	var out []BatchCorrelations
	for _, b := range batches {
		out = append(out, BatchCorrelations{b, p.correlate(of[b])})
	}
	return out, nil
}

// correlate sets every measure against the generalisation gap.
func (p *Plan) correlate(runs []Run) []Correlation {
	out := []Correlation{}
	for i, label := range p.Measures.Labels() {
		c := Correlation{Measure: label, Logarithm: true}
		var xs, gaps []float64
		for _, r := range runs {
			if r.Final == nil || r.Measures[i].Error != "" {
				continue
			}
			xs, gaps = append(xs, r.Measures[i].Value), append(gaps, r.Final.Gap())
			c.Logarithm = c.Logarithm && r.Measures[i].Value > 0
		}
		c.N = len(xs)
		c.Logarithm = c.Logarithm && c.N > 0
		if k, ok := stats.Kendall(xs, gaps); ok {
			c.Kendall = &k
		}
		if c.Logarithm {
			for i := range xs {
				xs[i] = math.Log(xs[i])
			}
		}
		if r, ok := stats.Pearson(xs, gaps); ok {
			c.Pearson = &r
		}
		out = append(out, c)
	}
	return out
}

// steady rounds a fraction or a probability to 1e-12.
func steady(x float64) float64 { return math.Round(x*1e12) / 1e12 }

func (o Outcome) judge(c *Comparison) (outcome, reason string) {
	var mean, high float64
	if c.Effect != nil {
		mean, high = steady(c.Effect.Mean), steady(c.Effect.High)
	}
	switch {
	case c.FailedRuns > 0:
		return Inconclusive, fmt.Sprintf("%d of the runs failed", c.FailedRuns)
	case len(c.Differences) < MinimumPairs:
		return Inconclusive, fmt.Sprintf("%d pairs are fewer than %d", len(c.Differences), MinimumPairs)
	case high < o.MinimumEffect:
		return Failed, fmt.Sprintf("the interval excludes an improvement of %.2f points", 100*o.MinimumEffect)
	case mean < o.MinimumEffect || mean <= 0:
		return Inconclusive, fmt.Sprintf("the mean is below %.2f points, which the interval does not exclude", 100*o.MinimumEffect)
	case !(steady(c.PAdjusted) < o.Alpha):
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
	s := ArmSummary{Arm: arm, Measures: []MeasureSummary{}}
	var finals []*Final
	var done []Run
	for _, r := range runs {
		switch {
		case r.Arm != arm:
		case r.Final == nil:
			s.Failed++
		default:
			s.Done++
			finals, done = append(finals, r.Final), append(done, r)
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
	for i, label := range p.Measures.Labels() {
		var values []float64
		for _, r := range done {
			if r.Measures[i].Error == "" {
				values = append(values, r.Measures[i].Value)
			}
		}
		if len(values) == len(done) {
			s.Measures = append(s.Measures, MeasureSummary{label, stats.Summarize(values)})
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
				label, inPoints(c.Effect.Mean), base, c.Outcome, c.Reason))
		default:
			parts = append(parts, fmt.Sprintf("%s %+.2f points of test accuracy against %s (95 %% interval %+.2f to %+.2f, n = %d, Holm's p %s): %s, %s",
				label, inPoints(c.Effect.Mean), base, inPoints(c.Effect.Low), inPoints(c.Effect.High),
				c.Effect.N, formatP(c.PAdjusted), c.Outcome, c.Reason))
		}
	}
	return fmt.Sprintf("Outcome: %s. %s.", res.Outcome, strings.Join(parts, "; "))
}

// inPoints is a fraction in percentage points, without the last bits.
func inPoints(x float64) float64 { return math.Round(x*1e12)/1e10 + 0 } // 0, not -0

func formatP(p float64) string {
	if p = steady(p); p < 0.001 {
		return "< 0.001"
	}
	return fmt.Sprintf("= %.3f", p)
}

// TakenOver counts the runs that are older than the plan (see [Run]).
func (r *Results) TakenOver() int {
	n := 0
	for _, run := range r.Runs {
		if run.TakenOver {
			n++
		}
	}
	return n
}

// JSON is the content of results.json.
func (r *Results) JSON() []byte { return indented(r) }

// SHA256 is the digest of the results in canonical form.
func (r *Results) SHA256() string { return digest(r) }
