//go:build unix

package bench

import (
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpith/evidence/cpu"
)

// trainings are the networks of the experiments at their batch sizes.
var trainings = []Training{
	{"F1-256", F1(5, 512), []int{256, 28, 28, 1}},
	{"C1-128", C1(64, 384, 192), []int{128, 32, 32, 3}},
	{"ResNet44-128", ResNet(7, 16, 32, 64), []int{128, 32, 32, 3}},
}

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
			before := processTime()
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				take(i)
				least = min(least, time.Since(start))
			}
			b.ReportMetric(least.Seconds()*1e3, "ms/step")
			b.ReportMetric((processTime()-before).Seconds()*1e3/float64(b.N), "cpu-ms/step")
		})
	}
}

//go:embed pytorch_nets.py
var torchScript string

// BenchmarkTorch reports the least time of the same steps in PyTorch, in both
// memory layouts. It needs the Debian packages python3-torch and
// libopenblas0-pthread.
func BenchmarkTorch(b *testing.B) {
	const python = "/usr/bin/python3" // the one the packages are for
	if out, err := exec.Command(python, "-c", "import torch").CombinedOutput(); err != nil {
		b.Skipf("PyTorch is absent (apt-get install python3-torch libopenblas0-pthread): %v\n%s", err, out)
	}
	for _, name := range []string{"F1-256", "C1-128", "ResNet44-128"} {
		for _, layout := range []string{"contiguous", "channels_last"} {
			b.Run(name+"/"+layout, func(b *testing.B) {
				command := exec.Command(python, "-", name, layout)
				command.Stdin = strings.NewReader(torchScript)
				command.Stderr = os.Stderr
				out, err := command.Output()
				if err != nil {
					b.Fatal(err)
				}
				var r struct{ Milliseconds, CPUMilliseconds, PeakMB float64 }
				if err := json.Unmarshal(out, &r); err != nil {
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

// processTime is the processor time of the process, which other processes on the
// machine disturb less than they do the clock.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
