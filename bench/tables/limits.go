package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/openpith/evidence/bench"
	"github.com/openpith/evidence/smoothout"
)

// ceilings are what one processor can do at most.
type ceilings struct{ gflops, gbytes float64 }

var (
	peakLine = regexp.MustCompile(`(?m)^BenchmarkPeak/(\S+)\s.*?([\d.]+) GFLOP/s`)
	copyLine = regexp.MustCompile(`(?m)^BenchmarkPeak/copy\S*\s.*?([\d.]+) MB/s`)
)

// measureCeilings runs the benchmark of the kernels: multiply-adds from registers and
// the first cache level, and copying through main memory, read and written.
func measureCeilings() (ceilings, error) {
	command := exec.Command("go", "test", "./cpu/internal/kernels", "-run", "^$", "-bench", "Peak", "-benchtime", "50ms", "-count", "10")
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return ceilings{}, fmt.Errorf("measuring the peak (run this in the repository): %w", err)
	}
	var c ceilings
	for _, m := range peakLine.FindAllSubmatch(out, -1) {
		v, _ := strconv.ParseFloat(string(m[2]), 64)
		c.gflops = max(c.gflops, v)
	}
	for _, m := range copyLine.FindAllSubmatch(out, -1) {
		v, _ := strconv.ParseFloat(string(m[1]), 64)
		c.gbytes = max(c.gbytes, v/1e3)
	}
	if c.gflops == 0 || c.gbytes == 0 {
		return c, fmt.Errorf("the benchmark of the kernels printed no peak:\n%s", out)
	}
	return c, nil
}

// A profiled step, or several alike, of a plan as a dump tells it.
type profiled struct {
	what          string
	count         int
	ms            float64 // the least time
	gflop, gbytes float64 // what it computes, and what it reads and writes
}

// limit is the time that arithmetic and memory need at least, in milliseconds.
func (p profiled) limit(c ceilings) float64 { return 1e3 * max(p.gflop/c.gflops, p.gbytes/c.gbytes) }

var (
	stepLine = regexp.MustCompile(`^\d+\s+([\d.]+) ms\s+(?:([\d.]+) GFLOP/s)?\s*([\d.]+) GB/s\s+(.*)$`)
	oneOp    = regexp.MustCompile(`(\w+)\(([^{}]*?)\) -> \(Float32\)(\[[\d, ]*\])`)
	shape    = regexp.MustCompile(`\[[\d, ]+\]`)
)

// profile takes steps of a network on one worker, in a process of its own, and reads
// the times of the plan from its dump.
func profile(network string) ([]profiled, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var dump bytes.Buffer
	command := exec.Command(self, "-profile", network)
	command.Stderr = &dump
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, dump.Bytes())
	}
	_, times, found := strings.Cut(dump.String(), `cpu: times of "Trainer`)
	if !found {
		return nil, fmt.Errorf("the dump of %s has no times", network)
	}
	byKind := map[string]profiled{}
	for i, line := range strings.Split(times, "\n") {
		if i > 0 && strings.HasPrefix(line, "cpu: ") {
			break // another executable
		}
		m := stepLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		ms, _ := strconv.ParseFloat(m[1], 64)
		gflops, _ := strconv.ParseFloat("0"+m[2], 64)
		gbytes, _ := strconv.ParseFloat(m[3], 64)
		kind := describe(m[4])
		p := byKind[kind]
		byKind[kind] = profiled{kind, p.count + 1, p.ms + ms, p.gflop + gflops*ms/1e3, p.gbytes + gbytes*ms/1e3}
	}
	return slices.Collect(maps.Values(byKind)), nil
}

// describe shortens what a dump says of a step: its operations with the shapes of
// their results, the kernel's instead where it is the result of a convolution.
func describe(step string) string {
	var parts []string
	for _, m := range oneOp.FindAllStringSubmatch(step, -1) {
		name := m[1]
		if shapes := shape.FindAllString(m[2], -1); len(shapes) > 1 && (name == "ConvGeneral" || name == "DotGeneral") {
			name += " " + shapes[0] + "·" + shapes[1] + " →"
		}
		parts = append(parts, name+" "+m[3])
	}
	if len(parts) == 0 {
		return strings.Fields(step)[0]
	}
	return strings.ReplaceAll(strings.Join(parts, " + "), ", ", " ")
}

// limitTable says what of a step is above the limits of the processor, and where.
func limitTable() error {
	c, err := measureCeilings()
	if err != nil {
		return err
	}
	fmt.Printf("\nCeilings of one processor: %.0f GFLOP/s, %.1f GB/s read and written.\n", c.gflops, c.gbytes)
	for _, r := range rows {
		tr := bench.Networks[r.name](r.batch)
		steps, err := profile(tr.Name)
		if err != nil {
			return err
		}
		total, products := profiled{}, profiled{}
		limit := 0.
		for _, p := range steps {
			total.ms += p.ms
			limit += p.limit(c)
			if p.gflop > 0 {
				products.ms, products.gflop = products.ms+p.ms, products.gflop+p.gflop
			}
		}
		fmt.Printf("\n%s, one worker: %.1f ms, the sum of the least time of each step; %.1f at the limits. Steps with products: %.1f ms, %.0f GFLOP/s.\n\n",
			tr.Name, total.ms, limit, products.ms, products.gflop/products.ms*1e3)
		fmt.Printf("| steps, the most above their limit first | ms | limit | GFLOP/s | of peak | GB/s | of copying |\n|---|---|---|---|---|---|---|\n")
		slices.SortFunc(steps, func(a, b profiled) int { return cmp.Compare(b.ms-b.limit(c), a.ms-a.limit(c)) })
		const most = 8
		for _, p := range steps[:min(most, len(steps))] {
			gflops, gbytes := p.gflop/p.ms*1e3, p.gbytes/p.ms*1e3
			fmt.Printf("| %d x %s | %.2f | %.2f | %.0f | %.0f %% | %.1f | %.0f %% |\n",
				p.count, p.what, p.ms, p.limit(c), gflops, 100*gflops/c.gflops, gbytes, 100*gbytes/c.gbytes)
		}
	}
	return nil
}

// printProfile is the child of profile.
func printProfile(network string) error {
	tr, err := training(network)
	if err != nil {
		return err
	}
	c, err := ours(tr, "workers=1,dump", smoothout.Config{})
	if err != nil {
		return err
	}
	n := 3000 / tr.Shape[0]
	if *quick {
		n = 1
	}
	if _, _, err := c.steps(n); err != nil {
		return err
	}
	return c.stop()
}
