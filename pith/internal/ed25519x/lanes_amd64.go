package ed25519x

import "golang.org/x/sys/cpu"

// vectors says whether addLanes runs on this machine.
var vectors = cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512IFMA && elementsAreLimbs()
