// Package replicate re-runs a paper's claim and signs what was seen.
//
// [Run] is the whole chain: it verifies the paper's bundle, fixes the plan with
// the data it is about, makes the table of runs with package experiment,
// measures every minimum, judges the results by the plan's rule, signs a
// replication_record and appends it to the bundle, and verifies the bundle it
// made. Every step leaves its file in the study's directory, so that a study can
// be interrupted anywhere and continued, and so that a reader can check each
// link of the chain.
package replicate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"github.com/gomlx/compute"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/replicate/study"
	"github.com/openpith/evidence/sharpness"
)

// Errors of a replication, beside those of the packages it uses.
var (
	ErrBundle      = errors.New("the paper's bundle does not verify")
	ErrOtherPaper  = errors.New("the bundle is about another paper than the plan")
	ErrBusy        = errors.New("another process works on this study")
	ErrInterrupted = errors.New("interrupted")
)

// Options say where a study lives and what runs it. None of them changes what
// is measured; that is the plan's part.
type Options struct {
	Dir     study.Dir
	DataDir string // where data sets lie; empty looks in the usual places
	// Sweep is the directory of a sweep over the same table: runs that it has
	// are taken over if their configuration is the plan's, runs that it lacks are
	// made there, and all stay. Empty makes them in the study's directory, where
	// each is removed when its numbers are taken, unless Keep.
	Sweep string
	Keep  bool
	// Bundle is the paper's bundle, and Trust the policy it must satisfy.
	Bundle []byte
	Trust  *pith.Trust
	// Key signs the record. It speaks for itself: trust in it is for the
	// reader to decide.
	Key *pith.PrivateKey
	// Backend makes the compute backend of one worker; BackendName goes into
	// the record. Workers is how many runs are made at once.
	Backend     func() (compute.Backend, error)
	BackendName string
	Workers     int
	// Progress, when set, is called after every optimizer step and when a run
	// ends, from several goroutines but never at the same time.
	Progress func(Progress)
}

// Progress is how far the study has come.
type Progress struct {
	Fraction    float64 // of all training done, earlier sessions included
	NewFraction float64 // done by this call of Run: what a rate should be taken from
	Runs        int     // finished: trained and measured
	TotalRuns   int
	JustDone    *study.Run // set when a run has just ended
}

// A Result is a finished study.
type Result struct {
	Plan    *study.Plan
	Results *study.Results
	Record  pith.Statement // as signed, and what the policy says of its signer
	Bundle  *pith.Result
	// Uncovered are landscapes beside the study that the record does not name.
	Uncovered []string
}

// Run carries the plan out in opts.Dir and returns the signed result. A study
// that is already there is continued; a finished one is only read and verified.
//
// Errors: [ErrBundle], [ErrBusy], [ErrInterrupted]; [study.ErrPlan],
// [study.ErrOtherStudy] and [study.ErrRunFile] name the file to look at;
// [experiment.ErrOtherRun] says how a run of opts.Sweep differs from the plan's.
func Run(ctx context.Context, plan *study.Plan, opts Options) (*Result, error) {
	if err := verifyPaper(plan, opts); err != nil {
		return nil, err
	}
	plan, table, err := begin(plan, opts.DataDir)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(opts.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := opts.Dir.Create(plan); err != nil {
		return nil, err
	}
	opts.Dir.Sweep()

	s := &session{plan: plan, opts: opts}
	if s.begun, err = opts.Dir.Begun(); err != nil {
		return nil, err
	}
	if err := s.run(ctx, table); err != nil {
		return nil, err
	}
	return s.conclude()
}

// verifyPaper makes sure that the record the study speaks about is the one the
// plan means, and that it is what its signers said.
func verifyPaper(plan *study.Plan, opts Options) error {
	res := pith.Verify(opts.Bundle, opts.Trust)
	if res.Verdict() != pith.Valid {
		return fmt.Errorf("%w: %s%s", ErrBundle, res.Verdict(), firstFailure(res))
	}
	if res.PithNumber != plan.Claim.PithNumber {
		return fmt.Errorf("%w: it is %s, the plan is about %s", ErrOtherPaper, res.PithNumber, plan.Claim.PithNumber)
	}
	return nil
}

// lock keeps two processes from working on the same study. The lock is
// released when the process ends, however it ends.
func lock(dir study.Dir) (unlock func(), err error) {
	if err := os.MkdirAll(string(dir), 0o755); err != nil {
		return nil, err
	}
	l := flock.New(dir.LockPath())
	ok, err := l.TryLock()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w", dir, ErrBusy)
	}
	return func() { l.Unlock() }, nil
}

// A session is one call of Run.
type session struct {
	plan  *study.Plan
	opts  Options
	begun time.Time // when plan.json was written
}

// run makes and measures the runs that are not there yet.
func (s *session) run(ctx context.Context, table *experiment.Table) error {
	pending := &experiment.Table{Baseline: table.Baseline}
	finished := 0
	for _, row := range table.Rows {
		_, err := s.opts.Dir.ReadRun(s.plan, row.Arm, row.Seed)
		switch {
		case err == nil:
			finished++
		case errors.Is(err, fs.ErrNotExist):
			pending.Rows = append(pending.Rows, row)
		default:
			return err
		}
	}
	if len(pending.Rows) == 0 {
		return nil
	}
	signed, err := s.opts.Dir.Signed()
	if err != nil {
		return err
	}
	if signed {
		r := pending.Rows[0]
		return fmt.Errorf("%s: %w: %s is missing, which the signed record is about; one that is made now would be another run", s.opts.Dir, ErrCheck, study.RunName(r.Arm, r.Seed))
	}
	total := len(table.Rows)
	share := float64(len(pending.Rows)) / float64(total) // of the training, not done before
	err = pending.Run(ctx, s.sweepDir(), experiment.SweepOptions{
		Options: experiment.Options{DataDir: s.opts.DataDir, Backend: s.opts.Backend, BackendName: s.opts.BackendName},
		Workers: s.opts.Workers,
		After:   s.finish,
		Progress: func(p experiment.SweepProgress) {
			if s.opts.Progress == nil {
				return
			}
			u := Progress{Fraction: 1 - share + share*p.Fraction, NewFraction: share * p.NewFraction, Runs: finished + p.Runs, TotalRuns: total}
			if p.Done != nil {
				if f, err := s.opts.Dir.ReadRun(s.plan, p.Row.Arm, p.Row.Seed); err == nil {
					u.JustDone = &f.Run
				}
			}
			s.opts.Progress(u)
		},
	})
	if err != nil && ctx.Err() != nil && (errors.Is(err, experiment.ErrInterrupted) || errors.Is(err, context.Cause(ctx))) {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	return err
}

// sweepDir is the directory below which the runs lie.
func (s *session) sweepDir() string {
	if s.opts.Sweep != "" {
		return s.opts.Sweep
	}
	return s.opts.Dir.Path(study.WorkName)
}

// finish measures a trained run and keeps its numbers. A run that diverged is a
// result like any other.
func (s *session) finish(ctx context.Context, row experiment.Row, dir experiment.Dir, r *experiment.Result) error {
	run := study.Run{
		PlanSHA256: s.plan.SHA256(), Arm: row.Arm, Seed: row.Seed, ConfigSHA256: r.ConfigSHA256,
		Status: study.StatusDone, Epochs: []study.Epoch{}, Measures: []study.Measured{},
		TakenOver: s.opts.Sweep != "" && olderThan(s.begun, dir),
	}
	if want := row.Config.SHA256(); r.ConfigSHA256 != want {
		return fmt.Errorf("%s: %w: it is of a run with the configuration %s, want %s", dir.Path(experiment.ResultFile), experiment.ErrOtherRun, r.ConfigSHA256, want)
	}
	timing := study.Timing{Seconds: r.Timing.Seconds}
	if r.Status == experiment.Diverged {
		run.Status, run.Error = study.StatusFailed, r.Error
	} else {
		var err error
		if run.Epochs, err = epochs(dir); err != nil {
			return err
		}
		run.BatchNorm, run.WeightsSHA256 = r.BatchNorm, r.WeightsSHA256
		run.Final = &study.Final{
			TrainLoss: r.Train.Loss, TrainAccuracy: r.Train.Accuracy, TrainSamples: r.Train.Samples,
			ValidationLoss: r.Validation.Loss, ValidationAccuracy: r.Validation.Accuracy, ValidationSamples: r.Validation.Samples,
			TestLoss: r.Test.Loss, TestAccuracy: r.Test.Accuracy, TestSamples: r.Test.Samples,
		}
		start := time.Now()
		if run.Measures, err = s.measure(ctx, dir); err != nil {
			return err
		}
		timing.MeasureSeconds = time.Since(start).Seconds()
	}
	code := []study.Code{study.Code(experiment.CurrentCode(s.opts.BackendName))}
	for i, session := range slices.Backward(dir.Sessions()) {
		if c := study.Code(session.Code); !slices.Contains(code, c) {
			code = append(code, c)
		}
		if i == 0 {
			timing.StartedAt = session.StartedAt
		}
	}
	slices.Reverse(code)
	if err := s.opts.Dir.WriteRun(s.plan, run, timing, code); err != nil {
		return err
	}
	if s.opts.Sweep != "" || s.opts.Keep {
		return nil
	}
	return os.RemoveAll(string(dir)) // it has served
}

// olderThan reports whether the training of a run began before a plan was
// written. Where a file was copied since, or the second is the same, the
// answer is rather yes: it claims less.
func olderThan(plan time.Time, dir experiment.Dir) bool {
	for _, session := range dir.Sessions() {
		at, err := time.Parse(time.RFC3339, session.StartedAt)
		if err != nil || at.Before(plan.Truncate(time.Second)) {
			return true
		}
	}
	info, err := os.Stat(dir.Path(experiment.ConfigFile))
	return err != nil || info.ModTime().Before(plan)
}

// epochs is the learning curve of a run.
func epochs(dir experiment.Dir) ([]study.Epoch, error) {
	lines, err := dir.Lines()
	if err != nil {
		return nil, err
	}
	out := []study.Epoch{}
	for _, l := range lines {
		if l.Kind != "epoch" {
			continue
		}
		e := study.Epoch{Epoch: int(l.Epoch)}
		for _, x := range []struct {
			to   *float64
			from *float64
		}{{&e.LearningRate, l.LearningRate}, {&e.TrainLoss, l.TrainLossNoisy}, {&e.ValidationLoss, l.ValidationLoss}, {&e.ValidationAccuracy, l.ValidationAccuracy}} {
			if x.from == nil {
				return nil, fmt.Errorf("%s: epoch %d lacks a number", dir.Path(experiment.MetricsFile), e.Epoch)
			}
			*x.to = *x.from
		}
		out = append(out, e)
	}
	return out, nil
}

// measure takes the sharpness of the final weights of a run.
func (s *session) measure(ctx context.Context, dir experiment.Dir) ([]study.Measured, error) {
	out := []study.Measured{}
	m := s.plan.Measures
	if len(m.List) == 0 {
		return out, nil
	}
	backend, err := s.opts.Backend()
	if err != nil {
		return nil, err
	}
	defer backend.Finalize()
	run, err := experiment.Open(dir, s.opts.DataDir)
	if err != nil {
		return nil, err
	}
	model, err := run.Model(backend, "final")
	if err != nil {
		return nil, err
	}
	if got, err := model.Digest(); err != nil || got != run.Result.WeightsSHA256 {
		return nil, errors.Join(err, fmt.Errorf("%s: %w: the weights have SHA-256 %s, the result says %s", dir.Path(experiment.FinalFile), study.ErrRunFile, got, run.Result.WeightsSHA256))
	}
	loss, _, err := run.Objective(backend, model, "train", m.Examples, m.Seed)
	if err != nil {
		return nil, err
	}
	defer loss.Finalize()
	w := loss.Start()
	for _, c := range m.List {
		r, err := sharpness.Run(ctx, c.Measure, loss, w, sharpness.Options{Seed: m.Seed})
		got := study.Measured{Measure: sharpness.Label(c.Measure)}
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, sharpness.ErrUndefined):
			got.Error = err.Error()
		case err != nil:
			return nil, fmt.Errorf("%s: %w", dir, err)
		case !study.Usable(r.Value, r.StandardError):
			got.Error = fmt.Sprintf("%v is no number to keep", r.Value)
		default:
			got.Value, got.StandardError = r.Value, r.StandardError
		}
		out = append(out, got)
	}
	return out, nil
}
