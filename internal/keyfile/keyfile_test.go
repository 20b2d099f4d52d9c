package keyfile

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/openpith/evidence/pith"
)

func newKey(t *testing.T) *pith.PrivateKey {
	t.Helper()
	key, err := pith.GenerateKey(rand.Reader, pith.Signer{ID: "ada", Type: "individual", KeyID: "ada-1"})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func say(word string) func() (string, error) {
	return func() (string, error) { return word, nil }
}

func TestRoundTrip(t *testing.T) {
	defer func(f int) { workFactor = f }(workFactor)
	workFactor = 4
	for _, passphrase := range []string{"", "open sesame"} {
		path := filepath.Join(t.TempDir(), "deep", "key.json")
		key := newKey(t)
		if err := Create(path, key, passphrase); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if encrypted := !bytes.Contains(data, []byte("seed_b64")); encrypted != (passphrase != "") {
			t.Errorf("passphrase %q: encrypted is %v", passphrase, encrypted)
		}
		if info, _ := os.Stat(path); runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, want 0600", info.Mode())
		}
		got, err := Load(path, say(passphrase))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Seed(), key.Seed()) || got.Public().Signer != key.Public().Signer {
			t.Error("another key came back")
		}
		if passphrase == "" {
			continue
		}
		for _, wrong := range []string{"open", ""} {
			if _, err := Load(path, say(wrong)); !errors.Is(err, ErrPassphrase) {
				t.Errorf("passphrase %q: %v", wrong, err)
			}
		}
		if _, err := Load(path, nil); err == nil {
			t.Error("an encrypted key was loaded without asking")
		}
	}
}

func TestNeverOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.json")
	if err := Create(path, newKey(t), ""); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	if err := Create(path, newKey(t), ""); !errors.Is(err, ErrExists) {
		t.Errorf("second Create: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the key has changed")
	}
}

func TestRefusesFilesOpenToOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	path := filepath.Join(t.TempDir(), "key.json")
	if err := Create(path, newKey(t), ""); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
		os.Chmod(path, mode)
		_, err := Load(path, nil)
		if !errors.Is(err, ErrOpenToOthers) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestDamagedFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.json")
	if err := Create(path, newKey(t), ""); err != nil {
		t.Fatal(err)
	}
	good, _ := os.ReadFile(path)
	for name, data := range map[string][]byte{
		"empty":         nil,
		"truncated":     good[:len(good)/2],
		"unknown field": bytes.Replace(good, []byte(`"key_id"`), []byte(`"x": 1, "key_id"`), 1),
		"other version": bytes.Replace(good, []byte(`"1.0"`), []byte(`"2.0"`), 1),
		"other seed":    bytes.Replace(good, []byte(`"seed_b64": "`), []byte(`"seed_b64": "AAAA`), 1),
		"fingerprint":   bytes.Replace(good, []byte(`"fingerprint": "`), []byte(`"fingerprint": "0`), 1),
		"huge":          bytes.Repeat([]byte(" "), maxSize+1),
	} {
		os.WriteFile(path, data, 0o600)
		if _, err := Load(path, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
