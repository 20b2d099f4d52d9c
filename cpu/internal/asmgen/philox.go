package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The fields of kernels.Draw.
const (
	drawKeys   = 0 // k0, k1 of ten rounds, 4 bytes each
	drawLow    = 80
	drawHigh   = 88
	drawLimit  = 96
	drawScale  = 100
	drawShift  = 104
	drawFactor = 108
	drawStep   = 112
)

// random writes the kernels that draw: words as they are, as uniform numbers, and
// as noise on top of other numbers.
func (g *generator) random() {
	g.philox("philox", "func(dst *uint32, d *Draw, n int)", drawHooks{finish: func(reg.VecVirtual, int) {}})

	// Fields of the draw, in all lanes. AVX2 has no registers left for them.
	var d reg.GPVirtual
	fields := map[int]reg.VecVirtual{}
	load := func(offset int) reg.VecVirtual {
		if v, ok := fields[offset]; ok {
			return v
		}
		v := g.vec()
		g.VBROADCASTSS(operand.Mem{Base: d, Disp: offset}, v)
		return v
	}
	begin := func(offsets ...int) {
		d = g.param("d")
		clear(fields)
		for _, o := range offsets {
			if g.wide {
				fields[o] = load(o)
			}
		}
	}
	uniform := func(x reg.VecVirtual) {
		g.fromUint32(x, x)
		g.VMINPS(load(drawLimit), x, x)
		g.VFMADD213PS(load(drawShift), load(drawScale), x) // x = x*scale + shift
	}
	g.philox("uniform", "func(dst *float32, d *Draw, n int)", drawHooks{
		begin:  func() { begin(drawLimit, drawScale, drawShift) },
		finish: func(x reg.VecVirtual, _ int) { uniform(x) },
	})
	var w, sums reg.GPVirtual
	g.philox("noise", "func(dst *float32, d *Draw, n int, w *float32)", drawHooks{
		begin: func() {
			begin(drawLimit, drawScale, drawShift, drawFactor)
			w = g.param("w")
		},
		finish: func(x reg.VecVirtual, offset int) {
			uniform(x)
			g.VFMADD213PS(operand.Mem{Base: w, Disp: offset}, load(drawFactor), x) // x = x*factor + w
		},
		advance: func(bytes int) { g.ADDQ(operand.U32(bytes), w) },
	})
	// Rows of a strip of columns, and sums of squares per column.
	const rowBytes = 4 * stripWidth
	var skip, ahead reg.GPVirtual // bytes from the end of a row of w to the next, and to a row that is fetched
	g.philox("stripNorms", "func(u *float32, d *Draw, w, sums *float32, rows, stride int)", drawHooks{
		begin: func() {
			begin(drawLimit, drawScale, drawShift)
			w, sums, skip = g.param("w"), g.param("sums"), g.param("stride")
			g.SHLQ(operand.Imm(2), skip)
			ahead = g.GP64()
			g.MOVQ(skip, ahead)
			g.SHLQ(operand.Imm(2), ahead) // the processor sees no stream in short rows
			g.SUBQ(operand.U32(rowBytes), skip)
		},
		finish: func(x reg.VecVirtual, offset int) {
			uniform(x)
			v, sum := g.vec(), g.vec()
			at := operand.Mem{Base: sums, Disp: offset}
			g.VMOVUPS(at, sum)
			g.VFMADD231PS(x, x, sum)
			g.VMOVUPS(sum, at)
			at.Disp += rowBytes
			g.VMOVUPS(operand.Mem{Base: w, Disp: offset}, v)
			if offset%64 == 0 {
				g.PREFETCHT0(operand.Mem{Base: w, Index: ahead, Scale: 1, Disp: offset})
			}
			g.VMOVUPS(at, sum)
			g.VFMADD231PS(v, v, sum)
			g.VMOVUPS(sum, at)
		},
		advance: func(bytes int) {
			g.ADDQ(operand.U32(bytes), w)
			g.ADDQ(operand.U32(bytes), sums)
		},
		endRow: func() {
			g.ADDQ(skip, w)
			g.SUBQ(operand.U32(rowBytes), sums)
		},
	})
	g.stripAdd()
}

// stripWidth is kernels.StripWidth.
const stripWidth = 128

// stripAdd writes dst = u*factor + w for rows of a strip of columns.
func (g *generator) stripAdd() {
	g.function("stripAdd", "func(dst, u, w, factor *float32, rows, stride int)")
	dst, u, w, factor, rows, stride := g.param("dst"), g.param("u"), g.param("w"), g.param("factor"), g.param("rows"), g.param("stride")
	g.SHLQ(operand.Imm(2), stride)
	top, done := g.label("loop"), g.label("done")
	g.TESTQ(rows, rows)
	g.JLE(operand.LabelRef(done))
	g.Label(top)
	for offset := 0; offset < 4*stripWidth; offset += g.width() {
		x := g.vec()
		g.VMOVUPS(operand.Mem{Base: factor, Disp: offset}, x)
		at := func(p reg.GPVirtual) operand.Mem { return operand.Mem{Base: p, Disp: offset} }
		v := g.vec()
		g.VMOVUPS(at(u), v)
		g.VFMADD213PS(at(w), v, x) // x = v*x + w
		g.VMOVUPS(x, at(dst))
	}
	g.ADDQ(operand.U32(4*stripWidth), u)
	g.ADDQ(stride, w)
	g.ADDQ(stride, dst)
	g.DECQ(rows)
	g.JNZ(operand.LabelRef(top))
	g.Label(done)
	g.end()
}

// drawHooks are what a kernel that draws does with the words.
type drawHooks struct {
	begin   func()                                 // before the loop
	finish  func(words reg.VecVirtual, offset int) // before a register is stored at an offset
	advance func(bytes int)                        // at the end of a turn, in which so many bytes were written
	endRow  func()                                 // after a row, for kernels that draw rows of a strip
}

// philox writes a kernel that draws n counters' worth of Philox4x32-10 (Salmon et al., "Parallel
// Random Numbers: As Easy as 1, 2, 3", SC 2011), four words each, n a multiple of
// 32. The counter is low+i in its lower half, which must not wrap, and high in its
// upper half. With endRow it draws a strip's width for each of a number of rows.
func (g *generator) philox(name, signature string, hooks drawHooks) {
	g.function(name, signature)
	var dst, n, rows reg.GPVirtual
	d := g.param("d")
	if hooks.endRow != nil {
		dst, rows, n = g.param("u"), g.param("rows"), g.GP64()
	} else {
		dst, n = g.param("dst"), g.param("n")
	}
	field := func(offset int) operand.Mem { return operand.Mem{Base: d, Disp: offset} }

	// A register holds one 32-bit word of several counters in 64-bit lanes, as
	// the multiplication wants it. Lanes are ordered so that interleaving the
	// words at the end leaves the counters in sequence.
	order := []uint64{0, 2, 1, 3}
	perRegister := 4
	groups := 2 // of counters, that hide each other's latency: as many as registers allow
	if g.wide {
		order = []uint64{0, 4, 1, 5, 2, 6, 3, 7}
		perRegister = 8
		groups = 4
	}
	if g.lanesOf == nil {
		table := g.StaticGlobal(g.name + "_philox_lanes")
		g.DataAttributes(attr.RODATA | attr.NOPTR)
		for i, v := range order {
			g.AddDatum(8*i, operand.U64(v))
		}
		g.lanesOf = &table
	}
	m0, m1 := g.words(0xd2511f53, 0), g.words(0xcd9e8d57, 0)
	const upperToLower, swapHalves = 0xf5, 0xb1
	counter := g.vec()
	start := func() {
		g.VPBROADCASTQ(field(drawLow), counter)
		g.VPADDQ(*g.lanesOf, counter, counter)
	}
	if hooks.endRow == nil {
		start()
	}
	// In the first round the upper half of the counter, which is the same
	// everywhere, makes the same of itself everywhere.
	first0, first1, first2, key := g.vec(), g.vec(), g.vec(), g.vec()
	g.VPBROADCASTQ(field(drawHigh), first2)
	g.VPMULUDQ(m1, first2, first1)
	g.VPBROADCASTD(field(drawKeys), key)
	g.VPSHUFD(operand.U8(upperToLower), first1, first0)
	g.xor(key, first0, first0)
	g.VPBROADCASTD(field(drawKeys+4), key)
	g.VPSRLQ(operand.Imm(32), first2, first2)
	g.xor(key, first2, first2)
	var even reg.Register // lower halves of lanes
	if g.wide {
		k, r := g.K(), g.GP32()
		g.MOVL(operand.U32(0x5555), r)
		g.KMOVW(r, k)
		even = k
	}
	if hooks.begin != nil {
		hooks.begin()
	}
	nextRow, top, done := g.label("row"), g.label("loop"), g.label("done")
	if hooks.endRow != nil {
		g.TESTQ(rows, rows)
		g.JLE(operand.LabelRef(done))
		g.Label(nextRow)
		start()
		g.MOVQ(operand.U32(stripWidth/4), n)
	} else {
		g.TESTQ(n, n)
		g.JLE(operand.LabelRef(done))
	}
	g.Label(top)
	move := func(src, dst operand.Op) {
		if g.wide {
			g.VMOVDQU32(src, dst)
		} else {
			g.VMOVDQU(src, dst)
		}
	}
	// dst ^= a ^ key; for the last round in the lower halves of lanes alone.
	mix := func(keyAt int, a, dst operand.Op, last bool) {
		switch {
		case g.wide && last:
			g.VPTERNLOGD_BCST(operand.U8(0x96), field(drawKeys+keyAt), a, even, dst)
		case g.wide:
			g.VPTERNLOGD_BCST(operand.U8(0x96), field(drawKeys+keyAt), a, dst)
		default:
			key := g.vec()
			g.VPBROADCASTD(field(drawKeys+keyAt), key)
			g.VPXOR(a, key, key)
			if last {
				g.VPAND(g.words(0xffffffff, 0), key, key)
			}
			g.VPXOR(key, dst, dst)
		}
	}
	type group [4]reg.VecVirtual
	x := make([]group, groups)
	for i := range x {
		x[i] = group{g.vec(), first1, g.vec(), g.vec()}
		g.VPMULUDQ(m0, counter, x[i][3])
		g.VPSRLQ(operand.Imm(32), counter, x[i][0])
		g.xor(first0, x[i][0], x[i][0])
		g.VPSHUFD(operand.U8(upperToLower), x[i][3], x[i][2])
		g.xor(first2, x[i][2], x[i][2])
		g.VPADDQ(g.words(uint32(perRegister), 0), counter, counter)
	}
	for round := 1; round < 10; round++ {
		last := round == 9
		shuffle := operand.U8(upperToLower)
		if last {
			shuffle = swapHalves // the product's lower half is the next word
		}
		for i := range x {
			// Upper halves of lanes hold leftovers, which the multiplication ignores.
			p0, p1 := g.vec(), g.vec()
			g.VPMULUDQ(m0, x[i][0], p0)
			g.VPMULUDQ(m1, x[i][2], p1)
			g.VPSHUFD(shuffle, p1, x[i][0])
			mix(8*round, x[i][1], x[i][0], last)
			g.VPSHUFD(shuffle, p0, x[i][2])
			mix(8*round+4, x[i][3], x[i][2], last)
			x[i][1], x[i][3] = p1, p0
		}
	}
	for i := range x {
		first, second := g.vec(), g.vec()
		g.VPUNPCKLQDQ(x[i][2], x[i][0], first)
		g.VPUNPCKHQDQ(x[i][2], x[i][0], second)
		for half, words := range []reg.VecVirtual{first, second} {
			offset := (2*i + half) * g.width()
			hooks.finish(words, offset)
			move(words, operand.Mem{Base: dst, Disp: offset})
		}
	}
	bytes := 2 * groups * g.width()
	if hooks.advance != nil {
		hooks.advance(bytes)
	}
	g.ADDQ(operand.U32(bytes), dst)
	g.SUBQ(operand.U32(groups*perRegister), n)
	g.JG(operand.LabelRef(top))
	if hooks.endRow != nil {
		step := g.GP64()
		g.MOVQ(field(drawStep), step)
		g.ADDQ(step, field(drawLow))
		hooks.endRow()
		g.DECQ(rows)
		g.JNZ(operand.LabelRef(nextRow))
	}
	g.Label(done)
	g.end()
}

// words is a constant of 64-bit lanes, as a memory operand.
func (g *generator) words(low, high uint32) operand.Mem {
	name := fmt.Sprintf("%s_q%08x%08x", g.name, high, low)
	if m, ok := g.constants[name]; ok {
		return m
	}
	m := g.StaticGlobal(name)
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range lanes / 2 {
		g.AddDatum(8*i, operand.U64(uint64(high)<<32|uint64(low)))
	}
	g.constants[name] = m
	return m
}
