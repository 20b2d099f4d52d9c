package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/openpith/evidence/internal/cli"
)

// askPassphrase takes the passphrase of a key from the environment, for scripts,
// or asks who sits at the terminal.
func askPassphrase(cmd *cobra.Command, of string) (string, error) {
	if p, ok := os.LookupEnv("PITH_PASSPHRASE"); ok {
		return p, nil
	}
	return ask(cmd, "passphrase of "+of+": ")
}

// askNewPassphrase is askPassphrase for a key that is about to be made. What is
// typed unseen is typed twice: a slip would lock the key for ever.
func askNewPassphrase(cmd *cobra.Command, of string) (string, error) {
	if p, ok := os.LookupEnv("PITH_PASSPHRASE"); ok {
		return p, nil
	}
	first, err := ask(cmd, "new passphrase of "+of+": ")
	if err != nil || first == "" {
		return "", err
	}
	second, err := ask(cmd, "once more: ")
	if err == nil && first != second {
		err = cli.Hint(errors.New("the two passphrases differ"), "nothing was written; try again")
	}
	return first, err
}

// ask reads a line that is not shown, from the terminal: a bundle may be coming
// through standard input. Who interrupts gets a terminal back that shows again
// what is typed.
func ask(cmd *cobra.Command, prompt string) (string, error) {
	name := "/dev/tty"
	if runtime.GOOS == "windows" {
		name = "CONIN$"
	}
	tty, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return "", cli.Hint(errors.New("there is nobody to ask for the passphrase"), "set PITH_PASSPHRASE")
	}
	defer tty.Close()
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", cli.Hint(err, "set PITH_PASSPHRASE")
	}
	fmt.Fprint(cmd.ErrOrStderr(), prompt)
	defer fmt.Fprintln(cmd.ErrOrStderr())
	var (
		text    []byte
		readErr error
		done    = make(chan struct{})
	)
	go func() {
		text, readErr = term.ReadPassword(fd)
		close(done)
	}()
	select {
	case <-done:
	case <-cmd.Context().Done():
		return "", cli.Hint(errors.Join(errors.New("interrupted"), term.Restore(fd, before)), "nothing was done")
	}
	return string(text), readErr
}
