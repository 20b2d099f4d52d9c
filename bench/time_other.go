//go:build !unix

package bench

import "time"

// ProcessTime is not known here.
func ProcessTime() time.Duration { return 0 }

// PeakMemory is not known here.
func PeakMemory() int64 { return 0 }
