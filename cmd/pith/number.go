package main

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
)

func numberCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "number [FILE...|-]",
		Short: "Print the Pith Numbers of canonical records",
		Long: `number reads canonical records, one JSON value after another, and prints for
each its Pith Number, a tab, and the SHA-256 of its canonical form.`,
		Example: "  jq .canonical_record bundle.json | pith number",
		RunE: func(cmd *cobra.Command, args []string) error {
			out := bufio.NewWriter(cmd.OutOrStdout())
			for _, path := range orStdin(args) {
				err := eachValue(cmd, path, func(value []byte) error {
					number, sha256hex, err := pith.Number(value)
					var check *pith.CheckError
					if errors.As(err, &check) {
						return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "number reads canonical records: jq .canonical_record bundle.json | pith number"}
					}
					if err == nil {
						_, err = fmt.Fprintf(out, "%s\t%s\n", number, sha256hex)
					}
					return err
				})
				if err != nil {
					return errors.Join(err, out.Flush())
				}
			}
			return out.Flush()
		},
	}
}

func canonCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "canon [FILE...|-]",
		Short:   "Print JSON values in canonical form, one per line",
		Example: "  echo '{\"b\": 1.0, \"a\": \"é\"}' | pith canon",
		RunE: func(cmd *cobra.Command, args []string) error {
			out := bufio.NewWriter(cmd.OutOrStdout())
			for _, path := range orStdin(args) {
				err := eachValue(cmd, path, func(value []byte) error {
					canonical, err := pith.Canonical(value)
					if err == nil {
						_, err = out.Write(line(canonical))
					}
					return err
				})
				if err != nil {
					return errors.Join(err, out.Flush())
				}
			}
			return out.Flush()
		},
	}
}

// eachValue calls visit with every JSON value of an input. Errors say which one
// it was.
func eachValue(cmd *cobra.Command, path string, visit func([]byte) error) error {
	f, err := open(cmd, path)
	if err != nil {
		return err
	}
	defer f.Close()
	values := bufio.NewScanner(f)
	values.Buffer(nil, pith.MaxSize+1)
	values.Split(pith.SplitValues())
	n := 0
	for values.Scan() {
		n++
		if err := visit(values.Bytes()); err != nil {
			err = fmt.Errorf("%s, value %d: %w", path, n, err)
			var hinted *cli.Error
			if errors.As(err, &hinted) {
				return &cli.Error{Code: hinted.Code, Err: err, Hint: hinted.Hint}
			}
			return failed(err)
		}
	}
	switch err := values.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return cli.Hint(fmt.Errorf("%s, value %d: more than %d bytes", path, n+1, pith.MaxSize), "the limits stand in spec/10-limits.md")
	case err != nil: // which names the file
		return cli.Hint(err, "check that the file is readable")
	}
	if n == 0 {
		return cli.Hint(fmt.Errorf("%s holds no JSON value", path), "check what was piped in")
	}
	return nil
}
