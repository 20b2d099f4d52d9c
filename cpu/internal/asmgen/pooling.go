package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// pooling writes max pooling and its gradient for one window of kh x kw pixels
// with cols channels, a multiple of 16. Strides are in bytes.
func (g *generator) pooling() {
	g.function("maxPool", "func(dst, x *float32, rowStride, pixelStride, kh, kw, cols int)")
	dst, x := g.param("dst"), g.param("x")
	g.windows(x, []reg.GPVirtual{dst}, func(scan func(func(pixel reg.GPVirtual))) {
		acc := g.vecs(g.perStrip())
		for part, v := range acc {
			g.VMOVUPS(operand.Mem{Base: x, Disp: part * g.width()}, v)
		}
		scan(func(pixel reg.GPVirtual) {
			for part, v := range acc {
				t := g.vec()
				g.VMOVUPS(operand.Mem{Base: pixel, Disp: part * g.width()}, t)
				g.max(t, v, v)
			}
		})
		for part, v := range acc {
			g.VMOVUPS(v, operand.Mem{Base: dst, Disp: part * g.width()})
		}
	})

	// The gradient src of a window goes to its first largest element; dst is laid
	// out as x.
	g.function("maxPoolGrad", "func(dst, x, src *float32, rowStride, pixelStride, kh, kw, cols int)")
	dst, x = g.param("dst"), g.param("x")
	src := g.param("src")
	offset := g.GP64() // from x to dst
	g.MOVQ(dst, offset)
	g.SUBQ(x, offset)
	g.windows(x, []reg.GPVirtual{src}, func(scan func(func(pixel reg.GPVirtual))) {
		parts := g.perStrip()
		best, at, gradient := g.vecs(parts), g.vecs(parts), g.vecs(parts)
		index := g.vec()
		for part := range parts {
			g.VMOVUPS(operand.Mem{Base: x, Disp: part * g.width()}, best[part])
			g.zero(at[part])
			g.VMOVUPS(operand.Mem{Base: src, Disp: part * g.width()}, gradient[part])
		}
		g.zero(index)
		scan(func(pixel reg.GPVirtual) {
			for part := range parts {
				t := g.vec()
				g.VMOVUPS(operand.Mem{Base: pixel, Disp: part * g.width()}, t)
				g.choose(cmpGT, t, best[part], index, at[part], at[part])
				g.VMAXPS(best[part], t, best[part])
			}
			g.VADDPS(g.f(1), index, index)
		})
		g.zero(index)
		zero := g.vec()
		g.zero(zero)
		scan(func(pixel reg.GPVirtual) {
			for part := range parts {
				t := g.vec()
				g.choose(cmpEQ, at[part], index, gradient[part], zero, t)
				mem := operand.Mem{Base: pixel, Index: offset, Scale: 1, Disp: part * g.width()}
				g.VADDPS(mem, t, t)
				g.VMOVUPS(t, mem)
			}
			g.VADDPS(g.f(1), index, index)
		})
	})
}

// windows loops over strips of 16 channels; body may scan the window's pixels.
func (g *generator) windows(x reg.GPVirtual, others []reg.GPVirtual, body func(scan func(func(pixel reg.GPVirtual)))) {
	rowStride, pixelStride := g.param("rowStride"), g.param("pixelStride")
	kh, kw, cols := g.param("kh"), g.param("kw"), g.param("cols")
	strip := g.label("strip")
	g.Label(strip)
	body(func(visit func(pixel reg.GPVirtual)) {
		row, rows, pixel, pixels := g.GP64(), g.GP64(), g.GP64(), g.GP64()
		g.MOVQ(x, row)
		g.MOVQ(kh, rows)
		rowTop, pixelTop := g.label("row"), g.label("pixel")
		g.Label(rowTop)
		g.MOVQ(row, pixel)
		g.MOVQ(kw, pixels)
		g.Label(pixelTop)
		visit(pixel)
		g.ADDQ(pixelStride, pixel)
		g.DECQ(pixels)
		g.JNZ(operand.LabelRef(pixelTop))
		g.ADDQ(rowStride, row)
		g.DECQ(rows)
		g.JNZ(operand.LabelRef(rowTop))
	})
	g.ADDQ(operand.Imm(4*lanes), x)
	for _, p := range others {
		g.ADDQ(operand.Imm(4*lanes), p)
	}
	g.SUBQ(operand.Imm(lanes), cols)
	g.JG(operand.LabelRef(strip))
	g.end()
}

// transpose writes the transposition of 8 rows of n floats, n a multiple of 8,
// into n rows of 8. Strides are in bytes. Both instruction sets use 256 bits.
func (g *generator) transpose() {
	g.function("transpose8", "func(dst *float32, dstStride int, src *float32, srcStride, n int)")
	dst, dstStride := g.param("dst"), g.param("dstStride")
	src, srcStride, n := g.param("src"), g.param("srcStride"), g.param("n")
	top, done := g.label("loop"), g.label("done")
	g.TESTQ(n, n)
	g.JLE(operand.LabelRef(done))
	g.Label(top)
	ymm := func() [8]reg.VecVirtual {
		var v [8]reg.VecVirtual
		for i := range v {
			v[i] = g.YMM()
		}
		return v
	}
	r := ymm()
	p := g.GP64()
	g.MOVQ(src, p)
	for i := range r {
		g.VMOVUPS(operand.Mem{Base: p}, r[i])
		g.ADDQ(srcStride, p)
	}
	t := ymm()
	for i := 0; i < 8; i += 2 {
		g.VUNPCKLPS(r[i+1], r[i], t[i])
		g.VUNPCKHPS(r[i+1], r[i], t[i+1])
	}
	u := ymm()
	for i := 0; i < 8; i += 4 {
		g.VUNPCKLPD(t[i+2], t[i], u[i])
		g.VUNPCKHPD(t[i+2], t[i], u[i+1])
		g.VUNPCKLPD(t[i+3], t[i+1], u[i+2])
		g.VUNPCKHPD(t[i+3], t[i+1], u[i+3])
	}
	for _, control := range []uint64{0x20, 0x31} { // lower halves, upper halves
		for i := range 4 {
			v := g.YMM()
			g.VPERM2F128(operand.Imm(control), u[i+4], u[i], v)
			g.VMOVUPS(v, operand.Mem{Base: dst})
			g.ADDQ(dstStride, dst)
		}
	}
	g.ADDQ(operand.Imm(32), src)
	g.SUBQ(operand.Imm(8), n)
	g.JG(operand.LabelRef(top))
	g.Label(done)
	g.end()
}
