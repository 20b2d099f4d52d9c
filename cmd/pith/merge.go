package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
)

func mergeCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "merge BUNDLE...",
		Short: "Unite bundles of one record",
		Long: `merge unites what several bundles of one record hold: the same bytes from
whatever order, copies or spread. Invalid events are kept, with reasons in the
state. The result is not signed by anybody; pith sign does that. A bundle that
verify rejects is not merged.`,
		Example: "  pith merge mine.json theirs.json | pith sign - --out all.json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var bundles [][]byte
			for _, path := range args {
				data, err := readBundle(cmd, path)
				if err != nil {
					return err
				}
				bundles = append(bundles, data)
			}
			merged, err := pith.Merge(bundles...)
			if err != nil {
				return failedMerge(args, err)
			}
			return write(cmd, output, line(merged))
		},
	}
	outFlags(cmd, &output, "write the union to `FILE` instead of standard output")
	return cmd
}

// failedMerge names the file that a MergeError is about.
func failedMerge(paths []string, err error) error {
	var merge *pith.MergeError
	if errors.As(err, &merge) {
		err = fmt.Errorf("%s: %w", paths[merge.Index], merge.Err)
	}
	if errors.Is(err, pith.ErrOtherRecord) {
		return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "only bundles of one record have something in common"}
	}
	return failed(err)
}

// outFlags gives a command --out and --force. What it writes is somebody's word,
// and perhaps the only copy, so a file that is there is not replaced unasked:
// that is found out before keys are opened and texts are written.
func outFlags(cmd *cobra.Command, output *string, usage string) {
	cmd.Flags().StringVar(output, "out", "", usage)
	force := cmd.Flags().Bool("force", false, "replace the file that --out names")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *force || *output == "" || *output == "-" {
			return nil
		}
		switch info, err := os.Lstat(*output); {
		case err == nil && info.IsDir():
			return cli.Hint(fmt.Errorf("%s is a directory", *output), "name a file with --out")
		case err == nil && info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe) == 0:
			return replaces(*output)
		}
		return nil
	}
}

func replaces(path string) error {
	return cli.Hint(fmt.Errorf("%s is there already", path), "name a new file with --out, or replace it with --force")
}

// write writes to a file, or to standard output when none is named.
func write(cmd *cobra.Command, path string, data []byte) error {
	if path == "" || path == "-" {
		_, err := cmd.OutOrStdout().Write(data)
		return err
	}
	place := atomicfile.Write
	if force := cmd.Flags().Lookup("force"); force != nil && force.Value.String() == "false" {
		place = atomicfile.Create // another process may have been faster
	}
	err := place(path, data, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return replaces(path)
	}
	return cli.Hint(err, "name a file in a directory that you may write to with --out")
}

func signCommand() *cobra.Command {
	var keyFile, output, now string
	cmd := &cobra.Command{
		Use:   "sign BUNDLE|-",
		Short: "Sign a bundle as a whole",
		Long: `sign puts your signature over a bundle, such as a result of pith merge, with the
state that its events give. That says who put it together and when; it lends no
weight to the events in it. What verify would reject is not signed.`,
		Example: "  pith sign merged.json --out bundle.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := timeOrNow(now)
			if err != nil {
				return err
			}
			bundle, err := readBundle(cmd, args[0])
			if err != nil {
				return err
			}
			key, err := loadKey(cmd, keyFile)
			if err != nil {
				return err
			}
			signed, err := pith.Sign(bundle, key, at)
			if err != nil {
				return failedOn(args[0], err)
			}
			return write(cmd, output, line(signed))
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", keyUsage)
	outFlags(cmd, &output, "write the bundle to `FILE` instead of standard output")
	cmd.Flags().StringVar(&now, "at", "", "the `TIME` of signing (default now)")
	return cmd
}

func timeOrNow(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	return parseTime(text)
}

func parseTime(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, cli.Hint(fmt.Errorf("%q is no time", text), "write it like 2026-05-17T23:59:22Z")
	}
	return at, nil
}

func stateCommand() *cobra.Command {
	var digests bool
	cmd := &cobra.Command{
		Use:   "state BUNDLE|-",
		Short: "Print the state that the events of a bundle give",
		Long: `state replays the events and prints the state in canonical form. With --digests
it prints the digest of the set of events and that of the state instead: two
mirrors that agree on the first hold the same events.`,
		Example: "  pith state bundle.json --digests",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bundle, err := readBundle(cmd, args[0])
			if err != nil {
				return err
			}
			state, err := pith.State(bundle)
			if err != nil {
				return failedOn(args[0], err)
			}
			if !digests {
				return write(cmd, "", line(state))
			}
			events, err := pith.EventSet(bundle)
			if err != nil {
				return failed(err)
			}
			var head struct {
				SHA256 string `json:"state_sha256"`
			}
			if err := pith.Decode(state, &head); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "event_set\t%s\nstate\t%s\n", events, head.SHA256)
			return err
		},
	}
	cmd.Flags().BoolVar(&digests, "digests", false, "print digests of the set of events and of the state")
	return cmd
}

func diffCommand() *cobra.Command {
	var trustFiles []string
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Tell what each of two bundles lacks, and where they contradict",
		Long: `diff compares two bundles of one record by their events. Lines with < are events
that B lacks, lines with > events that A lacks, lines with ! contradictions that
no missing event explains. Who is not trusted is marked, and decides nothing here. Exit
code 0: the same events and the same state; 1: not.`,
		Example: "  pith diff mine.json theirs.json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			trust, err := loadTrust(cmd, trustFiles)
			if err != nil {
				return err
			}
			a, err := readBundle(cmd, args[0])
			if err != nil {
				return err
			}
			b, err := readBundle(cmd, args[1])
			if err != nil {
				return err
			}
			d, err := pith.Diff(a, b)
			if err != nil {
				return failedMerge(args, err)
			}
			out := cmd.OutOrStdout()
			for _, side := range []struct {
				sign   string
				bundle []byte
				events []pith.Statement
			}{{"<", a, d.OnlyA}, {">", b, d.OnlyB}} {
				// Of invalid events several may claim one id, and nobody is
				// trusted with any of them.
				judged := map[string]pith.Statement{}
				for _, j := range pith.Verify(side.bundle, trust).History {
					if j.Invalid == "" {
						judged[j.EventID] = j
					}
				}
				for _, s := range side.events {
					if j, ok := judged[s.EventID]; ok && s.Invalid == "" {
						s = j
					}
					fmt.Fprintf(out, "%s %s\n", side.sign, eventLine(s))
				}
			}
			for _, c := range d.Contradictions {
				fmt.Fprintf(out, "! %s\n", cli.Printable(c))
			}
			if d.Same() {
				return nil
			}
			return cli.Exit(cli.ExitRejected)
		},
	}
	cmd.Flags().StringArrayVar(&trustFiles, "trust", nil, "trust the signers that `FILE` names (repeatable)")
	return cmd
}

// eventLine names an event in one line.
func eventLine(s pith.Statement) string {
	text := fmt.Sprintf("%s  %s by %s", s.CreatedAt.Format(time.RFC3339), cli.Printable(s.Type), cli.Printable(s.Signer.ID))
	if s.EventID != "" {
		text += "  " + cli.Printable(s.EventID)
	}
	return text + remarks(s)
}

func logCommand() *cobra.Command {
	var trustFiles []string
	cmd := &cobra.Command{
		Use:   "log BUNDLE|-",
		Short: "Tell the history of a record",
		Long: `log tells, oldest first, what was said about a record, by whom, and what became
of it.`,
		Example: "  pith log bundle.json --trust trust.json",
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
				printResult(cmd.OutOrStdout(), args[0], r, hintFor(data, r))
			} else {
				if r.Unsigned() {
					fmt.Fprintf(cmd.ErrOrStderr(), "pith: note: %s\n", r.Hint())
				}
				for _, s := range r.History {
					printEvent(cmd.OutOrStdout(), s)
				}
			}
			return cli.Exit(exitCode(r.Verdict()))
		},
	}
	cmd.Flags().StringArrayVar(&trustFiles, "trust", nil, "trust the signers that `FILE` names (repeatable)")
	return cmd
}

func printEvent(w io.Writer, s pith.Statement) {
	fmt.Fprintf(w, "%s  %s by %s%s\n", s.CreatedAt.Format(time.RFC3339), cli.Printable(s.Type), cli.Printable(s.Signer.ID), remarks(s))
	if text := summary(s); text != "" {
		fmt.Fprintf(w, "    %s\n", cli.Printable(text))
	}
	fmt.Fprintf(w, "    %s\n", cli.Printable(s.EventID))
}

// summary says in one line what an event says.
func summary(s pith.Statement) string {
	p, ok := s.Typed()
	if !ok {
		return ""
	}
	switch p := p.(type) {
	case *pith.AuthorAttestation:
		text := fmt.Sprintf("%s says to be an author, as %s %s", p.Name, p.Identity.Scheme, p.Identity.Value)
		if p.Position > 0 {
			text += fmt.Sprintf(", number %d in the byline", p.Position)
		}
		return text
	case *pith.TimestampAnchor:
		return "OpenTimestamps proof of " + p.Of
	case *pith.StorageAttestation:
		return "stored at " + p.URL
	case *pith.CitationSignature:
		return fmt.Sprintf("%s %s: %s", p.Citing.Kind, p.Citing.ID, p.Relation)
	case *pith.Correction:
		return p.Kind + ": " + p.Text
	case *pith.MirrorHint:
		return p.Name + ": " + p.BundleURL
	case *pith.ReplicationRecord:
		return cmp.Or(p.Statement, p.Outcome)
	case *pith.GraphSnapshot:
		return p.Graph.Paper.Title
	}
	return ""
}

func explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [CODE...]",
		Short: "Tell what a reason code means and what to do",
		Long: `explain tells for each code what is checked, what a failure leads to and what to
do then. Without a code it lists all of them, with what each asks. At the end stand
those that mirrors and pith fsck have besides.`,
		Example: "  pith explain trust_key",
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			if len(args) == 0 {
				for _, code := range pith.Codes() {
					asks, _, _ := pith.Explain(code)
					fmt.Fprintf(out, "%s\t%s\n", code, asks)
				}
				for _, c := range mirrorCodes {
					fmt.Fprintf(out, "%s\t%s\n", c.code, c.means)
				}
				return nil
			}
			for _, arg := range args {
				if i := slices.IndexFunc(mirrorCodes, func(c mirrorCode) bool { return c.code == arg }); i >= 0 {
					fmt.Fprintf(out, "%s\n  says that %s\n  then: %s\n", arg, mirrorCodes[i].means, mirrorCodes[i].then)
					continue
				}
				code := pith.Code(arg)
				asks, hint, ok := pith.Explain(code)
				if !ok {
					return cli.Hint(fmt.Errorf("no reason code is called %q", arg), "pith explain lists them all")
				}
				consequence := code.IfFailed().String()
				if code.IfFailed() == pith.Valid {
					consequence = "a note, which decides nothing"
				}
				fmt.Fprintf(out, "%s\n  asks whether %s\n  if not: %s\n  then: %s\n", code, asks, consequence, hint)
			}
			return nil
		},
	}
}
