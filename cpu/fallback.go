package cpu

import (
	"fmt"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/pkg/errors"
)

// The operations without a kernel here run on the "go" backend, each as an
// executable of its own. The same one-operation graph also infers and checks
// the shapes of operations when they are recorded.

// oneOp builds a graph of the reference backend with a single operation.
func (b *Backend) oneOp(op opcode, inputs []*value, emit emitter) (builder compute.Builder, outputs []compute.Value, err error) {
	defer recovered(&err, op, inputs)
	builder = b.reference.Builder("cpu-fallback")
	f := builder.Main()
	operands := make([]compute.Value, len(inputs))
	for i, in := range inputs {
		if operands[i], err = f.Parameter(fmt.Sprintf("x%d", i), in.shape, nil); err != nil {
			return nil, nil, err
		}
	}
	outputs, err = emit(f, operands)
	if err != nil {
		return nil, nil, errors.WithMessagef(err, "cpu: %s of %v", op, inputShapes(inputs))
	}
	return builder, outputs, nil
}

// recovered turns a panic of the reference backend into an error.
func recovered(err *error, op opcode, inputs []*value) {
	if r := recover(); r != nil {
		*err = errors.Errorf("cpu: %s of %v is not possible: %v", op, inputShapes(inputs), r)
	}
}

func (b *Backend) inferShapes(op opcode, inputs []*value, emit emitter) ([]shapes.Shape, error) {
	builder, outputs, err := b.oneOp(op, inputs, emit)
	if err != nil {
		return nil, err
	}
	s := make([]shapes.Shape, len(outputs))
	for i, v := range outputs {
		if s[i], err = builder.OpShape(v); err != nil {
			return nil, errors.WithMessagef(err, "cpu: %s of %v", op, inputShapes(inputs))
		}
	}
	return s, nil
}

// fallback compiles a node for the reference backend. The returned function
// copies operands and results between the backends.
func (b *Backend) fallback(n *node) (run func(inputs, outputs [][]byte) error, finalize func(), err error) {
	if n.emit == nil {
		return nil, nil, errors.Wrapf(compute.ErrNotImplemented, "cpu: no kernel for %s", n.describe())
	}
	defer recovered(&err, n.op, n.inputs)
	builder, results, err := b.oneOp(n.op, n.inputs, n.emit)
	if err != nil {
		return nil, nil, err
	}
	if err := builder.Main().Return(results, nil); err != nil {
		return nil, nil, err
	}
	exec, err := builder.Compile()
	if err != nil {
		return nil, nil, errors.WithMessagef(err, "cpu: %s", n.describe())
	}
	run = func(inputs, outputs [][]byte) (err error) {
		defer recovered(&err, n.op, n.inputs)
		operands := make([]compute.Buffer, len(inputs))
		donate := make([]bool, len(inputs))
		for i, in := range inputs {
			buffer, flat, err := b.reference.NewSharedBuffer(0, n.inputs[i].shape)
			if err != nil {
				return err
			}
			copy(dtypes.UnsafeByteSliceFromAny(flat), in)
			operands[i], donate[i] = buffer, true
		}
		results, err := exec.Execute(operands, donate, 0)
		if err != nil {
			return errors.WithMessagef(err, "cpu: %s", n.describe())
		}
		for i, r := range results {
			flat, err := r.Data()
			if err != nil {
				return err
			}
			copy(outputs[i], dtypes.UnsafeByteSliceFromAny(flat))
			if err := r.Finalize(); err != nil {
				return err
			}
		}
		return nil
	}
	return run, exec.Finalize, nil
}

// flatOf views bytes as a slice of the Go type of the shape.
func flatOf(data []byte, shape shapes.Shape) any {
	if len(data) == 0 {
		return dtypes.MakeAnySlice(shape.DType, 0)
	}
	return dtypes.UnsafeAnySliceFromBytes(unsafe.Pointer(&data[0]), shape.DType, shape.Size())
}
