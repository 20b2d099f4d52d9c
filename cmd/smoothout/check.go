package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/replicate"
	"github.com/openpith/evidence/replicate/study"
)

func checkCommand() *cobra.Command {
	var trustFiles []string
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Check that a study's record follows from its plan and runs",
		Long: `Derives the results from plan.json and runs/ again, compares them with
results.json and, field by field, with the signed record in bundle.json, and
verifies the bundle. Nothing is trained. What was computed from the runs may
differ by 1e-9 of its size, as between processors; what was recorded must be the
same. Landscapes that the record names must be as they were, others are listed.
report.html, README.md and runs.csv are made from these files and are not checked.

Without --trust, the bundle is verified under the trust file in DIR: the answer
is then that the files agree with one another and with whoever signed them. No
check can tell that the runs took place; that takes another replication.

Exit codes: 0 it all follows; 1 it does not; 2 it could not be checked.`,
		Args:    cobra.ExactArgs(1),
		Example: "  smoothout check runs/quick\n  smoothout check --trust ada.trust.json runs/quick",
		RunE: func(cmd *cobra.Command, args []string) error {
			var trust *pith.Trust
			whose := "its own trust.json"
			if len(trustFiles) > 0 {
				var err error
				if trust, err = trustFrom(trustFiles); err != nil {
					return err
				}
				whose = "your trust file"
			}
			res, err := replicate.Check(study.Dir(args[0]), trust)
			switch {
			case errors.Is(err, replicate.ErrCheck), errors.Is(err, study.ErrRunFile), errors.Is(err, study.ErrPlan):
				return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "if a file was changed after the record was signed, ask its signer for the original"}
			case errors.Is(err, study.ErrNoStudy):
				return cli.Hint(err, "if one was begun there, finish it: smoothout replicate --resume --out %s", args[0])
			case err != nil:
				return cli.Hint(err, "DIR is the --out directory of a finished smoothout replicate")
			}
			r := res.Record
			fmt.Fprintf(cmd.OutOrStdout(), `%s
Record %s and results follow from the plan and %d runs.
Signed by %s, key %s, trusted by %s.
`, res.Results.Statement, r.EventID, len(res.Results.Runs), r.Signer.ID, r.Fingerprint, whose)
			if n := res.Results.TakenOver(); n > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "Trained before the plan was written: %d of the runs.\n", n)
			}
			if len(res.Uncovered) > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "Not in the record, and not checked: %s.\n", strings.Join(res.Uncovered, ", "))
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&trustFiles, "trust", nil, "trust `file` to verify the bundle under (default: the study's own)")
	return cmd
}
