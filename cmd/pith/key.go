package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/internal/keyfile"
	"github.com/openpith/evidence/pith"
)

func keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "key",
		Short:   "Make and show signing keys",
		Example: "  pith key new --signer ada@example.org",
	}
	cmd.AddCommand(keyNewCommand(), keyShowCommand(), keyRotateCommand(), keyRevokeCommand(), keyDeclareCommand())
	return cmd
}

func keyNewCommand() *cobra.Command {
	var (
		path, keyID string
		signer      pith.Signer
		encrypt     bool
	)
	cmd := &cobra.Command{
		Use:   "new --signer NAME",
		Short: "Make a signing key",
		Long: `new makes an Ed25519 key and writes it to a file that only you can read. It
never replaces a file. With --passphrase the file is encrypted (age, scrypt);
the passphrase comes from PITH_PASSPHRASE or is asked for.`,
		Example: "  pith key new --signer ada@example.org --passphrase",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := keyPath(path, "out")
			if err != nil {
				return err
			}
			signer.KeyID = keyID
			key, err := pith.GenerateKey(rand.Reader, signer)
			if err != nil {
				return cli.Hint(err, "name yourself with --signer")
			}
			passphrase := ""
			if encrypt {
				if passphrase, err = askNewPassphrase(cmd, path); err != nil {
					return err
				}
				if passphrase == "" {
					return cli.Hint(errors.New("the passphrase is empty"), "leave --passphrase out to store the key as it is")
				}
			}
			if err := keyfile.Create(path, key, passphrase); err != nil {
				return cli.Hint(err, "name another file with --out")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n", key.Public().Fingerprint())
			fmt.Fprintf(cmd.ErrOrStderr(), "pith: wrote %s; keep it secret, and a copy in a safe place\n", path)
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "out", "", "write the key to `FILE` (default pith/key.json in your configuration directory)")
	cmd.Flags().StringVar(&signer.ID, "signer", "", "the `NAME` to sign under, like an e-mail address or an ORCID iD")
	cmd.Flags().StringVar(&signer.Type, "type", "individual", "the `ROLE` to sign in")
	cmd.Flags().StringVar(&keyID, "key-id", "key-1", "a `NAME` for this key among yours")
	cmd.Flags().BoolVar(&encrypt, "passphrase", false, "encrypt the file with a passphrase")
	return cmd
}

func keyShowCommand() *cobra.Command {
	var (
		path       string
		trust      bool
		eventTypes []string
		bundles    bool
	)
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the public half of a key, or a trust file for it",
		Long: `show prints the public key as it stands in a bundle. With --trust it prints a
trust file that others can use to believe what this key signs: by default
everything that people say about a record, and not the two types by which a
registry opens and describes one.`,
		Example: "  pith key show --trust > trust.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := loadKey(cmd, path)
			if err != nil {
				return err
			}
			text, err := key.Public().MarshalJSON()
			if trust {
				text, err = pith.TrustFor(key.Public(), eventTypes, bundles).JSON(), nil
			}
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(line(text))
			return err
		},
	}
	cmd.Flags().StringVar(&path, "key", "", "read the key from `FILE` (default $PITH_KEY, then pith/key.json in your configuration directory)")
	cmd.Flags().BoolVar(&trust, "trust", false, "print a trust file instead")
	cmd.Flags().StringSliceVar(&eventTypes, "event-types", statementTypes, "with --trust: the `TYPES` of events it may sign, * for all")
	cmd.Flags().BoolVar(&bundles, "bundles", true, "with --trust: whether it may sign bundles")
	return cmd
}

// statementTypes are the types of events by which people speak. record_created
// and graph_snapshot are a registry's: whoever may sign those says what the paper
// is.
var statementTypes = []string{
	pith.TypeAuthorAttestation, pith.TypeCitationSignature, pith.TypeCorrection, pith.TypeMirrorHint,
	pith.TypeReplicationRecord, pith.TypeStorageAttestation, pith.TypeTimestampAnchor,
}

// keyPath is where the key is: the path that flag gave, or its place.
func keyPath(path, flag string) (string, error) {
	if path != "" {
		return path, nil
	}
	path, err := keyfile.DefaultPath()
	if err != nil {
		return "", cli.Hint(err, "name a file with --%s", flag)
	}
	return path, nil
}

// keyUsage describes the flag that names the key to sign with.
const keyUsage = "sign with the key in `FILE` (default $PITH_KEY, the text of such a file, then pith/key.json in your configuration directory)"

// loadKey finds the key to sign with: the file that was named, the text of one in
// the environment, for machines that hold secrets there, or the file at its place.
func loadKey(cmd *cobra.Command, path string) (*pith.PrivateKey, error) {
	if text, ok := os.LookupEnv("PITH_KEY"); ok && path == "" {
		if strings.TrimSpace(text) == "" {
			return nil, cli.Hint(errors.New("PITH_KEY is empty"), "unset it, or put the text of a file into it that pith key new made")
		}
		key, err := keyfile.Parse([]byte(text), func() (string, error) { return askPassphrase(cmd, "PITH_KEY") })
		switch {
		case errors.Is(err, keyfile.ErrPassphrase):
			return nil, cli.Hint(fmt.Errorf("PITH_KEY: %w", err), hintPassphrase)
		case err != nil:
			return nil, orHint(fmt.Errorf("PITH_KEY: %w", err), "it holds the text of a file that pith key new made")
		}
		return key, nil
	}
	path, err := keyPath(path, "key")
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Load(path, func() (string, error) { return askPassphrase(cmd, path) })
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, cli.Hint(err, "make a key with pith key new, or name one with --key")
	case errors.Is(err, keyfile.ErrOpenToOthers):
		return nil, cli.Hint(err, "if others may have read it, go over to a new key with pith key rotate")
	case errors.Is(err, keyfile.ErrPassphrase):
		return nil, cli.Hint(err, hintPassphrase)
	}
	return key, orHint(err, "name another key with --key")
}

const hintPassphrase = "try again; PITH_PASSPHRASE is taken before anybody is asked"

// orHint is cli.Hint for an error that may bring a hint along.
func orHint(err error, hint string) error {
	if hinted := (*cli.Error)(nil); errors.As(err, &hinted) {
		return &cli.Error{Code: hinted.Code, Err: err, Hint: hinted.Hint}
	}
	return cli.Hint(err, "%s", hint)
}
