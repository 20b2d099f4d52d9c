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
