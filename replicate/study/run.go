package study

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
)

// RunSchema names the format of the files in runs/.
const RunSchema = "evidence.run/1"

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
	PlanSHA256    string  `json:"plan_sha256"`
	Arm           string  `json:"arm"`
	Seed          uint64  `json:"seed"`
	Status        string  `json:"status"`
	Error         string  `json:"error,omitempty"` // why it failed
	Epochs        []Epoch `json:"epochs"`
	Final         *Final  `json:"final,omitempty"` // absent when it failed
	WeightsSHA256 string  `json:"weights_sha256,omitempty"`
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
	ValidationLoss     float64 `json:"validation_loss"`
	ValidationAccuracy float64 `json:"validation_accuracy"`
	TestLoss           float64 `json:"test_loss"`
	TestAccuracy       float64 `json:"test_accuracy"`
	// LossRise is a first figure of flatness: how much the training loss
	// grows when the weights are shaken.
	LossRise []LossRise `json:"loss_rise"`
}

// Gap is the generalisation gap in accuracy: train minus test.
func (f *Final) Gap() float64 { return f.TrainAccuracy - f.TestAccuracy }

// LossRise is the mean over draws of L(w+e) - L(w) on training samples. A
// strength at which a loss is no finite number has no entry.
type LossRise struct {
	Noise    string  `json:"noise"` // MethodSmoothOut or MethodAdaSmoothOut
	Strength float64 `json:"strength"`
	Mean     float64 `json:"mean"`
	SD       float64 `json:"sd"` // over draws
}

// Timing is what is not reproducible about a run.
type Timing struct {
	// StartedAt is when the session that finished the run took it up; RFC 3339,
	// UTC. Earlier sessions of an interrupted run are not in it.
	StartedAt string `json:"started_at"`
	// Seconds are those spent in training steps, over all sessions.
	Seconds float64 `json:"seconds"`
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
	Code   Code   `json:"code"`
	SHA256 string `json:"sha256"`
}

// check refuses a file that was altered or that belongs elsewhere.
func (f *RunFile) check(p *Plan, arm string, seed uint64) error {
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

// maxLoss bounds a loss that is worth keeping. Beyond it a run has failed, and
// below it no mean over runs can overflow.
const maxLoss = 1e9

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check refuses what no run of the plan can have produced.
func (r *Run) check(p *Plan) error {
	switch {
	case len(r.Epochs) > p.Training.Epochs:
		return fmt.Errorf("%w: it has %d epochs, the plan %d", ErrRunFile, len(r.Epochs), p.Training.Epochs)
	case r.Status == StatusFailed && r.Error != "" && r.Final == nil:
		return nil
	case r.Status != StatusDone || r.Final == nil || len(r.Epochs) != p.Training.Epochs:
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
			return fmt.Errorf("%w: loss %v is not within 0 and %g", ErrRunFile, l, float64(maxLoss))
		}
	}
	seen := map[Probe]bool{}
	for _, l := range f.LossRise {
		if probe := (Probe{l.Noise, l.Strength}); !slices.Contains(p.Flatness.Probes(), probe) || seen[probe] {
			return fmt.Errorf("%w: loss_rise has %s noise of strength %v, which the plan does not ask for, or twice", ErrRunFile, l.Noise, l.Strength)
		} else {
			seen[probe] = true
		}
		if !(math.Abs(l.Mean) <= maxLoss && l.SD >= 0 && l.SD <= maxLoss) {
			return fmt.Errorf("%w: loss_rise %v is not a number that was measured", ErrRunFile, l.Mean)
		}
	}
	return nil
}

// loss and fraction are false for a NaN, too.
func loss(x float64) bool     { return x >= 0 && x <= maxLoss }
func fraction(x float64) bool { return x >= 0 && x <= 1 }
