//go:build !amd64

package kernels

func available() []*Set { return []*Set{Portable} }
