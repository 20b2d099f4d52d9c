package kernels

import (
	"math"
	"math/bits"
	"unsafe"

	"github.com/openpith/evidence/cpu/internal/winograd"
)

// Portable is the set for processors without assembly here, and the reference
// of the others in tests.
var Portable = newPortable()

func newPortable() *Set {
	s := &Set{
		Name:       "go",
		FromInt32:  convert[int32],
		FromUint32: convert[uint32],
		FromBool:   convert[uint8],
		ColSum:     colSum,
		ColMoments: colMoments, ColProducts: colProducts,
		RowSum: rowSum, RowMax: rowMax,
		MaxPool: maxPool, MaxPoolGrad: maxPoolGrad,
		Transpose8: transpose8,
		Philox:     philox,
		Uniform:    uniform,
		Noise:      noise,
		StripNorms: stripNorms, StripAdd: stripAdd,
	}
	for p := 1; p <= 4; p++ {
		s.Tile16 = append(s.Tile16, func(t *Tile) { tile16(t, p) })
	}
	s.Vec = portableVec
	for i, a := range winograd.Algorithms {
		for j, t := range a.Transforms {
			s.Winograd[i][j] = sandwich(t.Matrix)
		}
	}
	return s
}

func slice(p *float32, n int) []float32 { return unsafe.Slice(p, n) }

// unary and binary make kernels of functions of numbers.
func unary(f func(x float32) float32) Vec {
	return func(dst, a, _, _ *float32, n int) {
		d, x := slice(dst, n), slice(a, n)
		for i := range d {
			d[i] = f(x[i])
		}
	}
}

func binary(f func(x, y float32) float32) Vec {
	return func(dst, a, b, _ *float32, n int) {
		d, x, y := slice(dst, n), slice(a, n), slice(b, n)
		for i := range d {
			d[i] = f(x[i], y[i])
		}
	}
}

// wide makes a function of float32 from one of float64.
func wide(f func(float64) float64) Vec {
	return unary(func(x float32) float32 { return float32(f(float64(x))) })
}

func truth(b bool) float32 {
	if b {
		return 1
	}
	return 0
}

var portableVec = [NumOps]Vec{
	Copy:      func(dst, a, _, _ *float32, n int) { copy(slice(dst, n), slice(a, n)) },
	Add:       binary(func(x, y float32) float32 { return x + y }),
	Sub:       binary(func(x, y float32) float32 { return x - y }),
	Mul:       binary(func(x, y float32) float32 { return x * y }),
	Div:       binary(func(x, y float32) float32 { return x / y }),
	Max:       binary(func(x, y float32) float32 { return max(x, y) }),
	Min:       binary(func(x, y float32) float32 { return min(x, y) }),
	Equal:     binary(func(x, y float32) float32 { return truth(x == y) }),
	NotEqual:  binary(func(x, y float32) float32 { return truth(x != y) }),
	Less:      binary(func(x, y float32) float32 { return truth(x < y) }),
	LessEqual: binary(func(x, y float32) float32 { return truth(x <= y) }),
	FMA: func(dst, a, b, c *float32, n int) {
		d, x, y, z := slice(dst, n), slice(a, n), slice(b, n), slice(c, n)
		for i := range d {
			d[i] = x[i]*y[i] + z[i]
		}
	},
	Choose: func(dst, a, b, c *float32, n int) {
		d, x, y, z := slice(dst, n), slice(a, n), slice(b, n), slice(c, n)
		for i := range d {
			if x[i] != 0 {
				d[i] = y[i]
			} else {
				d[i] = z[i]
			}
		}
	},
	Neg:   unary(func(x float32) float32 { return -x }),
	Abs:   unary(func(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }),
	Sqrt:  wide(math.Sqrt),
	Rsqrt: unary(func(x float32) float32 { return 1 / float32(math.Sqrt(float64(x))) }),
	Floor: wide(math.Floor),
	Ceil:  wide(math.Ceil),
	Round: wide(math.RoundToEven),
	Sign: unary(func(x float32) float32 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return x
	}),
	NonNegative: unary(func(x float32) float32 {
		switch {
		case x >= 0:
			return 1
		case x < 0:
			return 0
		}
		return x
	}),
	Exp:      wide(math.Exp),
	Log:      wide(math.Log),
	Expm1:    wide(math.Expm1),
	Log1p:    wide(math.Log1p),
	Tanh:     wide(math.Tanh),
	Logistic: wide(func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }),
	Erf:      wide(math.Erf),
	Sin:      wide(math.Sin),
	Cos:      wide(math.Cos),
	Pow:      binary(func(x, y float32) float32 { return float32(math.Pow(float64(x), float64(y))) }),
	Rem:      binary(func(x, y float32) float32 { return float32(math.Mod(float64(x), float64(y))) }),
	IsFinite: unary(func(x float32) float32 { return truth(x-x == 0) }),
	IsNaN:    unary(func(x float32) float32 { return truth(x != x) }),
}

// tile16 is the micro-kernel for a number of rows and 16 columns.
func tile16(t *Tile, rows int) {
	for p := range rows {
		var acc [16]float32
		c := (*[16]float32)(unsafe.Add(t.C, p*t.CP))
		if t.Add != 0 {
			acc = *c
		}
		for o := range t.KO {
			a := unsafe.Add(t.A, p*t.AP+o*t.AO)
			b := unsafe.Add(t.B, o*t.BO)
			for k := range t.KI { // no pointer moves beyond the last element
				x := *(*float32)(unsafe.Add(a, k*t.AK))
				row := (*[16]float32)(unsafe.Add(b, k*t.BK))
				for j := range acc {
					acc[j] += x * row[j]
				}
			}
		}
		*c = acc
	}
}

func convert[T int32 | uint32 | uint8](dst *float32, src *byte, n int) {
	d, s := slice(dst, n), unsafe.Slice((*T)(unsafe.Pointer(src)), n)
	for i := range d {
		d[i] = float32(s[i])
	}
}

func row(x *float32, i, stride, cols int) []float32 {
	return slice((*float32)(unsafe.Add(unsafe.Pointer(x), 4*i*stride)), cols)
}

func colSum(sum, x *float32, rows, stride, cols int) {
	s := slice(sum, cols)
	for i := range rows {
		for j, v := range row(x, i, stride, cols) {
			s[j] += v
		}
	}
}

func colMoments(sum, square, x, shift *float32, rows, stride, cols int) {
	s, q, m := slice(sum, cols), slice(square, cols), slice(shift, cols)
	for i := range rows {
		for j, v := range row(x, i, stride, cols) {
			d := v - m[j]
			s[j] += d
			q[j] += d * d
		}
	}
}

func colProducts(sum, product, x, y, shift *float32, rows, stride, cols int) {
	s, q, m := slice(sum, cols), slice(product, cols), slice(shift, cols)
	for i := range rows {
		other := row(y, i, stride, cols)
		for j, v := range row(x, i, stride, cols) {
			s[j] += v
			q[j] += v * (other[j] - m[j])
		}
	}
}

func rowSum(partial, x *float32, n int) {
	p, v := slice(partial, Lanes), slice(x, n)
	clear(p)
	for i := range v {
		p[i%Lanes] += v[i]
	}
}

func rowMax(partial, x *float32, n int) {
	p, v := slice(partial, Lanes), slice(x, n)
	copy(p, v)
	for i := range v {
		p[i%Lanes] = max(p[i%Lanes], v[i])
	}
}

func pixel(x *float32, offset, c int) *float32 {
	return (*float32)(unsafe.Add(unsafe.Pointer(x), offset+4*c))
}

func maxPool(dst, x *float32, rowStride, pixelStride, kh, kw, cols int) {
	for c, d := range slice(dst, cols) {
		d = *pixel(x, 0, c)
		for h := range kh {
			for w := range kw {
				d = max(d, *pixel(x, h*rowStride+w*pixelStride, c))
			}
		}
		slice(dst, cols)[c] = d
	}
}

func maxPoolGrad(dst, x, src *float32, rowStride, pixelStride, kh, kw, cols int) {
	for c, gradient := range slice(src, cols) {
		best, at := *pixel(x, 0, c), 0
		for h := range kh {
			for w := range kw {
				offset := h*rowStride + w*pixelStride
				if v := *pixel(x, offset, c); v > best {
					best, at = v, offset
				}
			}
		}
		*pixel(dst, at, c) += gradient
	}
}

func transpose8(dst *float32, dstStride int, src *float32, srcStride, n int) {
	for i := range n {
		for j := range 8 {
			*pixel(dst, i*dstStride, j) = *pixel(src, j*srcStride, i)
		}
	}
}

// words calls visit with the words of n counters. The counter may carry.
func (d *Draw) words(n int, visit func(i int, word uint32)) {
	low, high := d.Low, d.High
	for i := range n {
		for j, w := range philox4x32(&d.Keys, low, high) {
			visit(4*i+j, w)
		}
		if low++; low == 0 {
			high++
		}
	}
}

func (d *Draw) number(word uint32) float32 { return min(float32(word), d.Limit)*d.Scale + d.Shift }

func philox(dst *uint32, d *Draw, n int) {
	out := unsafe.Slice(dst, 4*n)
	d.words(n, func(i int, w uint32) { out[i] = w })
}

func uniform(dst *float32, d *Draw, n int) {
	out := slice(dst, 4*n)
	d.words(n, func(i int, w uint32) { out[i] = d.number(w) })
}

func noise(dst *float32, d *Draw, n int, w *float32) {
	out, x := slice(dst, 4*n), slice(w, 4*n)
	d.words(n, func(i int, w uint32) { out[i] = d.number(w)*d.Factor + x[i] })
}

func stripNorms(u *float32, d *Draw, w, sums *float32, rows, stride int) {
	squares := slice(sums, 2*StripWidth)
	for i := range rows {
		to, from := row(u, i, StripWidth, StripWidth), row(w, i, stride, StripWidth)
		d.words(StripWidth/4, func(j int, word uint32) {
			v := d.number(word)
			to[j] = v
			squares[j] += v * v
			squares[StripWidth+j] += from[j] * from[j]
		})
		before := d.Low
		if d.Low += d.Step; d.Low < before {
			d.High++
		}
	}
}

func stripAdd(dst, u, w, factor *float32, rows, stride int) {
	f := slice(factor, StripWidth)
	for i := range rows {
		to, from, x := row(dst, i, stride, StripWidth), row(u, i, StripWidth, StripWidth), row(w, i, stride, StripWidth)
		for j := range to {
			to[j] = from[j]*f[j] + x[j]
		}
	}
}

// Philox4x32 is the ten-round generator of Salmon et al., "Parallel Random
// Numbers: As Easy as 1, 2, 3" (SC 2011), for one counter.
func Philox4x32(key, low, high uint64) [4]uint32 {
	keys := RoundKeys(key)
	return philox4x32(&keys, low, high)
}

func philox4x32(keys *[10][2]uint32, low, high uint64) [4]uint32 {
	x := [4]uint32{uint32(low), uint32(low >> 32), uint32(high), uint32(high >> 32)}
	for _, k := range keys {
		h0, l0 := bits.Mul32(0xd2511f53, x[0])
		h1, l1 := bits.Mul32(0xcd9e8d57, x[2])
		x = [4]uint32{h1 ^ x[1] ^ k[0], l1, h0 ^ x[3] ^ k[1], l0}
	}
	return x
}

// sandwich makes the kernel of dst = L src Lᵀ.
func sandwich(l [][]float64) SpanFunc {
	rows, size := len(l), len(l[0])
	const most = 8
	var m [most][most]float32
	for i := range rows {
		for j, v := range l[i] {
			m[i][j] = float32(v)
		}
	}
	return func(dst, src *float32, s *Span) {
		for tile := range s.Tiles {
			for lane := range s.Lanes {
				var x [most][most]float32 // src
				for i := range size {
					for j := range size {
						x[i][j] = *pixel(src, tile*s.SrcTile+i*s.SrcRow+j*s.SrcCol, lane)
					}
				}
				for i := range rows {
					var t [most]float32 // a row of L src
					for k := range size {
						if m[i][k] != 0 {
							for j := range size {
								t[j] += m[i][k] * x[k][j]
							}
						}
					}
					for c := range rows {
						var v float32
						for j := range size {
							v += m[c][j] * t[j]
						}
						*pixel(dst, tile*s.DstTile+i*s.DstRow+c*s.DstCol, lane) = v
					}
				}
			}
		}
		s.Tiles = 0
	}
}
