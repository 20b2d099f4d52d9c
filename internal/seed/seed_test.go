package seed

import (
	"encoding/hex"
	"math"
	"slices"
	"testing"
)

func TestAddressesDiffer(t *testing.T) {
	seen := map[[32]byte]int{}
	for i, sum := range [][32]byte{
		Sum(1), Sum(2), Sum(1, "a"), Sum(1, "a", "b"), Sum(1, "ab"), Sum(1, "a b"), Sum(1, "b", "a"),
		Sum(1, 1), Sum(1, "1"), Sum(1, int64(1)), Sum(11), Sum(1, 1, 1), Sum(-1), Sum(1, ""), Sum(1, "", ""),
		Sum(1, "a 8:string 1:b"),
	} {
		if j, ok := seen[sum]; ok {
			t.Errorf("addresses %d and %d are equal", i, j)
		}
		seen[sum] = i
	}
}

// Streams are part of what a seed means: results on record must come out again.
func TestStreamsStay(t *testing.T) {
	sum := Sum(1, "order", 2)
	if got, want := hex.EncodeToString(sum[:8]), "9687ddc02aa5a9d5"; got != want {
		t.Errorf("Sum: %s, want %s", got, want)
	}
	if got, want := Perm(Stream(1, "order", 2), 8), []int{6, 1, 7, 4, 2, 3, 5, 0}; !slices.Equal(got, want) {
		t.Errorf("Perm: %v, want %v", got, want)
	}
	u := make([]float32, 2)
	Uniform32(Stream(1, "order", 2), -1, 1, u)
	if want := []float32{-0.30485642, 0.9325032}; !slices.Equal(u, want) {
		t.Errorf("Uniform32: %v, want %v", u, want)
	}
}

func TestPermIsFair(t *testing.T) {
	const n, rounds = 6, 60000
	src := Stream(3, "fair")
	var count [n][n]int
	for range rounds {
		p := Perm(src, n)
		for i, v := range p {
			count[i][v]++
		}
		slices.Sort(p)
		for i, v := range p {
			if i != v {
				t.Fatalf("not a permutation: %v", p)
			}
		}
	}
	for i := range count {
		for v, c := range count[i] {
			if math.Abs(float64(c)-rounds/n) > 5*math.Sqrt(rounds/n) {
				t.Errorf("value %d at place %d: %d times of %d", v, i, c, rounds)
			}
		}
	}
	if Perm(src, 0) == nil || len(Perm(src, 1)) != 1 {
		t.Error("short permutations")
	}
}

func TestUniform32(t *testing.T) {
	u := make([]float32, 100000)
	Uniform32(Stream(4, "uniform"), -2, 3, u)
	mean := 0.0
	for _, x := range u {
		if !(x >= -2 && x < 3) {
			t.Fatalf("%v outside [-2, 3)", x)
		}
		mean += float64(x) / float64(len(u))
	}
	if math.Abs(mean-0.5) > 5*5/math.Sqrt(12*float64(len(u))) {
		t.Errorf("mean %v, want 0.5", mean)
	}
}

func TestLog(t *testing.T) {
	for _, x := range []float64{1, 0.5, 2, 0.7071, 0.70711, 1.4142, 1e-300, 3e-16, 0.999999999, 1.0000001, 123456.789} {
		if got, want := log(x), math.Log(x); !(math.Abs(got-want) <= 4e-16*max(1, math.Abs(want))) {
			t.Errorf("log(%v) = %v, want %v", x, got, want)
		}
	}
}

func TestNormal32(t *testing.T) {
	const n, deviation = 200001, 1.5 // an odd number
	x := make([]float32, n)
	Normal32(Stream(5, "normal"), deviation, x)
	var moment [5]float64
	within := 0.0 // one deviation
	for _, v := range x {
		z := float64(v) / deviation
		for k, p := 1, z; k < 5; k, p = k+1, p*z {
			moment[k] += p / n
		}
		if math.Abs(z) < 1 {
			within += 1.0 / n
		}
	}
	// The k-th mean of z has variance (E z^2k - (E z^k)^2)/n.
	for k, c := range []struct{ want, variance float64 }{1: {0, 1}, 2: {1, 2}, 3: {0, 15}, 4: {3, 96}} {
		if k > 0 && math.Abs(moment[k]-c.want) > 5*math.Sqrt(c.variance/n) {
			t.Errorf("moment %d is %v, want %v", k, moment[k], c.want)
		}
	}
	if math.Abs(within-0.6826895) > 5*math.Sqrt(0.22/n) {
		t.Errorf("%v within one deviation, want 0.683", within)
	}
	Normal32(Stream(1, "order", 2), 1, x[:3])
	if want := []float32{-0.08591393, 0.26279595, -0.6675002}; !slices.Equal(x[:3], want) {
		t.Errorf("Normal32: %v, want %v", x[:3], want)
	}
}
