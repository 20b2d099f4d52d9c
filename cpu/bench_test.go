package cpu_test

import (
	"os"
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
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				step(batches[i%2])
				least = min(least, time.Since(start))
			}
			b.ReportMetric(least.Seconds()*1e3, "ms/step")
		})
	}
}
