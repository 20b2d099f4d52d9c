package nets

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
)

// A Layer is one step of a network, as [Describe] sees it.
type Layer struct {
	Path   string `json:"path"`   // scope of its variables
	Kind   string `json:"kind"`   // such as "conv 3x3 /2"
	Output []int  `json:"output"` // shape for one sample: [height, width, channels] or [features]
	// Parameters is the number of trained numbers.
	Parameters int `json:"parameters"`
	// MultiplyAdds is the number of multiplications, each with an addition, of
	// a forward pass of one sample; what is not a matrix product counts 0.
	MultiplyAdds int64 `json:"multiply_adds"`
}

// noteKey is where [Describe] leaves the list that noted appends to.
const noteKey = "/nets_layers"

// noted returns y, after telling Describe, if that is who builds the graph.
func noted(scope *model.Scope, kind string, y *Node, multiplyAdds int64) *Node {
	list, ok := model.GetGraphParam(y.Graph(), noteKey)
	if !ok {
		return y
	}
	l := Layer{Path: scope.Scope(), Kind: kind, Output: y.Shape().Dimensions[1:], MultiplyAdds: multiplyAdds}
	for v := range scope.IterVariables() {
		if v.Trainable {
			l.Parameters += v.Shape().Size()
		}
	}
	layers := list.(*[]Layer)
	*layers = append(*layers, l)
	return y
}

// Describe lists the layers of a network for inputs of the given shape, in the
// order in which they compute; ReLU, additions and reshapes are not listed. It
// builds the graph on the backend and executes nothing. An input that the
// network cannot take, such as one too small for its pools, is an error.
func Describe(backend compute.Backend, fn train.ModelFn, input ...int) (layers []Layer, err error) {
	defer func() {
		if p := recover(); p != nil { // GoMLX reports mistakes in graphs that way
			layers, err = nil, fmt.Errorf("input %v: %v", input, p)
		}
	}()
	store := model.NewStore()
	g := NewGraph(backend, "describe")
	defer g.Finalize()
	model.SetStore(g, store)
	store.SetTraining(g, false)
	model.SetGraphParam(g, noteKey, &layers)
	x := Parameter(g, "x", shapes.Make(dtypes.Float32, append([]int{1}, input...)...))
	fn(store.RootScope(), nil, []*Node{x})
	return layers, nil
}
