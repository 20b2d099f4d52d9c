package experiment

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/train"
)

// ErrRecipe reports a name that no recipe has.
var ErrRecipe = errors.New("unknown recipe")

// DefaultRecipe is what is trained when nothing is named: minutes on generated
// digits.
const DefaultRecipe = "quick"

// reference is where the settings of the paper's recipes stand.
const reference = "github.com/wenwei202/smoothout @ d6db540"

// notCopied says where every recipe of the paper departs from the code that it
// follows, and why.
var notCopied = []string{
	"The method is plain SGD until --method says otherwise; the paper's noise strengths are not known to us.",
	"Not copied from the reference: choosing the best epoch on the test set (here the last epoch, and 5000 training images held out for every choice), " +
		"batch-norm statistics from noisy weights (here recalibrated at clean ones).",
}

// ofMNIST is a further note on recipes for MNIST.
const ofMNIST = "Digits are padded and shifted by up to 2 pixels as in the reference; that it mirrors them, too, is not copied."

// A regime is a learning-rate schedule of the reference with what goes with it.
type regime struct {
	network, data string
	epochs        int
	rate          float64
	milestones    []train.Milestone
	decay         float64
	base          int // the batch it was written for, which is the ghost size of large batches
	where         string
}

var (
	f1 = regime{"f1", "mnist", 50, 0.1, steps(10, 0.01, 20, 0.001, 30, 0.0001), 1e-4, 128, "models/mnist_f1.py"}
	c1 = regime{"c1", "cifar-10", 200, 1e-3, steps(60, 1e-2, 120, 1e-3, 180, 1e-4), 5e-4, 128, "models/cifar10_shallow.py"}
	c3 = regime{"c3", "cifar-100", 200, 1e-3, steps(60, 1e-2, 120, 1e-3, 180, 1e-4), 5e-4, 128, "models/cifar100_shallow.py"}

	resnet44    = regime{"resnet44", "cifar-10", 200, 0.1, steps(81, 0.01, 122, 0.001, 164, 0.0001), 1e-4, 256, "models/resnet.py"}
	resnet44100 = regime{"resnet44", "cifar-100", 200, 0.1, steps(81, 0.01, 122, 0.001, 164, 0.0001), 1e-4, 256, "models/resnet.py"}
	wrn164      = regime{"wrn-16-4", "cifar-100", 200, 0.1, steps(60, 2e-2, 120, 4e-3, 140, 1e-4), 1e-4, 128, "models/wide_resnet.py"}

	// Of images of 224x224: rates, milestones and decay are those of the models; the
	// models name neither epochs nor batches.
	resnet18   = regime{"resnet18", imageFolder, 100, 0.1, steps(30, 0.01, 60, 0.001, 90, 0.0001), 1e-4, 256, "models/resnet.py"}
	alexnet    = regime{"alexnet", imageFolder, 60, 1e-2, steps(20, 1e-3, 40, 1e-4), 5e-4, 128, "models/alexnet.py"}
	alexnetVLR = regime{"alexnetv3", imageFolder, 60, 1e-2, steps(20, 1e-3, 40, 1e-4), 0, 128, "models/alexnetvlr.py"}
)

// imageFolder is where recipes for large images look, unless told otherwise.
const imageFolder = "./imagenet"

// ofFolder are further notes on recipes for a folder of images.
var ofFolder = []string{
	"The images are a folder with train and val in it, and in these a directory per class: name yours with --dataset ./DIR. We have trained these networks on small folders only, never on ImageNet.",
	"The reference's model names no number of epochs and no batch: the milestones end the regime, the batches are ours, of 256 (what main_normal.py scales rates from) or 128 (the ghost size of main_gbn.py).",
}

// Recipes lists the named recipes. Each call makes them anew.
func Recipes() []Config {
	quick := f1.recipe("quick", "F1 on generated digits, a few minutes", 512)
	quick.Source = "ours: the plan quick of smoothout replicate"
	quick.Data = Data{Name: Glyphs, Train: 2048, Validation: 1000, Test: 4000}
	quick.Recipe = quick.Recipe.WithEpochs(20)
	quick.Recipe.Milestones = steps(13, 0.01)
	quick.Notes = []string{"Far less than any experiment of the paper; good for trying things out."}

	adapted := f1.recipe("paper/f1-lb-ra", "F1 on MNIST, batches of 4096, regime adapted: as many steps as small batches make", 4096)
	adapted.Recipe = adapted.Recipe.WithEpochs(adapted.Recipe.Epochs * adapted.Recipe.Multiple())

	vlr := alexnetVLR.recipe("paper/alexnet-vlr", "AlexNet without dropout and decay, batches of 16384 as ghost batches of 128", 16384)
	vlr.Notes = append(slices.Clone(vlr.Notes), "The reference's alexnetvlr states the rate 0.113137, which is 0.01·√128: that of batches 128 times as large. Milestones are those of its AlexNet.")

	return []Config{
		quick,
		f1.recipe("paper/f1-sb", "F1 on MNIST, batches of 128", 128),
		f1.recipe("paper/f1-lb", "F1 on MNIST, batches of 4096 as ghost batches of 128", 4096),
		adapted,
		c1.recipe("paper/c1-sb", "C1 on CIFAR-10, batches of 128", 128),
		c1.recipe("paper/c1-lb", "C1 on CIFAR-10, batches of 4096 as ghost batches of 128", 4096),
		c3.recipe("paper/c3-sb", "C3 on CIFAR-100, batches of 128", 128),
		c3.recipe("paper/c3-lb", "C3 on CIFAR-100, batches of 4096 as ghost batches of 128", 4096),
		resnet44.recipe("paper/resnet44-sb", "ResNet-44 on CIFAR-10, batches of 256", 256),
		resnet44.recipe("paper/resnet44-lb", "ResNet-44 on CIFAR-10, batches of 2048 as ghost batches of 256", 2048),
		resnet44100.recipe("paper/resnet44-c100-lb", "ResNet-44 on CIFAR-100, batches of 2048 as ghost batches of 256", 2048),
		wrn164.recipe("paper/wrn-16-4-sb", "WRN-16-4 on CIFAR-100, batches of 128", 128),
		wrn164.recipe("paper/wrn-16-4-lb", "WRN-16-4 on CIFAR-100, batches of 1024 as ghost batches of 128", 1024),
		resnet18.recipe("paper/resnet18-sb", "ResNet-18 on a folder of large images, batches of 256", 256),
		resnet18.recipe("paper/resnet18-lb", "ResNet-18 on a folder of large images, batches of 2048 as ghost batches of 256", 2048),
		alexnet.recipe("paper/alexnet-sb", "AlexNet with batch norm on a folder of large images, batches of 128", 128),
		alexnet.recipe("paper/alexnet-lb", "AlexNet with batch norm on a folder of large images, batches of 2048 as ghost batches of 128", 2048),
		vlr,
	}
}

// RecipeByName returns a named recipe. The error is ErrRecipe.
func RecipeByName(name string) (Config, error) {
	var names []string
	for _, c := range Recipes() {
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	return Config{}, fmt.Errorf("%w %q: there are %s", ErrRecipe, name, strings.Join(names, ", "))
}

func (g regime) recipe(name, title string, batch int) Config {
	c := Config{
		Schema: Schema, Name: name, Title: title, Source: reference + ", " + g.where, Notes: notCopied,
		Network: Network{Name: g.network},
		Data:    Data{Name: g.data, Validation: 5000},
		Recipe: train.Recipe{
			Batch: batch, Ghost: g.base, Epochs: g.epochs,
			LearningRate: g.rate, Milestones: g.milestones, Scaling: "sqrt",
			Momentum: 0.9, WeightDecay: g.decay, ClipNorm: 5,
			Recalibrate: -1, Seed: 1,
		},
	}
	c.Data.Augment = optional(datasets.Reference(g.data))
	if g.data == "mnist" {
		c.Notes = slices.Concat(c.Notes, []string{ofMNIST})
	}
	if c.Data.folder() {
		crop := "random" // of the reference's AlexNets
		if g.network == "resnet18" {
			crop = "area"
		}
		c.Data.Images = &datasets.FolderConfig{Size: 224, Resize: 256, Crop: crop, Flip: true}
		c.Notes = slices.Concat(c.Notes, ofFolder)
	}
	return c
}

// steps makes milestones from pairs of an epoch and a rate.
func steps(pairs ...float64) (ms []train.Milestone) {
	for i := 0; i+1 < len(pairs); i += 2 {
		ms = append(ms, train.Milestone{Epoch: pairs[i], LearningRate: pairs[i+1]})
	}
	return ms
}
