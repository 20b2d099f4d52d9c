package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/ots"
)

func otsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ots",
		Short: "Read, check and make OpenTimestamps proofs, offline",
		Long: `The way of a timestamp: ots digest writes what a calendar gets; ots new makes a
proof from its answer; hours later ots upgrade adds the answer about the
commitment that ots show prints; ots verify compares the proof with block headers
of your choice; event new timestamp_anchor puts it into the record. Only you
speak with calendars: pith stays offline.`,
		Example: "  pith ots verify bundle.json --headers headers.bin",
	}
	cmd.AddCommand(otsShowCommand(), otsVerifyCommand(), otsDigestCommand(), otsNewCommand(), otsUpgradeCommand(), otsMergeCommand())
	return cmd
}

// readProof reads a proof file.
func readProof(cmd *cobra.Command, path string) (*ots.Proof, error) {
	data, err := read(cmd, path)
	if err != nil {
		return nil, err
	}
	p, err := ots.Parse(data)
	if err != nil {
		return nil, badProof(path, err)
	}
	return p, nil
}

func badProof(path string, err error) error {
	code, hint := cli.ExitNotChecked, "check that the file is a proof (.ots)"
	if errors.Is(err, ots.ErrDigest) {
		code, hint = cli.ExitRejected, "take the proof of the same digest; pith ots show tells which"
	}
	return &cli.Error{Code: code, Err: fmt.Errorf("%s: %w", path, err), Hint: hint}
}

func otsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show PROOF|-",
		Short:   "Print a proof step by step",
		Example: "  pith ots show proof.ots",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := readProof(cmd, args[0])
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), p.String())
			return err
		},
	}
}

// finding is the answer about one attestation, as JSON.
type finding struct {
	Digest      string     `json:"digest"`
	Of          string     `json:"of"`       // "" for a proof file
	EventID     string     `json:"event_id"` // "" for a proof file and for timestamp_proofs
	Attestation string     `json:"attestation"`
	Status      ots.Status `json:"status"`
	Time        *time.Time `json:"time"`   // null where none is confirmed
	Source      string     `json:"source"` // "" where no header says anything
}

func otsVerifyCommand() *cobra.Command {
	var (
		headerFile, digest string
		first              uint64
		asJSON             bool
	)
	cmd := &cobra.Command{
		Use:   "verify PROOF|BUNDLE",
		Short: "Compare proofs with block headers",
		Long: `verify compares the Bitcoin attestations of a proof, or of all proofs in a bundle,
with block headers that you chose: a file of raw headers (80 bytes each, from
block 0 or --first-height on), or of lines HEIGHT MERKLEROOT [TIME]. It says on
whose word the date rests. With --digest it judges the proofs of that digest alone.
Exit code 0: confirmed; 1: a block has another root, or all proofs are of
other digests; 3: nothing is confirmed yet.`,
		Example: "  pith ots verify proof.ots --headers blocks.txt --digest 15b0…",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			digest = strings.ToLower(digest)
			if raw, err := hex.DecodeString(digest); err != nil || digest != "" && len(raw) != 32 {
				return cli.Hint(fmt.Errorf("--digest %s is no SHA-256", digest), "write its 64 hexadecimal digits; pith ots show prints that of a proof")
			}
			stamps, err := readStamps(cmd, args[0])
			if err != nil {
				return err
			}
			if digest != "" {
				all := stamps
				stamps = slices.DeleteFunc(slices.Clone(all), func(s pith.Timestamp) bool { return hex.EncodeToString(s.Proof.Digest()) != digest })
				if len(stamps) == 0 && len(all) > 0 {
					return badProof(args[0], fmt.Errorf("about %x, not %s: %w", all[0].Proof.Digest(), digest, ots.ErrDigest))
				}
			}
			var headers *ots.Headers
			if headerFile != "" {
				if headers, err = readHeaders(cmd, headerFile, first); err != nil {
					return err
				}
			}
			var found []finding
			confirmed, wrong := false, false
			for _, s := range stamps {
				for _, f := range s.Proof.Verify(headers) {
					confirmed = confirmed || f.Status == ots.Confirmed
					wrong = wrong || f.Status == ots.Wrong
					item := finding{hex.EncodeToString(s.Proof.Digest()), s.Of, s.EventID, f.Attestation.String(), f.Status, nil, f.Source}
					if !f.Time.IsZero() {
						item.Time = &f.Time
					}
					found = append(found, item)
				}
			}
			if err := printFindings(cmd.OutOrStdout(), found, asJSON); err != nil {
				return err
			}
			switch {
			case wrong:
				return cli.Exit(cli.ExitRejected)
			case !confirmed:
				return cli.Exit(cli.ExitUntrusted)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&headerFile, "headers", "", "believe the block headers in `FILE`")
	cmd.Flags().Uint64Var(&first, "first-height", 0, "the `HEIGHT` of the first raw header in the file")
	cmd.Flags().StringVar(&digest, "digest", "", "judge the proofs of this `SHA256` alone")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answers as JSON")
	return cmd
}

// readStamps reads a proof, or the proofs of a bundle.
func readStamps(cmd *cobra.Command, path string) ([]pith.Timestamp, error) {
	data, err := read(cmd, path)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) { // proofs start with a zero byte
		p, err := ots.Parse(data)
		if err != nil {
			return nil, badProof(path, err)
		}
		return []pith.Timestamp{{Proof: p}}, nil
	}
	stamps, err := pith.Timestamps(data)
	if err != nil {
		return nil, failed(fmt.Errorf("%s: %w", path, err))
	}
	return stamps, nil
}

// maxHeaders bounds a header file: Bitcoin's chain until about 2065.
const maxHeaders = 256 << 20

func readHeaders(cmd *cobra.Command, path string, first uint64) (*ots.Headers, error) {
	f, err := open(cmd, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxHeaders+1))
	if err == nil && len(data) > maxHeaders {
		err = fmt.Errorf("%s has more than %d bytes", path, maxHeaders)
	}
	if err != nil {
		return nil, cli.Hint(err, "cut the file and name its --first-height")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, cli.Hint(fmt.Errorf("there is nothing in %s", path), "raw headers of 80 bytes, or lines HEIGHT MERKLEROOT [TIME]")
	}
	headers, err := ots.ReadHeaders(path, data, first)
	return headers, cli.Hint(err, "raw headers of 80 bytes, or lines HEIGHT MERKLEROOT [TIME]")
}

func printFindings(w io.Writer, found []finding, asJSON bool) error {
	if asJSON {
		if found == nil {
			found = []finding{}
		}
		text, err := json.MarshalIndent(found, "", "  ")
		if err == nil {
			_, err = w.Write(line(text))
		}
		return err
	}
	if len(found) == 0 {
		fmt.Fprintln(w, "no timestamps")
	}
	for _, f := range found {
		what := f.Digest
		if f.Of != "" {
			what = f.Of
		}
		fmt.Fprintf(w, "%s: %s: %s", what, cli.Printable(f.Attestation), f.Status)
		if f.Time != nil {
			fmt.Fprintf(w, ", not later than %s give or take two hours", f.Time.Format(time.RFC3339))
		}
		fmt.Fprintln(w)
		if f.Source != "" {
			fmt.Fprintf(w, "  on the word of %s\n", cli.Printable(f.Source))
		}
	}
	return nil
}

func otsDigestCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "digest BUNDLE|-",
		Short:   "Write the 32 bytes that a calendar stamps",
		Example: "  pith ots digest bundle.json --out digest.bin && curl -f --data-binary @digest.bin https://a.pool.opentimestamps.org/digest > answer.bin",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			digest, err := recordDigest(cmd, args[0])
			if err != nil {
				return err
			}
			return write(cmd, output, digest[:])
		},
	}
	cmd.Flags().StringVar(&output, "out", "", "write the digest to `FILE` instead of standard output")
	return cmd
}

// recordDigest is the digest of the canonical record of a bundle.
func recordDigest(cmd *cobra.Command, path string) (digest [32]byte, err error) {
	bundle, err := readBundle(cmd, path)
	if err != nil {
		return digest, err
	}
	r := pith.Verify(bundle, nil)
	if r.Structure() != pith.Valid {
		return digest, failed(&pith.RefusedError{What: path, Check: r.Failures()[0]})
	}
	_, err = hex.Decode(digest[:], []byte(r.SHA256))
	return digest, err
}

// readAnswer reads what a calendar sent.
func readAnswer(cmd *cobra.Command, path string) ([]byte, error) {
	data, err := read(cmd, path)
	if err == nil && bytes.HasPrefix(data, []byte("\x00OpenTimestamps")) {
		return nil, cli.Hint(fmt.Errorf("%s is a whole proof, not the answer of a calendar", path), "pith ots merge unites proofs")
	}
	return data, err
}

func badAnswer(path string, err error) error {
	if !errors.Is(err, ots.ErrFormat) {
		return badProof(path, err)
	}
	return cli.Hint(fmt.Errorf("%s: %w", path, err), "look into the file: a calendar that has nothing to say yet says so in words; ask again later")
}

func otsNewCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "new BUNDLE ANSWER",
		Short:   "Make a proof from the answer of a calendar",
		Example: "  pith ots new bundle.json answer.bin --out proof.ots",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			digest, err := recordDigest(cmd, args[0])
			if err != nil {
				return err
			}
			answer, err := readAnswer(cmd, args[1])
			if err != nil {
				return err
			}
			p, err := ots.New(digest, answer)
			if err != nil {
				return badAnswer(args[1], err)
			}
			return write(cmd, output, p.Bytes())
		},
	}
	outFlags(cmd, &output, "write the proof to `FILE` instead of standard output")
	return cmd
}

func otsUpgradeCommand() *cobra.Command {
	var commitment, output string
	cmd := &cobra.Command{
		Use:     "upgrade PROOF ANSWER --commitment HEX",
		Short:   "Add what a calendar says about a commitment",
		Example: "  curl -f https://alice.btc.calendar.opentimestamps.org/timestamp/57cfa5c4… > answer.bin && pith ots upgrade proof.ots answer.bin --commitment 57cfa5c4… --out better.ots",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := readProof(cmd, args[0])
			if err != nil {
				return err
			}
			answer, err := readAnswer(cmd, args[1])
			if err != nil {
				return err
			}
			message, err := hex.DecodeString(commitment)
			if err != nil {
				return cli.Hint(fmt.Errorf("--commitment %s: %w", commitment, err), "pith ots show prints it")
			}
			better, err := p.Attach(message, answer)
			if err != nil {
				return badAnswer(args[1], err)
			}
			return write(cmd, output, better.Bytes())
		},
	}
	cmd.Flags().StringVar(&commitment, "commitment", "", "what the calendar was asked about, in `HEX`")
	outFlags(cmd, &output, "write the proof to `FILE` instead of standard output")
	cmd.MarkFlagRequired("commitment")
	return cmd
}

func otsMergeCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "merge PROOF PROOF...",
		Short:   "Unite proofs of one digest",
		Example: "  pith ots merge mine.ots upgraded.ots --out both.ots",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			union, err := readProof(cmd, args[0])
			if err != nil {
				return err
			}
			for _, path := range args[1:] {
				p, err := readProof(cmd, path)
				if err != nil {
					return err
				}
				if union, err = ots.Merge(union, p); err != nil {
					return badProof(path, err)
				}
			}
			return write(cmd, output, union.Bytes())
		},
	}
	outFlags(cmd, &output, "write the proof to `FILE` instead of standard output")
	return cmd
}
