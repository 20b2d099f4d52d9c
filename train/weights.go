package train

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	gomlx "github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/internal/safetensors"
	"github.com/openpith/evidence/smoothout"
)

// ErrWeights reports weights that are not those of the model.
var ErrWeights = errors.New("weights do not fit the model")

// Weights is a safetensors file of the variables of the network, weights and
// batch-norm statistics, under their paths. Metadata is for whoever reads it.
func (m *Model) Weights(metadata map[string]string) ([]byte, error) {
	all, err := m.snapshot()
	if err != nil {
		return nil, err
	}
	return encodeWeights(all, metadata)
}

// encodeWeights adds a checksum to the metadata: see seal.
func encodeWeights(all []safetensors.Tensor, metadata map[string]string) ([]byte, error) {
	with := map[string]string{"sha256": noDigest}
	for k, v := range metadata {
		with[k] = v
	}
	file, err := safetensors.Encode(all, with)
	if err == nil {
		seal(file)
	}
	return file, err
}

// SetWeights gives the variables of the network the values in a safetensors
// file: one of Weights, a checkpoint, whose other tensors are left alone, or one
// by another tool. It takes all or, as ErrWeights, nothing. What this package
// wrote has a checksum, which must be right.
func (m *Model) SetWeights(file []byte) error {
	all, _, err := safetensors.Decode(file)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWeights, err)
	}
	if _, err := sealed(file); err != nil {
		return fmt.Errorf("%w: the file is damaged: %w", ErrWeights, err)
	}
	return m.restore(all)
}

// Load gives samples' model on a backend the weights of a file, without
// training: what was exported or checkpointed can be evaluated.
//
// Errors: ErrModel, ErrWeights.
func Load(backend compute.Backend, net gomlx.ModelFn, like Samples, weights []byte) (*Model, error) {
	m, err := newModel(backend, net, like.Shape(), like.Classes())
	if err != nil {
		return nil, err
	}
	return m, m.SetWeights(weights)
}

// Initial is samples' model on a backend with the weights that a run with this
// seed begins with.
func Initial(backend compute.Backend, net gomlx.ModelFn, like Samples, seed int64) (*Model, error) {
	m, err := newModel(backend, net, like.Shape(), like.Classes())
	if err != nil {
		return nil, err
	}
	return m, m.seed(seed)
}

// Describe says what noise does to each tensor of the model.
func (m *Model) Describe(noise smoothout.Config) (smoothout.Table, error) {
	return smoothout.Describe(noise, m.backend, m.store, m.net, shapes.Make(dtypes.Float32, append([]int{1}, m.shape...)...))
}

// snapshot copies the variables of the network.
func (m *Model) snapshot() ([]safetensors.Tensor, error) {
	var all []safetensors.Tensor
	for _, v := range m.variables {
		stored := m.store.GetVariable(v.Path)
		if stored == nil || !stored.HasValue() {
			return nil, fmt.Errorf("%w: variable %s has no value", ErrModel, v.Path)
		}
		t, err := encodeVariable(stored)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

func (m *Model) restore(all []safetensors.Tensor) error {
	byName := make(map[string]safetensors.Tensor, len(all))
	for _, t := range all {
		byName[t.Name] = t
	}
	// A checkpoint of this network that is read as weights has them all.
	for _, v := range m.variables {
		t, ok := byName[v.Path]
		if !ok {
			return fmt.Errorf("%w: no tensor %s among %d", ErrWeights, v.Path, len(all))
		}
		shape, err := shapeOf(t)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrWeights, err)
		}
		if shape.String() != v.Shape {
			return fmt.Errorf("%w: %s is %s, the model has %s", ErrWeights, v.Path, shape, v.Shape)
		}
	}
	for _, v := range m.variables {
		if err := decodeVariable(m.store, byName[v.Path], v.Trainable); err != nil {
			return err
		}
	}
	return nil
}

func encodeVariable(v *model.Variable) (safetensors.Tensor, error) {
	t := safetensors.Tensor{Name: v.Path(), DType: safetensorsName[v.DType()], Shape: v.Shape().Dimensions}
	if t.DType == "" {
		return t, fmt.Errorf("variable %s: no way to save %s", v.Path(), v.DType())
	}
	value, err := v.Value()
	if err != nil {
		return t, err
	}
	return t, value.ConstBytes(func(b []byte) { t.Data = bytes.Clone(b) })
}

// decodeVariable puts a tensor into the store; the variable need not be there.
func decodeVariable(store *model.Store, t safetensors.Tensor, trainable bool) error {
	shape, err := shapeOf(t)
	if err != nil {
		return err
	}
	value := tensors.FromShape(shape)
	if err := value.MutableBytes(func(b []byte) { copy(b, t.Data) }); err != nil {
		return err
	}
	v := store.GetVariable(t.Name)
	if v == nil {
		v = store.VariableWithValue(t.Name, value)
	} else if err := v.SetValue(value); err != nil {
		return err
	}
	v.SetTrainable(trainable)
	return nil
}

func shapeOf(t safetensors.Tensor) (shapes.Shape, error) {
	for d, name := range safetensorsName {
		if name == t.DType {
			return shapes.Make(d, t.Shape...), nil
		}
	}
	return shapes.Shape{}, fmt.Errorf("tensor %s: unknown type %q", t.Name, t.DType)
}

var safetensorsName = map[dtypes.DType]string{
	dtypes.Float64: "F64", dtypes.Float32: "F32", dtypes.Float16: "F16", dtypes.BFloat16: "BF16",
	dtypes.Int64: "I64", dtypes.Int32: "I32", dtypes.Int16: "I16", dtypes.Int8: "I8",
	dtypes.Uint64: "U64", dtypes.Uint32: "U32", dtypes.Uint16: "U16", dtypes.Uint8: "U8",
	dtypes.Bool: "BOOL",
}

// finiteWeights reports a float32 variable of the store that holds NaN or an
// infinite number: the sign of divergence that the loss of the step before
// could not show.
func (r *run) finiteWeights() error {
	for v := range r.model.store.IterVariables() {
		if !v.HasValue() || v.DType() != dtypes.Float32 {
			continue
		}
		value, err := v.Value()
		if err != nil {
			return err
		}
		bad := float32(0)
		err = tensors.ConstFlatData(value, func(xs []float32) {
			for _, x := range xs {
				if math.Float32bits(x)&0x7f800000 == 0x7f800000 {
					bad = x
					return
				}
			}
		})
		if err != nil {
			return err
		}
		if bad != 0 {
			return r.finite("an element of "+strings.TrimPrefix(v.Path(), "/"), float64(bad))
		}
	}
	return nil
}
