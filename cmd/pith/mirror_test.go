package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/bench/pith/plain"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver/archive"
	"github.com/openpith/evidence/resolver/mirror"
)

// pithIn runs pith as a process of its own, with a data directory of its own.
func pithIn(t testing.TB, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("pith", args...)
	cmd.Env = append(os.Environ(), "PITH_DATA="+dir, "XDG_CONFIG_HOME="+dir)
	return cmd
}

// done runs it and returns what it prints and its exit code.
func done(t testing.TB, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := pithIn(t, dir, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must is done for what has to end with a code.
func must(t testing.TB, code int, dir string, args ...string) string {
	t.Helper()
	out, errs, got := done(t, dir, args...)
	if got != code {
		t.Fatalf("pith %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errs)
	}
	return out
}

// A daemon is a running pith serve.
type daemon struct {
	url string
	cmd *exec.Cmd
}

func startServe(t testing.TB, dir string, args ...string) *daemon {
	t.Helper()
	return startDaemon(t, pithIn(t, dir, append([]string{"serve", "--listen", "localhost:0"}, args...)...))
}

func startDaemon(t testing.TB, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{cmd: cmd}
	var errs bytes.Buffer
	d.cmd.Stderr = &errs
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		d.cmd.Wait()
		t.Fatalf("pith serve did not start: %v\n%s", err, errs.Bytes())
	}
	d.url = strings.TrimRight(strings.TrimSpace(line), "/")
	return d
}

// kill ends it as a power cut does.
func (d *daemon) kill() {
	if d.cmd.ProcessState == nil {
		d.cmd.Process.Kill()
		d.cmd.Wait()
	}
}

// logged waits until the signed checkpoint covers everything that was put.
func (d *daemon) logged(t testing.TB) {
	t.Helper()
	for tries := 0; ; tries++ {
		resp, err := http.Get(d.url + "/_health")
		if err != nil {
			t.Fatal(err)
		}
		var h mirror.Health
		err = json.NewDecoder(resp.Body).Decode(&h)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if h.LogSize == h.Cursor {
			return
		}
		if tries == 1000 {
			t.Fatalf("the log stands at %d of %d events", h.LogSize, h.Cursor)
		}
		time.Sleep(10 * time.Millisecond) // the log follows in its own time
	}
}

// put sends bundles to a running mirror.
func (d *daemon) put(t testing.TB, bundles ...[]byte) {
	t.Helper()
	for _, b := range bundles {
		number := pith.Verify(b, nil).PithNumber
		r, err := http.NewRequest(http.MethodPut, d.url+"/pith/"+number[len(number)-26:]+"/bundle.json", bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			t.Fatalf("put %s: %s %s", number, resp.Status, text)
		}
	}
}

// testBundle is the bundle of the i-th record, with something that who says.
func testBundle(t testing.TB, i int, who string) []byte {
	t.Helper()
	data, err := plain.Another(seed.Bundle(), ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), i)
	if err != nil {
		t.Fatal(err)
	}
	if who == "" {
		return data
	}
	key, err := pith.NewKey([]byte(strings.Repeat(who+"!", 32))[:32], pith.Signer{ID: who, Type: "individual", KeyID: who + "-1"})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	d, err := pith.NewDraft(pith.Correction{Kind: "erratum", Text: "said by " + who}, at)
	if err != nil {
		t.Fatal(err)
	}
	if data, _, err = pith.Append(data, key, at, d); err != nil {
		t.Fatal(err)
	}
	return data
}

// TestTwoMirrors: two real servers take different events of the same records
// while one cannot reach the other, are killed in the middle of copying, and in
// the end serve the same state of every record, to the byte.
func TestTwoMirrors(t *testing.T) {
	homes := [2]string{t.TempDir(), t.TempDir()}
	unknown := []string{"--unknown", "accepted"}
	a := startServe(t, homes[0], append(unknown, "--copy=false")...)
	b := startServe(t, homes[1], append(unknown, "--copy=false")...)
	for i := range 20 {
		a.put(t, testBundle(t, i, []string{"", "ann", "cyd"}[i%3]))
		b.put(t, testBundle(t, i+10, []string{"", "ben"}[i%2]))
	}
	if out := must(t, 1, homes[0], "compare", a.url, b.url); strings.Count(out, "<") < 10 || strings.Count(out, "!") == 0 || strings.Contains(out, "not trusted") {
		t.Errorf("before copying compare says:\n%s", out)
	}
	a.logged(t)
	b.logged(t)
	must(t, 0, homes[0], "mirror", "add", "--all", b.url)
	must(t, 0, homes[1], "mirror", "add", "--all", a.url)

	// The partition: a cannot reach b, says so, and loses nothing.
	b.kill()
	if _, errs, code := done(t, homes[0], "mirror", "sync"); code != 2 || !strings.Contains(errs, b.url) {
		t.Errorf("sync with a mirror that is down: exit code %d, %s", code, errs)
	}
	if out := must(t, 0, homes[0], "mirror", "list"); !strings.Contains(out, "refused") {
		t.Errorf("mirror list does not say what was wrong:\n%s", out)
	}
	b = startServe(t, homes[1], append(unknown, "--copy=false", "--listen", strings.TrimPrefix(b.url, "http://"))...)

	// The crashes: copying is killed later and later, until it comes through.
	crashes := 0
	for wait := time.Millisecond; ; wait *= 2 {
		cmd := pithIn(t, homes[0], "mirror", "sync")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(wait, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if err == nil {
			break
		}
		if crashes++; crashes > 20 {
			t.Fatalf("copying does not come through: %v", err)
		}
	}
	t.Logf("killed %d times", crashes)
	a.logged(t)
	must(t, 0, homes[1], "mirror", "sync")
	b.logged(t)
	must(t, 0, homes[0], "mirror", "sync")
	out := must(t, 0, homes[0], "compare", "--json", a.url, b.url)
	var sums struct {
		Records   [2]int
		Divergent int
		Rounds    int
	}
	if err := json.Unmarshal([]byte(out), &sums); err != nil || sums.Records != [2]int{30, 30} || sums.Rounds != 1 {
		t.Errorf("%s, %v; want 30 records on both sides after one round", out, err)
	}
	for i := range 30 {
		number := pith.Verify(testBundle(t, i, ""), nil).PithNumber
		var states [2][]byte
		for side, d := range []*daemon{a, b} {
			resp, err := http.Get(d.url + "/pith/" + number[len(number)-26:] + "/state.json")
			if err != nil {
				t.Fatal(err)
			}
			states[side], err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("%s: %s %v", number, resp.Status, err)
			}
		}
		if !bytes.Equal(states[0], states[1]) {
			t.Errorf("%s: the states differ", number)
		}
	}

	// A mirror that serves copies by itself.
	a.kill()
	a = startServe(t, homes[0], unknown...)
	b.put(t, testBundle(t, 99, "ben"))
	for tries := 0; ; tries++ {
		if _, _, code := done(t, homes[0], "compare", a.url, b.url); code == 0 {
			break
		}
		if tries == 200 {
			t.Fatal("a mirror that runs does not copy what comes")
		}
	}
}

// TestArchiveRoundTrip: from a mirror into packs, and from packs into another
// mirror, which is the same; then damage.
func TestArchiveRoundTrip(t *testing.T) {
	homes := [2]string{t.TempDir(), t.TempDir()}
	packs := filepath.Join(t.TempDir(), "packs")
	a := startServe(t, homes[0], "--unknown", "accepted")
	for i := range 12 {
		a.put(t, testBundle(t, i, []string{"", "ann"}[i%2]))
	}
	head := strings.TrimSpace(must(t, 0, homes[0], "archive", "write", packs))
	if out := must(t, 0, homes[0], "archive", "verify", packs, "--head", head); !strings.HasPrefix(out, head+"\t12 bundles\t30 events\t1 packs") {
		t.Errorf("verify says %q", out)
	}
	must(t, 2, homes[0], "archive", "write", packs) // never over another
	if out := must(t, 3, homes[1], "archive", "clone", packs); !strings.HasPrefix(out, "12 bundles\t12 refused or queued") {
		t.Errorf("a policy that knows none of the signers: %q", out)
	}
	must(t, 0, homes[1], "archive", "clone", "--all", packs)
	must(t, 0, homes[1], "compare", a.url, "sqlite:"+filepath.Join(homes[1], "pith.db"))
	must(t, 1, homes[1], "archive", "clone", packs, "--head", strings.Repeat("0", 64))

	m, err := archive.Open(packs)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(packs, m.Packs[0].Name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 8
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := must(t, 1, homes[0], "archive", "verify", packs); !strings.Contains(out, m.Packs[0].Name) {
		t.Errorf("verify says %q, which does not name the pack", out)
	}
	must(t, 1, t.TempDir(), "archive", "clone", "--all", packs)
	must(t, 2, homes[0], "archive", "verify", homes[0]) // no archive
}

// TestBackupAndRestore: a copy that is made while the mirror runs is a mirror.
func TestBackupAndRestore(t *testing.T) {
	home, restored := t.TempDir(), t.TempDir()
	a := startServe(t, home, "--unknown", "accepted")
	for i := range 5 {
		a.put(t, testBundle(t, i, "ann"))
	}
	must(t, 0, home, "backup", filepath.Join(restored, "pith.db"))
	must(t, 2, home, "backup", filepath.Join(restored, "pith.db")) // never over another
	must(t, 0, home, "compare", a.url, "sqlite:"+filepath.Join(restored, "pith.db"))
	must(t, 2, restored, "serve", "--listen", "localhost:0") // its log needs its key
	if err := os.Link(filepath.Join(home, "mirror-key.json"), filepath.Join(restored, "mirror-key.json")); err != nil {
		t.Fatal(err)
	}
	b := startServe(t, restored)
	must(t, 0, home, "compare", a.url, b.url)
	a.put(t, testBundle(t, 7, ""))
	must(t, 1, home, "compare", a.url, b.url)
}

func TestMirrorCommandsRefuse(t *testing.T) {
	home := t.TempDir()
	tests := []struct {
		args []string
		code int
		want string
	}{
		{[]string{"mirror", "add", "ftp://example.org"}, 2, "not the address of a mirror"},
		{[]string{"mirror", "add", "http://127.0.0.1:1"}, 2, "hint: is it a mirror?"},
		{[]string{"mirror", "add", "http://127.0.0.1:1", "--log-key", "foo"}, 2, "malformed verifier id"},
		{[]string{"mirror", "sync"}, 2, "there is no mirror to copy"},
		{[]string{"mirror", "remove", "https://example.org"}, 2, "is not one of the mirrors that are copied"},
		{[]string{"mirror", "add", "https://example.org", "--bundles", "--no-log"}, 2, "exclude each other"},
		{[]string{"compare", "http://127.0.0.1:1", "sqlite:" + filepath.Join(home, "pith.db")}, 2, "127.0.0.1:1"},
		{[]string{"archive", "verify", home}, 2, "name the directory of an archive"},
		{[]string{"serve", "--unknown", "perhaps"}, 2, "perhaps"},
		{[]string{"serve", "--listen", "nowhere:x"}, 2, "--listen"},
	}
	for _, tt := range tests {
		if _, errs, code := done(t, home, tt.args...); code != tt.code || !strings.Contains(errs, tt.want) || !strings.Contains(errs, "hint:") {
			t.Errorf("pith %s: exit code %d, %q; want %d, %q and a hint", strings.Join(tt.args, " "), code, errs, tt.code, tt.want)
		}
	}
}

// TestNewLog: a mirror that lost its key begins a new log when it is told to, and
// with no key that signed the old one.
func TestNewLog(t *testing.T) {
	home := t.TempDir()
	key, log := filepath.Join(home, "mirror-key.json"), filepath.Join(home, "log")
	remove := func(path string) {
		t.Helper()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	a := startServe(t, home)
	a.put(t, seed.Bundle())
	a.logged(t)
	a.kill()
	remove(key)
	if _, errs, code := done(t, home, "serve", "--listen", "localhost:0"); code != 2 || !strings.Contains(errs, "hint: put it back") {
		t.Errorf("without the key: exit code %d, %s", code, errs)
	}
	must(t, 2, home, "serve", "--listen", "localhost:0", "--new-log") // the old one is there
	if _, err := os.Stat(key); err == nil {
		t.Error("a key was made beside the log of another")
	}
	remove(log)
	b := startServe(t, home, "--new-log")
	b.logged(t)
	b.kill()
	must(t, 0, home, "fsck")
	remove(log)
	if _, errs, code := done(t, home, "serve", "--listen", "localhost:0", "--new-log"); code != 2 || !strings.Contains(errs, "needs a new key") {
		t.Errorf("with the same key: exit code %d, %s", code, errs)
	}
	startServe(t, home).logged(t)
	other := filepath.Join(t.TempDir(), "key.json")
	must(t, 0, home, "key", "new", "--signer", "b.example", "--out", other)
	if out := must(t, 1, home, "fsck", "--key", other); !strings.Contains(out, `it is of the log "pith-mirror/`) {
		t.Errorf("under another key: %s", out)
	}
	if _, errs, code := done(t, home, "serve", "--listen", "localhost:0", "--key", other); code != 2 || !strings.Contains(errs, "name the key that signed it with --key") {
		t.Errorf("served under another key: exit code %d, %s", code, errs)
	}
}

// TestKeyChangeIsNoticed: a mirror that shows another log key than before is not
// copied on.
func TestKeyChangeIsNoticed(t *testing.T) {
	home := t.TempDir()
	a := startServe(t, t.TempDir(), "--unknown", "accepted")
	a.put(t, testBundle(t, 0, ""))
	a.logged(t)
	must(t, 0, home, "mirror", "add", "--all", a.url)
	must(t, 0, home, "mirror", "sync")
	must(t, 0, home, "mirror", "add", "--all", a.url) // the same again changes nothing
	a.kill()
	b := startServe(t, t.TempDir(), "--listen", strings.TrimPrefix(a.url, "http://"))
	if _, errs, code := done(t, home, "mirror", "add", b.url); code != 1 || !strings.Contains(errs, "log key") {
		t.Errorf("another key at the same address: exit code %d, %s", code, errs)
	}
	if _, errs, code := done(t, home, "mirror", "sync"); code != 1 || !strings.Contains(errs, mirror.ErrUnsigned.Error()) {
		t.Errorf("sync: exit code %d, %s", code, errs)
	}
}

// TestCloneOverHTTP: a new mirror is filled from the archive that another one
// offers, and then copies only what came later, held to the log of the other.
func TestCloneOverHTTP(t *testing.T) {
	homes := [2]string{t.TempDir(), t.TempDir()}
	packs := filepath.Join(t.TempDir(), "packs")
	a := startServe(t, homes[0], "--unknown", "accepted")
	for i := range 12 {
		a.put(t, testBundle(t, i, []string{"", "ann"}[i%2]))
	}
	must(t, 0, homes[0], "archive", "write", packs)
	a.kill()
	a = startServe(t, homes[0], "--unknown", "accepted", "--archive", packs, "--metrics", "localhost:0")
	if out := must(t, 0, homes[1], "archive", "clone", "--all", a.url+"/archive"); !strings.HasPrefix(out, "12 bundles\t0 refused or queued") {
		t.Errorf("clone says %q", out)
	}
	a.put(t, testBundle(t, 20, "ben"))
	a.logged(t)
	must(t, 0, homes[1], "mirror", "add", "--all", a.url)
	must(t, 0, homes[1], "mirror", "sync")
	must(t, 0, homes[1], "compare", a.url, "sqlite:"+filepath.Join(homes[1], "pith.db"))
	var ups []mirror.Upstream
	if err := json.Unmarshal([]byte(must(t, 0, homes[1], "mirror", "list", "--json")), &ups); err != nil || len(ups) != 1 {
		t.Fatal(ups, err)
	}
	if u := ups[0]; u.Records != 1 || u.Next != 33 || u.Proven != 33 {
		t.Errorf("%d bundles were fetched, %d of 33 events were seen and %d proven; want one bundle, of the record that came later", u.Records, u.Next, u.Proven)
	}

	for path, want := range map[string]int{"/archive/manifest.json": 200, "/archive/pack-000000.jsonl.zst": 200, "/archive/pack-000001.jsonl.zst": 404, "/archive/..%2f..%2fetc%2fpasswd": 404, "/archive/": 404} {
		resp, err := http.Get(a.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
	if _, errs, code := done(t, homes[1], "archive", "clone", "--all", a.url); code != 2 || !strings.Contains(errs, "has its archive at /archive") || strings.Contains(errs, "{") {
		t.Errorf("where no archive is: exit code %d, %s", code, errs)
	}
	must(t, 2, homes[1], "serve", "--archive", homes[1]) // nor there
}

// TestCopyEverything does what the page about a mirror says to copy everything.
func TestCopyEverything(t *testing.T) {
	homes := [2]string{t.TempDir(), t.TempDir()}
	a := startServe(t, homes[0], "--unknown", "accepted")
	a.put(t, testBundle(t, 0, ""))
	a.put(t, testBundle(t, 1, "ann"))
	a.logged(t)
	resp, err := http.Get(a.url + "/about")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	recipe := regexp.MustCompile(`(?m)^pith (mirror add .*) &amp;&amp; pith (mirror sync) `).FindSubmatch(page)
	if recipe == nil {
		t.Fatalf("no recipe in\n%s", page)
	}
	for _, line := range recipe[1:] {
		must(t, 0, homes[1], strings.Fields(string(line))...)
	}
	must(t, 0, homes[1], "compare", a.url, "sqlite:"+filepath.Join(homes[1], "pith.db"))
}

// TestLargePack: a pack may be larger than any other answer of a mirror, since the
// manifest, which may not, says how large it is.
func TestLargePack(t *testing.T) {
	packs := filepath.Join(t.TempDir(), "packs")
	home := t.TempDir()
	lines := filepath.Join(home, "bundles.jsonl")
	var file []byte
	for i := range 12 {
		file = append(append(file, bytes.TrimSpace(testBundle(t, i, ""))...), '\n')
	}
	if err := os.WriteFile(lines, file, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, 0, home, "ingest", "--unknown", "accepted", lines)
	must(t, 0, home, "archive", "write", packs)
	server := httptest.NewServer(http.StripPrefix("/", http.FileServer(http.Dir(packs))))
	defer server.Close()
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(packs, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	manifest := size(archive.ManifestName)
	m, open, err := openArchive(t.Context(), server.URL, mirror.Limits{Answer: manifest})
	if err != nil {
		t.Fatal(err)
	}
	if pack := size(m.Packs[0].Name); pack <= manifest {
		t.Fatalf("the pack has %d bytes, no more than the limit of %d", pack, manifest)
	}
	n := 0
	for _, err := range m.Pack(t.Context(), open, 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 12 {
		t.Errorf("%d bundles, want 12", n)
	}
	if _, _, err := openArchive(t.Context(), server.URL, mirror.Limits{Answer: manifest - 1}); !errors.Is(err, mirror.ErrTooLarge) {
		t.Errorf("a manifest beyond the limit: %v", err)
	}
}

// TestDeclareKey: a mirror takes an event of a key that was declared, and not
// before.
func TestDeclareKey(t *testing.T) {
	home, mine := t.TempDir(), t.TempDir()
	a := startServe(t, home, "--unknown", "accepted")
	a.put(t, seed.Bundle())
	must(t, 0, mine, "key", "new", "--signer", "ada", "--out", filepath.Join(mine, "key.json"))
	bundle := filepath.Join(mine, "bundle.json")
	if err := os.WriteFile(bundle, seed.Bundle(), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(mine, "key.json")
	id := strings.TrimSpace(must(t, 0, mine, "event", "new", "correction", bundle, "--key", key, "--set", "kind=erratum", "--set", "text=x", "--out", filepath.Join(mine, "said.json")))
	data, err := os.ReadFile(filepath.Join(mine, "said.json"))
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ Events []json.RawMessage }
	if err := json.Unmarshal(data, &said); err != nil {
		t.Fatal(err)
	}
	var event []byte
	for _, e := range said.Events {
		if bytes.Contains(e, []byte(`"event_id":"`+id)) {
			event = e
		}
	}
	post := func(want int, code string) {
		t.Helper()
		resp, err := http.Post(a.url+"/events", "application/json", bytes.NewReader(event))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want || !strings.Contains(string(text), code) {
			t.Errorf("%s %s, want %d and %s", resp.Status, text, want, code)
		}
	}
	post(http.StatusUnprocessableEntity, "key_not_declared")
	if out := must(t, 0, mine, "key", "declare", "--key", key, a.url); !strings.Contains(out, `"declared_key":"`) {
		t.Errorf("the receipt is %s", out)
	}
	post(http.StatusCreated, id)
	if out := must(t, 0, mine, "key", "declare", "--key", key); !strings.Contains(out, `"document_type":"pith_key_declaration"`) {
		t.Errorf("without an address: %s", out)
	}
	must(t, 2, mine, "key", "declare", "--key", key, "localhost")
	must(t, 2, mine, "key", "declare", "--key", key, a.url+"/nothing")
}

// TestModeratorFile: the token stands in a file that nobody else may read.
func TestModeratorFile(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, "token")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		os.Remove(file)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	const token = "0123456789abcdef0123"
	for _, bad := range []struct {
		text string
		mode os.FileMode
	}{{token, 0o644}, {"", 0o600}, {"short", 0o600}} {
		write(bad.text, bad.mode)
		must(t, 2, home, "serve", "--listen", "localhost:0", "--moderator-file", file)
	}
	write(token+"\n", 0o600)
	a := startServe(t, home, "--moderator-file", file)
	for given, want := range map[string]int{token: 200, token + "4": 401, "": 401} {
		r, err := http.NewRequest(http.MethodGet, a.url+"/moderation", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+given)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("token %q: %s, want %d", given, resp.Status, want)
		}
	}
}
