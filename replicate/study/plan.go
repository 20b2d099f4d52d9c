// Package study holds the values of a replication and their files: the plan
// that is fixed before anything is trained, one run per arm and seed, and the
// results with the verdict that follows from them.
//
// Nothing here trains. Package replicate does that; package report draws what
// it reads from the files; a reader in any language can do both again from
// plan.json and runs/*.json alone.
package study

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"unicode"

	"github.com/openpith/evidence/pith"
)

// PlanSchema names the format of plan.json.
const PlanSchema = "evidence.plan/1"

// ErrPlan reports a plan that cannot be carried out as written.
var ErrPlan = errors.New("invalid plan")

// A Plan fixes a replication: what is claimed, what is trained on what, and how
// the numbers will be judged. It is written down before the first run, and its
// digest is in every run and in the signed record. That it was not written
// afterwards is the word of the signer, unless the plan was published before.
type Plan struct {
	Schema   string   `json:"schema"`
	Name     string   `json:"name"`  // short, for directories and flags
	Title    string   `json:"title"` // one line, for people
	Claim    Claim    `json:"claim"`
	Data     Data     `json:"data"`
	Network  Network  `json:"network"`
	Training Training `json:"training"`
	Arms     []Arm    `json:"arms"`
	Baseline string   `json:"baseline"` // the arm that the others are compared with
	Seeds    []uint64 `json:"seeds"`    // every arm runs once with every seed
	Outcome  Outcome  `json:"outcome"`
	Flatness Flatness `json:"flatness"`
	Notes    []string `json:"notes"` // deviations from the paper, where numbers come from
}

// A Claim is the sentence under test and the record it belongs to.
type Claim struct {
	PithNumber string `json:"pith_number"`
	ID         string `json:"id"` // stable name of the claim within the record
	Text       string `json:"text"`
	Source     string `json:"source"` // where in the paper it stands
}

// Data names the images and how many of them are used. Sizes of 0 mean all
// that remain. The digests are SHA-256 over the samples of each split, in
// order; an empty digest is filled in when the study starts, a given one must
// match.
type Data struct {
	Name             string `json:"name"` // as package datasets knows it
	Train            int    `json:"train"`
	Validation       int    `json:"validation"`
	Test             int    `json:"test"`
	TrainSHA256      string `json:"train_sha256"`
	ValidationSHA256 string `json:"validation_sha256"`
	TestSHA256       string `json:"test_sha256"`
}

// Network names the model. Width is the number of units of each hidden layer.
type Network struct {
	Name  string `json:"name"` // as package nets knows it
	Width int    `json:"width"`
}

// Training is the optimizer's recipe: SGD with momentum on batches that are
// split into ghost batches, each with its own batch statistics and noise.
type Training struct {
	Batch        int         `json:"batch"`
	Ghost        int         `json:"ghost"`
	Epochs       int         `json:"epochs"`
	LearningRate float64     `json:"learning_rate"` // at the ghost batch size
	Scaling      string      `json:"scaling"`       // "none", "sqrt" or "linear" in batch/ghost
	Milestones   []Milestone `json:"milestones"`
	Momentum     float64     `json:"momentum"`
	WeightDecay  float64     `json:"weight_decay"` // L2, added to the gradient
	ClipNorm     float64     `json:"clip_norm"`    // global L2 norm; 0 clips nothing
	// BatchNorm says which batch-norm statistics evaluation uses: "running"
	// averages gathered in training (at perturbed weights where there is
	// noise), or "recalibrated" at the clean final weights.
	BatchNorm string `json:"batch_norm"`
}

// A Milestone sets the learning rate once Epoch epochs are done. It is subject
// to the same scaling as the rate it replaces.
type Milestone struct {
	Epoch        int     `json:"epoch"`
	LearningRate float64 `json:"learning_rate"`
}

// Batch-norm statistics that an evaluation can use.
const (
	Running      = "running"
	Recalibrated = "recalibrated"
)

// Methods that an arm can use.
const (
	MethodSGD          = "sgd"
	MethodSmoothOut    = "smoothout"    // uniform noise of strength a on every weight
	MethodAdaSmoothOut = "adasmoothout" // noise of strength s relative to each filter's norm
)

// An Arm is one method under comparison.
type Arm struct {
	Name     string  `json:"name"`
	Label    string  `json:"label"`
	Method   string  `json:"method"`
	Strength float64 `json:"strength"` // 0 for plain SGD
}

// Outcome fixes what is measured and how it is judged; see [Plan.Judge].
type Outcome struct {
	Metric string `json:"metric"` // "test_accuracy": at clean weights, last epoch, read once
	Test   string `json:"test"`   // "paired t": two-sided, paired by seed
	// Alpha bounds the chance of calling an effect that is not there, over
	// all comparisons of the plan together (Holm's step-down correction).
	Alpha float64 `json:"alpha"`
	// MinimumEffect is the smallest gain in accuracy, as a fraction, that
	// the plan counts as an improvement.
	MinimumEffect float64 `json:"minimum_effect"`
}

// Flatness says how the rise of the training loss under weight noise is
// measured at the end of each run. For each kind of noise the loss is averaged
// over Draws draws at every strength.
type Flatness struct {
	Samples      int       `json:"samples"` // training samples; 0 means all
	Draws        int       `json:"draws"`
	SmoothOut    []float64 `json:"smoothout"`    // strengths a of uniform noise
	AdaSmoothOut []float64 `json:"adasmoothout"` // strengths s relative to filter norms
}

// A Probe is one noise under which the rise of the loss is measured.
type Probe struct {
	Noise    string // MethodSmoothOut or MethodAdaSmoothOut
	Strength float64
}

// Probes lists the noises in the order in which they are measured.
func (f Flatness) Probes() []Probe {
	var out []Probe
	for _, a := range f.SmoothOut {
		out = append(out, Probe{MethodSmoothOut, a})
	}
	for _, s := range f.AdaSmoothOut {
		out = append(out, Probe{MethodAdaSmoothOut, s})
	}
	return out
}

// MinimumPairs is the number of complete pairs below which every verdict is
// inconclusive, whatever the numbers say.
const MinimumPairs = 5

// ParsePlan reads a plan strictly: every field must be there and no other, since
// a typing mistake must not silently run something else than was meant.
func ParsePlan(data []byte) (*Plan, error) {
	var p Plan
	if err := decodeStrict(data, &p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPlan, err)
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return &p, nil
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// Validate says what about the plan cannot be carried out, naming the field.
func (p *Plan) Validate() error {
	fail := func(field, format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrPlan, field, fmt.Sprintf(format, args...))
	}
	t, o := p.Training, p.Outcome
	switch {
	case p.Schema != PlanSchema:
		return fail("schema", "is %q, this program reads %q", p.Schema, PlanSchema)
	case !nameForm.MatchString(p.Name):
		return fail("name", "%q: use 1 to 40 of a-z, 0-9 and -", p.Name)
	case p.Claim.PithNumber == "" || p.Claim.ID == "" || p.Claim.Text == "" || p.Claim.Source == "":
		return fail("claim", "pith_number, id, text and source are needed: a record must say what it is about")
	case p.Data.Name == "":
		return fail("data.name", "is missing")
	case !size(p.Data.Train) || !size(p.Data.Validation) || !size(p.Data.Test):
		return fail("data", "sizes must be within 0 and %d", maxSamples)
	case p.Data.Validation == 0:
		return fail("data.validation", "at least one sample is needed: choices are made on it, never on the test set")
	case p.Network.Name == "":
		return fail("network.name", "is missing")
	case p.Network.Width < 1 || p.Network.Width > 1<<16:
		return fail("network.width", "%d is not within 1 and 65536", p.Network.Width)
	case t.Ghost < 2:
		return fail("training.ghost", "%d: batch norm needs at least 2 samples", t.Ghost)
	case t.Batch < t.Ghost || t.Batch%t.Ghost != 0:
		return fail("training.batch", "%d is not a multiple of the ghost batch %d", t.Batch, t.Ghost)
	case p.Data.Train > 0 && t.Batch > p.Data.Train:
		return fail("training.batch", "%d is larger than the %d training samples", t.Batch, p.Data.Train)
	case t.Epochs < 1:
		return fail("training.epochs", "%d is less than 1", t.Epochs)
	case !positive(t.LearningRate):
		return fail("training.learning_rate", "%v is not a positive number", t.LearningRate)
	case !slices.Contains([]string{"none", "sqrt", "linear"}, t.Scaling):
		return fail("training.scaling", "%q is not none, sqrt or linear", t.Scaling)
	case t.Momentum < 0 || t.Momentum >= 1:
		return fail("training.momentum", "%v is not within [0, 1)", t.Momentum)
	case t.WeightDecay < 0 || t.ClipNorm < 0:
		return fail("training", "weight_decay and clip_norm cannot be negative")
	case t.BatchNorm != Running && t.BatchNorm != Recalibrated:
		return fail("training.batch_norm", "%q is not running or recalibrated", t.BatchNorm)
	case o.Metric != "test_accuracy":
		return fail("outcome.metric", "%q is not test_accuracy", o.Metric)
	case o.Test != "paired t":
		return fail("outcome.test", "%q is not \"paired t\"", o.Test)
	case !positive(o.Alpha) || o.Alpha >= 0.5:
		return fail("outcome.alpha", "%v is not within (0, 0.5)", o.Alpha)
	case o.MinimumEffect < 0 || o.MinimumEffect >= 1:
		return fail("outcome.minimum_effect", "%v is not a fraction within [0, 1)", o.MinimumEffect)
	case p.Flatness.Samples < 0 || p.Flatness.Draws < 1 || p.Flatness.Draws > 1000:
		return fail("flatness", "samples must not be negative and draws within 1 and 1000")
	}
	for i, m := range t.Milestones {
		if m.Epoch < 1 || m.Epoch >= t.Epochs || !positive(m.LearningRate) || i > 0 && m.Epoch <= t.Milestones[i-1].Epoch {
			return fail("training.milestones", "entry %d: epochs must rise from 1 and end before %d, rates be positive", i+1, t.Epochs)
		}
	}
	for _, s := range slices.Concat(p.Flatness.SmoothOut, p.Flatness.AdaSmoothOut) {
		if !positive(s) {
			return fail("flatness", "strength %v is not a positive number", s)
		}
	}
	texts := map[string]string{"title": p.Title, "claim.id": p.Claim.ID, "claim.text": p.Claim.Text, "claim.source": p.Claim.Source}
	for i, n := range p.Notes {
		texts[fmt.Sprintf("notes, entry %d", i+1)] = n
	}
	for field, text := range texts {
		if err := plainText(text); err != nil {
			return fail(field, "%v", err)
		}
	}
	return p.validateArms(fail)
}

// maxSamples bounds what a plan can ask for, far above any set of images.
const maxSamples = 1 << 31

func size(n int) bool { return n >= 0 && n <= maxSamples }

// plainText refuses text that could pass for something else where people read
// it: these strings end up on terminals, in signed statements and in pages.
func plainText(s string) error {
	const limit = 1000
	if len(s) > limit {
		return fmt.Errorf("is longer than %d bytes", limit)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("has the character %U: use one line of printable text", r)
		}
	}
	return nil
}

func (p *Plan) validateArms(fail func(field, format string, args ...any) error) error {
	if len(p.Arms) < 2 {
		return fail("arms", "a comparison needs at least two")
	}
	names := map[string]bool{}
	for _, a := range p.Arms {
		switch {
		case !nameForm.MatchString(a.Name):
			return fail("arms", "name %q: use 1 to 40 of a-z, 0-9 and -", a.Name)
		case a.Label == "" || len(a.Label) > 40 || plainText(a.Label) != nil:
			return fail("arms", "%s: label %q: use 1 to 40 printable characters", a.Name, a.Label)
		case names[a.Name]:
			return fail("arms", "%q is there twice", a.Name)
		case !slices.Contains([]string{MethodSGD, MethodSmoothOut, MethodAdaSmoothOut}, a.Method):
			return fail("arms", "%s: method %q is not %s, %s or %s", a.Name, a.Method, MethodSGD, MethodSmoothOut, MethodAdaSmoothOut)
		case a.Method == MethodSGD && a.Strength != 0:
			return fail("arms", "%s: plain SGD has strength 0, not %v", a.Name, a.Strength)
		case a.Method != MethodSGD && !positive(a.Strength):
			return fail("arms", "%s: strength %v is not a positive number", a.Name, a.Strength)
		}
		names[a.Name] = true
	}
	if !names[p.Baseline] {
		return fail("baseline", "%q is not one of the arms", p.Baseline)
	}
	if len(p.Seeds) == 0 {
		return fail("seeds", "at least one is needed, %d for a verdict", MinimumPairs)
	}
	seen := map[uint64]bool{}
	for _, s := range p.Seeds {
		// Seeds stay exact in every JSON reader, also in those that hold
		// numbers as float64.
		if s >= 1<<53 {
			return fail("seeds", "%d is not below 2^53", s)
		}
		if seen[s] {
			return fail("seeds", "%d is there twice: repeated seeds are not independent runs", s)
		}
		seen[s] = true
	}
	return nil
}

func positive(x float64) bool { return x > 0 && !math.IsInf(x, 1) }

// Arm returns the arm of that name, or nil.
func (p *Plan) Arm(name string) *Arm {
	for i := range p.Arms {
		if p.Arms[i].Name == name {
			return &p.Arms[i]
		}
	}
	return nil
}

// JSON is the plan as it stands in plan.json.
func (p *Plan) JSON() []byte { return indented(p) }

// SHA256 is the digest that binds runs, results and record to this plan: of
// its canonical form (spec, section 1), so that white space and key order do
// not matter.
func (p *Plan) SHA256() string { return digest(p) }

// indented renders v for a file that people read too.
func indented(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("study: %T does not marshal: %v", v, err)) // only a NaN could do that, and every writer checks
	}
	return b.Bytes()
}

// digest is the hex SHA-256 of the canonical form of v.
func digest(v any) string {
	c, err := pith.Canonical(indented(v))
	if err != nil {
		panic(fmt.Sprintf("study: %T has no canonical form: %v", v, err))
	}
	sum := sha256.Sum256(c)
	return hex.EncodeToString(sum[:])
}
