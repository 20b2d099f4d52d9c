package pith

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openpith/evidence/pith/internal/canon"
)

// A Signer is the name under which a key speaks. Names are claims: only a
// trust policy ties them to a key.
type Signer struct {
	ID    string // who, like "pith.science" or an ORCID iD
	Type  string // in what role, like "pith_registry" or "individual"
	KeyID string // which of the signer's keys, like "pith-v1-2026-05"
}

// Check reports what is wrong with the names: each must be 1 to 256 bytes of
// printable UTF-8 without spaces around it.
func (s Signer) Check() error {
	for _, f := range []struct{ name, value string }{{"signer id", s.ID}, {"signer type", s.Type}, {"key id", s.KeyID}} {
		switch v := f.value; {
		case v == "":
			return fmt.Errorf("the %s is empty", f.name)
		case len(v) > 256:
			return fmt.Errorf("the %s has %d bytes, the limit is 256", f.name, len(v))
		case !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }):
			return fmt.Errorf("the %s %q has characters that cannot be printed", f.name, v)
		case strings.TrimSpace(v) != v:
			return fmt.Errorf("the %s %q has spaces around it", f.name, v)
		}
	}
	return nil
}

// A PublicKey is an Ed25519 key with the names its owner gives it.
type PublicKey struct {
	Signer Signer
	Key    ed25519.PublicKey // 32 bytes
}

// Fingerprint names the key: the first 16 bytes of the SHA-256 of its 32 bytes,
// in hex.
func (k PublicKey) Fingerprint() string {
	sum := sha256.Sum256(k.Key)
	return hex.EncodeToString(sum[:16])
}

// MarshalJSON gives the key as it stands in public_keys of a bundle (spec §8),
// in canonical form. The entry names the key, not the signer.
func (k PublicKey) MarshalJSON() ([]byte, error) {
	if len(k.Key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("a public key of %d bytes, want %d", len(k.Key), ed25519.PublicKeySize)
	}
	return k.entry(), nil
}

func (k PublicKey) entry() []byte {
	const null = "null"
	return canon.Build(
		canon.Member{Name: "key_id", Value: canon.Quote(k.Signer.KeyID)},
		canon.Member{Name: "algorithm", Value: canon.Quote("ed25519")},
		canon.Member{Name: "format", Value: canon.Quote("raw")},
		canon.Member{Name: "public_key_b64", Value: canon.Quote(base64.StdEncoding.EncodeToString(k.Key))},
		canon.Member{Name: "public_key_hex", Value: canon.Quote(hex.EncodeToString(k.Key))},
		canon.Member{Name: "fingerprint_sha256_hex", Value: canon.Quote(k.Fingerprint())},
		canon.Member{Name: "fingerprint_sha256_b32_first128bits", Value: canon.Quote(k.fingerprintB32())},
		canon.Member{Name: "rotates_at", Value: []byte(null)},
		canon.Member{Name: "url", Value: []byte(null)},
		canon.Member{Name: "notes", Value: canon.Quote("Ed25519 over the 32 bytes of the SHA-256 digest.")},
	)
}

// fingerprintB32 is the fingerprint in base32. Its published name says 128
// bits, but like a Pith Number it has 26 characters of the whole digest: 130.
func (k PublicKey) fingerprintB32() string {
	sum := sha256.Sum256(k.Key)
	return base32.StdEncoding.EncodeToString(sum[:])[:numberLength]
}

var keyFields = []field{
	word("key_id"),
	constant("algorithm", "ed25519"),
	constant("format", "raw"),
	text("public_key_b64"),
	text("public_key_hex"),
	text("fingerprint_sha256_hex"),
	text("fingerprint_sha256_b32_first128bits"),
}

// A keyring holds the public keys of a bundle by fingerprint. They let anybody
// check the mathematics; they say nothing about trust.
type keyring map[string]PublicKey

func (c *checks) keyring(path place, list canon.Value) keyring {
	keys := keyring{}
	i := 0
	for v := range list.Children() {
		path := path.item(i)
		i++
		k, ok := c.publicKey(path, v)
		if !ok {
			continue
		}
		fingerprint := v.Get("fingerprint_sha256_hex").Text()
		if _, twice := keys[fingerprint]; !c.is(CodeKeyDuplicate, path, !twice, "the fingerprint appears before") {
			continue
		}
		keys[fingerprint] = k
	}
	return keys
}

func (c *checks) publicKey(path place, v canon.Value) (PublicKey, bool) {
	if !c.shape(CodeKeyShape, path, v, keyFields) {
		return PublicKey{}, false
	}
	raw, err := decodeBase64(v.Get("public_key_b64").Text(), ed25519.PublicKeySize)
	if err != nil {
		return PublicKey{}, c.fail(CodeKeyForms, path.at("public_key_b64"), err.Error())
	}
	var room [64]byte
	digest := sha256.Sum256(raw)
	form := func(name string, want []byte) bool {
		if got := v.Get(name).Text(); got != string(want) {
			return c.equal(CodeKeyForms, path.at(name), string(want), got)
		}
		return c.pass(CodeKeyForms, path.at(name))
	}
	good := form("public_key_hex", hex.AppendEncode(room[:0], raw))
	good = form("fingerprint_sha256_hex", hex.AppendEncode(room[:0], digest[:16])) && good
	good = form("fingerprint_sha256_b32_first128bits", base32.StdEncoding.AppendEncode(room[:0], digest[:])[:numberLength]) && good
	return PublicKey{Signer{KeyID: v.Get("key_id").Text()}, raw}, good
}

// decodeBase64 is decodeStrict for something of a known size.
func decodeBase64(s string, size int) ([]byte, error) {
	b, err := decodeStrict(s)
	if err == nil && len(b) != size {
		return nil, fmt.Errorf("%d bytes, want %d", len(b), size)
	}
	return b, err
}

// decodeStrict reads base64 with padding and nothing else: no newlines, no
// missing padding, no bits left over. One signature has one spelling.
func decodeStrict(s string) ([]byte, error) { return appendBase64(nil, s) }

// appendBase64 appends what decodeStrict returns.
func appendBase64(dst []byte, s string) ([]byte, error) {
	if strings.IndexByte(s, '\n') >= 0 || strings.IndexByte(s, '\r') >= 0 { // which encoding/base64 would skip
		return nil, errors.New("base64 with a line break")
	}
	b, err := strictBase64.AppendDecode(dst, []byte(s))
	if err != nil {
		return nil, fmt.Errorf("not strict base64: %w", err)
	}
	return b, nil
}

var strictBase64 = base64.StdEncoding.Strict()

// A PrivateKey signs events and bundles.
type PrivateKey struct {
	signer Signer
	key    ed25519.PrivateKey
}

// GenerateKey makes a new key from 32 bytes of rand, which is crypto/rand.Reader
// everywhere but in tests.
func GenerateKey(rand io.Reader, signer Signer) (*PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return NewKey(seed, signer)
}

// NewKey returns the key that a seed of 32 bytes (RFC 8032) stands for.
func NewKey(seed []byte, signer Signer) (*PrivateKey, error) {
	if err := signer.Check(); err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("a key seed of %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	return &PrivateKey{signer, ed25519.NewKeyFromSeed(seed)}, nil
}

// Public returns the half that others may see.
func (k *PrivateKey) Public() PublicKey {
	return PublicKey{k.signer, k.key.Public().(ed25519.PublicKey)}
}

// Seed returns the secret: the 32 bytes from which NewKey makes this key.
func (k *PrivateKey) Seed() []byte { return bytes.Clone(k.key.Seed()) }
