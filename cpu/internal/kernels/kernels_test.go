package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/openpith/evidence/cpu/internal/winograd"
)

// Every kernel of every instruction set is compared with float64 arithmetic on
// unaligned data of awkward sizes, with NaN, infinities, zeros and subnormal
// numbers among the elements.

var nan, inf = float32(math.NaN()), float32(math.Inf(1))

var special = []float32{0, float32(math.Copysign(0, -1)), 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, nan, inf, -inf,
	math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 1e-40, 1e-38,
	88.72, 88.73, 89, 100, -87.5, -103, -104, -110, 1e10, -1e10, 3.0000001, 0.70710678, 0.70710677, 16777216}

// floats returns n numbers, 4 bytes off any larger alignment.
func floats(rng *rand.Rand, n int, withSpecial bool) []float32 {
	x := make([]float32, n+1)[1:]
	for i := range x {
		x[i] = float32(rng.NormFloat64() * math.Exp(rng.NormFloat64()*2))
		if withSpecial && rng.IntN(3) == 0 {
			x[i] = special[rng.IntN(len(special))]
		}
	}
	return x
}

func forEachSet(t *testing.T, f func(t *testing.T, s *Set)) {
	for _, s := range Sets() {
		t.Run(s.Name, func(t *testing.T) { f(t, s) })
	}
}

// near reports whether got is want up to ulps units of float32 in the last place.
func near(got float32, want, ulps float64) bool {
	w := float32(want)
	switch {
	case math.IsNaN(want):
		return got != got
	case math.IsInf(float64(w), 0) || math.IsInf(float64(got), 0):
		return got == w || math.Abs(want) > 0.9999*math.MaxFloat32 && math.Abs(float64(got)) > 0.9999*math.MaxFloat32
	}
	size := float32(math.Abs(want))
	ulp := float64(size) - float64(math.Nextafter32(size, 0))
	if next := math.Nextafter32(size, inf); next <= math.MaxFloat32 {
		ulp = float64(next) - float64(size) // twice as much at powers of two
	}
	return math.Abs(float64(got)-want) <= ulps*max(ulp, math.SmallestNonzeroFloat32)
}

var truth64 = map[bool]float64{true: 1}

// reference is each operation in float64, and the error allowed.
var reference = map[Op]struct {
	f    func(a, b, c float64) float64
	ulps float64
}{
	Copy:      {func(a, _, _ float64) float64 { return a }, 0},
	Add:       {func(a, b, _ float64) float64 { return a + b }, 0.5},
	Sub:       {func(a, b, _ float64) float64 { return a - b }, 0.5},
	Mul:       {func(a, b, _ float64) float64 { return a * b }, 0.5},
	Div:       {func(a, b, _ float64) float64 { return a / b }, 0.51},
	Max:       {func(a, b, _ float64) float64 { return max(a, b) }, 0},
	Min:       {func(a, b, _ float64) float64 { return min(a, b) }, 0},
	Equal:     {func(a, b, _ float64) float64 { return truth64[a == b] }, 0},
	NotEqual:  {func(a, b, _ float64) float64 { return truth64[a != b] }, 0},
	Less:      {func(a, b, _ float64) float64 { return truth64[a < b] }, 0},
	LessEqual: {func(a, b, _ float64) float64 { return truth64[a <= b] }, 0},
	Choose: {func(a, b, c float64) float64 {
		if a != 0 {
			return b
		}
		return c
	}, 0},
	Neg:   {func(a, _, _ float64) float64 { return -a }, 0},
	Abs:   {func(a, _, _ float64) float64 { return math.Abs(a) }, 0},
	Sqrt:  {func(a, _, _ float64) float64 { return math.Sqrt(a) }, 0.5},
	Rsqrt: {func(a, _, _ float64) float64 { return 1 / math.Sqrt(a) }, 1.5},
	Floor: {func(a, _, _ float64) float64 { return math.Floor(a) }, 0},
	Ceil:  {func(a, _, _ float64) float64 { return math.Ceil(a) }, 0},
	Round: {func(a, _, _ float64) float64 { return math.RoundToEven(a) }, 0},
	Sign: {func(a, _, _ float64) float64 {
		if a == 0 || a != a {
			return a
		}
		return math.Copysign(1, a)
	}, 0},
	NonNegative: {func(a, _, _ float64) float64 {
		if a != a {
			return a
		}
		return truth64[a >= 0]
	}, 0},
	Exp:      {func(a, _, _ float64) float64 { return math.Exp(a) }, 2},
	Log:      {func(a, _, _ float64) float64 { return math.Log(a) }, 2},
	Expm1:    {func(a, _, _ float64) float64 { return math.Expm1(a) }, 1},
	Log1p:    {func(a, _, _ float64) float64 { return math.Log1p(a) }, 1},
	Tanh:     {func(a, _, _ float64) float64 { return math.Tanh(a) }, 1},
	Logistic: {func(a, _, _ float64) float64 { return 1 / (1 + math.Exp(-a)) }, 2},
	Erf:      {func(a, _, _ float64) float64 { return math.Erf(a) }, 1},
	Sin:      {func(a, _, _ float64) float64 { return math.Sin(a) }, 1},
	Cos:      {func(a, _, _ float64) float64 { return math.Cos(a) }, 1},
	Pow:      {func(a, b, _ float64) float64 { return math.Pow(a, b) }, 1},
	Rem:      {func(a, b, _ float64) float64 { return math.Mod(a, b) }, 1},
	IsFinite: {func(a, _, _ float64) float64 { return truth64[!math.IsInf(a, 0) && a == a] }, 0},
	IsNaN:    {func(a, _, _ float64) float64 { return truth64[a != a] }, 0},
}

func TestElementwise(t *testing.T) {
	forEachSet(t, func(t *testing.T, s *Set) {
		rng := rand.New(rand.NewPCG(1, 2))
		for op := range NumOps {
			ref, ok := reference[op]
			if !ok && op != FMA {
				t.Fatalf("operation %d has no reference", op)
			}
			for _, n := range []int{0, 16, 32, 48, 1040} {
				a, b, c := floats(rng, n, true), floats(rng, n, true), floats(rng, n, true)
				got := make([]float32, n+1) // one beyond, to see that it stays
				got[n] = 42
				s.Vec[op](ptr(got), ptr(a), ptr(b), ptr(c), n)
				for i := range n {
					x, y, z := float64(a[i]), float64(b[i]), float64(c[i])
					if op == FMA {
						once := x*y + z
						ok := near(got[i], once, 0.51) || near(got[i], float64(a[i]*b[i])+z, 0.51)
						if !ok && math.Abs(x*y) < math.MaxFloat32 {
							t.Fatalf("fma(%v, %v, %v) = %v, want %v", a[i], b[i], c[i], got[i], once)
						}
						continue
					}
					if want := ref.f(x, y, z); !near(got[i], want, ref.ulps) {
						t.Fatalf("operation %d of (%v, %v, %v) = %v, want %v", op, a[i], b[i], c[i], got[i], want)
					}
				}
				if got[n] != 42 {
					t.Fatalf("operation %d writes beyond its end", op)
				}
			}
		}
	})
}

func ptr(x []float32) *float32 { return unsafe.SliceData(x) }

func TestConversions(t *testing.T) {
	forEachSet(t, func(t *testing.T, s *Set) {
		rng := rand.New(rand.NewPCG(3, 4))
		const n = 96
		i32, u32, u8 := make([]int32, n+1)[1:], make([]uint32, n+1)[1:], make([]uint8, n+1)[1:]
		for i := range n {
			u32[i] = rng.Uint32() >> rng.IntN(32)
			i32[i] = int32(rng.Uint32()) >> rng.IntN(32)
			u8[i] = uint8(rng.IntN(2))
		}
		u32[5], i32[5] = math.MaxUint32, math.MinInt32
		got := make([]float32, n)
		s.FromInt32(&got[0], (*byte)(unsafe.Pointer(&i32[0])), n)
		for i, v := range i32 {
			if got[i] != float32(v) {
				t.Errorf("int32 %d became %v", v, got[i])
			}
		}
		s.FromUint32(&got[0], (*byte)(unsafe.Pointer(&u32[0])), n)
		for i, v := range u32 {
			if got[i] != float32(v) {
				t.Errorf("uint32 %d became %v", v, got[i])
			}
		}
		s.FromBool(&got[0], &u8[0], n)
		for i, v := range u8 {
			if got[i] != float32(v) {
				t.Errorf("bool %d became %v", v, got[i])
			}
		}
	})
}

func TestTiles(t *testing.T) {
	forEachSet(t, func(t *testing.T, s *Set) {
		rng := rand.New(rand.NewPCG(5, 6))
		for width, tiles := range map[int][]TileFunc{16: s.Tile16, 32: s.Tile32} {
			for index, f := range tiles {
				rows := index + 1
				for _, c := range []struct{ ki, ko, add int }{{1, 1, 0}, {7, 1, 1}, {9, 3, 0}, {3, 5, 1}} {
					const aP, aK, aO, bK, bO, cP = 211, 3, 31, 37, 401, 50
					a := floats(rng, rows*aP+c.ki*aK+c.ko*aO, false)
					b := floats(rng, c.ki*bK+c.ko*bO+width, false)
					got := floats(rng, rows*cP+width, false)
					want := slices.Clone(got)
					f(&Tile{C: unsafe.Pointer(&got[0]), CP: 4 * cP, A: unsafe.Pointer(&a[0]), AP: 4 * aP, AK: 4 * aK, AO: 4 * aO,
						B: unsafe.Pointer(&b[0]), BK: 4 * bK, BO: 4 * bO, KI: c.ki, KO: c.ko, Add: c.add})
					for p := range rows {
						for j := range width {
							sum, scale := 0.0, 0.0
							if c.add == 1 {
								sum = float64(want[p*cP+j])
								scale = math.Abs(sum)
							}
							for o := range c.ko {
								for k := range c.ki {
									product := float64(a[p*aP+k*aK+o*aO]) * float64(b[k*bK+o*bO+j])
									sum += product
									scale += math.Abs(product)
								}
							}
							if d := math.Abs(float64(got[p*cP+j]) - sum); !(d <= 1e-6*scale) {
								t.Fatalf("%dx%d %+v: [%d][%d] = %v, want %v", rows, width, c, p, j, got[p*cP+j], sum)
							}
							want[p*cP+j] = got[p*cP+j]
						}
					}
					if !slices.Equal(got, want) {
						t.Fatalf("%dx%d %+v writes outside the tile", rows, width, c)
					}
				}
			}
		}
	})
}

func TestColumnSums(t *testing.T) {
	forEachSet(t, func(t *testing.T, s *Set) {
		rng := rand.New(rand.NewPCG(7, 8))
		for _, rows := range []int{0, 1, 3, 4, 5, 17} {
			for _, cols := range []int{16, 32, 64, 80, 144} {
				stride := cols + 3
				x, y := floats(rng, rows*stride+cols, false), floats(rng, rows*stride+cols, false)
				shift, start := floats(rng, cols, false), floats(rng, cols, false)
				sums := make([][]float32, 5)
				for i := range sums {
					sums[i] = slices.Clone(start)
				}
				s.ColSum(ptr(sums[0]), ptr(x), rows, stride, cols)
				s.ColMoments(ptr(sums[1]), ptr(sums[2]), ptr(x), ptr(shift), rows, stride, cols)
				s.ColProducts(ptr(sums[3]), ptr(sums[4]), ptr(x), ptr(y), ptr(shift), rows, stride, cols)
				for c := range cols {
					want := [5]float64{}
					scale := 1.0
					for i := range want {
						want[i] = float64(start[c])
						scale += math.Abs(want[i])
					}
					for r := range rows {
						a, b, m := float64(x[r*stride+c]), float64(y[r*stride+c]), float64(shift[c])
						for i, v := range [5]float64{a, a - m, (a - m) * (a - m), a, a * (b - m)} {
							want[i] += v
							scale += math.Abs(v)
						}
					}
					for i, w := range want {
						if d := math.Abs(float64(sums[i][c]) - w); !(d <= 1e-6*scale) {
							t.Fatalf("sum %d of %dx%d: column %d is %v, want %v", i, rows, cols, c, sums[i][c], w)
						}
					}
				}
			}
		}
	})
}

func TestRowReductions(t *testing.T) {
	forEachSet(t, func(t *testing.T, s *Set) {
		rng := rand.New(rand.NewPCG(9, 10))
		for _, n := range []int{16, 32, 48, 160} {
			x := floats(rng, n, false)
			var partial [Lanes]float32
			s.RowSum(&partial[0], ptr(x), n)
			var got, want, scale float64
			for _, p := range partial {
				got += float64(p)
			}
			largest := -inf
			for _, v := range x {
				want += float64(v)
				scale += math.Abs(float64(v))
				largest = max(largest, v)
			}
			if !(math.Abs(got-want) <= 1e-6*scale) {
				t.Errorf("sum of %d is %v, want %v", n, got, want)
			}
			s.RowMax(&partial[0], ptr(x), n)
			if got := slices.Max(partial[:]); got != largest {
				t.Errorf("max of %d is %v, want %v", n, got, largest)
			}
			x[n/2] = nan
			s.RowMax(&partial[0], ptr(x), n)
			if !slices.ContainsFunc(partial[:], func(v float32) bool { return v != v }) {
				t.Errorf("max of %d loses NaN", n)
			}
		}
	})
}

func TestPooling(t *testing.T) {
	forEachSet(t, func(t *testing.T, s *Set) {
		rng := rand.New(rand.NewPCG(11, 12))
		for _, c := range []struct{ kh, kw, cols int }{{1, 1, 16}, {3, 3, 32}, {2, 5, 48}} {
			pixelStride, rowStride := c.cols+2, (c.cols+2)*6
			x := floats(rng, rowStride*c.kh+c.cols, false)
			for i := range x {
				x[i] = float32(math.Round(float64(x[i]))) // ties
			}
			src, got, grad := floats(rng, c.cols, false), make([]float32, c.cols), make([]float32, len(x))
			s.MaxPool(ptr(got), ptr(x), 4*rowStride, 4*pixelStride, c.kh, c.kw, c.cols)
			s.MaxPoolGrad(ptr(grad), ptr(x), ptr(src), 4*rowStride, 4*pixelStride, c.kh, c.kw, c.cols)
			want := make([]float32, len(x))
			for j := range c.cols {
				best := j
				for h := range c.kh {
					for w := range c.kw {
						if i := h*rowStride + w*pixelStride + j; x[i] > x[best] {
							best = i
						}
					}
				}
				if got[j] != x[best] {
					t.Fatalf("%+v: channel %d is %v, want %v", c, j, got[j], x[best])
				}
				want[best] += src[j]
			}
			if !slices.Equal(grad, want) {
				t.Fatalf("%+v: gradient goes elsewhere", c)
			}
		}
	})
}

func TestTranspose8(t *testing.T) {
	forEachSet(t, func(t *testing.T, s *Set) {
		rng := rand.New(rand.NewPCG(13, 14))
		for _, n := range []int{0, 8, 24} {
			for _, dstStride := range []int{19, 5} { // 5: rows overlap
				const srcStride = 41
				x, got := floats(rng, 8*srcStride, false), make([]float32, n*dstStride+8)
				s.Transpose8(ptr(got), 4*dstStride, ptr(x), 4*srcStride, n)
				want := make([]float32, len(got))
				for i := range n {
					for j := range 8 {
						want[i*dstStride+j] = x[j*srcStride+i]
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("transpose of 8x%d to rows %d apart is wrong", n, dstStride)
				}
			}
		}
	})
}

// Known answers of Philox4x32-10 from the authors' Random123 distribution.
func TestPhiloxKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		key, low, high uint64
		want           [4]uint32
	}{
		{0, 0, 0, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{math.MaxUint64, math.MaxUint64, math.MaxUint64, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := Philox4x32(c.key, c.low, c.high); got != c.want {
			t.Errorf("Philox(%x, %x, %x) = %x, want %x", c.key, c.low, c.high, got, c.want)
		}
	}
}

func TestPhilox(t *testing.T) {
	forEachSet(t, func(t *testing.T, s *Set) {
		for _, c := range []struct{ key, low, high uint64 }{
			{0, 0, 0}, {0x0123456789abcdef, math.MaxUint32 - 3, 77}, {math.MaxUint64, 1 << 63, math.MaxUint64}} {
			d := &Draw{Keys: RoundKeys(c.key), Low: c.low, High: c.high, Limit: 0x1p31, Scale: 0x1p-31, Shift: -0.75, Factor: 0.3}
			for _, n := range []int{0, 32, 96} {
				words := make([]uint32, 4*n+1)
				numbers, noisy, w := make([]float32, 4*n+1), make([]float32, 4*n+1), floats(rand.New(rand.NewPCG(1, c.key)), 4*n+1, false)
				words[4*n], numbers[4*n], noisy[4*n] = 77, 77, 77
				s.Philox(unsafe.SliceData(words), d, n)
				s.Uniform(ptr(numbers), d, n)
				s.Noise(ptr(noisy), d, n, ptr(w))
				for i := range n {
					want := Philox4x32(c.key, c.low+uint64(i), c.high)
					if [4]uint32(words[4*i:]) != want {
						t.Fatalf("%+v: counter %d of %d gives %x, want %x", c, i, n, words[4*i:4*i+4], want)
					}
					for j, word := range want {
						// Exactly: the conversion rounds once, and so does the sum.
						u := float32(min(float64(float32(word)), 0x1p31)*0x1p-31 - 0.75)
						if numbers[4*i+j] != u {
							t.Fatalf("%+v: word %x gives %g, want %g", c, word, numbers[4*i+j], u)
						}
						if sum := float64(u)*float64(float32(0.3)) + float64(w[4*i+j]); math.Abs(float64(noisy[4*i+j])-sum) > 1e-7*(1+math.Abs(sum)) {
							t.Fatalf("%+v: word %x on %g gives %g, want %g", c, word, w[4*i+j], noisy[4*i+j], sum)
						}
					}
				}
				if words[4*n] != 77 || numbers[4*n] != 77 || noisy[4*n] != 77 {
					t.Fatalf("%+v: wrote beyond %d counters", c, n)
				}
			}
		}
	})
}

func TestStrips(t *testing.T) {
	forEachSet(t, func(t *testing.T, s *Set) {
		const stride = StripWidth + 24
		rng := rand.New(rand.NewPCG(15, 16))
		for _, rows := range []int{0, 1, 5} {
			d := Draw{Keys: RoundKeys(99), Low: math.MaxUint32 - 40, High: 3, Limit: 0x1p32, Scale: 0x1p-31, Shift: -1, Step: 38}
			low := d.Low
			w, factor := floats(rng, max(rows, 1)*stride, false), floats(rng, StripWidth, false)
			u, sums := make([]float32, rows*StripWidth+1), floats(rng, 2*StripWidth, false)
			want := make([]float64, len(sums))
			for i, v := range sums {
				want[i] = float64(v)
			}
			u[rows*StripWidth] = 77
			s.StripNorms(ptr(u), &d, ptr(w), ptr(sums), rows, stride)
			if d.Low != low+uint64(rows)*d.Step {
				t.Fatalf("the counter is at %d after %d rows from %d", d.Low, rows, low)
			}
			for i := range rows {
				for j := range StripWidth {
					word := Philox4x32(99, low+uint64(i)*d.Step+uint64(j/4), 3)[j%4]
					x := float32(float64(float32(word))*0x1p-31 - 1)
					if got := u[i*StripWidth+j]; got != x {
						t.Fatalf("row %d of %d, column %d: %g, want %g", i, rows, j, got, x)
					}
					want[j] += float64(x) * float64(x)
					want[StripWidth+j] += float64(w[i*stride+j]) * float64(w[i*stride+j])
				}
			}
			for j, v := range sums {
				if math.Abs(float64(v)-want[j]) > 1e-5*(1+math.Abs(want[j])) {
					t.Fatalf("%d rows, sum %d is %g, want %g", rows, j, v, want[j])
				}
			}
			dst := make([]float32, max(rows, 1)*stride)
			for i := range dst {
				dst[i] = 77
			}
			s.StripAdd(ptr(dst), ptr(u), ptr(w), ptr(factor), rows, stride)
			for i, got := range dst {
				r, j := i/stride, i%stride
				if r >= rows || j >= StripWidth {
					if got != 77 {
						t.Fatalf("%d rows: wrote to row %d, column %d", rows, r, j)
					}
					continue
				}
				sum := float64(u[r*StripWidth+j])*float64(factor[j]) + float64(w[i])
				if math.Abs(float64(got)-sum) > 1e-6*(1+math.Abs(sum)) {
					t.Fatalf("row %d of %d, column %d: %g, want %g", r, rows, j, got, sum)
				}
			}
			if u[rows*StripWidth] != 77 {
				t.Fatalf("wrote beyond %d rows", rows)
			}
		}
	})
}

// Each transform is what its matrix says, for tiles that overlap and have gaps.
func TestWinogradTransforms(t *testing.T) {
	forEachSet(t, func(t *testing.T, s *Set) {
		rng := rand.New(rand.NewPCG(17, 18))
		for i := range len(winograd.Algorithms) * winograd.Count {
			algorithm, which := i/winograd.Count, i%winograd.Count
			transform := winograd.Algorithms[algorithm].Transforms[which]
			l := transform.Matrix
			rows, size := len(l), len(l[0])
			const lanes, tiles = 2 * Lanes, 3
			const srcCol, srcRow, srcTile = lanes, 9 * lanes, 2*lanes + 16
			const dstCol, dstRow, dstTile = lanes + 16, 11 * lanes, 100 * lanes
			x := floats(rng, size*srcRow+tiles*srcTile, false)
			got := make([]float32, tiles*dstTile)
			span := Span{DstRow: 4 * dstRow, DstCol: 4 * dstCol, DstTile: 4 * dstTile, SrcRow: 4 * srcRow, SrcCol: 4 * srcCol, SrcTile: 4 * srcTile,
				Tiles: tiles, Lanes: lanes}
			s.Winograd[algorithm][which](ptr(got), ptr(x), &span)
			written := 0
			for tile := range tiles {
				for r := range rows {
					for c := range rows {
						for lane := range lanes {
							var want, size1 float64
							for k := range size {
								for j := range size {
									v := l[r][k] * l[c][j] * float64(x[tile*srcTile+k*srcRow+j*srcCol+lane])
									want, size1 = want+v, size1+math.Abs(v)
								}
							}
							at := tile*dstTile + r*dstRow + c*dstCol + lane
							if math.Abs(float64(got[at])-want) > 1e-6*(1e-6+size1) {
								t.Fatalf("%s: tile %d, element %d, %d, lane %d is %g, want %g", transform.Name, tile, r, c, lane, got[at], want)
							}
							got[at] = 0
							written++
						}
					}
				}
			}
			for at, v := range got {
				if v != 0 {
					t.Fatalf("%s: wrote to %d", transform.Name, at)
				}
			}
		}
	})
}

// BenchmarkPeak measures the ceilings: fused multiply-adds from registers and
// the first cache level, and copying through main memory.
func BenchmarkPeak(b *testing.B) {
	for _, s := range Sets() {
		tiles := s.Tile32
		width := 32
		if len(tiles) == 0 {
			tiles, width = s.Tile16, 16
		}
		for _, rows := range []int{4, 6, 8, 12} {
			if rows > len(tiles) {
				continue
			}
			b.Run(fmt.Sprintf("%s/%dx%d", s.Name, rows, width), func(b *testing.B) {
				const k = 64
				a, x, c := make([]float32, rows*k), make([]float32, k*width), make([]float32, rows*width)
				t := Tile{C: unsafe.Pointer(&c[0]), CP: 4 * width, A: unsafe.Pointer(&a[0]), AP: 4 * k, AK: 4,
					B: unsafe.Pointer(&x[0]), BK: 4 * width, KI: k, KO: 1}
				for b.Loop() {
					tiles[rows-1](&t)
				}
				b.ReportMetric(float64(b.N)*2*float64(rows*width*k)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
		b.Run(s.Name+"/16x16", func(b *testing.B) {
			rows := min(16, len(s.Tile16))
			const k = 64
			a, x, c := make([]float32, rows*k), make([]float32, k*16), make([]float32, rows*16)
			t := Tile{C: unsafe.Pointer(&c[0]), CP: 64, A: unsafe.Pointer(&a[0]), AP: 4 * k, AK: 4,
				B: unsafe.Pointer(&x[0]), BK: 64, KI: k, KO: 1}
			for b.Loop() {
				s.Tile16[rows-1](&t)
			}
			b.ReportMetric(float64(b.N)*2*float64(rows*16*k)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
	b.Run("copy", func(b *testing.B) {
		src, dst := make([]float32, 16<<20), make([]float32, 16<<20)
		copy(dst, src) // so that the system has mapped the memory
		b.SetBytes(int64(2 * 4 * len(src)))
		for b.Loop() {
			copy(dst, src)
		}
	})
}

// BenchmarkPhilox draws 32 kB of words, and as many numbers and noisy weights.
func BenchmarkPhilox(b *testing.B) {
	for _, s := range Sets() {
		d := &Draw{Keys: RoundKeys(1), Low: 2, High: 3, Limit: 0x1p32, Scale: 0x1p-32, Factor: 0.1}
		words, numbers := make([]uint32, 4*2048), make([]float32, 4*2048)
		for name, f := range map[string]func(){
			"words":   func() { s.Philox(&words[0], d, 2048) },
			"uniform": func() { s.Uniform(&numbers[0], d, 2048) },
			"noise":   func() { s.Noise(&numbers[0], d, 2048, &numbers[0]) },
		} {
			b.Run(s.Name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(4 * len(words)))
				for b.Loop() {
					f()
				}
			})
		}
	}
}
