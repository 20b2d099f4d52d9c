package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/postgres/pgtest"
)

// A promise is what a receipt says: that an event has a place in the order.
type promise struct {
	Seq    int64  `json:"seq"`
	ID     string `json:"event_id"`
	SHA256 string `json:"entry_sha256"`
}

// send puts a bundle to a mirror and returns what the receipt promises. The
// status is 0 when there was no answer; then nothing is promised.
func send(ctx context.Context, url string, bundle []byte) (promises []promise, status int, answer string) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/events", bytes.NewReader(bundle))
	if err != nil {
		return nil, 0, err.Error()
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, 0, err.Error()
	}
	var receipt struct {
		Events []promise `json:"events"`
	}
	if resp.StatusCode/100 != 2 {
		return nil, resp.StatusCode, string(text)
	}
	if err := json.Unmarshal(text, &receipt); err != nil {
		return nil, 0, err.Error()
	}
	return receipt.Events, resp.StatusCode, string(text)
}

// kept asks that a store has every event that was promised, in its place.
func kept(t testing.TB, store resolver.Store, promises []promise) {
	t.Helper()
	have := map[int64]resolver.Event{}
	for next := int64(0); ; {
		page, err := store.EventsFrom(t.Context(), next, 4096)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			have[e.Seq], next = e, e.Seq+1
		}
		if len(page) == 0 {
			break
		}
	}
	for _, p := range promises {
		if e, ok := have[p.Seq]; !ok || e.ID != p.ID || e.SHA256.String() != p.SHA256 {
			t.Fatalf("the mirror acknowledged event %d, %s, and has %q there", p.Seq, p.ID, e.ID)
		}
	}
}

// TestKill kills a mirror with SIGKILL at random moments while it takes bundles,
// writes its log, and while pith ingest loads the same database, and asks after
// each time that every acknowledged event is there and that pith fsck finds nothing.
//
// It does so a few times, or as often as PITH_KILLS says:
//
//	PITH_KILLS=1000 go test ./cmd/pith -run 'TestKill$' -v -timeout 0
func TestKill(t *testing.T) {
	killMany(t, 4, 1, func(home string) string { return "sqlite:" + filepath.Join(home, "pith.db") })
}

// TestKillReplicas is TestKill for two mirrors that share a PostgreSQL database, a
// key and a log: one is killed, and a moment later the one that went on.
//
//	PITH_KILLS=100 go test ./cmd/pith -run TestKillReplicas -v -timeout 0
func TestKillReplicas(t *testing.T) {
	server := pgtest.Start(t)
	killMany(t, 2, 2, func(string) string { return server.Database(t) })
}

// killMany kills so often, or as often as PITH_KILLS says, one of several mirrors
// that share a database.
func killMany(t *testing.T, kills, replicas int, database func(home string) string) {
	if text := os.Getenv("PITH_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	if testing.Short() {
		kills = replicas
	}
	const perMirror = 24 // then a new one, so that checking stays quick
	promised, started := 0, time.Now()
	for done := 0; done < kills; done += perMirror {
		n, seed, home := min(perMirror, kills-done), rand.Uint64(), t.TempDir()
		t.Logf("seed %d", seed)
		promised += killOne(t, seed, n, home, database(home), replicas)
		t.Logf("%d kills, %d acknowledged events, none lost, %.0f s", done+n, promised, time.Since(started).Seconds())
	}
}

// killOne kills the mirrors of a database n times and returns how many events they
// acknowledged.
func killOne(t *testing.T, seed uint64, n int, home, db string, replicas int) int {
	lines := filepath.Join(t.TempDir(), "bundles.jsonl")
	random := rand.New(rand.NewPCG(seed, 1))
	var file bytes.Buffer
	const loaded = 400
	for i := range loaded {
		file.Write(bytes.TrimSpace(testBundle(t, 10_000+i, "")))
		file.WriteByte('\n')
	}
	if err := os.WriteFile(lines, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	ingest := func() *exec.Cmd {
		return pithIn(t, home, "ingest", "--db", db, "--unknown", "accepted", "--batch", "8", lines)
	}
	var all []promise
	next := 0
	for kill := 0; kill < n; kill += replicas {
		var mirrors []*daemon
		for range replicas {
			mirrors = append(mirrors, startServe(t, home, "--db", db, "--unknown", "accepted", "--copy=false"))
		}
		var loading *exec.Cmd
		if kill/replicas%2 == 0 {
			loading = ingest()
			if err := loading.Start(); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		var (
			mu    sync.Mutex
			group sync.WaitGroup
			first = make(chan struct{}, 1000)
		)
		for worker := range 3 {
			mine := next + worker
			group.Go(func() {
				for i := mine; ctx.Err() == nil; i += 3 {
					// The second time the same record comes with something new.
					got, status, answer := send(ctx, mirrors[i%replicas].url, testBundle(t, i/2, []string{"", "ann"}[i%2]))
					if status == 0 { // it was killed; another may go on
						time.Sleep(5 * time.Millisecond)
						continue
					}
					busy := status == http.StatusTooManyRequests || replicas > 1 && status == http.StatusServiceUnavailable
					if status/100 != 2 && !busy {
						t.Errorf("%d %s", status, answer)
						return
					}
					mu.Lock()
					all = append(all, got...)
					next = max(next, i+1)
					mu.Unlock()
					select {
					case first <- struct{}{}:
					default:
					}
				}
			})
		}
		select {
		case <-first: // it takes bundles
		case <-time.After(time.Minute):
			t.Fatal("no bundle was taken in a minute")
		}
		for _, i := range random.Perm(replicas) {
			time.Sleep(time.Duration(random.Int64N(int64(300 * time.Millisecond)))) // the moment of the crash
			mirrors[i].kill()
		}
		if loading != nil {
			_ = loading.Process.Kill() // it may have ended
			_ = loading.Wait()
		}
		stop()
		group.Wait()
		if t.Failed() {
			t.FailNow()
		}
		if out, errs, code := done(t, home, "fsck", "--db", db); code != 0 {
			t.Fatalf("kill %d: pith fsck ends with %d\n%s%s", kill, code, out, errs)
		}
		store, err := openStore(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		kept(t, store, all)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// In the end everything comes in, and the log covers it.
	out, err := ingest().CombinedOutput()
	if err != nil || !strings.Contains(string(out), "0 refused") {
		t.Fatalf("pith ingest after %d kills: %v\n%s", n, err, out)
	}
	must(t, 0, home, "fsck", "--db", db)
	store, err := openStore(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	kept(t, store, all)
	for i := range loaded {
		number := numberOf(t, testBundle(t, 10_000+i, ""))
		if _, err := store.Record(t.Context(), number[len(number)-26:]); err != nil {
			t.Fatalf("line %d of what was loaded: %v", i+1, err)
		}
	}
	return len(all)
}

func numberOf(t testing.TB, bundle []byte) string {
	t.Helper()
	var top struct {
		Number string `json:"pith_number"`
	}
	if err := json.Unmarshal(bundle, &top); err != nil {
		t.Fatal(err)
	}
	return top.Number
}
