// Package nets holds the networks of the SmoothOut experiments as GoMLX model
// functions, initialised as the reference does, and the layers they are made of.
//
//	fn, err := nets.ByName("resnet44", nets.Options{Classes: 100})
//
// Initial weights are drawn in Go from the store's seed and the path of each
// variable, not by the backend: a network starts from the same bits on every
// backend, whatever else the store draws. Dropout is addressed likewise.
//
// The reference is github.com/wenwei202/smoothout and, for the networks that it
// takes from there, github.com/eladhoffer/bigBatch. A network computes in the
// data type of its input; the experiments use float32.
package nets

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
)

// Options size a network. Zero values are those of the reference.
type Options struct {
	Classes int `json:"classes,omitempty"` // outputs
	// Width is the number of units or channels of the first layer; the others
	// keep their proportion to it.
	Width int `json:"width,omitempty"`
}

// A Net is a network by name.
type Net struct {
	Name      string  `json:"name"`
	Title     string  `json:"title"`
	Reference string  `json:"reference"` // its name in the reference
	Input     []int   `json:"input"`     // what the reference feeds it: height, width, channels
	Default   Options `json:"default"`
	build     func(width, classes int) train.ModelFn
}

// ErrUnknown reports a name that no network has.
var ErrUnknown = errors.New("unknown network")

var fixed = []Net{
	{"f1", "fully connected, five hidden layers", "mnist_f1", []int{28, 28, 1}, Options{10, 512}, F1},
	{"c1", "two convolutions, two hidden layers, dropout", "cifar10_shallow", []int{32, 32, 3}, Options{10, 64}, dropping(C1, 0.5)},
	{"c3", "C1 for 100 classes", "cifar100_shallow", []int{32, 32, 3}, Options{100, 64}, dropping(C1, 0.5)},
	residual(44),
	wide(16, 4),
	{"resnet18", "ResNet-18 for large images", "resnet on imagenet", []int{224, 224, 3}, Options{1000, 64}, ResNet18},
	{"alexnet", "AlexNet, one tower, batch norm, dropout 0.5", "alexnet", []int{224, 224, 3}, Options{1000, 64}, dropping(AlexNet, 0.5)},
	{"alexnetv2", "AlexNet with dropout 0.2", "alexnetv2", []int{224, 224, 3}, Options{1000, 64}, dropping(AlexNet, 0.2)},
	{"alexnetv3", "AlexNet without dropout", "alexnetv3, alexnetvlr", []int{224, 224, 3}, Options{1000, 64}, dropping(AlexNet, 0)},
}

func dropping(build func(width, classes int, rate float64) train.ModelFn, rate float64) func(width, classes int) train.ModelFn {
	return func(width, classes int) train.ModelFn { return build(width, classes, rate) }
}

func residual(depth int) Net {
	return Net{fmt.Sprintf("resnet%d", depth), fmt.Sprintf("ResNet-%d for small images (6n+2 layers)", depth), "resnet on cifar",
		[]int{32, 32, 3}, Options{10, 16}, func(width, classes int) train.ModelFn { return ResNet(depth, width, classes) }}
}

func wide(depth, factor int) Net {
	return Net{fmt.Sprintf("wrn-%d-%d", depth, factor), fmt.Sprintf("wide ResNet, %d times as wide", factor), "wide_WResNet on cifar",
		[]int{32, 32, 3}, Options{100, 16 * factor}, func(width, classes int) train.ModelFn { return ResNet(depth-2, width, classes) }}
}

// List is the networks of the reference.
func List() []Net { return append([]Net(nil), fixed...) }

// Names lists the names of [List]. Beside them [Lookup] knows every resnetN
// with N = 6n+2 and every wrn-N-K with N = 6n+4.
func Names() []string {
	var names []string
	for _, n := range fixed {
		names = append(names, n.Name)
	}
	return names
}

// Lookup finds a network by its name. The error is ErrUnknown.
func Lookup(name string) (Net, error) {
	for _, n := range fixed {
		if n.Name == name {
			return n, nil
		}
	}
	// He et al. trained 6n+2 = 1202; more is a slip of the finger.
	const deepest, widest = 1202, 64
	var depth, factor int
	if s, ok := strings.CutPrefix(name, "resnet"); ok {
		if depth, _ = strconv.Atoi(s); depth >= 8 && depth <= deepest && depth%6 == 2 && strconv.Itoa(depth) == s {
			return residual(depth), nil
		}
	}
	if n, _ := fmt.Sscanf(name, "wrn-%d-%d", &depth, &factor); n == 2 && name == fmt.Sprintf("wrn-%d-%d", depth, factor) &&
		depth >= 10 && depth <= deepest && depth%6 == 4 && factor >= 1 && factor <= widest {
		return wide(depth, factor), nil
	}
	return Net{}, fmt.Errorf("%w %q: have %s, and any resnetN with N = 6n+2 and wrn-N-K with N = 6n+4", ErrUnknown, name, strings.Join(Names(), ", "))
}

// ByName returns the model function of a network: it maps one input, images
// [batch, height, width, channels], to logits [batch, classes].
func ByName(name string, o Options) (train.ModelFn, error) {
	n, err := Lookup(name)
	if err != nil {
		return nil, err
	}
	return n.New(o)
}

// New returns the model function.
func (n Net) New(o Options) (train.ModelFn, error) {
	const most = 1 << 20
	if o.Classes < 0 || o.Width < 0 || o.Classes > most || o.Width > most {
		return nil, fmt.Errorf("network %s: classes %d, width %d: want 0 (the default) to %d", n.Name, o.Classes, o.Width, most)
	}
	return n.build(cmp.Or(o.Width, n.Default.Width), cmp.Or(o.Classes, n.Default.Classes)), nil
}

// F1 is the fully connected network of Keskar et al. (2017) as the SmoothOut
// reference builds it (mnist_f1): five hidden layers, each dense, batch norm,
// ReLU, and a dense output. With width 512 and ten classes on 28x28 images it
// has 1,462,794 parameters.
func F1(width, classes int) train.ModelFn {
	return func(scope *model.Scope, _ any, inputs []*Node) []*Node {
		x := flat(inputs[0]) // [batch, pixels]
		for i := range 5 {
			layer := scope.In("layer_%d", i)
			x = relu(BatchNorm(layer, dense(layer, x, width)))
		}
		return []*Node{dense(scope.In("output"), x, classes)}
	}
}

// C1 is the shallow convolutional network of the reference (cifar10_shallow):
// twice a convolution 5x5, max pool, batch norm, ReLU; two hidden layers of six
// and three times the width, each dense, batch norm, ReLU, dropout; a dense
// output. With width 64 and ten classes on 32x32x3 images it has 1,388,490
// parameters. C3 (cifar100_shallow) is the same for 100 classes: 1,405,860. The
// reference drops half.
func C1(width, classes int, dropout float64) train.ModelFn {
	return func(scope *model.Scope, _ any, inputs []*Node) []*Node {
		x := inputs[0]
		for i := range 2 {
			layer := scope.In("conv_%d", i)
			x = convUniform(layer, x, filter{out: width, size: 5, stride: 1, pad: 2})
			x = relu(BatchNorm(layer, maxPool(layer, x, 0)))
		}
		x = flat(x)
		for i, units := range []int{6 * width, 3 * width} {
			layer := scope.In("hidden_%d", i)
			x = relu(BatchNorm(layer, denseOnly(layer, x, units)))
			x = Dropout(layer, x, dropout)
		}
		return []*Node{dense(scope.In("output"), x, classes)}
	}
}

// ResNet is the residual network for small images of He et al. (2016), section
// 4.2, with depth 6n+2: a convolution, three stages of n blocks of one, two and
// four times the width, the mean over all pixels, a dense output. As in the
// reference a shortcut that changes shape is a convolution 1x1 with batch norm.
// ResNet-44 of width 16 has 661,338 parameters for ten classes. The reference's
// wide ResNets (wide_WResNet) are the same with a larger width; their name
// counts two layers more: WRN-16-4 is ResNet(14, 64, classes).
func ResNet(depth, width, classes int) train.ModelFn {
	return func(scope *model.Scope, _ any, inputs []*Node) []*Node {
		stem := scope.In("stem")
		x := relu(BatchNorm(stem, conv(stem, inputs[0], filter{out: width, size: 3, stride: 1, pad: 1})))
		x = stages(scope, x, (depth-2)/6, width, 2*width, 4*width)
		return []*Node{dense(scope.In("output"), meanPool(scope, x), classes)}
	}
}

// ResNet18 is the residual network for large images of He et al. (2016), as
// PyTorch and the reference build it: four stages of two blocks, 11,689,512
// parameters with width 64 and 1000 classes.
func ResNet18(width, classes int) train.ModelFn {
	return func(scope *model.Scope, _ any, inputs []*Node) []*Node {
		stem := scope.In("stem")
		x := relu(BatchNorm(stem, conv(stem, inputs[0], filter{out: width, size: 7, stride: 2, pad: 3})))
		x = stages(scope, maxPool(stem, x, 1), 2, width, 2*width, 4*width, 8*width)
		return []*Node{dense(scope.In("output"), meanPool(scope, x), classes)}
	}
}

// stages puts blocks one after another; each stage but the first halves height
// and width of its input.
func stages(scope *model.Scope, x *Node, blocks int, widths ...int) *Node {
	for i, width := range widths {
		stage := scope.In("stage_%d", i)
		for k := range blocks {
			stride := 1
			if i > 0 && k == 0 {
				stride = 2
			}
			x = block(stage.In("block_%d", k), x, width, stride)
		}
	}
	return x
}

// block is relu(x + f(x)), f being convolution 3x3, batch norm, ReLU,
// convolution 3x3, batch norm.
func block(scope *model.Scope, x *Node, width, stride int) *Node {
	a, b := scope.In("a"), scope.In("b")
	y := relu(BatchNorm(a, conv(a, x, filter{out: width, size: 3, stride: stride, pad: 1})))
	y = BatchNorm(b, conv(b, y, filter{out: width, size: 3, stride: 1, pad: 1}))
	if stride != 1 || x.Shape().Dim(-1) != width {
		s := scope.In("shortcut")
		x = BatchNorm(s, conv(s, x, filter{out: width, size: 1, stride: stride, pad: 0}))
	}
	return relu(Add(y, x))
}

// AlexNet is the one-tower network of Krizhevsky (2014) with batch norm, as the
// reference builds it (AlexNetOWT_BN); the order of pool, batch norm and ReLU
// differs from layer to layer there, and so here. With
// width 64 and 1000 classes on 224x224x3 images it has 61,110,184 parameters.
func AlexNet(width, classes int, dropout float64) train.ModelFn {
	return func(scope *model.Scope, _ any, inputs []*Node) []*Node {
		l := scope.In("conv_0")
		x := convUniform(l, inputs[0], filter{out: width, size: 11, stride: 4, pad: 2})
		x = relu(BatchNorm(l, maxPool(l, x, 0)))
		l = scope.In("conv_1")
		x = convUniform(l, x, filter{out: 3 * width, size: 5, stride: 1, pad: 2})
		x = BatchNorm(l, relu(maxPool(l, x, 0)))
		for i, out := range []int{6 * width, 4 * width, 4 * width} {
			l = scope.In("conv_%d", 2+i)
			x = convUniform(l, x, filter{out: out, size: 3, stride: 1, pad: 1})
			if i == 2 {
				x = maxPool(l, x, 0)
			}
			x = BatchNorm(l, relu(x))
		}
		x = flat(x)
		for i := range 2 {
			l = scope.In("hidden_%d", i)
			x = relu(BatchNorm(l, denseOnly(l, x, 64*width)))
			x = Dropout(l, x, dropout)
		}
		return []*Node{dense(scope.In("output"), x, classes)}
	}
}
