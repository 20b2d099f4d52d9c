// Package cli is the plumbing that pith and smoothout share: how a command
// fails, what it prints then, and with which exit code.
//
// Data goes to stdout, words go to stderr. A command returns an error instead
// of exiting, so tests can call it like any function.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes. They mean the same in every sub-command of both tools and are
// part of the interface: scripts rely on them.
const (
	ExitOK         = 0 // done; for checks: valid, and trusted as the policy asks
	ExitRejected   = 1 // checked, and wrong
	ExitNotChecked = 2 // could not check or could not do it: usage, I/O, unreadable input
	ExitUntrusted  = 3 // valid, but not enough trust under the policy
)

// An Error carries what the person at the keyboard needs: the exit code, what
// went wrong, and what to do about it.
type Error struct {
	Code int    // one of the Exit constants
	Err  error  // what was wrong, and where; nil when the output has already said it
	Hint string // what to do; may be empty
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Hint wraps err so that it ends the command with ExitNotChecked and tells
// the reader what to do.
func Hint(err error, hint string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Code: ExitNotChecked, Err: err, Hint: fmt.Sprintf(hint, args...)}
}

// Exit ends the command with code and prints nothing more: the data on stdout
// already says everything.
func Exit(code int) error {
	if code == ExitOK {
		return nil
	}
	return &Error{Code: code}
}

// Main runs root as the process: it hands SIGINT and SIGTERM to the command
// as a cancelled context, so that long work can save itself, and exits.
func Main(root *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks politely; restoring the default handler right
	// after it lets a second one end the process at once.
	context.AfterFunc(ctx, stop)
	code := Run(ctx, root, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run executes root with the given arguments and streams and returns the exit
// code. Errors are printed to stderr as "tool: error: …" and "tool: hint: …".
func Run(ctx context.Context, root *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetIn(stdin)
	out := &output{to: stdout}
	root.SetOut(out)
	root.SetErr(stderr)
	root.SetUsageTemplate(usageTemplate)
	if root.Version == "" {
		root.Version = Version()
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetHelpCommand(helpCommand())
	askForCommands(root)
	understood := false // whether the command line made sense
	whenRun(root, func() { understood = true })
	cmd, err := root.ExecuteContextC(ctx)
	// Whatever was found out, nobody was told. Who interrupts a command may take the
	// reader of its output away as well: then that it was interrupted says more.
	interrupted := ctx.Err() != nil && errors.Is(err, ctx.Err())
	if out.err != nil && !interrupted {
		err = Hint(fmt.Errorf("standard output: %w", out.err), "the output is not complete; make room, or send it elsewhere")
	}
	if err == nil {
		return ExitOK
	}
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: ExitNotChecked, Err: err}
		if !understood {
			err = usage(cmd, err)
			e.Hint = fmt.Sprintf("see %s --help", cmd.CommandPath())
		}
	}
	if e.Err != nil {
		text := strings.TrimSpace(err.Error())
		if interrupted && !strings.Contains(text, "interrupted") { // the command itself may say more
			text = "interrupted"
		}
		fmt.Fprintf(stderr, "%s: error: %s\n", root.Name(), lines(text))
	}
	if e.Hint != "" {
		fmt.Fprintf(stderr, "%s: hint: %s\n", root.Name(), lines(e.Hint))
	}
	return e.Code
}

// whenRun calls note before any command runs. Cobra's own hooks come too early:
// required flags are asked for after them.
func whenRun(cmd *cobra.Command, note func()) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			note()
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		whenRun(sub, note)
	}
}

// output is standard output. It remembers that something could not be written,
// so that no command needs to ask after every line and none ends with exit code 0
// although its answer was lost.
type output struct {
	to  io.Writer
	err error // the first
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// askForCommands makes every command that only groups others say so. Cobra
// would answer a missing or unknown sub-command with the help text and exit
// code 0, which a script takes for success.
func askForCommands(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs // RunE judges them, in one line
		cmd.RunE = needCommand
		cmd.SuggestionsMinimumDistance = 2
	}
	for _, sub := range cmd.Commands() {
		askForCommands(sub)
	}
}

// needCommand runs a group that was called without one of its commands. The
// tool alone shows its help as well, as words: whoever types that wants to see it.
func needCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 && !cmd.HasParent() {
		cmd.SetOut(cmd.ErrOrStderr())
		if err := cmd.Help(); err != nil {
			return err
		}
		return Exit(ExitNotChecked)
	}
	if len(args) == 0 {
		var names []string
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		return Hint(fmt.Errorf("%s needs a command", cmd.CommandPath()), "one of: %s", strings.Join(names, ", "))
	}
	err := fmt.Errorf("unknown command %q for %s", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return Hint(err, "did you mean %s?", strings.Join(near, " or "))
	}
	return Hint(err, "see %s --help", cmd.CommandPath())
}

// Version names the module's version and the revision it was built from, as
// far as the build knows them.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown build)"
	}
	revision, changed := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	return fmt.Sprintf("%s, revision %s%s, %s", cmp.Or(info.Main.Version, "(devel)"), revision, changed, info.GoVersion)
}

// usageTemplate is cobra's, with the example moved to the end, where the eye
// lands in a terminal.
const usageTemplate = `Usage:{{if and .Runnable (not .HasAvailableSubCommands)}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Global flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasExample}}

Example:
{{.Example}}{{end}}
`
