package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/replicate"
	"github.com/openpith/evidence/replicate/study"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check DIR",
		Short: "Check that a study's record follows from its plan and runs",
		Long: `Derives the results from plan.json and runs/ again, compares them with
results.json and with the digests in the signed record, and verifies the bundle
under the study's own trust file. Nothing is trained.

Exit codes: 0 it all follows; 1 it does not; 2 it could not be checked.`,
		Args:    cobra.ExactArgs(1),
		Example: "  smoothout check runs/quick",
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := replicate.Check(study.Dir(args[0]))
			switch {
			case errors.Is(err, replicate.ErrCheck), errors.Is(err, study.ErrRunFile):
				return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "some file was changed after the record was signed; ask its signer for the original"}
			case err != nil:
				return cli.Hint(err, "DIR is the --out directory of a finished smoothout replicate")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\nThe results follow from the plan and %d runs; the record %s says so; the bundle is %s.\n",
				res.Results.Statement, len(res.Results.Runs), res.EventID, res.Bundle.Verdict())
			return nil
		},
	}
}
