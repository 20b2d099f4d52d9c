package web

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tools makes sure that a test can type what a page or document tells people to
// type, and returns an environment in which the pith command is found.
func tools(t *testing.T) []string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the pith command")
	}
	for _, tool := range []string{"sh", "curl", "jq", "sha256sum", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, "pith"), "github.com/openpith/evidence/cmd/pith").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
}

// TestDocumentation types the console blocks of the reading part of
// docs/resolver.md, in order, and compares what comes.
func TestDocumentation(t *testing.T) {
	env := tools(t)
	text, err := os.ReadFile("../../docs/resolver.md")
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(c *Config) { c.BaseURL, c.Trust = "", nil })
	l.use(fill(t, canonicalSeed(t)))
	server := httptest.NewServer(l)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")

	_, reading, _ := strings.Cut(string(text), "\n## Reading\n")
	reading, _, _ = strings.Cut(reading, "\n## ")
	var script, want strings.Builder
	commands := 0
	for i, block := range strings.Split(reading, "```console\n") {
		if i == 0 {
			continue
		}
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			want.WriteString(line)
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands++
				script.WriteString("cat <<'COMMAND'\n" + line + "COMMAND\n" + command)
			}
		}
	}
	cmd := exec.Command("sh", "-e")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(script.String(), "localhost:8017", host))
	cmd.Dir, cmd.Env = t.TempDir(), env
	got, err := cmd.CombinedOutput()
	if out := strings.ReplaceAll(string(got), host, "localhost:8017"); err != nil || out != want.String() || commands < 10 {
		t.Errorf("%d commands, %v; typed:\n%s\nwritten:\n%s", commands, err, out, want.String())
	}
}
