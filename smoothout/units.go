package smoothout

import "math"

// Strengths of other methods, in ours. Equal strength means noise of equal
// variance: to second order the loss then rises equally, by Var/2 · tr H.

// GaussianSigma is the standard deviation of normal noise (Adapt None, Noise
// Normal) as strong as uniform noise of half-width a: σ = a/√3.
func GaussianSigma(a float64) float64 { return a / math.Sqrt(3) }

// FromGaussian is the half-width a of uniform noise as strong as normal noise
// of standard deviation sigma: a = σ·√3.
func FromGaussian(sigma float64) float64 { return sigma * math.Sqrt(3) }

// FromLPF is the strength s for Adapt Filter that gives a filter of d weights
// noise as strong as N(0, (γ·‖w_f‖)²) per weight, which is what LPF-SGD and RWP
// call γ: s = γ·√d. One γ is another s for each size of filter: γ = 0.0075 on
// filters of 3×3×512 weights is s = 0.51. (Adapt FilterNorm takes γ itself.)
func FromLPF(gamma float64, d int) float64 { return gamma * math.Sqrt(float64(d)) }

// FromFlatLoRA is the strength s for Adapt Filter of Flat-LoRA's σ: the same
// number, σ²·‖w_f‖²/d being the variance per weight in both.
func FromFlatLoRA(sigma float64) float64 { return sigma }
