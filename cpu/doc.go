// Package cpu is a GoMLX compute backend for the processor the program runs on.
//
// It is written in Go and Go assembly: no cgo, no download, no environment
// variable. Importing it registers the backend "cpu" and makes it the default
// of [compute.New]:
//
//	import _ "github.com/openpith/evidence/cpu"
//
//	backend := compute.MustNew()
//
// # How a graph becomes a step
//
// A [Function] records operations as a graph; [Builder.Compile] turns it into a
// plan in stages, one file each:
//
//	simplify.go   dead code, common subexpressions, reshapes as views
//	batchnorm.go  batch normalisation as statistics plus elementwise apply
//	layout.go     transposes and reversals folded into dot-general and conv
//	random.go     random numbers drawn inside the loops that use them
//	filternoise.go noise measured against norms, a strip of columns at a time
//	fuse.go       chains of elementwise operations become one loop program
//	recompute.go  what a program can derive for itself is not stored for it
//	schedule.go   gradients of weights next to what they are made of
//	lower.go      every remaining node becomes a step that calls kernels
//	images.go     neighbouring steps run image by image
//	memory.go     buffers by last use: one arena per running step
//
// What has no kernel here runs as a one-operation executable of GoMLX's "go"
// backend ([fallback.go]); a dump (option "dump") shows where that happens.
//
// # Numbers
//
// Results are bit-identical for any number of workers: how a reduction is split
// depends on shapes only. They may differ in the last bits between instruction
// sets (avx512, avx2, go), which round and associate differently.
package cpu
