package cpu

import (
	"math"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// Elementwise operations, counting and reductions of types other than float32,
// number by number: step counters, addresses of noise, labels, masks, metrics. In
// training they are small; float32 has programs (fuse.go) instead.

type integer interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64
}

type number interface{ integer | float32 | float64 }

// A mapKernel computes n elements of dst, which are contiguous, from operands that
// lie the given numbers of elements apart.
type mapKernel func(dst unsafe.Pointer, n int, in [3]unsafe.Pointer, strides [3]int)

func at[T any](p unsafe.Pointer, i int) T { return *(*T)(unsafe.Add(p, i*int(unsafe.Sizeof(*new(T))))) }

func map1[T, R any](f func(T) R) mapKernel {
	return func(dst unsafe.Pointer, n int, in [3]unsafe.Pointer, s [3]int) {
		for i := range unsafe.Slice((*R)(dst), n) {
			unsafe.Slice((*R)(dst), n)[i] = f(at[T](in[0], i*s[0]))
		}
	}
}

func map2[T, R any](f func(x, y T) R) mapKernel {
	return func(dst unsafe.Pointer, n int, in [3]unsafe.Pointer, s [3]int) {
		for i := range unsafe.Slice((*R)(dst), n) {
			unsafe.Slice((*R)(dst), n)[i] = f(at[T](in[0], i*s[0]), at[T](in[1], i*s[1]))
		}
	}
}

// where chooses elements of any type of that size.
func where[T any](dst unsafe.Pointer, n int, in [3]unsafe.Pointer, s [3]int) {
	for i := range unsafe.Slice((*T)(dst), n) {
		if at[uint8](in[0], i*s[0]) != 0 {
			unsafe.Slice((*T)(dst), n)[i] = at[T](in[1], i*s[1])
		} else {
			unsafe.Slice((*T)(dst), n)[i] = at[T](in[2], i*s[2])
		}
	}
}

// numberKernel returns the operation on numbers of a type, or nil.
func numberKernel[T number](op compute.OpType) mapKernel {
	switch op {
	case compute.OpTypeAdd:
		return map2(func(x, y T) T { return x + y })
	case compute.OpTypeSub:
		return map2(func(x, y T) T { return x - y })
	case compute.OpTypeMul:
		return map2(func(x, y T) T { return x * y })
	case compute.OpTypeDiv: // by an integer zero: an error when it runs
		return map2(func(x, y T) T { return x / y })
	case compute.OpTypeMax:
		return map2(func(x, y T) T { return max(x, y) })
	case compute.OpTypeMin:
		return map2(func(x, y T) T { return min(x, y) })
	case compute.OpTypeEqual:
		return map2(func(x, y T) bool { return x == y })
	case compute.OpTypeNotEqual:
		return map2(func(x, y T) bool { return x != y })
	case compute.OpTypeLessThan:
		return map2(func(x, y T) bool { return x < y })
	case compute.OpTypeLessOrEqual:
		return map2(func(x, y T) bool { return x <= y })
	case compute.OpTypeGreaterThan:
		return map2(func(x, y T) bool { return x > y })
	case compute.OpTypeGreaterOrEqual:
		return map2(func(x, y T) bool { return x >= y })
	case compute.OpTypeNeg:
		return map1(func(x T) T { return -x })
	case compute.OpTypeAbs:
		return map1(func(x T) T {
			if x <= 0 {
				return 0 - x // a negative zero becomes a positive one
			}
			return x
		})
	case compute.OpTypeSign:
		return map1(func(x T) T {
			switch {
			case x > 0:
				return 1
			case x < 0:
				x = 0
				return x - 1
			}
			return x
		})
	}
	return nil
}

func integerKernel[T integer](op compute.OpType) mapKernel {
	switch op {
	case compute.OpTypeRem:
		return map2(func(x, y T) T { return x % y })
	case compute.OpTypeBitwiseAnd:
		return map2(func(x, y T) T { return x & y })
	case compute.OpTypeBitwiseOr:
		return map2(func(x, y T) T { return x | y })
	case compute.OpTypeBitwiseXor:
		return map2(func(x, y T) T { return x ^ y })
	case compute.OpTypeBitwiseNot:
		return map1(func(x T) T { return ^x })
	// A shift by the width or more, or by a negative number, shifts everything out.
	case compute.OpTypeShiftLeft:
		return map2(func(x, y T) T { return x << uint(y) })
	case compute.OpTypeShiftRightArithmetic, compute.OpTypeShiftRightLogical:
		return map2(func(x, y T) T { return x >> uint(y) })
	}
	return numberKernel[T](op)
}

func boolKernel(op compute.OpType) mapKernel {
	switch op {
	case compute.OpTypeEqual:
		return map2(func(x, y bool) bool { return x == y })
	case compute.OpTypeNotEqual, compute.OpTypeLogicalXor:
		return map2(func(x, y bool) bool { return x != y })
	case compute.OpTypeLogicalAnd:
		return map2(func(x, y bool) bool { return x && y })
	case compute.OpTypeLogicalOr:
		return map2(func(x, y bool) bool { return x || y })
	case compute.OpTypeLogicalNot:
		return map1(func(x bool) bool { return !x })
	}
	return nil
}

func doubleKernel(op compute.OpType) mapKernel {
	if f := map[compute.OpType]func(float64) float64{
		compute.OpTypeSqrt: math.Sqrt, compute.OpTypeFloor: math.Floor, compute.OpTypeCeil: math.Ceil,
		compute.OpTypeRound: math.RoundToEven, compute.OpTypeExp: math.Exp, compute.OpTypeLog: math.Log,
		compute.OpTypeExpm1: math.Expm1, compute.OpTypeLog1p: math.Log1p, compute.OpTypeTanh: math.Tanh,
		compute.OpTypeErf: math.Erf, compute.OpTypeSin: math.Sin, compute.OpTypeCos: math.Cos,
		compute.OpTypeRsqrt:    func(x float64) float64 { return 1 / math.Sqrt(x) },
		compute.OpTypeLogistic: func(x float64) float64 { return 1 / (1 + math.Exp(-x)) },
	}[op]; f != nil {
		return map1(f)
	}
	switch op {
	case compute.OpTypePow:
		return map2(math.Pow)
	case compute.OpTypeRem:
		return map2(math.Mod)
	}
	return numberKernel[float64](op)
}

func convertFrom[T number](to dtypes.DType) mapKernel {
	switch to {
	case dtypes.Int8:
		return map1(func(x T) int8 { return int8(x) })
	case dtypes.Int16:
		return map1(func(x T) int16 { return int16(x) })
	case dtypes.Int32:
		return map1(func(x T) int32 { return int32(x) })
	case dtypes.Int64:
		return map1(func(x T) int64 { return int64(x) })
	case dtypes.Uint8:
		return map1(func(x T) uint8 { return uint8(x) })
	case dtypes.Uint16:
		return map1(func(x T) uint16 { return uint16(x) })
	case dtypes.Uint32:
		return map1(func(x T) uint32 { return uint32(x) })
	case dtypes.Uint64:
		return map1(func(x T) uint64 { return uint64(x) })
	case dtypes.Float32:
		return map1(func(x T) float32 { return float32(x) })
	case dtypes.Float64:
		return map1(func(x T) float64 { return float64(x) })
	case dtypes.Bool:
		return map1(func(x T) bool { return x != 0 })
	}
	return nil
}

var unsigned = map[dtypes.DType]dtypes.DType{dtypes.Int8: dtypes.Uint8, dtypes.Int16: dtypes.Uint16,
	dtypes.Int32: dtypes.Uint32, dtypes.Int64: dtypes.Uint64}

// mapOf returns the kernel of an elementwise operation, or nil.
func mapOf(n *node) mapKernel {
	op, in, out := compute.OpType(n.op), n.inputs[0].shape.DType, n.outputs[0].shape.DType
	switch op {
	case compute.OpTypeWhere:
		switch elementBytes(n.outputs[0].shape) {
		case 1:
			return where[uint8]
		case 2:
			return where[uint16]
		case 4:
			return where[uint32]
		case 8:
			return where[uint64]
		}
		return nil
	case compute.OpTypeConvertDType:
		switch in {
		case dtypes.Int8:
			return convertFrom[int8](out)
		case dtypes.Int16:
			return convertFrom[int16](out)
		case dtypes.Int32:
			return convertFrom[int32](out)
		case dtypes.Int64:
			return convertFrom[int64](out)
		case dtypes.Uint8, dtypes.Bool: // truth is 1
			return convertFrom[uint8](out)
		case dtypes.Uint16:
			return convertFrom[uint16](out)
		case dtypes.Uint32:
			return convertFrom[uint32](out)
		case dtypes.Uint64:
			return convertFrom[uint64](out)
		case dtypes.Float32:
			return convertFrom[float32](out)
		case dtypes.Float64:
			return convertFrom[float64](out)
		}
		return nil
	case compute.OpTypeShiftRightLogical: // on the bits, whatever the sign
		if t, ok := unsigned[in]; ok {
			in = t
		}
	}
	switch in {
	case dtypes.Int8:
		return integerKernel[int8](op)
	case dtypes.Int16:
		return integerKernel[int16](op)
	case dtypes.Int32:
		return integerKernel[int32](op)
	case dtypes.Int64:
		return integerKernel[int64](op)
	case dtypes.Uint8:
		return integerKernel[uint8](op)
	case dtypes.Uint16:
		return integerKernel[uint16](op)
	case dtypes.Uint32:
		return integerKernel[uint32](op)
	case dtypes.Uint64:
		return integerKernel[uint64](op)
	case dtypes.Float64:
		return doubleKernel(op)
	case dtypes.Bool:
		return boolKernel(op)
	}
	return nil
}

// A mapStep runs a kernel over tensors, of which operands may be spread along
// axes.
type mapStep struct {
	kernel  mapKernel
	out     int
	outSize int // bytes of an element
	in      []int
	inSize  [3]int
	dims    []int
	strides [3][]int // in elements, along dims
}

func lowerMap(c *compiler, n *node) (step, int) {
	out := n.outputs[0].shape
	if len(n.inputs) == 0 || len(n.inputs) > 3 || out.Size() == 0 {
		return nil, 0
	}
	kernel := mapOf(n)
	if kernel == nil {
		return nil, 0
	}
	s := &mapStep{kernel: kernel, out: c.slot(n.outputs[0]), outSize: out.DType.Size(), in: c.slotsOf(n.inputs)}
	full := [3][]int{}
	for i := range 3 {
		full[i] = make([]int, out.Rank())
	}
	for i, v := range n.inputs {
		s.inSize[i] = v.shape.DType.Size()
		if v.shape.Rank() != 0 && v.shape.Rank() != out.Rank() {
			return nil, 0
		}
		for axis, stride := range stridesOf(v.shape.Dimensions) {
			if v.shape.Dimensions[axis] > 1 {
				full[i][axis] = stride
			}
		}
	}
	// Axes that all operands walk as one are one.
	for axis, d := range out.Dimensions {
		if d == 1 {
			continue
		}
		last := len(s.dims) - 1
		joins := last >= 0
		for i := range n.inputs {
			joins = joins && s.strides[i][last] == d*full[i][axis]
		}
		if joins {
			s.dims[last] *= d
		} else {
			s.dims = append(s.dims, d)
			last++
		}
		for i := range 3 {
			s.strides[i] = append(s.strides[i][:last], full[i][axis])
		}
	}
	if len(s.dims) == 0 {
		s.dims = []int{1}
		for i := range 3 {
			s.strides[i] = []int{0}
		}
	}
	return s, 0
}

// rows is the number of runs along the innermost axis, perPart how many of them a
// worker takes at a time.
func (s *mapStep) rows() (rows, perPart int) {
	rows = 1
	for _, d := range s.dims[:len(s.dims)-1] {
		rows *= d
	}
	return rows, max(1, targetChunk/s.dims[len(s.dims)-1])
}

func (s *mapStep) run(x *frame) error {
	rows, perPart := s.rows()
	x.parallel((rows+perPart-1)/perPart, s)
	return nil
}

func (s *mapStep) part(x *frame, _, i int) {
	rows, perPart := s.rows()
	last := len(s.dims) - 1
	n := s.dims[last]
	dst := unsafe.Pointer(&x.memory[s.out][0])
	var base, in [3]unsafe.Pointer
	var strides [3]int
	for j, slot := range s.in {
		base[j], strides[j] = unsafe.Pointer(&x.memory[slot][0]), s.strides[j][last]
	}
	for row := i * perPart; row < min((i+1)*perPart, rows); row++ {
		for j := range s.in {
			offset, rest := 0, row
			for axis := last - 1; axis >= 0; axis-- {
				offset += rest % s.dims[axis] * s.strides[j][axis]
				rest /= s.dims[axis]
			}
			in[j] = unsafe.Add(base[j], offset*s.inSize[j])
		}
		s.kernel(unsafe.Add(dst, row*n*s.outSize), n, in, strides)
	}
}

// An iotaStep counts along an axis.
type iotaStep struct {
	out, middle, inner int
	kernel             mapKernel // int64 to the type
	size               int
}

func lowerIota(c *compiler, n *node) (step, int) {
	out := n.outputs[0].shape
	kernel := convertFrom[int64](out.DType)
	if kernel == nil || out.DType == dtypes.Bool || out.Size() == 0 {
		return nil, 0
	}
	axis := n.attrs.(iotaAttrs).axis
	s := &iotaStep{out: c.slot(n.outputs[0]), middle: out.Dimensions[axis], inner: 1, kernel: kernel, size: out.DType.Size()}
	for _, d := range out.Dimensions[axis+1:] {
		s.inner *= d
	}
	return s, 0
}

func (s *iotaStep) run(x *frame) error {
	dst := x.memory[s.out]
	count := s.middle * s.inner * s.size
	for i := range s.middle {
		v := int64(i)
		s.kernel(unsafe.Pointer(&dst[i*s.inner*s.size]), s.inner, [3]unsafe.Pointer{unsafe.Pointer(&v)}, [3]int{})
	}
	for n := count; n < len(dst); n *= 2 {
		copy(dst[n:], dst[:n])
	}
	return nil
}

// A reduceKernel reduces a tensor seen as [outer, middle, inner] over the middle.
type reduceKernel func(dst, src unsafe.Pointer, outer, middle, inner int)

func reduceBy[T any](f func(x, y T) T) reduceKernel {
	return func(dst, src unsafe.Pointer, outer, middle, inner int) {
		in, out := unsafe.Slice((*T)(src), outer*middle*inner), unsafe.Slice((*T)(dst), outer*inner)
		for o := range outer {
			to := out[o*inner : (o+1)*inner]
			copy(to, in[o*middle*inner:])
			for m := 1; m < middle; m++ {
				for j, v := range in[(o*middle+m)*inner : (o*middle+m+1)*inner] {
					to[j] = f(to[j], v)
				}
			}
		}
	}
}

func reduceNumbers[T number](op compute.OpType) reduceKernel {
	switch op {
	case compute.OpTypeReduceSum:
		return reduceBy(func(x, y T) T { return x + y })
	case compute.OpTypeReduceProduct:
		return reduceBy(func(x, y T) T { return x * y })
	case compute.OpTypeReduceMax:
		return reduceBy(func(x, y T) T { return max(x, y) })
	case compute.OpTypeReduceMin:
		return reduceBy(func(x, y T) T { return min(x, y) })
	}
	return nil
}

// reduceKernelOf returns the reduction for a type that reduce.go has not.
func reduceKernelOf(op compute.OpType, t dtypes.DType) reduceKernel {
	switch t {
	case dtypes.Int8:
		return reduceNumbers[int8](op)
	case dtypes.Int16:
		return reduceNumbers[int16](op)
	case dtypes.Int32:
		return reduceNumbers[int32](op)
	case dtypes.Int64:
		return reduceNumbers[int64](op)
	case dtypes.Uint8:
		return reduceNumbers[uint8](op)
	case dtypes.Uint16:
		return reduceNumbers[uint16](op)
	case dtypes.Uint32:
		return reduceNumbers[uint32](op)
	case dtypes.Uint64:
		return reduceNumbers[uint64](op)
	case dtypes.Float32:
		return reduceNumbers[float32](op)
	case dtypes.Float64:
		return reduceNumbers[float64](op)
	case dtypes.Bool:
		switch op {
		case compute.OpTypeReduceLogicalAnd:
			return reduceBy(func(x, y bool) bool { return x && y })
		case compute.OpTypeReduceLogicalOr:
			return reduceBy(func(x, y bool) bool { return x || y })
		case compute.OpTypeReduceLogicalXor:
			return reduceBy(func(x, y bool) bool { return x != y })
		}
	}
	return nil
}

// A scalarReduceStep runs such a kernel.
type scalarReduceStep struct {
	kernel               reduceKernel
	x, y                 int
	outer, middle, inner int
}

func (s *scalarReduceStep) run(x *frame) error {
	s.kernel(unsafe.Pointer(&x.memory[s.y][0]), unsafe.Pointer(&x.memory[s.x][0]), s.outer, s.middle, s.inner)
	return nil
}

// reducedAxes sees a reduction as one over the middle of [outer, middle, inner].
// Where the reduced axes are not neighbours, order is a copy of the operand that
// moves them to the end.
func reducedAxes(c *compiler, n *node) (outer, middle, inner, x int, order *stridedCopy) {
	in := n.inputs[0].shape
	axes := n.attrs.(axesAttrs).axes
	reduced := make([]bool, in.Rank())
	for _, a := range axes {
		reduced[a] = true
	}
	outer, middle, inner, x = 1, 1, 1, c.slot(n.inputs[0])
	phase, neighbours := 0, true // phase 0: outer, 1: middle, 2: inner
	for i, d := range in.Dimensions {
		r := reduced[i] || len(axes) == 0
		switch {
		case d == 1:
		case r:
			neighbours = neighbours && phase < 2
			phase = 1
			middle *= d
		case phase == 0:
			outer *= d
		default:
			phase = 2
			inner *= d
		}
	}
	if neighbours {
		return outer, middle, inner, x, nil
	}
	var p copyPlan
	own := stridesOf(in.Dimensions)
	for _, last := range []bool{false, true} {
		for i, d := range in.Dimensions {
			if reduced[i] == last {
				p.dims = append(p.dims, d)
				p.srcStrides = append(p.srcStrides, own[i])
			}
		}
	}
	p.dstStrides = stridesOf(p.dims)
	ordered := c.slot(c.temporary(n, shapes.Make(in.DType, p.dims...)))
	return outer * inner, middle, 1, ordered, &stridedCopy{src: x, dst: ordered, size: in.DType.Size(), copyPlan: p.merged()}
}

func lowerBitcast(c *compiler, n *node) (step, int) {
	if len(n.inputs[0].shape.Dimensions) != len(n.outputs[0].shape.Dimensions) || elementBytes(n.inputs[0].shape) == 0 ||
		elementBytes(n.inputs[0].shape) != elementBytes(n.outputs[0].shape) || n.outputs[0].shape.Size() == 0 {
		return nil, 0
	}
	return lowerStrided(c, n, 0, stridesOf(n.outputs[0].shape.Dimensions))
}

// firstBest finds the position of the largest or smallest element along an axis,
// the first of several; a NaN wins over everything.
func firstBest[T number](src unsafe.Pointer, start, step, n int, isMin bool) int {
	at := 0
	best := *(*T)(unsafe.Add(src, start*int(unsafe.Sizeof(T(0)))))
	for i := 1; i < n && best == best; i++ {
		v := *(*T)(unsafe.Add(src, (start+i*step)*int(unsafe.Sizeof(T(0)))))
		if v != v || !isMin && v > best || isMin && v < best {
			best, at = v, i
		}
	}
	return at
}

var firstBestOf = map[dtypes.DType]func(src unsafe.Pointer, start, step, n int, isMin bool) int{
	dtypes.Int8: firstBest[int8], dtypes.Int16: firstBest[int16], dtypes.Int32: firstBest[int32], dtypes.Int64: firstBest[int64],
	dtypes.Uint8: firstBest[uint8], dtypes.Uint16: firstBest[uint16], dtypes.Uint32: firstBest[uint32], dtypes.Uint64: firstBest[uint64],
	dtypes.Float32: firstBest[float32], dtypes.Float64: firstBest[float64],
}
