package sharpness_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/openpith/evidence/objective"
	"github.com/openpith/evidence/sharpness"
)

// bowl is L(w) = offset + ½ Σ curvature_i·(w_i-center_i)², with exact second
// derivatives unless flat is set. Its last element is a statistic that the loss
// ignores. It counts what is asked of it.
type bowl struct {
	curvature, center []float64
	offset            float64
	flat              bool
	losses, gradients *float64
	share             float64 // of the examples, for the counts
}

func newBowl(curvature ...float64) *bowl {
	return &bowl{curvature: curvature, center: make([]float64, len(curvature)), losses: new(float64), gradients: new(float64), share: 1}
}

func (b *bowl) Layout() *objective.Layout {
	return objective.NewLayout(
		objective.Tensor{Path: "w", Shape: []int{1, len(b.curvature)}, Role: objective.Weight},
		objective.Tensor{Path: "mean", Shape: []int{1}, Role: objective.Statistic},
	)
}
func (b *bowl) Examples() int           { return 10 }
func (b *bowl) Parts() int              { return 2 }
func (b *bowl) Part(int) objective.Func { c := *b; c.share /= 2; return half{&c} }
func (b *bowl) start() []float32        { return make([]float32, len(b.curvature)+1) }
func (b *bowl) Loss(_ context.Context, w []float32) (objective.Value, error) {
	*b.losses += b.share
	l := b.offset
	for i, c := range b.curvature {
		d := float64(w[i]) - b.center[i]
		l += c * d * d / 2
	}
	return objective.Value{Loss: l, Accuracy: math.NaN()}, nil
}

func (b *bowl) Gradient(ctx context.Context, w, grad []float32) (objective.Value, error) {
	*b.gradients += b.share
	clear(grad)
	for i, c := range b.curvature {
		grad[i] = float32(c * (float64(w[i]) - b.center[i]))
	}
	*b.losses -= b.share
	return b.Loss(ctx, w)
}

func (b *bowl) HessianVector(_ context.Context, _, v, hv []float32) error {
	if b.flat {
		return objective.ErrNotCurved
	}
	clear(hv)
	for i, c := range b.curvature {
		hv[i] = float32(c * float64(v[i]))
	}
	return nil
}

// half is one of two equal parts of a bowl.
type half struct{ *bowl }

func (half) Examples() int { return 5 }
func (half) Parts() int    { return 1 }

// bowls is the mean of several, which are its parts.
type bowls []*bowl

func (s bowls) Layout() *objective.Layout { return s[0].Layout() }
func (s bowls) Examples() int             { return 5 * len(s) }
func (s bowls) Parts() int                { return len(s) }
func (s bowls) Part(i int) objective.Func { return half{s[i]} }
func (s bowls) Loss(ctx context.Context, w []float32) (v objective.Value, err error) {
	for _, b := range s {
		l, _ := b.Loss(ctx, w)
		v.Loss += l.Loss / float64(len(s))
	}
	return v, nil
}

func (s bowls) Gradient(ctx context.Context, w, grad []float32) (objective.Value, error) {
	clear(grad)
	part := make([]float32, len(grad))
	for _, b := range s {
		_, _ = b.Gradient(ctx, w, part)
		for i := range grad {
			grad[i] += part[i] / float32(len(s))
		}
	}
	return s.Loss(ctx, w)
}

func run(t *testing.T, m sharpness.Measure, f objective.Func, w []float32) *sharpness.Result {
	t.Helper()
	r, err := sharpness.Run(context.Background(), m, f, w, sharpness.Options{Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %v, want %v ± %v", what, got, want, tolerance)
	}
}

func TestNoise(t *testing.T) {
	// On a bowl the rise is variance/2·tr H for every law, without odd orders.
	b := newBowl(1, 2, 3, 4, 10)
	w := []float32{1, -2, 3, 0.5, 1, 99}
	squares := 1.0 + 4 + 9 + 0.25 + 1
	for _, tt := range []struct {
		m    sharpness.Noise
		want float64
	}{
		{sharpness.Noise{Strength: 0.1}, 0.01 / 6 * 20},
		{sharpness.Noise{Strength: 0.1, Law: sharpness.Normal}, 0.01 / 2 * 20},
		{sharpness.Noise{Strength: 0.1, Law: sharpness.Rademacher}, 0.01 / 2 * 20},
		{sharpness.Noise{Strength: 0.1, Law: sharpness.Rademacher, Norm: objective.Each}, 0.01 / 2 * (1*1 + 2*4 + 3*9 + 4*.25 + 10*1)},
		{sharpness.Noise{Strength: 0.1, Law: sharpness.Normal, Norm: objective.Layer}, 0.01 / 2 * squares / 5 * 20},
	} {
		t.Run(fmt.Sprintf("%s %s", tt.m.Law, tt.m.Norm), func(t *testing.T) {
			tt.m.Draws = 4000
			r := run(t, tt.m, b, w)
			near(t, "rise", r.Value, tt.want, 4*r.StandardError+1e-6)
			if tt.m.Law != sharpness.Rademacher && !(r.StandardError > 0 && r.StandardError < tt.want/20) {
				t.Errorf("standard error %v of %v", r.StandardError, r.Value)
			}
		})
	}
}

// TestErrorOverExamples: the standard error over the choice of examples is the one that leaving out parts of the data, one by one, gives.
func TestErrorOverExamples(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var all bowls
	for range 40 {
		b := newBowl(2+r.Float64(), 40+20*r.Float64(), 1+r.Float64())
		b.center = []float64{0.3 * r.NormFloat64(), 0.01 * r.NormFloat64(), 0.3 * r.NormFloat64()}
		b.offset = r.Float64()
		all = append(all, b)
	}
	w := []float32{1, -0.05, 0.5, 0} // the slope turns fast
	for _, m := range []sharpness.Measure{
		sharpness.EpsilonFlatness{}, sharpness.FisherRao{},
		sharpness.Ascent{}, sharpness.Ascent{Adaptive: true},
	} {
		got := run(t, m, all, w)
		sum, squares := 0.0, 0.0
		for i := range all {
			v := run(t, m, slices.Concat(all[:i], all[i+1:]), w).Value
			sum += v
			squares += v * v
		}
		n := float64(len(all))
		want := math.Sqrt((n - 1) * (squares/n - sum/n*sum/n))
		near(t, m.Name(), got.StandardError, want, 0.05*want)
	}
}

func TestAntitheticPairsCancelOddOrders(t *testing.T) {
	b := newBowl(1, 2, 3)
	w := []float32{5, -7, 9, 0} // far from the bottom: the slope dominates
	pairs := run(t, sharpness.Noise{Strength: 0.01, Draws: 200}, b, w)
	single := run(t, sharpness.Noise{Strength: 0.01, Draws: 200, OneSided: true}, b, w)
	if !(pairs.StandardError < single.StandardError/100) {
		t.Errorf("standard errors: pairs %v, single %v", pairs.StandardError, single.StandardError)
	}
}

func TestKeskarOnABowl(t *testing.T) {
	// At the bottom the maximum is a corner: ½ Σ c_i·bound_i², bound = ε(|x_i|+1).
	b := newBowl(1, 20, 3)
	b.center = []float64{0.5, -2, 0}
	b.offset = 0.25
	w := []float32{0.5, -2, 0, 0}
	const eps = 0.01
	want := 0.0
	for i, c := range b.curvature {
		bound := eps * (math.Abs(b.center[i]) + 1)
		want += c * bound * bound / 2
	}
	// The bottom itself has no way up to first order; step aside a little.
	w[0] += 1e-4
	w[1] += 1e-4
	w[2] += 1e-4
	r := run(t, sharpness.Keskar{Epsilon: eps}, b, w)
	near(t, "phi", r.Value, 100*want/1.25, 0.05*100*want/1.25)
	if d := r.Detail.(sharpness.KeskarDetail); d.AtBound != 1 || d.Maxima[0] < r.Loss {
		t.Errorf("detail %+v", d)
	}
}

func TestKeskarFindsAnInnerMaximum(t *testing.T) {
	// A hill whose top lies inside the box: Barzilai-Borwein finds it.
	b := newBowl(-1, -4, -2)
	b.center = []float64{0.003, -0.002, 0.001}
	w := b.start()
	r := run(t, sharpness.Keskar{Epsilon: 0.01, Iterations: 50}, b, w)
	near(t, "maximum", r.Detail.(sharpness.KeskarDetail).Maxima[0], 0, 1e-9)
}

func TestKeskarInSubspaces(t *testing.T) {
	curvature := make([]float64, 60)
	for i := range curvature {
		curvature[i] = 1 + float64(i%7)
	}
	b := newBowl(curvature...)
	w := b.start()
	for i := range curvature {
		w[i] = 0.3
	}
	full := run(t, sharpness.Keskar{Epsilon: 1e-3}, b, w)
	sub := run(t, sharpness.Keskar{Epsilon: 1e-3, Dimensions: 10, Repeats: 3}, b, w)
	d := sub.Detail.(sharpness.KeskarDetail)
	if len(d.Values) != 3 || d.Values[0] == d.Values[1] {
		t.Errorf("subspaces do not differ: %v", d.Values)
	}
	if !(sub.Value > 0) || !(full.Value > sub.Value) || !(sub.StandardError > 0) {
		t.Errorf("full %v, subspaces %v ± %v", full.Value, sub.Value, sub.StandardError)
	}
	// All of the space, in random coordinates: Ay with |y_i| <= bound. The
	// gain to first order is Σ bound_i·|(Aᵀg)_i|, more with curvature.
	all := run(t, sharpness.Keskar{Epsilon: 1e-3, Dimensions: 60, Repeats: 1}, b, w)
	if !(all.Value > sub.Value) {
		t.Errorf("60 dimensions %v, 10 %v", all.Value, sub.Value)
	}
}

func TestAscent(t *testing.T) {
	b := newBowl(1, 4)
	w := []float32{3, 1, 9}
	g := []float64{3, 4} // ‖g‖ = 5
	rho := 0.1
	want := rho*5 + rho*rho/2*(g[0]*g[0]*1+g[1]*g[1]*4)/25
	r := run(t, sharpness.Ascent{Rho: rho}, b, w)
	near(t, "SAM", r.Value, want, 1e-5)
	near(t, "m", r.Detail.(sharpness.AscentDetail).M, 5, 0)

	// ASAM: e = ρ·T²g/‖Tg‖, T = |w|: Tg = (9, 4), T²g = (27, 4).
	size := math.Hypot(9, 4)
	e := []float64{rho * 27 / size, rho * 4 / size}
	want = g[0]*e[0] + g[1]*e[1] + (e[0]*e[0]+4*e[1]*e[1])/2
	r = run(t, sharpness.Ascent{Rho: rho, Adaptive: true}, b, w)
	near(t, "ASAM", r.Value, want, 1e-5)
	// A rho that was asked for is not the default, even where it is SAM's.
	if r := run(t, sharpness.Ascent{Rho: 0.05, Adaptive: true}, b, w); r.Settings.(sharpness.Ascent).Rho != 0.05 {
		t.Errorf("rho 0.05 became %v", r.Settings)
	}
	if r.Measure != "asam-sharpness" {
		t.Errorf("name %q", r.Measure)
	}
}

func TestEpsilonFlatness(t *testing.T) {
	b := newBowl(2)
	w := []float32{1, 0} // L(1+d) - L(1) = 2d + d² = 0.1
	d := -1 + math.Sqrt(1.1)
	r := run(t, sharpness.EpsilonFlatness{}, b, w)
	near(t, "1/distance", r.Value, 1/d, 2e-3/d)
}

func TestFewEvaluationsFindACrossing(t *testing.T) {
	for _, curvature := range []float64{1e-6, 1e-3, 1, 1e3, 1e6} {
		b := newBowl(curvature)
		r := run(t, sharpness.EpsilonFlatness{}, b, []float32{1e-3, 0})
		if r.Cost.Losses > 12 {
			t.Errorf("curvature %v: %v losses", curvature, r.Cost.Losses)
		}
		d := r.Detail.(sharpness.EpsilonFlatnessDetail).Distance
		at := curvature * (d*1e-3 + d*d/2) // L(0.001+d) - L(0.001)
		near(t, "rise at the distance", at, 0.1, 1e-3)
	}
}

func TestPACBayes(t *testing.T) {
	curvature := make([]float64, 400)
	for i := range curvature {
		curvature[i] = 0.5
	}
	b := newBowl(curvature...) // E rise = σ²/2·200
	r := run(t, sharpness.PACBayes{}, b, b.start())
	near(t, "sigma", r.Value, math.Sqrt(2*0.1/200), 4*r.StandardError+1e-4)
}

func TestHessian(t *testing.T) {
	curvature := []float64{100, 50, 10}
	for range 37 {
		curvature = append(curvature, 0.1)
	}
	curvature = append(curvature, -2)
	trace, squares := 0.0, 0.0
	for _, c := range curvature {
		trace += c
		squares += c * c
	}
	for _, how := range []sharpness.Products{sharpness.Exact, sharpness.Differences} {
		t.Run(string(how), func(t *testing.T) {
			b := newBowl(curvature...)
			w := b.start()
			for i := range curvature {
				w[i] = 0.5
			}
			top := run(t, sharpness.Eigenvalues{N: 3, Products: how}, b, w)
			d := top.Detail.(sharpness.EigenvaluesDetail)
			for i, want := range []float64{100, 50, 10} {
				near(t, "eigenvalue", d.Values[i], want, 0.1)
			}
			near(t, "smallest", d.Smallest, -2, 0.1)
			if d.Products != how {
				t.Errorf("products %q", d.Products)
			}

			tr := run(t, sharpness.Trace{Products: how}, b, w)
			near(t, "trace", tr.Value, trace, 4*tr.StandardError+0.1) // diagonal: every draw is exact
			near(t, "Frobenius", tr.Detail.(sharpness.TraceDetail).Frobenius, math.Sqrt(squares), 0.1)
			if tr.Detail.(sharpness.TraceDetail).Draws != 10 {
				t.Errorf("did not stop: %+v", tr.Detail)
			}

			density := run(t, sharpness.Density{Draws: 2, Products: how}, b, w)
			near(t, "mean eigenvalue", density.Value, trace/float64(len(curvature)), 0.05)
			dd := density.Detail.(sharpness.DensityDetail)
			mass, second := 0.0, 0.0
			for i, node := range dd.Nodes {
				mass += dd.Weights[i]
				second += dd.Weights[i] * node * node
			}
			near(t, "mass", mass, 1, 1e-6)
			near(t, "second moment", second, squares/float64(len(curvature)), 2)
			area := 0.0
			for x := -10.0; x < 110; x += 0.05 {
				area += 0.05 * dd.At(x, 0.5)
			}
			near(t, "area under the density", area, 1, 1e-2)

			fr := run(t, sharpness.FisherRao{Products: how}, b, w)
			near(t, "wᵀHw", fr.Value, trace/4, 0.1)
		})
	}
}

func TestDifferencesWhereNothingIsExact(t *testing.T) {
	b := newBowl(3, 1)
	b.flat = true
	w := []float32{1, 1, 0}
	r := run(t, sharpness.Eigenvalues{N: 1}, b, w)
	near(t, "eigenvalue", r.Value, 3, 0.01)
	if d := r.Detail.(sharpness.EigenvaluesDetail); d.Products != sharpness.Differences {
		t.Errorf("detail %+v", d)
	}
	_, err := sharpness.Run(context.Background(), sharpness.Eigenvalues{Products: sharpness.Exact}, b, w, sharpness.Options{})
	if !errors.Is(err, objective.ErrNotCurved) {
		t.Errorf("exact products: %v", err)
	}
}

func TestCostIsWhatWasAsked(t *testing.T) {
	for _, m := range []sharpness.Measure{
		sharpness.Noise{Strength: 0.1, Draws: 3}, sharpness.Keskar{}, sharpness.EpsilonFlatness{}, sharpness.PACBayes{Draws: 2},
		sharpness.Eigenvalues{N: 1, Products: sharpness.Differences},
	} {
		b := newBowl(1, 2, 3)
		done := 0
		r, err := sharpness.Run(context.Background(), m, b, []float32{1, 2, 3, 4}, sharpness.Options{
			Progress: func(d, most int) {
				if d > most || d < done {
					t.Errorf("%s: progress %d of %d after %d", m.Name(), d, most, done)
				}
				done = d
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.Cost.Losses != *b.losses || r.Cost.Gradients != *b.gradients {
			t.Errorf("%s: cost %+v, asked for %v losses and %v gradients", m.Name(), r.Cost, *b.losses, *b.gradients)
		}
	}
}

func TestEqualSeedsGiveEqualResults(t *testing.T) {
	for _, m := range []sharpness.Measure{
		sharpness.Noise{Strength: 0.1, Norm: objective.Filter}, sharpness.Keskar{Dimensions: 2}, sharpness.PACBayes{},
		sharpness.Trace{}, sharpness.Density{Steps: 2},
	} {
		b := newBowl(1, 2, 3, 5)
		w := []float32{1, 2, 3, 4, 0}
		a, c := run(t, m, b, w), run(t, m, b, w)
		if a.Value != c.Value || a.StandardError != c.StandardError {
			t.Errorf("%s: %v and %v", m.Name(), a.Value, c.Value)
		}
		for i, want := range []float32{1, 2, 3, 4, 0} {
			if w[i] != want {
				t.Fatalf("%s changed the weights", m.Name())
			}
		}
	}
}

func TestBadSettings(t *testing.T) {
	b := newBowl(1, 2)
	for _, m := range []sharpness.Measure{
		sharpness.Noise{}, sharpness.Noise{Strength: math.NaN()}, sharpness.Noise{Strength: 1, Law: "cauchy"}, sharpness.Noise{Strength: 1, Draws: -1},
		sharpness.Keskar{Epsilon: -1}, sharpness.Keskar{Dimensions: 3}, sharpness.Keskar{Iterations: -1},
		sharpness.Ascent{Rho: math.Inf(1)}, sharpness.EpsilonFlatness{Epsilon: -1}, sharpness.PACBayes{Draws: -1},
		sharpness.Eigenvalues{N: 100}, sharpness.Trace{Draws: 1}, sharpness.Density{Steps: 1}, sharpness.FisherRao{Products: "guess"},
	} {
		if _, err := sharpness.Run(context.Background(), m, b, []float32{1, 1, 0}, sharpness.Options{}); !errors.Is(err, sharpness.ErrSettings) {
			t.Errorf("%#v: error %v", m, err)
		}
	}
	if _, err := sharpness.Run(context.Background(), sharpness.FisherRao{}, b, make([]float32, 1), sharpness.Options{}); !errors.Is(err, objective.ErrModel) {
		t.Errorf("wrong length: %v", err)
	}
}

func TestFlatLandIsSaid(t *testing.T) {
	b := newBowl(0, 0)
	w := []float32{1, 1, 0}
	for _, m := range []sharpness.Measure{sharpness.EpsilonFlatness{}, sharpness.PACBayes{Draws: 1}} {
		if r, err := sharpness.Run(context.Background(), m, b, w, sharpness.Options{}); err == nil {
			t.Errorf("%s of a plain is %v", m.Name(), r.Value)
		}
	}
	if r := run(t, sharpness.Keskar{}, b, w); r.Value != 0 {
		t.Errorf("keskar of a plain is %v", r.Value)
	}
	if r := run(t, sharpness.Ascent{}, b, w); r.Value != 0 {
		t.Errorf("SAM sharpness of a plain is %v", r.Value)
	}
}

func TestFilesKeepEverything(t *testing.T) {
	curvature := make([]float64, 120)
	for i := range curvature {
		curvature[i] = 1
	}
	b := newBowl(curvature...)
	w := b.start()
	for i := range curvature {
		w[i] = 1
	}
	f := &sharpness.File{Format: sharpness.FileFormat, Name: "bowl", Train: &objective.Value{Accuracy: 0.9}, Test: &objective.Value{Accuracy: 0.7}}
	labels := map[string]bool{}
	for _, m := range append(sharpness.Suite(), sharpness.Density{Steps: 3}) {
		r := run(t, m, b, w)
		f.Results = append(f.Results, r)
		labels[sharpness.Label(r.Settings)] = true
	}
	if len(labels) != len(f.Results) {
		t.Errorf("%d labels for %d results: %v", len(labels), len(f.Results), labels)
	}
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := sharpness.LoadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, f) {
		t.Errorf("read %+v\nwritten %+v", got, f)
	}
	if gap, ok := got.Gap(); !ok || math.Abs(gap-0.2) > 1e-12 {
		t.Errorf("gap %v, %v", gap, ok)
	}
	for name, text := range map[string]string{"prose": "x", "other": `{"format":"x"}`, "unknown measure": `{"format":"sharpness/1","results":[{"measure":"feeling"}]}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sharpness.LoadFile(path); !errors.Is(err, sharpness.ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A default is the same as its value, and nothing else is the same: Keskar's
// measure in subspaces is not the one in full space.
func TestSameMeasures(t *testing.T) {
	for _, tt := range []struct {
		a, b sharpness.Measure
		want bool
	}{
		{sharpness.Keskar{}, sharpness.Keskar{Epsilon: 1e-3}, true},
		{sharpness.Keskar{Epsilon: 1e-3}, sharpness.Keskar{Epsilon: 1e-3, Dimensions: 100}, false},
		{sharpness.Keskar{Epsilon: 1e-3, Dimensions: 100}, sharpness.Keskar{Epsilon: 1e-3}, false},
		{sharpness.Keskar{}, sharpness.Keskar{Epsilon: 5e-4}, false},
		{sharpness.Ascent{Rho: 0.05}, sharpness.Ascent{}, true},
		{sharpness.Ascent{Rho: 0.5}, sharpness.Ascent{Rho: 0.5, Adaptive: true}, false},
		{sharpness.Noise{Strength: 1}, sharpness.Noise{Strength: 1, OneSided: true}, false},
		{sharpness.Trace{}, sharpness.Trace{Products: sharpness.Automatic}, true},
		{sharpness.Trace{}, sharpness.FisherRao{}, false},
	} {
		if got := sharpness.Same(tt.a, tt.b); got != tt.want {
			t.Errorf("%+v and %+v: same %v", tt.a, tt.b, got)
		}
	}
}

func TestChoicesAreFiles(t *testing.T) {
	var all []sharpness.Choice
	for _, m := range append(sharpness.Suite(), sharpness.Density{}) {
		all = append(all, sharpness.Choice{Measure: sharpness.Filled(m)})
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	var back []sharpness.Choice
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(all, back) {
		t.Errorf("%s came back as %+v", text, back)
	}
	for _, bad := range []string{`{"measure": "feeling"}`, `{"measure": "asam-sharpness", "settings": {"rho": 1}}`, `{"measure": "keskar", "settings": []}`} {
		var c sharpness.Choice
		if err := json.Unmarshal([]byte(bad), &c); err == nil {
			t.Errorf("%s is %+v", bad, c)
		}
	}
}
