package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"smoothout": main})
}

// The scripts in testdata/script use the command as it is typed, as a process
// of its own, so that it can be killed.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("HOME", env.WorkDir)
			return os.WriteFile(filepath.Join(env.WorkDir, "paper.json"), seed.Bundle(), 0o644)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"waitfor": waitFor,
			"replace": replace,
			"verdict": verdict,
			"status":  status,
		},
	})
}

// status CODE COMMAND…: runs the command, wants that exit code, and leaves
// what it printed to stderr in the file "said".
func status(ts *testscript.TestScript, _ bool, args []string) {
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	said := ts.ReadFile("stderr")
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s; it said:\n%s", got, args[0], said)
	}
	ts.Check(os.WriteFile(ts.MkAbs("said"), []byte(said), 0o644))
}

// waitFor PATTERN: waits until a file matches, for at most a minute.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	for range 600 {
		if found, _ := filepath.Glob(ts.MkAbs(args[0])); len(found) > 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("nothing like %s appeared", args[0])
}

// replace FILE OLD NEW: changes the first occurrence, which must exist.
func replace(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	changed := strings.Replace(text, args[1], args[2], 1)
	if changed == text {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(changed), 0o644))
}

// verdict WORD BUNDLE [TRUST]: what pith says about a bundle.
func verdict(ts *testscript.TestScript, _ bool, args []string) {
	trust := pith.PinnedTrust()
	if len(args) == 3 {
		own, err := pith.ParseTrust([]byte(ts.ReadFile(args[2])))
		ts.Check(err)
		trust, err = trust.Merge(own)
		ts.Check(err)
	}
	if got := pith.Verify([]byte(ts.ReadFile(args[1])), trust).Verdict().String(); got != args[0] {
		ts.Fatalf("%s is %s, want %s", args[1], got, args[0])
	}
}
