// Command pith checks, reads and extends Pith bundles, which works offline, and
// runs mirrors of them.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
)

func main() { cli.Main(root()) }

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pith",
		Short: "Check, read and extend Pith records",
		Long: `pith checks what a Pith bundle says about a paper: whether every digest,
signature and number is right, and whether you trust those who signed.

Exit codes: 0 valid and trusted, 1 checked and wrong, 2 could not check,
3 valid, but signed by somebody whom no trust file names.`,
		Example: "  pith verify bundle.json",
	}
	cmd.AddCommand(
		verifyCommand(), showCommand(), logCommand(), explainCommand(),
		mergeCommand(), diffCommand(), stateCommand(), signCommand(),
		openCommand(), eventCommand(), keyCommand(), trustCommand(), otsCommand(),
		exportCommand(), badgeCommand(), numberCommand(), canonCommand(),
		serveCommand(), ingestCommand(), fsckCommand(), moderateCommand(), mirrorCommand(), compareCommand(), archiveCommand(), backupCommand(),
	)
	return cmd
}

// open opens a file named on the command line, where - is standard input. What may
// have to be waited for, like a pipe, ends with the command's context.
func open(cmd *cobra.Command, path string) (io.ReadCloser, error) {
	ctx := cmd.Context()
	if path == "-" {
		in := cmd.InOrStdin()
		cmd.SetIn(spent{})
		return io.NopCloser(until(ctx, in)), nil
	}
	type opened struct {
		file *os.File
		err  error
	}
	done := make(chan opened, 1)
	go func() { // a pipe that nobody writes to is waited for
		f, err := os.Open(path)
		done <- opened{f, err}
	}()
	var file opened
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case file = <-done:
	}
	if file.err != nil {
		return nil, cli.Hint(file.err, "check the name; - stands for standard input")
	}
	if info, err := file.file.Stat(); err == nil && (info.Mode().IsRegular() || info.IsDir()) {
		return file.file, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{until(ctx, file.file), file.file}, nil
}

// spent stands where standard input was.
type spent struct{}

func (spent) Read([]byte) (int, error) {
	return 0, cli.Hint(errors.New("standard input was read already: - stands for one input only"), "name a file for the other")
}

// read reads a whole input, but no more than the format allows plus one byte:
// enough for the reader to say that it is too large.
func read(cmd *cobra.Command, path string) ([]byte, error) {
	f, err := open(cmd, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, pith.MaxSize+1))
	switch {
	case errors.Is(err, context.Canceled):
		return nil, err
	case errors.Is(err, syscall.EISDIR):
		return nil, cli.Hint(err, "name a file, not a directory")
	case err != nil: // which names the file
		return nil, orHint(err, "check that the file is readable")
	}
	return data, nil
}

// readBundle reads a bundle for commands that make something of it. What is
// plainly no bundle is named at once.
func readBundle(cmd *cobra.Command, path string) ([]byte, error) {
	data, err := read(cmd, path)
	if err != nil {
		return nil, err
	}
	if what := otherThing(data); what != "" {
		return nil, cli.Hint(fmt.Errorf("%s is no bundle", path), "%s", what)
	}
	return data, nil
}

// orStdin is the list of inputs, standard input if there is none.
func orStdin(args []string) []string {
	if len(args) == 0 {
		return []string{"-"}
	}
	return args
}

// loadTrust unites the pinned policy with trust files and key documents.
func loadTrust(cmd *cobra.Command, paths []string) (*pith.Trust, error) {
	return uniteTrust(cmd, pith.PinnedTrust(), paths)
}

// uniteTrust adds files to a policy, nil for none.
func uniteTrust(cmd *cobra.Command, trust *pith.Trust, paths []string) (*pith.Trust, error) {
	for _, path := range paths {
		data, err := read(cmd, path)
		if err != nil {
			return nil, err
		}
		more, err := pith.ParseTrust(data)
		if err != nil {
			return nil, cli.Hint(fmt.Errorf("trust file %s: %w", path, err), "%s", hintOf(err))
		}
		if trust == nil {
			trust = more
		} else if trust, err = trust.Merge(more); err != nil {
			return nil, cli.Hint(fmt.Errorf("trust file %s: %w", path, err), "%s", cmp.Or(hintOf(err), "keep the entry that you believe"))
		}
	}
	return trust, nil
}

// exitCode is the exit code that a verdict stands for.
func exitCode(v pith.Verdict) int {
	switch v {
	case pith.Valid:
		return cli.ExitOK
	case pith.Untrusted:
		return cli.ExitUntrusted
	case pith.Rejected:
		return cli.ExitRejected
	}
	return cli.ExitNotChecked
}

// worse returns the exit code that says more about several inputs: that one of
// them is wrong outweighs that one could not be checked, which outweighs trust.
func worse(a, b int) int {
	rank := map[int]int{cli.ExitOK: 0, cli.ExitUntrusted: 1, cli.ExitNotChecked: 2, cli.ExitRejected: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// failed turns an error of package pith into one with exit code and hint.
func failed(err error) error {
	code := cli.ExitNotChecked
	var (
		check   *pith.CheckError
		refused *pith.RefusedError
	)
	switch {
	case errors.As(err, &refused):
		if refused.Authored() || refused.Check.IfFailed != pith.Unreadable {
			code = cli.ExitRejected
		}
	case errors.As(err, &check):
		if check.Check.IfFailed != pith.Unreadable {
			code = cli.ExitRejected
		}
	}
	return &cli.Error{Code: code, Err: err, Hint: hintOf(err)}
}

// failedOn is failed for an error that is about a file, unless it is about what
// the user wants to say.
func failedOn(path string, err error) error {
	if refused := (*pith.RefusedError)(nil); !errors.As(err, &refused) || !refused.Authored() {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return failed(err)
}

// hintOf is what the check that failed, or the strict reader, has for a hint.
func hintOf(err error) string {
	var (
		syntax  *pith.SyntaxError
		check   *pith.CheckError
		refused *pith.RefusedError
		hint    string
	)
	switch {
	case errors.As(err, &syntax):
		_, hint, _ = pith.Explain(pith.Code(syntax.Reason))
	case errors.As(err, &refused):
		hint = refused.Hint()
	case errors.As(err, &check):
		_, hint, _ = pith.Explain(check.Check.Code)
	}
	return hint
}

// line ends data with one newline.
func line(data []byte) []byte { return append(bytes.TrimRight(data, "\n"), '\n') }
