package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// philox writes n counters' worth of Philox4x32-10 (Salmon et al., "Parallel
// Random Numbers: As Easy as 1, 2, 3", SC 2011), four words each, n a multiple
// of 8. The counter is low+i in its lower half, which must not wrap, and high in
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
	x0, x1, x2, x3, k0, k1 := g.vec(), g.vec(), g.vec(), g.vec(), g.vec(), g.vec()
	move := func(src, dst operand.Op) {
		if g.wide {
			g.VMOVDQU32(src, dst)
		} else {
			g.VMOVDQU(src, dst)
		}
	}
	move(counter, x0)
	g.VPSRLQ(operand.Imm(32), counter, x1)
	move(highVec, x2)
	g.VPSRLQ(operand.Imm(32), highVec, x3)
	move(keyVec, k0)
	g.VPSRLQ(operand.Imm(32), keyVec, k1)
	for round := range 10 {
		if round > 0 {
			g.VPADDD(g.words(0x9e3779b9, 0), k0, k0)
			g.VPADDD(g.words(0xbb67ae85, 0), k1, k1)
		}
		// Upper halves of lanes hold leftovers, which the multiplication ignores.
		p0, p1 := g.vec(), g.vec()
		g.VPMULUDQ(g.words(0xd2511f53, 0), x0, p0)
		g.VPMULUDQ(g.words(0xcd9e8d57, 0), x2, p1)
		g.VPSRLQ(operand.Imm(32), p1, x0)
		g.xor(x1, x0, x0)
		g.xor(k0, x0, x0)
		g.VPSRLQ(operand.Imm(32), p0, x2)
		g.xor(x3, x2, x2)
		g.xor(k1, x2, x2)
		x1, x3 = p1, p0
	}
	for _, pair := range [][2]reg.VecVirtual{{x0, x1}, {x2, x3}} {
		g.and(wordMask, pair[0], pair[0])
		g.VPSLLQ(operand.Imm(32), pair[1], pair[1])
		g.or(pair[1], pair[0], pair[0])
	}
	first, second := g.vec(), g.vec()
	g.VPUNPCKLQDQ(x2, x0, first)
	g.VPUNPCKHQDQ(x2, x0, second)
	move(first, operand.Mem{Base: dst})
	move(second, operand.Mem{Base: dst, Disp: g.width()})
	g.ADDQ(operand.U32(2*g.width()), dst)
	g.VPADDQ(step, counter, counter)
	g.SUBQ(operand.U32(perRegister), n)
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
