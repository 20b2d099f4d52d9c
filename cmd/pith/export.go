package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/export"
)

// readRecord verifies a bundle and picks what trusted signers say.
func readRecord(cmd *cobra.Command, path string, trustFiles []string) (*export.Record, error) {
	trust, err := loadTrust(cmd, trustFiles)
	if err != nil {
		return nil, err
	}
	data, err := readBundle(cmd, path)
	if err != nil {
		return nil, err
	}
	r := pith.Verify(data, trust)
	if structure := r.Structure(); structure != pith.Valid {
		printResult(cmd.ErrOrStderr(), path, r, hintFor(data, r))
		return nil, &cli.Error{Code: exitCode(structure), Err: fmt.Errorf("%s: %w", path, export.ErrRejected)}
	}
	record, err := export.New(r)
	if errors.Is(err, export.ErrNoMetadata) {
		return nil, &cli.Error{Code: cli.ExitUntrusted, Err: fmt.Errorf("%s: %w", path, err), Hint: "if you trust who does, name a trust file with --trust FILE"}
	}
	return record, err
}

func exportCommand() *cobra.Command {
	var (
		trustFiles     []string
		format, output string
	)
	cmd := &cobra.Command{
		Use:   "export BUNDLE|- --format NAME",
		Short: "Write a record for other systems",
		Long: `export verifies a bundle and writes what it says about the paper as json-ld
(ScholarlyArticle of schema.org), bibtex, csl-json, ris, or ro-crate (the
ro-crate-metadata.json of a detached RO-Crate 1.2). The source has authors in
alphabetical order, so none of these shows them as a byline.`,
		Example: "  pith export bundle.json --format bibtex",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			record, err := readRecord(cmd, args[0], trustFiles)
			if err != nil {
				return err
			}
			text, err := record.Format(format)
			if err != nil {
				return cli.Hint(err, "pith export --format bibtex")
			}
			return write(cmd, output, text)
		},
	}
	cmd.Flags().StringArrayVar(&trustFiles, "trust", nil, "trust the signers that `FILE` names (repeatable)")
	cmd.Flags().StringVar(&format, "format", "", "one of "+strings.Join(export.Formats, ", "))
	cmd.Flags().StringVar(&output, "out", "", "write to `FILE` instead of standard output")
	cmd.MarkFlagRequired("format")
	return cmd
}

func badgeCommand() *cobra.Command {
	var (
		trustFiles []string
		latex      bool
		output     string
	)
	cmd := &cobra.Command{
		Use:   "badge BUNDLE|-",
		Short: "Make a badge with the Pith Number",
		Long: `badge verifies a bundle and writes a badge that names its record and links to it,
as SVG, or with --latex the lines that put one into a paper. A badge says which
record is meant, not that anything is true.`,
		Example: "  pith badge bundle.json --out badge.svg",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			record, err := readRecord(cmd, args[0], trustFiles)
			if err != nil {
				return err
			}
			text := record.SVG()
			if latex {
				text = record.LaTeX()
			}
			return write(cmd, output, text)
		},
	}
	cmd.Flags().StringArrayVar(&trustFiles, "trust", nil, "trust the signers that `FILE` names (repeatable)")
	cmd.Flags().BoolVar(&latex, "latex", false, "print the LaTeX lines instead")
	cmd.Flags().StringVar(&output, "out", "", "write to `FILE` instead of standard output")
	return cmd
}
