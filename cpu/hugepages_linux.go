package cpu

import (
	"os"
	"syscall"
	"unsafe"
)

// hugePages asks for large pages behind a large block: walking tensors of many
// megabytes in small pages spends much of its time in translating addresses. It
// is advice, so failure does not matter.
func hugePages(b []byte) {
	const (
		adviseHugePage = 14 // MADV_HUGEPAGE
		worthwhile     = 4 << 20
	)
	if len(b) < worthwhile {
		return
	}
	page := os.Getpagesize()
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & uintptr(page-1))
	_ = syscall.Madvise(b[skip:skip+(len(b)-skip)&^(page-1)], adviseHugePage)
}
