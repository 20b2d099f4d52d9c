package smoothout

import (
	. "github.com/gomlx/gomlx/core/graph"

	"github.com/openpith/evidence/internal/seed"
)

// An address names one draw of noise: the purpose keeps training and
// evaluation apart, the number (a scalar int64 node) counts micro-steps or
// draws. Together with the seed and the path of a variable it decides the
// random state, and nothing else does.
type address struct {
	purpose string
	number  *Node
}

// states returns for each parameter the state from which the generator of the
// backend draws its noise: Philox where the backend has it.
//
//	state_p = mix(hash(seed, purpose, path_p) + number·odd)   three words each
//
// The number is mixed into all words. Were it only added to a counter word, as
// generators invite one to do, the noise of the next step would be the noise
// of this step moved by a few elements.
func (a address) states(g *Graph, s int64, params []noisyParam) []*Node {
	keys := make([][]uint64, len(params))
	for i, p := range params {
		w := seed.Words(s, "smoothout", a.purpose, p.Path())
		keys[i] = w[:RNGStateShape.Size()]
	}
	number := ConvertDType(a.number, RNGStateShape.DType)
	z := Add(Const(g, keys), times(number, 0x9e3779b97f4a7c15))
	// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
	z = times(xorShift(z, 30), 0xbf58476d1ce4e5b9)
	z = times(xorShift(z, 27), 0x94d049bb133111eb)
	z = xorShift(z, 31) // [params, 3]

	states := make([]*Node, len(params))
	for i := range states {
		states[i] = Reshape(Slice(z, AxisElem(i)), RNGStateShape.Dimensions...)
	}
	return states
}

func xorShift(z *Node, n uint64) *Node {
	return BitwiseXor(z, BitwiseShiftRightLogicalScalar(z, n))
}

// times multiplies modulo 2^64. (MulScalar takes its scalar through a float64,
// which has no room for such a constant.)
func times(z *Node, k uint64) *Node { return Mul(z, Const(z.Graph(), k)) }
