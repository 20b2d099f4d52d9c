package kernels

import (
	"sync"

	"github.com/openpith/evidence/cpu/internal/winograd"
	"golang.org/x/sys/cpu"
)

var available = sync.OnceValue(func() []*Set {
	var sets []*Set
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		sets = append(sets, newAVX2())
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW {
			sets = append([]*Set{newAVX512()}, sets...)
		}
	}
	return append(sets, Portable)
})

func newAVX512() *Set {
	s := &Set{
		Name:        "avx512",
		Tile16:      []TileFunc{tile1x16Avx512, tile2x16Avx512, tile3x16Avx512, tile4x16Avx512, tile5x16Avx512, tile6x16Avx512, tile7x16Avx512, tile8x16Avx512, tile9x16Avx512, tile10x16Avx512, tile11x16Avx512, tile12x16Avx512, tile13x16Avx512, tile14x16Avx512, tile15x16Avx512, tile16x16Avx512},
		Tile32:      []TileFunc{tile1x32Avx512, tile2x32Avx512, tile3x32Avx512, tile4x32Avx512, tile5x32Avx512, tile6x32Avx512, tile7x32Avx512, tile8x32Avx512, tile9x32Avx512, tile10x32Avx512, tile11x32Avx512, tile12x32Avx512},
		FromInt32:   fromInt32Avx512,
		FromUint32:  fromUint32Avx512,
		FromBool:    fromBoolAvx512,
		ColSum:      colSumAvx512,
		ColMoments:  colMomentsAvx512,
		ColProducts: colProductsAvx512,
		RowSum:      rowSumAvx512,
		RowMax:      rowMaxAvx512,
		MaxPool:     maxPoolAvx512,
		MaxPoolGrad: maxPoolGradAvx512,
		Transpose8:  transpose8Avx512,
		Philox:      philoxAvx512,
		Uniform:     uniformAvx512,
		Noise:       noiseAvx512,
		StripNorms:  stripNormsAvx512,
		StripAdd:    stripAddAvx512,
		Winograd: [len(winograd.Algorithms)][winograd.Count]SpanFunc{
			{winogradInput4Avx512, winograd2x3OutputAvx512, winograd2x3OutputGradAvx512, winograd2x3KernelAvx512, winograd2x3KernelGradAvx512},
			{winogradInput6Avx512, winograd4x3OutputAvx512, winograd4x3OutputGradAvx512, winograd4x3KernelAvx512, winograd4x3KernelGradAvx512},
			{winogradInput6Avx512, winograd2x5OutputAvx512, winograd2x5OutputGradAvx512, winograd2x5KernelAvx512, winograd2x5KernelGradAvx512},
		},
		Vec: portableVec,
	}
	for op, f := range map[Op]Vec{
		Add:         addAvx512,
		Sub:         subAvx512,
		Mul:         mulAvx512,
		Div:         divAvx512,
		Max:         maxAvx512,
		Min:         minAvx512,
		Equal:       equalAvx512,
		NotEqual:    notEqualAvx512,
		Less:        lessAvx512,
		LessEqual:   lessEqualAvx512,
		FMA:         fmaAvx512,
		Choose:      chooseAvx512,
		Neg:         negAvx512,
		Abs:         absAvx512,
		Sqrt:        sqrtAvx512,
		Rsqrt:       rsqrtAvx512,
		Floor:       floorAvx512,
		Ceil:        ceilAvx512,
		Round:       roundAvx512,
		Sign:        signAvx512,
		NonNegative: nonNegativeAvx512,
		Exp:         expAvx512,
		Log:         logAvx512,
	} {
		s.Vec[op] = f
	}
	return s
}

func newAVX2() *Set {
	s := &Set{
		Name:        "avx2",
		Tile16:      []TileFunc{tile1x16Avx2, tile2x16Avx2, tile3x16Avx2, tile4x16Avx2, tile5x16Avx2, tile6x16Avx2},
		FromInt32:   fromInt32Avx2,
		FromUint32:  fromUint32Avx2,
		FromBool:    fromBoolAvx2,
		ColSum:      colSumAvx2,
		ColMoments:  colMomentsAvx2,
		ColProducts: colProductsAvx2,
		RowSum:      rowSumAvx2,
		RowMax:      rowMaxAvx2,
		MaxPool:     maxPoolAvx2,
		MaxPoolGrad: maxPoolGradAvx2,
		Transpose8:  transpose8Avx2,
		Philox:      philoxAvx2,
		Uniform:     uniformAvx2,
		Noise:       noiseAvx2,
		StripNorms:  stripNormsAvx2,
		StripAdd:    stripAddAvx2,
		Winograd: [len(winograd.Algorithms)][winograd.Count]SpanFunc{
			{winogradInput4Avx2, winograd2x3OutputAvx2, winograd2x3OutputGradAvx2, winograd2x3KernelAvx2, winograd2x3KernelGradAvx2},
			{winogradInput6Avx2, winograd4x3OutputAvx2, winograd4x3OutputGradAvx2, winograd4x3KernelAvx2, winograd4x3KernelGradAvx2},
			{winogradInput6Avx2, winograd2x5OutputAvx2, winograd2x5OutputGradAvx2, winograd2x5KernelAvx2, winograd2x5KernelGradAvx2},
		},
		Vec: portableVec,
	}
	for op, f := range map[Op]Vec{
		Add:         addAvx2,
		Sub:         subAvx2,
		Mul:         mulAvx2,
		Div:         divAvx2,
		Max:         maxAvx2,
		Min:         minAvx2,
		Equal:       equalAvx2,
		NotEqual:    notEqualAvx2,
		Less:        lessAvx2,
		LessEqual:   lessEqualAvx2,
		FMA:         fmaAvx2,
		Choose:      chooseAvx2,
		Neg:         negAvx2,
		Abs:         absAvx2,
		Sqrt:        sqrtAvx2,
		Rsqrt:       rsqrtAvx2,
		Floor:       floorAvx2,
		Ceil:        ceilAvx2,
		Round:       roundAvx2,
		Sign:        signAvx2,
		NonNegative: nonNegativeAvx2,
		Exp:         expAvx2,
		Log:         logAvx2,
	} {
		s.Vec[op] = f
	}
	return s
}
