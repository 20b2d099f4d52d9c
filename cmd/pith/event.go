package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
)

func eventCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "event",
		Short:   "Add signed events to a bundle",
		Example: "  pith event new correction bundle.json --out new.json",
	}
	cmd.AddCommand(eventNewCommand(), eventAddCommand())
	return cmd
}

func eventAddCommand() *cobra.Command {
	var (
		a       appending
		payload string
	)
	cmd := &cobra.Command{
		Use:   "add BUNDLE --type TYPE --payload FILE --out FILE",
		Short: "Sign an event with a payload from a file, and append it",
		Long: `add signs one event with your key and writes a bundle that holds it behind the
events that were there. It prints the id of the event, and refuses to build on
a bundle that verify rejects.`,
		Example: "  pith event add bundle.json --type correction --payload note.json --out new.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if a.draft.CreatedAt, err = timeOrNow(a.now); err != nil {
				return err
			}
			if !cmd.Flags().Changed("target") {
				a.draft.Target = pith.TargetOf(a.draft.Type)
			}
			bundle, err := readBundle(cmd, args[0])
			if err != nil {
				return err
			}
			if a.draft.Payload, err = read(cmd, payload); err != nil {
				return err
			}
			if _, err := pith.Canonical(a.draft.Payload); err != nil {
				return cli.Hint(fmt.Errorf("payload %s: %w", payload, err), "the payload is one JSON object; nothing was signed")
			}
			if err := a.append(cmd, args[0], bundle); err != nil {
				return err
			}
			if t := a.draft.Type; !slices.Contains(statementTypes, t) && t != pith.TypeRecordCreated && t != pith.TypeGraphSnapshot {
				fmt.Fprintf(cmd.ErrOrStderr(), "pith: note: this version knows no events of type %s: readers keep them and show them nowhere\n", cli.Printable(t))
			}
			return nil
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&a.draft.Type, "type", "", "the `TYPE` of the event, like replication_record")
	cmd.Flags().StringVar(&payload, "payload", "", "read the payload, a JSON object, from `FILE`")
	for _, name := range []string{"type", "payload"} {
		cmd.MarkFlagRequired(name)
	}
	return cmd
}

// appending is what new and add have in common: signing one event and putting
// it into a bundle.
type appending struct {
	draft                pith.Draft
	keyFile, output, now string
	dryRun               bool
}

func (a *appending) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&a.draft.Target, "target", "", "`WHAT` the event is about within the record (default as the type has it)")
	flags.StringArrayVar(&a.draft.Supersedes, "supersedes", nil, "replace your earlier event with this `ID` (repeatable)")
	flags.StringVar(&a.keyFile, "key", "", keyUsage)
	outFlags(cmd, &a.output, "write the new bundle to `FILE`")
	flags.StringVar(&a.now, "at", "", "the `TIME` of signing (default now)")
	flags.BoolVar(&a.dryRun, "dry-run", false, "print the bytes that would be signed, and write nothing")
	cmd.MarkFlagsOneRequired("out", "dry-run")
	cmd.MarkFlagsMutuallyExclusive("out", "dry-run")
}

// append signs the draft and writes the longer bundle. A dry run goes all the
// way but for the writing, so that what it shows would not be refused.
func (a *appending) append(cmd *cobra.Command, path string, bundle []byte) error {
	key, err := loadKey(cmd, a.keyFile)
	if err != nil {
		return err
	}
	return a.appendAs(cmd, key, path, bundle)
}

// reopen makes the draft a record_created by the key that signs it.
func (a *appending) reopen(cmd *cobra.Command, path string, bundle []byte) error {
	at, err := timeOrNow(a.now)
	if err != nil {
		return err
	}
	key, err := loadKey(cmd, a.keyFile)
	if err != nil {
		return err
	}
	payload, err := pith.NewRecordCreated(recordOf(bundle), key, at)
	if err != nil {
		return failedOn(path, err)
	}
	if err := a.say(cmd, payload, at); err != nil {
		return err
	}
	return a.appendAs(cmd, key, path, bundle)
}

// say makes the draft one of this payload, about what the flags say.
func (a *appending) say(cmd *cobra.Command, payload pith.Payload, at time.Time) error {
	d, err := pith.NewDraft(payload, at)
	if err != nil {
		return cli.Hint(err, "nothing was signed; spec/04-events.md says what a %s may hold", payload.EventType())
	}
	d.Supersedes = a.draft.Supersedes
	if cmd.Flags().Changed("target") {
		d.Target = a.draft.Target
	}
	a.draft = d
	return nil
}

// recordOf is the canonical record of a bundle, nothing if it has none.
func recordOf(bundle []byte) []byte {
	var b struct {
		Record json.RawMessage `json:"canonical_record"`
	}
	if pith.Decode(bundle, &b) != nil || b.Record == nil {
		return []byte("null") // which is no record
	}
	return b.Record
}

func (a *appending) appendAs(cmd *cobra.Command, key *pith.PrivateKey, path string, bundle []byte) error {
	extended, ids, err := pith.Append(bundle, key, a.draft.CreatedAt, a.draft)
	if err != nil {
		return failedOn(path, err)
	}
	if a.dryRun {
		return printSigned(cmd, extended, ids[0])
	}
	if err := write(cmd, a.output, line(extended)); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), ids[0])
	return nil
}

// printSigned prints the bytes that the signature of an event covers, and not
// one more.
func printSigned(cmd *cobra.Command, bundle []byte, id string) error {
	var b struct {
		Events []json.RawMessage `json:"events"`
	}
	if err := pith.Decode(bundle, &b); err != nil {
		return err
	}
	signed, err := pith.SignedBytes(b.Events[len(b.Events)-1])
	if err != nil {
		return err
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(signed)); got != id {
		return cli.Hint(fmt.Errorf("the event is %s, its bytes are %s", id, got), "this is a bug of pith; please report it")
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "pith: nothing was written; %s would sign the SHA-256 of these %d bytes\n", id, len(signed))
	_, err = cmd.OutOrStdout().Write(signed)
	return err
}
