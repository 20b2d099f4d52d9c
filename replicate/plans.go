package replicate

import "github.com/openpith/evidence/replicate/study"

// smoothOutPaper is the record of arXiv:1805.07898v3.
const smoothOutPaper = "pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM"

// builtin plans by name, in the order in which they are listed. The function
// gets told whether MNIST is at hand.
var builtin = []struct {
	name string
	make func(haveMNIST func() bool) *study.Plan
}{
	{"quick", quick},
	{"mnist-f1", func(func() bool) *study.Plan { return mnistF1() }},
	{"mnist-f1-part", func(func() bool) *study.Plan { return mnistF1Part() }},
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

// claim is the sentence of the abstract that every built-in plan tests: noise
// in the weights against plain SGD, at the same large batch.
func claim() study.Claim {
	return study.Claim{
		PithNumber: smoothOutPaper,
		ID:         "noise-improves-generalization",
		Text:       "With large batches, perturbing the weights with uniform noise while training (SmoothOut, AdaSmoothOut) gives better test accuracy than plain SGD.",
		Source:     "arXiv:1805.07898v3, abstract",
	}
}

// arms compares plain SGD with both forms of the method.
func arms(a, s float64) []study.Arm {
	return []study.Arm{
		{Name: "sgd", Label: "SGD", Method: study.MethodSGD},
		{Name: "smoothout", Label: "SmoothOut", Method: study.MethodSmoothOut, Strength: a},
		{Name: "adasmoothout", Label: "AdaSmoothOut", Method: study.MethodAdaSmoothOut, Strength: s},
	}
}

// rule is the same for every built-in plan.
func rule(minimumEffect float64) study.Outcome {
	return study.Outcome{Metric: "test_accuracy", Test: "paired t", Alpha: 0.05, MinimumEffect: minimumEffect}
}

// quick is what runs without any flags: the network F1 of the reference on a few
// digits, sized for two minutes on two cores.
func quick(haveMNIST func() bool) *study.Plan {
	p := &study.Plan{
		Schema:  study.PlanSchema,
		Name:    "quick",
		Title:   "Quick replication of SmoothOut on generated digits",
		Claim:   claim(),
		Data:    study.Data{Name: Glyphs, Train: 2048, Validation: 1000, Test: 4000},
		Network: study.Network{Name: "f1", Width: 512},
		Training: study.Training{
			Batch: 512, Ghost: 128, Epochs: 20,
			LearningRate: 0.1, Scaling: "sqrt", Milestones: []study.Milestone{{Epoch: 13, LearningRate: 0.01}},
			Momentum: 0.9, WeightDecay: 1e-4, ClipNorm: 5, BatchNorm: study.Recalibrated,
		},
		Arms:     arms(0.04, 0.2),
		Baseline: "sgd",
		Seeds:    []uint64{1, 2, 3, 4, 5, 6, 7, 8},
		Outcome:  rule(0.002),
		Flatness: study.Flatness{
			Samples: 1024, Draws: 2,
			SmoothOut:    []float64{0.01, 0.02, 0.05, 0.1},
			AdaSmoothOut: []float64{0.1, 0.2, 0.5, 1},
		},
		Notes: []string{
			"The reference's network F1, but far less than its experiments: 2048 training images, batches of 512, 20 epochs. A verdict here says little about the paper.",
			"Strengths were chosen on validation images of the generated digits with seeds 101 to 104, by mean accuracy, from a in {0.005, 0.01, 0.02, 0.04, 0.06, 0.08} and s in {0.05, 0.1, 0.2, 0.4}. They are used for MNIST as they are.",
		},
	}
	if haveMNIST() {
		p.Data.Name = "mnist"
		p.Title = "Quick replication of SmoothOut on a little of MNIST"
	}
	return p
}

// mnistF1 is the reference's setting for F1 on MNIST: batch 4096 as ghost
// batches of 128, 50 epochs, the learning rate of its regime scaled by the
// square root of the batch multiple.
func mnistF1() *study.Plan {
	return &study.Plan{
		Schema:  study.PlanSchema,
		Name:    "mnist-f1",
		Title:   "SmoothOut for F1 on MNIST with batches of 4096",
		Claim:   claim(),
		Data:    study.Data{Name: "mnist", Validation: 5000},
		Network: study.Network{Name: "f1", Width: 512},
		Training: study.Training{
			Batch: 4096, Ghost: 128, Epochs: 50,
			LearningRate: 0.1, Scaling: "sqrt",
			Milestones: []study.Milestone{{Epoch: 10, LearningRate: 0.01}, {Epoch: 20, LearningRate: 0.001}, {Epoch: 30, LearningRate: 0.0001}},
			Momentum:   0.9, WeightDecay: 1e-4, ClipNorm: 5, BatchNorm: study.Recalibrated,
		},
		Arms:     arms(0.005, 0.1),
		Baseline: "sgd",
		Seeds:    []uint64{1, 2, 3, 4, 5},
		Outcome:  rule(0.001),
		Flatness: study.Flatness{
			Samples: 4096, Draws: 4,
			SmoothOut:    []float64{0.01, 0.02, 0.05, 0.1},
			AdaSmoothOut: []float64{0.1, 0.2, 0.5, 1},
		},
		Notes: []string{
			"The reference's setting for F1: regime, batch, ghost batches, clipping, square-root scaling. It differs where the reference is not to be copied: digits are not mirrored or shifted, the last epoch is taken instead of the best on the test set, batch-norm statistics are recalibrated at clean weights, and 5000 training images are held out.",
			"Strengths were chosen on the held-out validation images with seeds 101 and 102 and 12 epochs, by mean accuracy, from a in {0.005, 0.01, 0.02} and s in {0.05, 0.1, 0.2}; the strengths of the paper are not known to us.",
		},
	}
}

// mnistF1Part is a stated fraction of mnist-f1 for machines without its hours:
// two fifths of the epochs, the regime compressed in proportion.
func mnistF1Part() *study.Plan {
	p := mnistF1()
	p.Name = "mnist-f1-part"
	p.Title = "SmoothOut for F1 on MNIST with batches of 4096, two fifths of the epochs"
	p.Training.Epochs = 20
	p.Training.Milestones = []study.Milestone{{Epoch: 4, LearningRate: 0.01}, {Epoch: 8, LearningRate: 0.001}, {Epoch: 12, LearningRate: 0.0001}}
	p.Notes = append(p.Notes, "Two fifths of the reference's 50 epochs, its milestones in proportion.")
	return p
}
