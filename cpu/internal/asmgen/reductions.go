package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// reductions writes sums over the rows of a [rows, cols] matrix, cols a multiple
// of 16. Results are added to what the destinations hold.
func (g *generator) reductions() {
	g.columns("colSum", "func(sum, x *float32, rows, stride, cols int)", 1, 0,
		func(acc, row []reg.VecVirtual, _ reg.VecVirtual) { g.VADDPS(row[0], acc[0], acc[0]) })
	// sum of d = x - shift, and of its square: for means and variances.
	g.columns("colMoments", "func(sum, square, x, shift *float32, rows, stride, cols int)", 1, 1,
		func(acc, row []reg.VecVirtual, shift reg.VecVirtual) {
			g.VSUBPS(shift, row[0], row[0])
			g.VADDPS(row[0], acc[0], acc[0])
			g.VFMADD231PS(row[0], row[0], acc[1])
		})
	// sum of x, and of x*(y - shift): for the gradient of a normalisation.
	g.columns("colProducts", "func(sum, product, x, y, shift *float32, rows, stride, cols int)", 2, 1,
		func(acc, row []reg.VecVirtual, shift reg.VecVirtual) {
			g.VADDPS(row[0], acc[0], acc[0])
			g.VSUBPS(shift, row[1], row[1])
			g.VFMADD231PS(row[1], row[0], acc[1])
		})
	g.rowReduction("rowSum", func(x operand.Op, acc reg.VecVirtual) { g.VADDPS(x, acc, acc) })
	g.rowReduction("rowMax", func(x operand.Op, acc reg.VecVirtual) {
		v := g.vec()
		g.VMOVUPS(x, v)
		g.max(v, acc, acc)
	})
}

func (g *generator) columns(name, signature string, matrices, shifts int, step func(acc, row []reg.VecVirtual, shift reg.VecVirtual)) {
	g.function(name, signature)
	sums := []reg.GPVirtual{g.param("sum")}
	switch name {
	case "colMoments":
		sums = append(sums, g.param("square"))
	case "colProducts":
		sums = append(sums, g.param("product"))
	}
	sources := []reg.GPVirtual{g.param("x")}
	if matrices == 2 {
		sources = append(sources, g.param("y"))
	}
	var shiftPointer reg.GPVirtual
	if shifts > 0 {
		shiftPointer = g.param("shift")
	}
	rows, stride, cols := g.param("rows"), g.param("stride"), g.param("cols")
	g.SHLQ(operand.Imm(2), stride)
	advance := append(append([]reg.GPVirtual{}, sums...), sources...)
	if shifts > 0 {
		advance = append(advance, shiftPointer)
	}

	const unroll = 4 // rows in flight, each with its own sums
	done, strip := g.label("done"), g.label("strip")
	step16 := func(width int) {
		parts := width / (g.width() / 4)
		fours, ones, end := g.label("fours"), g.label("ones"), g.label("end")
		four, one := g.label("four"), g.label("one")
		copies := unroll
		if parts > 1 {
			copies = 1 // several registers per row are in flight already
		}
		acc := make([][][]reg.VecVirtual, copies) // [copy][part][sum]
		for i := range acc {
			acc[i] = make([][]reg.VecVirtual, parts)
			for p := range acc[i] {
				acc[i][p] = g.vecs(len(sums))
				for _, v := range acc[i][p] {
					g.zero(v)
				}
			}
		}
		shift := make([]reg.VecVirtual, parts)
		if shifts > 0 {
			for p := range shift {
				shift[p] = g.vec()
				g.VMOVUPS(operand.Mem{Base: shiftPointer, Disp: p * g.width()}, shift[p])
			}
		}
		at := make([]reg.GPVirtual, len(sources))
		for i, s := range sources {
			at[i] = g.GP64()
			g.MOVQ(s, at[i])
		}
		left := g.GP64()
		g.MOVQ(rows, left)
		body := func(set [][]reg.VecVirtual) {
			for p := range parts {
				row := g.vecs(len(sources))
				for i := range sources {
					g.VMOVUPS(operand.Mem{Base: at[i], Disp: p * g.width()}, row[i])
				}
				step(set[p], row, shift[p])
			}
			for i := range sources {
				g.ADDQ(stride, at[i])
			}
		}
		if copies > 1 {
			g.Label(fours)
			g.CMPQ(left, operand.Imm(unroll))
			g.JL(operand.LabelRef(ones))
			g.Label(four)
			for i := range copies {
				body(acc[i])
			}
			g.SUBQ(operand.Imm(unroll), left)
			g.CMPQ(left, operand.Imm(unroll))
			g.JGE(operand.LabelRef(four))
			g.Label(ones)
		}
		g.TESTQ(left, left)
		g.JZ(operand.LabelRef(end))
		g.Label(one)
		body(acc[0])
		g.DECQ(left)
		g.JNZ(operand.LabelRef(one))
		g.Label(end)
		for p := range parts {
			for s, pointer := range sums {
				total := acc[0][p][s]
				for i := 1; i < copies; i++ {
					g.VADDPS(acc[i][p][s], total, total)
				}
				mem := operand.Mem{Base: pointer, Disp: p * g.width()}
				g.VADDPS(mem, total, total)
				g.VMOVUPS(total, mem)
			}
		}
		for _, p := range advance {
			g.ADDQ(operand.U32(4*width), p)
		}
		g.SUBQ(operand.U32(width), cols)
	}
	g.Label(strip)
	if g.wide {
		narrow := g.label("narrow")
		g.CMPQ(cols, operand.Imm(4*lanes))
		g.JL(operand.LabelRef(narrow))
		step16(4 * lanes)
		g.JMP(operand.LabelRef(strip))
		g.Label(narrow)
	}
	g.TESTQ(cols, cols)
	g.JLE(operand.LabelRef(done))
	step16(lanes)
	g.JMP(operand.LabelRef(strip))
	g.Label(done)
	g.end()
}

// rowReduction reduces n > 0 elements, a multiple of 16, to 16 partial results.
func (g *generator) rowReduction(name string, op func(x operand.Op, acc reg.VecVirtual)) {
	g.function(name, "func(partial, x *float32, n int)")
	partial, x, n := g.param("partial"), g.param("x"), g.param("n")
	acc := g.vecs(g.perStrip())
	for part, v := range acc {
		g.VMOVUPS(operand.Mem{Base: x, Disp: part * g.width()}, v)
	}
	g.ADDQ(operand.Imm(4*lanes), x)
	g.SUBQ(operand.Imm(lanes), n)
	g.loop(n, []reg.GPVirtual{x}, func(at func(reg.GPVirtual, int) operand.Mem) {
		for part, v := range acc {
			op(at(x, part), v)
		}
	})
	for part, v := range acc {
		g.VMOVUPS(v, operand.Mem{Base: partial, Disp: part * g.width()})
	}
	g.end()
}
