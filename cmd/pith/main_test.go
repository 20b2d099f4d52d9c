package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith/seed"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pith": main})
}

// TestScripts runs the commands of testdata/script in a directory of its own
// that holds bundle.json and two proofs. Beside the usual commands there are
//
//	cpenv FILE NAME          put the text of a file into a variable
//	digest FILE OUT          write the event id that these signed bytes have
//	edit FILE OLD NEW OUT    replace the first OLD, which must be there
//	exit CODE pith ARGS...   run pith and ask for its exit code
//	head N FILE OUT          keep the first N bytes
//	repeat N FILE OUT        write FILE N times, each on a line
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			for _, name := range []string{"hello-world.txt.ots", "incomplete.txt.ots"} {
				proof, err := os.ReadFile(filepath.Join("..", "..", "pith", "ots", "testdata", name))
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), proof, 0o644); err != nil {
					return err
				}
			}
			// A stranger signed it anew with a second record, under Canonical_record.
			second, err := os.ReadFile("testdata/second-record.json")
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(env.WorkDir, "second-record.json"), second, 0o644); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "bundle.json"), seed.Bundle(), 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cpenv": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[1], ts.ReadFile(args[0]))
			},
			"digest": func(ts *testscript.TestScript, _ bool, args []string) {
				id := fmt.Sprintf("sha256:%x\n", sha256.Sum256([]byte(ts.ReadFile(args[0]))))
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(id), 0o644))
			},
			"edit":   edit,
			"exit":   exit,
			"head":   head,
			"repeat": repeat,
		},
	})
}

func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: edit FILE OLD NEW OUT")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), []byte(strings.Replace(text, args[1], args[2], 1)), 0o644))
}

func exit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE COMMAND ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

func head(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: head N FILE OUT")
	}
	var n int
	ts.Check(json.Unmarshal([]byte(args[0]), &n))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(ts.ReadFile(args[1])[:n]), 0o644))
}

func repeat(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: repeat N FILE OUT")
	}
	var n int
	ts.Check(json.Unmarshal([]byte(args[0]), &n))
	line := strings.TrimRight(ts.ReadFile(args[1]), "\n") + "\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), bytes.Repeat([]byte(line), n), 0o644))
}

// TestHelp: every command explains itself and ends with an example.
func TestHelp(t *testing.T) {
	commands := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		commands++
		if c.Short == "" || !strings.HasPrefix(c.Example, "  ") || !strings.Contains(c.Example, "pith") {
			t.Errorf("%s has no description or no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root())
	if commands != 50 {
		t.Errorf("%d commands, want 50", commands)
	}
}

// TestUntil: whoever interrupts verify --lines does not wait for a pipe.
func TestUntil(t *testing.T) {
	silent, _ := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	r := until(ctx, silent)
	stop()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if data, err := io.ReadAll(until(t.Context(), strings.NewReader("all of it"))); err != nil || string(data) != "all of it" {
		t.Errorf("got %q, %v", data, err)
	}
}

// Who waits for input can be interrupted.
func TestInterruptedWhileWaiting(t *testing.T) {
	silent, writer := io.Pipe()
	defer writer.Close()
	fifo := filepath.Join(t.TempDir(), "fifo")
	args := [][]string{{"verify", "-"}, {"show", "-"}, {"verify", "--lines", "-"}}
	if exec.Command("mkfifo", fifo).Run() == nil {
		args = append(args, []string{"verify", fifo}, []string{"merge", fifo, fifo})
	}
	for _, a := range args {
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, stop)
		var out, errs bytes.Buffer
		if code := cli.Run(ctx, root(), a, silent, &out, &errs); code != cli.ExitNotChecked || !strings.HasPrefix(errs.String(), "pith: error: interrupted\n") {
			t.Errorf("pith %s: exit code %d, %q", strings.Join(a, " "), code, errs.String())
		}
	}
}
