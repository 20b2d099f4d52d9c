package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unicode"

	"github.com/gomlx/compute"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/replicate"
	"github.com/openpith/evidence/replicate/study"
	"github.com/openpith/evidence/report"
	"github.com/openpith/evidence/train"
)

type replicateFlags struct {
	plan, out, data, sweep, key, bundle, signer string
	trust                                       []string
	workers                                     int
	resume, keep                                bool
}

func replicateCommand() *cobra.Command {
	var f replicateFlags
	cmd := &cobra.Command{
		Use:   "replicate",
		Short: "Verify the paper's record, re-run its claim, sign what was seen",
		Long: `Verifies the paper's bundle, trains every arm of the plan's table with every seed,
measures how sharp each minimum is, compares the arms by the plan's rule, signs a
replication_record with the outcome, whatever it is, and appends it to a bundle
that pith verify accepts.

Without flags it uses the bundle of arXiv:1805.07898 and the plan "quick": real
MNIST when a data directory has it, generated digits otherwise.

Everything lands in the --out directory, file by file. An interrupted study is
continued by the same command: finished runs are kept, an unfinished one goes
on from its checkpoint, and the numbers are those of an uninterrupted study.
With --sweep DIR the runs are those of smoothout sweep in DIR: finished ones are
taken over if their configuration is the plan's, missing ones are made there. A run
that is older than the plan of the study is marked so, in its file, the results and
the record.

Files of smoothout landscape that lie in landscapes/ below --out are on the report;
the record holds the digests of those that are there when it is signed.

With --resume the plan is taken from the --out directory, and it is an error
if there is nothing to continue or --plan names another plan.

The record is signed with the key in --key, which is made on first use for the
name in --signer. The environment variable PITH_PASSPHRASE unlocks a key that
has a passphrase.`,
		Args: cobra.NoArgs,
		Example: `  smoothout replicate
  smoothout replicate --plan mnist-f1-part --data ~/data --out runs/mnist
  smoothout replicate --resume --out runs/mnist`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runReplicate(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.plan, "plan", "quick", "built-in `plan` (see smoothout plan) or a plan file")
	flags.StringVar(&f.out, "out", "", "`directory` of the study (default runs/PLAN, for quick on MNIST runs/quick-mnist)")
	flags.StringVar(&f.data, "data", "", dataUsage)
	flags.StringVar(&f.sweep, "sweep", "", "`directory` of a sweep whose runs these are (default: made in --out, and removed when measured)")
	flags.BoolVar(&f.keep, "keep", false, "keep the run directories in --out, with their weights")
	flags.StringVar(&f.bundle, "bundle", "", "the paper's bundle `file` (default: the built-in one of arXiv:1805.07898)")
	flags.StringArrayVar(&f.trust, "trust", nil, "trust `file` for --bundle, beside the pinned key of pith.science")
	flags.StringVar(&f.key, "key", "", "private key `file` to sign with (default: in the user's configuration directory)")
	flags.StringVar(&f.signer, "signer", "", "`name` to sign as when the key is made (default: the name of the account)")
	flags.IntVar(&f.workers, "workers", runtime.NumCPU(), "runs made at the same time")
	flags.BoolVar(&f.resume, "resume", false, "continue the study in --out; fail if there is none")
	return cmd
}

func runReplicate(cmd *cobra.Command, f replicateFlags) error {
	stderr := cmd.ErrOrStderr()
	if f.workers < 1 {
		return cli.Hint(fmt.Errorf("--workers %d: at least 1 is needed", f.workers), "leave it out for one per core")
	}
	if err := checkDataFlag(cmd, f.data); err != nil {
		return err
	}
	f.data = dataDir(f.data)
	if f.sweep != "" {
		// A directory that is not there is a slip, after which all runs would be made anew.
		if _, err := os.ReadDir(f.sweep); err != nil {
			return cli.Hint(fmt.Errorf("--sweep: %w", err), "name the --out directory of a smoothout sweep, or leave it out to make the runs now")
		}
	}
	plan, dir, err := choosePlan(cmd, f)
	if err != nil {
		return err
	}
	// Whatever can fail for want of a file or a permission fails now, not
	// after the training.
	bundle, trust, err := paperBundle(f)
	if err != nil {
		return err
	}
	key, err := signingKey(stderr, f.key, f.signer)
	if err != nil {
		return err
	}
	name, newBackend, err := backend()
	if err != nil {
		return err
	}
	// The first backend is asked for when data and directory are known to be
	// right and there is something to train: the moment to say so.
	var trained sync.Once
	idle := true
	announce := func() {
		idle = false
		fmt.Fprintf(stderr, "smoothout: plan %s in %s: %d arms × %d seeds, %d workers, backend %s\n",
			plan.Name, dir, len(plan.Sweep.Arms), len(plan.Seeds()), f.workers, name)
	}
	was, err := dir.Signed()
	if err != nil {
		return err
	}

	bar := newProgress(stderr)
	res, err := replicate.Run(cmd.Context(), plan, replicate.Options{
		Dir: dir, DataDir: f.data, Sweep: f.sweep, Keep: f.keep, Bundle: bundle, Trust: trust, Key: key, BackendName: name,
		Backend: func() (compute.Backend, error) { trained.Do(announce); return newBackend() },
		Workers: f.workers, Progress: bar.update,
	})
	bar.finish()
	if errors.Is(err, replicate.ErrInterrupted) {
		return cli.Hint(err, "nothing is lost; continue with: %s", resumeCommand(cmd, dir))
	}
	if err != nil {
		return explain(err, dir)
	}
	if was && idle {
		fmt.Fprintln(stderr, "smoothout: this study was already finished; nothing was run")
	}
	// What people read is made from the files, and made again every time.
	for _, f := range []struct {
		name string
		make func(study.Dir) ([]byte, error)
	}{{"runs.csv", report.RunsCSV}, {"README.md", report.Readme}, {"report.html", report.HTML}} {
		text, err := f.make(dir)
		if err != nil {
			return err
		}
		if err := dir.Write(f.name, text); err != nil {
			return err
		}
	}
	printResult(cmd.OutOrStdout(), dir, res)
	return nil
}

// choosePlan finds the plan and the directory of the study.
func choosePlan(cmd *cobra.Command, f replicateFlags) (*study.Plan, study.Dir, error) {
	var asked *study.Plan
	if !f.resume || f.out == "" || cmd.Flags().Changed("plan") {
		var err error
		if asked, err = readPlan(f.plan, f.data); err != nil {
			return nil, "", err
		}
	}
	dir := study.Dir(f.out)
	if dir == "" {
		dir = defaultDir(asked)
	}
	if !f.resume {
		return asked, dir, nil
	}
	plan, err := dir.Plan()
	if err != nil {
		return nil, "", cli.Hint(err, "name the directory of an earlier study with --out")
	}
	if cmd.Flags().Changed("plan") && !replicate.Continues(asked, plan) {
		return nil, "", cli.Hint(fmt.Errorf("--resume --plan %s: the plan in %s is another one, %q", f.plan, dir, plan.Name),
			"leave --plan out to continue that study, or --resume to begin one in another --out directory")
	}
	return plan, dir, nil
}

// defaultDir is where the study of a plan lives unless --out says. The plan
// "quick" is two studies, one on MNIST and one on generated digits.
func defaultDir(p *study.Plan) study.Dir {
	name := p.Name
	if name == "quick" && p.Sweep.Set["dataset"] == "mnist" {
		name = "quick-mnist"
	}
	return study.Dir(filepath.Join("runs", name))
}

// resumeCommand is what to type to continue the study in dir as it was begun.
func resumeCommand(cmd *cobra.Command, dir study.Dir) string {
	words := []string{toolCommand("smoothout"), "replicate --resume --out", quote(string(dir))}
	// Not the plan, which lies in the directory, nor the signer, who has a key now.
	for _, name := range []string{"data", "sweep", "keep", "bundle", "trust", "key", "workers"} {
		flag := cmd.Flags().Lookup(name)
		if !flag.Changed {
			continue
		}
		values := []string{flag.Value.String()}
		if list, ok := flag.Value.(interface{ GetSlice() []string }); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			if flag.Value.Type() == "bool" {
				words = append(words, "--"+name)
				continue
			}
			words = append(words, "--"+name, quote(v))
		}
	}
	return strings.Join(words, " ")
}

// quote writes s as one word of a POSIX shell.
func quote(s string) string {
	special := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./:=@,+%", r)
	}
	if s != "" && strings.IndexFunc(s, special) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// paperBundle returns the paper's bundle and the policy it must satisfy.
func paperBundle(f replicateFlags) ([]byte, *pith.Trust, error) {
	trust, err := trustFrom(f.trust)
	if err != nil {
		return nil, nil, err
	}
	if f.bundle == "" {
		return seed.Bundle(), trust, nil
	}
	bundle, err := cli.ReadFile(f.bundle, pith.MaxSize)
	if err != nil {
		return nil, nil, cli.Hint(err, "--bundle names the paper's bundle")
	}
	return bundle, trust, nil
}

// trustFrom is the pinned policy with the given trust files.
func trustFrom(paths []string) (*pith.Trust, error) {
	trust := pith.PinnedTrust()
	for _, path := range paths {
		data, err := cli.ReadFile(path, pith.MaxSize)
		if err != nil {
			return nil, cli.Hint(err, "--trust names a trust file")
		}
		t, err := pith.ParseTrust(data)
		if err == nil {
			trust, err = trust.Merge(t)
		}
		if err != nil {
			return nil, cli.Hint(fmt.Errorf("%s: %w", path, err), "see the section on trust in spec/ for the form of a trust file")
		}
	}
	return trust, nil
}

// explain adds what to do to the errors of a replication.
func explain(err error, dir study.Dir) error {
	signed, _ := dir.Signed() // only to know which hint fits
	switch {
	case errors.Is(err, replicate.ErrOtherPaper):
		return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "name the bundle of the plan's paper with --bundle"}
	case errors.Is(err, replicate.ErrCheck):
		return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: fmt.Sprintf("the study in %s is signed, and its files were changed since; nothing was overwritten", dir)}
	case errors.Is(err, replicate.ErrBundle):
		return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "see what is wrong with it: pith verify FILE; a claim is re-run only for a record that verifies"}
	case errors.Is(err, study.ErrOtherStudy):
		return cli.Hint(err, "choose another directory with --out")
	case errors.Is(err, experiment.ErrOtherRun):
		return cli.Hint(err, "a run is taken over if it is the plan's: choose another --sweep directory, or move that run away")
	case errors.Is(err, study.ErrIncomplete):
		return cli.Hint(err, "another process is at it: run the same command again when it is done")
	case errors.Is(err, study.ErrRunFile) && signed:
		return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "the study is signed: put back the file that the record is about; a run made now would be another one"}
	case errors.Is(err, study.ErrRunFile):
		return cli.Hint(err, "move that file away and run the same command again; only that run is made anew")
	case errors.Is(err, train.ErrCheckpointDamaged), errors.Is(err, train.ErrCheckpointForeign):
		return cli.Hint(err, "it is torn, or was written by another backend or plan; delete it and run the same command again: only that run starts over")
	case errors.Is(err, replicate.ErrBusy):
		return cli.Hint(err, "wait for it, or choose another directory with --out")
	case errors.Is(err, datasets.ErrMissing):
		return cli.Hint(err, "name the directory that has the files with --data, or fetch them: smoothout data get NAME")
	}
	return err
}

// printResult ends with the command that checks what was made.
func printResult(w io.Writer, dir study.Dir, res *replicate.Result) {
	fmt.Fprintln(w, res.Results.Statement)
	fmt.Fprintf(w, "Signed as %s.\n", res.Record.EventID)
	fmt.Fprintf(w, "Report: %s\n", dir.Path("report.html"))
	fmt.Fprintf(w, "Verify: %s verify --trust %s %s\n", toolCommand("pith"), quote(dir.Path("trust.json")), quote(dir.Path("bundle.json")))
}

// toolCommand is how a tool of this module can be run from here: by name, or
// as this program is probably being run, from a checkout. The go command keeps
// what "go run" builds below a directory of that name.
func toolCommand(tool string) string {
	exe, err := os.Executable()
	_, absent := os.Stat(filepath.Join("cmd", tool))
	if err == nil && absent == nil && strings.Contains(filepath.ToSlash(exe), "/go-build") {
		return "go run ./cmd/" + tool
	}
	return tool
}

// terminalWidth is the number of columns of the terminal w, or 0.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	n, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return n
}

// isTerminal reports whether people look at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && !strings.HasPrefix(os.Getenv("TERM"), "dumb")
}
