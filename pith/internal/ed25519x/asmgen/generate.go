package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/openpith/evidence/internal/asmfile"
)

// generate returns the files of package ed25519x by name.
func generate() (asmfile.Files, error) {
	g := &generator{Context: build.NewContext()}
	g.addLanes()
	files := asmfile.Files{}
	return files, files.Add(g.Context, "ed25519x", "ifma")
}

// packageTypes stands for package ed25519x, which does not compile before its
// assembly exists: it declares the types that signatures refer to.
var packageTypes = asmfile.Types("github.com/openpith/evidence/pith/internal/ed25519x", "ed25519x", "points", "affine")

// Eight elements of the field lie in five registers, each in one lane: register
// k holds the limbs k, which stand for multiples of 2^(51k). An element is
// reduced when its limbs are below 2^51 + 2^14; multiplication takes limbs below
// 2^52, the width of what VPMADD52 multiplies.
const limbs = 5

type element [limbs]reg.VecVirtual

type generator struct {
	*build.Context
	mask     reg.VecVirtual // 2^51 - 1 in all lanes
	nineteen reg.VecVirtual // 19 in all lanes: 2^255 = 19
	zero     reg.VecVirtual
	twoP     [limbs]operand.Mem
}

const vector = 64 // bytes of a register

// addLanes adds to each of eight points one affine point, or subtracts it, by the
// formulas of the method add in table.go.
func (g *generator) addLanes() {
	// 2p, in limbs that no reduced limb exceeds: a + 2p - b is never negative.
	first := g.ConstData("twoP0", operand.U64(1<<52-38))
	rest := g.ConstData("twoP1234", operand.U64(1<<52-2))
	g.twoP = [limbs]operand.Mem{first, rest, rest, rest, rest}

	g.Package("github.com/openpith/evidence/pith/internal/ed25519x")
	g.Function("addLanes")
	g.Doc("addLanes adds to each of eight points the affine point of its lane, or subtracts", "it where the bit of the lane is set in negative. Limbs of entries are below 2^52.")
	signature, err := gotypes.ParseSignatureInPackage(packageTypes, "func(p *points, entries *[8]*affine, negative uint64)")
	if err != nil {
		panic(err)
	}
	g.Signature(signature)
	g.Pragma("noescape")

	p := g.Load(g.Param("p"), g.GP64()).(reg.GPVirtual)
	entries := g.Load(g.Param("entries"), g.GP64()).(reg.GPVirtual)
	negative := g.Load(g.Param("negative"), g.GP64()).(reg.GPVirtual)
	subtract := g.K()
	g.KMOVB(negative.As32(), subtract)
	g.mask, g.nineteen, g.zero = g.ZMM(), g.ZMM(), g.ZMM()
	g.VPBROADCASTQ(g.ConstData("mask51", operand.U64(1<<51-1)), g.mask)
	g.VPXORQ(g.mask, g.mask, g.zero)
	g.VPBROADCASTQ(g.ConstData("nineteen", operand.U64(19)), g.nineteen)

	X, Y, Z, T := at(operand.Mem{Base: p}, 0), at(operand.Mem{Base: p}, 1), at(operand.Mem{Base: p}, 2), at(operand.Mem{Base: p}, 3)
	local := g.AllocLocal(8 * limbs * vector)
	plus, minus, product := at(local, 0), at(local, 1), at(local, 2)
	A, E, F, G, H := at(local, 3), at(local, 4), at(local, 5), at(local, 6), at(local, 7)

	g.loadEntries(entries, subtract, plus, minus, product)

	g.store(g.mul(g.sub(g.load(Y), g.load(X)), minus), A)
	b := g.mul(g.add(g.load(Y), g.load(X)), plus)
	a := g.load(A)
	g.store(g.sub(b, a), E)
	g.store(g.add(b, a), H)
	c := g.mul(g.load(T), product)
	z := g.load(Z)
	d := g.add(z, z)
	f, h := g.sub(d, c), g.add(d, c)
	for k := range limbs {
		lane := g.ZMM()
		g.VPBLENDMQ(h[k], f[k], subtract, lane) // the other one where it is set
		g.VMOVDQU64(lane, F(k))
		g.VPBLENDMQ(f[k], h[k], subtract, lane)
		g.VMOVDQU64(lane, G(k))
	}
	g.store(g.mul(g.load(E), F), X)
	g.store(g.mul(g.load(G), H), Y)
	g.store(g.mul(g.load(F), G), Z)
	g.store(g.mul(g.load(E), H), T)
	g.VZEROUPPER()
	g.RET()
}

// at returns where the limbs of the n-th element behind a place lie.
func at(base operand.Mem, n int) func(k int) operand.Mem {
	return func(k int) operand.Mem { return base.Offset((n*limbs + k) * vector) }
}

func (g *generator) load(from func(int) operand.Mem) (e element) {
	for k := range e {
		e[k] = g.ZMM()
		g.VMOVDQU64(from(k), e[k])
	}
	return e
}

func (g *generator) store(e element, to func(int) operand.Mem) {
	for k := range e {
		g.VMOVDQU64(e[k], to(k))
	}
}

// loadEntries reads eight affine points, one for a lane: rows of sixteen words
// become columns. Where a point is subtracted, plus and minus change places.
func (g *generator) loadEntries(entries reg.GPVirtual, subtract reg.OpmaskVirtual, plus, minus, product func(int) operand.Mem) {
	for half := range 2 {
		var rows [8]reg.VecVirtual
		for i := range rows {
			entry := g.GP64()
			g.MOVQ(operand.Mem{Base: entries, Disp: 8 * i}, entry)
			rows[i] = g.ZMM()
			g.VMOVDQU64(operand.Mem{Base: entry, Disp: half * vector}, rows[i])
		}
		for i, column := range g.transpose(rows) {
			switch word := 8*half + i; {
			case word < limbs:
				g.VMOVDQU64(column, plus(word))
			case word < 2*limbs:
				g.VMOVDQU64(column, minus(word-limbs))
			case word < 3*limbs:
				g.VMOVDQU64(column, product(word-2*limbs))
			}
		}
	}
	for k := range limbs {
		sum, difference, lane := g.ZMM(), g.ZMM(), g.ZMM()
		g.VMOVDQU64(plus(k), sum)
		g.VMOVDQU64(minus(k), difference)
		g.VPBLENDMQ(difference, sum, subtract, lane)
		g.VMOVDQU64(lane, plus(k))
		g.VPBLENDMQ(sum, difference, subtract, lane)
		g.VMOVDQU64(lane, minus(k))
	}
}

// transpose turns eight rows of eight words into columns.
func (g *generator) transpose(rows [8]reg.VecVirtual) (columns [8]reg.VecVirtual) {
	var pairs [8]reg.VecVirtual // even ones: words 0, 2, 4, 6 of two rows; odd ones: words 1, 3, 5, 7
	for i := 0; i < 8; i += 2 {
		pairs[i], pairs[i+1] = g.ZMM(), g.ZMM()
		g.VPUNPCKLQDQ(rows[i+1], rows[i], pairs[i])
		g.VPUNPCKHQDQ(rows[i+1], rows[i], pairs[i+1])
	}
	const even, odd = 0x88, 0xdd // of the four parts of each operand
	for i := range 2 {
		for j, part := range []uint64{even, odd} {
			upper, lower := g.ZMM(), g.ZMM()
			g.VSHUFI64X2(operand.Imm(part), pairs[i+2], pairs[i], upper)
			g.VSHUFI64X2(operand.Imm(part), pairs[i+6], pairs[i+4], lower)
			columns[i+2*j], columns[i+2*j+4] = g.ZMM(), g.ZMM()
			g.VSHUFI64X2(operand.Imm(even), lower, upper, columns[i+2*j])
			g.VSHUFI64X2(operand.Imm(odd), lower, upper, columns[i+2*j+4])
		}
	}
	return columns
}

// add returns a + b of reduced elements, reduced.
func (g *generator) add(a, b element) (sum element) {
	for k := range sum {
		sum[k] = g.ZMM()
		g.VPADDQ(a[k], b[k], sum[k])
	}
	g.carry(sum)
	return sum
}

// sub returns a - b of reduced elements, reduced.
func (g *generator) sub(a, b element) (difference element) {
	for k := range difference {
		difference[k] = g.ZMM()
		g.VPADDQ_BCST(g.twoP[k], a[k], difference[k])
		g.VPSUBQ(b[k], difference[k], difference[k])
	}
	g.carry(difference)
	return difference
}

// carry reduces an element whose limbs are below 2^61: what a limb has beyond 51
// bits, less than 2^10, goes to the next, and from the last, times 19, to the
// first.
func (g *generator) carry(e element) {
	var over element
	for k := range e {
		over[k] = g.ZMM()
		g.VPSRLQ(operand.Imm(51), e[k], over[k])
		g.VPANDQ(g.mask, e[k], e[k])
	}
	for k := range limbs - 1 {
		g.VPADDQ(over[k], e[k+1], e[k+1])
	}
	g.VPMADD52LUQ(g.nineteen, over[limbs-1], e[0])
}

// mul returns a·b, reduced, of elements with limbs below 2^52. A product of two
// limbs comes in two halves of 52 bits, of which the upper one counts double for
// the next limb, since 2^52 = 2·2^51. In the columns of the product are at most
// five lower halves and twice five upper ones, so they stay below 15·2^52; with
// 19 times the column five further on they stay below 2^61.
func (g *generator) mul(a element, b func(int) operand.Mem) element {
	var low, high [2 * limbs]reg.VecVirtual
	started := func(v *reg.VecVirtual) reg.VecVirtual {
		if *v == nil {
			*v = g.ZMM()
			g.VMOVDQA64(g.zero, *v)
		}
		return *v
	}
	for j := range limbs {
		factor := g.ZMM()
		g.VMOVDQU64(b(j), factor)
		for i := range limbs {
			g.VPMADD52LUQ(factor, a[i], started(&low[i+j]))
			g.VPMADD52HUQ(factor, a[i], started(&high[i+j+1]))
		}
	}
	var columns [2 * limbs]reg.VecVirtual
	for k := range columns {
		switch {
		case high[k] == nil:
			columns[k] = low[k]
		case low[k] == nil:
			g.VPADDQ(high[k], high[k], high[k])
			columns[k] = high[k]
		default:
			g.VPADDQ(high[k], high[k], high[k])
			g.VPADDQ(high[k], low[k], low[k])
			columns[k] = low[k]
		}
	}
	var product element
	for k := range product {
		g.VPMULLQ(g.nineteen, columns[k+limbs], columns[k+limbs])
		g.VPADDQ(columns[k+limbs], columns[k], columns[k])
		product[k] = columns[k]
	}
	g.carry(product)
	return product
}
