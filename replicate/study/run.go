package study

import (
	"errors"
	"fmt"
	"math"
	"regexp"
)

// RunSchema names the format of the files in runs/.
const RunSchema = "evidence.run/2"

// ErrRunFile reports a file in runs/ that is torn, altered, or of another plan.
var ErrRunFile = errors.New("unusable run file")

// States of a run.
const (
	StatusDone   = "done"
	StatusFailed = "failed" // it diverged or broke; listed, never dropped
)

// A Run is what one arm did with one seed. Everything in it is a function of
// the plan, the code, the machine and the backend; times of day and durations
// are kept beside it, so that a repeated run can be compared byte for byte.
type Run struct {
	PlanSHA256 string `json:"plan_sha256"`
	Arm        string `json:"arm"`
	Seed       int64  `json:"seed"`
	// ConfigSHA256 is the digest of the configuration that was trained: the
	// arm's with this seed (experiment.Config.SHA256).
	ConfigSHA256 string `json:"config_sha256"`
	Status       string `json:"status"`
	Error        string `json:"error,omitempty"` // why it failed
	// TakenOver says that its training began before the plan of the study was
	// written down: it was made by a sweep. Files of earlier programs do not say.
	TakenOver bool `json:"taken_over,omitempty"`
	// BatchNorm says which statistics all numbers at clean weights used:
	// "running", "recalibrated" or "none".
	BatchNorm     string     `json:"batch_norm,omitempty"`
	Epochs        []Epoch    `json:"epochs"`
	Final         *Final     `json:"final,omitempty"` // absent when it failed
	Measures      []Measured `json:"measures"`        // in the order of the plan
	WeightsSHA256 string     `json:"weights_sha256,omitempty"`
}

// An Epoch is one line of the learning curve. Epoch counts from 1.
type Epoch struct {
	Epoch        int     `json:"epoch"`
	LearningRate float64 `json:"learning_rate"`
	// TrainLoss is the mean loss of the steps as training saw it: at
	// perturbed weights where the arm has noise, and with weights that change
	// from step to step.
	TrainLoss          float64 `json:"train_loss_while_training"`
	ValidationLoss     float64 `json:"validation_loss"`
	ValidationAccuracy float64 `json:"validation_accuracy"`
}

// Final is measured once, after the last epoch, at clean weights. Accuracies
// are fractions, losses mean cross-entropy in nats.
type Final struct {
	TrainLoss          float64 `json:"train_loss"`
	TrainAccuracy      float64 `json:"train_accuracy"`
	TrainSamples       int     `json:"train_samples"`
	ValidationLoss     float64 `json:"validation_loss"`
	ValidationAccuracy float64 `json:"validation_accuracy"`
	ValidationSamples  int     `json:"validation_samples"`
	TestLoss           float64 `json:"test_loss"`
	TestAccuracy       float64 `json:"test_accuracy"`
	TestSamples        int     `json:"test_samples"`
}

// Gap is the generalisation gap in accuracy: train minus test.
func (f *Final) Gap() float64 { return f.TrainAccuracy - f.TestAccuracy }

// Measured is what one measure of sharpness saw at the final weights, or why
// it saw nothing: a loss that is no number under noise is no reason to drop a
// run.
type Measured struct {
	Measure       string  `json:"measure"` // its label; the settings are in the plan
	Value         float64 `json:"value"`
	StandardError float64 `json:"standard_error"` // over draws or parts of the data
	Error         string  `json:"error,omitempty"`
}

// Timing is what is not reproducible about a run.
type Timing struct {
	StartedAt      string  `json:"started_at"`      // of its first session; RFC 3339, UTC
	Seconds        float64 `json:"seconds"`         // in training steps, over all sessions
	MeasureSeconds float64 `json:"measure_seconds"` // in measures of sharpness
}

// Code says which program computed something.
type Code struct {
	Module   string `json:"module"`
	Version  string `json:"version"`  // of the module, "(devel)" for a checkout
	Revision string `json:"revision"` // of the version control system; "unknown" when the build does not say
	Modified bool   `json:"modified"` // there were changes that are in no revision
	Go       string `json:"go"`
	GoMLX    string `json:"gomlx"`
	Backend  string `json:"backend"`
}

// A RunFile is a run as it lies in runs/, with what is needed to notice
// damage: SHA256 is the digest of Run in canonical form.
type RunFile struct {
	Schema string `json:"schema"`
	Run    Run    `json:"run"`
	Timing Timing `json:"timing"`
	Code   []Code `json:"code"` // every program that trained or measured it
	SHA256 string `json:"sha256"`
}

// check refuses a file that was altered or that belongs elsewhere.
func (f *RunFile) check(p *Plan, arm string, seed int64) error {
	r := &f.Run
	switch {
	case f.Schema != RunSchema:
		return fmt.Errorf("%w: schema is %q, this program reads %q", ErrRunFile, f.Schema, RunSchema)
	case f.SHA256 != digest(f.Run):
		return fmt.Errorf("%w: its content does not match its sha256", ErrRunFile)
	case r.PlanSHA256 != p.SHA256():
		return fmt.Errorf("%w: it belongs to another plan (%.12s…)", ErrRunFile, r.PlanSHA256)
	case r.Arm != arm || r.Seed != seed:
		return fmt.Errorf("%w: it holds %s seed %d", ErrRunFile, r.Arm, r.Seed)
	}
	return r.check(p)
}

// maxNumber bounds a loss or a measure that is worth keeping. Beyond it a run
// has failed, and below it no mean over runs can overflow.
const maxNumber = 1e9

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check refuses what no run of the plan can have produced. The plan must have
// been begun.
func (r *Run) check(p *Plan) error {
	a := p.Arm(r.Arm)
	if a == nil {
		return fmt.Errorf("%w: the plan was not begun with an arm %q", ErrRunFile, r.Arm)
	}
	epochs := a.epochs()
	switch {
	case len(r.Epochs) > epochs:
		return fmt.Errorf("%w: it has %d epochs, the plan %d", ErrRunFile, len(r.Epochs), epochs)
	case !hexDigest.MatchString(r.ConfigSHA256):
		return fmt.Errorf("%w: config_sha256 is not 64 hexadecimal digits", ErrRunFile)
	case r.Status == StatusFailed && r.Error != "" && r.Final == nil && len(r.Measures) == 0:
		return nil
	case r.Status != StatusDone || r.Error != "" || r.Final == nil || len(r.Epochs) != epochs:
		return fmt.Errorf("%w: status %q does not fit its content", ErrRunFile, r.Status)
	case !hexDigest.MatchString(r.WeightsSHA256):
		return fmt.Errorf("%w: weights_sha256 is not 64 hexadecimal digits", ErrRunFile)
	}
	f := r.Final
	for i, e := range r.Epochs {
		if e.Epoch != i+1 || !loss(e.TrainLoss) || !loss(e.ValidationLoss) || !fraction(e.ValidationAccuracy) {
			return fmt.Errorf("%w: entry %d of epochs is not what an epoch can give", ErrRunFile, i+1)
		}
	}
	for _, a := range []float64{f.TrainAccuracy, f.ValidationAccuracy, f.TestAccuracy} {
		if !fraction(a) {
			return fmt.Errorf("%w: accuracy %v is not within [0, 1]", ErrRunFile, a)
		}
	}
	for _, l := range []float64{f.TrainLoss, f.ValidationLoss, f.TestLoss} {
		if !loss(l) {
			return fmt.Errorf("%w: loss %v is not within 0 and %g", ErrRunFile, l, float64(maxNumber))
		}
	}
	for _, n := range []int{f.TrainSamples, f.ValidationSamples, f.TestSamples} {
		if n < 1 || n > maxSamples {
			return fmt.Errorf("%w: %d samples", ErrRunFile, n)
		}
	}
	labels := p.Measures.Labels()
	if len(r.Measures) != len(labels) {
		return fmt.Errorf("%w: it has %d measures, the plan %d", ErrRunFile, len(r.Measures), len(labels))
	}
	for i, m := range r.Measures {
		switch {
		case m.Measure != labels[i]:
			return fmt.Errorf("%w: it measured %q where the plan has %q", ErrRunFile, m.Measure, labels[i])
		case m.Error != "" && (m.Value != 0 || m.StandardError != 0):
			return fmt.Errorf("%w: %s has a value and an error", ErrRunFile, m.Measure)
		case !(math.Abs(m.Value) <= maxNumber && m.StandardError >= 0 && m.StandardError <= maxNumber):
			return fmt.Errorf("%w: %s is %v, not a number that was measured", ErrRunFile, m.Measure, m.Value)
		}
	}
	return nil
}

// Usable reports whether a measured number can be kept.
func Usable(value, standardError float64) bool {
	return math.Abs(value) <= maxNumber && standardError <= maxNumber
}

// loss and fraction are false for a NaN, too.
func loss(x float64) bool     { return x >= 0 && x <= maxNumber }
func fraction(x float64) bool { return x >= 0 && x <= 1 }
