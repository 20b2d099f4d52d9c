package cli

import (
	"bytes"
	"context"
	"errors"
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
		{"unknown flag", []string{"--nope"}, nil, ExitNotChecked, []string{"tool: error: unknown flag: --nope\n", "tool: hint: see tool --help\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := &cobra.Command{Use: "tool", RunE: func(*cobra.Command, []string) error { return tt.err }}
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
