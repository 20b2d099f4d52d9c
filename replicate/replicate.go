// Package replicate re-runs a paper's claim and signs what was seen.
//
// [Run] is the whole chain: it verifies the paper's bundle, loads the data and
// fixes the plan, trains every arm with every seed, judges the results by the
// plan's rule, signs a replication_record and appends it to the bundle, and
// verifies the bundle it made. Every step leaves its file in the study's
// directory, so that a study can be interrupted anywhere and continued, and so
// that a reader can check each link of the chain.
package replicate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/gomlx/compute"
	"golang.org/x/sync/errgroup"
	"gonum.org/v1/gonum/stat"

	"github.com/openpith/evidence/internal/provenance"
	"github.com/openpith/evidence/nets"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/replicate/study"
	"github.com/openpith/evidence/smoothout"
	"github.com/openpith/evidence/train"
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
	Run        string // the run that moved: "smoothout seed 3"
	Steps      int    // optimizer steps done over all runs, including earlier sessions
	TotalSteps int
	NewSteps   int // done by this call of Run: what a rate should be taken from
	Runs       int // finished
	TotalRuns  int
	JustDone   *study.Run // set when the run that moved has just ended
}

// A Result is a finished study.
type Result struct {
	Plan    *study.Plan
	Results *study.Results
	Record  pith.Statement // as signed, and what the policy says of its signer
	Bundle  *pith.Result
}

// Run carries the plan out in opts.Dir and returns the signed result. A study
// that is already there is continued; a finished one is only read and verified.
//
// Errors: [ErrBundle], [ErrBusy], [ErrInterrupted]; [study.ErrPlan],
// [study.ErrOtherStudy] and [study.ErrRunFile] name the file to look at.
func Run(ctx context.Context, plan *study.Plan, opts Options) (*Result, error) {
	if err := verifyPaper(plan, opts); err != nil {
		return nil, err
	}
	if _, err := nets.ByName(plan.Network.Name, nets.Options{Width: plan.Network.Width}); err != nil {
		return nil, fmt.Errorf("%w: network.name: %w", study.ErrPlan, err)
	}
	data, err := loadData(plan.Data, opts.DataDir)
	if err != nil {
		return nil, err
	}
	resolved := *plan
	resolved.Data = data.resolved
	if err := resolved.Validate(); err != nil {
		return nil, err
	}
	plan = &resolved
	unlock, err := lock(opts.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := opts.Dir.Create(plan); err != nil {
		return nil, err
	}
	opts.Dir.Sweep()

	s := &session{plan: plan, opts: opts, data: data, code: study.Code(provenance.CurrentCode(opts.BackendName))}
	if err := s.train(ctx); err != nil {
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

// lock keeps two processes from training the same runs. The lock is released
// when the process ends, however it ends.
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
	plan *study.Plan
	opts Options
	data *splits
	code study.Code

	mu       sync.Mutex
	steps    map[job]int // optimizer steps done per run
	perRun   int         // optimizer steps of a whole run
	newSteps int
	finished int
}

// A job is a run that is still to be made.
type job struct {
	arm  study.Arm
	seed uint64
}

func (j job) String() string { return fmt.Sprintf("%s seed %d", j.arm.Name, j.seed) }

// train makes the runs that are not there yet, seed by seed, so that whatever
// an interruption leaves behind is made of complete pairs.
func (s *session) train(ctx context.Context) error {
	s.perRun = s.plan.Training.Epochs * (s.data.train.Len() / s.plan.Training.Batch)
	s.steps = map[job]int{}
	var pending []job
	for _, seed := range s.plan.Seeds {
		for _, arm := range s.plan.Arms {
			j := job{arm, seed}
			_, err := s.opts.Dir.ReadRun(s.plan, arm.Name, seed)
			switch {
			case err == nil:
				s.finished++
				s.steps[j] = s.perRun
			case errors.Is(err, fs.ErrNotExist):
				pending = append(pending, j)
			default:
				return err
			}
		}
	}
	jobs := make(chan job, len(pending))
	for _, j := range pending {
		jobs <- j
	}
	close(jobs)

	group, ctx := errgroup.WithContext(ctx)
	for range min(max(1, s.opts.Workers), len(pending)) {
		group.Go(func() error {
			backend, err := s.opts.Backend()
			if err != nil {
				return err
			}
			defer backend.Finalize()
			for j := range jobs {
				if err := s.run(ctx, backend, j); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// run makes one run and keeps it. A run that diverges is a result like any
// other; everything else that goes wrong stops the study, which can then be
// continued.
func (s *session) run(ctx context.Context, backend compute.Backend, j job) error {
	started := time.Now()
	run, seconds, err := s.measure(ctx, backend, j)
	switch {
	case errors.Is(err, train.ErrInterrupted), ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		// err also says if the state could not be saved.
		return fmt.Errorf("%w: %s: %w", ErrInterrupted, j, err)
	case errors.Is(err, train.ErrDiverged):
		run = &study.Run{Status: study.StatusFailed, Error: err.Error(), Epochs: []study.Epoch{}}
	case err != nil:
		return fmt.Errorf("%s: %w", j, err)
	}
	run.PlanSHA256, run.Arm, run.Seed = s.plan.SHA256(), j.arm.Name, j.seed
	timing := study.Timing{StartedAt: started.UTC().Format(time.RFC3339), Seconds: seconds}
	if err := s.opts.Dir.WriteRun(s.plan, *run, timing, s.code); err != nil {
		return err
	}
	// The run is safe now; its checkpoint has served.
	if err := os.Remove(s.opts.Dir.Path(study.CheckpointName(j.arm.Name, j.seed))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished++
	s.advance(j, s.perRun, run)
	return nil
}

// advance records that a run has done so many steps and tells the observer.
// The caller holds the lock.
func (s *session) advance(j job, steps int, done *study.Run) {
	s.steps[j] = steps
	if s.opts.Progress == nil {
		return
	}
	total := 0
	for _, n := range s.steps {
		total += n
	}
	runs := len(s.plan.Arms) * len(s.plan.Seeds)
	s.opts.Progress(Progress{
		Run: j.String(), Steps: total, TotalSteps: runs * s.perRun, NewSteps: s.newSteps,
		Runs: s.finished, TotalRuns: runs, JustDone: done,
	})
}

// measure trains one network and takes its numbers. seconds are those spent in
// training steps, over all sessions of the run.
func (s *session) measure(ctx context.Context, backend compute.Backend, j job) (run *study.Run, seconds float64, err error) {
	net, err := nets.ByName(s.plan.Network.Name, nets.Options{Width: s.plan.Network.Width, Classes: s.data.train.Classes()})
	if err != nil {
		return nil, 0, err
	}
	data := train.Data{Train: s.data.train, Validation: s.data.validation, Test: s.data.test}
	out, err := train.Run(ctx, backend, net, data, recipe(s.plan, j), train.Options{
		Checkpoint: s.opts.Dir.Path(study.CheckpointName(j.arm.Name, j.seed)),
		// Another program or backend rounds differently: it may not go on with
		// this one's state.
		Identity: fmt.Sprintf("%s, %s, revision %s, backend %s", s.plan.SHA256(), j, s.code.Revision, s.code.Backend),
		Progress: func(p train.Progress) {
			if p.Done != nil {
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.newSteps++
			s.advance(j, p.Step, nil)
		},
	})
	if err != nil {
		return nil, 0, err
	}
	run = &study.Run{
		Status:        study.StatusDone,
		WeightsSHA256: out.Weights,
		Final: &study.Final{
			TrainLoss: out.Train.Loss, TrainAccuracy: out.Train.Accuracy,
			ValidationLoss: out.Validation.Loss, ValidationAccuracy: out.Validation.Accuracy,
			TestLoss: out.Test.Loss, TestAccuracy: out.Test.Accuracy,
		},
	}
	for _, e := range out.History {
		run.Epochs = append(run.Epochs, study.Epoch{
			Epoch: e.Epoch, LearningRate: e.LearningRate, TrainLoss: e.TrainingLoss,
			ValidationLoss: e.Validation.Loss, ValidationAccuracy: e.Validation.Accuracy,
		})
	}
	run.Final.LossRise, err = s.lossRise(ctx, out.Model, j.seed)
	return run, out.Seconds, err
}

// recipe translates the plan into what the trainer follows.
func recipe(p *study.Plan, j job) train.Recipe {
	t := p.Training
	r := train.Recipe{
		Batch: t.Batch, Ghost: t.Ghost, Epochs: t.Epochs,
		LearningRate: t.LearningRate, Scaling: t.Scaling,
		Momentum: t.Momentum, WeightDecay: t.WeightDecay, ClipNorm: t.ClipNorm,
		SmoothOut: noise(j.arm.Method, j.arm.Strength),
		Seed:      int64(j.seed), // plans keep seeds below 2^53
	}
	for _, m := range t.Milestones {
		r.Milestones = append(r.Milestones, train.Milestone{Epoch: float64(m.Epoch), LearningRate: m.LearningRate})
	}
	if t.BatchNorm == study.Recalibrated {
		r.Recalibrate = -1 // from the whole training set
	}
	return r
}

func noise(method string, strength float64) smoothout.Config {
	c := smoothout.Config{Strength: strength, Adapt: smoothout.None, Noise: smoothout.Uniform}
	if method == study.MethodAdaSmoothOut {
		c.Adapt = smoothout.Filter
	}
	return c
}

// lossRise measures how much the training loss grows when the final weights
// are shaken. The draws depend on the seed and not on the arm, so arms are
// shaken in the same directions.
func (s *session) lossRise(ctx context.Context, m *train.Model, seed uint64) ([]study.LossRise, error) {
	f := s.plan.Flatness
	sample := head(s.data.train, f.Samples)
	clean, err := m.Evaluate(ctx, sample)
	if err != nil {
		return nil, err
	}
	out := []study.LossRise{}
	for _, probe := range f.Probes() {
		cfg := noise(probe.Noise, probe.Strength)
		cfg.Seed = int64(seed)
		rises := make([]float64, f.Draws)
		finite := true
		for d := range rises {
			noisy, err := m.EvaluateNoisy(ctx, sample, cfg, int64(d))
			if err != nil {
				return nil, err
			}
			rises[d] = noisy.Loss - clean.Loss
			finite = finite && math.Abs(rises[d]) <= maxRise
		}
		if !finite {
			continue // the run stands; at this strength there is nothing to tell
		}
		l := study.LossRise{Noise: probe.Noise, Strength: probe.Strength, Mean: rises[0]}
		if len(rises) > 1 {
			l.Mean, l.SD = stat.MeanStdDev(rises, nil)
		}
		out = append(out, l)
	}
	return out, nil
}

// maxRise bounds a rise that is a measurement and not an overflow under way.
const maxRise = 1e6
