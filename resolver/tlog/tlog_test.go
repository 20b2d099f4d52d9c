package tlog_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
	"github.com/openpith/evidence/resolver/tlog"
)

const suffix = "CWPYLZDW7AWAX7TQ5ZRNS3OHEM"

var key = func() *pith.PrivateKey {
	k, err := pith.NewKey(make([]byte, 32), pith.Signer{ID: "m", Type: "mirror", KeyID: "m-1"})
	if err != nil {
		panic(err)
	}
	return k
}()

// fill adds n events to a store, in records of their own.
func fill(t *testing.T, s resolver.Store, from, n int, word string) {
	t.Helper()
	var updates []resolver.Update
	for i := range n {
		name := fmt.Sprintf("AAAAAAAA%018d", from+i)
		sum := sha256.Sum256([]byte(word + name))
		updates = append(updates, resolver.Update{
			Record: resolver.Record{Suffix: name, Digest: sum},
			Events: []resolver.Event{{ID: fmt.Sprintf("sha256:%x", sum), Suffix: name, SHA256: sum}},
		})
	}
	if _, err := s.Commit(t.Context(), updates); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string, s resolver.Store) *tlog.Log {
	t.Helper()
	l, err := tlog.Open(dir, s, key)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// follow brings the log up with a store that is loaded.
func follow(t *testing.T, l *tlog.Log, wait time.Duration) error {
	t.Helper()
	loaded := make(chan struct{})
	close(loaded)
	return l.Follow(t.Context(), loaded, wait)
}

func catchUp(t *testing.T, l *tlog.Log) *tlog.Checkpoint {
	t.Helper()
	if err := follow(t, l, time.Minute); err != nil {
		t.Fatal(err)
	}
	cp, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

func problems(t *testing.T, l *tlog.Log, known ...*tlog.Checkpoint) []string {
	t.Helper()
	var out []string
	if err := l.Check(t.Context(), known, func(p resolver.Problem) { out = append(out, p.Code) }); err != nil {
		t.Fatal(err)
	}
	return out
}

// The log grows with the store, across restarts, and its checkpoints agree.
func TestFollowsTheStore(t *testing.T) {
	s, dir := memstore.New(), t.TempDir()
	fill(t, s, 0, 300, "x")
	l := open(t, dir, s)
	older := catchUp(t, l)
	fill(t, s, 300, 700, "x")
	l = open(t, dir, s)
	newer := catchUp(t, l)
	if older.Size != 300 || newer.Size != 1000 {
		t.Fatalf("sizes %d and %d", older.Size, newer.Size)
	}
	files := client.FileFetcher{Root: dir}
	if err := tlog.VerifyConsistency(t.Context(), older, newer, files.ReadTile); err != nil {
		t.Error(err)
	}
	if got := problems(t, l, older); got != nil {
		t.Errorf("a sound log: %v", got)
	}
	// Nothing new: nothing happens.
	if again := catchUp(t, l); !bytes.Equal(again.Text, newer.Text) {
		t.Error("another checkpoint of the same log")
	}
	// A log that is lost is written again. What its checkpoint said holds until then.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if got := problems(t, l, older); got != nil {
		t.Errorf("a lost log: %v", got)
	}
	forged := memstore.New()
	fill(t, forged, 0, 1000, "y")
	if err := forged.SetMeta(t.Context(), "log/checkpoint", newer.Text); err != nil {
		t.Fatal(err)
	}
	if got := problems(t, open(t, dir, forged)); len(got) != 1 || got[0] != "log_root" {
		t.Errorf("a lost log of other events: %v", got)
	}
	if again := catchUp(t, open(t, dir, s)); again.Root != newer.Root {
		t.Error("the rewritten log has another root")
	}
}

// Whoever rewrites history is found out, whatever is rewritten.
func TestRewrittenHistory(t *testing.T) {
	s, dir := memstore.New(), t.TempDir()
	fill(t, s, 0, 300, "x")
	honest := catchUp(t, open(t, dir, s))

	forged, other := memstore.New(), t.TempDir()
	fill(t, forged, 0, 1, "y") // the first event is another one
	fill(t, forged, 1, 399, "x")
	l := open(t, other, forged)
	lie := catchUp(t, l)
	files := client.FileFetcher{Root: other}
	if err := tlog.VerifyConsistency(t.Context(), honest, lie, files.ReadTile); !errors.Is(err, tlog.ErrHistory) {
		t.Errorf("a rewritten log is consistent: %v", err)
	}
	if got := problems(t, l, honest); len(got) != 1 || got[0] != "log_root" {
		t.Errorf("problems %v", got)
	}
	if err := tlog.VerifyConsistency(t.Context(), lie, honest, files.ReadTile); !errors.Is(err, tlog.ErrHistory) {
		t.Errorf("a log that shrank: %v", err)
	}
	// The store beside another's log.
	if err := follow(t, open(t, dir, forged), time.Minute); !errors.Is(err, tlog.ErrHistory) {
		t.Errorf("a log that is not the store's: %v", err)
	}
	if cp, err := open(t, dir, s).Checkpoint(t.Context()); err != nil || !bytes.Equal(cp.Text, honest.Text) {
		t.Errorf("it was written to: %v", err)
	}
	// The log is gone, and the store is not what was signed.
	if err := forged.SetMeta(t.Context(), "log/checkpoint", honest.Text); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	if err := follow(t, open(t, empty, forged), time.Minute); !errors.Is(err, tlog.ErrHistory) {
		t.Errorf("a log written anew with another history: %v", err)
	}
	if text, err := forged.Meta(t.Context(), "log/checkpoint"); err != nil || !bytes.Equal(text, honest.Text) {
		t.Error("the only witness is gone: the checkpoint that the store remembers")
	}
	short := memstore.New()
	fill(t, short, 0, 10, "x")
	if err := follow(t, open(t, dir, short), time.Minute); !errors.Is(err, tlog.ErrHistory) {
		t.Errorf("a store that lost events: %v", err)
	}
}

// A database that does not remember what was published would let the log be cut off.
// It is told apart from one that was loaded anew, and from a crash at the first checkpoint.
func TestForgotten(t *testing.T) {
	s, dir := memstore.New(), t.TempDir()
	remembered := func() []byte {
		text, err := s.Meta(t.Context(), "log/checkpoint")
		if err != nil && !errors.Is(err, resolver.ErrNotFound) {
			t.Fatal(err)
		}
		return text
	}
	forget := func() {
		if err := s.SetMeta(t.Context(), "log/checkpoint", nil); err != nil {
			t.Fatal(err)
		}
	}
	first := catchUp(t, open(t, dir, s))
	forget()
	if got := problems(t, open(t, dir, s)); first.Size != 0 || got != nil {
		t.Errorf("a crash at the first checkpoint, of %d entries: %v", first.Size, got)
	}
	if catchUp(t, open(t, dir, s)); !bytes.Equal(remembered(), first.Text) {
		t.Error("the first checkpoint is not remembered when the log is opened again")
	}
	fill(t, s, 0, 3, "x")
	newest := catchUp(t, open(t, dir, s))
	forget()
	if got := problems(t, open(t, dir, s)); got != nil {
		t.Errorf("a store that was loaded anew: %v", got)
	}
	if catchUp(t, open(t, dir, s)); !bytes.Equal(remembered(), newest.Text) {
		t.Error("it stays forgotten")
	}
	forget()
	fill(t, s, 3, 1, "x")
	if got := problems(t, open(t, dir, s)); len(got) != 1 || got[0] != "log_forgotten" {
		t.Errorf("a checkpoint that was forgotten: %v", got)
	}
}

// TestRenewNeedsAnotherKey: a key that signed a log begins no second one, also where
// what the store remembers of the first is damaged.
func TestRenewNeedsAnotherKey(t *testing.T) {
	s := memstore.New()
	first := catchUp(t, open(t, t.TempDir(), s))
	for _, text := range [][]byte{first.Text, first.Text[:len(first.Text)-9]} {
		if err := s.SetMeta(t.Context(), "log/checkpoint", text); err != nil {
			t.Fatal(err)
		}
		if err := open(t, t.TempDir(), s).Renew(t.Context()); err == nil {
			t.Errorf("it begins anew after %q", text)
		}
	}
}

// Whatever comes at once and however often the log is opened again: its files are
// those of the store, and each checkpoint continues the ones before.
func TestGrowth(t *testing.T) {
	s, dir := memstore.New(), t.TempDir()
	random := rand.New(rand.NewPCG(3, 4))
	tiles := client.FileFetcher{Root: dir}.ReadTile
	var older []*tlog.Checkpoint
	l := open(t, dir, s)
	for size := 0; size < 3000; {
		n := 1 + random.IntN(300)
		switch random.IntN(4) {
		case 0:
			n = 256 - size%256 // to the end of a file
		case 1:
			n = 1
		}
		fill(t, s, size, n, "x")
		size += n
		if random.IntN(2) == 0 {
			l = open(t, dir, s)
		}
		newer := catchUp(t, l)
		if newer.Size != int64(size) {
			t.Fatalf("a checkpoint of %d entries, of %d", newer.Size, size)
		}
		for _, cp := range older {
			if err := tlog.VerifyConsistency(t.Context(), cp, newer, tiles); err != nil {
				t.Fatal(err)
			}
		}
		older = append(older, newer)
	}
	if found := problems(t, l, older...); found != nil {
		t.Errorf("problems %q", found)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if full, is := strings.CutSuffix(path, ".p"); is {
			if _, err := os.Stat(full); err == nil {
				t.Errorf("%s has parts beside it that nobody needs", full)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Tessera's own fsck reads what is served as a log of its own, at every size at which
// files become full, and finds that it holds together.
func TestTesseraAgrees(t *testing.T) {
	s, dir := memstore.New(), t.TempDir()
	mux := http.NewServeMux()
	open(t, dir, s).Routes(mux)
	server := httptest.NewServer(mux)
	defer server.Close()
	base, err := url.Parse(server.URL + "/log/")
	if err != nil {
		t.Fatal(err)
	}
	served, err := client.NewHTTPFetcher(base, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	leaves := func(file []byte) (hashes [][]byte, err error) {
		var entries api.EntryBundle
		err = entries.UnmarshalText(file)
		for _, e := range entries.Entries {
			hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(e))
		}
		return hashes, err
	}
	had := 0
	for _, size := range []int{1, 255, 256, 300, 513, 65_536, 65_537, 65_536 + 512 + 5} {
		fill(t, s, had, size-had, "x")
		had = size
		l := open(t, dir, s)
		if cp := catchUp(t, l); cp.Size != int64(size) {
			t.Fatalf("a checkpoint of %d entries, of %d", cp.Size, size)
		}
		verifier, err := note.NewVerifier(l.VerifierKey())
		if err != nil {
			t.Fatal(err)
		}
		checked := make(chan error, 1)
		go func() {
			checked <- fsck.New(verifier.Name(), verifier, served, leaves, fsck.Opts{}).Check(t.Context())
		}()
		select {
		case err := <-checked:
			if err != nil {
				t.Errorf("%d entries: %v", size, err)
			}
		case <-time.After(time.Minute): // it waits for ever after a tile that is not as it should
			t.Fatalf("%d entries: a tile is not what Tessera wants", size)
		}
	}
}

// A log that is lost, or that comes back as it was once, is written again, and
// nobody sees a checkpoint shorter than what was signed.
func TestLostLog(t *testing.T) {
	s, dir, backup := memstore.New(), t.TempDir(), t.TempDir()
	fill(t, s, 0, 300, "x")
	catchUp(t, open(t, dir, s))
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 300, 9000, "x") // more than one page
	before := catchUp(t, open(t, dir, s))
	fill(t, s, 9300, 10, "x")
	for what, dir := range map[string]string{"lost": t.TempDir(), "as it was once": backup} {
		watched := &watching{Store: s}
		l := open(t, dir, watched)
		after := catchUp(t, l)
		if after.Size != 9310 || watched.least < before.Size {
			t.Errorf("%s: %d entries at the end, %d on the way, %d before", what, after.Size, watched.least, before.Size)
		}
		if found := problems(t, l, before); found != nil {
			t.Errorf("%s: problems %q", what, found)
		}
	}
}

// A large log is continued from its own end: not all of the store is read again.
func TestContinued(t *testing.T) {
	for _, size := range []int{65_536 - 1, 65_536 + 300} {
		s, dir := memstore.New(), t.TempDir()
		fill(t, s, 0, size, "x")
		catchUp(t, open(t, dir, s))
		fill(t, s, size, 3, "x")
		read := &counting{Store: s}
		l := open(t, dir, read)
		if cp := catchUp(t, l); cp.Size != int64(size+3) || read.events > 65_536+256+3 {
			t.Errorf("%d entries: %d then, %d events read", size, cp.Size, read.events)
		}
		if found := problems(t, l); found != nil {
			t.Errorf("%d entries: problems %q", size, found)
		}
		// Without the tiles of its end it is derived from the store.
		if err := os.Remove(filepath.Join(dir, filepath.FromSlash(layout.TilePath(0, uint64(size+3)/256, uint8((size+3)%256))))); err != nil {
			t.Fatal(err)
		}
		fill(t, s, size+3, 1, "x")
		read = &counting{Store: s}
		l = open(t, dir, read)
		if catchUp(t, l); read.events < int64(size) {
			t.Errorf("%d entries: %d events read of a log with a tile that is gone", size, read.events)
		}
		if found := problems(t, l); found != nil {
			t.Errorf("%d entries, with a tile that was gone: problems %q", size, found)
		}
	}
}

// counting is a store that counts the events that are read.
type counting struct {
	resolver.Store
	events int64
}

func (c *counting) EventsFrom(ctx context.Context, seq int64, limit int) ([]resolver.Event, error) {
	events, err := c.Store.EventsFrom(ctx, seq, limit)
	c.events += int64(len(events))
	return events, err
}

// watching is a store that notes the shortest log that is published over it.
type watching struct {
	resolver.Store
	least int64
}

func (w *watching) SetMeta(ctx context.Context, key string, value []byte) error {
	size, err := strconv.ParseInt(strings.Split(string(value), "\n")[1], 10, 64)
	if err != nil {
		return err
	}
	if w.least == 0 || size < w.least {
		w.least = size
	}
	return w.Store.SetMeta(ctx, key, value)
}

// What cannot be written changes nothing: the next attempt goes on from there.
func TestNoRoom(t *testing.T) {
	s, dir := memstore.New(), t.TempDir()
	fill(t, s, 0, 300, "x")
	l := open(t, dir, s)
	before := catchUp(t, l)
	blocked := filepath.Join(dir, "tile", "entries", "001.p")
	if err := os.RemoveAll(blocked); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blocked, nil, 0o644); err != nil { // where a directory belongs
		t.Fatal(err)
	}
	fill(t, s, 300, 100, "x")
	if err := follow(t, l, time.Minute); err == nil {
		t.Fatal("written where nothing can be written")
	}
	if cp, err := l.Checkpoint(t.Context()); err != nil || !bytes.Equal(cp.Text, before.Text) {
		t.Errorf("another checkpoint over files that are not there: %v", err)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if cp := catchUp(t, l); cp.Size != 400 {
		t.Errorf("%d entries of 400", cp.Size)
	}
	if found := problems(t, l, before); found != nil {
		t.Errorf("problems %q", found)
	}
}

// A file with the name of a tile that no log can have is reported.
func TestStrayFiles(t *testing.T) {
	s, dir := memstore.New(), t.TempDir()
	fill(t, s, 0, 300, "x")
	l := open(t, dir, s)
	catchUp(t, l)
	for _, name := range []string{"0/x999/x999/x999/x999/x999/999", "entries/x999/x999/x999/x999/x999/999"} {
		path := filepath.Join(dir, "tile", filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := problems(t, l); len(got) != 2 || got[0] != "log_file" || got[1] != "log_file" {
		t.Errorf("problems %v", got)
	}
}

// Any byte of any file that is flipped is found.
func TestFlippedBytes(t *testing.T) {
	s, dir := memstore.New(), t.TempDir()
	fill(t, s, 0, 600, "x")
	l := open(t, dir, s)
	catchUp(t, l)
	flipped := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, ".state") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, at := range []int{0, len(data) / 3, len(data) - 1} {
			bad := bytes.Clone(data)
			bad[at] ^= 1
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				return err
			}
			if problems(t, l) == nil {
				t.Errorf("%s: byte %d was flipped, and nothing found", path, at)
			}
			flipped++
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		// Of tiles that grew, older ones may lie around that nobody needs.
		if problems(t, l) == nil && !strings.Contains(path, ".p") {
			t.Errorf("%s is gone, and nothing found", path)
		}
		return os.WriteFile(path, data, 0o644)
	})
	if err != nil || flipped < 15 {
		t.Fatalf("%d bytes flipped, %v", flipped, err)
	}
	if got := problems(t, l); got != nil {
		t.Errorf("mended: %v", got)
	}
}

// TestManyProofs: a record may have as many events as a bundle holds, and all of them
// are proven in a moment.
func TestManyProofs(t *testing.T) {
	const many, name = 1 << 16, "AAAAAAAAZZZZZZZZZZZZZZZZZZ"
	s := memstore.New()
	fill(t, s, 0, 300, "x")
	u := resolver.Update{Record: resolver.Record{Suffix: name}}
	for i := range many {
		u.Events = append(u.Events, resolver.Event{Suffix: name, SHA256: sha256.Sum256(fmt.Append(nil, i))})
	}
	if _, err := s.Commit(t.Context(), []resolver.Update{u}); err != nil {
		t.Fatal(err)
	}
	l := open(t, t.TempDir(), s)
	cp := catchUp(t, l)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, err := l.Prove(t.Context(), name)
	runtime.ReadMemStats(&after)
	// A node that is made anew for each event takes some hundred hashes.
	if each := (after.Mallocs - before.Mallocs) / many; each > 150 {
		t.Errorf("%d allocations for an event", each)
	}
	if err != nil || len(p.Events) != many || len(p.Pending) > 0 {
		t.Fatal(err)
	}
	for i := 0; i < many; i += 13 {
		e := p.Events[i]
		path := make([][]byte, len(e.Path))
		for j, text := range e.Path {
			if path[j], err = hex.DecodeString(text); err != nil {
				t.Fatal(err)
			}
		}
		leaf := rfc6962.DefaultHasher.HashLeaf(resolver.Leaf(u.Events[i]))
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(e.Seq), uint64(cp.Size), leaf, path, cp.Root[:]); err != nil {
			t.Fatalf("event %d: %v", e.Seq, err)
		}
	}
}

func TestProofs(t *testing.T) {
	s, dir := memstore.New(), t.TempDir()
	fill(t, s, 0, 5, "x")
	service, err := resolver.NewService(resolver.Config{Store: s, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.Submit(t.Context(), resolver.Submission{Data: seed.Bundle()}); err != nil {
		t.Fatal(err)
	}
	l := open(t, dir, s)
	mux := http.NewServeMux()
	l.Routes(mux)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	if w := get("/pith/" + suffix + "/proof.json"); w.Code != 404 {
		t.Errorf("a proof without a checkpoint: %d", w.Code)
	}
	catchUp(t, l)
	text := get("/pith/" + suffix + "/proof.json").Body.Bytes()
	logKey := strings.TrimSpace(get("/log/key").Body.String())
	cp, err := tlog.VerifyInclusion(text, logKey, seed.Bundle())
	if err != nil || cp.Size != 7 {
		t.Fatalf("%v %+v", err, cp)
	}
	for short, want := range map[string]int{suffix[:8]: 302, strings.ToLower(suffix[:12]): 302, suffix[:16]: 302, suffix[:9]: 404, "AAAAAAAA": 300, "ZZZZZZZZ": 404, "a%2Fb%2Fcdef": 404} {
		w := get("/pith/" + short + "/proof.json")
		if to := w.Header().Get("Location"); w.Code != want || (want == 302) != (to == "/pith/"+suffix+"/proof.json") {
			t.Errorf("the proof of %s: %d %s, want %d", short, w.Code, to, want)
		}
	}
	if w := get("/log/checkpoint"); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), cp.Text) {
		t.Errorf("checkpoint: %d", w.Code)
	}
	if w := get("/log/tile/0/000.p/7"); w.Code != 200 || w.Body.Len() != 7*32 {
		t.Errorf("tile: %d, %d bytes", w.Code, w.Body.Len())
	}
	for _, path := range []string{"/log/tile/../checkpoint", "/log/tile/%2e%2e/.state/treeState", "/log/tile/0/..%2f..%2fcheckpoint", "/log/tile/", "/log/tile/entries"} {
		if w := get(path); w.Code == 200 {
			t.Errorf("%s is served", path)
		}
	}

	var p tlog.Proof
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(*tlog.Proof){
		"another place":     func(p *tlog.Proof) { p.Events[0].Seq-- },
		"another hash":      func(p *tlog.Proof) { p.Events[0].Path[0] = strings.Repeat("0", 64) },
		"an event less":     func(p *tlog.Proof) { p.Events = p.Events[1:] },
		"another signature": func(p *tlog.Proof) { p.Checkpoint = strings.Replace(p.Checkpoint, "\n7\n", "\n8\n", 1) },
	} {
		var bad tlog.Proof
		if err := json.Unmarshal(text, &bad); err != nil {
			t.Fatal(err)
		}
		damage(&bad)
		data, _ := json.Marshal(bad)
		if _, err := tlog.VerifyInclusion(data, logKey, seed.Bundle()); err == nil {
			t.Errorf("%s is believed", name)
		}
	}
}

// Run publishes what comes in while it runs.
func TestRun(t *testing.T) {
	s := memstore.New()
	service, err := resolver.NewService(resolver.Config{Store: s, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l := open(t, dir, s)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, service.Changed) }()
	if _, err := service.Submit(t.Context(), resolver.Submission{Data: seed.Bundle()}); err != nil {
		t.Fatal(err)
	}
	for l.Size(t.Context()) != 2 { // ends with the test's deadline at the latest
		time.Sleep(10 * time.Millisecond)
	}
	// Another process waits for it no longer than until all is published.
	if err := follow(t, open(t, dir, s), time.Hour); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// While a store is loaded the log grows beside, and has all of it at the end.
func TestFollow(t *testing.T) {
	s, dir := memstore.New(), t.TempDir()
	l := open(t, dir, s)
	loaded, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- l.Follow(t.Context(), loaded, time.Minute) }()
	fill(t, s, 0, 300, "x")
	for l.Size(t.Context()) != 300 {
		select {
		case err := <-done:
			t.Fatalf("it ended before the store was loaded: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	fill(t, s, 300, 700, "x")
	close(loaded)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if size := l.Size(t.Context()); size != 1000 {
		t.Errorf("%d entries of 1000", size)
	}
	if found := problems(t, l); len(found) > 0 {
		t.Errorf("problems %q", found)
	}
}

// A store that is loaded anew is behind its log for a while.
func TestLoadedAnew(t *testing.T) {
	lost, again, dir := memstore.New(), memstore.New(), t.TempDir()
	fill(t, lost, 0, 300, "x")
	before := catchUp(t, open(t, dir, lost))
	l := open(t, dir, again)
	loaded, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- l.Follow(t.Context(), loaded, time.Minute) }()
	time.Sleep(50 * time.Millisecond) // most likely it has seen the empty store
	fill(t, again, 0, 301, "x")
	close(loaded)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if found := problems(t, l, before); found != nil || l.Size(t.Context()) != 301 {
		t.Errorf("%d entries, problems %q", l.Size(t.Context()), found)
	}
}

// slow is a store that takes longer than the log waits for its turn.
type slow struct{ resolver.Store }

func (s slow) Meta(ctx context.Context, key string) ([]byte, error) {
	time.Sleep(100 * time.Millisecond)
	return s.Store.Meta(ctx, key)
}

// Who has its turn says what it finds, however long that takes.
func TestSlowStore(t *testing.T) {
	s, forged, dir := memstore.New(), memstore.New(), t.TempDir()
	fill(t, s, 0, 10, "x")
	fill(t, forged, 0, 10, "y")
	catchUp(t, open(t, dir, s))
	if err := follow(t, open(t, dir, slow{forged}), 20*time.Millisecond); !errors.Is(err, tlog.ErrHistory) {
		t.Errorf("a log that is not the store's: %v", err)
	}
}

// What a crash leaves half written is no damage, and goes with the next writer.
func TestLeftovers(t *testing.T) {
	dir, s := t.TempDir(), memstore.New()
	l := open(t, dir, s)
	catchUp(t, l) // of no events: a directory without entries
	if found := problems(t, l); len(found) > 0 {
		t.Errorf("of an empty log: %q", found)
	}
	fill(t, s, 0, 3, "one")
	catchUp(t, l)
	torn := []string{".checkpoint.1.tmp", "tile/0/.001.1234567.tmp", "tile/0/0001234567"}
	for i, name := range torn {
		torn[i] = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.WriteFile(torn[i], []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if found := problems(t, l); len(found) > 0 {
		t.Errorf("of a torn tile: %q", found)
	}
	catchUp(t, l)
	for _, path := range torn {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s stays: %v", path, err)
		}
	}
}

// TestPublicKey: the key of a log is in its line, whatever letters that takes.
func TestPublicKey(t *testing.T) {
	for i := range 64 {
		seed := sha256.Sum256([]byte{byte(i)})
		key, err := pith.NewKey(seed[:], pith.Signer{ID: "a", Type: "mirror", KeyID: "1"})
		if err != nil {
			t.Fatal(err)
		}
		line, err := note.NewEd25519VerifierKey("pith-mirror/x", key.Public().Key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tlog.PublicKey(line); err != nil || !got.Equal(key.Public().Key) {
			t.Errorf("%s: %x %v", line, got, err)
		}
	}
	for _, line := range []string{"", "a", "a+b", "a+b+c", "pith-mirror/x+00000000+AAAA"} {
		if _, err := tlog.PublicKey(line); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
}
