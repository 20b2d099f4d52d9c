// Command mirror measures what it takes to read a mirror: it fills a store with
// generated records, serves it on this machine, and lets wrk ask for bundles at
// random, whole and by their tags, as fast as it can; then asks at a fixed rate
// itself, and counts every request from the moment at which it was due. What the
// machine can do at all is measured between: a handler of net/http that answers 304
// and does nothing else.
//
//	go run ./bench/mirror                           1,000 records in a new SQLite file
//	go run ./bench/mirror -db FILE -records 1000000 those of FILE, made first if there are none
//	go run ./bench/mirror -url http://HOST:PORT     a mirror that runs already
//
// wrk is Debian's. Client and server share the machine, which is the point: the
// numbers are for both together. What was best of several rounds is printed last.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/openpith/evidence/bench/pith/plain"
	"github.com/openpith/evidence/internal/httpserve"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
	"github.com/openpith/evidence/resolver/sqlite"
	"github.com/openpith/evidence/resolver/web"
)

var (
	records  = flag.Int("records", 1000, "how many records to generate, where there are none")
	database = flag.String("db", "", "serve the SQLite database in `FILE` (default a new one, which is removed); memory: for the store in memory")
	address  = flag.String("url", "", "measure the mirror at `URL` instead")
	rounds   = flag.Int("rounds", 5, "how often to measure")
	length   = flag.Duration("time", 5*time.Second, "how long a round takes")
	clients  = flag.Int("clients", 32, "connections of wrk")
	cache    = flag.Int64("cache", 64, "megabytes of bundles that the server keeps in memory, as pith serve does; 0 for none")
	asked    = flag.Int("asked", 10_000, "how many different records to ask for, at most about")
	storm    = flag.Bool("storm", false, "ask at the fixed rate only, with and without somebody who writes as fast as he can")
	rate     = flag.Int("rate", 10_000, "requests per second of the steady round; 0 for none")
	profile  = flag.String("cpuprofile", "", "write a profile of the server and of what asks at a fixed rate to `FILE`")
	suffixes = flag.String("suffixes", "", "`FILE` with 26 characters per line to ask for, with -url; the front page's newest records otherwise")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "mirror:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context) error {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return fmt.Errorf("%w: apt-get install wrk", err)
	}
	base, ids := *address, []string(nil)
	if base == "" {
		store, done, err := open(ctx)
		if err != nil {
			return err
		}
		defer done()
		service, err := writable(store)
		if err != nil {
			return err
		}
		var stop func()
		if base, stop, err = serve(service); err != nil {
			return err
		}
		defer stop()
		if ids, err = sample(ctx, store); err != nil {
			return err
		}
	} else if ids, err = readIDs(base); err != nil {
		return err
	}
	if *storm {
		return inStorm(base, ids)
	}
	script, size, err := prepare(base, ids)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Dir(script))
	fmt.Printf("%s, %d processors, %d records asked for, %d bytes compressed each, %d connections, %d rounds of %v\n", runtime.Version(), runtime.NumCPU(), len(ids), size, *clients, *rounds, *length)

	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	kinds, from := []string{"bundle", "304"}, map[string]string{"bundle": base, "304": base}
	if *address == "" {
		empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }))
		defer empty.Close()
		kinds, from["empty"] = append(kinds, "empty"), empty.URL
	}
	best := map[string]float64{}
	cost := map[string]float64{}
	for round := range *rounds {
		for _, kind := range kinds { // interleaved, so that a busy minute hurts both
			before := processor()
			perSecond, p99, err := ask(wrk, script, kind, from[kind])
			if err != nil {
				return err
			}
			spent := (processor() - before) / (perSecond * length.Seconds()) * 1e6
			fmt.Printf("round %d  %-7s %8.0f requests/s  p99 %s", round+1, kind, perSecond, p99)
			if *address == "" {
				fmt.Printf("  %5.1f µs of processor time each in the server", spent)
				if cost[kind] == 0 || spent < cost[kind] {
					cost[kind] = spent
				}
			}
			fmt.Println()
			best[kind] = max(best[kind], perSecond)
		}
	}
	var steady []time.Duration
	if *rate > 0 {
		for range *rounds {
			p50, p99, failed, err := pace(base, ids, *rate, *length)
			if err != nil {
				return err
			}
			fmt.Printf("steady   %d/s  p50 %v  p99 %v  %d failed\n", *rate, p50, p99, failed)
			steady = append(steady, p99)
		}
	}
	fmt.Println()
	for _, kind := range kinds {
		fmt.Printf("best  %-7s %8.0f requests/s", kind, best[kind])
		if best["empty"] > 0 {
			fmt.Printf("  %4.0f %% of an empty handler's", 100*best[kind]/best["empty"])
		}
		if cost[kind] > 0 {
			fmt.Printf("  %5.1f µs of processor time each in the server", cost[kind])
		}
		fmt.Println()
	}
	if len(steady) > 0 {
		fmt.Printf("best  p99 at %d/s: %v\n", *rate, slices.Min(steady))
	}
	if *address == "" {
		fmt.Printf("memory of the server and of what asks at a fixed rate: %s\n", memory())
	}
	return nil
}

// processor is the processor time that this process has used, in seconds.
func processor() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// memory is what this process has in memory now, and had at most.
func memory() string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "not known here"
	}
	var words []string
	for _, name := range []string{"VmRSS", "VmHWM"} {
		if m := regexp.MustCompile(name + `:\s+(\d+ kB)`).FindSubmatch(status); m != nil {
			words = append(words, string(m[1]))
		}
	}
	return strings.Join(words, ", at most ")
}

// open opens the store and sees to it that it has records.
func open(ctx context.Context) (store resolver.Store, done func(), err error) {
	path, temporary := *database, ""
	switch path {
	case "memory:":
		store = memstore.New()
	case "":
		if temporary, err = os.MkdirTemp("", "bench-mirror"); err != nil {
			return nil, nil, err
		}
		path = filepath.Join(temporary, "records.db")
		fallthrough
	default:
		if store, err = sqlite.Open(ctx, path); err != nil {
			return nil, nil, err
		}
	}
	done = func() {
		_ = store.Close()
		if temporary != "" {
			_ = os.RemoveAll(temporary)
		}
	}
	counts, err := store.Counts(ctx)
	if err == nil && counts.Records == 0 {
		start := time.Now()
		if err = fill(ctx, store, *records); err == nil {
			fmt.Fprintf(os.Stderr, "made %d records in %v\n", *records, time.Since(start).Round(time.Second))
		}
		counts.Records = int64(*records)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	fmt.Printf("%d records in %T\n", counts.Records, store)
	return store, done, nil
}

// sample picks records from all over the store.
func sample(ctx context.Context, store resolver.Store) (ids []string, err error) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	for _, a := range alphabet {
		for _, b := range alphabet {
			some, err := store.Records(ctx, string(a)+string(b), "", *asked/len(alphabet)/len(alphabet)+1)
			if err != nil {
				return nil, err
			}
			for _, r := range some {
				ids = append(ids, r.Suffix)
			}
		}
	}
	return ids, nil
}

// maker signs the generated records.
var maker = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// writable is a mirror on the store, with the limits of pith serve, whose policy
// knows who made the records.
func writable(store resolver.Store) (*resolver.Service, error) {
	own, err := pith.NewKey(bytes.Repeat([]byte{7}, ed25519.SeedSize), pith.Signer{ID: "mirror", Type: "mirror", KeyID: "1"})
	if err != nil {
		return nil, err
	}
	public := pith.PublicKey{Signer: pith.Signer{ID: "pith.science", Type: plain.SignerType, KeyID: "pith-v1-2026-05"}, Key: maker.Public().(ed25519.PublicKey)}
	return resolver.NewService(resolver.Config{Store: resolver.NewCache(store, *cache<<20), Key: own, Trust: pith.TrustFor(public, []string{"*"}, true)})
}

// fill lets generated records in as strangers' would be.
func fill(ctx context.Context, store resolver.Store, n int) error {
	service, err := writable(store)
	if err != nil {
		return err
	}
	family, err := plain.NewFamily(seed.Bundle(), maker)
	if err != nil {
		return err
	}
	const batch = 500
	for first := 0; first < n; first += batch {
		subs := make([]resolver.Submission, min(batch, n-first))
		for i := range subs {
			subs[i] = resolver.Submission{Data: family.Make(first + i), From: "bench", Unlimited: true}
		}
		outcomes, err := service.SubmitAll(ctx, subs)
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			if o.Err != nil {
				return o.Err
			}
		}
	}
	return nil
}

// serve puts a mirror on the network, as pith serve does.
func serve(service *resolver.Service) (base string, stop func(), err error) {
	site, err := web.New(web.Config{Store: service.Store(), Trust: service.Trust, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	site.Routes(mux)
	(&resolver.Server{Service: service}).Routes(mux)
	o := httpserve.Options{Listen: "127.0.0.1:0"}
	listener, err := httpserve.Listen(context.Background(), o)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = httpserve.Serve(ctx, listener, site.Secure(mux), o)
	}()
	return "http://" + listener.Addr().String(), func() { cancel(); <-ended }, nil
}

var inPage = regexp.MustCompile(`/pith/([A-Z2-7]{26})`)

// readIDs tells which records of a running mirror to ask for.
func readIDs(base string) ([]string, error) {
	if *suffixes != "" {
		data, err := os.ReadFile(*suffixes)
		if err != nil {
			return nil, err
		}
		ids := regexp.MustCompile(`\b[A-Z2-7]{26}\b`).FindAllString(string(data), *asked)
		if len(ids) == 0 {
			return nil, fmt.Errorf("%s names no record", *suffixes)
		}
		return ids, nil
	}
	resp, err := http.Get(base + "/recent")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range inPage.FindAllSubmatch(page, -1) {
		ids = append(ids, string(m[1]))
	}
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) == 0 {
		return nil, fmt.Errorf("%s has no recent events: name records with -suffixes", base)
	}
	return ids, nil
}

// prepare asks for every tag, checks that one is answered with 304, and writes the
// script that wrk runs: its requests are made before the clock starts.
func prepare(base string, ids []string) (script string, size int64, err error) {
	dir, err := os.MkdirTemp("", "bench-mirror")
	if err != nil {
		return "", 0, err
	}
	var list bytes.Buffer
	for _, id := range ids {
		r, err := http.NewRequest(http.MethodHead, base+"/pith/"+id+"/bundle.json", nil)
		if err != nil {
			return "", 0, err
		}
		r.Header.Set("Accept-Encoding", "gzip")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return "", 0, err
		}
		_ = resp.Body.Close()
		tag := resp.Header.Get("Etag")
		if list.Len() == 0 {
			r.Header.Set("If-None-Match", tag)
			again, err := http.DefaultClient.Do(r)
			if err != nil {
				return "", 0, err
			}
			_ = again.Body.Close()
			if again.StatusCode != http.StatusNotModified {
				return "", 0, fmt.Errorf("%s by its tag: %s", r.URL, again.Status)
			}
		}
		if resp.StatusCode != http.StatusOK || tag == "" || resp.Header.Get("Content-Encoding") != "gzip" {
			return "", 0, fmt.Errorf("%s: %s, tag %q", r.URL, resp.Status, tag)
		}
		size = resp.ContentLength
		fmt.Fprintf(&list, "%s\t%s\n", id, tag)
	}
	if err := os.WriteFile(filepath.Join(dir, "tags"), list.Bytes(), 0o600); err != nil {
		return "", 0, err
	}
	script = filepath.Join(dir, "read.lua")
	return script, size, os.WriteFile(script, []byte(lua), 0o600)
}

// lua is what wrk runs: requests made in advance, taken at random.
const lua = `
local requests, n = {}, 0
function init(args)
  local kind, file = args[1], args[2]
  for line in io.lines(file) do
    local id, tag = line:match("^(%S+)\t(%S+)$")
    local headers = { ["Accept-Encoding"] = "gzip" }
    if kind ~= "bundle" then headers["If-None-Match"] = tag end
    n = n + 1
    requests[n] = wrk.format("GET", "/pith/" .. id .. "/bundle.json", headers)
  end
  math.randomseed(1)
end
function request() return requests[math.random(n)] end
function done(summary, latency, _)
  io.write(string.format('{"requests":%d,"us":%d,"p99_us":%d,"errors":%d}\n', summary.requests, summary.duration, latency:percentile(99),
    summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.connect + summary.errors.timeout))
end
`

// ask lets wrk ask for bundles of one kind.
func ask(wrk, script, kind, base string) (perSecond float64, p99 time.Duration, err error) {
	cmd := exec.Command(wrk, "-t1", "-c"+strconv.Itoa(*clients), "-d"+strconv.Itoa(max(1, int(length.Seconds())))+"s", "-s", script, base, "--", kind, filepath.Join(filepath.Dir(script), "tags"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	var sum struct {
		Requests, US float64
		P99          float64 `json:"p99_us"`
		Errors       int
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if line := lines.Bytes(); len(line) > 0 && line[0] == '{' {
			if err := json.Unmarshal(line, &sum); err != nil {
				return 0, 0, err
			}
		}
	}
	if sum.Requests == 0 || sum.Errors > 0 {
		return 0, 0, fmt.Errorf("wrk: %d errors\n%s", sum.Errors, out)
	}
	return sum.Requests / (sum.US / 1e6), time.Duration(sum.P99) * time.Microsecond, nil
}

// pace asks at a fixed rate. A request's time runs from when it was due, not from
// when a client was free to send it, so that a pause of the server counts for all
// who had to wait. The client does no more than wrk does: it has the same cores.
func pace(base string, ids []string, rate int, length time.Duration) (p50, p99 time.Duration, failed int, err error) {
	n := int(float64(rate) * length.Seconds())
	took := make([]time.Duration, n)
	host := strings.TrimPrefix(base, "http://")
	const clients = 64
	conns := make([]net.Conn, clients)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", host); err != nil {
			return 0, 0, 0, err
		}
		defer conns[i].Close()
	}
	due := make(chan int, n)
	start := time.Now().Add(100 * time.Millisecond)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * time.Second / time.Duration(rate)) }
	var wait sync.WaitGroup
	var wrong atomic.Int64
	for _, conn := range conns {
		wait.Go(func() {
			in := bufio.NewReaderSize(conn, 16<<10)
			var request []byte
			for i := range due {
				request = append(append(append(append(request[:0], "GET /pith/"...), ids[i*7919%len(ids)]...), "/bundle.json HTTP/1.1\r\nHost: "...), host...)
				request = append(request, "\r\nAccept-Encoding: gzip\r\n\r\n"...)
				_, err := conn.Write(request)
				if err == nil {
					err = readAnswer(in)
				}
				if took[i] = time.Since(at(i)); err != nil {
					wrong.Add(1)
				}
			}
		})
	}
	for i := 0; i < n; i++ {
		if d := time.Until(at(i)); d > time.Millisecond { // the kernel's timers are no finer: short gaps come in bunches
			time.Sleep(d)
		}
		due <- i
	}
	close(due)
	wait.Wait()
	slices.Sort(took)
	return took[n/2].Round(time.Microsecond), took[n*99/100].Round(time.Microsecond), int(wrong.Load()), nil
}

// inStorm measures readers at a fixed rate, alone and while one signer sends new
// bundles as fast as one connection takes them.
func inStorm(base string, ids []string) error {
	family, err := plain.NewFamily(seed.Bundle(), maker)
	if err != nil {
		return err
	}
	bundles := make([][]byte, 2000)
	for i := range bundles { // made in advance: the writer costs as little as it can
		bundles[i] = family.Make(1_300_000 + i)
	}
	for range *rounds {
		p50, p99, failed, err := pace(base, ids, *rate, *length)
		if err != nil {
			return err
		}
		fmt.Printf("calm     %d/s  p50 %v  p99 %v  %d failed\n", *rate, p50, p99, failed)

		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan string, 1)
		go func() { ended <- write(ctx, base, bundles) }()
		p50, p99, failed, err = pace(base, ids, *rate, *length)
		stop()
		told := <-ended
		if err != nil {
			return err
		}
		fmt.Printf("storm    %d/s  p50 %v  p99 %v  %d failed; the writer: %s\n", *rate, p50, p99, failed, told)
	}
	return nil
}

// write sends bundles until the context ends, and says what was answered.
func write(ctx context.Context, base string, bundles [][]byte) string {
	answers := map[string]int{}
	start := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		resp, err := http.Post(base+"/events", "application/json", bytes.NewReader(bundles[i%len(bundles)]))
		if err != nil {
			answers["no answer"]++
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var refused struct{ Code string }
		_ = json.Unmarshal(text, &refused)
		name := resp.Status
		if refused.Code != "" {
			name += " " + refused.Code
		}
		if wait := resp.Header.Get("Retry-After"); wait != "" {
			name += ", Retry-After " + wait
		}
		answers[name]++
	}
	var told []string
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		told = append(told, fmt.Sprintf("%.0f/s %s", float64(answers[name])/time.Since(start).Seconds(), name))
	}
	return strings.Join(told, "; ")
}

// readAnswer reads an answer that must be 200 and tell its length.
func readAnswer(in *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answer %q", line)
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if length < 0 {
		return errors.New("an answer without a length")
	}
	_, err := in.Discard(length)
	return err
}
