package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/landscape"
	"github.com/openpith/evidence/report"
	"github.com/openpith/evidence/sharpness"
	"github.com/openpith/evidence/train"
)

func plotCommand() *cobra.Command {
	var out, title, files string
	var png bool
	cmd := &cobra.Command{
		Use:   "plot DIR|FILE...",
		Short: "Draw runs, sharpness and landscapes as a page",
		Long: `Draws what lies in run directories, and files of smoothout sharpness and landscape,
as one page that works offline: learning curves, accuracies, sharpness against the
generalisation gap, losses along lines and planes. Directories of runs, such as that
of a sweep, are looked through.

--files DIR also writes every picture as SVG with its numbers as CSV, and with
--png as PNG at 300 dots per inch.`,
		Args: cobra.MinimumNArgs(1),
		Example: `  smoothout plot runs/sgd runs/smoothout --out comparison.html
  smoothout plot runs/sgd/landscape-random-2d.jsonl --out plane.html --files pictures --png`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if png && files == "" {
				return cli.Hint(errors.New("--png goes with --files DIR"), "nothing was drawn; name a directory for the pictures")
			}
			sections, err := gather(args)
			if err != nil {
				return err
			}
			report.Stamp(sections, typed())
			page, err := report.Page(title, sections)
			if err != nil {
				return err
			}
			if err := atomicfile.Write(out, page, 0o644); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), out)
			if files == "" {
				return nil
			}
			return writeFigures(files, sections, png)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&out, "out", "plot.html", "`file` of the page")
	flags.StringVar(&title, "title", "Training, sharpness, landscape", "heading of the page")
	flags.StringVar(&files, "files", "", "`directory` for each picture as a file")
	flags.BoolVar(&png, "png", false, "PNG files, too")
	return cmd
}

// gathered is what the arguments hold.
type gathered struct {
	runs      []report.TrainingRun
	configs   []experiment.Config // of each
	sharpness []*sharpness.File
	surveys   []report.Survey
}

// gather reads everything that can be drawn.
func gather(args []string) ([]report.Section, error) {
	var g gathered
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, cli.Hint(err, "name runs of smoothout train, or files of smoothout sharpness and landscape")
		}
		before := len(g.runs) + len(g.sharpness) + len(g.surveys)
		if info.IsDir() {
			err = filepath.WalkDir(arg, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				return g.add(path, false)
			})
		} else {
			err = g.add(arg, true)
		}
		if err != nil {
			return nil, err
		}
		if len(g.runs)+len(g.sharpness)+len(g.surveys) == before {
			return nil, cli.Hint(fmt.Errorf("%s: nothing to draw", arg), "name runs of smoothout train, or files of smoothout sharpness and landscape")
		}
	}
	var sections []report.Section
	if len(g.runs) > 0 {
		tellApart(g.runs, g.configs)
		figures, err := report.Training(g.runs)
		if err != nil {
			return nil, err
		}
		sections = append(sections, report.Section{Title: "Training", Figures: figures})
	}
	if len(g.sharpness) > 0 {
		figures, err := report.Sharpness(g.sharpness)
		if err != nil {
			return nil, err
		}
		sections = append(sections, report.Section{Title: "Sharpness", Figures: figures})
	}
	for i, figures := range report.Landscapes(g.surveys) {
		if len(figures) > 0 { // none while nothing is measured
			sections = append(sections, report.Section{Title: "Landscape: " + g.surveys[i].Name, Figures: figures})
		}
	}
	if len(sections) == 0 {
		return nil, cli.Hint(fmt.Errorf("%w: no loss is measured yet", report.ErrNothing), "finish the landscape: the command that began it goes on")
	}
	return sections, nil
}

// add reads one file. In a directory, only files of known names are looked at.
func (g *gathered) add(path string, named bool) error {
	base := filepath.Base(path)
	switch {
	case base == experiment.ConfigFile:
		r, err := trainingRun(experiment.Dir(filepath.Dir(path)))
		if err != nil {
			return err
		}
		c, err := experiment.Dir(filepath.Dir(path)).Config()
		if err != nil {
			return err
		}
		g.runs, g.configs = append(g.runs, r), append(g.configs, c)
	case base == sharpnessName, named && strings.HasSuffix(base, ".json"):
		f, err := sharpness.LoadFile(path)
		if err != nil {
			return err
		}
		g.sharpness = append(g.sharpness, f)
	case strings.HasPrefix(base, "landscape-") && strings.HasSuffix(base, ".jsonl"), named && strings.HasSuffix(base, ".jsonl"):
		grid, err := landscape.Load(path)
		if err != nil {
			return err
		}
		name := filepath.Join(filepath.Base(filepath.Dir(path)), strings.TrimSuffix(base, ".jsonl"))
		g.surveys = append(g.surveys, report.Survey{Name: name, Grid: grid})
	}
	return nil
}

// tellApart adds to the names of runs that would share a group, and so a mean, what
// they differ in beside the seed.
func tellApart(runs []report.TrainingRun, configs []experiment.Config) {
	same := map[string][]int{}
	for i, r := range runs {
		same[r.Group] = append(same[r.Group], i)
	}
	for _, members := range same {
		var of []experiment.Config
		for _, i := range members {
			of = append(of, configs[i])
		}
		for k, words := range experiment.Contrast(of) {
			if words == "" {
				continue
			}
			i := members[k]
			runs[i].Group += ", " + words
			runs[i].Name = fmt.Sprintf("%s, seed %d", runs[i].Group, of[k].Recipe.Seed)
			runs[i].Method += ", " + words
		}
	}
}

// trainingRun reads what a run directory has; unfinished runs have a curve.
func trainingRun(dir experiment.Dir) (report.TrainingRun, error) {
	c, err := dir.Config()
	if err != nil {
		return report.TrainingRun{}, err
	}
	nan := math.NaN()
	run := report.TrainingRun{
		Name: fmt.Sprintf("%s, seed %d", groupOf(c), c.Recipe.Seed), Group: groupOf(c), Method: fmt.Sprintf("%s, batch %d", c.Recipe.Method(), c.Recipe.Batch), Strength: c.Recipe.Strength(),
		Train: nan, Validation: nan, Test: nan, StepCost: nan,
	}
	result, err := dir.Result()
	if err != nil && !errors.Is(err, experiment.ErrNoResult) {
		return run, err
	}
	if result != nil {
		for _, m := range []struct {
			from *train.Metrics
			to   *float64
		}{{result.Train, &run.Train}, {result.Validation, &run.Validation}, {result.Test, &run.Test}} {
			if m.from != nil {
				*m.to = m.from.Accuracy
			}
		}
		if result.Timing.Cost > 0 {
			run.StepCost = result.Timing.Cost
		}
	}
	lines, err := dir.Lines()
	if err != nil {
		return run, err
	}
	or := func(x *float64) float64 {
		if x == nil {
			return nan
		}
		return *x
	}
	for _, l := range lines {
		if l.Kind == "epoch" {
			run.Curve = append(run.Curve, report.CurvePoint{Epoch: l.Epoch, NoisyLoss: or(l.TrainLossNoisy), CleanLoss: or(l.TrainLossClean),
				ValidationLoss: or(l.ValidationLoss), ValidationAccuracy: or(l.ValidationAccuracy)})
		}
	}
	slices.SortStableFunc(run.Curve, func(a, b report.CurvePoint) int {
		if a.Epoch < b.Epoch {
			return -1
		}
		return 1
	})
	return run, nil
}

// writeFigures writes every picture as a file, numbered in the order of the page.
func writeFigures(dir string, sections []report.Section, png bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	n := 0
	for _, s := range sections {
		for _, f := range s.Figures {
			n++
			name := filepath.Join(dir, fmt.Sprintf("%02d-%s", n, slug(f.Title)))
			if err := atomicfile.Write(name+".svg", f.StandaloneSVG(), 0o644); err != nil {
				return err
			}
			if len(f.Table.Head) > 0 {
				var b bytes.Buffer
				if err := f.WriteCSV(&b); err != nil {
					return err
				}
				if err := atomicfile.Write(name+".csv", b.Bytes(), 0o644); err != nil {
					return err
				}
			}
			if png {
				var b bytes.Buffer
				if err := f.WritePNG(&b); err != nil {
					return err
				}
				if err := atomicfile.Write(name+".png", b.Bytes(), 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// slug is a title as a file name.
func slug(title string) string {
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
	})
	return strings.Join(words, "-")
}
