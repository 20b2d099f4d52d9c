package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
)

// TestIngestKeepsTheOrder: what needs something that stands before it gets in,
// though many batches are under way at once, and nothing says it was refused.
func TestIngestKeepsTheOrder(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	key := testNodeKey(t)
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	declaration, err := resolver.DeclareKey(key, at)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := pith.Canonical(seed.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	lines := [][]byte{canonical, declaration}
	const events = 20
	for i := range events {
		bundle, _, err := pith.Append(seed.Bundle(), key, at, pith.Draft{
			Type: pith.TypeCorrection, Target: "record", CreatedAt: at,
			Payload: json.RawMessage(fmt.Sprintf(`{"schema":"correction/1","kind":"erratum","text":"%d"}`, i)),
		})
		if err != nil {
			t.Fatal(err)
		}
		var b struct{ Events []json.RawMessage }
		if err := json.Unmarshal(bundle, &b); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, b.Events[len(b.Events)-1])
	}
	var files []string
	for i, line := range lines[:4] {
		files = append(files, write(fmt.Sprintf("%d.json", i), line))
	}
	for name, args := range map[string][]string{
		"one file each": append([]string{"ingest", "--json", "--unknown", "accepted"}, files...),
		"lines":         {"ingest", "--json", "--unknown", "accepted", "--batch", "1", write("lines.jsonl", append(bytes.Join(lines, []byte("\n")), '\n'))},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var r ingestResult
			if err := json.Unmarshal([]byte(must(t, 0, dir, args...)), &r); err != nil {
				t.Fatal(err)
			}
			store, err := openStore(t.Context(), "sqlite:"+dir+"/pith.db")
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			counts, err := store.Counts(t.Context())
			if err != nil || counts.Refused != 0 || r.Refused != 0 {
				t.Errorf("%+v %+v %v, want nothing refused", counts, r, err)
			}
		})
	}
}

// TestSettingsOfTheMirror: whoever loads a mirror or checks it means the mirror that
// pith serve runs, with its database and its policy.
func TestSettingsOfTheMirror(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := testNodeKey(t)
	trust := write("signers.json", pith.TrustFor(key.Public(), []string{"*"}, true).JSON())
	bundle, _, err := pith.Append(seed.Bundle(), key, time.Now(), pith.Draft{
		Type: pith.TypeCorrection, Target: "record", CreatedAt: time.Now(), Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"x"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := write("bundle.json", bundle)
	db := filepath.Join(dir, "elsewhere.db")
	settings, err := json.Marshal(map[string]any{"db": "sqlite:" + db, "trust": []string{trust}, "listen": "localhost:1", "max-connections": 7})
	if err != nil {
		t.Fatal(err)
	}
	must(t, 3, dir, "ingest", file) // it waits for a moderator
	other := write("other.json", settings)
	must(t, 0, dir, "ingest", "--config", other, "--db", "sqlite:"+filepath.Join(dir, "third.db"), file)
	write("pith/serve.json", settings)
	must(t, 0, dir, "ingest", file)
	if out := must(t, 0, dir, "backup", filepath.Join(dir, "copy.db")); out != "" {
		t.Error(out)
	}
	for _, name := range []string{db, filepath.Join(dir, "copy.db")} {
		store, err := openStore(t.Context(), "sqlite:"+name)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := store.Counts(t.Context()); err != nil || c.Records != 1 || c.Queued != 0 {
			t.Errorf("%s holds %+v, %v", name, c, err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, errs, code := done(t, dir, "fsck", "--config", write("bad.json", []byte(`{"lisen":"x"}`))); code != 2 || !strings.Contains(errs, `nothing is called "lisen"`) {
		t.Errorf("a setting that is none: exit code %d, %s", code, errs)
	}
}

// TestIngestNamesTheMirror: the key that the first command makes signs under the
// name that pith serve would give it.
func TestIngestNamesTheMirror(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "pith"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"pith/serve.json": []byte(`{"name":"mirror.example.org"}`), "bundle.json": seed.Bundle()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must(t, 0, dir, "ingest", filepath.Join(dir, "bundle.json"))
	var keys []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "mirror-key.json" {
			var data []byte
			data, err = os.ReadFile(path)
			keys = append(keys, string(data))
		}
		return err
	})
	if err != nil || len(keys) != 1 || !strings.Contains(keys[0], `"mirror.example.org"`) {
		t.Errorf("keys %q, %v", keys, err)
	}
}

// TestBareEnvironment: a mirror lives with what a container of deploy/Containerfile
// has: a directory for data, and no home, no place for temporary files, no settings.
func TestBareEnvironment(t *testing.T) {
	dir := t.TempDir()
	bare := func(args ...string) *exec.Cmd {
		cmd := pithIn(t, dir, args...)
		cmd.Dir, cmd.Env = "/", []string{"PITH_DATA=" + dir, "PITH_LISTEN=:0", "TMPDIR=/does/not/exist"}
		return cmd
	}
	d := startDaemon(t, bare("serve"))
	resp, err := http.Post(d.url+"/events", "application/json", bytes.NewReader(seed.Bundle()))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("a bundle: %s", resp.Status)
	}
	d.logged(t)
	for _, args := range [][]string{{"fsck"}, {"mirror", "list"}, {"backup", filepath.Join(dir, "backup.db")}, {"archive", "write", filepath.Join(dir, "archive")}} {
		if out, err := bare(args...).CombinedOutput(); err != nil {
			t.Errorf("pith %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	d.kill()
	if out, err := bare("fsck").CombinedOutput(); err != nil {
		t.Errorf("after a kill: %v\n%s", err, out)
	}
}
