//go:build xla

package main

import "github.com/gomlx/go-xla/compute/xla" // GPUs and TPUs; needs cgo

// Left to itself, the XLA backend downloads a plugin when it finds none. Nothing
// here uses the network without being asked: docs/cli.md says where a plugin
// that is there already is looked for.
func init() { xla.EnableAutoInstall(false) }
