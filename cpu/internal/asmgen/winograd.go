package main

import (
	"slices"

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
	written := map[string]bool{}
	for _, a := range winograd.Algorithms {
		for _, t := range a.Transforms {
			if !written[t.Name] {
				g.sandwich(t.Name, t.Matrix)
			}
			written[t.Name] = true
		}
	}
}

// sandwich writes one transform: L src into memory of the frame, column by column, then
// that times Lᵀ, row by row.
func (g *generator) sandwich(name string, l [][]float64) {
	g.function(name, "func(dst, src *float32, s *Span)")
	g.Attributes(0)                 // the frame is larger than NOSPLIT allows
	rows, size := len(l), len(l[0]) // of the results, and of src
	dst, src, s := g.param("dst"), g.param("src"), g.param("s")
	field := func(offset int) operand.Mem { return operand.Mem{Base: s, Disp: offset} }
	// Element j of a column is at a multiple of the stride: 0, 1, 2, 4 times it are
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
	const line = 64 // of the cache, which the memory in between is aligned to
	between := g.GP64()
	g.LEAQ(g.AllocLocal(rows*size*g.width()+line), between)
	g.ADDQ(operand.Imm(line-1), between)
	g.ANDQ(operand.I32(-line), between)
	middle := func(r, c int) operand.Mem { return operand.Mem{Base: between, Disp: (r*size + c) * g.width()} }

	srcRow, dstCol := steps(spanSrcRow, size), steps(spanDstCol, rows)
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
	in, out := g.GP64(), g.GP64()
	g.MOVQ(from, in)
	for c := range size { // a column of L src
		column := g.vecs(size)
		for k, v := range column {
			g.VMOVUPS(at(in, srcRow, k), v)
		}
		g.apply(l, column, func(r int, v reg.VecVirtual) { g.VMOVUPS(v, middle(r, c)) })
		if c+1 < size {
			g.ADDQ(field(spanSrcCol), in)
		}
	}
	g.MOVQ(to, out)
	for r := range rows {
		row := g.vecs(size)
		for k, v := range row {
			g.VMOVUPS(middle(r, k), v)
		}
		g.apply(l, row, func(c int, v reg.VecVirtual) { g.VMOVUPS(v, at(out, dstCol, c)) })
		if r+1 < rows {
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

// apply computes L x and hands out its elements. Points of the algorithms come in pairs
// of either sign, so rows of L come in pairs x = even + odd, even - odd, or its columns
// do: half of the products serve both.
func (g *generator) apply(l [][]float64, x []reg.VecVirtual, result func(r int, v reg.VecVirtual)) {
	x = slices.Clone(x)
	m := make([][]float64, len(l))
	for r := range l {
		m[r] = slices.Clone(l[r])
	}
	for _, p := range pairs(transpose(m)) {
		sum, difference := g.vec(), g.vec()
		g.VADDPS(x[p[1]], x[p[0]], sum)
		g.VSUBPS(x[p[1]], x[p[0]], difference)
		x[p[0]], x[p[1]] = sum, difference
		for _, row := range m {
			if row[p[0]] == row[p[1]] {
				row[p[1]] = 0
			} else {
				row[p[0]], row[p[1]] = 0, row[p[0]]
			}
		}
	}
	paired := map[int]bool{}
	for _, p := range pairs(m) {
		even, odd := make([]float64, len(x)), make([]float64, len(x))
		for k, c := range m[p[0]] {
			if c == m[p[1]][k] {
				even[k] = c
			} else {
				odd[k] = c
			}
		}
		e, o := g.sum(even, x), g.sum(odd, x)
		plus := g.vec()
		g.VADDPS(o, e, plus)
		result(p[0], plus)
		g.VSUBPS(o, e, e)
		result(p[1], e)
		paired[p[0]], paired[p[1]] = true, true
	}
	for r, row := range m {
		if !paired[r] {
			result(r, g.sum(row, x))
		}
	}
}

// pairs lists pairs of rows that differ in signs only, of some elements but not all.
func pairs(m [][]float64) (list [][2]int) {
	for i := range m {
		for j := i + 1; j < len(m); j++ {
			var same, opposite, other int
			for k, c := range m[i] {
				switch {
				case c == 0 && m[j][k] == 0:
				case c == m[j][k]:
					same++
				case c == -m[j][k]:
					opposite++
				default:
					other++
				}
			}
			if same > 0 && opposite > 0 && other == 0 {
				list = append(list, [2]int{i, j})
			}
		}
	}
	return list
}

func transpose(m [][]float64) [][]float64 {
	t := make([][]float64, len(m[0]))
	for i := range t {
		for _, row := range m {
			t[i] = append(t[i], row[i])
		}
	}
	return t
}

// sum adds up factors times registers, one with a factor of 1 first.
func (g *generator) sum(factors []float64, x []reg.VecVirtual) reg.VecVirtual {
	var list []int
	for k, c := range factors {
		if c == 1 && (len(list) == 0 || factors[list[0]] != 1) {
			list = append([]int{k}, list...)
		} else if c != 0 {
			list = append(list, k)
		}
	}
	v := g.vec()
	for i, k := range list {
		switch c := factors[k]; {
		case i == 0 && c == 1:
			g.VMOVAPS(x[k], v)
		case i == 0:
			g.VMULPS(g.f(c), x[k], v)
		case c == 1:
			g.VADDPS(x[k], v, v)
		case c == -1:
			g.VSUBPS(x[k], v, v)
		default:
			g.VFMADD231PS(g.f(c), x[k], v)
		}
	}
	return v
}
