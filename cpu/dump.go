package cpu

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// dumpOutput is where the option "dump" writes.
var dumpOutput io.Writer = os.Stderr

// A profile adds up the times of steps over runs.
type profile struct {
	mu    sync.Mutex
	runs  int
	least []time.Duration
}

func (p *profile) add(times []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runs == 0 {
		p.least = slices.Clone(times)
	}
	p.runs++
	for i, t := range times {
		p.least[i] = min(p.least[i], t)
	}
}

// dumpPlan writes the steps of the plan.
func (e *Executable) dumpPlan() {
	w := tabwriter.NewWriter(dumpOutput, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "cpu: plan of %q: %d steps, %.1f MB of temporaries, %.2f MB of scratch per worker\n",
		e.name, len(e.plan.steps), float64(e.plan.arenaSize)/1e6, float64(e.plan.scratchSize)/1e6)
	for i, s := range e.plan.steps {
		fmt.Fprintf(w, "%d\t%s\t%.2f MB\t%s\n", i, s.name(), float64(s.bytes)/1e6, s.detail)
	}
	w.Flush()
}

func (s *plannedStep) name() string {
	if s.fallback {
		return s.title + " (fallback)"
	}
	return s.title
}

// dumpProfile writes where the time of runs went: the least time of each step,
// the dearest first, with the rates of arithmetic and of memory.
func (e *Executable) dumpProfile() {
	e.profile.mu.Lock()
	defer e.profile.mu.Unlock()
	if e.profile.runs == 0 {
		return
	}
	var total time.Duration
	byTitle := map[string]time.Duration{}
	count := map[string]int{}
	order := make([]int, len(e.plan.steps))
	for i, t := range e.profile.least {
		order[i] = i
		total += t
		name := e.plan.steps[i].name()
		byTitle[name] += t
		count[name]++
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(e.profile.least[b], e.profile.least[a]) })
	w := tabwriter.NewWriter(dumpOutput, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "cpu: times of %q: %.3f ms, the sum of the least time of each step in %d runs\n",
		e.name, total.Seconds()*1e3, e.profile.runs)
	titles := make([]string, 0, len(byTitle))
	for t := range byTitle {
		titles = append(titles, t)
	}
	slices.SortFunc(titles, func(a, b string) int { return cmp.Compare(byTitle[b], byTitle[a]) })
	for _, t := range titles {
		fmt.Fprintf(w, "\t%.3f ms\t%4.1f %%\t%d x %s\n", byTitle[t].Seconds()*1e3, 100*byTitle[t].Seconds()/total.Seconds(), count[t], t)
	}
	const most = 400
	for _, i := range order[:min(len(order), most)] {
		s, t := &e.plan.steps[i], e.profile.least[i].Seconds()
		rate := ""
		if s.flops > 0 {
			rate = fmt.Sprintf("%.0f GFLOP/s", float64(s.flops)/t/1e9)
		}
		fmt.Fprintf(w, "%d\t%.3f ms\t%s\t%.1f GB/s\t%s\t%s\n", i, t*1e3, rate, float64(s.bytes)/t/1e9, s.name(), s.detail)
	}
	w.Flush()
}
