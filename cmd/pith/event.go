package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
)

func eventCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "event",
		Short:   "Add signed events to a bundle",
		Example: "  pith event add bundle.json --type correction --target record --payload note.json --out new.json",
	}
	cmd.AddCommand(eventAddCommand())
	return cmd
}

func eventAddCommand() *cobra.Command {
	var (
		draft                         pith.Draft
		payload, keyFile, output, now string
	)
	cmd := &cobra.Command{
		Use:   "add BUNDLE --type TYPE --target TARGET --payload FILE --out FILE",
		Short: "Sign an event and append it to a bundle",
		Long: `add signs one event with your key and writes a bundle that holds it behind the
events that were there. It prints the id of the event, and refuses to build on
a bundle that verify rejects.`,
		Example: "  pith event add bundle.json --type correction --target record --payload note.json --out new.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at := time.Now()
			if now != "" {
				var err error
				if at, err = time.Parse(time.RFC3339, now); err != nil {
					return cli.Hint(err, "write it like 2026-05-17T23:59:22Z")
				}
			}
			bundle, err := read(cmd, args[0])
			if err != nil {
				return err
			}
			if draft.Payload, err = read(cmd, payload); err != nil {
				return err
			}
			key, err := loadKey(cmd, keyFile)
			if err != nil {
				return err
			}
			draft.CreatedAt = at
			extended, ids, err := pith.Append(bundle, key, at, draft)
			if err != nil {
				return failed(err)
			}
			if err := atomicfile.Write(output, line(extended), 0o644); err != nil {
				return cli.Hint(err, "name a file in a directory that you may write to with --out")
			}
			fmt.Fprintln(cmd.OutOrStdout(), ids[0])
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&draft.Type, "type", "", "the `TYPE` of the event, like replication_record")
	flags.StringVar(&draft.Target, "target", "record", "what the event is about within the record")
	flags.StringVar(&payload, "payload", "", "read the payload, a JSON object, from `FILE`")
	flags.StringArrayVar(&draft.Supersedes, "supersedes", nil, "replace your earlier event with this `ID` (repeatable)")
	flags.StringVar(&keyFile, "key", "", "sign with the key in `FILE` (default pith/key.json in your configuration directory)")
	flags.StringVar(&output, "out", "", "write the new bundle to `FILE`")
	flags.StringVar(&now, "at", "", "the `TIME` of signing (default now)")
	for _, name := range []string{"type", "payload", "out"} {
		cmd.MarkFlagRequired(name)
	}
	return cmd
}
