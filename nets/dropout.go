package nets

import (
	"fmt"

	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/openpith/evidence/internal/seed"
)

// MicrostepVariable is the path of the store's variable (int64, not trained)
// that numbers the masks of [Dropout]. Like the other variables of a run that
// begin with "#" it is no part of the network.
const MicrostepVariable = "/#microstep"

// Dropout sets each element of x to 0 with probability rate in training graphs
// and divides the others by 1-rate. Elsewhere, and for rate 0, it returns x.
//
// A mask is addressed by the seed of the store ("initializer_seed"), the path
// of the layer and the number of the micro-step, not streamed: runs that differ
// only in their method, noise or backend-made random numbers see the same masks,
// and a resumed run goes on with them. The number is that of
// [MicrostepVariable]. Every training graph with dropout reads it and adds one,
// once, so two passes within one graph, such as those of SAM, share their masks.
// Who runs several graphs on the same data, and wants the same mask for them,
// sets the variable before each. The bits are those of the backend's generator,
// which is not the same on every backend.
func Dropout(scope *model.Scope, x *Node, rate float64) *Node {
	kind := fmt.Sprintf("dropout %v", rate)
	g := x.Graph()
	scope = scope.In("dropout")
	if rate == 0 || !scope.IsTraining(g) {
		return noted(scope, kind, x, 0)
	}
	s := model.GetParamOr(scope, model.ParamInitialSeed, int64(0))
	words := seed.Words(s, "dropout", scope.Scope())
	key := Const(g, words[:RNGStateShape.Size()])
	// Number and key are mixed by the generator itself: what it draws at their
	// sum is the state that the mask is drawn from.
	number := ConvertDType(microstep(scope.Store(), g), RNGStateShape.DType)
	_, state := RNGStateSplit(Add(key, number))
	_, u := RandomUniform(state, shapes.Make(x.DType(), x.Shape().Dimensions...)) // [0, 1)
	keep := GreaterOrEqual(u, Scalar(g, x.DType(), rate))
	return noted(scope, kind, Where(keep, DivScalar(x, 1-rate), ZerosLike(x)), 0)
}

// microstep is the number of this execution of g, the same node each time.
func microstep(store *model.Store, g *Graph) *Node {
	const key = "/nets_microstep"
	if n, ok := model.GetGraphParam(g, key); ok {
		return n.(*Node)
	}
	v := store.VariableWithValue(MicrostepVariable, int64(0)).SetTrainable(false)
	n := v.NodeValue(g)
	v.SetNodeValue(OnePlus(n))
	model.SetGraphParam(g, key, n)
	return n
}
