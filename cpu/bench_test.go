//go:build unix

package cpu_test

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// largeNets are the networks of the benchmarks at their batch sizes.
var largeNets = []training{
	{"F1-256", f1(5, 512), []int{256, 28, 28, 1}},
	{"C1-128", c1(64, 384, 192), []int{128, 32, 32, 3}},
	{"ResNet44-128", resnet(7, 16, 32, 64), []int{128, 32, 32, 3}},
}

// BenchmarkTrain reports the least time of a training step through the stock
// trainer. CPU_CONFIG configures the backend.
func BenchmarkTrain(b *testing.B) {
	for _, tr := range largeNets {
		b.Run(tr.name, func(b *testing.B) {
			step := tr.start(b, newBackend(b, os.Getenv("CPU_CONFIG")))
			batches := tr.batches(2)
			step(batches[0])
			step(batches[1])
			least := time.Hour
			b.ReportAllocs()
			before := processTime()
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				step(batches[i%2])
				least = min(least, time.Since(start))
			}
			b.ReportMetric(least.Seconds()*1e3, "ms/step")
			b.ReportMetric((processTime()-before).Seconds()*1e3/float64(b.N), "cpu-ms/step")
		})
	}
}

// processTime is the processor time of the process, which other processes on the
// machine disturb less than they do the clock.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
