package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/openpith/evidence/cpu/internal/winograd"
)

// The fields of kernels.Span, 8 bytes each.
const (
	spanDstRow = 8 * iota
	spanDstCol
	spanDstTile
	spanSrcRow
	spanSrcCol
	spanSrcTile
	spanTiles
	spanLanes
	spanCount // room for the kernel
)

// winograd writes the transforms of Winograd's convolution: dst = L src Lᵀ for
// every tile and channel, src and dst being small square matrices of vectors.
func (g *generator) winograd() {
	for _, a := range winograd.Algorithms {
		for _, t := range a.Transforms {
			g.sandwich(t.Name, t.Matrix)
		}
	}
}

func (g *generator) sandwich(name string, l [][]float64) {
	g.function(name, "func(dst, src *float32, s *Span)")
	size := len(l[0]) // of src
	dst, src, s := g.param("dst"), g.param("src"), g.param("s")
	field := func(offset int) operand.Mem { return operand.Mem{Base: s, Disp: offset} }
	// Element j of a row is at a multiple of the stride: 0, 1, 2, 4 times it are
	// index scales, 3 and 5 times are registers.
	type walk struct{ one, three, five reg.GPVirtual }
	steps := func(offset, n int) walk {
		var w walk
		w.one = g.GP64()
		g.MOVQ(field(offset), w.one)
		if n > 3 {
			w.three = g.GP64()
			g.LEAQ(operand.Mem{Base: w.one, Index: w.one, Scale: 2}, w.three)
		}
		if n > 5 {
			w.five = g.GP64()
			g.LEAQ(operand.Mem{Base: w.one, Index: w.one, Scale: 4}, w.five)
		}
		return w
	}
	at := func(base reg.GPVirtual, w walk, j int) operand.Mem {
		switch j {
		case 0:
			return operand.Mem{Base: base}
		case 3:
			return operand.Mem{Base: base, Index: w.three, Scale: 1}
		case 5:
			return operand.Mem{Base: base, Index: w.five, Scale: 1}
		}
		return operand.Mem{Base: base, Index: w.one, Scale: uint8(j)}
	}
	srcCol, dstCol := steps(spanSrcCol, size), steps(spanDstCol, len(l))
	tile, lane, done := g.label("tile"), g.label("lane"), g.label("done")
	g.CMPQ(field(spanTiles), operand.Imm(0))
	g.JLE(operand.LabelRef(done))
	g.Label(tile)
	from, to, left := g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(src, from)
	g.MOVQ(dst, to)
	g.MOVQ(field(spanLanes), left)
	g.MOVQ(left, field(spanCount))
	g.Label(lane)
	out := g.GP64()
	g.MOVQ(to, out)
	for i, row := range l {
		// One row of L src.
		t := make([]reg.VecVirtual, size)
		line := g.GP64()
		for j := range t {
			t[j] = g.vec()
		}
		started := false
		for _, k := range order(row) {
			g.MOVQ(from, line)
			if k > 0 {
				step := g.GP64()
				g.MOVQ(field(spanSrcRow), step)
				if k > 1 {
					g.IMUL3Q(operand.Imm(uint64(k)), step, step)
				}
				g.ADDQ(step, line)
			}
			for j := range t {
				g.accumulate(row[k], at(line, srcCol, j), t[j], !started)
			}
			started = true
		}
		// Times Lᵀ.
		for c, column := range l {
			v := g.vec()
			for n, k := range order(column) {
				g.accumulate(column[k], t[k], v, n == 0)
			}
			g.VMOVUPS(v, at(out, dstCol, c))
		}
		if i+1 < len(l) {
			g.ADDQ(field(spanDstRow), out)
		}
	}
	g.ADDQ(operand.Imm(uint64(g.width())), from)
	g.ADDQ(operand.Imm(uint64(g.width())), to)
	g.SUBQ(operand.Imm(uint64(g.width()/4)), field(spanCount))
	g.JG(operand.LabelRef(lane))
	g.ADDQ(field(spanSrcTile), src)
	g.ADDQ(field(spanDstTile), dst)
	g.DECQ(field(spanTiles))
	g.JNZ(operand.LabelRef(tile))
	g.Label(done)
	g.end()
}

// order lists the factors of a row that are not 0, one that is 1 first.
func order(row []float64) []int {
	var list []int
	for k, v := range row {
		if v == 1 && (len(list) == 0 || row[list[0]] != 1) {
			list = append([]int{k}, list...)
		} else if v != 0 {
			list = append(list, k)
		}
	}
	return list
}

// accumulate adds c*x to a sum, or begins it.
func (g *generator) accumulate(c float64, x operand.Op, sum reg.VecVirtual, begin bool) {
	switch {
	case begin && c == 1:
		g.VMOVUPS(x, sum)
	case begin && c == -1:
		g.zero(sum)
		g.VSUBPS(x, sum, sum)
	case begin:
		v := g.vec()
		g.VMOVUPS(x, v)
		g.VMULPS(g.f(c), v, sum)
	case c == 1:
		g.VADDPS(x, sum, sum)
	case c == -1:
		g.VSUBPS(x, sum, sum)
	default:
		v := g.vec()
		g.VMOVUPS(x, v)
		g.VFMADD231PS(g.f(c), v, sum)
	}
}
