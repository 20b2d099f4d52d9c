package landscape_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/openpith/evidence/landscape"
	"github.com/openpith/evidence/objective"
)

// bowl is L(w) = ½ Σ c_i·(w_i-m_i)² with a kernel of two filters, a bias and a
// statistic that counts like a weight.
type bowl struct {
	c, m  []float64
	calls atomic.Int64
	stop  func(call int64) error
}

func newBowl() *bowl {
	return &bowl{c: []float64{1, 2, 3, 4, 5, 1}, m: []float64{0.1, 0.2, 0, 0, 0, 0}}
}

func (b *bowl) Layout() *objective.Layout {
	return objective.NewLayout(
		objective.Tensor{Path: "k", Shape: []int{2, 2}, Role: objective.Weight},
		objective.Tensor{Path: "b", Shape: []int{1}, Role: objective.Bias},
		objective.Tensor{Path: "mean", Shape: []int{1}, Role: objective.Statistic},
	)
}
func (b *bowl) Examples() int           { return 3 }
func (b *bowl) Parts() int              { return 1 }
func (b *bowl) Part(int) objective.Func { return b }
func (b *bowl) Gradient(context.Context, []float32, []float32) (objective.Value, error) {
	panic("a landscape needs no gradient")
}
func (b *bowl) Loss(_ context.Context, w []float32) (objective.Value, error) {
	if n := b.calls.Add(1); b.stop != nil {
		if err := b.stop(n); err != nil {
			return objective.Value{}, err
		}
	}
	l := 0.0
	for i, c := range b.c {
		d := float64(w[i]) - b.m[i]
		l += c * d * d / 2
	}
	return objective.Value{Loss: l, Accuracy: 1 / (1 + l)}, nil
}

var axis = landscape.Axis{From: -1, To: 1, N: 5}

func measure(t *testing.T, s *landscape.Slice, file string, opts landscape.Options, axes ...landscape.Axis) *landscape.Grid {
	t.Helper()
	g, err := landscape.Measure(context.Background(), s, axes, []landscape.Series{{Name: "train", Func: newBowl()}, {Name: "test", Func: newBowl()}}, file, opts)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestASliceOfABowlIsAParabola(t *testing.T) {
	a := []float32{1, 0, 0, 0, 0, 0}
	b := []float32{0, 2, 0, 0, 1, 3}
	s, err := landscape.Between(a, b)
	if err != nil {
		t.Fatal(err)
	}
	g := measure(t, s, filepath.Join(t.TempDir(), "l"), landscape.Options{}, landscape.Axis{From: -1, To: 2, N: 7})
	f := newBowl()
	for i, x := range g.Coordinates[0] {
		w := make([]float32, len(a))
		for j := range w {
			w[j] = float32((1-x)*float64(a[j]) + x*float64(b[j]))
		}
		want, _ := f.Loss(context.Background(), w)
		for _, series := range g.Values {
			if !(math.Abs(series[i].Loss-want.Loss) < 1e-5) || !(math.Abs(series[i].Accuracy-want.Accuracy) < 1e-5) {
				t.Errorf("at %v: %v, want %v", x, series[i], want)
			}
		}
	}
	// A parabola has equal second differences.
	l := g.Values[0]
	for i := 2; i < len(l)-1; i++ {
		if d := (l[i+1].Loss - 2*l[i].Loss + l[i-1].Loss) - (l[2].Loss - 2*l[1].Loss + l[0].Loss); !(math.Abs(d) < 1e-4) {
			t.Errorf("second differences differ by %v", d)
		}
	}
}

func TestRandomDirectionsAreAsLongAsTheFilters(t *testing.T) {
	l := newBowl().Layout()
	w := []float32{3, 1, 4, 2, 5, 9} // filters of k: (3, 4) and (1, 2)
	s, err := landscape.Random(l, w, 2, objective.Filter, objective.Selection{ExceptBias: true}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for k, d := range s.Directions {
		if n := math.Hypot(float64(d[0]), float64(d[2])); !(math.Abs(n-5) < 1e-4) {
			t.Errorf("direction %d: first filter of length %v, want 5", k, n)
		}
		if n := math.Hypot(float64(d[1]), float64(d[3])); !(math.Abs(n-math.Sqrt(5)) < 1e-4) {
			t.Errorf("direction %d: second filter of length %v", k, n)
		}
		if d[4] != 0 || d[5] != 0 {
			t.Errorf("direction %d moves a bias or a statistic: %v", k, d)
		}
	}
	if reflect.DeepEqual(s.Directions[0], s.Directions[1]) {
		t.Error("both directions are the same")
	}
	again, _ := landscape.Random(l, w, 2, objective.Filter, objective.Selection{ExceptBias: true}, 1)
	other, _ := landscape.Random(l, w, 2, objective.Filter, objective.Selection{ExceptBias: true}, 2)
	if !reflect.DeepEqual(s, again) || reflect.DeepEqual(s, other) {
		t.Error("directions do not follow the seed")
	}
}

func TestTrajectoryFindsThePlane(t *testing.T) {
	// Points of a plane in ten dimensions: the path is kept whole.
	r := rand.New(rand.NewPCG(1, 1))
	e, f, o := make([]float64, 10), make([]float64, 10), make([]float64, 10)
	for i := range e {
		e[i], f[i], o[i] = r.NormFloat64(), r.NormFloat64(), r.NormFloat64()
	}
	var points [][]float32
	for range 6 {
		x, y := 3*r.NormFloat64(), r.NormFloat64()
		p := make([]float32, 10)
		for i := range p {
			p[i] = float32(o[i] + x*e[i] + y*f[i])
		}
		points = append(points, p)
	}
	s, err := landscape.Trajectory(points)
	if err != nil {
		t.Fatal(err)
	}
	if sum := s.Explained[0] + s.Explained[1]; !(math.Abs(sum-1) < 1e-6) || s.Explained[0] < s.Explained[1] {
		t.Errorf("explained %v", s.Explained)
	}
	for i, at := range s.Path {
		w := s.At(at...)
		for j := range w {
			if !(math.Abs(float64(w[j]-points[i][j])) < 1e-4) {
				t.Errorf("point %d lies %v away in element %d", i, w[j]-points[i][j], j)
			}
		}
	}
	if at := s.Path[5]; at[0] != 0 || at[1] != 0 {
		t.Errorf("the last point lies at %v", at)
	}
}

func TestSlicesThatDoNotExist(t *testing.T) {
	l := newBowl().Layout()
	w := make([]float32, 6)
	for name, err := range map[string]error{
		"other length":   second(landscape.Between(w, w[:3])),
		"same point":     second(landscape.Between(w, w)),
		"3 dimensions":   second(landscape.Random(l, w, 3, objective.Filter, objective.Selection{}, 1)),
		"two points":     second(landscape.Trajectory([][]float32{w, w})),
		"points on line": second(landscape.Trajectory([][]float32{{1, 1}, {2, 2}, {4, 4}})),
	} {
		if !errors.Is(err, landscape.ErrSlice) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func plane(t *testing.T) *landscape.Slice {
	t.Helper()
	s, err := landscape.Random(newBowl().Layout(), []float32{1, 1, 1, 1, 0, 0}, 2, objective.Filter, objective.Selection{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAnInterruptedSurveyGoesOn stops a survey after every possible cell, the
// last line torn, and wants what an uninterrupted one gives.
func TestAnInterruptedSurveyGoesOn(t *testing.T) {
	s := plane(t)
	dir := t.TempDir()
	want := measure(t, s, filepath.Join(dir, "whole"), landscape.Options{Refine: 1}, axis, axis)
	file := filepath.Join(dir, "parts")
	stopped := errors.New("stopped")
	calls := int64(0)
	for rounds := 0; ; rounds++ {
		f := newBowl()
		f.stop = func(n int64) error {
			if n > 4 {
				return stopped
			}
			return nil
		}
		g, err := landscape.Measure(context.Background(), s, []landscape.Axis{axis, axis},
			[]landscape.Series{{Name: "train", Func: f}, {Name: "test", Func: newBowl()}}, file, landscape.Options{Refine: 1})
		calls += min(f.calls.Load(), 4)
		if err == nil {
			if !reflect.DeepEqual(g, want) {
				t.Errorf("resumed:\n%v\nat once:\n%v", g, want)
			}
			if rounds < 5 {
				t.Errorf("only %d rounds", rounds)
			}
			break
		}
		if !errors.Is(err, stopped) {
			t.Fatal(err)
		}
		out, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.WriteString(`{"at":[0.12`); err != nil {
			t.Fatal(err)
		}
		out.Close()
	}
	if cells := int64(len(want.Values[0])); calls != cells {
		t.Errorf("%d evaluations for %d cells", calls, cells)
	}
	loaded, err := landscape.Load(file)
	if err != nil || !reflect.DeepEqual(loaded, want) {
		t.Errorf("loaded %v, %v", loaded, err)
	}
}

func TestWorkersDoNotMatter(t *testing.T) {
	s := plane(t)
	dir := t.TempDir()
	one := measure(t, s, filepath.Join(dir, "1"), landscape.Options{}, axis, axis)
	four := measure(t, s, filepath.Join(dir, "4"), landscape.Options{Workers: 4}, axis, axis)
	if !reflect.DeepEqual(one, four) {
		t.Errorf("one worker %v, four %v", one, four)
	}
}

func TestRefinementClosesIn(t *testing.T) {
	s, err := landscape.Between([]float32{0, 0, 0, 0, 0, 0}, []float32{1, 0, 0, 0, 0, 0}) // least at 0.1
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	coarse := measure(t, s, filepath.Join(dir, "0"), landscape.Options{}, axis)
	fine := measure(t, s, filepath.Join(dir, "6"), landscape.Options{Refine: 6}, axis)
	at := func(g *landscape.Grid) float64 { return g.Coordinates[0][g.Least(0)] }
	if at(coarse) != 0 || !(math.Abs(at(fine)-0.1) < 0.01) {
		t.Errorf("least at %v, refined %v, want 0.1", at(coarse), at(fine))
	}
	if n := len(fine.Coordinates[0]); n != 5+2*6 {
		t.Errorf("%d points", n)
	}
}

func TestTheFileOfAnotherSurveyIsNotTouched(t *testing.T) {
	s := plane(t)
	file := filepath.Join(t.TempDir(), "l")
	measure(t, s, file, landscape.Options{Note: map[string]string{"command": "x"}}, axis, axis)
	measure(t, s, file, landscape.Options{Note: map[string]string{"command": "y"}}, axis, axis) // notes may differ
	before, _ := os.ReadFile(file)
	other := *s
	other.Origin = append([]float32{7}, s.Origin[1:]...)
	series := []landscape.Series{{Name: "train", Func: newBowl()}, {Name: "test", Func: newBowl()}}
	for name, try := range map[string]func() error{
		"other weights": func() error {
			return second(landscape.Measure(context.Background(), &other, []landscape.Axis{axis, axis}, series, file, landscape.Options{}))
		},
		"other axes": func() error {
			return second(landscape.Measure(context.Background(), s, []landscape.Axis{axis, {From: 0, To: 1, N: 5}}, series, file, landscape.Options{}))
		},
		"other examples": func() error { // as many, under the same names
			others := []landscape.Series{series[0], {Name: "test", Data: "drawn by seed 2", Func: newBowl()}}
			return second(landscape.Measure(context.Background(), s, []landscape.Axis{axis, axis}, others, file, landscape.Options{}))
		},
		"other norm": func() error {
			other := *s
			other.Norm = objective.Layer
			return second(landscape.Measure(context.Background(), &other, []landscape.Axis{axis, axis}, series, file, landscape.Options{}))
		},
		"other series": func() error {
			return second(landscape.Measure(context.Background(), s, []landscape.Axis{axis, axis}, series[:1], file, landscape.Options{}))
		},
	} {
		if err := try(); !errors.Is(err, landscape.ErrForeign) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if after, _ := os.ReadFile(file); string(after) != string(before) {
		t.Error("the file changed")
	}
}

func TestBadFilesAndAxes(t *testing.T) {
	s := plane(t)
	dir := t.TempDir()
	series := []landscape.Series{{Name: "train", Func: newBowl()}}
	for name, text := range map[string]string{
		"not JSON": "hello\n", "one line of prose": "hello", "no header": "{}\n",
		"other format": `{"format":"landscape/9","axes":[[0]],"series":["x"]}` + "\n",
		"bad cell":     `{"format":"landscape/1","kind":"x","axes":[[0,1]],"series":["x"]}` + "\n{}\n",
	} {
		file := filepath.Join(dir, strings.ReplaceAll(name, " ", ""))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := landscape.Measure(context.Background(), s, []landscape.Axis{axis, axis}, series, file, landscape.Options{})
		if !errors.Is(err, landscape.ErrFile) {
			t.Errorf("%s: measure: %v", name, err)
		}
		if _, err := landscape.Load(file); !errors.Is(err, landscape.ErrFile) {
			t.Errorf("%s: load: %v", name, err)
		}
		if after, _ := os.ReadFile(file); string(after) != text {
			t.Errorf("%s: the file changed", name)
		}
	}
	for _, axes := range [][]landscape.Axis{{axis}, {axis, {From: 1, To: 0, N: 3}}, {axis, {From: 0, To: 1, N: 1}}, {axis, {From: 0, To: math.NaN(), N: 3}}} {
		_, err := landscape.Measure(context.Background(), s, axes, series, filepath.Join(dir, "new"), landscape.Options{})
		if !errors.Is(err, landscape.ErrSlice) {
			t.Errorf("axes %v: %v", axes, err)
		}
	}
}

func TestLossesThatAreNoNumbers(t *testing.T) {
	s, err := landscape.Between(make([]float32, 6), []float32{1, 0, 0, 0, 0, 0})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "l")
	b := newBowl()
	b.c[0] = math.Inf(1)
	g, err := landscape.Measure(context.Background(), s, []landscape.Axis{axis}, []landscape.Series{{Name: "train", Func: b}}, file, landscape.Options{Refine: 1})
	if err != nil {
		t.Fatal(err)
	}
	if g.Least(0) != -1 {
		t.Errorf("least %d of %v", g.Least(0), g.Values)
	}
	if _, err := landscape.Load(file); err != nil {
		t.Error(err)
	}
}
