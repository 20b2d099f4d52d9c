package experiment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/gomlx/compute"

	"github.com/openpith/evidence/internal/provenance"
	"github.com/openpith/evidence/train"
)

// Options of a run that do not change what is measured.
type Options struct {
	DataDir string // where data sets lie; empty looks in the usual places
	// Backend makes what computes, BackendName is noted. A checkpoint can be
	// continued with another number of workers, not on another kind of backend.
	Backend     func() (compute.Backend, error)
	BackendName string
	// Init is a safetensors file of initial weights; its digest becomes part of
	// the configuration. Empty draws them from the seed.
	Init string
	// SaveSteps and SaveInterval also save within an epoch; 0 does not.
	SaveSteps    int
	SaveInterval time.Duration
	KeepEvery    int  // keep the weights of every so many epochs; 0 keeps none
	Monitor      int  // training samples measured at clean weights after each epoch; -1 all
	MonitorSteps int  // and after every so many steps, if not 0
	Loaders      int  // goroutines that read samples ahead; 0 is 1
	Cost         bool // measure what a step costs beside plain SGD's
	Progress     func(Progress)
}

// Progress tells how far a run has come.
type Progress struct {
	train.Progress
	Time            float64 // passes over the training set done
	Strength        float64 // of the noise in the last step
	ImagesPerSecond float64 // of late; 0 while not known
	InputFraction   float64 // of the time of this session, in which steps waited for samples
	Left            time.Duration
}

// ErrInterrupted reports that ctx ended the run. It can be continued.
var ErrInterrupted = train.ErrInterrupted

// Run carries a configuration out in a directory and returns the result. A run
// that is already there is continued, from the last checkpoint, and ends with
// the bits of one that was never interrupted; a finished one is only read.
//
// A run that diverges is a result, too: it is in result.json, and the error is
// train.ErrDiverged.
//
// Errors: ErrConfig, ErrData, ErrOtherRun, ErrBusy, ErrInterrupted,
// *train.CheckpointError, and those of package datasets.
func (d Dir) Run(ctx context.Context, c Config, opts Options) (*Result, error) {
	var init []byte
	if opts.Init != "" {
		var err error
		if init, err = os.ReadFile(opts.Init); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(init)
		c.InitSHA256 = hex.EncodeToString(sum[:])
	}
	in, err := c.Load(opts.DataDir)
	if err != nil {
		return nil, err
	}
	c = in.Config
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return nil, err
	}
	lock := flock.New(d.Path(lockFile))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	if !locked {
		return nil, fmt.Errorf("%s: %w", d, ErrBusy)
	}
	defer lock.Unlock()
	d.sweep()
	if opts.Init != "" {
		if err := fits(in, init, opts); err != nil {
			return nil, fmt.Errorf("%s: %w", opts.Init, err)
		}
	}
	if err := d.claim(c, init); err != nil {
		return nil, err
	}
	if init == nil && c.InitSHA256 != "" {
		if init, err = os.ReadFile(d.Path(InitFile)); err != nil {
			return nil, fmt.Errorf("%w; name the initial weights again", err)
		}
		if sum := sha256.Sum256(init); hex.EncodeToString(sum[:]) != c.InitSHA256 {
			return nil, fmt.Errorf("%s: %w: it is not the file of initial weights that the run began with", d.Path(InitFile), ErrOtherRun)
		}
	}
	if r, err := d.Result(); err == nil {
		if r.Status == Diverged {
			return r, &earlierError{r.Error}
		}
		return r, nil
	} else if !errors.Is(err, ErrNoResult) {
		return nil, err
	}
	return d.train(ctx, in, init, opts)
}

// An earlierError is what an earlier session diverged with.
type earlierError struct{ text string }

func (e *earlierError) Error() string        { return "in an earlier session: " + e.text }
func (e *earlierError) Is(target error) bool { return target == train.ErrDiverged }

// fits tries initial weights before a directory is given to them.
func fits(in *Inputs, init []byte, opts Options) error {
	backend, err := opts.Backend()
	if err != nil {
		return err
	}
	defer backend.Finalize()
	_, err = train.Load(backend, in.Net, in.Data.Train, init)
	return err
}

// claim makes the directory that of the configuration, or checks that it is. A
// directory in which nothing was trained yet takes another one.
func (d Dir) claim(c Config, init []byte) error {
	old, err := d.Config()
	switch {
	case err == nil && old.SHA256() == c.SHA256():
		return nil
	case err == nil && !d.has(CheckpointFile) && !d.has(ResultFile):
		return d.begin(c, init)
	case err == nil:
		return fmt.Errorf("%s: %w: there, %s", d, ErrOtherRun, strings.Join(Differences(old, c), "; "))
	case !errors.Is(err, ErrNoRun):
		return err
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockFile && e.Name() != InitFile {
			return fmt.Errorf("%s: %w: it holds %s but no %s", d, ErrOtherRun, e.Name(), ConfigFile)
		}
	}
	return d.begin(c, init)
}

func (d Dir) begin(c Config, init []byte) error {
	if init != nil {
		if err := d.write(InitFile, init); err != nil {
			return err
		}
	}
	return d.write(ConfigFile, c.JSON())
}

func (d Dir) has(name string) bool {
	_, err := os.Stat(d.Path(name))
	return err == nil
}

func (d Dir) train(ctx context.Context, in *Inputs, init []byte, opts Options) (*Result, error) {
	c := in.Config
	backend, err := opts.Backend()
	if err != nil {
		return nil, err
	}
	defer backend.Finalize()
	code := provenance.CurrentCode(opts.BackendName)
	if opts.KeepEvery > 0 {
		if err := os.MkdirAll(d.Path(epochsFolder), 0o755); err != nil {
			return nil, err
		}
	}
	perEpoch := in.Data.Train.Len() / c.Recipe.Batch
	total := perEpoch * c.Recipe.Epochs

	// What cannot be logged stops the run as an interruption does: after the
	// step, with everything saved.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	log := &logger{dir: d, config: c}
	defer func() { log.close() }()
	failed := func(err error) {
		if err != nil {
			stop(err)
		}
	}
	var last Progress
	var speed meter
	out, err := train.Run(ctx, backend, in.Net, in.Data, c.Recipe, train.Options{
		Checkpoint: d.Path(CheckpointFile), Best: d.Path(BestFile), Init: init,
		SaveSteps: opts.SaveSteps, SaveInterval: opts.SaveInterval,
		Monitor: opts.Monitor, MonitorSteps: opts.MonitorSteps, Loaders: opts.Loaders, Cost: opts.Cost,
		Identity: fmt.Sprintf("%s, backend %s", c.SHA256(), kind(opts.BackendName)),
		EpochWeights: func(epoch int) string {
			if opts.KeepEvery == 0 || epoch%opts.KeepEvery != 0 {
				return ""
			}
			return d.Path(epochName(epoch))
		},
		Begun: func(step int, history []train.Epoch) {
			failed(log.begin(step, total, history))
			failed(d.addSession(Session{
				StartedAt: time.Now().UTC().Format(time.RFC3339), FirstStep: step, Code: code, Environment: provenance.CurrentEnvironment(),
			}))
		},
		Progress: func(p train.Progress) {
			if ctx.Err() != nil && log.events == nil {
				return // the log could not be begun
			}
			last = Progress{Progress: p, Strength: c.Recipe.StrengthAt(max(0, p.Step-1), total)}
			if perEpoch > 0 {
				last.Time = float64(p.Step) / float64(perEpoch)
			}
			speed.note(&last, c.Recipe.Batch)
			if p.Done == nil {
				failed(log.step(last))
			} else {
				failed(log.epoch(*p.Done, p.Step))
			}
			if opts.Progress != nil {
				opts.Progress(last)
			}
		},
	})
	r := &Result{Schema: resultSchema, ConfigSHA256: c.SHA256(), Status: Done, Timing: Timing{
		FinishedAt: time.Now().UTC().Format(time.RFC3339), Backend: opts.BackendName, Revision: code.Revision,
		Cost: last.Cost,
	}}
	switch {
	case errors.Is(err, train.ErrDiverged):
		r.Status, r.Error = Diverged, err.Error()
		if failed := d.write(ResultFile, indented(r)); failed != nil {
			return nil, fmt.Errorf("%v; and that cannot be noted: %w", err, failed) // not finished, so not ErrDiverged
		}
		return r, err
	case err != nil && interrupted(ctx, err) && !errors.Is(err, ErrInterrupted):
		return nil, fmt.Errorf("%w: %w", ErrInterrupted, err)
	case err != nil:
		return nil, err
	}
	r.Parameters, r.Epochs, r.SelectedEpoch, r.BatchNorm = out.Parameters, len(out.History), out.Selected, out.BatchNorm
	r.Train, r.Validation, r.Test, r.WeightsSHA256 = out.Train, out.Validation, out.Test, out.Weights
	r.Timing.Seconds = out.Seconds
	if out.Seconds > 0 {
		r.Timing.ImagesPerSecond = float64(out.SamplesPerEpoch*len(out.History)) / out.Seconds
		for _, e := range out.History {
			r.Timing.InputFraction += e.InputSeconds / out.Seconds
		}
	}
	if err := log.final(out, total); err != nil {
		return nil, err
	}
	weights, err := out.Model.Weights(map[string]string{
		"format": "evidence-weights-1", "network": c.Network.Name, "weights_sha256": out.Weights, "config_sha256": c.SHA256(), "batch_norm": out.BatchNorm,
	})
	if err != nil {
		return nil, err
	}
	if err := d.write(FinalFile, weights); err != nil {
		return nil, err
	}
	return r, d.write(ResultFile, indented(r)) // last: with it, the run is finished
}

func (d Dir) addSession(s Session) error {
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	old, err := readLimited(d.Path(SessionsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n := strings.LastIndexByte(string(old), '\n'); n+1 < len(old) {
		old = old[:n+1]
	}
	return d.write(SessionsFile, append(append(old, line...), '\n'))
}

// kind of a backend: its name without options, of which the number of workers
// changes no bit.
func kind(backend string) string {
	name, _, _ := strings.Cut(backend, ":")
	if name == "xla" {
		return backend // there, what follows is the device
	}
	return name
}

// A meter estimates the rate of late: over a window that begins anew after
// some seconds.
type meter struct {
	start, at time.Time // of the session, and of the window…
	step      int       // …and steps done then
	rate      float64   // steps per second
}

const (
	window = 5 * time.Second
	enough = 300 * time.Millisecond // of a window, to tell a rate
)

func (m *meter) note(p *Progress, batch int) {
	now := time.Now()
	if m.start.IsZero() { // the first step compiles
		m.start, m.at, m.step = now, now, p.Step
		return
	}
	if d := now.Sub(m.at); p.Step > m.step && d >= enough {
		m.rate = float64(p.Step-m.step) / d.Seconds()
		if d >= window {
			m.at, m.step = now, p.Step
		}
	}
	p.ImagesPerSecond = m.rate * float64(batch)
	if m.rate > 0 {
		p.Left = time.Duration(float64(p.Steps-p.Step) / m.rate * float64(time.Second))
	}
	if d := now.Sub(m.start).Seconds(); d > 0 {
		p.InputFraction = min(1, p.Wait/d)
	}
}
