package cpu

import (
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/pkg/errors"
)

// The attributes of operations: all that determines the result besides the
// inputs, so that equal attributes of equal inputs mean equal results.
type (
	axesAttrs      struct{ axes []int }
	dtypeAttrs     struct{ dtype dtypes.DType }
	broadcastAttrs struct{ axes []int }
	iotaAttrs      struct{ axis int }
	argMinMaxAttrs struct {
		axis  int
		isMin bool
	}
	concatAttrs struct{ axis int }
	padAttrs    struct{ axes []compute.PadAxis }
	sliceAttrs  struct{ starts, limits, strides []int }
	dotAttrs    struct {
		lhsContracting, lhsBatch, rhsContracting, rhsBatch []int
		config                                             compute.DotGeneralConfig
	}
	convAttrs struct {
		axes                            compute.ConvolveAxesConfig
		strides                         []int
		paddings                        [][2]int
		inputDilations, kernelDilations []int
		channelGroups, batchGroups      int
		reverseKernel                   bool // set by the compiler: the kernel is mirrored in space
	}
	windowAttrs struct {
		reduction                                        compute.ReduceOpType
		window, strides, inputDilations, windowDilations []int
		paddings                                         [][2]int
	}
	gatherAttrs struct {
		indexVectorAxis                                                 int
		offsetOutputAxes, collapsedSliceAxes, startIndexMap, sliceSizes []int
		sorted                                                          bool
	}
	scatterAttrs struct {
		indexVectorAxis                                                int
		updateWindowAxes, insertedWindowAxes, scatterAxesToOperandAxes []int
		sorted, unique                                                 bool
	}
	batchNormAttrs struct {
		epsilon float32
		axis    int
	}
	fftAttrs struct {
		kind   compute.FFTType
		length []int
	}
	sizesAttrs struct{ sizes []int }
	quantAttrs struct {
		scheme     compute.QuantizationScheme
		axis, size int
		ggml       compute.GGMLQuantType
		activation compute.ActivationType
		serial     int64
	}
)

// single returns the only output of an operation.
func single(n *node, err error) (compute.Value, error) {
	if err != nil {
		return nil, err
	}
	return n.outputs[0], nil
}

// axesOf copies axes of a value, negative ones counted from the end.
func axesOf(x compute.Value, axes []int) []int {
	axes = slices.Clone(axes)
	if v, ok := x.(*value); ok && v != nil {
		for i, a := range axes {
			if a < 0 {
				axes[i] = a + v.shape.Rank()
			}
		}
	}
	return axes
}

// list makes a slice of the results of a method that returns one value.
func list(v compute.Value, err error) ([]compute.Value, error) { return []compute.Value{v}, err }

func (f *Function) unary(op compute.OpType, method func(compute.Function, compute.Value) (compute.Value, error), x compute.Value) (compute.Value, error) {
	return single(f.inferred(opcode(op), nil, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) { return list(method(g, in[0])) }))
}

func (f *Function) binary(op compute.OpType, method func(compute.Function, compute.Value, compute.Value) (compute.Value, error), lhs, rhs compute.Value) (compute.Value, error) {
	return single(f.inferred(opcode(op), nil, []compute.Value{lhs, rhs},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(method(g, in[0], in[1]))
		}))
}

func (f *Function) reduction(op compute.OpType, method func(compute.Function, compute.Value, ...int) (compute.Value, error), x compute.Value, axes []int) (compute.Value, error) {
	axes = axesOf(x, axes)
	return single(f.inferred(opcode(op), axesAttrs{axes}, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(method(g, in[0], axes...))
		}))
}

// ArgMinMax records the operation of that name.
func (f *Function) ArgMinMax(x compute.Value, axis int, dtype dtypes.DType, isMin bool) (compute.Value, error) {
	return single(f.inferred(opcode(compute.OpTypeArgMinMax), argMinMaxAttrs{axis, isMin}, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.ArgMinMax(in[0], axis, dtype, isMin))
		}))
}

// Bitcast records the operation of that name.
func (f *Function) Bitcast(x compute.Value, dtype dtypes.DType) (compute.Value, error) {
	return single(f.inferred(opcode(compute.OpTypeBitcast), dtypeAttrs{dtype}, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.Bitcast(in[0], dtype))
		}))
}

// BroadcastInDim records the operation of that name.
func (f *Function) BroadcastInDim(x compute.Value, shape shapes.Shape, axes []int) (compute.Value, error) {
	axes = slices.Clone(axes)
	return single(f.inferred(opcode(compute.OpTypeBroadcastInDim), broadcastAttrs{axes}, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.BroadcastInDim(in[0], shape, axes))
		}))
}

// Clamp records the operation of that name.
func (f *Function) Clamp(lowest, x, highest compute.Value) (compute.Value, error) {
	bounded, err := f.Max(x, lowest)
	if err != nil {
		return nil, err
	}
	return f.Min(bounded, highest)
}

// Concatenate records the operation of that name.
func (f *Function) Concatenate(axis int, operands ...compute.Value) (compute.Value, error) {
	if len(operands) > 0 {
		axis = axesOf(operands[0], []int{axis})[0]
	}
	return single(f.inferred(opcode(compute.OpTypeConcatenate), concatAttrs{axis}, operands,
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.Concatenate(axis, in...))
		}))
}

// ConvertDType records the operation of that name.
func (f *Function) ConvertDType(x compute.Value, dtype dtypes.DType) (compute.Value, error) {
	return single(f.inferred(opcode(compute.OpTypeConvertDType), dtypeAttrs{dtype}, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.ConvertDType(in[0], dtype))
		}))
}

// ConvGeneral records the operation of that name.
func (f *Function) ConvGeneral(input, kernel compute.Value, axes compute.ConvolveAxesConfig, strides []int, paddings [][2]int,
	inputDilations, kernelDilations []int, channelGroups, batchGroups int) (compute.Value, error) {
	a := convAttrs{axes: axes.Clone(), strides: slices.Clone(strides), paddings: slices.Clone(paddings),
		inputDilations: slices.Clone(inputDilations), kernelDilations: slices.Clone(kernelDilations),
		channelGroups: max(channelGroups, 1), batchGroups: max(batchGroups, 1)}
	return single(f.inferred(opcode(compute.OpTypeConvGeneral), a, []compute.Value{input, kernel},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.ConvGeneral(in[0], in[1], a.axes, a.strides, a.paddings, a.inputDilations, a.kernelDilations,
				a.channelGroups, a.batchGroups))
		}))
}

// DotGeneral records the operation of that name.
func (f *Function) DotGeneral(lhs compute.Value, lhsContracting, lhsBatch []int, rhs compute.Value, rhsContracting, rhsBatch []int,
	config compute.DotGeneralConfig) (compute.Value, error) {
	a := dotAttrs{axesOf(lhs, lhsContracting), axesOf(lhs, lhsBatch), axesOf(rhs, rhsContracting), axesOf(rhs, rhsBatch), config}
	return single(f.inferred(opcode(compute.OpTypeDotGeneral), a, []compute.Value{lhs, rhs},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.DotGeneral(in[0], a.lhsContracting, a.lhsBatch, in[1], a.rhsContracting, a.rhsBatch, config))
		}))
}

// DynamicSlice copies a window of the given sizes that starts at scalars, moved
// inside the operand where it is not.
func (f *Function) DynamicSlice(operand compute.Value, starts []compute.Value, sizes []int) (compute.Value, error) {
	sizes = slices.Clone(sizes)
	inputs, err := f.dynamicSlice("DynamicSlice", []compute.Value{operand}, starts, func(_ []*value) []int { return sizes })
	if err != nil {
		return nil, err
	}
	return single(f.record(opcode(compute.OpTypeDynamicSlice), sizesAttrs{sizes}, inputs,
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.DynamicSlice(in[0], in[1:], sizes))
		}, shapes.Make(inputs[0].shape.DType, sizes...)))
}

// DynamicUpdateSlice copies the operand with update in the window that starts at
// scalars, moved inside the operand where it is not.
func (f *Function) DynamicUpdateSlice(operand, update compute.Value, starts []compute.Value) (compute.Value, error) {
	inputs, err := f.dynamicSlice("DynamicUpdateSlice", []compute.Value{operand, update}, starts,
		func(in []*value) []int { return in[1].shape.Dimensions })
	if err != nil {
		return nil, err
	}
	if inputs[0].shape.DType != inputs[1].shape.DType {
		return nil, errors.Errorf("cpu: DynamicUpdateSlice of %s by %s: the types differ", inputs[0].shape, inputs[1].shape)
	}
	return single(f.record(opcode(compute.OpTypeDynamicUpdateSlice), nil, inputs,
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.DynamicUpdateSlice(in[0], in[1], in[2:]))
		}, inputs[0].shape))
}

// dynamicSlice checks the operands of the two above, of which the reference
// backend knows nothing.
func (f *Function) dynamicSlice(op string, tensors, starts []compute.Value, sizes func(in []*value) []int) ([]*value, error) {
	inputs, err := f.resolve(op, slices.Concat(tensors, starts))
	if err != nil {
		return nil, err
	}
	operand, places, window := inputs[0].shape, inputs[len(tensors):], sizes(inputs)
	if len(places) == 1 && places[0].shape.Rank() == 1 && places[0].shape.Dimensions[0] == operand.Rank() && isIndex(places[0].shape.DType) {
		// All places in one vector.
		vector := compute.Value(places[0])
		starts = nil
		for i := range operand.Rank() {
			at, err := f.Slice(vector, []int{i}, []int{i + 1}, nil)
			if err == nil {
				at, err = f.Reshape(at)
			}
			if err != nil {
				return nil, err
			}
			starts = append(starts, at)
		}
		return f.dynamicSlice(op, tensors, starts, sizes)
	}
	fits := len(window) == operand.Rank() && len(places) == operand.Rank()
	for i, d := range window {
		fits = fits && d >= 0 && d <= operand.Dimensions[i]
	}
	for _, v := range places {
		fits = fits && v.shape.Rank() == 0 && isIndex(v.shape.DType) && v.shape.DType == places[0].shape.DType
	}
	if !fits {
		return nil, errors.Errorf("cpu: %s: a window of %v does not fit %s, or its start %v is neither one integer scalar per axis, all of one type, nor a vector of them",
			op, window, operand, inputShapes(places))
	}
	return inputs, nil
}

// isIndex reports whether numbers of a type can say where something lies.
func isIndex(t dtypes.DType) bool { return t.IsInt() && !t.IsPacked() }

// checkIndices checks the type of the indices of a gather or scatter, which the
// reference backend does not.
func (f *Function) checkIndices(op compute.OpType, indices compute.Value) error {
	in, err := f.resolve(op.String(), []compute.Value{indices})
	if err != nil {
		return err
	}
	if !isIndex(in[0].shape.DType) {
		return errors.Errorf("cpu: %s: the indices are %s; convert them to integers of a byte or more", op, in[0].shape)
	}
	return nil
}

// FFT records the operation of that name.
func (f *Function) FFT(x compute.Value, kind compute.FFTType, length []int) (compute.Value, error) {
	length = slices.Clone(length)
	return single(f.inferred(opcode(compute.OpTypeFFT), fftAttrs{kind, length}, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.FFT(in[0], kind, length))
		}))
}

// Gather records the operation of that name.
func (f *Function) Gather(operand, starts compute.Value, indexVectorAxis int,
	offsetOutputAxes, collapsedSliceAxes, startIndexMap, sliceSizes []int, sorted bool) (compute.Value, error) {
	if err := f.checkIndices(compute.OpTypeGather, starts); err != nil {
		return nil, err
	}
	a := gatherAttrs{indexVectorAxis, slices.Clone(offsetOutputAxes), slices.Clone(collapsedSliceAxes),
		slices.Clone(startIndexMap), slices.Clone(sliceSizes), sorted}
	return single(f.inferred(opcode(compute.OpTypeGather), a, []compute.Value{operand, starts},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.Gather(in[0], in[1], a.indexVectorAxis, a.offsetOutputAxes, a.collapsedSliceAxes, a.startIndexMap, a.sliceSizes, sorted))
		}))
}

// Iota records the operation of that name.
func (f *Function) Iota(shape shapes.Shape, axis int) (compute.Value, error) {
	return single(f.inferred(opcode(compute.OpTypeIota), iotaAttrs{axis}, nil,
		func(g compute.Function, _ []compute.Value) ([]compute.Value, error) { return list(g.Iota(shape, axis)) }))
}

// OptimizationBarrier records the operation of that name. Nothing here reorders
// floating-point operations, so the values pass unchanged.
func (f *Function) OptimizationBarrier(operands ...compute.Value) ([]compute.Value, error) {
	if _, err := f.resolve("OptimizationBarrier", operands); err != nil {
		return nil, err
	}
	return operands, nil
}

// SchedulingBarrier returns the operand: steps run in the order in which they
// were recorded.
func (f *Function) SchedulingBarrier(operand compute.Value, dependencies ...compute.Value) (compute.Value, error) {
	if _, err := f.resolve("SchedulingBarrier", append([]compute.Value{operand}, dependencies...)); err != nil {
		return nil, err
	}
	return operand, nil
}

// Pad records the operation of that name.
func (f *Function) Pad(x, fill compute.Value, axes ...compute.PadAxis) (compute.Value, error) {
	axes = slices.Clone(axes)
	return single(f.inferred(opcode(compute.OpTypePad), padAttrs{axes}, []compute.Value{x, fill},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.Pad(in[0], in[1], axes...))
		}))
}

// ReduceWindow records the operation of that name.
func (f *Function) ReduceWindow(x compute.Value, reduction compute.ReduceOpType, window, strides, inputDilations, windowDilations []int,
	paddings [][2]int) (compute.Value, error) {
	a := windowAttrs{reduction, slices.Clone(window), slices.Clone(strides), slices.Clone(inputDilations),
		slices.Clone(windowDilations), slices.Clone(paddings)}
	return single(f.inferred(opcode(compute.OpTypeReduceWindow), a, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.ReduceWindow(in[0], a.reduction, a.window, a.strides, a.inputDilations, a.windowDilations, a.paddings))
		}))
}

// Reshape records the operation of that name.
func (f *Function) Reshape(x compute.Value, dims ...int) (compute.Value, error) {
	dims = slices.Clone(dims)
	return single(f.inferred(opcode(compute.OpTypeReshape), nil, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.Reshape(in[0], dims...))
		}))
}

// Reverse records the operation of that name.
func (f *Function) Reverse(x compute.Value, axes ...int) (compute.Value, error) {
	axes = axesOf(x, axes)
	return single(f.inferred(opcode(compute.OpTypeReverse), axesAttrs{axes}, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.Reverse(in[0], axes...))
		}))
}

// RNGBitGenerator records the operation of that name.
func (f *Function) RNGBitGenerator(state compute.Value, shape shapes.Shape) (newState, bits compute.Value, err error) {
	n, err := f.inferred(opcode(compute.OpTypeRNGBitGenerator), nil, []compute.Value{state},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			a, b, err := g.RNGBitGenerator(in[0], shape)
			return []compute.Value{a, b}, err
		})
	if err != nil {
		return nil, nil, err
	}
	return n.outputs[0], n.outputs[1], nil
}

type scatterMethod = func(compute.Function, compute.Value, compute.Value, compute.Value, int, []int, []int, []int, bool, bool) (compute.Value, error)

func (f *Function) scatter(op compute.OpType, method scatterMethod, operand, indices, updates compute.Value, a scatterAttrs) (compute.Value, error) {
	if err := f.checkIndices(op, indices); err != nil {
		return nil, err
	}
	a.updateWindowAxes = slices.Clone(a.updateWindowAxes)
	a.insertedWindowAxes = slices.Clone(a.insertedWindowAxes)
	a.scatterAxesToOperandAxes = slices.Clone(a.scatterAxesToOperandAxes)
	return single(f.inferred(opcode(op), a, []compute.Value{operand, indices, updates},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(method(g, in[0], in[1], in[2], a.indexVectorAxis, a.updateWindowAxes, a.insertedWindowAxes,
				a.scatterAxesToOperandAxes, a.sorted, a.unique))
		}))
}

// ScatterMax records the operation of that name.
func (f *Function) ScatterMax(operand, indices, updates compute.Value, indexVectorAxis int, updateWindowAxes, insertedWindowAxes, scatterAxes []int, sorted, unique bool) (compute.Value, error) {
	return f.scatter(compute.OpTypeScatterMax, compute.Function.ScatterMax, operand, indices, updates,
		scatterAttrs{indexVectorAxis, updateWindowAxes, insertedWindowAxes, scatterAxes, sorted, unique})
}

// ScatterMin records the operation of that name.
func (f *Function) ScatterMin(operand, indices, updates compute.Value, indexVectorAxis int, updateWindowAxes, insertedWindowAxes, scatterAxes []int, sorted, unique bool) (compute.Value, error) {
	return f.scatter(compute.OpTypeScatterMin, compute.Function.ScatterMin, operand, indices, updates,
		scatterAttrs{indexVectorAxis, updateWindowAxes, insertedWindowAxes, scatterAxes, sorted, unique})
}

// ScatterSum records the operation of that name.
func (f *Function) ScatterSum(operand, indices, updates compute.Value, indexVectorAxis int, updateWindowAxes, insertedWindowAxes, scatterAxes []int, sorted, unique bool) (compute.Value, error) {
	return f.scatter(compute.OpTypeScatterSum, compute.Function.ScatterSum, operand, indices, updates,
		scatterAttrs{indexVectorAxis, updateWindowAxes, insertedWindowAxes, scatterAxes, sorted, unique})
}

// SelectAndScatterMax records the operation of that name.
func (f *Function) SelectAndScatterMax(operand, source compute.Value, window, strides []int, paddings [][2]int) (compute.Value, error) {
	return f.selectAndScatter(compute.OpTypeSelectAndScatterMax, compute.Function.SelectAndScatterMax, operand, source,
		windowAttrs{reduction: compute.ReduceOpMax, window: window, strides: strides, paddings: paddings})
}

// SelectAndScatterMin records the operation of that name.
func (f *Function) SelectAndScatterMin(operand, source compute.Value, window, strides []int, paddings [][2]int) (compute.Value, error) {
	return f.selectAndScatter(compute.OpTypeSelectAndScatterMin, compute.Function.SelectAndScatterMin, operand, source,
		windowAttrs{reduction: compute.ReduceOpMin, window: window, strides: strides, paddings: paddings})
}

func (f *Function) selectAndScatter(op compute.OpType, method func(compute.Function, compute.Value, compute.Value, []int, []int, [][2]int) (compute.Value, error),
	operand, source compute.Value, a windowAttrs) (compute.Value, error) {
	a.window, a.strides, a.paddings = slices.Clone(a.window), slices.Clone(a.strides), slices.Clone(a.paddings)
	return single(f.inferred(opcode(op), a, []compute.Value{operand, source},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(method(g, in[0], in[1], a.window, a.strides, a.paddings))
		}))
}

// Slice records the operation of that name.
func (f *Function) Slice(x compute.Value, starts, limits, strides []int) (compute.Value, error) {
	a := sliceAttrs{slices.Clone(starts), slices.Clone(limits), slices.Clone(strides)}
	return single(f.inferred(opcode(compute.OpTypeSlice), a, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.Slice(in[0], a.starts, a.limits, a.strides))
		}))
}

// Transpose records the operation of that name.
func (f *Function) Transpose(x compute.Value, permutation ...int) (compute.Value, error) {
	permutation = axesOf(x, permutation)
	return single(f.inferred(opcode(compute.OpTypeTranspose), axesAttrs{permutation}, []compute.Value{x},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.Transpose(in[0], permutation...))
		}))
}

// Where records the operation of that name.
func (f *Function) Where(condition, onTrue, onFalse compute.Value) (compute.Value, error) {
	return single(f.inferred(opcode(compute.OpTypeWhere), nil, []compute.Value{condition, onTrue, onFalse},
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return list(g.Where(in[0], in[1], in[2]))
		}))
}

// batchNormInputs checks what the three batch-norm operations have in common:
// float32, and one number per feature in every operand but the tensors.
func (f *Function) batchNormInputs(op compute.OpType, axis int, tensors []int, operands ...compute.Value) ([]*value, batchNormAttrs, error) {
	inputs, err := f.resolve(op.String(), operands)
	if err != nil {
		return nil, batchNormAttrs{}, err
	}
	x := inputs[0].shape
	if axis < 0 {
		axis += x.Rank()
	}
	if axis < 0 || axis >= x.Rank() {
		return nil, batchNormAttrs{}, errors.Errorf("cpu: %s: there is no axis %d in %s", op, axis, x)
	}
	feature := shapes.Make(x.DType, x.Dimensions[axis])
	for i, in := range inputs {
		want := feature
		if slices.Contains(tensors, i) {
			want = x
		}
		if !in.shape.Equal(want) {
			return nil, batchNormAttrs{}, errors.Errorf("cpu: %s: operand %d must be %s as the normalised tensor is %s, got %s", op, i, want, x, in.shape)
		}
	}
	if x.DType != dtypes.Float32 {
		return nil, batchNormAttrs{}, errors.Wrapf(compute.ErrNotImplemented, "cpu: %s of %s: only float32; convert, or use basic operations", op, x)
	}
	return inputs, batchNormAttrs{axis: axis}, nil
}

// BatchNormForInference records the operation of that name, for float32.
func (f *Function) BatchNormForInference(x, scale, offset, mean, variance compute.Value, epsilon float32, axis int) (compute.Value, error) {
	inputs, a, err := f.batchNormInputs(compute.OpTypeBatchNormForInference, axis, []int{0}, x, scale, offset, mean, variance)
	if err != nil {
		return nil, err
	}
	a.epsilon = epsilon
	return single(f.record(opcode(compute.OpTypeBatchNormForInference), a, inputs, nil, inputs[0].shape))
}

// BatchNormForTraining records the operation of that name, for float32. The
// variance is the biased one: the mean of squared distances to the mean.
func (f *Function) BatchNormForTraining(x, scale, offset compute.Value, epsilon float32, axis int) (normalized, mean, variance compute.Value, err error) {
	inputs, a, err := f.batchNormInputs(compute.OpTypeBatchNormForTraining, axis, []int{0}, x, scale, offset)
	if err != nil {
		return nil, nil, nil, err
	}
	a.epsilon = epsilon
	feature := inputs[1].shape
	n, err := f.record(opcode(compute.OpTypeBatchNormForTraining), a, inputs, nil, inputs[0].shape, feature, feature)
	if err != nil {
		return nil, nil, nil, err
	}
	return n.outputs[0], n.outputs[1], n.outputs[2], nil
}

// BatchNormGradient records the operation of that name, for float32.
func (f *Function) BatchNormGradient(x, scale, mean, variance, gradOutput compute.Value, epsilon float32, axis int) (gradX, gradScale, gradOffset compute.Value, err error) {
	inputs, a, err := f.batchNormInputs(compute.OpTypeBatchNormGradient, axis, []int{0, 4}, x, scale, mean, variance, gradOutput)
	if err != nil {
		return nil, nil, nil, err
	}
	a.epsilon = epsilon
	feature := inputs[1].shape
	n, err := f.record(opcode(compute.OpTypeBatchNormGradient), a, inputs, nil, inputs[0].shape, feature, feature)
	if err != nil {
		return nil, nil, nil, err
	}
	return n.outputs[0], n.outputs[1], n.outputs[2], nil
}

// QuantizedEmbeddingLookup records the operation of that name.
func (f *Function) QuantizedEmbeddingLookup(data, indices compute.Value, q *compute.Quantization) (compute.Value, error) {
	return f.quantized(compute.OpTypeQuantizedEmbeddingLookup, []compute.Value{data, indices}, q, compute.ActivationNone,
		func(g compute.Function, in []compute.Value, q *compute.Quantization) (compute.Value, error) {
			return g.QuantizedEmbeddingLookup(in[0], in[1], q)
		})
}

// FusedQuantizedDense records the operation of that name.
func (f *Function) FusedQuantizedDense(x, weights, bias compute.Value, q *compute.Quantization, activation compute.ActivationType) (compute.Value, error) {
	operands := []compute.Value{x, weights}
	if bias != nil {
		operands = append(operands, bias)
	}
	return f.quantized(compute.OpTypeFusedQuantizedDense, operands, q, activation,
		func(g compute.Function, in []compute.Value, q *compute.Quantization) (compute.Value, error) {
			var b compute.Value
			if bias != nil {
				b = in[2]
			}
			return g.FusedQuantizedDense(in[0], in[1], b, q, activation)
		})
}

// quantized records an operation on quantised data; scale and zero point are
// appended to its operands.
func (f *Function) quantized(op compute.OpType, operands []compute.Value, q *compute.Quantization, activation compute.ActivationType,
	build func(g compute.Function, in []compute.Value, q *compute.Quantization) (compute.Value, error)) (compute.Value, error) {
	if q == nil {
		return nil, errors.Errorf("cpu: %s needs a quantization", op)
	}
	all := slices.Clone(operands)
	scale, zero := -1, -1
	if q.Scale != nil {
		scale = len(all)
		all = append(all, q.Scale)
	}
	if q.ZeroPoint != nil {
		zero = len(all)
		all = append(all, q.ZeroPoint)
	}
	a := quantAttrs{q.Scheme, q.BlockAxis, q.BlockSize, q.GGMLType, activation, controlSerial.Add(1)}
	return single(f.inferred(opcode(op), a, all, func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
		inner := *q
		if scale >= 0 {
			inner.Scale = in[scale]
		}
		if zero >= 0 {
			inner.ZeroPoint = in[zero]
		}
		return list(build(g, in[:len(operands)], &inner))
	}))
}

// FusedAttentionQKVProjection records the operation of that name.
func (f *Function) FusedAttentionQKVProjection(x, wQKV, biasQ, biasK, biasV compute.Value, queryDim, keyValueDim int) (q, k, v compute.Value, err error) {
	operands := []compute.Value{x, wQKV}
	var at [3]int // where the biases are among the operands; 0: absent
	for i, bias := range []compute.Value{biasQ, biasK, biasV} {
		if bias != nil {
			at[i] = len(operands)
			operands = append(operands, bias)
		}
	}
	n, err := f.inferred(opcode(compute.OpTypeFusedAttentionQKVProjection), sizesAttrs{[]int{queryDim, keyValueDim, at[0], at[1], at[2]}}, operands,
		func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			var bias [3]compute.Value
			for i, j := range at {
				if j > 0 {
					bias[i] = in[j]
				}
			}
			q, k, v, err := g.FusedAttentionQKVProjection(in[0], in[1], bias[0], bias[1], bias[2], queryDim, keyValueDim)
			return []compute.Value{q, k, v}, err
		})
	if err != nil {
		return nil, nil, nil, err
	}
	return n.outputs[0], n.outputs[1], n.outputs[2], nil
}

// The fused operations below are declined, so that GoMLX records the primitive
// operations they stand for; these fuse with their neighbours.

// FusedSoftmax is declined.
func (f *Function) FusedSoftmax(compute.Value, int) (compute.Value, error) {
	return nil, f.ErrFn(compute.OpTypeFusedSoftmax)
}

// FusedGelu is declined.
func (f *Function) FusedGelu(compute.Value, bool) (compute.Value, error) {
	return nil, f.ErrFn(compute.OpTypeFusedGelu)
}

// FusedLayerNorm is declined.
func (f *Function) FusedLayerNorm(compute.Value, []int, float64, compute.Value, compute.Value) (compute.Value, error) {
	return nil, f.ErrFn(compute.OpTypeFusedLayerNorm)
}

// FusedDense is declined.
func (f *Function) FusedDense(_, _, _ compute.Value, _ compute.DenseConfig) (compute.Value, error) {
	return nil, f.ErrFn(compute.OpTypeFusedDense)
}
