// Package keyfile keeps a private key on disk: readable by its owner alone, on
// demand under a passphrase, and never overwritten.
package keyfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"filippo.io/age"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/pith"
)

// ErrExists reports that Create found a file where it should write.
var ErrExists = errors.New("there is a file already, and keys are never overwritten")

// ErrOpenToOthers reports a key file that somebody else could read.
var ErrOpenToOthers = errors.New("the key file can be read by others")

// ErrPassphrase reports a wrong passphrase.
var ErrPassphrase = errors.New("wrong passphrase")

// workFactor is the cost of trying one passphrase, as a power of two: about a
// second on a laptop. Tests make it cheap.
var workFactor = 18

const (
	fileType    = "pith_private_key"
	fileVersion = "1.0"
	maxSize     = 1 << 16
)

// file is the JSON form. Exactly one of Seed and EncryptedSeed is set; Seed has
// the 32 bytes of RFC 8032 and EncryptedSeed an age file that holds them.
type file struct {
	Type          string `json:"file_type"`
	Version       string `json:"file_version"`
	SignerID      string `json:"signer_id"`
	SignerType    string `json:"signer_type"`
	KeyID         string `json:"key_id"`
	Fingerprint   string `json:"fingerprint"`
	Seed          []byte `json:"seed_b64,omitempty"`
	EncryptedSeed []byte `json:"seed_age_b64,omitempty"`
}

// DefaultPath returns pith/key.json in the user's configuration directory.
func DefaultPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place for a key: %w", err)
	}
	return filepath.Join(dir, "pith", "key.json"), nil
}

// Create writes key to a new file at path with mode 0600, making its directory
// if need be. With a passphrase that is not empty the secret is encrypted with
// age (scrypt). Create fails with ErrExists where a file stands.
func Create(path string, key *pith.PrivateKey, passphrase string) error {
	public := key.Public()
	f := file{
		Type:        fileType,
		Version:     fileVersion,
		SignerID:    public.Signer.ID,
		SignerType:  public.Signer.Type,
		KeyID:       public.Signer.KeyID,
		Fingerprint: public.Fingerprint(),
	}
	if passphrase == "" {
		f.Seed = key.Seed()
	} else {
		var err error
		if f.EncryptedSeed, err = encrypt(key.Seed(), passphrase); err != nil {
			return fmt.Errorf("encrypt the key: %w", err)
		}
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	err = atomicfile.Create(path, append(data, '\n'), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", path, ErrExists)
	}
	return err
}

// Load reads the key at path. It calls passphrase when the key is encrypted;
// nil means that there is nobody to ask. On Unix it refuses files that others
// can read, with ErrOpenToOthers.
func Load(path string, passphrase func() (string, error)) (*pith.PrivateKey, error) {
	data, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	key, err := Parse(data, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// Parse reads a key from the text of its file.
func Parse(data []byte, passphrase func() (string, error)) (*pith.PrivateKey, error) {
	var f file
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		return nil, fmt.Errorf("no key file: %w", err)
	}
	if f.Type != fileType || f.Version != fileVersion {
		return nil, fmt.Errorf("no key file of version %s", fileVersion)
	}
	seed := f.Seed
	if f.EncryptedSeed != nil {
		if passphrase == nil {
			return nil, errors.New("the key is encrypted and there is nobody to ask for the passphrase")
		}
		word, err := passphrase()
		if err != nil {
			return nil, err
		}
		if seed, err = decrypt(f.EncryptedSeed, word); err != nil {
			return nil, err
		}
	}
	key, err := pith.NewKey(seed, pith.Signer{ID: f.SignerID, Type: f.SignerType, KeyID: f.KeyID})
	if err != nil {
		return nil, err
	}
	if got := key.Public().Fingerprint(); got != f.Fingerprint {
		return nil, fmt.Errorf("the key is damaged: its fingerprint is %s, the file says %s", got, f.Fingerprint)
	}
	return key, nil
}

// ReadSecret reads a small file that nobody but its owner may read. Errors:
// ErrOpenToOthers where others may.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o: %w; close it with chmod 600 %[1]s", path, mode, ErrOpenToOthers)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("%s is too large for a secret", path)
	}
	return data, err
}

func encrypt(seed []byte, passphrase string) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(workFactor)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(seed); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil { // writes the last chunk
		return nil, err
	}
	return out.Bytes(), nil
}

func decrypt(data []byte, passphrase string) ([]byte, error) {
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, ErrPassphrase // the empty one
	}
	r, err := age.Decrypt(bytes.NewReader(data), identity)
	if err != nil {
		var wrong *age.NoIdentityMatchError
		if errors.As(err, &wrong) {
			return nil, ErrPassphrase
		}
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxSize))
}
