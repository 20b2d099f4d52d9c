// Package nets holds the networks of the SmoothOut experiments as GoMLX model
// functions, initialised as the reference does, and the batch-norm layer they
// are made of.
//
// Initial weights are drawn in Go from the store's seed and the path of each
// variable, not by the backend: a network starts from the same bits on every
// backend, whatever else the store draws.
package nets

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
)

// Options size a network. Zero values are those of the reference.
type Options struct {
	Classes int `json:"classes,omitempty"` // outputs
	Width   int `json:"width,omitempty"`   // units per hidden layer
}

// ErrUnknown reports a name that no network has.
var ErrUnknown = errors.New("unknown network")

// registry of the networks by name; each fills in its own defaults.
var registry = map[string]func(Options) (train.ModelFn, error){
	"f1": func(o Options) (train.ModelFn, error) {
		return F1(or(o.Width, 512), or(o.Classes, 10)), nil
	},
}

// Names lists the networks that ByName knows.
func Names() []string {
	var names []string
	for n := range registry {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// ByName returns the model function of a network: it maps one input, images
// [batch, height, width, channels], to logits [batch, classes].
func ByName(name string, o Options) (train.ModelFn, error) {
	build, ok := registry[name]
	if !ok {
		return nil, fmt.Errorf("%w %q: have %s", ErrUnknown, name, strings.Join(Names(), ", "))
	}
	if o.Classes < 0 || o.Width < 0 {
		return nil, fmt.Errorf("network %s: classes %d, width %d: want 0 (the default) or more", name, o.Classes, o.Width)
	}
	return build(o)
}

// F1 is the fully connected network of Keskar et al. (2017) as the SmoothOut
// reference builds it (mnist_f1): five hidden layers, each dense, batch norm,
// ReLU, and a dense output. With width 512 and ten classes on 28x28 images it
// has 1,462,794 parameters.
func F1(width, classes int) train.ModelFn {
	return func(scope *model.Scope, _ any, inputs []*Node) []*Node {
		x := inputs[0]
		x = Reshape(x, x.Shape().Dim(0), -1) // [batch, pixels]
		for i := range 5 {
			layer := scope.In("layer_%d", i)
			x = relu(BatchNorm(layer, dense(layer, x, width)))
		}
		return []*Node{dense(scope.In("output"), x, classes)}
	}
}

// relu has gradient 1 at 0, where PyTorch has 0; batch norm in front of it
// makes exact zeros rare.
func relu(x *Node) *Node { return Max(x, ZerosLike(x)) }

func or(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
