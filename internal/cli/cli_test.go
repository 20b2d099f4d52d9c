package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestRunExitCodesAndWords(t *testing.T) {
	boom := errors.New("file is torn")
	tests := []struct {
		name   string
		args   []string
		err    error
		code   int
		stderr []string // every one must appear
	}{
		{"success", nil, nil, ExitOK, nil},
		{"rejected quietly", nil, Exit(ExitRejected), ExitRejected, nil},
		{"untrusted quietly", nil, Exit(ExitUntrusted), ExitUntrusted, nil},
		{"hint", nil, Hint(boom, "fetch %s again", "it"), ExitNotChecked, []string{"tool: error: file is torn\n", "tool: hint: fetch it again\n"}},
		{"plain error", nil, boom, ExitNotChecked, []string{"tool: error: file is torn\n"}},
		{"a stranger's words", nil, errors.New("got \x1b]0;own\x07\ntool: error: all is well"), ExitNotChecked, []string{"tool: error: got \ufffd]0;own\ufffd\n  tool: error: all is well\n"}},
		{"missing flag", []string{"--count", "1"}, nil, ExitNotChecked, []string{"tool: error: missing: --must\n", "tool: hint: see tool --help\n"}},
		{"unknown flag", []string{"--nope"}, nil, ExitNotChecked, []string{"tool: error: unknown flag: --nope\n", "tool: hint: see tool --help\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := &cobra.Command{Use: "tool", RunE: func(*cobra.Command, []string) error { return tt.err }}
			root.Flags().Int("count", 0, "")
			root.Flags().Bool("must", false, "")
			if tt.name == "missing flag" {
				root.MarkFlagRequired("must")
			}
			var out, errs bytes.Buffer
			code := Run(context.Background(), root, append([]string{}, tt.args...), strings.NewReader(""), &out, &errs)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if tt.stderr == nil && errs.Len() > 0 {
				t.Errorf("unexpected words: %q", errs.String())
			}
			for _, want := range tt.stderr {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("stderr %q lacks %q", errs.String(), want)
				}
			}
			if strings.Contains(errs.String(), "hint") != strings.Contains(strings.Join(tt.stderr, ""), "hint") {
				t.Errorf("a hint where none was wanted: %q", errs.String())
			}
			if out.Len() > 0 {
				t.Errorf("stdout should stay empty, has %q", out.String())
			}
		})
	}
}

func TestHelpEndsWithTheExample(t *testing.T) {
	root := &cobra.Command{Use: "tool", Example: "  tool talk.json", RunE: func(*cobra.Command, []string) error { return nil }}
	root.Flags().Bool("json", false, "print JSON")
	var out bytes.Buffer
	Run(context.Background(), root, []string{"--help"}, strings.NewReader(""), &out, &out)
	if !strings.HasSuffix(out.String(), "Example:\n  tool talk.json\n") {
		t.Errorf("help does not end with the example:\n%s", out.String())
	}
}

// A group that is called without one of its commands has done nothing, so it
// must not end with exit code 0.
func TestGroupsNeedACommand(t *testing.T) {
	tests := []struct {
		args   []string
		code   int
		stderr string
	}{
		{[]string{"key"}, ExitNotChecked, "tool: error: tool key needs a command\ntool: hint: one of: new, show\n"},
		{[]string{"key", "frob"}, ExitNotChecked, "tool: error: unknown command \"frob\" for tool key\ntool: hint: see tool key --help\n"},
		{[]string{"key", "shwo"}, ExitNotChecked, "tool: error: unknown command \"shwo\" for tool key\ntool: hint: did you mean show?\n"},
		{[]string{"kye"}, ExitNotChecked, "tool: error: unknown command \"kye\" for tool\ntool: hint: did you mean key?\n"},
		{[]string{"key", "new"}, ExitOK, ""},
		{[]string{"key", "--help"}, ExitOK, ""},
		{[]string{"help", "nosuch"}, ExitNotChecked, "tool: error: unknown command \"nosuch\" for tool\ntool: hint: see tool --help\n"},
		{[]string{"help", "key", "shwo"}, ExitNotChecked, "tool: error: unknown command \"shwo\" for tool key\ntool: hint: did you mean show?\n"},
		{[]string{"help", "key", "show"}, ExitOK, ""},
		{[]string{"help"}, ExitOK, ""},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			run := func(*cobra.Command, []string) error { return nil }
			root, key := &cobra.Command{Use: "tool"}, &cobra.Command{Use: "key"}
			key.AddCommand(&cobra.Command{Use: "new", RunE: run}, &cobra.Command{Use: "show", RunE: run})
			root.AddCommand(key)
			var out, errs bytes.Buffer
			code := Run(context.Background(), root, append([]string{}, tt.args...), strings.NewReader(""), &out, &errs)
			if code != tt.code || errs.String() != tt.stderr {
				t.Errorf("exit code %d, stderr %q; want %d, %q", code, errs.String(), tt.code, tt.stderr)
			}
			if tt.code != ExitOK && out.Len() > 0 {
				t.Errorf("stdout should stay empty, has %q", out.String())
			}
		})
	}
}

// The tool alone shows its help, and has done nothing either.
func TestToolAloneShowsItsHelp(t *testing.T) {
	root := &cobra.Command{Use: "tool", Example: "  tool sub"}
	root.AddCommand(&cobra.Command{Use: "sub", Run: func(*cobra.Command, []string) {}})
	var out, errs bytes.Buffer
	if code := Run(context.Background(), root, []string{}, strings.NewReader(""), &out, &errs); code != ExitNotChecked {
		t.Errorf("exit code %d", code)
	}
	if out.Len() > 0 || !strings.HasSuffix(errs.String(), "Example:\n  tool sub\n") {
		t.Errorf("stdout %q, stderr %q", out.String(), errs.String())
	}
}

// TestUsage: what is wrong with a command line is said in words for people.
func TestUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                             "tool wants A B, and got nothing",
		"a":                            "tool wants A B, and got 1 argument",
		"a b c":                        "tool wants A B, and got 3 arguments",
		"sub x":                        "tool sub takes no arguments, and got \"x\"",
		"a b":                          "missing: --from and --to",
		"a b --from x --to y":          "missing: --in or --out",
		"a b --in --out --from= --to=": "--in and --out exclude each other",
		"a b --count x":                "--count: \"x\" is no whole number",
		"a b --wait x":                 "--wait: \"x\" is no duration like 30s or 5m",
		"a b --in=x":                   "--in: \"x\" is neither true nor false",
		"a b --nope":                   "unknown flag: --nope",
	} {
		run := func(*cobra.Command, []string) error { return nil }
		root := &cobra.Command{Use: "tool A B", Args: cobra.ExactArgs(2), RunE: run}
		root.AddCommand(&cobra.Command{Use: "sub", Args: cobra.NoArgs, RunE: run})
		flags := root.Flags()
		flags.Int("count", 0, "")
		flags.Duration("wait", 0, "")
		for _, name := range []string{"from", "to"} {
			flags.String(name, "", "")
			root.MarkFlagRequired(name)
		}
		for _, name := range []string{"in", "out"} {
			flags.Bool(name, false, "")
		}
		root.MarkFlagsOneRequired("in", "out")
		root.MarkFlagsMutuallyExclusive("in", "out")
		var errs bytes.Buffer
		code := Run(context.Background(), root, strings.Fields(args), strings.NewReader(""), &bytes.Buffer{}, &errs)
		if first, _, _ := strings.Cut(errs.String(), "\n"); code != ExitNotChecked || first != "tool: error: "+want {
			t.Errorf("%q: exit code %d, %q, want %q", args, code, first, want)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// An answer that nobody could read is none, whatever it was.
func TestLostOutput(t *testing.T) {
	for _, verdict := range []int{ExitOK, ExitRejected, ExitUntrusted} {
		root := &cobra.Command{Use: "tool", RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), "an answer") // without a look at the error
			return Exit(verdict)
		}}
		var errs bytes.Buffer
		if code := Run(context.Background(), root, []string{}, strings.NewReader(""), full{}, &errs); code != ExitNotChecked {
			t.Errorf("exit code %d", code)
		}
		if want := "tool: error: standard output: no space left\ntool: hint: "; !strings.HasPrefix(errs.String(), want) {
			t.Errorf("stderr %q", errs.String())
		}
	}
}

// Who interrupts a command reads that, and not what the program calls it.
func TestInterrupted(t *testing.T) {
	for wrap, want := range map[string]string{"read x: %w": "interrupted", "training interrupted in epoch 3: %w": "training interrupted in epoch 3: context canceled"} {
		ctx, stop := context.WithCancel(t.Context())
		root := &cobra.Command{Use: "tool", RunE: func(cmd *cobra.Command, _ []string) error {
			stop()
			return Hint(fmt.Errorf(wrap, cmd.Context().Err()), "the same command goes on")
		}}
		var out, errs bytes.Buffer
		if code := Run(ctx, root, nil, nil, &out, &errs); code != ExitNotChecked || errs.String() != "tool: error: "+want+"\ntool: hint: the same command goes on\n" {
			t.Errorf("exit code %d, %q", code, errs.String())
		}
	}
}

// Also when somebody interrupts the command, which did not notice.
func TestLostOutputOfTheInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, returned := range []error{nil, Exit(ExitUntrusted), Hint(context.Canceled, "the same command goes on")} {
		root := &cobra.Command{Use: "tool", RunE: func(cmd *cobra.Command, _ []string) error {
			cancel()
			fmt.Fprintln(cmd.OutOrStdout(), "an answer")
			return returned
		}}
		var errs bytes.Buffer
		if code := Run(ctx, root, []string{}, strings.NewReader(""), full{}, &errs); code != ExitNotChecked {
			t.Errorf("exit code %d", code)
		}
		if errors.Is(returned, context.Canceled) != strings.Contains(errs.String(), "goes on") {
			t.Errorf("stderr %q", errs.String())
		}
	}
}
func TestVersion(t *testing.T) {
	root := &cobra.Command{Use: "tool", RunE: func(*cobra.Command, []string) error { return nil }}
	var out bytes.Buffer
	if code := Run(context.Background(), root, []string{"--version"}, strings.NewReader(""), &out, &out); code != ExitOK {
		t.Fatalf("exit code %d", code)
	}
	if got := out.String(); !strings.HasPrefix(got, "tool ") || !strings.Contains(got, "revision ") || strings.Count(got, "\n") != 1 {
		t.Errorf("version is %q", got)
	}
}
