package smoothout

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/dtypes/float16"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
)

// A Row says what noise does to one parameter.
type Row struct {
	Path    string  `json:"path"`
	Shape   []int   `json:"shape"`
	Role    Role    `json:"role"`
	Filters int     `json:"filters"` // parts with a norm of their own, under the Adapt of the configuration
	RMS     float64 `json:"rms"`     // of the weights
	// Noise is the expected RMS of the noise over that of the weights, where the
	// schedule is at its strongest; 0 without noise.
	Noise float64 `json:"noise"`
	Why   string  `json:"why,omitempty"` // it has no noise
}

// A Table has a row for each parameter of a model, in the order of the model.
type Table []Row

// Describe tells what the noise of a configuration is for each parameter at its
// current value: which are perturbed, how strongly, and why others are not. The
// model is given by its function and the shapes of its inputs; variables that
// have no value yet are initialised.
func Describe(cfg Config, backend compute.Backend, store *model.Store, fn train.ModelFn, inputs ...shapes.Shape) (t Table, err error) {
	defer func() {
		switch p := recover().(type) { // graph building panics
		case nil:
		case error:
			err = p
		default:
			err = fmt.Errorf("%v", p)
		}
	}()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := NewGraph(backend, "describe")
	defer g.Finalize()
	model.SetStore(g, store)
	nodes := make([]*Node, len(inputs))
	for i, s := range inputs {
		nodes[i] = Parameter(g, fmt.Sprintf("input %d", i), s)
	}
	params := Params(fn, store.RootScope(), nil, nodes)
	if err := store.InitializeVariables(backend, nil); err != nil {
		return nil, err
	}
	for _, p := range params {
		value, err := p.Value()
		if err != nil {
			return nil, err
		}
		row := Row{Path: p.Path(), Shape: p.Shape().Dimensions, Role: p.Role, Filters: 1}
		factor, why := cfg.factor(p)
		row.Why = why
		if w, ok := floats(value); ok {
			cfg.measure(&row, w, factor)
		}
		t = append(t, row)
	}
	return t, nil
}

// floats reads a tensor of floating-point numbers.
func floats(t *tensors.Tensor) ([]float64, bool) {
	var out []float64
	switch t.DType() {
	case dtypes.Float32:
		for _, v := range tensors.MustCopyFlatData[float32](t) {
			out = append(out, float64(v))
		}
	case dtypes.Float64:
		out = tensors.MustCopyFlatData[float64](t)
	case dtypes.BFloat16:
		for _, v := range tensors.MustCopyFlatData[bfloat16.BFloat16](t) {
			out = append(out, float64(v.Float32()))
		}
	case dtypes.Float16:
		for _, v := range tensors.MustCopyFlatData[float16.Float16](t) {
			out = append(out, float64(v.Float32()))
		}
	default:
		return nil, false
	}
	return out, true
}

// measure fills in the numbers that depend on the weights, of a parameter whose
// rule multiplies the strength by factor.
func (c Config) measure(r *Row, w []float64, factor float64) {
	strength := c.Strength * c.Schedule.Max() * factor
	last := 1
	if n := len(r.Shape); n > 0 {
		last = r.Shape[n-1]
	}
	filters := last
	switch {
	case c.Adapt == Weights:
		filters = len(w)
	case c.Adapt == Layer, c.Adapt == FilterNorm && len(r.Shape) <= 1:
		filters = 1
	}
	r.Filters = filters
	if len(w) == 0 {
		return
	}
	var square float64 // Σw² = Σ‖w_f‖²
	for _, x := range w {
		square += x * x
	}
	n, sd := float64(len(w)), math.Sqrt(c.Noise.variance())
	r.RMS = math.Sqrt(square / n)
	if r.RMS == 0 {
		return
	}
	switch c.Adapt {
	case Weights:
		r.Noise = strength * sd // RMS(|w|u)
	case Filter, Layer:
		r.Noise = strength // ‖e_f‖ = s·‖w_f‖
	case FilterNorm:
		r.Noise = strength * sd * math.Sqrt(n/float64(filters)) // of d weights: γ·√d
	default:
		r.Noise = strength * sd / r.RMS
	}
}

// WriteTo prints the table for people.
func (t Table) WriteTo(w io.Writer) (int64, error) {
	count := &counter{w: w}
	tw := tabwriter.NewWriter(count, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "parameter\tshape\trole\tfilters\tRMS(w)\tRMS(noise)/RMS(w)")
	for _, r := range t {
		noise := fmt.Sprintf("%.3g", r.Noise)
		if r.Why != "" {
			noise = "none: " + r.Why
		}
		fmt.Fprintf(tw, "%s\t%v\t%s\t%d\t%.3g\t%s\n", r.Path, r.Shape, r.Role, r.Filters, r.RMS, noise)
	}
	err := tw.Flush()
	return count.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
