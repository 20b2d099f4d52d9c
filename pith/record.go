package pith

import (
	"bufio"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"

	"github.com/openpith/evidence/pith/internal/canon"
)

// Canonical returns the canonical form of one JSON value (spec §1), the bytes
// that every digest in Pith is taken over. Errors are *SyntaxError.
func Canonical(data []byte) ([]byte, error) { return canon.Canonical(data) }

// A SyntaxError tells why the strict reader refused its input, and where.
type SyntaxError = canon.Error

// numberLength is the length of a Pith Number without prefix and year: 26
// characters of 5 bits are 130 bits, two more than 16 bytes hold.
const numberLength = 26

// A record is a canonical record together with what follows from it.
type record struct {
	canon.Value
	// Looked up once: each of a stranger's many events and aliases asks for them,
	// and the stranger's record can have a million other members.
	source, kind, id, version                                    canon.Value // the source and its members
	title, abstract, license, primaryCat, crossCats, submittedAt canon.Value // of metadata

	digest [sha256.Size]byte // of the canonical form
	sha256 string            // the same in hex
	suffix string            // the 26 characters
	number string            // pith:YYYY:SUFFIX
}

var recordFields = []field{
	constant("schema_version", "1.0"),
	object("metadata"),
	object("source"),
}

var metadataFields = []field{
	hexDigest("abstract_canon_sha256"),
	strs("cross_cats_sorted"),
	text("license"), // "" on papers from before licences
	word("primary_cat"),
	second("submitted_at"),
	hexDigest("title_canon_sha256"),
}

var sourceFields = []field{word("id"), word("kind"), positive("version")}

// record reads a canonical record. It is nil when the record has not the shape
// from which an identity follows.
func (c *checks) record(path place, v canon.Value) *record {
	good := c.shape(CodeRecordShape, path, v, recordFields)
	if v.Kind() != canon.Object {
		return nil
	}
	source, metadata := v.Get("source"), v.Get("metadata")
	good = c.shape(CodeRecordShape, path.at("metadata"), metadata, metadataFields) && good
	good = c.shape(CodeRecordShape, path.at("source"), source, sourceFields) && good
	if !good {
		return nil
	}
	r := &record{
		Value:  v,
		source: source, kind: source.Get("kind"), id: source.Get("id"), version: source.Get("version"),
		title: metadata.Get("title_canon_sha256"), abstract: metadata.Get("abstract_canon_sha256"),
		license: metadata.Get("license"), primaryCat: metadata.Get("primary_cat"),
		crossCats: metadata.Get("cross_cats_sorted"), submittedAt: metadata.Get("submitted_at"),
		digest: v.Digest(),
	}
	// One string holds digest and number. The year is that of submission, not
	// that of the arXiv id.
	var room [160]byte
	text := hex.AppendEncode(room[:0], r.digest[:])
	text = append(text, "pith:"...)
	text = append(text, r.submittedAt.Text()[:4]...)
	text = append(text, ':')
	suffixAt := len(text)
	text = base32.StdEncoding.AppendEncode(text, r.digest[:])[:suffixAt+numberLength]
	all := string(text)
	r.sha256, r.suffix, r.number = all[:2*sha256.Size], all[suffixAt:], all[2*sha256.Size:]
	return r
}

// Number returns the Pith Number, pith:YYYY:<26 characters>, and the SHA-256 in
// hex of one canonical record (spec §2). The record may be written in any way
// that the strict reader takes. Errors are *SyntaxError or *CheckError.
func Number(record []byte) (number, sha256hex string, err error) {
	r, err := readRecord(record)
	if err != nil {
		return "", "", err
	}
	return r.number, r.sha256, nil
}

// alias returns, in parts, the value that an alias of this kind must have; ok is
// false for kinds that do not follow from the record.
func (r *record) alias(kind string) (parts [3]string, ok bool) {
	id := r.id.Text()
	arxiv := r.kind.Is("arxiv")
	switch kind {
	case "arxiv":
		return [3]string{id}, arxiv
	case "arxiv_version":
		return [3]string{id, "v", string(r.version.Canonical())}, arxiv
	case "doi":
		return [3]string{"10.48550/arxiv.", lower(id)}, arxiv
	case "pith_short_8":
		return [3]string{r.suffix[:8]}, true
	case "pith_short_12":
		return [3]string{r.suffix[:12]}, true
	case "pith_short_16":
		return [3]string{r.suffix[:16]}, true
	}
	return parts, false
}

// hexOf returns the SHA-256 of s in hex.
func hexOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// MaxSize is the largest input in bytes that the strict reader takes (spec §10).
const MaxSize = canon.MaxSize

// SplitValues returns a function that lets a bufio.Scanner cut a stream into
// the JSON values it consists of. Use a fresh one for every stream.
func SplitValues() bufio.SplitFunc { return canon.SplitValues() }
