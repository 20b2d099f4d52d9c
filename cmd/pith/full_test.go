package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpith/evidence/resolver/mirror"
)

// health asks a mirror how it is.
func (d *daemon) health(t testing.TB) (h mirror.Health, status int) {
	t.Helper()
	resp, err := http.Get(d.url + "/_health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&h); err != nil {
		t.Fatal(err)
	}
	return h, resp.StatusCode
}

// TestDiskFull fills the disk of a mirror: it stays up, goes on to answer, says
// why it takes nothing, has everything that it acknowledged, and takes more when
// there is room again. The disk is a small file system in memory.
func TestDiskFull(t *testing.T) {
	home := t.TempDir()
	mount := func(args ...string) error {
		out, err := exec.Command("mount", append(args, home)...).CombinedOutput()
		if err != nil {
			t.Logf("mount: %v %s", err, out)
		}
		return err
	}
	if mount("-t", "tmpfs", "-o", "size=3m", "pith-test") != nil {
		t.Skip("no file system can be mounted here")
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", home).Run() }) // or the system does it at its end
	db := "sqlite:" + filepath.Join(home, "pith.db")
	d := startServe(t, home, "--db", db, "--unknown", "accepted", "--copy=false")
	var promises []promise
	refused, i := "", 0
	for ; refused == ""; i++ {
		if i == 5000 {
			t.Fatal("the disk does not fill up")
		}
		got, status, answer := send(t.Context(), d.url, testBundle(t, i, ""))
		switch status {
		case http.StatusCreated:
			promises = append(promises, got...)
		case http.StatusInsufficientStorage:
			refused = answer
		case http.StatusTooManyRequests:
			i-- // again
			time.Sleep(100 * time.Millisecond)
		default:
			t.Fatalf("bundle %d: %d %s", i, status, answer)
		}
	}
	if !strings.Contains(refused, `"code":"storage_full"`) || len(promises) < 10 {
		t.Errorf("after %d events it says %s", len(promises), refused)
	}
	if h, status := d.health(t); status != 200 || h.Status != "degraded" || !strings.Contains(h.Detail, "no room left") {
		t.Errorf("/_health: %d %+v", status, h)
	}
	reads := func() {
		t.Helper()
		number := numberOf(t, testBundle(t, 0, ""))
		for _, path := range []string{"/pith/" + number[len(number)-26:] + "/bundle.json", "/pith/" + number[len(number)-26:], "/search?q=smoothout", "/log/checkpoint"} {
			resp, err := http.Get(d.url + path)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || len(text) == 0 {
				t.Errorf("reading %s from a full disk: %s, %v", path, resp.Status, err)
			}
		}
	}
	reads()
	lines := filepath.Join(t.TempDir(), "one.json")
	if err := os.WriteFile(lines, testBundle(t, 6000, "ann"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 50 { // what is small may still fit: the last bytes go as well
		if _, status, _ := send(t.Context(), d.url, testBundle(t, 7000, "")); status == http.StatusInsufficientStorage {
			break
		}
	}
	if _, errs, code := done(t, home, "ingest", "--db", db, "--unknown", "accepted", lines); code != 2 || !strings.Contains(errs, "no room left") {
		t.Errorf("pith ingest into a full disk: exit code %d, %s", code, errs)
	}

	// It starts on a disk that is full to the last byte, too, and answers, also where
	// it ended before the disk was full: then there is no index of the write-ahead log.
	stop(t, d)
	if err := os.Remove(filepath.Join(home, "pith.db-shm")); err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(filepath.Join(home, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := filler.Write(make([]byte, 64<<20)); err == nil {
		t.Fatalf("%d bytes fit on a full disk", n)
	}
	if err := filler.Close(); err != nil {
		t.Fatal(err)
	}
	d = startServe(t, home, "--db", db, "--unknown", "accepted", "--copy=false")
	reads()
	if _, status, answer := send(t.Context(), d.url, testBundle(t, 7000, "")); status != http.StatusInsufficientStorage {
		t.Errorf("started on a full disk: %d %s", status, answer)
	}

	// With room again it goes on by itself.
	if err := mount("-o", "remount,size=64m"); err != nil {
		t.Fatal(err)
	}
	for k := 0; k < 5; k++ {
		got, status, answer := send(t.Context(), d.url, testBundle(t, i+k, "ann"))
		switch status {
		case http.StatusCreated:
			promises = append(promises, got...)
		case http.StatusTooManyRequests:
			k--
			time.Sleep(100 * time.Millisecond)
		default:
			t.Fatalf("with room again: %d %s", status, answer)
		}
	}
	d.logged(t)
	if h, status := d.health(t); status != 200 || h.Status != "ok" || h.Detail != "" {
		t.Errorf("/_health: %d %+v", status, h)
	}
	d.kill()
	must(t, 0, home, "fsck", "--db", db)
	store, err := openStore(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	kept(t, store, promises)
}

// stop ends a mirror as an operator does.
func stop(t testing.TB, d *daemon) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Fatalf("it ends with %v", err)
	}
}
