package experiment

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/internal/stats"
	"github.com/openpith/evidence/train"
)

// SweepSchema names the format of a sweep.
const SweepSchema = "evidence.sweep/1"

// ErrSweep reports a sweep that cannot be carried out.
var ErrSweep = errors.New("invalid sweep")

// A Sweep describes a table of runs: every arm, crossed with every combination
// of the grid, once with every seed.
type Sweep struct {
	Schema string `json:"schema"`
	Name   string `json:"name,omitempty"`
	// Recipe is what all runs start from: the name of one, or a whole one in Base.
	Recipe string  `json:"recipe,omitempty"`
	Base   *Config `json:"base,omitempty"`
	Set    Values  `json:"set,omitempty"` // settings of all runs
	Arms   []Arm   `json:"arms,omitempty"`
	// Grid gives each of these settings all of these values.
	Grid  map[string][]Value `json:"grid,omitempty"`
	Seeds []int64            `json:"seeds,omitempty"` // default: the recipe's
	// Baseline is the arm that the others are compared with; default the first.
	Baseline string `json:"baseline,omitempty"`
}

// An Arm is what is compared: a name and the settings that make it.
type Arm struct {
	Name string `json:"name"`
	Set  Values `json:"set"`
}

// Values are settings by name.
type Values map[string]Value

// A Value is the text of a setting; in a file it may also be a number or a truth
// value.
type Value string

// UnmarshalJSON implements json.Unmarshaler.
func (v *Value) UnmarshalJSON(text []byte) error {
	var x any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&x); err != nil {
		return err
	}
	switch x := x.(type) {
	case string:
		*v = Value(x)
	case json.Number:
		*v = Value(x.String())
	case bool:
		*v = Value(strconv.FormatBool(x))
	default:
		return fmt.Errorf("a setting is a text, a number or a truth value, not %s", text)
	}
	return nil
}

// ParseSweep reads a sweep strictly.
func ParseSweep(text []byte) (*Sweep, error) {
	var s Sweep
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSweep, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows it", ErrSweep)
	}
	if s.Schema != SweepSchema {
		return nil, fmt.Errorf("%w: schema is %q: want %q", ErrSweep, s.Schema, SweepSchema)
	}
	return &s, nil
}

// A Row is one run of a table.
type Row struct {
	Arm    string `json:"arm"`
	Seed   int64  `json:"seed"`
	Config Config `json:"config"`
}

// Name is the row's, for directories and messages.
func (r Row) Name() string {
	safe := strings.Map(func(c rune) rune {
		if strings.ContainsRune(`/\:*?"<>| `, c) {
			return '-'
		}
		return c
	}, r.Arm)
	return fmt.Sprintf("%s-seed%d", safe, r.Seed)
}

// A Table is a list of runs to be made and compared.
type Table struct {
	Rows     []Row  `json:"rows"`
	Baseline string `json:"baseline"`
}

// maxRows bounds what a slip of the grid can ask for.
const maxRows = 100_000

// Table lists the runs. Errors are ErrSweep and ErrConfig.
func (s *Sweep) Table() (*Table, error) {
	base := Config{}
	switch {
	case (s.Recipe == "") == (s.Base == nil):
		return nil, fmt.Errorf("%w: want either a recipe or a base", ErrSweep)
	case s.Base != nil:
		base = *s.Base
	default:
		var err error
		if base, err = RecipeByName(s.Recipe); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSweep, err)
		}
	}
	arms := s.Arms
	if len(arms) == 0 {
		arms = []Arm{{}}
	}
	for name := range s.Grid {
		if SettingByName(name) == nil || name == "seed" {
			return nil, fmt.Errorf("%w: grid: %q is no setting that it can vary; seeds have a list of their own", ErrSweep, name)
		}
	}
	for _, setting := range Settings { // in their order
		values, ok := s.Grid[setting.Name]
		if !ok {
			continue
		}
		var crossed []Arm
		for _, a := range arms {
			for _, v := range values {
				b := Arm{strings.TrimSpace(fmt.Sprintf("%s %s=%s", a.Name, setting.Name, v)), Values{setting.Name: v}}
				for k, x := range a.Set {
					if _, twice := b.Set[k]; twice {
						return nil, fmt.Errorf("%w: %s is in the grid and in arm %q", ErrSweep, k, a.Name)
					}
					b.Set[k] = x
				}
				crossed = append(crossed, b)
			}
		}
		arms = crossed
	}
	seeds := s.Seeds
	if len(seeds) == 0 {
		seeds = []int64{base.Recipe.Seed}
	}
	if n := len(arms) * len(seeds); n == 0 || n > maxRows {
		return nil, fmt.Errorf("%w: %d arms with %d seeds: want 1 to %d runs", ErrSweep, len(arms), len(seeds), maxRows)
	}
	t := &Table{Baseline: s.Baseline}
	names := map[string]bool{}
	for i, a := range arms {
		if a.Name == "" {
			a.Name = "run"
		}
		if t.Baseline == "" && i == 0 {
			t.Baseline = a.Name
		}
		values := map[string]string{}
		for _, set := range []Values{s.Set, a.Set} {
			for k, v := range set {
				values[k] = string(v)
			}
		}
		for _, seed := range seeds {
			values["seed"] = strconv.FormatInt(seed, 10)
			c, err := base.Apply(values)
			if err == nil {
				err = c.Validate()
			}
			if err != nil {
				return nil, fmt.Errorf("%w: arm %q: %w", ErrSweep, a.Name, err)
			}
			r := Row{a.Name, seed, c}
			if names[r.Name()] {
				return nil, fmt.Errorf("%w: %s is there twice", ErrSweep, r.Name())
			}
			names[r.Name()] = true
			t.Rows = append(t.Rows, r)
		}
	}
	if !slices.ContainsFunc(t.Rows, func(r Row) bool { return r.Arm == t.Baseline }) {
		return nil, fmt.Errorf("%w: no arm is called %q, the baseline", ErrSweep, t.Baseline)
	}
	return t, nil
}

// SweepOptions say how a table is worked through.
type SweepOptions struct {
	Options      // of each run; its Progress is not called
	Workers  int // runs made at the same time
	Progress func(SweepProgress)
	// After, if not nil, is called when the run of a row is there, by the worker
	// that made it and before it counts as done. The fraction of Progress knows
	// nothing of the time it takes. Its error stops the sweep.
	After func(ctx context.Context, row Row, dir Dir, r *Result) error
}

// SweepProgress tells how far a table is.
type SweepProgress struct {
	Row         Row
	Steps       int     // optimizer steps of it done
	Fraction    float64 // of all optimizer steps done, earlier sessions included
	NewFraction float64 // done by this call
	Runs, Total int
	Done        *Result // set when the row's run has just ended
}

// RunDir is where the run of a row lies.
func RunDir(dir string, r Row) Dir { return Dir(filepath.Join(dir, "runs", r.Name())) }

// Run makes the runs of the table, those that are not there yet, each in its
// own directory below dir. A run that diverges is a result; one that another
// process is working on is left to it. It can be interrupted and called again.
func (t *Table) Run(ctx context.Context, dir string, opts SweepOptions) error {
	outer := ctx
	var mu sync.Mutex
	steps := make([]int, len(t.Rows)) // done
	first := make([]int, len(t.Rows)) // of these, by earlier sessions
	total := make([]int, len(t.Rows)) // 0 while not known
	runs := 0
	report := func(i, done, begun, of int, r *Result) {
		mu.Lock()
		defer mu.Unlock()
		steps[i], first[i], total[i] = done, begun, max(of, 1)
		if r != nil {
			runs++
		}
		if opts.Progress == nil {
			return
		}
		// Rows that were not begun count as long as the mean of the others.
		var sum, fresh, known float64
		for j := range t.Rows {
			if total[j] > 0 {
				known++
				sum += float64(steps[j]) / float64(total[j])
				fresh += float64(steps[j]-first[j]) / float64(total[j])
			}
		}
		n := float64(len(t.Rows))
		opts.Progress(SweepProgress{t.Rows[i], done, sum / n, fresh / n, runs, len(t.Rows), r})
	}
	pending := make(chan int)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(pending)
		for i := range t.Rows {
			select {
			case pending <- i:
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	})
	for range max(1, opts.Workers) {
		group.Go(func() error {
			for i := range pending {
				row, o := t.Rows[i], opts.Options
				begun, of := 0, 0
				o.Progress = func(p Progress) {
					if p.Done == nil {
						begun, of = p.First, p.Steps
						report(i, p.Step, p.First, p.Steps, nil)
					}
				}
				at := RunDir(dir, row)
				r, err := at.Run(ctx, row.Config, o)
				if errors.Is(err, ErrBusy) {
					continue
				}
				if errors.Is(err, train.ErrDiverged) {
					err = nil
				}
				if err == nil && opts.After != nil {
					err = opts.After(ctx, row, at, r)
				}
				if err != nil {
					return fmt.Errorf("%s: %w", row.Name(), err)
				}
				if of == 0 { // nothing was trained
					begun, of = 1, 1
				}
				report(i, of, begun, of, r)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if outer.Err() != nil { // between two runs
		return fmt.Errorf("%w: %w", ErrInterrupted, context.Cause(outer))
	}
	return nil
}

// Summary schema and measures.
const summarySchema = "evidence.sweep-summary/1"

// A Measure is one number of a finished run; false if it has none.
type Measure struct {
	Name string
	Of   func(*Result) (float64, bool)
}

// Measures of a run, in the order in which they are shown.
var Measures = []Measure{
	{"validation_accuracy", accuracy(func(r *Result) *train.Metrics { return r.Validation })},
	{"validation_loss", loss(func(r *Result) *train.Metrics { return r.Validation })},
	{"train_accuracy", accuracy(func(r *Result) *train.Metrics { return r.Train })},
	{"train_loss", loss(func(r *Result) *train.Metrics { return r.Train })},
	{"test_accuracy", accuracy(func(r *Result) *train.Metrics { return r.Test })},
	{"test_loss", loss(func(r *Result) *train.Metrics { return r.Test })},
	{"generalization_gap", func(r *Result) (float64, bool) { return r.Gap() }},
}

func accuracy(of func(*Result) *train.Metrics) func(*Result) (float64, bool) {
	return func(r *Result) (float64, bool) {
		if m := of(r); m != nil {
			return m.Accuracy, true
		}
		return 0, false
	}
}

func loss(of func(*Result) *train.Metrics) func(*Result) (float64, bool) {
	return func(r *Result) (float64, bool) {
		if m := of(r); m != nil {
			return m.Loss, true
		}
		return 0, false
	}
}

// A Summary is what the finished runs of a table say together.
type Summary struct {
	Schema   string       `json:"schema"`
	Metric   string       `json:"metric"`   // by which arms are compared
	Baseline string       `json:"baseline"` // with which
	Missing  int          `json:"missing"`  // runs that are not finished
	Arms     []ArmSummary `json:"arms"`
}

// An ArmSummary is one arm over its finished runs.
type ArmSummary struct {
	Arm      string                   `json:"arm"`
	Done     int                      `json:"done"`
	Diverged int                      `json:"diverged"`
	Measures map[string]stats.Summary `json:"measures"`
	// Against compares it with the baseline, paired by seed; nil for the
	// baseline and where there are fewer than two pairs.
	Against *Comparison `json:"against_baseline,omitempty"`
}

// A Comparison is a paired t-test of an arm's metric minus the baseline's.
type Comparison struct {
	Effect    stats.Summary `json:"effect"`
	T         float64       `json:"t"`
	P         float64       `json:"p"`          // two-sided
	PAdjusted float64       `json:"p_adjusted"` // Holm, over the arms
}

// Summarize reads the finished runs of the table below dir.
func (t *Table) Summarize(dir, metric string) (*Summary, error) {
	m := slices.IndexFunc(Measures, func(m Measure) bool { return m.Name == metric })
	if m < 0 {
		var names []string
		for _, m := range Measures {
			names = append(names, m.Name)
		}
		return nil, fmt.Errorf("%w: metric %q: want one of %s", ErrSweep, metric, strings.Join(names, ", "))
	}
	s := &Summary{Schema: summarySchema, Metric: metric, Baseline: t.Baseline}
	results := make([]*Result, len(t.Rows))
	for i, row := range t.Rows {
		r, err := RunDir(dir, row).Result()
		if errors.Is(err, ErrNoResult) {
			s.Missing++
			continue
		}
		if err != nil {
			return nil, err
		}
		results[i] = r
	}
	base := map[int64]float64{}
	for i, row := range t.Rows {
		if row.Arm == t.Baseline && results[i] != nil {
			if x, ok := Measures[m].Of(results[i]); ok {
				base[row.Seed] = x
			}
		}
	}
	var ps []float64
	var compared []int
	for begin := 0; begin < len(t.Rows); {
		end := begin
		for end < len(t.Rows) && t.Rows[end].Arm == t.Rows[begin].Arm {
			end++
		}
		a := ArmSummary{Arm: t.Rows[begin].Arm, Measures: map[string]stats.Summary{}}
		values := map[string][]float64{}
		var differences []float64
		for i := begin; i < end; i++ {
			r := results[i]
			if r == nil {
				continue
			}
			if r.Status != Done {
				a.Diverged++
				continue
			}
			a.Done++
			for _, measure := range Measures {
				if x, ok := measure.Of(r); ok {
					values[measure.Name] = append(values[measure.Name], x)
				}
			}
			if x, ok := Measures[m].Of(r); ok {
				if b, paired := base[t.Rows[i].Seed]; paired {
					differences = append(differences, x-b)
				}
			}
		}
		for name, xs := range values {
			a.Measures[name] = stats.Summarize(xs)
		}
		if a.Arm != t.Baseline && len(differences) >= 2 {
			c := &Comparison{Effect: stats.Summarize(differences)}
			c.T, c.P = stats.PairedT(c.Effect)
			a.Against = c
			ps = append(ps, c.P)
			compared = append(compared, len(s.Arms))
		}
		s.Arms = append(s.Arms, a)
		begin = end
	}
	for i, p := range stats.Holm(ps) {
		s.Arms[compared[i]].Against.PAdjusted = p
	}
	return s, nil
}

// Write leaves table.json (the runs), summary.json and runs.csv (a line per
// finished run) in dir.
func (t *Table) Write(dir string, s *Summary) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, "table.json"), indented(t), 0o644); err != nil {
		return err
	}
	if s == nil {
		return nil
	}
	head := []string{"arm", "seed", "status", "directory"}
	for _, m := range Measures {
		head = append(head, m.Name)
	}
	rows := [][]string{head}
	for _, row := range t.Rows {
		r, err := RunDir(dir, row).Result()
		if err != nil {
			continue
		}
		cells := []string{row.Arm, strconv.FormatInt(row.Seed, 10), r.Status, "runs/" + row.Name()}
		for _, m := range Measures {
			cell := ""
			if x, ok := m.Of(r); ok {
				cell = strconv.FormatFloat(x, 'g', -1, 64)
			}
			cells = append(cells, cell)
		}
		rows = append(rows, cells)
	}
	var text bytes.Buffer
	if err := csv.NewWriter(&text).WriteAll(rows); err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, "runs.csv"), text.Bytes(), 0o644); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, "summary.json"), indented(s), 0o644)
}
