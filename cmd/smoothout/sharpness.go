package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/objective"
	"github.com/openpith/evidence/sharpness"
	"github.com/openpith/evidence/train"
)

type sharpnessFlags struct {
	data, weights, split, out string
	examples                  int
	seed                      int64
	measures                  []string
	asJSON                    bool
}

// sharpnessName is the file in the run directory.
const sharpnessName = "sharpness.json"

func sharpnessCommand() *cobra.Command {
	var f sharpnessFlags
	cmd := &cobra.Command{
		Use:   "sharpness DIR...",
		Short: "Measure how flat the minimum of a trained network is",
		Long: `Measures the networks of run directories by a suite of measures and writes the
results, with their settings, errors and costs, to ` + sharpnessName + ` in each. Measures
that are there already, with the same settings, weights and data, are not repeated,
so an interrupted suite goes on.

Measures: ` + strings.Join(measureNames(), ", ") + `.
Without --measure all of them but hessian-density, which takes longest. The
loss is that of clean weights in evaluation, on training examples by default: where
it was minimised.`,
		Args: cobra.MinimumNArgs(1),
		Example: `  smoothout sharpness runs/sgd runs/smoothout
  smoothout sharpness runs/sgd --measure keskar,hessian-density --examples 5000
  smoothout plot runs/sgd runs/smoothout --out sharpness.html`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.out != "" && len(args) > 1 {
				return errors.New("--out names one file, for one run")
			}
			for _, dir := range args {
				if err := runSharpness(cmd, experiment.Dir(dir), f); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringSliceVar(&f.measures, "measure", nil, "`measures` by name, separated by commas")
	flags.IntVar(&f.examples, "examples", 2000, "examples the loss is a mean of (0: all)")
	flags.StringVar(&f.split, "split", "train", "`split` they are from: train, validation or test")
	flags.StringVar(&f.weights, "weights", "", "`weights`: final, best, last, or the number of an epoch that was kept")
	flags.Int64Var(&f.seed, "seed", 1, "seed of examples, noise and directions")
	flags.StringVar(&f.out, "out", "", "`file` to write instead of "+sharpnessName+" in the run directory")
	flags.StringVar(&f.data, "data", "", dataUsage)
	flags.BoolVar(&f.asJSON, "json", false, "the file on stdout, as JSON, instead of a table")
	return cmd
}

// suite is what can be asked for.
func suite() []sharpness.Measure { return append(sharpness.Suite(), sharpness.Density{}) }

func measureNames() []string {
	var names []string
	for _, m := range suite() {
		if !slices.Contains(names, m.Name()) {
			names = append(names, m.Name())
		}
	}
	return names
}

func chooseMeasures(names []string) ([]sharpness.Measure, error) {
	if len(names) == 0 {
		return sharpness.Suite(), nil
	}
	var out []sharpness.Measure
	for _, name := range names {
		found := false
		for _, m := range suite() {
			if m.Name() == name {
				out, found = append(out, m), true
			}
		}
		if !found {
			return nil, cli.Hint(fmt.Errorf("--measure %q: no such measure", name), "the measures are %s", strings.Join(measureNames(), ", "))
		}
	}
	return out, nil
}

func runSharpness(cmd *cobra.Command, dir experiment.Dir, f sharpnessFlags) error {
	if err := checkDataFlag(cmd, f.data); err != nil {
		return err
	}
	measures, err := chooseMeasures(f.measures)
	if err != nil {
		return err
	}
	run, err := openMeasured(cmd, dir, f.weights, f.data)
	if err != nil {
		return err
	}
	defer run.backend.Finalize()
	loss, what, err := run.objective(f.split, f.examples, f.seed)
	if err != nil {
		return err
	}
	defer loss.Finalize()
	file := &sharpness.File{
		Format: sharpness.FileFormat, Name: run.name(), Group: run.group(),
		Weights: run.weights, Data: what, BatchNorm: run.batchNorm,
		Note: map[string]string{"command": typed()},
	}
	if r := run.Result; r != nil && r.WeightsSHA256 == run.weights {
		for _, m := range []struct {
			from *train.Metrics
			to   **objective.Value
		}{{r.Train, &file.Train}, {r.Test, &file.Test}} {
			if m.from != nil {
				*m.to = &objective.Value{Loss: m.from.Loss, Accuracy: m.from.Accuracy}
			}
		}
	}
	path := f.out
	if path == "" {
		path = dir.Path(sharpnessName)
	}
	if err := takeOver(file, path); err != nil {
		return err
	}

	w := loss.Start()
	bar := newCounter(cmd.ErrOrStderr())
	for i, m := range measures {
		if done(file, m, f.seed) {
			continue
		}
		bar.begin(fmt.Sprintf("%s %d/%d %s", dir, i+1, len(measures), m.Name()))
		r, err := sharpness.Run(cmd.Context(), m, loss, w, sharpness.Options{Seed: f.seed, Progress: bar.update})
		bar.finish()
		if cmd.Context().Err() != nil {
			if len(file.Results) == 0 {
				return cli.Hint(errors.New("interrupted; nothing was measured to the end"), "the same command begins again")
			}
			return cli.Hint(fmt.Errorf("interrupted; %d results are in %s", len(file.Results), path), "the same command goes on")
		}
		if err != nil { // one measure that a point does not allow is no reason to drop the others
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", dir, err)
			continue
		}
		file.Results = append(file.Results, r)
		if err := writeSharpness(file, path); err != nil {
			return err
		}
	}
	if f.asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(file)
	}
	return printSharpness(cmd.OutOrStdout(), file)
}

func writeSharpness(file *sharpness.File, path string) error {
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(text, '\n'), 0o644)
}

// takeOver keeps the results that a file already has, if they are of the same
// weights and data; those of others are replaced.
func takeOver(file *sharpness.File, path string) error {
	old, err := sharpness.LoadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return cli.Hint(err, "move the file away, or name another with --out")
	case old.Weights == file.Weights && old.Data == file.Data:
		file.Results = old.Results
	}
	return nil
}

// done reports whether a result of the measure with these settings is there.
func done(file *sharpness.File, m sharpness.Measure, drawn int64) bool {
	return slices.ContainsFunc(file.Results, func(r *sharpness.Result) bool { return r.Seed == drawn && sharpness.Same(r.Settings, m) })
}

func printSharpness(out io.Writer, file *sharpness.File) error {
	fmt.Fprintf(out, "%s: %s; batch-norm statistics: %s\n", file.Name, file.Data, file.BatchNorm)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MEASURE\tVALUE\tSTANDARD ERROR\tLOSSES\tGRADIENTS\tH·V\tSECONDS")
	for _, r := range file.Results {
		products := fmt.Sprintf("%.0f", r.Cost.HessianVectors)
		if sharpness.UsedProducts(r) == sharpness.Differences {
			products = "by differences"
		}
		standardError := "-" // not known
		if r.StandardError > 0 {
			standardError = fmt.Sprintf("%.2g", r.StandardError)
		}
		fmt.Fprintf(t, "%s\t%.5g\t%s\t%.0f\t%.0f\t%s\t%.1f\n", sharpness.Label(r.Settings), r.Value, standardError,
			r.Cost.Losses, r.Cost.Gradients, products, r.Cost.Seconds)
	}
	return t.Flush()
}
