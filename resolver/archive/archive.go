// Package archive keeps all bundles of a mirror as files that need no program
// of ours to be read: for cold copies, for handing over, for a new mirror.
//
// An archive is a directory of packs and a manifest. A pack is a Zstandard file
// with at most 10,000 bundles, one in canonical form per line, in the order of
// their suffixes; "zstdcat pack-*.zst | pith verify --lines -" checks them all.
// In front of the data stands a frame that every Zstandard reader skips. It
// names the number of the pack and the SHA-256 of the pack before:
//
//	pith-archive-pack-v1 PACK PREV\n        PREV of the first pack is 64 zeros
//
// So the digest of the last pack, the head, fixes every byte of every pack and
// their order. The manifest lists the packs with their digests and repeats the
// head; whoever knows the head from elsewhere needs to trust nobody.
//
// Reading and writing stream: memory does not grow with the archive.
package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/pith"
)

const (
	// PerPack is the largest number of bundles in a pack.
	PerPack = 10_000
	// ManifestName is the file that lists the packs.
	ManifestName = "manifest.json"

	manifestType = "pith_archive_manifest"
	version      = "1.0"
	packMagic    = "pith-archive-pack-v1"
	skipMagic    = 0x184D2A5E // a frame that Zstandard readers skip (RFC 8878, 3.1.2)
	maxManifest  = 64 << 20
	maxWindow    = 8 << 20 // what a reader keeps of the data
)

// noPack stands for the pack before the first.
var noPack = strings.Repeat("0", 2*sha256.Size)

// Errors of this package, for errors.Is. What was wrong and where stands around
// them.
var (
	// ErrDamaged reports bytes that are not those that were written.
	ErrDamaged = errors.New("the archive is damaged")
	// ErrIncomplete reports an archive whose writing was interrupted. Write
	// goes on with it.
	ErrIncomplete = errors.New("the archive is not complete")
	// ErrComplete reports that there is nothing left to write.
	ErrComplete = errors.New("the archive is complete already")
)

// A Manifest lists what an archive holds. Its JSON form is canonical and ends
// the same on every machine.
type Manifest struct {
	Type         string `json:"manifest_type"`
	Version      string `json:"archive_version"`
	MergeVersion string `json:"merge_version"`
	CreatedAt    string `json:"created_at"` // when writing began
	Source       string `json:"source"`     // who wrote it, for people
	Events       int64  `json:"events"`     // how many events the source had accepted when writing began: all of them are in here
	Complete     bool   `json:"complete"`
	Bundles      int64  `json:"bundles"`
	Head         string `json:"head"` // SHA-256 of the last pack
	Packs        []Pack `json:"packs"`
	SHA256       string `json:"manifest_sha256,omitempty"` // of the canonical form without this member
}

// A Pack is one file of an archive.
type Pack struct {
	Name         string `json:"name"`
	Bundles      int    `json:"bundles"`
	Bytes        int64  `json:"bytes"`         // of the file
	ContentBytes int64  `json:"content_bytes"` // of the lines in it
	SHA256       string `json:"sha256"`        // of the file
	First        string `json:"first"`         // suffix of its first bundle
	Last         string `json:"last"`          // suffix of its last one
}

// packName is the file of the i-th pack.
func packName(i int) string { return fmt.Sprintf("pack-%06d.jsonl.zst", i) }

// packHeader is the frame in front of a pack's data.
func packHeader(i int, prev string) []byte {
	text := fmt.Sprintf("%s %d %s\n", packMagic, i, prev)
	frame := binary.LittleEndian.AppendUint32(nil, skipMagic)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(text)))
	return append(frame, text...)
}

// encode returns the manifest as it is stored, with its digest.
func (m *Manifest) encode() ([]byte, error) {
	m.SHA256 = ""
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if data, err = pith.Canonical(data); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	m.SHA256 = hex.EncodeToString(sum[:])
	if data, err = json.Marshal(m); err != nil {
		return nil, err
	}
	return pith.Canonical(data)
}

// readManifest reads and checks the manifest of a directory.
func readManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, ManifestName)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := scanManifest(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func scanManifest(r io.Reader) (*Manifest, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, err
	}
	return parseManifest(data)
}

// parseManifest takes a manifest only in the bytes that encode gives.
func parseManifest(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("%w: the manifest has more than %d bytes", ErrDamaged, maxManifest)
	}
	m := &Manifest{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("%w: the manifest is no JSON object of this kind: %v", ErrDamaged, err)
	}
	if m.Type != manifestType || m.Version != version {
		return nil, fmt.Errorf("%w: manifest_type %.40q, archive_version %.40q; this program reads %q %q", ErrDamaged, m.Type, m.Version, manifestType, version)
	}
	again, err := m.encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if !bytes.Equal(again, bytes.TrimSuffix(data, []byte("\n"))) {
		return nil, fmt.Errorf("%w: the manifest is not as it was written (manifest_sha256 should be %s)", ErrDamaged, m.SHA256)
	}
	var bundles int64
	head, last := noPack, ""
	for i, p := range m.Packs {
		switch {
		case p.Name != packName(i):
			return nil, fmt.Errorf("%w: pack %d is called %.40q", ErrDamaged, i, p.Name)
		case p.Bundles < 1 || p.Bundles > PerPack || p.Bytes < 1 || p.ContentBytes < 1 || p.ContentBytes > int64(p.Bundles)*(pith.MaxSize+1):
			return nil, fmt.Errorf("%w: pack %d has impossible sizes", ErrDamaged, i)
		case p.First <= last || p.Last < p.First:
			return nil, fmt.Errorf("%w: pack %d is out of order", ErrDamaged, i)
		}
		head, last, bundles = p.SHA256, p.Last, bundles+int64(p.Bundles)
	}
	if m.Head != head || m.Bundles != bundles {
		return nil, fmt.Errorf("%w: head or count of the manifest are not those of its packs", ErrDamaged)
	}
	return m, nil
}

// A Bundle is one bundle on its way into an archive.
type Bundle struct {
	Suffix string // 26 characters
	Data   []byte // in canonical form
}

// Options say how to write.
type Options struct {
	CreatedAt time.Time
	Source    string
	Events    int64 // see Manifest
	PerPack   int   // default and maximum PerPack
	Progress  func(Manifest)
}

// Write fills a directory with the bundles that after lists: those whose suffix
// is greater than its argument, in order. After every pack the manifest is brought up to
// date, so that the same call goes on where an interrupted one stopped; what
// changed in the meantime in packs that are written stays as it was. A directory that has a
// complete archive is left as it is: ErrComplete.
func Write(ctx context.Context, dir string, o Options, after func(suffix string) iter.Seq2[Bundle, error]) (*Manifest, error) {
	if o.PerPack <= 0 || o.PerPack > PerPack {
		o.PerPack = PerPack
	}
	if err := atomicfile.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	m, err := readManifest(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m = &Manifest{
			Type: manifestType, Version: version, MergeVersion: pith.MergeVersion,
			CreatedAt: o.CreatedAt.UTC().Format(time.RFC3339), Source: o.Source, Events: o.Events,
			Head: noPack, Packs: []Pack{},
		}
		// An empty manifest first: a pack without one would be nobody's.
		if err := m.save(dir); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case m.Complete:
		return m, fmt.Errorf("%s: %w", dir, ErrComplete)
	}
	// What a killed run was writing.
	torn, err := filepath.Glob(filepath.Join(dir, ".pack-*.tmp"))
	if err != nil {
		return m, err
	}
	for _, name := range torn {
		if err := os.Remove(name); err != nil {
			return m, err
		}
	}
	last := ""
	if n := len(m.Packs); n > 0 {
		last = m.Packs[n-1].Last
	}
	next, stop := iter.Pull2(after(last))
	defer stop()
	w := &writer{ctx: ctx, next: next, last: last}
	for w.more() {
		p, err := w.pack(dir, len(m.Packs), m.Head, o.PerPack)
		if err != nil {
			return m, err
		}
		m.Packs, m.Head, m.Bundles = append(m.Packs, p), p.SHA256, m.Bundles+int64(p.Bundles)
		if err := m.save(dir); err != nil {
			return m, err
		}
		if o.Progress != nil {
			o.Progress(*m)
		}
	}
	if w.err != nil {
		return m, w.err
	}
	m.Complete = true
	return m, m.save(dir)
}

func (m *Manifest) save(dir string) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, ManifestName), append(data, '\n'), 0o644)
}

// A writer takes bundles from an iterator and packs them.
type writer struct {
	ctx   context.Context
	next  func() (Bundle, error, bool)
	ahead *Bundle
	last  string
	err   error
}

// more reports whether there is another bundle, and looks at it.
func (w *writer) more() bool {
	if w.ahead != nil || w.err != nil {
		return w.err == nil
	}
	if w.err = w.ctx.Err(); w.err != nil {
		return false
	}
	b, err, ok := w.next()
	switch {
	case !ok:
		return false
	case err != nil:
		w.err = err
	case len(b.Suffix) != 26 || b.Suffix <= w.last:
		w.err = fmt.Errorf("the store lists %q after %q", b.Suffix, w.last)
	case len(b.Data) == 0 || len(b.Data) > pith.MaxSize || bytes.IndexByte(b.Data, '\n') >= 0:
		w.err = fmt.Errorf("the bundle of %s is not in canonical form", b.Suffix)
	default:
		w.ahead, w.last = &b, b.Suffix
	}
	return w.err == nil
}

// pack writes the next file.
func (w *writer) pack(dir string, i int, prev string, limit int) (Pack, error) {
	p := Pack{Name: packName(i), First: w.ahead.Suffix}
	err := atomicfile.WriteFrom(filepath.Join(dir, p.Name), 0o644, func(file io.Writer) error {
		sum := &meter{w: file, hash: sha256.New()}
		if _, err := sum.Write(packHeader(i, prev)); err != nil {
			return err
		}
		// One goroutine: the same bundles give the same bytes, with this version of the library.
		z, err := zstd.NewWriter(sum, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(maxWindow),
			zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
		if err != nil {
			return err
		}
		for p.Bundles < limit && w.more() {
			b := w.ahead
			w.ahead = nil
			for _, part := range [][]byte{b.Data, {'\n'}} {
				if _, err := z.Write(part); err != nil {
					return err
				}
			}
			p.Bundles, p.Last, p.ContentBytes = p.Bundles+1, b.Suffix, p.ContentBytes+int64(len(b.Data))+1
		}
		if w.err != nil {
			return w.err
		}
		if err := z.Close(); err != nil {
			return err
		}
		p.Bytes, p.SHA256 = sum.n, hex.EncodeToString(sum.hash.Sum(nil))
		return nil
	})
	return p, err
}

// A meter counts and hashes what passes.
type meter struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.w.Write(b)
	m.hash.Write(b[:n])
	m.n += int64(n)
	return n, err
}
