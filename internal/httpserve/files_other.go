//go:build !unix

package httpserve

import "math"

// maxFiles is how many files this process may have open, connections among them.
func maxFiles() int { return math.MaxInt32 }
