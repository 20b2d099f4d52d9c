package experiment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gomlx/compute"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/internal/provenance"
	"github.com/openpith/evidence/train"
)

// Files of a run directory. All but the logs, which grow by whole lines and
// events, are written atomically.
const (
	ConfigFile     = "config.json"         // what decides the run, with digests of the data
	SessionsFile   = "sessions.jsonl"      // program, machine and first step of each session
	MetricsFile    = "metrics.jsonl"       // see Line
	CSVFile        = "metrics.csv"         // the epochs of it
	CheckpointFile = "last.safetensors"    // everything a run goes on from
	BestFile       = "best.safetensors"    // weights of the best epoch on the validation set
	FinalFile      = "final.safetensors"   // the weights that the result is about
	ResultFile     = "result.json"         // see Result
	InitFile       = "initial.safetensors" // a copy of the weights it began with, if given
	epochsFolder   = "epochs"              // weights of single epochs, if kept
	lockFile       = ".lock"
)

// Errors of a run directory.
var (
	ErrNoRun    = errors.New("no run here")        // there is no config.json
	ErrOtherRun = errors.New("another run's home") // config.json differs from what was asked for
	ErrBusy     = errors.New("another process works on this run")
	ErrNoResult = errors.New("the run is not finished")
)

// Dir is the directory of one run.
type Dir string

// Path is the place of a file of the run.
func (d Dir) Path(name string) string { return filepath.Join(string(d), filepath.FromSlash(name)) }

// Config reads config.json. Without one the error is ErrNoRun.
func (d Dir) Config() (Config, error) {
	text, err := readLimited(d.Path(ConfigFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%s: %w", d, ErrNoRun)
	}
	if err != nil {
		return Config{}, err
	}
	c, err := Parse(text)
	if err != nil {
		return c, fmt.Errorf("%s: %w", d.Path(ConfigFile), err)
	}
	return c, nil
}

// Status of a finished run.
const (
	Done     = "done"
	Diverged = "diverged"
)

// A Result is what a finished run says. All metrics are at clean weights.
type Result struct {
	Schema       string `json:"schema"` // evidence.result/1
	ConfigSHA256 string `json:"config_sha256"`
	Status       string `json:"status"`
	Error        string `json:"error,omitempty"` // why it is not done
	Parameters   int    `json:"parameters,omitempty"`
	Epochs       int    `json:"epochs,omitempty"`
	// SelectedEpoch is the epoch whose weights these are.
	SelectedEpoch int `json:"selected_epoch,omitempty"`
	// BatchNorm says which statistics the metrics used: "running" (gathered at
	// noisy weights where there was noise), "recalibrated" or "none".
	BatchNorm     string         `json:"batch_norm,omitempty"`
	Train         *train.Metrics `json:"train,omitempty"` // whole training set, not augmented
	Validation    *train.Metrics `json:"validation,omitempty"`
	Test          *train.Metrics `json:"test,omitempty"` // read once, after the last epoch
	WeightsSHA256 string         `json:"weights_sha256,omitempty"`
	Timing        Timing         `json:"timing"`
}

// Gap is the generalisation gap, train minus test accuracy; ok is false where
// one is missing.
func (r Result) Gap() (gap float64, ok bool) {
	if r.Train == nil || r.Test == nil {
		return 0, false
	}
	return r.Train.Accuracy - r.Test.Accuracy, true
}

// Timing is about the clock: it differs from run to run.
type Timing struct {
	Seconds         float64 `json:"seconds"` // in training steps, over all sessions
	ImagesPerSecond float64 `json:"images_per_second"`
	InputFraction   float64 `json:"input_fraction"`          // of Seconds, waiting for samples
	Cost            float64 `json:"cost_vs_sgd,omitempty"`   // time of a step as a multiple of plain SGD's
	FinishedAt      string  `json:"finished_at"`             // RFC 3339, UTC
	Backend         string  `json:"backend,omitempty"`       // of the last session
	Revision        string  `json:"code_revision,omitempty"` // of the last session
}

const resultSchema = "evidence.result/1"

// Result reads result.json. Without one the error is ErrNoResult.
func (d Dir) Result() (*Result, error) {
	text, err := readLimited(d.Path(ResultFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d, ErrNoResult)
	}
	if err != nil {
		return nil, err
	}
	var r Result
	if err := json.Unmarshal(text, &r); err != nil || r.Schema != resultSchema {
		return nil, fmt.Errorf("%s: not a result: schema %q, %v", d.Path(ResultFile), r.Schema, err)
	}
	return &r, nil
}

// A Session is one line of sessions.jsonl.
type Session struct {
	StartedAt   string                 `json:"started_at"`
	FirstStep   int                    `json:"first_step"` // steps done by earlier sessions
	Code        provenance.Code        `json:"code"`
	Environment provenance.Environment `json:"environment"`
}

// Sessions reads sessions.jsonl; a line that was cut off ends it.
func (d Dir) Sessions() []Session {
	text, err := readLimited(d.Path(SessionsFile))
	if err != nil {
		return nil
	}
	var out []Session
	for line := range strings.Lines(string(text)) {
		var s Session
		if json.Unmarshal([]byte(line), &s) != nil {
			break
		}
		out = append(out, s)
	}
	return out
}

// A Trained run is what Open finds.
type Trained struct {
	Dir Dir
	*Inputs
	Result *Result // nil if the run is not finished
}

// Open reads a run directory, to evaluate or measure what was trained. The
// test set is loaded even for a run that did not read it, so that whoever asks
// for it does so knowingly. Nothing is trained and nothing written.
//
// Errors: ErrNoRun, ErrConfig, ErrData, and those of package datasets.
func Open(dir Dir, dataDir string) (*Trained, error) {
	c, err := dir.Config()
	if err != nil {
		return nil, err
	}
	c.Data.Unread = false
	if c.Data.Test == NoTest {
		c.Data.Test = 0
		if c.Data.Name == Glyphs {
			c.Data.Test = 4000
		}
	}
	in, err := c.Load(dataDir)
	if err != nil {
		return nil, err
	}
	r, err := dir.Result()
	if err != nil && !errors.Is(err, ErrNoResult) {
		return nil, err
	}
	return &Trained{dir, in, r}, nil
}

// WeightsPath is the file of the weights of that name: "final", "best", "last"
// (the checkpoint), or "epoch N" (or just N) where those of single epochs were
// kept. "" is final if the run is finished and last if not.
func (d Dir) WeightsPath(which string) (string, error) {
	name := ""
	switch which = strings.TrimSpace(strings.TrimPrefix(which, "epoch")); which {
	case "":
		name = FinalFile
		if _, err := os.Stat(d.Path(FinalFile)); err != nil {
			name = CheckpointFile
		}
	case "final":
		name = FinalFile
	case "best":
		name = BestFile
	case "last":
		name = CheckpointFile
	default:
		n, err := strconv.Atoi(which)
		if err != nil {
			return "", fmt.Errorf("weights %q: want final, best, last, or the number of an epoch", which)
		}
		name = epochName(n)
	}
	if !d.has(name) {
		there := d.saved()
		if len(there) == 0 {
			return "", fmt.Errorf("%s: no weights were saved", d)
		}
		return "", fmt.Errorf("%s: no weights %q: there are %s", d, which, strings.Join(there, ", "))
	}
	return d.Path(name), nil
}

// saved are the names of the weights that are there.
func (d Dir) saved() (names []string) {
	for _, w := range [][2]string{{"final", FinalFile}, {"best", BestFile}, {"last", CheckpointFile}} {
		if d.has(w[1]) {
			names = append(names, w[0])
		}
	}
	epochs, _ := filepath.Glob(d.Path(epochsFolder + "/*.safetensors")) // the pattern is a good one
	for _, path := range epochs {
		names = append(names, strings.TrimLeft(strings.TrimSuffix(filepath.Base(path), ".safetensors"), "0"))
	}
	return names
}

func epochName(epoch int) string { return fmt.Sprintf("%s/%04d.safetensors", epochsFolder, epoch) }

// Model loads the weights of that name (see WeightsPath) into the network, with
// the batch-norm statistics that belong to them.
func (t *Trained) Model(backend compute.Backend, which string) (*train.Model, error) {
	path, err := t.Dir.WeightsPath(which)
	if err != nil {
		return nil, err
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := train.Load(backend, t.Net, t.Data.Train, file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// write puts a file of the run in place, atomically.
func (d Dir) write(name string, data []byte) error {
	return atomicfile.Write(d.Path(name), data, 0o644)
}

// sweep removes what writes that were killed left behind.
func (d Dir) sweep() {
	for _, sub := range []string{"", epochsFolder} {
		torn, _ := filepath.Glob(d.Path(sub + "/.*.tmp")) // the pattern is a good one
		for _, path := range torn {
			_ = os.Remove(path) // it does no harm if it stays
		}
	}
}

// maxText is far above any text file of a run.
const maxText = 256 << 20

func readLimited(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxText {
		return nil, fmt.Errorf("%s: larger than %d MiB, which no file of a run is", path, maxText>>20)
	}
	return os.ReadFile(path)
}

// interrupted tells whether err is the answer to ctx.
func interrupted(ctx context.Context, err error) bool {
	return errors.Is(err, train.ErrInterrupted) || ctx.Err() != nil && errors.Is(err, context.Cause(ctx))
}

// CurrentCode says which program this is, with what computes.
func CurrentCode(backend string) provenance.Code { return provenance.CurrentCode(backend) }
