package replicate

import (
	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/objective"
	"github.com/openpith/evidence/replicate/study"
	"github.com/openpith/evidence/sharpness"
)

// smoothOutPaper is the record of arXiv:1805.07898v3.
const smoothOutPaper = "pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM"

// builtin plans by name, in the order in which they are listed. The function
// gets told whether MNIST is at hand.
var builtin = []struct {
	name string
	make func(haveMNIST func() bool) *study.Plan
}{
	{"quick", quick},
	{"mnist-f1", always(mnistF1)},
	{"mnist-f1-part", always(mnistF1Part)},
	{"fashion-f1", always(fashionF1)},
	{"fashion-f1-part", always(fashionF1Part)},
	{"cifar10-c1", always(cifar10C1)},
	{"cifar10-c1-part", always(cifar10C1Part)},
}

func always(make func() *study.Plan) func(func() bool) *study.Plan {
	return func(func() bool) *study.Plan { return make() }
}

// PlanNames lists the built-in plans.
func PlanNames() []string {
	var names []string
	for _, b := range builtin {
		names = append(names, b.name)
	}
	return names
}

// BuiltinPlan returns the built-in plan of that name, or nil. haveMNIST is
// asked where the plan runs on MNIST if it can and on generated digits if not.
func BuiltinPlan(name string, haveMNIST func() bool) *study.Plan {
	for _, b := range builtin {
		if b.name == name {
			return b.make(haveMNIST)
		}
	}
	return nil
}

// plan is what all built-in plans share: the sentence of the abstract that they
// test, noise in the weights against plain SGD at the same large batch, and the
// rule.
func plan(name, title string, minimumEffect float64) *study.Plan {
	return &study.Plan{
		Schema: study.PlanSchema, Name: name, Title: title,
		Claim: study.Claim{
			PithNumber: smoothOutPaper,
			ID:         "noise-improves-generalization",
			Text:       "With large batches, perturbing the weights with uniform noise while training (SmoothOut, AdaSmoothOut) gives better test accuracy than plain SGD.",
			Source:     "arXiv:1805.07898v3, abstract",
		},
		Outcome: study.Outcome{Metric: "test_accuracy", Test: "paired t", Alpha: 0.05, MinimumEffect: minimumEffect},
	}
}

// set makes settings of pairs of name and value.
func set(pairs ...string) map[string]any {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func choices(ms ...sharpness.Measure) []sharpness.Choice {
	var out []sharpness.Choice
	for _, m := range ms {
		out = append(out, sharpness.Choice{Measure: sharpness.Filled(m)})
	}
	return out
}

// quick is what runs without any flags: the network F1 of the reference on a few
// digits, sized for two minutes on two cores.
func quick(haveMNIST func() bool) *study.Plan {
	p := plan("quick", "Quick replication of SmoothOut on generated digits", 0.002)
	p.Sweep = study.Sweep{
		Schema: study.SweepSchema, Recipe: experiment.DefaultRecipe,
		Arms: []study.SweepArm{
			{Name: "sgd", Set: set()},
			{Name: "smoothout", Set: set("method", "smoothout", "strength", "0.04")},
			{Name: "adasmoothout", Set: set("method", "adasmoothout", "strength", "0.2")},
		},
		Seeds:    []int64{1, 2, 3, 4, 5, 6, 7, 8},
		Baseline: "sgd",
	}
	p.Comparisons = []string{"smoothout", "adasmoothout"}
	p.Measures = study.Measures{Examples: 500, Seed: 1, List: choices(
		sharpness.Noise{Strength: 0.05, Draws: 4},
		sharpness.Noise{Strength: 0.5, Norm: objective.Filter, Draws: 4},
		sharpness.Keskar{Epsilon: 1e-3},
		sharpness.Ascent{},
	)}
	p.Notes = []string{
		"The reference's network F1, but far less than its experiments: 2048 training images, batches of 512, 20 epochs. A verdict here says little about the paper.",
		"Strengths were chosen on validation images of the generated digits with seeds 101 to 104, by mean accuracy, from a in {0.005, 0.01, 0.02, 0.04, 0.06, 0.08} and s in {0.05, 0.1, 0.2, 0.4}. They are used for MNIST as they are.",
		asDrawn,
	}
	if haveMNIST() {
		p.Sweep.Set = set("dataset", "mnist", "augment", "none", "train-samples", "2048", "test", "4000")
		p.Title = "Quick replication of SmoothOut on a little of MNIST"
	}
	return p
}

// strengths of the methods, as they were chosen on validation samples.
type strengths struct{ smoothout, adasmoothout, sam, lpf string }

// arms of one batch size: plain SGD and each method that has a strength.
func (s strengths) arms(prefix string, common ...string) []study.SweepArm {
	out := []study.SweepArm{{Name: prefix + "-sgd", Set: set(common...)}}
	for _, m := range [][2]string{{"smoothout", s.smoothout}, {"adasmoothout", s.adasmoothout}, {"sam", s.sam}, {"lpf-sgd", s.lpf}} {
		if m[1] != "" {
			out = append(out, study.SweepArm{Name: prefix + "-" + m[0], Set: set(append([]string{"method", m[0], "strength", m[1]}, common...)...)})
		}
	}
	return out
}

// reference makes a plan of the reference's setting: small batches beside large ones,
// five seeds.
func reference(name, title, recipe string, settings map[string]any, arms ...[]study.SweepArm) *study.Plan {
	p := plan(name, title, 0.001)
	p.Sweep = study.Sweep{Schema: study.SweepSchema, Recipe: recipe, Set: settings, Seeds: []int64{1, 2, 3, 4, 5}, Baseline: "lb-sgd"}
	for _, a := range arms {
		p.Sweep.Arms = append(p.Sweep.Arms, a...)
	}
	p.Comparisons = []string{"lb-smoothout", "lb-adasmoothout"}
	p.Measures = study.Measures{Examples: 1000, Seed: 1, List: choices(
		sharpness.Keskar{Epsilon: 1e-3},
		sharpness.Keskar{Epsilon: 5e-4},
		sharpness.Noise{Strength: 0.01, Draws: 10},
		sharpness.Noise{Strength: 0.2, Norm: objective.Filter, Draws: 10},
		sharpness.Ascent{},
		sharpness.Ascent{Adaptive: true},
		sharpness.Eigenvalues{N: 1, Iterations: 30, Tolerance: 1e-2},
		sharpness.Trace{},
	)}
	return p
}

// Words that several plans need.
const (
	shifted = "Training images are padded and shifted by up to 2 pixels as in the reference, not mirrored."
	cropped = "Training images are padded with gray by 4 pixels, cropped and mirrored as in the reference."
	asDrawn = "Training images are neither shifted nor mirrored."

	notCopied = "The reference's network and regime, with its clipping, ghost batches and square-root scaling. It differs where the reference is not to be copied: " +
		"the last epoch is taken instead of the best on the test set, batch-norm statistics are recalibrated at clean weights, and part of the training images is held out for every choice."
	chosenF1 = "Strengths were chosen on the held-out MNIST images, by mean validation accuracy over seeds 101 and 102 (batches of 128: seed 101 alone) after 5 epochs with the regime compressed in proportion, " +
		"from a in {0.0025, 0.005, 0.01}, s in {0.05, 0.1, 0.2}, rho in {0.02, 0.05, 0.1} and gamma in {0.00025, 0.0005, 0.001}; where the best was the smallest tried, a smaller one might do better. The strengths of the paper are not known to us."
	chosenC1 = "Strengths were chosen on 800 held-out images of the part of CIFAR-10, batches of 768, seed 101 alone, after 10 epochs with the regime compressed in proportion, from a in {0.0025, 0.005, 0.01} and s in {0.05, 0.1, 0.2}. " +
		"The smallest of each was best and none was better than plain SGD there; smaller ones might do better. The strengths of the paper are not known to us."
	chosenFashion = "Strengths were chosen on the held-out Fashion-MNIST images, by validation accuracy with seed 101 alone, after 10 epochs of batches of 4096 and after 4 of 128 with the regime compressed in proportion, " +
		"from a in {0.00125, 0.0025, 0.005, 0.01}, s in {0.025, 0.05, 0.1, 0.2}, gamma in {0.00025, 0.0005, 0.001}, and rho in {0.01, 0.02, 0.05} at large and {0.05, 0.1, 0.2} at small batches. Differences were of the size that a seed makes, and five of the eight chosen are the least or the most that was tried. The strengths of the paper are not known to us."
)

var (
	smallF1 = strengths{"0.0025", "0.05", "0.05", "0.0005"}
	largeF1 = strengths{"0.005", "0.05", "0.02", "0.0005"}
	largeC1 = strengths{"0.0025", "0.05", "", ""}

	smallFashion = strengths{"0.0025", "0.025", "0.05", "0.001"}
	largeFashion = strengths{"0.005", "0.025", "0.02", "0.00025"}
)

func f1(name, title string, settings map[string]any) *study.Plan {
	p := reference(name, title, "paper/f1-lb", settings, smallF1.arms("sb", "batch", "128"), largeF1.arms("lb"))
	p.Notes = []string{notCopied, shifted, chosenF1}
	return p
}

// mnistF1 is the reference's setting for F1 on MNIST: batch 4096 as ghost
// batches of 128, 50 epochs.
func mnistF1() *study.Plan {
	return f1("mnist-f1", "SmoothOut and its rivals: F1 on MNIST, batches of 4096 and of 128", set("test", "all"))
}

// mnistF1Part is a stated fraction of it for machines without its hours.
func mnistF1Part() *study.Plan {
	p := f1("mnist-f1-part", "SmoothOut and its rivals: F1 on MNIST, batches of 4096 and of 128, 20 of 50 epochs", set("epochs", "20", "test", "all"))
	return compressed(p, "20 of the reference's 50 epochs", "At batches of 4096 an epoch is 13 steps; the rate falls first after 4 epochs, 52 steps.")
}

func fashionF1() *study.Plan {
	p := reference("fashion-f1", "SmoothOut and its rivals: F1 on Fashion-MNIST, batches of 4096 and of 128", "paper/f1-lb",
		set("dataset", "fashion-mnist", "augment", "pad=2", "test", "all"), smallFashion.arms("sb", "batch", "128"), largeFashion.arms("lb"))
	p.Notes = []string{notCopied, shifted, chosenFashion,
		"Fashion-MNIST is not among the data sets of the paper; network and regime are those of MNIST."}
	return p
}

// fashionF1Part trains the large batches for more of the reference's epochs, because
// after a fifth, 130 steps, they are at 75 % where small batches are at 84 %: what is
// said of their minima needs that they come near one.
func fashionF1Part() *study.Plan {
	p := reference("fashion-f1-part", "SmoothOut and its rivals: F1 on Fashion-MNIST, batches of 4096 for 20 of 50 epochs and of 128 for 5", "paper/f1-lb",
		set("dataset", "fashion-mnist", "augment", "pad=2", "test", "all"),
		smallFashion.arms("sb", "batch", "128", "epochs", "5"), largeFashion.arms("lb", "epochs", "20"))
	p.Notes = []string{notCopied, shifted, chosenFashion,
		"Fashion-MNIST is not among the data sets of the paper; network and regime are those of MNIST."}
	return compressed(p, "20 of the reference's 50 epochs at batches of 4096 and 5 at batches of 128", "These are 260 and 2,145 steps; the rate falls first after 52 and 429.")
}

func cifar10C1() *study.Plan {
	p := reference("cifar10-c1", "SmoothOut: C1 on CIFAR-10, batches of 4096 and of 128", "paper/c1-lb", set("test", "all"), strengths{}.arms("sb", "batch", "128"), largeC1.arms("lb"))
	p.Measures.Examples = 250
	p.Notes = []string{notCopied, cropped, chosenC1}
	return p
}

func cifar10C1Part() *study.Plan {
	p := reference("cifar10-c1-part", "SmoothOut: C1 on a tenth of CIFAR-10, batches of 768 and of 128, 20 of 200 epochs", "paper/c1-lb",
		set("dataset", "cifar-10-part", "epochs", "20", "validation", "800", "test", "all"),
		strengths{}.arms("sb", "batch", "128"), largeC1.arms("lb", "batch", "768"))
	p.Measures.Examples = 250
	p.Notes = []string{notCopied, cropped, chosenC1,
		"A part of CIFAR-10, with batches of 768 instead of 4096, so that an epoch has steps at all."}
	return compressed(p, "20 of the reference's 200 epochs", "")
}

// compressed says what was cut.
func compressed(p *study.Plan, epochs, more string) *study.Plan {
	note := epochs + ", the milestones of the learning rate in proportion. Every arm is trained less than the reference trains it."
	if more != "" {
		note += " " + more
	}
	p.Notes = append(p.Notes, note)
	return p
}
