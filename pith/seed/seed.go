// Package seed carries one real Pith bundle inside the binary: the record of
// SmoothOut (arXiv:1805.07898v3) as pith.science published it. Programs that
// work offline start from it, and the tests of the format are held to it.
package seed

import (
	"bytes"
	_ "embed"
)

//go:embed CWPYLZDW7AWAX7TQ5ZRNS3OHEM.json
var bundle []byte

// Bundle returns the bytes of the bundle as they were published. The caller
// may change them.
func Bundle() []byte { return bytes.Clone(bundle) }
