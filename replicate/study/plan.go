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
	"github.com/openpith/evidence/sharpness"
)

// PlanSchema names the format of plan.json.
const PlanSchema = "evidence.plan/2"

// ErrPlan reports a plan that cannot be carried out as written.
var ErrPlan = errors.New("invalid plan")

// A Plan fixes a replication: what is claimed, the table of runs that puts it to
// the test, which arms are judged and how, and what is measured at the trained
// weights. It is written down before the first run, and its digest is in every
// run and in the signed record. That it was not written afterwards is the word
// of the signer, unless the plan was published before.
type Plan struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`  // short, for directories and flags
	Title  string `json:"title"` // one line, for people
	Claim  Claim  `json:"claim"`
	// Sweep is the table of runs, in the form that smoothout sweep reads; here
	// without a grid, and with seeds and baseline given. Every run is tested.
	Sweep Sweep `json:"sweep"`
	// Comparisons are the arms that the verdict is about, each against the
	// baseline of the sweep. Those that are left are reported, not judged.
	Comparisons []string `json:"comparisons"`
	Outcome     Outcome  `json:"outcome"`
	Measures    Measures `json:"measures"`
	Notes       []string `json:"notes"` // deviations from the paper, where numbers come from
	// Arms are what the sweep comes to, whole: filled in when the study begins,
	// so that the plan means the same to a program with other recipes.
	Arms []Arm `json:"arms,omitempty"`
}

// A Claim is the sentence under test and the record it belongs to.
type Claim struct {
	PithNumber string `json:"pith_number"`
	ID         string `json:"id"` // stable name of the claim within the record
	Text       string `json:"text"`
	Source     string `json:"source"` // where in the paper it stands
}

// SweepSchema names the form of the table: that of package experiment.
const SweepSchema = "evidence.sweep/1"

// A Sweep is a table of runs: what they start from, and the settings of each
// arm. Package experiment reads it whole; here only the names count.
type Sweep struct {
	Schema   string          `json:"schema"`
	Name     string          `json:"name,omitempty"`
	Recipe   string          `json:"recipe,omitempty"`
	Base     json.RawMessage `json:"base,omitempty"`
	Set      map[string]any  `json:"set,omitempty"`
	Arms     []SweepArm      `json:"arms"`
	Seeds    []int64         `json:"seeds"` // every arm runs once with every seed
	Baseline string          `json:"baseline"`
}

// A SweepArm is what is compared: a name and the settings that make it.
type SweepArm struct {
	Name string         `json:"name"`
	Set  map[string]any `json:"set"`
}

// An Arm is one way to train, in full.
type Arm struct {
	Name     string  `json:"name"`
	Label    string  `json:"label"`    // for people
	Method   string  `json:"method"`   // as package train knows it
	Strength float64 `json:"strength"` // of its noise, or rho; 0 for plain SGD
	// Config is the configuration of package experiment, with digests of the
	// samples and the first seed; the runs differ from it in the seed alone.
	Config json.RawMessage `json:"config"`
}

// A Setting is the part of a configuration that pages and tables show.
type Setting struct {
	Network struct {
		Name  string `json:"name"`
		Width int    `json:"width"`
	} `json:"network"`
	Data struct {
		Name             string `json:"name"`
		TrainSHA256      string `json:"train_sha256"`
		ValidationSHA256 string `json:"validation_sha256"`
		TestSHA256       string `json:"test_sha256"`
	} `json:"data"`
	Recipe struct {
		Batch        int     `json:"batch"`
		Ghost        int     `json:"ghost"`
		Epochs       int     `json:"epochs"`
		LearningRate float64 `json:"learning_rate"`
		Scaling      string  `json:"scaling"`
		Milestones   []struct {
			Epoch        float64 `json:"epoch"`
			LearningRate float64 `json:"learning_rate"`
		} `json:"milestones"`
		Momentum    float64 `json:"momentum"`
		WeightDecay float64 `json:"weight_decay"`
		ClipNorm    float64 `json:"clip_norm"`
	} `json:"recipe"`
}

// Setting reads the configuration of the arm.
func (a Arm) Setting() (s Setting, err error) {
	err = json.Unmarshal(a.Config, &s)
	return s, err
}

// Outcome fixes what is measured and how it is judged; see [Plan.Judge].
type Outcome struct {
	Metric string `json:"metric"` // "test_accuracy": at clean weights, read once
	Test   string `json:"test"`   // "paired t": two-sided, paired by seed
	// Alpha bounds the chance of calling an effect that is not there, over
	// all comparisons of the plan together (Holm's step-down correction).
	Alpha float64 `json:"alpha"`
	// MinimumEffect is the smallest gain in accuracy, as a fraction, that
	// the plan counts as an improvement.
	MinimumEffect float64 `json:"minimum_effect"`
}

// Measures say how sharp the minimum of every run is found to be: the measures
// of package sharpness on the same training examples for all.
type Measures struct {
	Examples int                `json:"examples"` // training examples, drawn by Seed; 0 means all
	Seed     int64              `json:"seed"`     // of examples, noise and directions
	List     []sharpness.Choice `json:"list"`
}

// Labels names the measures, in their order.
func (m Measures) Labels() []string {
	out := make([]string, len(m.List))
	for i, c := range m.List {
		out[i] = sharpness.Label(c.Measure)
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
// What only package experiment understands, it checks.
func (p *Plan) Validate() error {
	fail := func(field, format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrPlan, field, fmt.Sprintf(format, args...))
	}
	o := p.Outcome
	switch {
	case p.Schema != PlanSchema:
		return fail("schema", "is %q, this program reads %q", p.Schema, PlanSchema)
	case !nameForm.MatchString(p.Name):
		return fail("name", "%q: use 1 to 40 of a-z, 0-9 and -", p.Name)
	case p.Claim.PithNumber == "" || p.Claim.ID == "" || p.Claim.Text == "" || p.Claim.Source == "":
		return fail("claim", "pith_number, id, text and source are needed: a record must say what it is about")
	case o.Metric != "test_accuracy":
		return fail("outcome.metric", "%q is not test_accuracy", o.Metric)
	case o.Test != "paired t":
		return fail("outcome.test", "%q is not \"paired t\"", o.Test)
	case !positive(o.Alpha) || o.Alpha >= 0.5:
		return fail("outcome.alpha", "%v is not within (0, 0.5)", o.Alpha)
	case o.MinimumEffect < 0 || o.MinimumEffect >= 1:
		return fail("outcome.minimum_effect", "%v is not a fraction within [0, 1)", o.MinimumEffect)
	case p.Measures.Examples < 0 || p.Measures.Examples > maxSamples:
		return fail("measures.examples", "%d is not within 0 and %d", p.Measures.Examples, maxSamples)
	}
	seen := map[string]bool{}
	for i, c := range p.Measures.List {
		switch {
		case c.Measure == nil:
			return fail("measures.list", "entry %d: names no measure", i+1)
		case seen[sharpness.Label(c.Measure)]:
			return fail("measures.list", "%s is there twice", sharpness.Label(c.Measure))
		}
		seen[sharpness.Label(c.Measure)] = true
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
	if err := p.Sweep.validate(fail); err != nil {
		return err
	}
	if err := p.validateComparisons(fail); err != nil {
		return err
	}
	return p.validateArms(fail)
}

// maxSamples bounds what a plan can ask for, far above any set of images.
const maxSamples = 1 << 31

type failure func(field, format string, args ...any) error

func (s *Sweep) validate(fail failure) error {
	if s.Schema != SweepSchema {
		return fail("sweep.schema", "is %q, this program reads %q", s.Schema, SweepSchema)
	}
	if len(s.Arms) < 2 {
		return fail("sweep.arms", "a comparison needs at least two")
	}
	for i, a := range s.Arms {
		if !nameForm.MatchString(a.Name) {
			return fail("sweep.arms", "name %q: use 1 to 40 of a-z, 0-9 and -", a.Name)
		}
		if slices.ContainsFunc(s.Arms[:i], func(b SweepArm) bool { return a.Name == b.Name }) {
			return fail("sweep.arms", "%q is there twice", a.Name)
		}
	}
	if !s.has(s.Baseline) {
		return fail("sweep.baseline", "%q is not one of the arms", s.Baseline)
	}
	if len(s.Seeds) == 0 {
		return fail("sweep.seeds", "at least one is needed, %d for a verdict", MinimumPairs)
	}
	seen := map[int64]bool{}
	for _, seed := range s.Seeds {
		// Seeds stay exact in every JSON reader, also in those that hold
		// numbers as float64.
		if seed < 0 || seed >= 1<<53 {
			return fail("sweep.seeds", "%d is not within 0 and 2^53", seed)
		}
		if seen[seed] {
			return fail("sweep.seeds", "%d is there twice: repeated seeds are not independent runs", seed)
		}
		seen[seed] = true
	}
	return nil
}

func (s *Sweep) has(arm string) bool {
	return slices.ContainsFunc(s.Arms, func(a SweepArm) bool { return a.Name == arm })
}

func (p *Plan) validateComparisons(fail failure) error {
	if len(p.Comparisons) == 0 {
		return fail("comparisons", "name at least one arm to judge against %q", p.Sweep.Baseline)
	}
	for i, c := range p.Comparisons {
		switch {
		case !p.Sweep.has(c):
			return fail("comparisons", "%q is not one of the arms", c)
		case c == p.Sweep.Baseline:
			return fail("comparisons", "%q is the baseline itself", c)
		case slices.Contains(p.Comparisons[:i], c):
			return fail("comparisons", "%q is there twice", c)
		}
	}
	return nil
}

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

// validateArms checks what the beginning of the study filled in: the arms of
// the sweep, in its order.
func (p *Plan) validateArms(fail failure) error {
	if len(p.Arms) == 0 {
		return nil
	}
	if len(p.Arms) != len(p.Sweep.Arms) {
		return fail("arms", "%d of them for %d of the sweep", len(p.Arms), len(p.Sweep.Arms))
	}
	for i, a := range p.Arms {
		s, err := a.Setting()
		switch {
		case a.Name != p.Sweep.Arms[i].Name:
			return fail("arms", "%q stands where the sweep has %q", a.Name, p.Sweep.Arms[i].Name)
		case a.Label == "" || len(a.Label) > 60 || plainText(a.Label) != nil:
			return fail("arms", "%s: label %q: use 1 to 60 printable characters", a.Name, a.Label)
		case a.Method == "" || len(a.Method) > 40 || plainText(a.Method) != nil:
			return fail("arms", "%s: method %q: use 1 to 40 printable characters", a.Name, a.Method)
		case a.Strength != 0 && !positive(a.Strength):
			return fail("arms", "%s: strength %v is not a positive number", a.Name, a.Strength)
		case err != nil:
			return fail("arms", "%s: config: %v", a.Name, err)
		case s.Recipe.Epochs < 1:
			return fail("arms", "%s: config: %d epochs", a.Name, s.Recipe.Epochs)
		}
		for _, text := range []string{s.Network.Name, s.Data.Name, s.Data.TrainSHA256, s.Data.ValidationSHA256, s.Data.TestSHA256, s.Recipe.Scaling} {
			if err := plainText(text); err != nil {
				return fail("arms", "%s: config: %v", a.Name, err)
			}
		}
	}
	return nil
}

func positive(x float64) bool { return x > 0 && !math.IsInf(x, 1) }

// Seeds are those of the sweep, Baseline the arm that others are compared with.
func (p *Plan) Seeds() []int64   { return p.Sweep.Seeds }
func (p *Plan) Baseline() string { return p.Sweep.Baseline }

// epochs is how many every run of the arm has when it is done.
func (a *Arm) epochs() int {
	s, err := a.Setting()
	if err != nil {
		return 0 // Validate refuses it
	}
	return s.Recipe.Epochs
}

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
