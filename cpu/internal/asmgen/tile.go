package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tiles writes the one micro-kernel behind matrix products and convolutions:
//
//	C[p][j] (+)= sum over o < KO, k < KI of A[p*AP + k*AK + o*AO] * B[k*BK + o*BO + j]
//
// for p < P rows and j < W columns, all strides in bytes. P*W accumulators stay
// in registers; A is broadcast element by element, B is read in rows.
func (g *generator) tiles() {
	if g.wide {
		for p := 1; p <= 16; p++ {
			g.tile(p, 1)
		}
		for p := 1; p <= 12; p++ {
			g.tile(p, 2)
		}
		return
	}
	for p := 1; p <= 6; p++ {
		g.tile(p, 1)
	}
}

// The fields of kernels.Tile, 8 bytes each.
const (
	tileC = 8 * iota
	tileCP
	tileA
	tileAP
	tileAK
	tileAO
	tileB
	tileBK
	tileBO
	tileKI
	tileKO
	tileAdd
)

func (g *generator) tile(rows, strips int) {
	g.function(fmt.Sprintf("tile%dx%d", rows, strips*lanes), "func(t *Tile)")
	t := g.param("t")
	field := func(offset int) operand.Mem { return operand.Mem{Base: t, Disp: offset} }
	load := func(offset int) reg.GPVirtual {
		r := g.GP64()
		g.MOVQ(field(offset), r)
		return r
	}
	perRow := strips * g.perStrip()
	acc := make([][]reg.VecVirtual, rows)
	for p := range acc {
		acc[p] = g.vecs(perRow)
	}

	// Sums start from zero or from C.
	c, stride := load(tileC), load(tileCP)
	clearLabel, start := g.label("clear"), g.label("start")
	g.CMPQ(field(tileAdd), operand.Imm(0))
	g.JE(operand.LabelRef(clearLabel))
	for p := range acc {
		for j, v := range acc[p] {
			g.VMOVUPS(operand.Mem{Base: c, Disp: j * g.width()}, v)
		}
		g.ADDQ(stride, c)
	}
	g.JMP(operand.LabelRef(start))
	g.Label(clearLabel)
	for p := range acc {
		for _, v := range acc[p] {
			g.zero(v)
		}
	}
	g.Label(start)

	// Row p of A is at a multiple of the stride from one of few base registers:
	// 0, 1, 2, 4, 8 times it are index scales, 3, 5 and 7 times are registers.
	s1 := load(tileAP)
	s3, s5, s7 := g.GP64(), g.GP64(), g.GP64()
	g.LEAQ(operand.Mem{Base: s1, Index: s1, Scale: 2}, s3)
	g.LEAQ(operand.Mem{Base: s1, Index: s1, Scale: 4}, s5)
	g.LEAQ(operand.Mem{Base: s3, Index: s1, Scale: 4}, s7)
	aK, bK := load(tileAK), load(tileBK)
	aOuter, bOuter, outer := load(tileA), load(tileB), load(tileKO)
	a, a8, b, inner := g.GP64(), g.GP64(), g.GP64(), g.GP64()
	row := func(p int) operand.Mem {
		base := a
		if p >= 8 {
			base = a8
		}
		switch p % 8 {
		case 0:
			return operand.Mem{Base: base}
		case 3:
			return operand.Mem{Base: base, Index: s3, Scale: 1}
		case 5:
			return operand.Mem{Base: base, Index: s5, Scale: 1}
		case 6:
			return operand.Mem{Base: base, Index: s3, Scale: 2}
		case 7:
			return operand.Mem{Base: base, Index: s7, Scale: 1}
		}
		return operand.Mem{Base: base, Index: s1, Scale: uint8(p % 8)} // 1, 2, 4
	}

	outerTop, innerTop := g.label("outer"), g.label("inner")
	g.Label(outerTop)
	g.MOVQ(aOuter, a)
	if rows > 8 {
		g.LEAQ(operand.Mem{Base: a, Index: s1, Scale: 8}, a8)
	}
	g.MOVQ(bOuter, b)
	g.MOVQ(field(tileKI), inner)
	g.Label(innerTop)
	right := g.vecs(perRow)
	for j, v := range right {
		g.VMOVUPS(operand.Mem{Base: b, Disp: j * g.width()}, v)
	}
	for p := range acc {
		if g.wide && strips == 1 {
			g.VFMADD231PS_BCST(row(p), right[0], acc[p][0])
			continue
		}
		left := g.vec()
		g.VBROADCASTSS(row(p), left)
		for j, v := range acc[p] {
			g.VFMADD231PS(right[j], left, v)
		}
	}
	g.ADDQ(aK, a)
	if rows > 8 {
		g.ADDQ(aK, a8)
	}
	g.ADDQ(bK, b)
	g.DECQ(inner)
	g.JNZ(operand.LabelRef(innerTop))
	g.ADDQ(field(tileAO), aOuter)
	g.ADDQ(field(tileBO), bOuter)
	g.DECQ(outer)
	g.JNZ(operand.LabelRef(outerTop))

	c = load(tileC)
	stride = load(tileCP)
	for p := range acc {
		for j, v := range acc[p] {
			g.VMOVUPS(v, operand.Mem{Base: c, Disp: j * g.width()})
		}
		if p+1 < rows {
			g.ADDQ(stride, c)
		}
	}
	g.end()
}
