package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
)

func keyRotateCommand() *cobra.Command {
	var oldFile, newFile, now, from, until, output string
	cmd := &cobra.Command{
		Use:   "rotate --new FILE",
		Short: "Go over to a new key",
		Long: `rotate prints a key document, signed by your old and your new key, that says from
when the new one holds and until when the old one does, to the second and both
included. Whoever trusts the old key puts the document beside the trust file:
pith verify --trust trust.json --trust rotation.json.`,
		Example: "  pith key rotate --new new-key.json --from 2027-01-01T00:00:00Z --until 2027-01-31T23:59:59Z > rotation.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			created, err := timeOrNow(now)
			if err != nil {
				return err
			}
			times := [2]time.Time{created, created}
			for i, text := range []string{from, until} {
				if text == "" {
					continue
				}
				if times[i], err = timeOrNow(text); err != nil {
					return err
				}
			}
			old, err := loadKey(cmd, oldFile)
			if err != nil {
				return err
			}
			new, err := loadKey(cmd, newFile)
			if err != nil {
				return err
			}
			document, err := pith.Rotate(old, new, created, times[0], times[1])
			switch {
			case errors.Is(err, pith.ErrSameKey):
				return cli.Hint(err, "make the next one with pith key new --out FILE, and name it with --new")
			case err != nil:
				return cli.Hint(err, "both keys must have the same --signer and --type; pith key new makes one")
			}
			return write(cmd, output, line(document))
		},
	}
	cmd.Flags().StringVar(&oldFile, "old", "", "the old key, in `FILE` (default as for signing)")
	cmd.Flags().StringVar(&newFile, "new", "", "the new key, in `FILE`")
	cmd.Flags().StringVar(&from, "from", "", "the first `TIME` of the new key (default now)")
	cmd.Flags().StringVar(&until, "until", "", "the last `TIME` of the old key (default now)")
	cmd.Flags().StringVar(&now, "at", "", "the `TIME` of signing (default now)")
	outFlags(cmd, &output, "write the document to `FILE` instead of standard output")
	cmd.MarkFlagRequired("new")
	return cmd
}

func keyRevokeCommand() *cobra.Command {
	var keyFile, now, from, reason, output string
	cmd := &cobra.Command{
		Use:   "revoke --reason WORD",
		Short: "Take back a key",
		Long: `revoke prints a key document, signed by the key itself, by which nothing is to be
believed that the key signs with a date from --from on. What is dated before
stays. Whoever trusts the key puts the document beside the trust file.`,
		Example: "  pith key revoke --from 2026-11-20T00:00:00Z --reason compromised > revocation.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			created, err := timeOrNow(now)
			if err != nil {
				return err
			}
			at := created
			if from != "" {
				if at, err = timeOrNow(from); err != nil {
					return err
				}
			}
			key, err := loadKey(cmd, keyFile)
			if err != nil {
				return err
			}
			document, err := pith.Revoke(key, created, at, reason)
			if err != nil {
				return cli.Hint(err, "the reason is a word such as compromised, retired or lost")
			}
			return write(cmd, output, line(document))
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "the key, in `FILE` (default as for signing)")
	cmd.Flags().StringVar(&from, "from", "", "the `TIME` from which on nothing is believed (default now)")
	cmd.Flags().StringVar(&now, "at", "", "the `TIME` of signing (default now)")
	cmd.Flags().StringVar(&reason, "reason", "", "a `WORD` such as compromised, retired or lost")
	outFlags(cmd, &output, "write the document to `FILE` instead of standard output")
	cmd.MarkFlagRequired("reason")
	return cmd
}

func trustCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "trust FILE...",
		Short: "Unite trust files and key documents into one",
		Long: `trust checks trust files and key documents and prints one trust file that says
what all of them say. pith.science is known without any.`,
		Example: "  pith trust ada.json rotation.json > trust.json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trust, err := uniteTrust(cmd, nil, args)
			if err != nil {
				return err
			}
			return write(cmd, output, line(trust.JSON()))
		},
	}
	outFlags(cmd, &output, "write the trust file to `FILE` instead of standard output")
	return cmd
}
