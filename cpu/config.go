package cpu

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/openpith/evidence/cpu/internal/kernels"
	"github.com/openpith/evidence/cpu/internal/winograd"
)

// Help describes the configuration string of the backend; it is also the text
// of the error that the configuration "help" returns.
const Help = `cpu: options are separated by commas, as in GOMLX_BACKEND=cpu:workers=4,dump
  workers=N   goroutines that share the work of one step (default: GOMAXPROCS);
              results do not depend on it
  isa=NAME    instruction set: avx512, avx2 or go (default: the best present)
  dump        print the compiled plan of every graph to standard error, and its
              measured times when the executable or the backend is finalized
  help        show this text`

// options are the parsed configuration string.
type options struct {
	workers  int
	isa      *kernels.Set
	dump     bool
	winograd []int // algorithms to choose from: all, except in tests and benchmarks
}

// everyWinograd lists all of winograd.Algorithms.
var everyWinograd = func() (all []int) {
	for i := range winograd.Algorithms {
		all = append(all, i)
	}
	return all
}()

func parseOptions(config string) (options, error) {
	opts := options{workers: runtime.GOMAXPROCS(0), isa: kernels.Best(), winograd: everyWinograd}
	for _, field := range strings.Split(config, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch key {
		case "":
		case "workers":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > 1024 {
				return opts, fmt.Errorf("cpu: workers=%q is not a number from 1 to 1024\n%s", value, Help)
			}
			opts.workers = n
		case "isa":
			set, ok := kernels.ByName(value)
			if !ok {
				return opts, fmt.Errorf("cpu: isa=%q is unknown or not supported by this processor, which has %s\n%s",
					value, strings.Join(kernels.Names(), ", "), Help)
			}
			opts.isa = set
		case "dump":
			opts.dump = true
		case "help":
			return opts, fmt.Errorf("%s", Help)
		default:
			return opts, fmt.Errorf("cpu: unknown option %q\n%s", key, Help)
		}
	}
	return opts, nil
}
