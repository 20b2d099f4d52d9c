package experiment

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/rivals"
	"github.com/openpith/evidence/smoothout"
	"github.com/openpith/evidence/train"
)

// A Setting changes one thing about a configuration, as text: a flag of a
// command, a column of a sweep.
type Setting struct {
	Name  string
	Usage string // with the `kind` of value in back quotes
	set   func(c *Config, value string) error
}

// Settings in the order in which they are applied when several are given: what
// others build on comes first.
var Settings = []Setting{
	{"net", "`network` (see smoothout nets)", text(func(c *Config) *string { return &c.Network.Name })},
	{"width", "units or channels of the first hidden layer", integer(func(c *Config) *int { return &c.Network.Width })},
	{"dataset", "data `set` (see smoothout data list; glyphs are generated), or the path of a folder of images such as ./pets", func(c *Config, v string) error {
		if v != c.Data.Name { // sizes and digests were those of another set
			old := c.Data
			c.Data = Data{Name: v, Validation: old.Validation, Augment: old.Augment}
			// What is usual for a set goes with it; what was chosen stays.
			if augmentation(old.Augment) == datasets.Reference(old.Name) {
				c.Data.Augment = optional(datasets.Reference(v))
			}
			if c.Data.folder() {
				c.Data.Images = old.Images
			}
			if v == Glyphs {
				c.Data.Train, c.Data.Test = 8192, 4000
			}
		}
		return nil
	}},
	{"train-samples", "training samples (0: all)", integer(func(c *Config) *int { return &c.Data.Train })},
	{"validation", "samples of the training set held out for every choice", integer(func(c *Config) *int { return &c.Data.Validation })},
	{"test", "test samples: a `number`, all, or none to leave the test set unread; unread=N holds N images out of a folder that has no test set, and leaves them unread", func(c *Config, v string) error {
		n, unread := strings.CutPrefix(v, "unread=")
		switch {
		case v == "all":
			c.Data.Test = 0
		case v == "none" && c.Data.folder() && c.Data.Test > 0:
			unread = true // they stay held out
		case v == "none":
			c.Data.Test = NoTest
		default:
			if err := parseInt(n, &c.Data.Test); err != nil {
				return err
			}
		}
		c.Data.Unread = unread
		return nil
	}},
	{"images", "`what` a network sees of a folder of images: size=224,resize=256,crop=area,flip; crop is centre, random or area", setImages},
	{"augment", "`how` training images are changed: none, reference, or for example pad=4,flip,cutout=8,fill=127", setAugment},
	{"batch", "samples per optimizer step", func(c *Config, v string) error {
		if err := parseInt(v, &c.Recipe.Batch); err != nil {
			return err
		}
		if c.Recipe.Ghost >= c.Recipe.Batch {
			c.Recipe.Ghost = 0 // one ghost batch, the whole
		}
		return nil
	}},
	{"ghost", "samples per ghost batch, each with its own noise and batch statistics (0: the batch)", integer(func(c *Config) *int { return &c.Recipe.Ghost })},
	{"batch-multiplier", "batches per optimizer step, gradients averaged", func(c *Config, v string) error {
		k := 0
		if err := parseInt(v, &k); err != nil {
			return err
		}
		if k < 1 {
			return fmt.Errorf("want 1 or more")
		}
		c.Recipe = c.Recipe.WithMultiplier(k)
		return nil
	}},
	{"epochs", "passes over the training set; milestones and warm-up move in proportion", func(c *Config, v string) error {
		n := 0
		if err := parseInt(v, &n); err != nil {
			return err
		}
		c.Recipe = c.Recipe.WithEpochs(n)
		return nil
	}},
	{"stretch", "`factor` on epochs, milestones and warm-up, or batch for regime adaptation: the batch as a multiple of the ghost batch", func(c *Config, v string) error {
		k := float64(c.Recipe.Multiple())
		if v != "batch" {
			if err := parseFloat(v, &k); err != nil {
				return err
			}
		}
		c.Recipe = c.Recipe.WithEpochs(int(math.Round(k * float64(c.Recipe.Epochs))))
		return nil
	}},
	{"lr", "learning rate, before scaling; milestones keep their ratio to it", func(c *Config, v string) error {
		old := c.Recipe.LearningRate
		if err := parseFloat(v, &c.Recipe.LearningRate); err != nil {
			return err
		}
		if old > 0 {
			milestones := append(c.Recipe.Milestones[:0:0], c.Recipe.Milestones...)
			for i := range milestones {
				milestones[i].LearningRate *= c.Recipe.LearningRate / old
			}
			c.Recipe.Milestones = milestones
		}
		return nil
	}},
	{"lr-schedule", "`schedule` of the learning rate: step (the recipe's milestones) or cosine", func(c *Config, v string) error {
		c.Recipe.Schedule = v
		if v == "cosine" {
			c.Recipe.Milestones = nil
		}
		return nil
	}},
	{"scaling", "`rule` by which the rate grows with batch/ghost: none, sqrt or linear", text(func(c *Config) *string { return &c.Recipe.Scaling })},
	{"warmup", "epochs over which the rate rises from 0", number(func(c *Config) *float64 { return &c.Recipe.Warmup })},
	{"momentum", "momentum, as in PyTorch", number(func(c *Config) *float64 { return &c.Recipe.Momentum })},
	{"weight-decay", "L2 weight decay", number(func(c *Config) *float64 { return &c.Recipe.WeightDecay })},
	{"clip", "bound on the norm of the whole gradient (0: none)", number(func(c *Config) *float64 { return &c.Recipe.ClipNorm })},
	{"label-smoothing", "share of the target spread over all classes", number(func(c *Config) *float64 { return &c.Recipe.LabelSmoothing })},
	{"optimizer", "`optimizer`: sgd, nesterov, adam or adamw", text(func(c *Config) *string { return &c.Recipe.Optimizer })},
	{"method", "`method`, at its default strength: " + methodNames(), func(c *Config, v string) error {
		m := methodByName(v)
		if m == nil {
			return fmt.Errorf("want one of %s", methodNames())
		}
		r, err := c.Recipe.WithMethod(v, m.Default)
		if err == nil {
			c.Recipe = r
		}
		return err
	}},
	{"strength", "strength of the noise, or rho of SAM and ASAM", func(c *Config, v string) error {
		var x float64
		if err := parseFloat(v, &x); err != nil {
			return err
		}
		if c.Recipe.SAM.Rho > 0 {
			c.Recipe.SAM.Rho = x
			c.Recipe.SAM.Adaptive = c.Recipe.SAM.Adaptive && x > 0
			return nil
		}
		if c.Recipe.SmoothOut.Adapt == "" && c.Recipe.SmoothOut.Strength == 0 && x != 0 {
			return fmt.Errorf("the method is plain SGD, which has none: choose a method too")
		}
		c.Recipe.SmoothOut.Strength = x
		return nil
	}},
	{"adapt", "what noise is measured `against`: none, weight, filter, layer or filter-norm", func(c *Config, v string) error {
		c.Recipe.SmoothOut.Adapt = smoothout.Adapt(v)
		return nil
	}},
	{"noise", "`law` of the noise: uniform, normal or rademacher", func(c *Config, v string) error {
		c.Recipe.SmoothOut.Noise = smoothout.Noise(v)
		return nil
	}},
	{"noise-schedule", "`schedule` of the strength: constant, anneal, tanh or cosine, and more as in cosine,factor=15,delay=0.1", setNoiseSchedule},
	{"rules", "`rules` for single tensors, role or path (a regular expression) and factor on the strength: bias=0,batch-norm=1,^/layer_0/=0.5; the last that fits holds; default for none", setRules},
	{"copies", "noises per ghost batch, gradients averaged", integer(func(c *Config) *int { return &c.Recipe.Copies })},
	{"antithetic", "pairs of noises with opposite signs: `true` or false", boolean(func(c *Config) *bool { return &c.Recipe.SmoothOut.Antithetic })},
	{"average", "`average` of weights that is the result: none, swa or ema=0.999, and more as in swa,start=0.75", setAverage},
	{"recalibrate", "training samples for batch-norm statistics at the final clean weights (0: keep running ones, -1: all)", integer(func(c *Config) *int { return &c.Recipe.Recalibrate })},
	{"bn-statistics", "`where` running batch-norm statistics are gathered: noisy (the pass that is trained) or clean (a forward pass more, at clean weights)", text(func(c *Config) *string { return &c.Recipe.Statistics })},
	{"select", "`weights` that are the result: last, or best on the validation set", text(func(c *Config) *string { return &c.Recipe.Select })},
	{"seed", "seed of initial weights, batches, augmentation, dropout and noise", func(c *Config, v string) (err error) {
		c.Recipe.Seed, err = strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("want a whole number")
		}
		return nil
	}},
}

// Apply changes the configuration by settings, name to value, in the order of
// [Settings]. Errors are ErrConfig and name the setting.
func (c Config) Apply(values map[string]string) (Config, error) {
	applied := 0
	for _, s := range Settings {
		v, ok := values[s.Name]
		if !ok {
			continue
		}
		applied++
		if err := s.set(&c, v); err != nil {
			return c, fmt.Errorf("%w: %s %q: %w", ErrConfig, s.Name, v, err)
		}
	}
	if applied < len(values) {
		for name := range values {
			if SettingByName(name) == nil {
				return c, fmt.Errorf("%w: there is no setting %q; there are %s", ErrConfig, name, strings.Join(SettingNames(), ", "))
			}
		}
	}
	return c, nil
}

// SettingByName returns nil if there is none of that name.
func SettingByName(name string) *Setting {
	for i := range Settings {
		if Settings[i].Name == name {
			return &Settings[i]
		}
	}
	return nil
}

// SettingNames lists the names.
func SettingNames() []string {
	names := make([]string, len(Settings))
	for i, s := range Settings {
		names[i] = s.Name
	}
	return names
}

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error { *field(c) = v; return nil }
}

func integer(field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, v string) error { return parseInt(v, field(c)) }
}

func number(field func(*Config) *float64) func(*Config, string) error {
	return func(c *Config, v string) error { return parseFloat(v, field(c)) }
}

func parseInt(v string, to *int) error {
	n, err := strconv.Atoi(v)
	if err != nil {
		return fmt.Errorf("want a whole number")
	}
	*to = n
	return nil
}

func parseFloat(v string, to *float64) error {
	x, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return fmt.Errorf("want a number")
	}
	*to = x
	return nil
}

func boolean(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("want true or false")
		}
		*field(c) = b
		return nil
	}
}

func methodByName(name string) *train.Method {
	for _, m := range train.Methods() {
		if m.Name == name {
			return &m
		}
	}
	return nil
}

func methodNames() string {
	var names []string
	for _, m := range train.Methods() {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

// options reads "word,name=number,…".
func options(v string, fields map[string]*float64) (word string, err error) {
	word, rest, more := strings.Cut(v, ",")
	for more {
		var part string
		part, rest, more = strings.Cut(rest, ",")
		name, value, _ := strings.Cut(part, "=")
		field := fields[name]
		if field == nil {
			return "", fmt.Errorf("%q is not an option of it", name)
		}
		if err := parseFloat(value, field); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	return word, nil
}

func setNoiseSchedule(c *Config, v string) error {
	var s smoothout.Schedule
	word, err := options(v, map[string]*float64{"delay": &s.Delay, "factor": &s.Factor})
	if err != nil {
		return err
	}
	if s.Kind = smoothout.Kind(word); word == "constant" {
		s.Kind = ""
	}
	c.Recipe.SmoothOut.Schedule = s
	return nil
}

// setRules reads "bias=0,^/layer_0/=0.5". Paths with a comma are for a recipe's file.
func setRules(c *Config, v string) error {
	var rules []smoothout.Rule
	if v != "default" {
		for part := range strings.SplitSeq(v, ",") {
			i := strings.LastIndex(part, "=") // a path may have one, too
			if i < 1 {
				return fmt.Errorf("%q: want a role or a path, =, and a factor", part)
			}
			var r smoothout.Rule
			if err := parseFloat(part[i+1:], &r.Factor); err != nil {
				return fmt.Errorf("%q: %w after the =", part, err)
			}
			switch what := part[:i]; what {
			case "weight", "bias":
				r.Role = smoothout.Role(what)
			case "batch-norm":
				r.Role = smoothout.BatchNorm
			default:
				r.Path = what
			}
			rules = append(rules, r)
		}
	}
	c.Recipe.SmoothOut.Rules = rules
	return nil
}

func setAverage(c *Config, v string) error {
	a := rivals.Average{}
	word, err := options(v, map[string]*float64{"start": &a.Start})
	if err != nil {
		return err
	}
	if word != "none" {
		kind, decay, given := strings.Cut(word, "=")
		if a.Kind = kind; given {
			if err := parseFloat(decay, &a.Decay); err != nil {
				return err
			}
		}
	}
	c.Recipe.Average = a
	return nil
}

func setAugment(c *Config, v string) error {
	var a datasets.Augmentation
	switch v {
	case "none":
	case "reference":
		a = datasets.Reference(c.Data.Name)
	default:
		for part := range strings.SplitSeq(v, ",") {
			name, value, given := strings.Cut(part, "=")
			n := 1
			if given {
				if err := parseInt(value, &n); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			switch name {
			case "pad":
				a.Pad = n
			case "fill":
				if n < 0 || n > 255 {
					return fmt.Errorf("fill: want 0 to 255")
				}
				a.Fill = uint8(n)
			case "flip":
				a.Flip = n != 0
			case "cutout":
				a.Cutout = n
			default:
				return fmt.Errorf("%s: want pad, fill, flip or cutout", name)
			}
		}
	}
	c.Data.Augment = optional(a)
	return nil
}

// augmentation is what a configuration holds, nil for none.
func augmentation(a *datasets.Augmentation) datasets.Augmentation {
	if a == nil {
		return datasets.Augmentation{}
	}
	return *a
}

func optional(a datasets.Augmentation) *datasets.Augmentation {
	if a == (datasets.Augmentation{}) {
		return nil
	}
	return &a
}
