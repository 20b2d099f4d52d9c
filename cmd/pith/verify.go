package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
)

func verifyCommand() *cobra.Command {
	var (
		trustFiles    []string
		asJSON, lines bool
		resume        string
	)
	cmd := &cobra.Command{
		Use:   "verify FILE...|-",
		Short: "Check bundles and say whether to believe them",
		Long: `verify recomputes everything that a bundle claims: its number, digests, event
ids, receipts, signatures, and the state that its events give. Then it looks
whether you trust the signers: pith.science is known, others come from trust
files.`,
		Example: "  pith verify bundle.json --trust trust.json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trust, err := loadTrust(cmd, trustFiles)
			if err != nil {
				return err
			}
			if resume != "" && !lines {
				return cli.Hint(errors.New("--resume without --lines"), "add --lines: only long lists of bundles are resumed")
			}
			if lines {
				return verifyLines(cmd, args, trust, resume)
			}
			return verifyFiles(cmd, args, trust, asJSON)
		},
	}
	cmd.Flags().StringArrayVar(&trustFiles, "trust", nil, "trust the signers that `FILE` names (repeatable)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each result as JSON, every check included")
	cmd.Flags().BoolVar(&lines, "lines", false, "read one bundle per line, print one JSON result per line with the checks that failed")
	cmd.Flags().StringVar(&resume, "resume", "", "with --lines: write the results to `FILE`, and go on where it ends if it is there")
	return cmd
}

// verifyFiles checks one file after the other; one that cannot be read does not
// keep the others from being checked.
func verifyFiles(cmd *cobra.Command, paths []string, trust *pith.Trust, asJSON bool) error {
	out := cmd.OutOrStdout()
	code := cli.ExitOK
	for _, path := range paths {
		data, err := read(cmd, path)
		if err != nil {
			if len(paths) == 1 {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "pith: error: %v\n", err)
			code = worse(code, cli.ExitNotChecked)
			continue
		}
		r := pith.Verify(data, trust)
		code = worse(code, exitCode(r.Verdict()))
		if !asJSON {
			printResult(out, path, r)
			if other := otherThing(data, r); other != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "pith: hint: %s %s\n", path, other)
			}
			continue
		}
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if _, err := out.Write(line(text)); err != nil {
			return err
		}
	}
	return cli.Exit(code)
}

// otherThing says what was given in place of a bundle, if it is something of ours.
func otherThing(data []byte, r *pith.Result) string {
	if f := r.Failures(); len(f) == 0 || f[0].Code != pith.CodeBundleType {
		return ""
	}
	var head map[string]json.RawMessage
	if json.Unmarshal(data, &head) != nil {
		return ""
	}
	for _, thing := range [][2]string{
		{"trust_type", "is a trust file: name it with --trust, beside a bundle"},
		{"document_type", "is a key document: name it with --trust, beside a bundle"},
		{"file_type", "is a private key: keep it to yourself"},
		{"event_type", "is one event: pith verify reads whole bundles"},
		{"schema_version", "is a canonical record: pith number reads those"},
	} {
		if _, found := head[thing[0]]; found {
			return thing[1]
		}
	}
	return ""
}

// printResult tells a person the verdict, and for a failure which check, where,
// and what to do.
func printResult(w io.Writer, path string, r *pith.Result) {
	const shown = 5
	fmt.Fprintf(w, "%s: %s\n", path, r.Verdict())
	if r.PithNumber != "" {
		fmt.Fprintln(w, strings.TrimRight("  "+r.PithNumber+"  "+printable(r.Title), " "))
	}
	if r.Verdict() <= pith.Untrusted {
		printWithdrawals(w, r)
		fmt.Fprintf(w, "  %s, state %s…\n", plural(r.Events.Valid, "valid event"), r.StateSHA256[:16])
		for _, s := range r.Signers {
			fmt.Fprintf(w, "  signed by %s\n", signerLine(s))
		}
		fmt.Fprintf(w, "  besides: %s\n", completeness(r.Completeness))
	}
	failures := r.Failures()
	for i, c := range failures {
		if i == shown {
			fmt.Fprintf(w, "  … and %s (--json lists them)\n", plural(len(failures)-shown, "more failure"))
			break
		}
		fmt.Fprintf(w, "  failed: %s", c.Code)
		if c.Path != "" {
			fmt.Fprintf(w, " at %s", printable(c.Path))
		}
		fmt.Fprintln(w)
		if c.Expected != "" {
			fmt.Fprintf(w, "    expected %s\n    got      %s\n", printable(c.Expected), printable(c.Got))
		}
		if c.Detail != "" {
			fmt.Fprintf(w, "    %s\n", printable(c.Detail))
		}
	}
	for _, c := range r.Notes() {
		fmt.Fprintf(w, "  note: %s at %s: %s\n", c.Code, printable(c.Path), printable(noteText(c)))
	}
	if len(failures) > 0 {
		_, hint, _ := pith.Explain(failures[0].Code)
		if unsigned(failures) {
			hint = "nobody signed it as a whole, as when it comes from pith merge; pith sign does that"
		}
		fmt.Fprintf(w, "  hint: %s\n", hint)
	}
}

// unsigned reports whether a bundle lacks nothing but its signature.
func unsigned(failures []pith.Check) bool {
	missing := false
	for _, c := range failures {
		missing = missing || c.Code == pith.CodeBundleShape && c.Path == "/bundle_signature" && c.Got == "nothing"
		if !strings.HasPrefix(c.Path, "/bundle_signature") && c.IfFailed > pith.Untrusted {
			return false
		}
	}
	return missing
}

// completeness lists what there is, then what there is not.
func completeness(all []pith.Presence) string {
	var has, lacks []string
	for _, p := range all {
		if p.Valid > 0 {
			has = append(has, fmt.Sprintf("%d %s", p.Valid, p.Kind))
		} else {
			lacks = append(lacks, "no "+p.Kind)
		}
	}
	return strings.Join(append(has, lacks...), ", ")
}

func noteText(c pith.Check) string {
	if c.Detail != "" {
		return c.Detail
	}
	return "expected " + c.Expected + ", got " + c.Got
}

func signerLine(s pith.SignerSeen) string {
	name := "a key that names nobody"
	if s.SignerID != "" {
		name = fmt.Sprintf("%s (%s)", printable(s.SignerID), printable(s.SignerType))
	}
	what := plural(s.Events, "event")
	if s.Bundle {
		what += " and the bundle"
	}
	trusted := "trusted"
	if !s.Trusted {
		trusted = "not trusted: " + string(s.Reason)
	}
	return fmt.Sprintf("%s, key %s: %s; %s", name, s.Fingerprint, what, trusted)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printable keeps a stranger's text from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 || 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 {
			return '\ufffd'
		}
		return r
	}, s)
}
