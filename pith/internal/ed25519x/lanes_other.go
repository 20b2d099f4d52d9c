//go:build !amd64

package ed25519x

// vectors says whether addLanes runs on this machine.
var vectors = false

func addLanes(*points, *[lanes]*affine, uint64) { panic("no vectors on this machine") }
