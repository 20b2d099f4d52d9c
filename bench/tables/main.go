// Command tables measures package cpu against PyTorch, SmoothOut against plain
// training, each step with the limits of the processor, growth with batch and workers,
// and memory, and prints what it finds as the tables of docs/benchmarks.md. Contestants of a row take turns, and the least
// time of a step counts, so that a busy moment disturbs none of them alone.
//
//	go run ./bench/tables          about five minutes on two processors
//	go run ./bench/tables -only limits
//	go run ./bench/tables -quick   one turn of everything: does it run at all?
package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/openpith/evidence/bench"
	"github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/smoothout"
)

var (
	quick  = flag.Bool("quick", false, "take few steps of everything")
	memory = flag.String("memory", "", "internal: train a network such as F1-256 and print the peak memory in MB")
	dumped = flag.String("profile", "", "internal: train a network and dump its plan with times")
	only   = flag.String("only", "", "one table: torch, noise, limits or growth")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "tables:", err)
		os.Exit(2)
	}
}

func run() error {
	if *memory != "" {
		return printMemory(*memory)
	}
	if *dumped != "" {
		return printProfile(*dumped)
	}
	backend, err := cpu.New("")
	if err != nil {
		return err
	}
	fmt.Printf("%s, Go %s, %s/%s, %s\n", backend.Description(), strings.TrimPrefix(runtime.Version(), "go"), runtime.GOOS, runtime.GOARCH,
		time.Now().Format("2 January 2006"))
	backend.Finalize()
	found := false
	for _, table := range []struct {
		name  string
		print func() error
	}{{"torch", torchTable}, {"noise", noiseTable}, {"limits", limitTable}, {"growth", growthTable}} {
		if *only != "" && *only != table.name {
			continue
		}
		found = true
		if err := table.print(); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("there is no table %q: it is torch, noise, limits or growth", *only)
	}
	return nil
}

// training reads a network and a batch size, such as F1-256.
func training(network string) (bench.Training, error) {
	name, number, _ := strings.Cut(network, "-")
	batch, err := strconv.Atoi(number)
	if err != nil || batch < 1 || bench.Networks[name] == nil {
		return bench.Training{}, fmt.Errorf("%q is not a network and a batch size, such as F1-256", network)
	}
	return bench.Networks[name](batch), nil
}

// A contestant takes steps and remembers the least time of one, on the clock and
// of the processor, in milliseconds.
type contestant struct {
	steps      func(n int) (clock, processor float64, err error)
	stop       func() error
	clock, cpu float64
}

func ours(tr bench.Training, config string, noise smoothout.Config) (*contestant, error) {
	backend, err := cpu.New(config)
	if err != nil {
		return nil, err
	}
	step := tr.StartNoisy(backend, noise)
	batch := tr.Batches(1)[0]
	steps := func(n int) (clock, processor float64, err error) {
		clock = math.Inf(1)
		before := bench.ProcessTime()
		for range n {
			start := time.Now()
			if _, err := step(batch); err != nil {
				return 0, 0, err
			}
			clock = min(clock, time.Since(start).Seconds()*1e3)
		}
		return clock, (bench.ProcessTime() - before).Seconds() * 1e3 / float64(n), nil
	}
	if _, _, err := steps(3); err != nil { // compile, and warm up
		return nil, err
	}
	return &contestant{steps: steps, stop: func() error { backend.Finalize(); return nil }, clock: math.Inf(1), cpu: math.Inf(1)}, nil
}

// compete gives each contestant turns of n steps until the time is over.
func compete(all []*contestant, n int, total time.Duration) error {
	fmt.Fprint(os.Stderr, ".")
	rounds := 3
	if *quick {
		n, total, rounds = 1, 0, 1
	}
	for start := time.Now(); rounds > 0 || time.Since(start) < total; rounds-- {
		for _, c := range all {
			clock, processor, err := c.steps(n)
			if err != nil {
				return err
			}
			c.clock, c.cpu = min(c.clock, clock), min(c.cpu, processor)
		}
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

var rows = []struct {
	name  string
	batch int
	turn  int // steps
}{{"F1", 256, 8}, {"C1", 128, 2}, {"ResNet44", 128, 1}}

// torchTable compares with PyTorch.
func torchTable() error {
	fmt.Printf("\n| ms per step | cpu | PyTorch contiguous | PyTorch channels_last | ratio to the best | processor time: cpu | PyTorch | peak MB: cpu | PyTorch |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		tr := bench.Networks[r.name](r.batch)
		all := make([]*contestant, 1)
		var err error
		if all[0], err = ours(tr, "", smoothout.Config{}); err != nil {
			return err
		}
		peak := math.Inf(1)
		for _, layout := range []string{"contiguous", "channels_last"} {
			torch, err := bench.StartTorch(tr.Name, layout, 0)
			if errors.Is(err, bench.ErrNoTorch) {
				fmt.Fprintln(os.Stderr, err)
				break
			}
			if err != nil {
				return err
			}
			c := &contestant{clock: math.Inf(1), cpu: math.Inf(1)}
			c.steps = func(n int) (float64, float64, error) {
				t, err := torch.Steps(n)
				c.stop = func() error { peak = min(peak, t.PeakMB); return torch.Stop() }
				return t.Milliseconds, t.CPUMilliseconds, err
			}
			all = append(all, c)
		}
		if err := compete(all, r.turn, 18*time.Second); err != nil {
			return err
		}
		self, err := memoryOf(tr.Name)
		if err != nil {
			return err
		}
		if len(all) == 1 {
			fmt.Printf("| %s | %.1f | absent | absent | | %.1f | | %.0f | |\n", tr.Name, all[0].clock, all[0].cpu, self)
			continue
		}
		fmt.Printf("| %s | %.1f | %.1f | %.1f | %.2f | %.1f | %.1f | %.0f | %.0f |\n", tr.Name, all[0].clock, all[1].clock, all[2].clock,
			min(all[1].clock, all[2].clock)/all[0].clock, all[0].cpu, min(all[1].cpu, all[2].cpu), self, peak)
	}
	return nil
}

// noiseTable compares training with noise in the weights with training without.
func noiseTable() error {
	fmt.Printf("\n| step time over plain SGD's | SGD, ms | SmoothOut | AdaSmoothOut | SGD, processor ms | SmoothOut | AdaSmoothOut |\n|---|---|---|---|---|---|---|\n")
	for _, r := range []struct {
		name        string
		batch, turn int
	}{{"F1", 256, 4}, {"F1", 128, 8}, {"C1", 128, 1}, {"ResNet44", 128, 1}} {
		tr := bench.Networks[r.name](r.batch)
		var all []*contestant
		for _, noise := range []smoothout.Config{{}, {Strength: 0.01}, {Strength: 0.1, Adapt: smoothout.Filter}} {
			c, err := ours(tr, "", noise)
			if err != nil {
				return err
			}
			all = append(all, c)
		}
		if err := compete(all, r.turn, 15*time.Second); err != nil {
			return err
		}
		fmt.Printf("| %s | %.1f | %.3f | %.3f | %.1f | %.3f | %.3f |\n", tr.Name, all[0].clock, all[1].clock/all[0].clock, all[2].clock/all[0].clock,
			all[0].cpu, all[1].cpu/all[0].cpu, all[2].cpu/all[0].cpu)
	}
	return nil
}

// growthTable shows how time grows with the batch and falls with workers.
func growthTable() error {
	batches := []int{32, 64, 128, 256, 512, 1024}
	fmt.Printf("\n| ms per step, batch |")
	for _, n := range batches {
		fmt.Printf(" %d |", n)
	}
	fmt.Printf("\n|---|%s\n", strings.Repeat("---|", len(batches)))
	for _, r := range rows {
		times := map[int][]float64{}
		for _, n := range batches {
			var all []*contestant
			for _, workers := range []int{1, 2} {
				c, err := ours(bench.Networks[r.name](n), fmt.Sprint("workers=", workers), smoothout.Config{})
				if err != nil {
					return err
				}
				all = append(all, c)
			}
			if err := compete(all, 1, 2*time.Second); err != nil {
				return err
			}
			times[1], times[2] = append(times[1], all[0].clock), append(times[2], all[1].clock)
		}
		for _, workers := range []int{1, 2} {
			fmt.Printf("| %s, workers=%d |", r.name, workers)
			for _, t := range times[workers] {
				fmt.Printf(" %.1f |", t)
			}
			fmt.Println()
		}
	}
	return nil
}

// memoryOf trains in a process of its own and returns its peak memory in MB.
func memoryOf(network string) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	command := exec.Command(self, "-memory", network)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

func printMemory(network string) error {
	tr, err := training(network)
	if err != nil {
		return err
	}
	c, err := ours(tr, "", smoothout.Config{})
	if err != nil {
		return err
	}
	if _, _, err := c.steps(3); err != nil {
		return err
	}
	fmt.Printf("%.1f\n", float64(bench.PeakMemory())/(1<<20))
	return nil
}
