//go:build unix

package bench

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/openpith/evidence/cpu"
)

var trainings = []Training{Networks["F1"](256), Networks["C1"](128), Networks["ResNet44"](128)}

// BenchmarkCPU reports the least time of a training step: forward, backward and
// update, through the stock trainer. CPU_CONFIG configures the backend.
func BenchmarkCPU(b *testing.B) {
	for _, tr := range trainings {
		b.Run(tr.Name, func(b *testing.B) {
			backend, err := cpu.New(os.Getenv("CPU_CONFIG"))
			if err != nil {
				b.Fatal(err)
			}
			defer backend.Finalize()
			step := tr.Start(backend)
			batches := tr.Batches(2)
			take := func(i int) {
				if _, err := step(batches[i%2]); err != nil {
					b.Fatal(err)
				}
			}
			take(0)
			take(1)
			least := time.Hour
			b.ReportAllocs()
			before := ProcessTime()
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				take(i)
				least = min(least, time.Since(start))
			}
			b.ReportMetric(least.Seconds()*1e3, "ms/step")
			b.ReportMetric((ProcessTime()-before).Seconds()*1e3/float64(b.N), "cpu-ms/step")
		})
	}
}

// BenchmarkTorch reports the least time of the same steps in PyTorch, in both
// memory layouts. TORCH_THREADS is its number of threads.
func BenchmarkTorch(b *testing.B) {
	for _, tr := range trainings {
		for _, layout := range []string{"contiguous", "channels_last"} {
			b.Run(tr.Name+"/"+layout, func(b *testing.B) {
				torch, err := StartTorch(tr.Name, layout, 0)
				if errors.Is(err, ErrNoTorch) {
					b.Skip(err)
				}
				if err != nil {
					b.Fatal(err)
				}
				r, err := torch.Steps(max(b.N, 8))
				if err := errors.Join(err, torch.Stop()); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(r.Milliseconds, "ms/step")
				b.ReportMetric(r.CPUMilliseconds, "cpu-ms/step")
				b.ReportMetric(r.PeakMB, "peak-MB")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
