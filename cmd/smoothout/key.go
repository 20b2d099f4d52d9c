package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/internal/keyfile"
	"github.com/openpith/evidence/pith"
)

// passphraseVariable unlocks a key without a terminal.
const passphraseVariable = "PITH_PASSPHRASE"

// signingKey loads the key at path, or makes one on first use. A signer that is
// not "" must be the one whose key it is.
func signingKey(stderr io.Writer, path, signer string) (*pith.PrivateKey, error) {
	const hint = "name another key file with --key; it is made if it is not there"
	if path == "" {
		var err error
		if path, err = keyfile.DefaultPath(); err != nil {
			return nil, cli.Hint(err, hint)
		}
	}
	key, err := keyfile.Load(path, func() (string, error) {
		if p, ok := os.LookupEnv(passphraseVariable); ok {
			return p, nil
		}
		return "", fmt.Errorf("the key has a passphrase and %s is not set", passphraseVariable)
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, cli.Hint(err, hint)
	default:
		if has := key.Public().Signer.ID; signer != "" && signer != has {
			return nil, cli.Hint(fmt.Errorf("--signer %s: the key in %s is that of %s", signer, path, has),
				"leave --signer out to sign as %s, or name another key file with --key; it is made if it is not there", has)
		}
		return key, nil
	}
	if signer == "" {
		signer = defaultSigner()
	}
	key, err = pith.GenerateKey(rand.Reader, pith.Signer{ID: signer, Type: "replicator", KeyID: signer + "-1"})
	if err != nil {
		return nil, cli.Hint(err, "choose another name with --signer")
	}
	switch err := keyfile.Create(path, key, ""); {
	case errors.Is(err, keyfile.ErrExists):
		return signingKey(stderr, path, "") // another process was first: one key serves both
	case err != nil:
		return nil, cli.Hint(err, hint)
	}
	fmt.Fprintf(stderr, "smoothout: made a signing key for %s in %s (fingerprint %s); another name: --signer NAME with a new --key FILE\n",
		signer, path, key.Public().Fingerprint())
	return key, nil
}

// defaultSigner names whoever runs this, as far as the machine knows. It ends
// up in a public record: the name of the account, not of the machine.
func defaultSigner() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "anonymous"
}
