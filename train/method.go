package train

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/openpith/evidence/rivals"
	"github.com/openpith/evidence/smoothout"
)

// A Method is a way to train that a recipe can be told by name.
type Method struct {
	Name     string  `json:"name"`
	Strength string  `json:"strength,omitempty"` // what its one number means; "" if it has none
	Default  float64 `json:"default,omitempty"`  // a strength to begin with
	What     string  `json:"what"`
	set      func(*Recipe, float64)
}

// Methods lists the methods that go by name. Default strengths are where others
// found them useful (LPF-SGD's logs for a and ρ, Kwon et al. for ASAM) or ours
// for F1; the right one depends on the network: choose it on validation data or
// with [smoothout.Tune].
func Methods() []Method {
	noise := func(c smoothout.Config) func(*Recipe, float64) {
		return func(r *Recipe, strength float64) {
			seed := r.SmoothOut.Seed
			r.SmoothOut = c
			r.SmoothOut.Strength, r.SmoothOut.Seed = strength, seed
		}
	}
	sam := func(adaptive bool) func(*Recipe, float64) {
		return func(r *Recipe, rho float64) { r.SAM = rivals.SAM{Rho: rho, Adaptive: adaptive && rho > 0} }
	}
	return []Method{
		{"sgd", "", 0, "plain training with the optimizer of the recipe", func(*Recipe, float64) {}},
		{"smoothout", "a", 0.009, "uniform noise of the same size in every weight", noise(smoothout.Config{Adapt: smoothout.None, Noise: smoothout.Uniform})},
		{"adasmoothout", "s", 0.1, "uniform noise in proportion to the norm of each filter", noise(smoothout.Config{Adapt: smoothout.Filter, Noise: smoothout.Uniform})},
		{"lpf-sgd", "gamma", 0.0005, "Gaussian noise in proportion to the norm of each filter, growing fifteenfold", noise(rivals.LPF(0, 15))},
		{"sam", "rho", 0.05, "the gradient at the worst point within a distance; two passes", sam(false)},
		{"asam", "rho", 0.5, "SAM with distances relative to each weight; two passes", sam(true)},
		{"anti-pgd", "sigma", 0.005, "anticorrelated noise that stays in the weights", noise(rivals.AntiPGD(0))},
		{"noisy-sgd", "a", 0.0005, "SmoothOut without de-noising, an ablation: the noise adds up in the weights", noise(smoothout.Config{KeepNoise: true})},
	}
}

// WithMethod is the recipe with another method, everything else equal. A
// strength of 0 is plain training.
func (r Recipe) WithMethod(name string, strength float64) (Recipe, error) {
	methods := Methods()
	i := slices.IndexFunc(methods, func(m Method) bool { return m.Name == name })
	if i < 0 {
		var names []string
		for _, m := range methods {
			names = append(names, m.Name)
		}
		return Recipe{}, fmt.Errorf("%w: method %q: want one of %s", ErrRecipe, name, strings.Join(names, ", "))
	}
	if methods[i].Strength == "" && strength != 0 {
		return Recipe{}, fmt.Errorf("%w: method %s with strength %v: it has none", ErrRecipe, name, strength)
	}
	r.SmoothOut = smoothout.Config{Seed: r.SmoothOut.Seed}
	r.SAM = rivals.SAM{}
	methods[i].set(&r, strength)
	return r, r.validateMethod()
}

// Method is the name of what the recipe does, which for a recipe of
// [Recipe.WithMethod] is the name it was given, at a strength above 0. Noise that
// is none of these has the name of the nearest, a comma, and what is different, in
// 40 bytes: "smoothout, adapt layer".
func (r Recipe) Method() string {
	name := r.nearest()
	if r.SAM.Rho > 0 || name == "sgd" {
		return name
	}
	named, _ := r.WithMethod(name, r.SmoothOut.Strength) // whether it is valid is asked elsewhere
	a, b := spelledOut(r.SmoothOut), spelledOut(named.SmoothOut)
	full := name
	add := func(different bool, words string) {
		if different {
			full += ", " + words
		}
	}
	add(a.Adapt != b.Adapt, "adapt "+string(a.Adapt))
	add(a.Noise != b.Noise, string(a.Noise))
	add(a.Schedule != b.Schedule, scheduleWords(a.Schedule))
	add(!slices.EqualFunc(a.Rules, b.Rules, func(x, y smoothout.Rule) bool { return reflect.DeepEqual(x, y) }), "rules")
	add(a.Antithetic != b.Antithetic, "antithetic")
	add(a.KeepNoise != b.KeepNoise, "kept")
	add(a.Anticorrelated != b.Anticorrelated, "anticorrelated")
	if len(full) > 40 {
		return name + ", varied"
	}
	return full
}

// spelledOut is noise without what does not make its method, and with its defaults.
func spelledOut(c smoothout.Config) smoothout.Config {
	c.Strength, c.Seed, c.Schedule.Steps, c.Schedule.MicroSteps = 0, 0, 0, 0
	c.Adapt, c.Noise = cmp.Or(c.Adapt, smoothout.None), cmp.Or(c.Noise, smoothout.Uniform)
	c.Schedule.Kind = cmp.Or(c.Schedule.Kind, smoothout.Constant)
	return c
}

func scheduleWords(s smoothout.Schedule) string {
	words := string(s.Kind)
	if s.Factor != 0 {
		words += fmt.Sprintf(" x%g", s.Factor)
	}
	if s.Delay != 0 {
		words += fmt.Sprintf(" from %g", s.Delay)
	}
	return words
}

// nearest is the method of a name that the recipe is most like.
func (r Recipe) nearest() string {
	n := r.SmoothOut
	switch {
	case r.SAM.Rho > 0 && r.SAM.Adaptive:
		return "asam"
	case r.SAM.Rho > 0:
		return "sam"
	case n.Strength == 0:
		return "sgd"
	case n.Anticorrelated:
		return "anti-pgd"
	case n.KeepNoise:
		return "noisy-sgd"
	case n.Adapt == smoothout.FilterNorm && n.Noise == smoothout.Normal:
		return "lpf-sgd"
	case n.Adapt == smoothout.Filter:
		return "adasmoothout"
	default:
		return "smoothout"
	}
}

// Strength is the one number of the method: the strength of the noise at the
// coefficient 1 of its schedule, or SAM's ρ; 0 for plain SGD.
func (r Recipe) Strength() float64 {
	if r.SAM.Rho > 0 {
		return r.SAM.Rho
	}
	return r.SmoothOut.Strength
}

// StrengthAt is the strength of the noise, or SAM's ρ, in an optimizer step,
// counted from 0, of so many in the whole run.
func (r Recipe) StrengthAt(step, steps int) float64 {
	if r.SAM.Rho > 0 {
		return r.SAM.Rho
	}
	noise := r.resolved(steps).SmoothOut
	return noise.Strength * noise.Schedule.At(step)
}

// validateMethod is the part of Validate that is about methods.
func (r Recipe) validateMethod() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrRecipe, fmt.Sprintf(format, args...))
	}
	resolved := r.resolved(1)
	switch {
	case !slices.Contains([]string{"", "sgd", "nesterov", "adam", "adamw"}, r.Optimizer):
		return bad("optimizer %q: want sgd, nesterov, adam or adamw", r.Optimizer)
	case r.Copies < 0:
		return bad("copies %d: want 1 or more, or 0 for 1", r.Copies)
	case r.SmoothOut.Antithetic && r.ghosts()*r.copies()%2 == 1:
		return bad("antithetic noise in %d micro-steps per optimizer step: want pairs, such as copies 2", r.ghosts()*r.copies())
	case r.SAM.Rho > 0 && r.SmoothOut.Strength > 0:
		return bad("sam and smoothout together: want one of them")
	case r.SAM.Adaptive && r.SAM.Rho == 0:
		return bad("sam is adaptive with rho 0: want a rho above 0")
	case r.Average.Kind != "" && r.Select == "best":
		return bad(`average %q with select "best": the average is not measured after each epoch; want select "last"`, r.Average.Kind)
	}
	if err := resolved.SmoothOut.Validate(); err != nil {
		return bad("%v", err)
	}
	if err := resolved.SAM.Validate(); err != nil {
		return bad("%v", err)
	}
	if err := resolved.Average.Validate(); err != nil {
		return bad("%v", err)
	}
	return nil
}

// resolved fills in what follows from the rest of the recipe and the number of
// optimizer steps of the whole run.
func (r Recipe) resolved(steps int) Recipe {
	if r.SmoothOut.Seed == 0 {
		r.SmoothOut.Seed = r.Seed
	}
	r.SmoothOut.Schedule.Steps = steps
	r.SmoothOut.Schedule.MicroSteps = r.ghosts() * r.copies()
	r.Average.Steps = steps
	if r.Average.Kind == rivals.SWA && r.Average.Every == 0 && r.Epochs > 0 {
		r.Average.Every = max(1, steps/r.Epochs)
	}
	return r
}

func (r Recipe) copies() int { return max(1, r.Copies) }

// method decides where gradients are taken.
func (r Recipe) method() rivals.Method {
	if r.SAM.Rho > 0 {
		return r.SAM
	}
	return rivals.Noise(r.SmoothOut)
}

// optimizer decides what becomes of them.
func (r Recipe) optimizer() optimizer.Interface {
	switch r.Optimizer {
	case "adam", "adamw":
		return newAdam(r.LearningRate, r.ClipNorm, r.WeightDecay, r.Optimizer == "adamw")
	}
	return SGD{
		LearningRate: r.LearningRate,
		Momentum:     r.Momentum,
		Nesterov:     r.Optimizer == "nesterov",
		WeightDecay:  r.WeightDecay,
		ClipNorm:     r.ClipNorm,
	}
}
