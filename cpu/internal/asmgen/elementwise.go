package main

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// elementwise writes dst[i] = op(a[i], b[i], c[i]) for n elements, n a multiple
// of 16. All kernels have one signature; those of fewer operands ignore the rest.
func (g *generator) elementwise() {
	binary := func(name string, op func(a, b, dst operand.Op)) {
		g.elementwiseKernel(name, 2, func(in []reg.VecVirtual, dst operand.Op) { op(in[0], in[1], dst) })
	}
	unary := func(name string, op func(a, dst operand.Op)) {
		g.elementwiseKernel(name, 1, func(in []reg.VecVirtual, dst operand.Op) { op(in[0], dst) })
	}
	// AVO lists sources in the reverse of Intel's order.
	binary("add", func(a, b, dst operand.Op) { g.VADDPS(b, a, dst) })
	binary("sub", func(a, b, dst operand.Op) { g.VSUBPS(b, a, dst) })
	binary("mul", func(a, b, dst operand.Op) { g.VMULPS(b, a, dst) })
	binary("div", func(a, b, dst operand.Op) { g.VDIVPS(b, a, dst) })
	binary("max", g.max)
	binary("min", g.min)
	for _, c := range []struct {
		name      string
		predicate operand.U8
	}{{"equal", cmpEQ}, {"notEqual", cmpNE}, {"less", cmpLT}, {"lessEqual", cmpLE}} {
		binary(c.name, func(a, b, dst operand.Op) {
			zero := g.vec()
			g.zero(zero)
			g.choose(c.predicate, a, b, g.f(1), zero, dst)
		})
	}
	g.elementwiseKernel("fma", 3, func(in []reg.VecVirtual, dst operand.Op) {
		g.VFMADD213PS(in[2], in[1], in[0]) // in[0] = in[1]*in[0] + in[2]
		g.VMOVUPS(in[0], dst)
	})
	g.elementwiseKernel("choose", 3, func(in []reg.VecVirtual, dst operand.Op) {
		zero := g.vec()
		g.zero(zero)
		g.choose(cmpNE, in[0], zero, in[1], in[2], dst)
	})

	unary("neg", func(a, dst operand.Op) { g.xor(g.bits(1<<31), a, dst) })
	unary("abs", func(a, dst operand.Op) { g.and(g.bits(1<<31-1), a, dst) })
	unary("sqrt", func(a, dst operand.Op) { g.VSQRTPS(a, dst) })
	unary("rsqrt", func(a, dst operand.Op) {
		one := g.vec()
		g.VMOVUPS(g.f(1), one)
		g.VSQRTPS(a, a)
		g.VDIVPS(a, one, dst)
	})
	unary("floor", func(a, dst operand.Op) { g.round(roundFloor, a, dst) })
	unary("ceil", func(a, dst operand.Op) { g.round(roundCeil, a, dst) })
	unary("round", func(a, dst operand.Op) { g.round(roundEven, a, dst) })
	// sign: 1, -1, and zeros and NaN as they are.
	unary("sign", func(a, dst operand.Op) {
		zero, s := g.vec(), g.vec()
		g.zero(zero)
		g.choose(cmpGT, a, zero, g.f(1), a, s)
		g.choose(cmpLT, a, zero, g.f(-1), s, dst)
	})
	// nonNegative: sign(sign(a)+1), which is how GoMLX writes the gradient of max.
	unary("nonNegative", func(a, dst operand.Op) {
		zero, s := g.vec(), g.vec()
		g.zero(zero)
		g.choose(cmpGE, a, zero, g.f(1), a, s)
		g.choose(cmpLT, a, zero, zero, s, dst)
	})
	unary("exp", g.exp)
	unary("log", g.log)

	g.conversion("fromInt32", 4, func(src operand.Mem, dst reg.VecVirtual) { g.VCVTDQ2PS(src, dst) })
	g.conversion("fromUint32", 4, func(src operand.Mem, dst reg.VecVirtual) { g.fromUint32(src, dst) })
	g.conversion("fromBool", 1, func(src operand.Mem, dst reg.VecVirtual) {
		g.VPMOVZXBD(src, dst)
		g.VCVTDQ2PS(dst, dst)
	})
}

func (g *generator) elementwiseKernel(name string, operands int, op func(in []reg.VecVirtual, dst operand.Op)) {
	g.function(name, "func(dst, a, b, c *float32, n int)")
	dst := g.param("dst")
	pointers := []reg.GPVirtual{dst}
	var sources []reg.GPVirtual
	for _, p := range []string{"a", "b", "c"}[:operands] {
		sources = append(sources, g.param(p))
	}
	pointers = append(pointers, sources...)
	g.loop(g.param("n"), pointers, func(at func(reg.GPVirtual, int) operand.Mem) {
		for part := range g.perStrip() {
			in := g.vecs(operands)
			for i, p := range sources {
				g.VMOVUPS(at(p, part), in[i])
			}
			out := g.vec()
			op(in, out)
			g.VMOVUPS(out, at(dst, part))
		}
	})
	g.end()
}

func (g *generator) fromUint32(src operand.Op, dst reg.VecVirtual) {
	if g.wide {
		g.VCVTUDQ2PS(src, dst)
		return
	}
	// high*65536 is exact, so the sum is rounded once.
	low, high := g.vec(), g.vec()
	g.VMOVDQU(src, high)
	g.VPAND(g.bits(0xffff), high, low)
	g.VPSRLD(operand.Imm(16), high, dst)
	g.VCVTDQ2PS(dst, dst)
	g.VCVTDQ2PS(low, low)
	g.VFMADD132PS(g.f(65536), low, dst) // dst = dst*65536 + low
}

// conversion writes a kernel that reads elements of another size.
func (g *generator) conversion(name string, size int, op func(src operand.Mem, dst reg.VecVirtual)) {
	g.function(name, "func(dst *float32, src *byte, n int)")
	dst, src, n := g.param("dst"), g.param("src"), g.param("n")
	done, top := g.label("done"), g.label("loop")
	g.SHRQ(operand.Imm(4), n)
	g.JZ(operand.LabelRef(done))
	g.Label(top)
	for part := range g.perStrip() {
		v := g.vec()
		op(operand.Mem{Base: src, Disp: part * g.width() / 4 * size}, v)
		g.VMOVUPS(v, operand.Mem{Base: dst, Disp: part * g.width()})
	}
	g.ADDQ(operand.U32(lanes*size), src)
	g.ADDQ(operand.Imm(4*lanes), dst)
	g.DECQ(n)
	g.JNZ(operand.LabelRef(top))
	g.Label(done)
	g.end()
}

// exp: x = n ln2 + r with |r| <= ln2/2, a polynomial of degree 7 for e^r
// (coefficients: Cephes expf), times 2^n.
func (g *generator) exp(x, dst operand.Op) {
	n, r, p := g.vec(), g.vec(), g.vec()
	// Beyond these bounds the result is infinite or zero. With x as the second
	// source VMINPS and VMAXPS let NaN through.
	g.VMOVUPS(g.f(89), r)
	g.VMINPS(x, r, r)
	g.VMOVUPS(g.f(-104), p)
	g.VMAXPS(r, p, r)
	g.VMULPS(g.f(math.Log2E), r, n)
	g.round(roundEven, n, n)
	g.VFNMADD231PS(g.f(0.693359375), n, r)
	g.VFNMADD231PS(g.f(-2.12194440e-4), n, r)
	g.VMOVUPS(g.f(1.9875691500e-4), p)
	for _, c := range []float64{1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1, 1} {
		g.VFMADD213PS(g.f(c), r, p) // p = p*r + c
	}
	if g.wide {
		g.VSCALEFPS(n, p, dst)
		return
	}
	// In two factors, as 2^n itself may be beyond the normal numbers.
	i, j := g.vec(), g.vec()
	g.VCVTPS2DQ(n, i)
	g.VPSRAD(operand.Imm(1), i, j)
	g.VPSUBD(j, i, i)
	for _, e := range []reg.VecVirtual{i, j} {
		g.VPADDD(g.bits(127), e, e)
		g.VPSLLD(operand.Imm(23), e, e)
		g.VMULPS(e, p, p)
	}
	g.VMOVUPS(p, dst)
}

// log: x = m 2^e with m in [sqrt(1/2), sqrt(2)), a polynomial for log(m)
// (coefficients: Cephes logf), plus e ln2.
func (g *generator) log(x, dst operand.Op) {
	m, e, z, p := g.vec(), g.vec(), g.vec(), g.vec()
	// Subnormal numbers are scaled by 2^23 first.
	scaled, shift := g.vec(), g.vec()
	g.zero(z)
	g.VMULPS(g.f(1<<23), x, scaled)
	g.choose(cmpLT, x, g.bits(floatMinExp), scaled, x, m)
	g.choose(cmpLT, x, g.bits(floatMinExp), g.f(-23), z, shift)
	g.VPSRLD(operand.Imm(23), m, e)
	g.VPSUBD(g.bits(126), e, e)
	g.VCVTDQ2PS(e, e)
	g.VADDPS(shift, e, e)
	g.and(g.bits(0x007fffff), m, m)
	g.or(g.bits(0x3f000000), m, m) // m in [1/2, 1)
	less, twice := g.vec(), g.vec()
	g.VSUBPS(g.f(1), e, less)
	g.choose(cmpLT, m, g.f(math.Sqrt2/2), less, e, e)
	g.VADDPS(m, m, twice)
	g.choose(cmpLT, m, g.f(math.Sqrt2/2), twice, m, m)
	g.VSUBPS(g.f(1), m, m)

	g.VMULPS(m, m, z)
	g.VMOVUPS(g.f(7.0376836292e-2), p)
	for _, c := range []float64{-1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
		-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1} {
		g.VFMADD213PS(g.f(c), m, p)
	}
	g.VMULPS(m, p, p)
	g.VMULPS(z, p, p)
	g.VFMADD231PS(g.f(-2.12194440e-4), e, p)
	g.VFNMADD231PS(g.f(0.5), z, p)
	g.VADDPS(p, m, m)
	g.VFMADD231PS(g.f(0.693359375), e, m)

	g.zero(z)
	inf := float64(math.Inf(1))
	special := g.vec()
	g.VMOVUPS(g.f(-inf), special)
	g.choose(cmpEQ, x, z, special, m, m)
	g.VMOVUPS(g.bits(0x7fc00000), special) // NaN
	g.choose(cmpLT, x, z, special, m, m)
	g.choose(cmpNotLT, x, g.f(inf), x, m, dst) // infinity and NaN stay
}
