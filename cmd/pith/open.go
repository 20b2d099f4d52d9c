package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
)

func openCommand() *cobra.Command {
	var (
		p                                                           pith.Publication
		source, submitted, authors, abstract, keyFile, output, when string
	)
	cmd := &cobra.Command{
		Use:   "open --source SOURCE --title TITLE --abstract FILE --submitted TIME --category CATEGORY --out FILE",
		Short: "Begin the record of a paper",
		Long: `open makes the first bundle of a paper: the canonical record, from which its Pith
Number follows, the event that opens it, and one with title, authors and abstract
in clear, signed with your key. It prints the Pith Number. Whoever says the same of
the same paper gets the same number, so what is said must be as at the source, to
the letter: title, abstract, categories, licence, and the submission of version 1.
Whether others believe you to be a registry is theirs to say.`,
		Example: `  pith open --source arxiv:2601.00001v1 --title "On it" --abstract abstract.txt --authors "Ada, Bob" --submitted 2026-01-01T10:00:00Z \
    --category cs.LG --category stat.ML --license http://creativecommons.org/licenses/by/4.0/ --out bundle.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := timeOrNow(when)
			if err != nil {
				return err
			}
			if p.SubmittedAt, err = parseTime(submitted); err != nil {
				return err
			}
			if p.Title == "" {
				return cli.Hint(errors.New("the title is empty"), "write it as at the source")
			}
			if p.Kind, p.ID, p.Version, err = parseSource(source); err != nil {
				return err
			}
			text, err := read(cmd, abstract)
			if err != nil {
				return err
			}
			p.Abstract = strings.ReplaceAll(string(text), "\r\n", "\n")
			record, err := p.Record()
			if err != nil {
				return cli.Hint(err, "nothing was signed; spec/02-identity.md says what a record holds")
			}
			bundle, number, err := signOpening(cmd, record, p, authors, keyFile, at)
			if err != nil {
				return err
			}
			if err := write(cmd, output, line(bundle)); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), number)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&source, "source", "", "where the paper is, as `KIND:IDvN`")
	flags.StringVar(&p.Title, "title", "", "the `TITLE`, as at the source")
	flags.StringVar(&abstract, "abstract", "", "read the abstract from `FILE`, - for standard input")
	flags.StringVar(&authors, "authors", "", "the `AUTHORS` in alphabetical order, as text")
	flags.StringVar(&submitted, "submitted", "", "the `TIME` at which version 1 was submitted")
	flags.StringArrayVar(&p.Categories, "category", nil, "the primary `CATEGORY` first (repeatable)")
	flags.StringVar(&p.License, "license", "", "the address of the licence, `URL`, if there is one")
	flags.StringVar(&keyFile, "key", "", keyUsage)
	flags.StringVar(&when, "at", "", "the `TIME` of signing (default now)")
	outFlags(cmd, &output, "write the bundle to `FILE`")
	for _, name := range []string{"source", "title", "abstract", "submitted", "category", "out"} {
		cmd.MarkFlagRequired(name)
	}
	return cmd
}

// signOpening signs what open says.
func signOpening(cmd *cobra.Command, record []byte, p pith.Publication, authors, keyFile string, at time.Time) (bundle []byte, number string, err error) {
	if number, _, err = pith.Number(record); err != nil {
		return nil, "", failed(err)
	}
	graph, err := pith.NewGraphSnapshot(record, p.Title, authors, p.Abstract)
	if err != nil {
		return nil, "", failed(err)
	}
	draft, err := pith.NewDraft(graph, at)
	if err != nil {
		return nil, "", failed(err)
	}
	key, err := loadKey(cmd, keyFile)
	if err != nil {
		return nil, "", err
	}
	if bundle, _, err = pith.Open(record, key, at, draft); err != nil {
		return nil, "", failed(err)
	}
	return bundle, number, nil
}

var sourceForm = regexp.MustCompile(`^([^:]+):(.+)v([1-9][0-9]*)$`)

// parseSource reads a source as verify prints it.
func parseSource(text string) (kind, id string, version int, err error) {
	m := sourceForm.FindStringSubmatch(text)
	if m == nil {
		return "", "", 0, cli.Hint(fmt.Errorf("%q is no source", text), "write it like arxiv:2601.00001v1")
	}
	if version, err = strconv.Atoi(m[3]); err != nil {
		return "", "", 0, cli.Hint(errors.New("no paper has so many versions"), "write it like arxiv:2601.00001v1")
	}
	return m[1], m[2], version, nil
}
