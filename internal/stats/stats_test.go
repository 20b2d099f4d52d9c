package stats

import (
	"math"
	"testing"
)

// Student's sleep data as R prints it: t.test(extra ~ group, paired = TRUE)
// gives t = 4.0621, p = 0.002833, mean 1.58, interval 0.7001142 to 2.4598858.
func TestPairedTAgainstR(t *testing.T) {
	s := Summarize([]float64{1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4})
	stat, p := PairedT(s)
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"mean", s.Mean, 1.58}, {"low", s.Low, 0.7001142}, {"high", s.High, 2.4598858}, {"t", stat, 4.062128}, {"p", p, 0.002832890},
	} {
		if !(math.Abs(c.got-c.want) < 1e-6) {
			t.Errorf("%s = %.8f, want %.8f", c.name, c.got, c.want)
		}
	}
}

func TestNoSpread(t *testing.T) {
	if s := Summarize([]float64{3}); s != (Summary{1, 3, 0, 3, 3}) {
		t.Errorf("a single value: %+v", s)
	}
	for d, want := range map[float64]float64{0: 1, 0.5: 0} {
		if stat, p := PairedT(Summarize([]float64{d, d, d})); stat != 0 || p != want {
			t.Errorf("constant difference %v: t %v, p %v, want 0 and %v", d, stat, p, want)
		}
	}
}

func TestHolm(t *testing.T) {
	for i, p := range Holm([]float64{0.01, 0.04, 0.03}) {
		if want := []float64{0.03, 0.06, 0.06}[i]; !(math.Abs(p-want) < 1e-12) {
			t.Errorf("p-value %d: %v, want %v", i, p, want)
		}
	}
}

// The trees of R's data set (girth, volume), as R prints it: cor.test gives
// r = 0.9671194 (0.9322519 to 0.9841887); with method "kendall" τ = 0.8302746.
func TestCorrelationsAgainstR(t *testing.T) {
	girth := []float64{8.3, 8.6, 8.8, 10.5, 10.7, 10.8, 11.0, 11.0, 11.1, 11.2, 11.3, 11.4, 11.4, 11.7, 12.0, 12.9, 12.9, 13.3, 13.7, 13.8, 14.0, 14.2, 14.5, 16.0, 16.3, 17.3, 17.5, 17.9, 18.0, 18.0, 20.6}
	volume := []float64{10.3, 10.3, 10.2, 16.4, 18.8, 19.7, 15.6, 18.2, 22.6, 19.9, 24.2, 21.0, 21.4, 21.3, 19.1, 22.2, 33.8, 27.4, 25.7, 24.9, 34.5, 31.7, 36.3, 38.3, 42.6, 55.4, 55.7, 58.3, 51.5, 51.0, 77.0}
	r, ok := Pearson(girth, volume)
	if !ok || !(math.Abs(r.Value-0.9671194) < 1e-6 && math.Abs(r.Low-0.9322519) < 1e-6 && math.Abs(r.High-0.9841887) < 1e-6) {
		t.Errorf("Pearson %+v, %v", r, ok)
	}
	k, ok := Kendall(girth, volume)
	if !ok || !(math.Abs(k.Value-0.8302746) < 1e-6 && k.Low < k.Value && k.Value < k.High && k.High < 1) {
		t.Errorf("Kendall %+v, %v", k, ok)
	}
}

func TestCorrelationsThatAreNone(t *testing.T) {
	up := []float64{1, 2, 3, 4, 5, 6}
	if r, ok := Pearson(up, []float64{2, 4, 6, 8, 10, 12}); !ok || r != (Interval{1, 1, 1}) {
		t.Errorf("on a line: %+v", r)
	}
	if k, ok := Kendall(up, []float64{9, 8, 5, 4, 3, 1}); !ok || k != (Interval{-1, -1, -1}) {
		t.Errorf("in reverse: %+v", k)
	}
	for name, ys := range map[string][]float64{"constant": {1, 1, 1, 1, 1, 1}} {
		if _, ok := Pearson(up, ys); ok {
			t.Errorf("%s: Pearson is defined", name)
		}
		if _, ok := Kendall(up, ys); ok {
			t.Errorf("%s: Kendall is defined", name)
		}
	}
	if _, ok := Pearson(up[:3], up[:3]); ok {
		t.Error("three pairs have an interval")
	}
	if _, ok := Kendall(up[:4], up[:4]); ok {
		t.Error("four pairs have an interval")
	}
}
