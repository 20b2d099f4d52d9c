package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
)

func showCommand() *cobra.Command {
	var trustFiles []string
	cmd := &cobra.Command{
		Use:     "show FILE|-",
		Short:   "Tell what a record says, and who says it",
		Example: "  pith show bundle.json --trust trust.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trust, err := loadTrust(cmd, trustFiles)
			if err != nil {
				return err
			}
			data, err := read(cmd, args[0])
			if err != nil {
				return err
			}
			r := pith.Verify(data, trust)
			if r.Verdict() > pith.Untrusted && !r.Unsigned() {
				// What is not what its signers signed is not shown as a record.
				printResult(cmd.OutOrStdout(), args[0], r, hintFor(data, r))
			} else {
				printRecord(cmd.OutOrStdout(), r)
			}
			return cli.Exit(exitCode(r.Verdict()))
		},
	}
	cmd.Flags().StringArrayVar(&trustFiles, "trust", nil, "trust the signers that `FILE` names (repeatable)")
	return cmd
}

func printRecord(w io.Writer, r *pith.Result) {
	title := r.Title
	if title == "" {
		title = "(no title in this bundle)"
	}
	fmt.Fprintf(w, "%s\n%s\n%s\n", cli.Printable(title), r.PithNumber, cli.Printable(r.Source))
	if authors := authorsOf(r); authors != "" {
		// The source lists them by given name; the order says nothing.
		fmt.Fprintf(w, "authors in alphabetical order, not that of the paper: %s\n", cli.Printable(authors))
	}
	fmt.Fprintf(w, "\nverdict: %s\n", r.Verdict())
	if r.Unsigned() {
		fmt.Fprintf(w, "  %s\n", r.Hint())
	}
	printWithdrawals(w, r)
	for _, s := range r.Signers {
		fmt.Fprintf(w, "  %s\n", signerLine(s))
	}
	fmt.Fprintf(w, "\nevents: %d valid, %d invalid, %d superseded, %s\n",
		r.Events.Valid, r.Events.Invalid, r.Events.Superseded, plural(r.Events.Equivocations, "equivocation"))
	for _, s := range r.History {
		fmt.Fprintf(w, "  %s  %-20s %s%s\n", s.CreatedAt.Format(time.DateTime), cli.Printable(s.Type), cli.Printable(s.Signer.ID), remarks(s))
	}
	printReplications(w, r)
	fmt.Fprintln(w, "\nbesides its opening the record has:")
	for _, p := range r.Completeness {
		fmt.Fprintf(w, "  %-12s  %s\n", p.Kind, presence(p))
	}
	for _, c := range r.Notes() {
		fmt.Fprintf(w, "note: %s at %s: %s\n", c.Code, cli.Printable(c.Path), cli.Printable(noteText(c)))
	}
}

// printWithdrawals says first what a reader of the paper must not miss: that
// somebody takes it back. Whoever that is may lie; whether the policy trusts them
// is said beside it.
func printWithdrawals(w io.Writer, r *pith.Result) {
	for _, t := range r.Withdrawals() {
		what := strings.ToUpper(t.Kind)
		if t.Claim != "" {
			what += " of claim " + cli.Printable(t.Claim)
		}
		who := "trusted"
		if !t.Trusted {
			who = "not trusted"
		}
		fmt.Fprintf(w, "  %s by %s (%s), %s: %s\n", what, cli.Printable(t.Signer.ID), who, t.CreatedAt.Format(time.DateOnly), cli.Printable(t.Text))
	}
}

func presence(p pith.Presence) string {
	if p.Valid == 0 {
		return "none"
	}
	text := fmt.Sprintf("%d, %d of them by trusted signers", p.Valid, p.Trusted)
	if p.Confirmed+p.Pending > 0 {
		text += fmt.Sprintf("; %d with a Bitcoin attestation (see pith ots verify), %d pending", p.Confirmed, p.Pending)
	}
	return text
}

func remarks(s pith.Statement) string {
	if s.Invalid != "" {
		return "  (invalid: " + string(s.Invalid) + ")"
	}
	var all []string
	if s.Superseded {
		all = append(all, "superseded")
	}
	switch {
	case s.Trusted, s.Distrust == "": // "" where no policy was asked
	case s.Distrust == pith.CodeTrustImpersonation:
		all = append(all, "not trusted: impersonation? you know another key under this name")
	case s.Distrust == pith.CodeTrustKey:
		all = append(all, "not trusted")
	default:
		all = append(all, "not trusted: "+string(s.Distrust))
	}
	if all == nil {
		return ""
	}
	return "  (" + strings.Join(all, "; ") + ")"
}

func authorsOf(r *pith.Result) string {
	authors := ""
	for _, s := range r.History {
		p, _ := s.Typed()
		if graph, ok := p.(*pith.GraphSnapshot); ok && !s.Superseded {
			authors = graph.Graph.Paper.AuthorsText
		}
	}
	return authors
}

func printReplications(w io.Writer, r *pith.Result) {
	heading := "\nreplications:\n"
	for _, s := range r.History {
		if s.Type != pith.TypeReplicationRecord || s.Invalid != "" || s.Superseded {
			continue
		}
		outcome := "outcome in a form that this version does not know"
		if p, _ := s.Typed(); p != nil {
			outcome = p.(*pith.ReplicationRecord).Outcome
		}
		fmt.Fprintf(w, "%s  %s, by %s on %s%s\n", heading, cli.Printable(outcome), cli.Printable(s.Signer.ID), s.CreatedAt.Format(time.DateOnly), remarks(s))
		heading = ""
	}
	if heading != "" {
		fmt.Fprint(w, "\nreplications: none\n")
	}
}
