package main

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpith/evidence/resolver/postgres/pgtest"
)

// TestReplicas: two mirrors serve one PostgreSQL database and take events of the
// same records at the same time. One is killed while it writes the log, then the
// database; what was acknowledged is there, in its place, the other goes on with
// the log, and both answer the same to the byte.
func TestReplicas(t *testing.T) {
	server := pgtest.Start(t)
	home, db := t.TempDir(), server.Database(t) // they share key and log, as they share the database
	flags := []string{"--db", db, "--unknown", "accepted", "--copy=false"}
	replicas := []*daemon{startServe(t, home, flags...), startServe(t, home, flags...)}
	var (
		mu       sync.Mutex
		promises []promise
	)
	const records = 12
	write := func(from int, to ...*daemon) {
		t.Helper()
		var group sync.WaitGroup
		for worker, d := range to {
			group.Go(func() {
				for i := range records {
					// Every record comes to both, with something new from each.
					bundle := testBundle(t, (from+i)/2, []string{"ann", "ben"}[worker])
					for {
						got, status, answer := send(t.Context(), d.url, bundle)
						if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
							time.Sleep(50 * time.Millisecond) // as it was asked to
							continue
						}
						if status/100 != 2 {
							t.Errorf("%d %s", status, answer)
							return
						}
						mu.Lock()
						promises = append(promises, got...)
						mu.Unlock()
						break
					}
				}
			})
		}
		group.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	write(0, replicas...)
	replicas[0].kill() // which began first, and so writes the log
	write(20, replicas[1])
	replicas[1].logged(t) // the other does it now
	replicas[0] = startServe(t, home, flags...)
	write(40, replicas...)

	server.Kill()
	if h, status := replicas[1].health(t); status != http.StatusServiceUnavailable {
		t.Errorf("without its database a mirror is %+v, %d", h, status)
	}
	if _, status, _ := send(t.Context(), replicas[1].url, testBundle(t, 99, "")); status/100 == 2 {
		t.Error("without its database a mirror acknowledged something")
	}
	server.Restart(t)
	for _, d := range replicas {
		d.logged(t)
	}
	write(60, replicas...)
	for _, d := range replicas {
		d.logged(t)
	}

	must(t, 0, home, "fsck", "--db", db)
	store, err := openStore(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	kept(t, store, promises)
	all, err := store.Records(t.Context(), "", "", 1000)
	if err != nil || len(all) < records {
		t.Fatalf("%d records, %v", len(all), err)
	}
	for _, r := range all {
		for _, path := range []string{"/bundle.json", "/state.json", "/proof.json"} {
			a, b := get(t, replicas[0].url+"/pith/"+r.Suffix+path), get(t, replicas[1].url+"/pith/"+r.Suffix+path)
			if a != b {
				t.Errorf("%s%s differs between two mirrors of one database", r.Suffix, path)
			}
		}
	}
	if a, b := get(t, replicas[0].url+"/log/checkpoint"), get(t, replicas[1].url+"/log/checkpoint"); a != b {
		t.Errorf("two checkpoints\n%s%s", a, b)
	}
	must(t, 0, home, "compare", replicas[0].url, replicas[1].url)

	file := filepath.Join(t.TempDir(), "pith.dump")
	_, missing := exec.LookPath("pg_dump")
	if _, errs, code := done(t, home, "backup", "--db", db, file); (code != 0) != (missing != nil) {
		t.Errorf("pith backup: exit code %d, %s", code, errs)
	}
	if _, errs, code := done(t, home, "fsck", "--db", strings.Replace(server.DSN("nowhere"), "user=pith", "user=pith&password=secret", 1)); code != 2 || strings.Contains(errs, "secret") || !strings.Contains(errs, "hint:") {
		t.Errorf("a database that is not there: exit code %d, %s", code, errs)
	}
}

// get reads what an address answers with 200.
func get(t testing.TB, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", url, resp.Status, text, err)
	}
	return string(text)
}
