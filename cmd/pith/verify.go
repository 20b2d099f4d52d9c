package main

import (
	"bytes"
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
			printResult(out, path, r, hintFor(data, r))
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

// hintFor says what to do about the gravest failure. Who gives something else in
// place of a bundle is told what it is.
func hintFor(data []byte, r *pith.Result) string {
	if r.Verdict() == pith.Unreadable {
		if what := otherThing(data); what != "" {
			return what
		}
	}
	return r.Hint()
}

// otherThing says what was given in place of a bundle, and what to do with it; ""
// for what it does not know.
func otherThing(data []byte) string {
	for _, kind := range []struct{ start, what string }{
		{"%PDF-", "this is a PDF; pith reads bundle.json, the record of a paper"},
		{"\x1f\x8b", "this is compressed by gzip; unpack it with gunzip"},
		{"\x28\xb5\x2f\xfd", "this is compressed by zstd; unpack it with unzstd"},
		{"PK\x03\x04", "this is a ZIP archive; unpack it"},
		{"\x00OpenTimestamps", "this is a timestamp proof; pith ots show reads those"},
		{"\xff\xfe", "this is UTF-16; JSON is UTF-8"},
		{"\xfe\xff", "this is UTF-16; JSON is UTF-8"},
	} {
		if bytes.HasPrefix(data, []byte(kind.start)) {
			return kind.what
		}
	}
	switch text := bytes.TrimSpace(data); {
	case len(text) == 0:
		return "there is nothing in it; was it fetched to the end?"
	case ' ' < text[0] && text[0] <= '~' && !strings.ContainsRune("{<", rune(text[0])):
		return "a bundle begins with { and this does not: it is something else, or a part of one"
	case text[0] == '<':
		return "this is a web page, perhaps that of the record; add /bundle.json to its address"
	case len(data) > pith.MaxSize:
		return fmt.Sprintf("no bundle is larger than %d MiB; for a file with one bundle per line there is pith verify --lines", pith.MaxSize>>20)
	}
	var head map[string]json.RawMessage
	if json.Unmarshal(data, &head) != nil || head["bundle_type"] != nil {
		return ""
	}
	for _, thing := range [][2]string{
		{"trust_type", "this is a trust file: name it with --trust, beside a bundle"},
		{"document_type", "this is a key document: name it with --trust, beside a bundle"},
		{"file_type", "this is a private key: keep it to yourself"},
		{"event_type", "this is one event: bundles hold those"},
		{"result_type", "this is the result of a verification, not what was verified"},
		{"state_type", "this is a state: bundles hold those"},
		{"schema_version", "this is a canonical record: pith number reads those"},
		{"record_type", "this describes a record; its bundle is at the same address, ending in /bundle.json"},
	} {
		if _, found := head[thing[0]]; found {
			return thing[1]
		}
	}
	return ""
}

// printResult tells a person the verdict, and for a failure which check, where,
// and what to do, which is hint.
func printResult(w io.Writer, path string, r *pith.Result, hint string) {
	const shown = 5
	fmt.Fprintf(w, "%s: %s\n", path, r.Verdict())
	if r.PithNumber != "" {
		fmt.Fprintln(w, strings.TrimRight("  "+r.PithNumber+"  "+cli.Printable(r.Title), " "))
	}
	if r.Verdict() <= pith.Untrusted || r.Unsigned() {
		printWithdrawals(w, r)
		fmt.Fprintf(w, "  %s, state %s…\n", plural(r.Events.Valid, "valid event"), r.StateSHA256[:16])
		for _, s := range r.Signers {
			fmt.Fprintf(w, "  signed by %s\n", signerLine(s))
		}
		fmt.Fprintf(w, "  besides: %s\n", completeness(r.Completeness))
	}
	failures := r.Failures()
	if r.Unsigned() {
		failures = failures[:1] // the others say the same
	}
	for i, c := range failures {
		if i == shown {
			fmt.Fprintf(w, "  … and %s (--json lists them)\n", plural(len(failures)-shown, "more failure"))
			break
		}
		fmt.Fprintf(w, "  failed: %s", c.Code)
		if c.Path != "" {
			fmt.Fprintf(w, " at %s", cli.Printable(c.Path))
		}
		fmt.Fprintln(w)
		if c.Expected != "" {
			fmt.Fprintf(w, "    expected %s\n    got      %s\n", cli.Printable(c.Expected), cli.Printable(c.Got))
		}
		if c.Detail != "" {
			fmt.Fprintf(w, "    %s\n", cli.Printable(c.Detail))
		}
	}
	for i, c := range r.Notes() {
		if i == shown {
			fmt.Fprintf(w, "  … and %s (--json lists them)\n", plural(len(r.Notes())-shown, "more note"))
			break
		}
		fmt.Fprintf(w, "  note: %s at %s: %s\n", c.Code, cli.Printable(c.Path), cli.Printable(noteText(c)))
	}
	if hint != "" {
		fmt.Fprintf(w, "  hint: %s\n", hint)
	}
}

// completeness lists what there is, then what there is not.
func completeness(all []pith.Presence) string {
	var has, lacks []string
	for _, p := range all {
		switch {
		case p.Valid == 0:
			lacks = append(lacks, "no "+p.Kind)
		case p.Pending > 0:
			has = append(has, fmt.Sprintf("%s (%d pending)", plural(p.Valid, nouns[p.Kind]), p.Pending))
		default:
			has = append(has, plural(p.Valid, nouns[p.Kind]))
		}
	}
	return strings.Join(append(has, lacks...), ", ")
}

// nouns are what one of each kind of presence is called.
var nouns = map[string]string{
	"timestamps": "timestamp", "attestations": "attestation", "storage": "storage attestation", "citations": "citation", "replications": "replication",
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
		name = fmt.Sprintf("%s (%s)", cli.Printable(s.SignerID), cli.Printable(s.SignerType))
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
