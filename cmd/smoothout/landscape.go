package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/landscape"
	"github.com/openpith/evidence/objective"
)

type landscapeFlags struct {
	data, weights, out, norm, span string
	splits                         []string
	dimensions, points, examples   int
	refine, workers                int
	seed                           int64
	trajectory, everything         bool
}

func landscapeCommand() *cobra.Command {
	var f landscapeFlags
	cmd := &cobra.Command{
		Use:   "landscape DIR [DIR2]",
		Short: "Measure the loss along lines and planes through the weights",
		Long: `Measures loss and accuracy of a trained network on a line or a plane through its
weights, point by point into a file. The same command continues an interrupted
survey.

One directory: along --dimensions random directions, each filter's as long as the
filter (Li et al. 2018), biases and batch norm left alone unless --all.
Two directories: on the line from the first network, at 0, to the second, at 1,
with their batch-norm statistics.
--trajectory: in the plane that holds most of the path of training, through the
weights that smoothout train --keep-every left.`,
		Args: cobra.RangeArgs(1, 2),
		Example: `  smoothout landscape runs/sgd
  smoothout landscape runs/sgd runs/smoothout --split train,test
  smoothout plot runs/sgd --out landscape.html`,
		RunE: func(cmd *cobra.Command, args []string) error { return runLandscape(cmd, args, f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.IntVar(&f.dimensions, "dimensions", 2, "random directions: 1 or 2")
	flags.BoolVar(&f.trajectory, "trajectory", false, "in the plane of the path of training")
	flags.IntVar(&f.points, "points", 0, "points per axis (default 51 on a line, 25 on a plane)")
	flags.StringVar(&f.span, "range", "", "`from:to` on each axis (default -1:1; between two networks -1:2; of a trajectory, a little more than the path)")
	flags.IntVar(&f.refine, "refine", 0, "times to halve the intervals beside the least loss")
	flags.StringSliceVar(&f.splits, "split", []string{"train"}, "`splits`: train, validation or test, separated by commas")
	flags.IntVar(&f.examples, "examples", 2000, "examples of each split (0: all)")
	flags.StringVar(&f.norm, "norm", string(objective.Filter), "what random directions are measured against: none, weight, filter or layer")
	flags.BoolVar(&f.everything, "all", false, "random directions move biases and batch norm, too")
	flags.StringVar(&f.weights, "weights", "", "`weights`: final, best, last, or the number of an epoch that was kept")
	flags.Int64Var(&f.seed, "seed", 1, "seed of directions and examples")
	flags.IntVar(&f.workers, "workers", allCPUs(), "points measured side by side")
	flags.StringVar(&f.out, "out", "", "`file` to write (default landscape-KIND.jsonl in the first directory)")
	flags.StringVar(&f.data, "data", "", dataUsage)
	return cmd
}

func runLandscape(cmd *cobra.Command, args []string, f landscapeFlags) error {
	if err := checkDataFlag(cmd, f.data); err != nil {
		return err
	}
	if f.trajectory && len(args) > 1 {
		return errors.New("--trajectory is of one run")
	}
	dir := experiment.Dir(args[0])
	run, err := openMeasured(cmd, dir, f.weights, f.data)
	if err != nil {
		return err
	}
	defer run.backend.Finalize()
	var series []landscape.Series
	note := map[string]string{"command": typed(), "weights": run.weights, "batch_norm": run.batchNorm}
	var start []float32
	var layout *objective.Layout
	for _, split := range f.splits {
		loss, what, err := run.objective(split, f.examples, f.seed)
		if err != nil {
			return err
		}
		defer loss.Finalize()
		series = append(series, landscape.Series{Name: split, Data: what + run.digestOf(split), Func: loss})
		note[split] = what
		start, layout = loss.Start(), loss.Layout()
	}

	var slice *landscape.Slice
	kind, points, span := "", 25, "-1:1"
	switch {
	case len(args) == 2:
		kind, points, span = "between", 51, "-1:2"
		other, err := openMeasured(cmd, experiment.Dir(args[1]), f.weights, f.data)
		if err != nil {
			return err
		}
		defer other.backend.Finalize()
		note["weights_2"] = other.weights
		if slice, err = other.between(start, f); err != nil {
			return err
		}
	case f.trajectory:
		kind = "trajectory"
		if slice, err = run.trajectory(f); err != nil {
			return err
		}
	default:
		kind = fmt.Sprintf("random-%dd", f.dimensions)
		if f.dimensions == 1 {
			points = 51
		}
		slice, err = landscape.Random(layout, start, f.dimensions, objective.Norm(f.norm), objective.Selection{ExceptBias: !f.everything}, f.seed)
		if err != nil {
			return err
		}
	}
	if f.points > 0 {
		points = f.points
	}
	if f.span != "" {
		span = f.span
	}
	axes, err := axesOf(slice, span, points, f.trajectory && f.span == "")
	if err != nil {
		return err
	}
	path := f.out
	if path == "" {
		path = dir.Path("landscape-" + kind + ".jsonl")
	}
	bar := newCounter(cmd.ErrOrStderr())
	bar.begin(filepath.Base(path))
	g, err := landscape.Measure(cmd.Context(), slice, axes, series, path, landscape.Options{
		Workers: f.workers, Refine: f.refine, Note: note, Progress: bar.update,
	})
	bar.finish()
	switch {
	case cmd.Context().Err() != nil:
		return cli.Hint(fmt.Errorf("interrupted; what was measured is in %s", path), "the same command goes on")
	case errors.Is(err, landscape.ErrForeign), errors.Is(err, landscape.ErrFile):
		return cli.Hint(err, "move the file away, or name another with --out")
	case err != nil:
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), path)
	for s, name := range g.Series {
		if least := g.Least(s); least >= 0 {
			at := []string{}
			i := least
			for _, c := range g.Coordinates {
				at = append(at, strconv.FormatFloat(c[i%len(c)], 'g', 4, 64))
				i /= len(c)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d points, least loss %.4g at (%s)\n", name, len(g.Values[s]), g.Values[s][least].Loss, strings.Join(at, ", "))
		}
	}
	return nil
}

// between is the line from weights a to those of the run.
func (m *measuredRun) between(a []float32, f landscapeFlags) (*landscape.Slice, error) {
	loss, _, err := m.objective(f.splits[0], 1, f.seed)
	if err != nil {
		return nil, err
	}
	defer loss.Finalize()
	return landscape.Between(a, loss.Start())
}

// trajectory is the plane of the weights of all epochs that were kept, and of
// the final ones.
func (m *measuredRun) trajectory(f landscapeFlags) (*landscape.Slice, error) {
	var points [][]float32
	for _, which := range append(m.keptEpochs(), "") {
		if err := m.load(which); err != nil {
			return nil, err
		}
		loss, _, err := m.objective(f.splits[0], 1, f.seed)
		if err != nil {
			return nil, err
		}
		points = append(points, loss.Start())
		loss.Finalize()
	}
	s, err := landscape.Trajectory(points)
	if errors.Is(err, landscape.ErrSlice) {
		return nil, cli.Hint(err, "train with --keep-every 1 to keep the weights of epochs")
	}
	return s, err
}

func (m *measuredRun) keptEpochs() []string {
	var epochs []string
	last := 0
	if m.Result != nil {
		last = m.Result.Epochs
	}
	for e := 1; e <= max(last, m.Config.Recipe.Epochs); e++ {
		name := strconv.Itoa(e)
		if _, err := m.Dir.WeightsPath(name); err == nil {
			epochs = append(epochs, name)
		}
	}
	return epochs
}

// axesOf reads from:to; around a path, it is the path with a margin.
func axesOf(s *landscape.Slice, span string, points int, aroundPath bool) ([]landscape.Axis, error) {
	low, high, ok := strings.Cut(span, ":")
	from, err1 := strconv.ParseFloat(low, 64)
	to, err2 := strconv.ParseFloat(high, 64)
	if !ok || err1 != nil || err2 != nil {
		return nil, fmt.Errorf("--range %q: want two numbers, as in -1:1", span)
	}
	var axes []landscape.Axis
	for k := range s.Directions {
		a := landscape.Axis{From: from, To: to, N: points}
		if aroundPath {
			a.From, a.To = 0, 0
			for _, p := range s.Path {
				a.From, a.To = min(a.From, p[k]), max(a.To, p[k])
			}
			margin := 0.2 * (a.To - a.From)
			a.From, a.To = a.From-margin, a.To+margin
		}
		axes = append(axes, a)
	}
	return axes, nil
}
