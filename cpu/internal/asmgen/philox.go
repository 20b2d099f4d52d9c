package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// philox writes n counters' worth of Philox4x32-10 (Salmon et al., "Parallel
// Random Numbers: As Easy as 1, 2, 3", SC 2011), four words each, n a multiple
// of 32. The counter is low+i in its lower half, which must not wrap, and high in
// its upper half.
func (g *generator) philox() {
	g.function("philox", "func(dst *uint32, key, low, high uint64, n int)")
	dst, key := g.param("dst"), g.param("key")
	low, high, n := g.param("low"), g.param("high"), g.param("n")

	// A register holds one 32-bit word of several counters in 64-bit lanes, as
	// the multiplication wants it. Lanes are ordered so that interleaving the
	// words at the end leaves the counters in sequence.
	order := []uint64{0, 2, 1, 3}
	perRegister := 4
	if g.wide {
		order = []uint64{0, 4, 1, 5, 2, 6, 3, 7}
		perRegister = 8
	}
	table := g.StaticGlobal(g.name + "_philox_lanes")
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for i, v := range order {
		g.AddDatum(8*i, operand.U64(v))
	}
	broadcast := func(r reg.GPVirtual) reg.VecVirtual {
		x, v := g.XMM(), g.vec()
		g.VMOVQ(r, x)
		g.VPBROADCASTQ(x, v)
		return v
	}
	counter := broadcast(low)
	g.VPADDQ(table, counter, counter)
	keyVec, highVec := broadcast(key), broadcast(high)
	wordMask := g.words(0xffffffff, 0)
	step := g.words(uint32(perRegister), 0)
	top, done := g.label("loop"), g.label("done")
	g.TESTQ(n, n)
	g.JLE(operand.LabelRef(done))
	g.Label(top)
	move := func(src, dst operand.Op) {
		if g.wide {
			g.VMOVDQU32(src, dst)
		} else {
			g.VMOVDQU(src, dst)
		}
	}
	xor3 := func(a, b, dst operand.Op) { // dst ^= a ^ b
		if g.wide {
			g.VPTERNLOGD(operand.U8(0x96), a, b, dst)
			return
		}
		g.VPXOR(a, dst, dst)
		g.VPXOR(b, dst, dst)
	}
	// Groups of counters hide each other's latency; as many as registers allow.
	type group [4]reg.VecVirtual
	x := make([]group, 2)
	if g.wide {
		x = make([]group, 4)
	}
	for i := range x {
		x[i] = group{g.vec(), g.vec(), g.vec(), g.vec()}
		move(counter, x[i][0])
		g.VPSRLQ(operand.Imm(32), counter, x[i][1])
		move(highVec, x[i][2])
		g.VPSRLQ(operand.Imm(32), highVec, x[i][3])
		g.VPADDQ(step, counter, counter)
	}
	k0, k1 := g.vec(), g.vec()
	move(keyVec, k0)
	g.VPSRLQ(operand.Imm(32), keyVec, k1)
	for round := range 10 {
		if round > 0 {
			g.VPADDD(g.words(0x9e3779b9, 0), k0, k0)
			g.VPADDD(g.words(0xbb67ae85, 0), k1, k1)
		}
		for i := range x {
			// Upper halves of lanes hold leftovers, which the multiplication ignores.
			p0, p1 := g.vec(), g.vec()
			g.VPMULUDQ(g.words(0xd2511f53, 0), x[i][0], p0)
			g.VPMULUDQ(g.words(0xcd9e8d57, 0), x[i][2], p1)
			const upperToLower = 0xf5
			g.VPSHUFD(operand.U8(upperToLower), p1, x[i][0])
			xor3(x[i][1], k0, x[i][0])
			g.VPSHUFD(operand.U8(upperToLower), p0, x[i][2])
			xor3(x[i][3], k1, x[i][2])
			x[i][1], x[i][3] = p1, p0
		}
	}
	for i := range x {
		for w := 0; w < 4; w += 2 {
			g.and(wordMask, x[i][w], x[i][w])
			g.VPSLLQ(operand.Imm(32), x[i][w+1], x[i][w+1])
			g.or(x[i][w+1], x[i][w], x[i][w])
		}
		first, second := g.vec(), g.vec()
		g.VPUNPCKLQDQ(x[i][2], x[i][0], first)
		g.VPUNPCKHQDQ(x[i][2], x[i][0], second)
		move(first, operand.Mem{Base: dst, Disp: 2 * i * g.width()})
		move(second, operand.Mem{Base: dst, Disp: (2*i + 1) * g.width()})
	}
	g.ADDQ(operand.U32(2*len(x)*g.width()), dst)
	g.SUBQ(operand.U32(len(x)*perRegister), n)
	g.JG(operand.LabelRef(top))
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
