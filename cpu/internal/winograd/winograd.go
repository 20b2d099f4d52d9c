// Package winograd has the matrices of Winograd's convolution in one place for the
// kernels, the generator of their assembly and their tests: A. Lavin, S. Gray, "Fast
// Algorithms for Convolutional Neural Networks" (arXiv:1509.09308).
//
// A tile of results of a kernel g on a tile d of the input is
//
//	Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A
//
// and the gradient of the kernel is the transposed map
//
//	dg = Gᵀ [(A dY Aᵀ) ⊙ (Bᵀ d B)] G
package winograd

import (
	"fmt"
	"math"
	"slices"
)

// An Algorithm is F(Step x Step, Taps x Taps): so many results per tile, of kernels
// of that size, from tiles of the input of Size = Step+Taps-1.
type Algorithm struct {
	Step, Taps, Size int
	Transforms       [Count]Transform
}

// A Transform is a map X -> L X Lᵀ of small square matrices.
type Transform struct {
	Name   string
	Matrix [][]float64 // L
}

// The transforms of an algorithm.
const (
	Input      = iota // Bᵀ
	Output            // Aᵀ
	OutputGrad        // A
	Kernel            // G
	KernelGrad        // Gᵀ
	Count
)

// Algorithms are F(2x2, 3x3), with 2.25 times fewer products than the direct way,
// F(4x4, 3x3), with 4 times fewer, and F(2x2, 5x5), with 2.78 times fewer. The points
// are such that products with elements of A and B are exact or nearly so; of those
// tried for the larger tiles, 0, ±3/4, ±3/2 lose the least (half of what 0, ±1, ±2 do).
var Algorithms = [...]Algorithm{
	newAlgorithm(2, 3, 0, 1, -1),
	newAlgorithm(4, 3, 0, .75, -.75, 1.5, -1.5),
	newAlgorithm(2, 5, 0, .75, -.75, 1.5, -1.5),
}

// newAlgorithm is the construction of Toom and Cook: results and kernels are
// polynomials, whose product is taken at the points and at infinity.
func newAlgorithm(step, taps int, points ...float64) Algorithm {
	size := len(points) + 1
	powers := func(x float64, n int) []float64 {
		list := make([]float64, n)
		for i := range list {
			list[i] = math.Pow(x, float64(i))
		}
		return list
	}
	var bT, g, a [][]float64
	for i, x := range points {
		others := slices.Delete(slices.Clone(points), i, i+1)
		scale := 1.
		for _, y := range others {
			scale *= x - y
		}
		row := powers(x, taps)
		for j := range row {
			row[j] /= scale
		}
		g = append(g, row)
		a = append(a, powers(x, step))
		bT = append(bT, append(polynomial(others), 0))
	}
	g = append(g, make([]float64, taps))
	g[size-1][taps-1] = 1
	a = append(a, make([]float64, step))
	a[size-1][step-1] = 1
	bT = append(bT, polynomial(points))
	name := fmt.Sprintf("winograd%dx%d", step, taps)
	return Algorithm{Step: step, Taps: taps, Size: size, Transforms: [Count]Transform{
		Input:      {fmt.Sprintf("winogradInput%d", size), bT}, // depends on the points only
		Output:     {name + "Output", transposed(a)},
		OutputGrad: {name + "OutputGrad", a},
		Kernel:     {name + "Kernel", g},
		KernelGrad: {name + "KernelGrad", transposed(g)},
	}}
}

// polynomial has the given roots: its coefficients, from that of x^0 to 1.
func polynomial(roots []float64) []float64 {
	c := []float64{1}
	for _, root := range roots {
		next := append([]float64{0}, c...)
		for i, v := range c {
			next[i] -= root * v
		}
		c = next
	}
	return c
}

func transposed(m [][]float64) [][]float64 {
	t := make([][]float64, len(m[0]))
	for i := range t {
		for _, row := range m {
			t[i] = append(t[i], row[i])
		}
	}
	return t
}
