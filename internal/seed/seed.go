// Package seed turns one number, the seed of a run, into as many independent
// random streams as there are things to draw: the order of an epoch, the
// initial value of a tensor, the noise of a step.
//
// A stream is addressed by what it is for, not by when it is asked for. Two
// runs that differ in one thing therefore agree in every other draw, and a
// resumed run draws what the uninterrupted one would have drawn.
package seed

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
)

// Sum is the address of a stream: a hash of the seed and of what the stream is
// for. Labels may be strings and integers; their number, order and types count.
func Sum(seed int64, labels ...any) [32]byte {
	text := fmt.Appendf(nil, "evidence %d", seed)
	for _, l := range labels {
		v := fmt.Sprint(l)
		text = fmt.Appendf(text, " %T %d:%s", l, len(v), v)
	}
	return sha256.Sum256(text)
}

// Words is Sum as four 64-bit words, for generators that want a smaller key.
func Words(seed int64, labels ...any) [4]uint64 {
	sum := Sum(seed, labels...)
	var w [4]uint64
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(sum[8*i:])
	}
	return w
}

// Stream returns the generator at an address (ChaCha8, whose output the Go
// project promises not to change).
func Stream(seed int64, labels ...any) *rand.ChaCha8 {
	return rand.NewChaCha8(Sum(seed, labels...))
}

// Below draws an integer from 0 to n-1; the bias is below n/2^64. (Of rand.Rand
// only the raw output is promised to stay, not what it makes of it.)
func Below(src rand.Source, n int) int {
	hi, _ := bits.Mul64(src.Uint64(), uint64(n))
	return int(hi)
}

// Perm is a permutation of 0..n-1 (Fisher and Yates).
func Perm(src rand.Source, n int) []int {
	p := make([]int, n)
	for i := range p {
		j := Below(src, i+1)
		p[i] = p[j]
		p[j] = i
	}
	return p
}

// Uniform32 fills out with numbers of [lo, hi), the same on every platform:
// the conversions keep the compiler from fusing multiply and add.
func Uniform32(src rand.Source, lo, hi float32, out []float32) {
	for i := range out {
		u := float32(src.Uint64()>>40) * (1.0 / (1 << 24))
		out[i] = lo + float32(u*(hi-lo))
	}
}

// Normal32 fills out with numbers of the normal distribution with mean 0 and
// the given standard deviation, by Marsaglia's polar method, the same on every
// platform: of what it computes only square roots and its own logarithm are not
// plain arithmetic, and nothing is fused.
func Normal32(src rand.Source, deviation float64, out []float32) {
	unit := func() float64 { return float64(src.Uint64()>>11)*(1.0/(1<<52)) - 1 } // [-1, 1)
	for i := 0; i < len(out); {
		u, v := unit(), unit()
		r := float64(u*u) + float64(v*v)
		if r >= 1 || r == 0 {
			continue
		}
		f := float64(deviation * math.Sqrt(-2*log(r)/r))
		out[i] = float32(f * u)
		i++
		if i < len(out) {
			out[i] = float32(f * v)
			i++
		}
	}
}

// log is the natural logarithm of x > 0 to about 1e-15. That of package math
// may differ in its last bit from one processor to another.
//
//	x = m·2^e, 1/√2 <= m < √2;  ln x = e·ln 2 + 2·artanh(s),  s = (m-1)/(m+1), |s| < 0.172
func log(x float64) float64 {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	s := (m - 1) / (m + 1)
	t, series := float64(s*s), 0.0
	for k := 21; k > 0; k -= 2 { // s^k/k, the smallest first
		series = float64(series*t) + 1/float64(k)
	}
	return float64(float64(e)*math.Ln2) + float64(2*s*series)
}
