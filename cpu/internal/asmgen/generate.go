package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/openpith/evidence/internal/asmfile"
)

// lanes is the granularity of all kernels: a length is a multiple of 16 floats,
// one AVX-512 register or two AVX2 registers.
const lanes = 16

// generate returns the files of package kernels by name.
func generate() (asmfile.Files, error) {
	files := asmfile.Files{}
	for _, isa := range []*generator{{name: "avx512", wide: true}, {name: "avx2"}} {
		isa.Context = build.NewContext()
		isa.constants = map[string]operand.Mem{}
		isa.tiles()
		isa.elementwise()
		isa.reductions()
		isa.pooling()
		isa.transpose()
		isa.random()
		isa.winograd()
		if err := files.Add(isa.Context, "kernels", isa.name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// kernelTypes stands for package kernels, which does not compile before its
// assembly exists: it declares the types that signatures refer to.
var kernelTypes = asmfile.Types("github.com/openpith/evidence/cpu/internal/kernels", "kernels", "Tile", "Draw", "Span")

// A generator writes the kernels for one instruction set. Its methods named
// after arithmetic work on registers of that set, so that kernels are written
// once.
type generator struct {
	*build.Context
	name      string
	wide      bool // AVX-512: 16 lanes a register, mask registers
	constants map[string]operand.Mem
	labels    int
	lanesOf   *operand.Mem // the table of philox
}

// perStrip is the number of registers that hold 16 lanes.
func (g *generator) perStrip() int {
	if g.wide {
		return 1
	}
	return 2
}

// width is the size of a register in bytes.
func (g *generator) width() int { return 64 / g.perStrip() }

func (g *generator) vec() reg.VecVirtual {
	if g.wide {
		return g.ZMM()
	}
	return g.YMM()
}

func (g *generator) vecs(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = g.vec()
	}
	return v
}

// function starts a kernel named after the operation and the instruction set.
func (g *generator) function(name, signature string, doc ...string) {
	g.Function(name + strings.ToUpper(g.name[:1]) + g.name[1:])
	g.Attributes(attr.NOSPLIT)
	g.Pragma("noescape")
	sig, err := gotypes.ParseSignatureInPackage(kernelTypes, signature)
	if err != nil {
		panic(err) // a slip in this program
	}
	g.Signature(sig)
	g.Doc(doc...)
	g.labels = 0
}

func (g *generator) label(name string) string {
	g.labels++
	return fmt.Sprintf("%s%d", name, g.labels)
}

func (g *generator) param(name string) reg.GPVirtual {
	return g.Load(g.Param(name), g.GP64()).(reg.GPVirtual)
}

func (g *generator) end() {
	g.VZEROUPPER()
	g.RET()
}

// f is a constant as a memory operand of any register width.
func (g *generator) f(x float64) operand.Mem { return g.bits(math.Float32bits(float32(x))) }

func (g *generator) bits(b uint32) operand.Mem {
	name := fmt.Sprintf("%s_%08x", g.name, b)
	if m, ok := g.constants[name]; ok {
		return m
	}
	m := g.StaticGlobal(name)
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range lanes {
		g.AddDatum(4*i, operand.U32(b))
	}
	g.constants[name] = m
	return m
}

// Comparison predicates: quiet, false for NaN unless said otherwise.
const (
	cmpEQ       = operand.U8(0x00)
	cmpUnord    = operand.U8(0x03) // either is NaN
	cmpNE       = operand.U8(0x04) // true for NaN
	cmpLT       = operand.U8(0x11)
	cmpLE       = operand.U8(0x12)
	cmpNotLT    = operand.U8(0x15) // true for NaN
	cmpGE       = operand.U8(0x1d)
	cmpGT       = operand.U8(0x1e)
	roundEven   = operand.U8(0x08)
	roundFloor  = operand.U8(0x09)
	roundCeil   = operand.U8(0x0a)
	floatMinExp = 0x00800000 // bits of the smallest normal float32
)

// choose sets dst to t where a predicate b, else to f. b and t may be in memory.
func (g *generator) choose(predicate operand.U8, a, b, t, f, dst operand.Op) {
	if g.wide {
		k := g.K()
		g.VCMPPS(predicate, b, a, k)
		g.VBLENDMPS(t, f, k, dst)
		return
	}
	mask := g.YMM()
	g.VCMPPS(predicate, b, a, mask)
	g.VBLENDVPS(mask, t, f, dst)
}

func (g *generator) and(a, b, dst operand.Op) {
	if g.wide {
		g.VPANDD(a, b, dst)
	} else {
		g.VPAND(a, b, dst)
	}
}

func (g *generator) or(a, b, dst operand.Op) {
	if g.wide {
		g.VPORD(a, b, dst)
	} else {
		g.VPOR(a, b, dst)
	}
}

func (g *generator) xor(a, b, dst operand.Op) {
	if g.wide {
		g.VPXORD(a, b, dst)
	} else {
		g.VPXOR(a, b, dst)
	}
}

func (g *generator) zero(v operand.Op) { g.xor(v, v, v) }

func (g *generator) round(mode operand.U8, a, dst operand.Op) {
	if g.wide {
		g.VRNDSCALEPS(mode, a, dst)
	} else {
		g.VROUNDPS(mode, a, dst)
	}
}

// max is NaN where a or b is; VMAXPS alone would return its second source.
func (g *generator) max(a, b, dst operand.Op) {
	t := g.vec()
	g.VMAXPS(b, a, t)
	g.choose(cmpUnord, a, a, a, t, dst)
}

func (g *generator) min(a, b, dst operand.Op) {
	t := g.vec()
	g.VMINPS(b, a, t)
	g.choose(cmpUnord, a, a, a, t, dst)
}

// loop runs body with a register that counts from -4n bytes up to 0, to be used
// as the index of pointers that were advanced to their ends.
func (g *generator) loop(n reg.GPVirtual, pointers []reg.GPVirtual, body func(at func(p reg.GPVirtual, part int) operand.Mem)) {
	done, top := g.label("done"), g.label("loop")
	g.SHLQ(operand.Imm(2), n)
	g.JZ(operand.LabelRef(done))
	for _, p := range pointers {
		g.ADDQ(n, p)
	}
	g.NEGQ(n)
	g.Label(top)
	body(func(p reg.GPVirtual, part int) operand.Mem {
		return operand.Mem{Base: p, Index: n, Scale: 1, Disp: part * g.width()}
	})
	g.ADDQ(operand.Imm(4*lanes), n)
	g.JNZ(operand.LabelRef(top))
	g.Label(done)
}
