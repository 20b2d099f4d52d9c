package sharpness

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/openpith/evidence/objective"
)

// FileFormat names the form of a sharpness file: the JSON of [File].
const FileFormat = "sharpness/1"

// ErrFile reports a file that holds no results of this package.
var ErrFile = errors.New("not a sharpness file")

// A File says how sharp one network is, by several measures, and everything
// that the numbers depend on.
type File struct {
	Format string `json:"format"`
	// Name is how the network is called in pictures, like "SmoothOut, seed 1";
	// networks of one Group, like "SmoothOut", get one colour.
	Name  string `json:"name"`
	Group string `json:"group,omitempty"`
	// Weights is the SHA-256 of the weights, Data what the loss is a mean of,
	// BatchNorm which statistics were used: "running", "recalibrated" or "none".
	Weights   string `json:"weights_sha256"`
	Data      string `json:"data"`
	BatchNorm string `json:"batch_norm"`
	// Train and Test are the loss and accuracy on all of each split; nil where
	// the split was not read.
	Train *objective.Value `json:"train,omitempty"`
	Test  *objective.Value `json:"test,omitempty"`
	// Note is what a reader needs to repeat it: command, backend, revision.
	Note    map[string]string `json:"note,omitempty"`
	Results []*Result         `json:"results"`
}

// Gap is the generalisation gap, training minus test accuracy, from 0 to 1.
func (f *File) Gap() (gap float64, ok bool) {
	if f.Train == nil || f.Test == nil {
		return 0, false
	}
	gap = f.Train.Accuracy - f.Test.Accuracy
	return gap, gap == gap
}

// LoadFile reads a sharpness file.
func LoadFile(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f File
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrFile, err)
	}
	if f.Format != FileFormat {
		return nil, fmt.Errorf("%s: %w: format %q, want %q", path, ErrFile, f.Format, FileFormat)
	}
	return &f, nil
}

// A kind reads the settings and the detail of one measure.
type kind func(settings, detail []byte) (Measure, any, error)

func kindOf[M Measure, D any](s, d []byte) (Measure, any, error) {
	var settings M
	var detail D
	err := json.Unmarshal(s, &settings)
	if err == nil {
		err = json.Unmarshal(d, &detail)
	}
	return settings, detail, err
}

var kinds = map[string]kind{
	Noise{}.Name():                kindOf[Noise, NoiseDetail],
	PACBayes{}.Name():             kindOf[PACBayes, PACBayesDetail],
	Keskar{}.Name():               kindOf[Keskar, KeskarDetail],
	Ascent{}.Name():               kindOf[Ascent, AscentDetail],
	Ascent{Adaptive: true}.Name(): kindOf[Ascent, AscentDetail],
	EpsilonFlatness{}.Name():      kindOf[EpsilonFlatness, EpsilonFlatnessDetail],
	Eigenvalues{}.Name():          kindOf[Eigenvalues, EigenvaluesDetail],
	Trace{}.Name():                kindOf[Trace, TraceDetail],
	FisherRao{}.Name():            kindOf[FisherRao, FisherRaoDetail],
	Density{}.Name():              kindOf[Density, DensityDetail],
}

// A Choice is a measure as a file holds it: {"measure": name, "settings": …}.
type Choice struct{ Measure }

// MarshalJSON implements json.Marshaler.
func (c Choice) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Measure  string  `json:"measure"`
		Settings Measure `json:"settings"`
	}{c.Name(), c.Measure})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown measures are ErrFile.
func (c *Choice) UnmarshalJSON(data []byte) error {
	var raw struct {
		Measure  string          `json:"measure"`
		Settings json.RawMessage `json:"settings"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	read, ok := kinds[raw.Measure]
	if !ok {
		return fmt.Errorf("%w: unknown measure %q", ErrFile, raw.Measure)
	}
	m, _, err := read(raw.Settings, []byte("null"))
	if err != nil {
		return fmt.Errorf("%s: %w", raw.Measure, err)
	}
	if m.Name() != raw.Measure { // asam-sharpness without "adaptive"
		return fmt.Errorf("%w: the settings of %q are those of %q", ErrFile, raw.Measure, m.Name())
	}
	c.Measure = m
	return nil
}

// UnmarshalJSON reads a result with the settings and detail of its measure, as
// values like those that Run returns. Unknown measures are ErrFile.
func (r *Result) UnmarshalJSON(data []byte) error {
	type plain Result // without this method
	var raw struct {
		*plain
		Settings json.RawMessage `json:"settings"`
		Detail   json.RawMessage `json:"detail"`
	}
	raw.plain = (*plain)(r)
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	read, ok := kinds[r.Measure]
	if !ok {
		return fmt.Errorf("%w: unknown measure %q", ErrFile, r.Measure)
	}
	var err error
	if r.Settings, r.Detail, err = read(raw.Settings, raw.Detail); err != nil {
		return fmt.Errorf("%s: %w", r.Measure, err)
	}
	return nil
}

// Suite are the measures to begin with: what the method minimises, Keskar's
// measure as published (in full and in subspaces of 100 dimensions), the
// measures of SAM and ASAM, and the Hessian. The strengths suit networks
// of the size of the SmoothOut experiments.
func Suite() []Measure {
	return []Measure{
		Noise{Strength: 0.01},
		Noise{Strength: 0.2, Norm: objective.Filter},
		Keskar{Epsilon: 1e-3},
		Keskar{Epsilon: 5e-4},
		Keskar{Epsilon: 1e-3, Dimensions: 100},
		Ascent{},
		Ascent{Adaptive: true},
		EpsilonFlatness{},
		PACBayes{},
		FisherRao{},
		Eigenvalues{},
		Trace{},
	}
}

// Label is a short description of a measure with the settings that matter, for
// tables and pictures.
func Label(m Measure) string {
	switch m := m.filled().(type) {
	case Noise:
		if m.Norm == objective.None {
			return fmt.Sprintf("loss rise, %s noise %g", m.Law, m.Strength)
		}
		return fmt.Sprintf("loss rise, %s noise %g per %s", m.Law, m.Strength, m.Norm)
	case Keskar:
		space := "full space"
		if m.Dimensions > 0 {
			space = fmt.Sprintf("%d dimensions", m.Dimensions)
		}
		return fmt.Sprintf("Keskar, ε = %g, %s", m.Epsilon, space)
	case Ascent:
		name := "SAM"
		if m.Adaptive {
			name = "ASAM"
		}
		return fmt.Sprintf("%s sharpness, ρ = %g", name, m.Rho)
	case EpsilonFlatness:
		return fmt.Sprintf("1/distance to a rise of %g", m.Epsilon)
	case PACBayes:
		return fmt.Sprintf("PAC-Bayes σ for a rise of %g", m.Rise)
	case Eigenvalues:
		return "largest Hessian eigenvalue"
	case Trace:
		return "trace of the Hessian"
	case FisherRao:
		return "Fisher-Rao norm wᵀHw"
	case Density:
		return "spectral density of the Hessian"
	}
	return m.Name()
}
