package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/smoothout"
	"github.com/openpith/evidence/train"
)

type evalFlags struct {
	data, weights, split, method string
	strengths                    []string
	draws                        int
	tune                         float64
	asJSON                       bool
}

func evalCommand() *cobra.Command {
	var f evalFlags
	cmd := &cobra.Command{
		Use:   "eval DIR",
		Short: "Measure a trained network, clean or under noise",
		Long: `Measures the network of a run directory on a split of its data, at its clean
weights and, with --strength, at noisy ones: the mean over draws of the loss and of
how much it rises. It trains nothing and changes nothing.

The default split is validation. Each look at the test set makes it less of one:
name it when you mean it.`,
		Args: cobra.ExactArgs(1),
		Example: `  smoothout eval runs/quick
  smoothout eval runs/quick --split train --method adasmoothout --strength 0.1,0.2,0.5
  smoothout eval runs/quick --method smoothout --tune-strength 0.1`,
		RunE: func(cmd *cobra.Command, args []string) error { return runEval(cmd, experiment.Dir(args[0]), f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.weights, "weights", "", "`weights`: final, best, last, or the number of an epoch that was kept (default final, or last for an unfinished run)")
	flags.StringVar(&f.split, "split", "validation", "`split`: train, validation or test")
	flags.StringVar(&f.method, "method", "smoothout", "noise of this `method`: smoothout, adasmoothout or lpf-sgd")
	flags.StringSliceVar(&f.strengths, "strength", nil, "`strengths` of the noise, separated by commas")
	flags.IntVar(&f.draws, "draws", 8, "draws per strength")
	flags.Float64Var(&f.tune, "tune-strength", 0, "find the strength at which noise raises the loss by this `much`")
	flags.StringVar(&f.data, "data", "", dataUsage)
	flags.BoolVar(&f.asJSON, "json", false, "as JSON")
	return cmd
}

// An evaluation is what eval prints as JSON.
type evaluation struct {
	Run       string            `json:"run"`
	Weights   string            `json:"weights_sha256"`
	BatchNorm string            `json:"batch_norm"` // which statistics: those stored with the weights
	Split     string            `json:"split"`
	Clean     train.Metrics     `json:"clean"`
	Noisy     []noisyEvaluation `json:"noisy,omitempty"`
	Tuned     *smoothout.Tuned  `json:"tuned,omitempty"`
}

type noisyEvaluation struct {
	Method   string  `json:"method"`
	Strength float64 `json:"strength"`
	Draws    int     `json:"draws"`
	Loss     float64 `json:"loss"`     // mean over draws, at w+e
	Rise     float64 `json:"rise"`     // above the clean loss
	RiseSD   float64 `json:"rise_sd"`  // over draws, with n-1
	Accuracy float64 `json:"accuracy"` // mean over draws
}

func runEval(cmd *cobra.Command, dir experiment.Dir, f evalFlags) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	if err := checkDataFlag(cmd, f.data); err != nil {
		return err
	}
	if f.draws < 1 {
		return fmt.Errorf("--draws %d: want 1 or more", f.draws)
	}
	strengths := make([]float64, len(f.strengths))
	for i, s := range f.strengths {
		x, err := strconv.ParseFloat(s, 64)
		if err != nil || !(x >= 0) || math.IsInf(x, 0) {
			return fmt.Errorf("--strength %q: want numbers of 0 or more", s)
		}
		strengths[i] = x
	}
	noisy, err := train.Recipe{Batch: 1}.WithMethod(f.method, 1)
	if err != nil || noisy.SmoothOut.Strength == 0 {
		return fmt.Errorf("--method %q: want smoothout, adasmoothout or lpf-sgd", f.method)
	}
	noise := noisy.SmoothOut
	noise.Schedule = smoothout.Schedule{}
	run, err := experiment.Open(dir, dataDir(f.data))
	if err != nil {
		return explainRun(cmd, err, dir)
	}
	noise.Seed = run.Config.Recipe.Seed
	split := map[string]train.Samples{"train": run.Data.Train, "validation": run.Data.Validation, "test": run.Data.Test}[f.split]
	if split == nil {
		return cli.Hint(fmt.Errorf("--split %s: the run has none", f.split), "the splits are train, validation and test")
	}
	_, newBackend, err := backendOr(allCores)
	if err != nil {
		return err
	}
	backend, err := newBackend()
	if err != nil {
		return err
	}
	defer backend.Finalize()
	m, err := run.Model(backend, f.weights)
	if err != nil {
		return explainRun(cmd, err, dir)
	}
	e := evaluation{Run: string(dir), Split: f.split, BatchNorm: "those stored with the weights"}
	if e.Weights, err = m.Digest(); err != nil {
		return err
	}
	if r := run.Result; r != nil && r.WeightsSHA256 == e.Weights {
		e.BatchNorm = r.BatchNorm
	}
	if e.Clean, err = m.Evaluate(ctx, split); err != nil {
		return err
	}
	for _, s := range strengths {
		noise.Strength = s
		n := noisyEvaluation{Method: f.method, Strength: s, Draws: f.draws}
		var squares float64
		for d := range f.draws {
			v, err := m.EvaluateNoisy(ctx, split, noise, int64(d))
			if err != nil {
				return err
			}
			delta := v.Loss - n.Loss
			n.Loss += delta / float64(d+1)
			squares += delta * (v.Loss - n.Loss)
			n.Accuracy += v.Accuracy / float64(f.draws)
		}
		n.Rise = n.Loss - e.Clean.Loss
		if f.draws > 1 {
			n.RiseSD = math.Sqrt(squares / float64(f.draws-1))
		}
		e.Noisy = append(e.Noisy, n)
	}
	if f.tune > 0 {
		t, err := smoothout.Tune(func(s float64) (float64, error) {
			noise.Strength = s
			return m.LossRise(ctx, split, noise, (f.draws+1)/2)
		}, f.tune, 0.01)
		if err != nil {
			return err
		}
		e.Tuned = &t
	}
	if f.asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(e)
	}
	fmt.Fprintf(out, "%s, %d samples; batch-norm statistics: %s\n", e.Split, e.Clean.Samples, e.BatchNorm)
	fmt.Fprintf(out, "clean            loss %.4f             accuracy %.2f %%\n", e.Clean.Loss, 100*e.Clean.Accuracy)
	for _, n := range e.Noisy {
		fmt.Fprintf(out, "noisy %-10g loss %.4f             accuracy %.2f %%  rise %.4f ± %.4f (%d draws, %s)\n", n.Strength, n.Loss, 100*n.Accuracy, n.Rise, n.RiseSD, n.Draws, n.Method)
	}
	if t := e.Tuned; t != nil {
		fmt.Fprintf(out, "At strength %.4g %s raises the loss by %.4g.\n", t.Strength, f.method, t.Gap)
	}
	return nil
}
