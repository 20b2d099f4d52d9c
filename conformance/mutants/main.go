// Command mutants damages bundles and trust files and compares the verdicts of package pith and
// of conformance/oracle.py, which share no code.
//
//	go run ./conformance/mutants [--n 100000] [--seed 1]
//
// A disagreement is unsafe when the oracle refuses what pith accepts, or does
// not trust what pith trusts; a forgery is a change of what signatures cover that
// is accepted without signing anew. Exit code: 0 no disagreement about a verdict
// and no forgery, 1 there is one, 2 could not be run.
package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/openpith/evidence/conformance"
	"github.com/openpith/evidence/pith"
)

func main() {
	n := flag.Int("n", 100_000, "make `N` mutants")
	seed := flag.Uint64("seed", 1, "seed of the mutations")
	oracle := flag.String("oracle", "conformance/oracle.py", "`FILE` of the oracle")
	workers := flag.Int("workers", 2, "oracles at a time")
	flag.Parse()
	sum, err := compare(*oracle, *seed, *n, *workers)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	fmt.Print(sum)
	if sum.verdicts+sum.forged > 0 {
		os.Exit(1)
	}
}

// A summary counts what was compared.
type summary struct {
	mutants  int
	byKind   map[string]int // verdicts of pith, by kind of mutation
	unsafe   int            // pith accepts more than the oracle
	verdicts int            // the verdicts differ, unsafe or not
	codes    int            // the verdicts agree, the codes do not
	forged   int            // accepted, although what signatures cover was changed
	examples []string
}

func (s *summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d mutants: %d unsafe disagreements, %d forgeries accepted, %d verdicts differ, %d times the codes differ\n",
		s.mutants, s.unsafe, s.forged, s.verdicts, s.codes)
	for _, k := range slices.Sorted(maps.Keys(s.byKind)) {
		fmt.Fprintf(&b, "%8d %s\n", s.byKind[k], k)
	}
	for _, e := range s.examples {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

// compare makes n mutants and asks both readers about each. The mutants depend
// on the seed and on n's division among the workers alone.
func compare(oracle string, seed uint64, n, workers int) (*summary, error) {
	python, err := conformance.Python()
	if err != nil {
		return nil, err
	}
	farm, err := newFarm()
	if err != nil {
		return nil, err
	}
	total := &summary{byKind: map[string]int{}}
	var (
		mutex sync.Mutex
		group sync.WaitGroup
		fail  error
	)
	for w := range workers {
		share := n / workers
		if w < n%workers {
			share++
		}
		group.Go(func() {
			err := farm.work([]string{python, oracle}, rand.New(rand.NewPCG(seed, uint64(w))), share, func(kind string, pithSays, oracleSays answer, mutant start) {
				mutex.Lock()
				defer mutex.Unlock()
				total.count(kind, pithSays, oracleSays, mutant)
				if accepted(pithSays) && !strings.HasPrefix(kind, "resigned") && !farm.covered[essence(mutant.bundle)] {
					total.forged++
					total.examples = append(total.examples, "FORGED, "+kind+": "+mutant.line())
				}
			})
			if err != nil {
				mutex.Lock()
				defer mutex.Unlock()
				fail = err
			}
		})
	}
	group.Wait()
	if fail == nil && total.mutants != n {
		fail = fmt.Errorf("%d mutants were compared, want %d", total.mutants, n)
	}
	return total, fail
}

// An answer is a verdict and the codes of the failures.
type answer struct{ verdict, codes string }

var gravity = map[string]int{"valid": 0, "untrusted": 1, "rejected": 2, "unreadable": 3}

func accepted(a answer) bool { return gravity[a.verdict] <= gravity["untrusted"] }

func (s *summary) count(kind string, p, o answer, mutant start) {
	s.mutants++
	s.byKind[kind+": "+p.verdict]++
	const examples = 10
	what := ""
	switch {
	case p == o:
		return
	case accepted(p) && gravity[p.verdict] < gravity[o.verdict]:
		s.unsafe++
		s.verdicts++
		what = "UNSAFE"
	case p.verdict != o.verdict:
		s.verdicts++
		what = "verdict"
	default:
		s.codes++
		what = "codes"
	}
	if len(s.examples) < examples || what != "codes" && s.verdicts < examples {
		s.examples = append(s.examples, fmt.Sprintf("%s, %s: pith %v, oracle %v\n  %s", what, kind, p, o, mutant.line()))
	}
}

// line is what the oracle reads: base64 of the bundle, and of the trust file if
// there is one.
func (s start) line() string {
	line := base64.StdEncoding.EncodeToString(s.bundle)
	if s.trust != nil {
		line += " " + base64.StdEncoding.EncodeToString(s.trust)
	}
	return line
}

// ask gives pith's own answer.
func ask(s start) answer {
	trust := pith.PinnedTrust()
	if s.trust != nil {
		more, err := pith.ParseTrust(s.trust)
		if err == nil {
			trust, err = trust.Merge(more)
		}
		if err != nil {
			return answer{pith.Unreadable.String(), code(err)}
		}
	}
	r := pith.Verify(s.bundle, trust)
	var codes []string
	for _, c := range r.Failures() {
		codes = append(codes, string(c.Code))
	}
	slices.Sort(codes)
	return answer{r.Verdict().String(), strings.Join(slices.Compact(codes), ",")}
}

// code is the reason code for which a trust file is refused.
func code(err error) string {
	var (
		syntax *pith.SyntaxError
		check  *pith.CheckError
	)
	switch {
	case errors.As(err, &syntax):
		return string(syntax.Reason)
	case errors.As(err, &check):
		return string(check.Check.Code)
	case errors.Is(err, pith.ErrTrustConflict):
		return string(pith.CodeTrustFile)
	}
	return err.Error()
}

func (f *farm) work(oracle []string, rng *rand.Rand, n int, report func(string, answer, answer, start)) error {
	cmd := exec.Command(oracle[0], oracle[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	for range n {
		kind, mutant := f.mutant(rng)
		if _, err := io.WriteString(in, mutant.line()+"\n"); err != nil {
			return fmt.Errorf("the oracle stopped: %w", err)
		}
		mine := ask(mutant) // while the oracle thinks
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the oracle stopped: %w", err)
		}
		verdict, codes, _ := strings.Cut(strings.TrimSpace(line), " ")
		report(kind, mine, answer{verdict, codes}, mutant)
	}
	if err := in.Close(); err != nil {
		return err
	}
	return cmd.Wait()
}
