//go:build unix

package httpserve

import (
	"math"
	"syscall"
)

// maxFiles is how many files this process may have open, connections among them.
func maxFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}
