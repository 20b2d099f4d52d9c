// Package provenance says which program made a result, and on what machine.
package provenance

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
)

const (
	modulePath = "github.com/openpith/evidence"
	gomlxPath  = "github.com/gomlx/gomlx"
)

// Code identifies the program.
type Code struct {
	Module   string `json:"module"`
	Version  string `json:"version"`  // of the module, "(devel)" for a checkout
	Revision string `json:"revision"` // of the version control system; "unknown" when nothing says it
	Modified bool   `json:"modified"` // there were changes that are in no revision
	Go       string `json:"go"`
	GoMLX    string `json:"gomlx"`
	Backend  string `json:"backend"` // what computes
}

// CurrentCode says which program this is. The revision comes from the build
// information or, where the go command stamps none ("go run", "go test"), from
// the checkout that the program was compiled from, if that is still there.
func CurrentCode(backend string) Code {
	c := Code{Module: modulePath, Version: "unknown", Revision: "unknown", Go: runtime.Version(), GoMLX: "unknown", Backend: backend}
	if info, ok := debug.ReadBuildInfo(); ok {
		c.Version = info.Main.Version
		for _, d := range info.Deps {
			if d.Path == gomlxPath {
				c.GoMLX = d.Version
			}
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				c.Revision = s.Value
			case "vcs.modified":
				c.Modified = s.Value == "true"
			}
		}
	}
	if c.Revision == "unknown" {
		if r := checkoutRevision(); r.ok {
			c.Revision, c.Modified = r.id, r.modified
		}
	}
	return c
}

type revision struct {
	id           string
	modified, ok bool
}

// checkoutRevision is what git says when the program first asks. It asks once: the
// checkout may move on under a program that runs for hours, and the program does not.
var checkoutRevision = sync.OnceValue(askGit)

// askGit asks git about the directory this file was compiled from.
func askGit() (r revision) {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Dir(filepath.Dir(filepath.Dir(file)))
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil || !strings.Contains(string(mod), "module "+modulePath+"\n") {
		return revision{}
	}
	head, err := exec.Command("git", "-C", root, "rev-parse", "HEAD").Output()
	if err != nil {
		return revision{}
	}
	status, err := exec.Command("git", "-C", root, "status", "--porcelain").Output()
	if err != nil {
		return revision{}
	}
	return revision{strings.TrimSpace(string(head)), len(status) > 0, true}
}

// Environment says where the runs were made: results are reproducible bit for
// bit on the same machine and backend, and to rounding elsewhere.
type Environment struct {
	System  string `json:"system"`  // operating system and architecture
	Machine string `json:"machine"` // processor, as it names itself
	Cores   int    `json:"cores"`
}

// CurrentEnvironment is this machine.
func CurrentEnvironment() Environment {
	return Environment{System: runtime.GOOS + "/" + runtime.GOARCH, Machine: processor(), Cores: runtime.NumCPU()}
}

func processor() string {
	data, err := os.ReadFile("/proc/cpuinfo") // Linux; elsewhere the architecture must do
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}
