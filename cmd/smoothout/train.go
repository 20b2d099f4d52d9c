package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/train"
)

// runFlags are the flags of whatever trains.
type runFlags struct {
	recipe, out, data, init string
	resume                  bool
	saveSteps               int
	saveEvery               time.Duration
	keepEvery, monitor      int
	monitorSteps            int
	loaders                 int
	noCost                  bool
	tune                    float64
	tuneEpochs              int
	dryRun                  bool
}

func trainCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Train a network, with the noise and the recipe you choose",
		Long: `Trains one network on one data set by a recipe, and leaves a run directory with
its configuration, metrics, checkpoints and result.

Start from a named recipe (smoothout recipes) or a file like one, and change what
you like by flags. Without any it trains F1 on generated digits for a minute.

An interrupted run is continued by the same command, or by --resume, which takes
everything from the --out directory; it ends with the bits of a run that was
never interrupted. The validation split serves every choice; the test set is read
once, after the last epoch.

Two losses are reported for every method. The "noisy" one ("loss" for plain SGD,
"perturbed loss" for SAM) is what was minimised: at w+e, on augmented samples, with the
statistics of each ghost batch, as a mean over the epoch (metrics.jsonl: of single steps).
The "clean" one is measured at w itself, with the running statistics, on --monitor
training samples as they are: after every epoch, and every --monitor-steps steps.`,
		Args: cobra.NoArgs,
		Example: `  smoothout train
  smoothout train --recipe paper/f1-lb --method adasmoothout --strength 0.1 --epochs 5 --out runs/ada
  smoothout train --resume --out runs/ada
  smoothout train --method adasmoothout --strength 0.1 --rules bias=0,^/layer_0/=0.5 --dry-run`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runTrain(cmd, f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.recipe, "recipe", experiment.DefaultRecipe, "named `recipe` (smoothout recipes) or file to start from")
	addSettings(cmd)
	flags.StringVar(&f.out, "out", "", "`directory` of the run (default runs/ and what was asked for)")
	flags.StringVar(&f.data, "data", "", dataUsage)
	flags.StringVar(&f.init, "init", "", "safetensors `file` of initial weights, such as one of smoothout export")
	flags.BoolVar(&f.resume, "resume", false, "continue the run in --out; fail if there is none")
	flags.Float64Var(&f.tune, "tune-strength", 0, "choose the strength so that noise raises the validation loss by this `much`, at weights trained without it")
	flags.IntVar(&f.tuneEpochs, "tune-epochs", 1, "epochs of that training")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be trained, and what the noise is for each tensor, and train nothing")
	addOptions(cmd, &f)
	return cmd
}

// addSettings gives the command one flag per setting of a configuration.
func addSettings(cmd *cobra.Command) {
	for _, s := range experiment.Settings {
		cmd.Flags().Var(new(settingValue), s.Name, s.Usage)
	}
}

// A settingValue is the text of a setting: what it means is for the setting to
// say.
type settingValue string

func (v *settingValue) String() string     { return string(*v) }
func (v *settingValue) Set(s string) error { *v = settingValue(s); return nil }
func (v *settingValue) Type() string       { return "value" }

// settings are those that were given.
func settings(cmd *cobra.Command) map[string]string {
	values := map[string]string{}
	for _, s := range experiment.Settings {
		if flag := cmd.Flags().Lookup(s.Name); flag != nil && flag.Changed {
			values[s.Name] = flag.Value.String()
		}
	}
	return values
}

func addOptions(cmd *cobra.Command, f *runFlags) {
	flags := cmd.Flags()
	flags.IntVar(&f.saveSteps, "save-steps", 0, "also save after every so many optimizer steps")
	flags.DurationVar(&f.saveEvery, "save-every", 10*time.Minute, "also save within an epoch when so much time has passed (0: only after epochs)")
	flags.IntVar(&f.keepEvery, "keep-every", 0, "keep the weights of every so many epochs (0: only the best and the last)")
	flags.IntVar(&f.monitor, "monitor", 2000, "training samples measured at clean weights after each epoch (-1: all)")
	flags.IntVar(&f.monitorSteps, "monitor-steps", 0, "measure them also after every so many optimizer steps (0: only after epochs)")
	flags.IntVar(&f.loaders, "loaders", min(4, runtime.NumCPU()), "goroutines that read samples ahead of the steps")
	flags.BoolVar(&f.noCost, "no-cost", false, "do not measure what a step costs beside one of plain SGD")
}

func (f runFlags) options() (experiment.Options, error) {
	name, newBackend, err := backendOr(allCores)
	return experiment.Options{
		DataDir: f.data, Backend: newBackend, BackendName: name, Init: f.init,
		SaveSteps: f.saveSteps, SaveInterval: f.saveEvery, KeepEvery: f.keepEvery,
		Monitor: f.monitor, MonitorSteps: f.monitorSteps, Loaders: f.loaders, Cost: !f.noCost,
	}, err
}

func runTrain(cmd *cobra.Command, f runFlags) error {
	if err := checkDataFlag(cmd, f.data); err != nil {
		return err
	}
	f.data = dataDir(f.data)
	config, dir, err := chooseRun(cmd, f)
	if err != nil {
		return err
	}
	opts, err := f.options()
	if err != nil {
		return err
	}
	if f.dryRun {
		return describeRun(cmd, config, opts)
	}
	stderr := cmd.ErrOrStderr()
	if f.tune > 0 && !f.resume {
		if config, err = tunedConfig(cmd.Context(), stderr, config, dir, f, opts); err != nil {
			return explainRun(cmd, err, dir)
		}
	}
	started := dir.Sessions()
	fmt.Fprintf(stderr, "smoothout: %s in %s, backend %s\n", inOneLine(config), dir, opts.BackendName)
	warnOtherCode(stderr, dir, started)
	line := newLiveLine(stderr, config)
	opts.Progress = line.update
	r, err := dir.Run(cmd.Context(), config, opts)
	line.finish()
	if err != nil {
		return explainRun(cmd, err, dir)
	}
	if len(started) > 0 && len(dir.Sessions()) == len(started) {
		fmt.Fprintln(stderr, "smoothout: this run was already finished; nothing was trained")
	}
	printRun(cmd.OutOrStdout(), dir, r)
	return nil
}

// describeRun prints what a configuration trains and what its noise is at the
// initial weights.
func describeRun(cmd *cobra.Command, c experiment.Config, opts experiment.Options) error {
	table, err := c.Describe(opts)
	if err != nil {
		return explainRun(cmd, err, "")
	}
	w := cmd.OutOrStdout()
	fmt.Fprintln(w, inOneLine(c))
	_, err = table.WriteTo(w)
	return err
}

// chooseRun finds out what is to be trained, and where.
func chooseRun(cmd *cobra.Command, f runFlags) (experiment.Config, experiment.Dir, error) {
	if f.resume {
		if f.out == "" {
			return experiment.Config{}, "", cli.Hint(errors.New("--resume needs the directory of a run"), "name it with --out")
		}
		given := settings(cmd)
		if cmd.Flags().Changed("recipe") {
			given["recipe"] = f.recipe
		}
		for name := range given {
			return experiment.Config{}, "", cli.Hint(fmt.Errorf("--resume --%s: a run is continued as it was begun", name), "leave --%s out, or leave --resume out and choose another --out", name)
		}
		c, err := experiment.Dir(f.out).Config()
		return c, experiment.Dir(f.out), cli.Hint(err, "name the directory of an earlier run with --out")
	}
	config, err := readRecipe(f.recipe)
	if err != nil {
		return config, "", err
	}
	values := settings(cmd)
	if config, err = config.Apply(values); err == nil {
		err = config.Validate()
	}
	if err != nil {
		return config, "", cli.Hint(err, "see smoothout train --help, and smoothout recipes %s for what the flags change", f.recipe)
	}
	dir := experiment.Dir(f.out)
	if dir == "" {
		dir = experiment.Dir(filepath.Join("runs", defaultName(config, f.recipe, values)))
	}
	return config, dir, nil
}

// defaultName is the recipe and what was changed: "f1-lb_epochs=5_seed=2".
func defaultName(c experiment.Config, recipe string, values map[string]string) string {
	parts := []string{filepath.Base(strings.TrimSuffix(recipe, ".json"))}
	for _, s := range experiment.Settings {
		if v, ok := values[s.Name]; ok {
			parts = append(parts, s.Name+"="+v)
		}
	}
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>| `, r) {
			return '-'
		}
		return r
	}, strings.Join(parts, "_"))
	if len(name) > 200 { // what file systems take
		name = name[:180] + "-" + c.SHA256()[:12]
	}
	return name
}

// readRecipe finds a named recipe or reads a file like one.
func readRecipe(name string) (experiment.Config, error) {
	c, unknown := experiment.RecipeByName(name)
	if unknown == nil {
		return c, nil
	}
	text, err := cli.ReadFile(name, maxPlan)
	if errors.Is(err, fs.ErrNotExist) {
		return c, cli.Hint(unknown, "or name a file; print one to start from: smoothout recipes %s > my.json", experiment.DefaultRecipe)
	}
	if err != nil {
		return c, err
	}
	if c, err = experiment.Parse(text); err != nil {
		return c, cli.Hint(fmt.Errorf("%s: %w", name, err), "compare with a named recipe: smoothout recipes %s", experiment.DefaultRecipe)
	}
	return c, nil
}

// inOneLine is a configuration for people.
func inOneLine(c experiment.Config) string {
	r := c.Recipe
	s := fmt.Sprintf("%s on %s, %s", c.Network.Name, c.Data.Name, r.Method())
	if strength := r.StrengthAt(0, 1); r.Method() != "sgd" {
		if r.SAM.Rho == 0 {
			strength = r.SmoothOut.Strength
		}
		s += fmt.Sprintf(" %g", strength)
	}
	s += fmt.Sprintf(", batch %d", r.Batch)
	if m := r.Multiple(); m > 1 {
		s += fmt.Sprintf(" = %d × %d", m, r.Batch/m)
	}
	return s + fmt.Sprintf(", %d epochs, seed %d", r.Epochs, r.Seed)
}

// warnOtherCode says when a run is continued by another program than the one
// it was begun with: then the bits may differ.
func warnOtherCode(w io.Writer, dir experiment.Dir, sessions []experiment.Session) {
	if len(sessions) == 0 {
		return
	}
	if _, err := dir.Result(); err == nil {
		return
	}
	last := sessions[len(sessions)-1].Code
	if now := experiment.CurrentCode(last.Backend); now != last {
		fmt.Fprintf(w, "smoothout: note: this run was begun by another build (revision %.12s, %s); the same bits are promised for the same build only\n", last.Revision, last.Go)
	}
}

// explainRun adds what to do to the errors of a run.
func explainRun(cmd *cobra.Command, err error, dir experiment.Dir) error {
	switch {
	case errors.Is(err, experiment.ErrInterrupted):
		if errors.Is(err, context.Canceled) {
			return cli.Hint(err, "nothing is lost; continue with: %s", resumeRun(cmd, dir))
		}
		return cli.Hint(err, "the run is saved; when that is put right, continue with: %s", resumeRun(cmd, dir))
	case errors.Is(err, train.ErrDiverged):
		kept := "it was before the first checkpoint"
		path := dir.Path(experiment.CheckpointFile)
		if _, err := os.Stat(path); err == nil {
			kept = "the last good state is kept in " + path
		}
		return cli.Hint(err, "%s; try a lower --lr, less --strength, or --clip, with another --out", kept)
	case errors.Is(err, experiment.ErrNoRun):
		return cli.Hint(err, "name the directory of a run of smoothout train")
	case errors.Is(err, experiment.ErrOtherRun):
		return cli.Hint(err, "choose another directory with --out, or continue that run with: %s train --resume --out %s", toolCommand("smoothout"), quote(string(dir)))
	case errors.Is(err, experiment.ErrBusy):
		return cli.Hint(err, "wait for it, or choose another directory with --out")
	case errors.Is(err, train.ErrCheckpointDamaged):
		return cli.Hint(err, "delete it and run the same command again: the run starts over")
	case errors.Is(err, train.ErrCheckpointForeign):
		return cli.Hint(err, "it was written on another backend, or its files were changed; delete it and run the same command again to start over")
	case errors.Is(err, train.ErrWeights):
		return cli.Hint(err, "the file must be whole and hold every tensor of the network, by name and shape: smoothout export writes one")
	case errors.Is(err, datasets.ErrMissing):
		return cli.Hint(err, "name the directory that has the files with --data (for a folder of images, the folder itself: --dataset ./DIR), or fetch them: smoothout data get NAME; generated digits need none: --dataset %s", experiment.Glyphs)
	case errors.Is(err, train.ErrRecipe), errors.Is(err, train.ErrModel):
		return cli.Hint(err, "change it with the flags of smoothout train --help")
	}
	return err
}

// resumeRun is what to type to continue a run as it was begun.
func resumeRun(cmd *cobra.Command, dir experiment.Dir) string {
	words := []string{toolCommand("smoothout"), "train --resume --out", quote(string(dir))}
	for _, name := range []string{"data", "save-steps", "save-every", "keep-every", "monitor", "monitor-steps", "loaders", "no-cost"} {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			words = append(words, "--"+name+"="+quote(flag.Value.String()))
		}
	}
	return strings.Join(words, " ")
}

// printRun says what came out, for people. Scripts read result.json.
func printRun(w io.Writer, dir experiment.Dir, r *experiment.Result) {
	fmt.Fprintf(w, "%-11s loss %-8s accuracy\n", "clean", "")
	for _, m := range []struct {
		name string
		m    *train.Metrics
	}{{"train", r.Train}, {"validation", r.Validation}, {"test", r.Test}} {
		if m.m != nil {
			fmt.Fprintf(w, "%-11s %-13.4f %.2f %%  (%d samples)\n", m.name, m.m.Loss, 100*m.m.Accuracy, m.m.Samples)
		}
	}
	fmt.Fprintf(w, "Weights of epoch %d of %d, batch-norm statistics: %s.\n", r.SelectedEpoch, r.Epochs, r.BatchNorm)
	if t := r.Timing; t.Seconds > 0 {
		fmt.Fprintf(w, "%.0f images/s, %.1f %% of the time waiting for samples", t.ImagesPerSecond, 100*t.InputFraction)
		if t.Cost > 0 {
			fmt.Fprintf(w, ", a step costs %.2f × one of plain SGD", t.Cost)
		}
		fmt.Fprintln(w, ".")
	}
	fmt.Fprintf(w, "Run: %s\n", dir)
}

// A liveLine shows how a run goes: a line that is redrawn when a person is
// watching, and otherwise one line per epoch. It never shows the test set.
type liveLine struct {
	w     io.Writer
	loss  string // what the loss that is minimised is called
	tty   bool
	drawn time.Time
	width int
}

func newLiveLine(w io.Writer, c experiment.Config) *liveLine {
	l := &liveLine{w: w, tty: isTerminal(w), loss: "noisy loss"}
	switch c.Recipe.Method() {
	case "sgd":
		l.loss = "loss"
	case "sam", "asam":
		l.loss = "perturbed loss"
	}
	return l
}

func (l *liveLine) update(p experiment.Progress) {
	if p.Done != nil {
		l.clear()
		fmt.Fprintln(l.w, l.epochLine(p))
		return
	}
	if now := time.Now(); l.tty && now.Sub(l.drawn) >= 200*time.Millisecond {
		l.drawn = now
		s := []rune(l.statusLine(p))
		if n := terminalWidth(l.w); n > 1 && len(s) >= n {
			s = s[:n-1]
		}
		l.clear()
		fmt.Fprint(l.w, string(s))
		l.width = len(s)
	}
}

func (l *liveLine) clear() {
	if l.width > 0 {
		fmt.Fprintf(l.w, "\r%s\r", strings.Repeat(" ", l.width))
		l.width = 0
	}
}

func (l *liveLine) finish() { l.clear() }

// statusLine is a moment within an epoch.
func (l *liveLine) statusLine(p experiment.Progress) string {
	parts := []string{
		fmt.Sprintf("epoch %.2f/%d", p.Time, p.Epochs),
		fmt.Sprintf("%s %.4f", l.loss, p.Loss),
		fmt.Sprintf("lr %.3g", p.LearningRate),
	}
	if p.Strength > 0 {
		parts = append(parts, fmt.Sprintf("strength %.3g", p.Strength))
	}
	return strings.Join(append(parts, speed(p)...), "  ")
}

// epochLine is the end of an epoch. First comes the loss that was minimised;
// "clean" is measured at the weights themselves.
func (l *liveLine) epochLine(p experiment.Progress) string {
	e := p.Done
	parts := []string{fmt.Sprintf("epoch %d/%d", e.Epoch, p.Epochs), fmt.Sprintf("%s %.4f", l.loss, e.TrainingLoss)}
	if e.Train != nil {
		parts = append(parts, fmt.Sprintf("clean train %.4f %.2f %%", e.Train.Loss, 100*e.Train.Accuracy))
	}
	if e.Validation != nil {
		parts = append(parts, fmt.Sprintf("validation %.4f %.2f %%", e.Validation.Loss, 100*e.Validation.Accuracy))
	}
	if p.Strength > 0 {
		parts = append(parts, fmt.Sprintf("strength %.3g", p.Strength))
	}
	return strings.Join(append(parts, speed(p)...), "  ")
}

func speed(p experiment.Progress) (parts []string) {
	if p.ImagesPerSecond > 0 {
		parts = append(parts, fmt.Sprintf("%.0f images/s", p.ImagesPerSecond))
	}
	if p.Cost > 0 {
		parts = append(parts, fmt.Sprintf("cost %.2f×SGD", p.Cost))
	}
	if p.InputFraction > 0.05 {
		parts = append(parts, fmt.Sprintf("input wait %.0f %%", 100*p.InputFraction))
	}
	if p.Left > 0 {
		parts = append(parts, duration(p.Left)+" left")
	}
	return parts
}

func duration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds())+1)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()+0.5))
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}

// tunedConfig is the configuration with the strength at which noise raises the
// validation loss by f.tune, measured at weights that were trained without noise
// for f.tuneEpochs, in a run of its own below dir.
func tunedConfig(ctx context.Context, w io.Writer, c experiment.Config, dir experiment.Dir, f runFlags, opts experiment.Options) (experiment.Config, error) {
	if begun, err := dir.Config(); err == nil { // this command was given before
		c.Recipe.SmoothOut.Strength = begun.Recipe.SmoothOut.Strength
		c.Recipe.SAM.Rho = begun.Recipe.SAM.Rho
		return c, nil
	}
	if m := c.Recipe.Method(); m == "sgd" || m == "sam" || m == "asam" {
		return c, cli.Hint(fmt.Errorf("--tune-strength: method %s has no noise to tune", m), "choose a --method that has")
	}
	line := newLiveLine(w, experiment.Config{})
	opts.Progress = line.update
	fmt.Fprintf(w, "smoothout: tuning the strength: %d epochs without noise\n", f.tuneEpochs)
	t, err := c.Tune(ctx, experiment.Dir(strings.TrimSuffix(string(dir), string(os.PathSeparator))+"-tune"), f.tune, f.tuneEpochs, opts)
	line.finish()
	if err != nil {
		return c, err
	}
	fmt.Fprintf(w, "smoothout: at strength %.4g noise raises the validation loss by %.4g (%d measurements)\n", t.Strength, t.Gap, t.Evaluations)
	c.Recipe.SmoothOut.Strength = t.Strength
	c.Notes = append(c.Notes, fmt.Sprintf("The strength was chosen so that noise raises the validation loss by %g at weights trained without noise for %d epochs.", f.tune, f.tuneEpochs))
	return c, nil
}
