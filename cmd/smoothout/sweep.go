package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/internal/cli"
)

type sweepFlags struct {
	runFlags
	arms     []string
	grid     []string
	seeds    string
	baseline string
	metric   string
	workers  int
}

func sweepCommand() *cobra.Command {
	var f sweepFlags
	cmd := &cobra.Command{
		Use:   "sweep [FILE]",
		Short: "Train a table of runs and compare them",
		Long: `Trains every arm, crossed with every combination of the grid, once with every
seed, some runs at a time, and prints mean and standard deviation of each arm and
how it compares with the baseline, paired by seed.

The table comes from FILE or from flags. --arms names methods with strengths to
try; --grid takes any setting, the flags of smoothout train. Unless --test says
so the test set is not read: a sweep serves a choice, and choices are made on
validation samples.

Each run has its own directory, as if smoothout train had made it. Finished runs
are kept and unfinished ones continued when the command is given again; the table
may have grown by then.`,
		Args: cobra.MaximumNArgs(1),
		Example: `  smoothout sweep --arms sgd,smoothout:0.005:0.01:0.02,adasmoothout:0.1 --seeds 1-5 --out runs/strengths
  smoothout sweep --recipe paper/f1-lb --epochs 5 --grid lr=0.05,0.1,0.2 --grid batch=1024,4096
  smoothout sweep my-sweep.json --out runs/mine`,
		RunE: func(cmd *cobra.Command, args []string) error { return runSweep(cmd, args, f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.recipe, "recipe", experiment.DefaultRecipe, "named `recipe` (smoothout recipes) or file that all runs start from")
	flags.StringSliceVar(&f.arms, "arms", nil, "`methods` to compare, each with strengths: sgd,smoothout:0.01:0.02")
	flags.StringArrayVar(&f.grid, "grid", nil, "`SETTING=V1,V2` to vary; may be given several times")
	flags.StringVar(&f.seeds, "seeds", "", "`seeds`, as 1-5 or 1,2,7 (default: the recipe's)")
	flags.StringVar(&f.baseline, "baseline", "", "`arm` that the others are compared with (default: the first)")
	flags.StringVar(&f.metric, "metric", "validation_accuracy", "`measure` by which arms are compared")
	flags.StringVar(&f.out, "out", "runs/sweep", "`directory` of the sweep")
	flags.StringVar(&f.data, "data", "", dataUsage)
	flags.IntVar(&f.workers, "workers", runtime.NumCPU(), "runs made at the same time")
	flags.BoolVar(&f.dryRun, "dry-run", false, "list the runs and train nothing")
	addSettings(cmd)
	flags.MarkHidden("seed")
	addOptions(cmd, &f.runFlags)
	return cmd
}

func runSweep(cmd *cobra.Command, args []string, f sweepFlags) error {
	if err := checkDataFlag(cmd, f.data); err != nil {
		return err
	}
	f.data = dataDir(f.data)
	if f.workers < 1 {
		return cli.Hint(fmt.Errorf("--workers %d: at least 1 is needed", f.workers), "leave it out for one per core")
	}
	table, err := sweepTable(cmd, args, f)
	if err != nil {
		return err
	}
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	if f.dryRun {
		for _, r := range table.Rows {
			fmt.Fprintf(stdout, "%s\t%s\n", r.Name(), inOneLine(r.Config))
		}
		return nil
	}
	// A wrong metric is found now, not after the training.
	if _, err := table.Summarize(f.out, f.metric); err != nil {
		return err
	}
	opts, err := f.options()
	if err != nil {
		return err
	}
	// Runs side by side use the cores best if each keeps to one.
	if opts.BackendName, opts.Backend, err = backend(); err != nil {
		return err
	}
	opts.Loaders, opts.Cost = 1, false
	if err := table.Write(f.out, nil); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "smoothout: %d runs in %s, %d at a time, backend %s\n", len(table.Rows), f.out, f.workers, opts.BackendName)
	line := &sweepLine{w: stderr, tty: isTerminal(stderr), start: time.Now()}
	err = table.Run(cmd.Context(), f.out, experiment.SweepOptions{Options: opts, Workers: f.workers, Progress: line.update})
	line.clear()
	if errors.Is(err, experiment.ErrInterrupted) {
		return cli.Hint(err, "nothing is lost; give the same command again to go on")
	}
	if err != nil {
		return explainRun(cmd, err, experiment.Dir(f.out))
	}
	s, err := table.Summarize(f.out, f.metric)
	if err != nil {
		return err
	}
	if err := table.Write(f.out, s); err != nil {
		return err
	}
	printSummary(stdout, s)
	fmt.Fprintf(stdout, "Runs: %s, numbers: %s\n", filepath.Join(f.out, "runs.csv"), filepath.Join(f.out, "summary.json"))
	if s.Missing > 0 {
		return cli.Hint(fmt.Errorf("runs that another process is making: %d", s.Missing), "give the same command again when it is done")
	}
	return nil
}

func sweepTable(cmd *cobra.Command, args []string, f sweepFlags) (*experiment.Table, error) {
	given := settings(cmd)
	var s *experiment.Sweep
	if len(args) == 1 {
		for _, name := range []string{"recipe", "arms", "grid", "seeds", "baseline"} {
			if cmd.Flags().Changed(name) {
				return nil, cli.Hint(fmt.Errorf("%s says what is swept, and so does --%s", args[0], name), "edit the file, or leave it out")
			}
		}
		text, err := cli.ReadFile(args[0], maxPlan)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, cli.Hint(err, "name a file, or say what to sweep by flags: smoothout sweep --help")
		}
		if err != nil {
			return nil, err
		}
		if s, err = experiment.ParseSweep(text); err != nil {
			return nil, cli.Hint(fmt.Errorf("%s: %w", args[0], err), "docs/cli.md has an example")
		}
	} else {
		base, err := readRecipe(f.recipe)
		if err != nil {
			return nil, err
		}
		s = &experiment.Sweep{Schema: experiment.SweepSchema, Base: &base, Baseline: f.baseline, Grid: map[string][]experiment.Value{}}
		if s.Arms, err = parseArms(f.arms); err != nil {
			return nil, err
		}
		for _, g := range f.grid {
			name, values, ok := strings.Cut(g, "=")
			if !ok {
				return nil, cli.Hint(fmt.Errorf("--grid %q: want SETTING=V1,V2", g), "for example --grid lr=0.05,0.1")
			}
			for v := range strings.SplitSeq(values, ",") {
				s.Grid[name] = append(s.Grid[name], experiment.Value(v))
			}
		}
		if s.Seeds, err = parseSeeds(f.seeds); err != nil {
			return nil, err
		}
	}
	if s.Set == nil {
		s.Set = experiment.Values{}
	}
	for name, v := range given {
		s.Set[name] = experiment.Value(v)
	}
	if _, ok := s.Set["test"]; !ok {
		s.Set["test"] = "none"
	}
	t, err := s.Table()
	return t, cli.Hint(err, "settings are the flags of smoothout train; see smoothout sweep --help")
}

// parseArms reads "sgd", "smoothout:0.01:0.02": an arm per strength.
func parseArms(list []string) (arms []experiment.Arm, err error) {
	for _, text := range list {
		method, strengths, some := strings.Cut(text, ":")
		if !some {
			arms = append(arms, experiment.Arm{Name: method, Set: experiment.Values{"method": experiment.Value(method)}})
			continue
		}
		for s := range strings.SplitSeq(strengths, ":") {
			if _, err := strconv.ParseFloat(s, 64); err != nil {
				return nil, cli.Hint(fmt.Errorf("--arms %s: strength %q is no number", text, s), "for example --arms sgd,smoothout:0.01:0.02")
			}
			arms = append(arms, experiment.Arm{Name: method + " " + s, Set: experiment.Values{"method": experiment.Value(method), "strength": experiment.Value(s)}})
		}
	}
	return arms, nil
}

// parseSeeds reads "1-5" or "1,2,7".
func parseSeeds(text string) (seeds []int64, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		a, errA := strconv.ParseInt(low, 10, 64)
		b, errB := strconv.ParseInt(high, 10, 64)
		if errA != nil || errB != nil || b < a || b-a > 10_000 {
			return nil, cli.Hint(fmt.Errorf("--seeds %q: %q is neither a number nor a range", text, part), "for example --seeds 1-5")
		}
		for s := a; s <= b; s++ {
			seeds = append(seeds, s)
		}
	}
	return seeds, nil
}

// sweepLine shows how far a sweep is, as progress does for a study.
type sweepLine struct {
	w     io.Writer
	tty   bool
	start time.Time
	drawn time.Time
	width int
}

func (l *sweepLine) update(p experiment.SweepProgress) {
	status := fmt.Sprintf("%d/%d runs", p.Runs, p.Total)
	if elapsed := time.Since(l.start); p.NewFraction > 0 && p.Fraction < 1 && elapsed > time.Second {
		status += ", about " + duration(time.Duration(float64(elapsed)*(1-p.Fraction)/p.NewFraction)) + " left"
	}
	if p.Done != nil {
		l.clear()
		what := p.Done.Status
		if v := p.Done.Validation; v != nil {
			what += fmt.Sprintf(", validation %.2f %%", 100*v.Accuracy)
		}
		if p.Done.Error != "" {
			what = p.Done.Error
		}
		fmt.Fprintf(l.w, "%s: %s seed %d %s\n", status, p.Row.Arm, p.Row.Seed, what)
		return
	}
	if now := time.Now(); l.tty && now.Sub(l.drawn) >= 200*time.Millisecond {
		l.clear()
		l.drawn, l.width = now, len(status)
		fmt.Fprint(l.w, status)
	}
}

func (l *sweepLine) clear() {
	if l.width > 0 {
		fmt.Fprintf(l.w, "\r%s\r", strings.Repeat(" ", l.width))
		l.width = 0
	}
}

// printSummary is the table of arms, for people. Scripts read summary.json.
func printSummary(w io.Writer, s *experiment.Summary) {
	percent := strings.HasSuffix(s.Metric, "accuracy") || s.Metric == "generalization_gap"
	scale, unit := 1.0, ""
	if percent {
		scale, unit = 100, " %"
	}
	width := len("arm")
	for _, a := range s.Arms {
		width = max(width, len(a.Arm))
	}
	test := false
	for _, a := range s.Arms {
		_, has := a.Measures["test_accuracy"]
		test = test || has
	}
	fmt.Fprintf(w, "%-*s  %4s  %-21s", width, "arm", "runs", strings.ReplaceAll(s.Metric, "_", " "))
	if test && s.Metric != "test_accuracy" {
		fmt.Fprintf(w, "  %-17s", "test accuracy")
	}
	fmt.Fprintf(w, "  against %s, paired by seed\n", s.Baseline)
	for _, a := range s.Arms {
		runs := fmt.Sprint(a.Done)
		if a.Diverged > 0 {
			runs += fmt.Sprintf("-%d", a.Diverged)
		}
		cell := func(name string, scale float64, unit string) string {
			m, ok := a.Measures[name]
			switch {
			case !ok:
				return "-"
			case m.N == 1:
				return fmt.Sprintf("%.3f%s", scale*m.Mean, unit)
			}
			return fmt.Sprintf("%.3f ± %.3f%s", scale*m.Mean, scale*m.SD, unit)
		}
		line := fmt.Sprintf("%-*s  %4s  %-21s", width, a.Arm, runs, cell(s.Metric, scale, unit))
		if test && s.Metric != "test_accuracy" {
			line += fmt.Sprintf("  %-17s", cell("test_accuracy", 100, " %"))
		}
		if c := a.Against; c != nil {
			line += fmt.Sprintf("  %+.3f (95 %% %+.3f to %+.3f, n = %d, Holm's p %s)", scale*c.Effect.Mean, scale*c.Effect.Low, scale*c.Effect.High, c.Effect.N, pValue(c.PAdjusted))
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	for _, a := range s.Arms {
		if a.Diverged > 0 {
			fmt.Fprintf(w, "%s: %d runs diverged and are left out of its numbers.\n", a.Arm, a.Diverged)
		}
	}
}

func pValue(p float64) string {
	if p < 0.001 {
		return "< 0.001"
	}
	return fmt.Sprintf("= %.3f", p)
}
