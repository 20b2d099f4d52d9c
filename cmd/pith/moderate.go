package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/resolver"
)

func moderateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "moderate",
		Short: "Decide about what waits in a mirror's database",
		Long: `moderate is for whoever runs a mirror. What is valid, but said by signers whom no
trust file names, waits until somebody lets it in or keeps it out. A mirror may
serve from the database meanwhile.`,
		Example: "  pith moderate list",
	}
	cmd.AddCommand(moderateListCommand(), moderateShowCommand(), moderateAcceptCommand(), moderateRejectCommand())
	return cmd
}

func moderateListCommand() *cobra.Command {
	var (
		h      home
		status string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what waits, or what was decided",
		Long: `list prints a line for each submission that waits: its number, the record that it is
about, why it waits, the key that the policy does not let do it, who sent it and when.`,
		Example: "  pith moderate list --status refused",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !resolver.Status(status).Valid() {
				return cli.Hint(fmt.Errorf("--status: %q is none", status), "queued, accepted, rejected or refused")
			}
			store, err := h.openThere(cmd)
			if err != nil {
				return err
			}
			defer store.Close()
			out := json.NewEncoder(cmd.OutOrStdout())
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			n, after := 0, int64(0)
			for {
				held, err := store.Held(cmd.Context(), resolver.Status(status), after, 1000)
				if err != nil {
					return err
				}
				for _, sub := range held {
					n, after = n+1, sub.ID
					if asJSON {
						err = out.Encode(sub.Report())
					} else {
						_, err = fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\n", sub.ID, orNone(sub.Suffix), sub.Code, orNone(cli.Printable(sub.Signer)), cli.Printable(sub.From), sub.ReceivedAt.Format(time.RFC3339))
					}
					if err != nil {
						return err
					}
				}
				if err := table.Flush(); err != nil {
					return err
				}
				if len(held) == 0 {
					break
				}
			}
			if n == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "nothing is %s\n", status)
			}
			return nil
		},
	}
	h.storeFlags(cmd)
	cmd.Flags().StringVar(&status, "status", string(resolver.Queued), "list what is `STATUS`: queued, accepted, rejected or refused")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each")
	return cmd
}

func moderateShowCommand() *cobra.Command {
	var h home
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print a submission as it came",
		Long: `show prints what was submitted on standard output, byte for byte, and what is known
about it on standard error: a bundle, which pith show - and pith verify - read, an
event, or a document about keys. Of what was refused 64 KiB are kept.`,
		Example: "  pith moderate show 7 | pith show -",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := h.openThere(cmd)
			if err != nil {
				return err
			}
			defer store.Close()
			id, err := submissionID(args[0])
			if err != nil {
				return err
			}
			sub, err := store.HeldByID(cmd.Context(), id)
			if errors.Is(err, resolver.ErrNotFound) {
				return cli.Hint(fmt.Errorf("there is no submission %d", id), "pith moderate list has the numbers")
			}
			if err != nil {
				return err
			}
			data, err := resolver.Gunzip(sub.Data)
			if err != nil {
				return cli.Hint(fmt.Errorf("submission %d: %w", id, err), "run pith fsck")
			}
			e := cmd.ErrOrStderr()
			fmt.Fprintf(e, "%s from %s at %s: %s: %s\n", sub.Status, cli.Printable(sub.From), sub.ReceivedAt.Format(time.RFC3339), sub.Code, cli.Printable(sub.Detail))
			if sub.Signer != "" {
				fmt.Fprintf(e, "the policy does not let this key do it: %s\n", cli.Printable(sub.Signer))
			}
			if sub.Truncated {
				fmt.Fprintf(e, "only its first %d bytes were kept\n", len(data))
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
	h.storeFlags(cmd)
	return cmd
}

func moderateAcceptCommand() *cobra.Command {
	var (
		h      home
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "accept ID...",
		Short: "Let in what waits",
		Long: `accept lets in submissions that wait, or that were rejected. Each is verified again;
only the policy is not asked. Of a bundle about a record that is here its events come
in, without what its packer says besides; that waits by itself when it comes again.

To accept something makes nobody trusted. A document by which a signer rotates or
revokes a key counts beside the trust files until it is rejected.

It prints for each its number, the record and how many new events it brought.
Exit code 1 says that one of them is not right any more; it and those behind it
stay as they are.`,
		Example: "  pith moderate accept 7 9",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.moderate(cmd, args, func(service *resolver.Service, id int64, w io.Writer) error {
				receipt, err := service.Accept(cmd.Context(), id)
				if err != nil {
					return err
				}
				if asJSON {
					signed, err := service.SignReceipt(receipt)
					if err == nil {
						_, err = fmt.Fprintf(w, "%s\n", signed)
					}
					return err
				}
				_, err = fmt.Fprintf(w, "%d\t%s\t%d\n", id, orNone(receipt.Number), receipt.New)
				return err
			})
		},
	}
	h.serviceFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the mirror's signed receipts, a line each")
	return cmd
}

func moderateRejectCommand() *cobra.Command {
	var (
		h      home
		reason string
	)
	cmd := &cobra.Command{
		Use:   "reject ID...",
		Short: "Keep out what waits, for good",
		Long: `reject keeps out submissions that wait, also when the same events come again, whatever
bundle brings them and whoever packs it; with another event beside, or without what
they replace, they wait again. They stay in the database with the reason, and can be
accepted after all. A trust file that names their signer goes before that, and so does
pith mirror add --all.

A document about keys that was accepted counts no more; what came in by it stays.`,
		Example: "  pith moderate reject 8 --reason spam",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.moderate(cmd, args, func(service *resolver.Service, id int64, _ io.Writer) error {
				return service.Reject(cmd.Context(), id, reason)
			})
		},
	}
	h.serviceFlags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "keep the `TEXT` beside them")
	return cmd
}

// moderate decides about submissions, one after the other, until one cannot be
// decided about.
func (h *home) moderate(cmd *cobra.Command, args []string, decide func(*resolver.Service, int64, io.Writer) error) error {
	ids := make([]int64, len(args))
	for i, text := range args {
		var err error
		if ids[i], err = submissionID(text); err != nil {
			return err
		}
	}
	store, err := h.openThere(cmd)
	if err != nil {
		return err
	}
	defer store.Close()
	config, err := h.config(cmd, store, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
	if err != nil {
		return err
	}
	service, err := resolver.NewService(config)
	if err != nil {
		return err
	}
	for _, id := range ids {
		err := decide(service, id, cmd.OutOrStdout())
		var refusal *resolver.Refusal
		switch {
		case errors.Is(err, resolver.ErrNotFound):
			return cli.Hint(fmt.Errorf("submission %d does not wait for a moderator", id), "pith moderate list has those that do, --status rejected those that can be accepted after all")
		case errors.As(err, &refusal):
			return &cli.Error{Code: cli.ExitRejected, Err: fmt.Errorf("submission %d is not right any more: %s: %s", id, refusal.Code, cli.Printable(refusal.Detail)),
				Hint: fmt.Sprintf("pith moderate reject %d keeps it out; pith explain %s tells more", id, refusal.Code)}
		case err != nil:
			return err
		}
	}
	return nil
}

// submissionID reads the number of a submission.
func submissionID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, cli.Hint(fmt.Errorf("%q is not the number of a submission", text), "pith moderate list has the numbers")
	}
	return id, nil
}
