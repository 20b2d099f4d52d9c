package archive

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/openpith/evidence/pith"
)

// Open returns the manifest of a complete archive, checked against itself.
// Errors are ErrIncomplete, ErrDamaged, or those of the file system.
func Open(dir string) (*Manifest, error) {
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	if !m.Complete {
		return nil, fmt.Errorf("%s: %w: %d packs are there", dir, ErrIncomplete, len(m.Packs))
	}
	return m, nil
}

// Read returns the manifest of a complete archive from its bytes, as Open does
// from a directory.
func Read(r io.Reader) (*Manifest, error) {
	m, err := scanManifest(r)
	if err == nil && !m.Complete {
		err = fmt.Errorf("%w: %d packs are there", ErrIncomplete, len(m.Packs))
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Opener opens a file of an archive by its name, wherever the archive lies.
type Opener func(ctx context.Context, name string) (io.ReadCloser, error)

// Dir opens the files of an archive in a directory.
func Dir(dir string) Opener {
	return func(_ context.Context, name string) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, name)) }
}

// Pack lists the bundles of pack i, each valid until the next. The digest of
// a file is known at its end, so an error after the last bundle says that the
// pack is not what the manifest names; bundles are to be verified each by itself
// in any case. Errors are ErrDamaged or those of the file system, and end the
// list.
func (m *Manifest) Pack(ctx context.Context, open Opener, i int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		prev := noPack
		if i > 0 {
			prev = m.Packs[i-1].SHA256
		}
		f, err := open(ctx, m.Packs[i].Name)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.Close()
		for line, err := range readPack(ctx, f, m.Packs[i], packHeader(i, prev)) {
			if err != nil && ctx.Err() == nil {
				err = fmt.Errorf("%s: %w", m.Packs[i].Name, err)
			}
			if !yield(line, err) {
				return
			}
		}
	}
}

// readPack reads what should be the pack p.
func readPack(ctx context.Context, file io.Reader, p Pack, header []byte) iter.Seq2[[]byte, error] {
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
	}
	return func(yield func([]byte, error) bool) {
		sum := sha256.New()
		// One byte more than there should be shows what was appended.
		counted := &io.LimitedReader{R: file, N: p.Bytes + 1}
		raw := io.TeeReader(counted, sum)
		got := make([]byte, len(header))
		if n, err := io.ReadFull(raw, got); err != nil || !bytes.Equal(got, header) {
			yield(nil, damaged("it does not begin as %q, but as %.120q", header[8:], got[:n]))
			return
		}
		z, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(1<<62))
		if err != nil {
			yield(nil, err)
			return
		}
		defer z.Close()
		content := &io.LimitedReader{R: z, N: p.ContentBytes + 1}
		lines := bufio.NewScanner(content)
		lines.Buffer(make([]byte, 0, 64<<10), pith.MaxSize+1)
		lines.Split(wholeLines)
		n := 0
		for ctx.Err() == nil && lines.Scan() {
			if n++; n > p.Bundles {
				break
			}
			if !yield(lines.Bytes(), nil) {
				return
			}
		}
		switch err := lines.Err(); {
		case ctx.Err() != nil:
			yield(nil, ctx.Err())
			return
		case err != nil:
			yield(nil, damaged("line %d: %v", n+1, err))
			return
		case n != p.Bundles || content.N != 1:
			yield(nil, damaged("it holds %d bundles in %d bytes or more, the manifest says %d in %d", n, p.ContentBytes+1-content.N, p.Bundles, p.ContentBytes))
			return
		}
		// The decoder stops at the end of its frame; the digest covers the file.
		if _, err := io.Copy(io.Discard, raw); err != nil {
			yield(nil, err)
			return
		}
		if digest := hex.EncodeToString(sum.Sum(nil)); digest != p.SHA256 || counted.N != 1 {
			yield(nil, damaged("its SHA-256 is %s, the manifest says %s", digest, p.SHA256))
		}
	}
}

// wholeLines splits into lines; unlike bufio.ScanLines it does not take a last
// line without an end, and drops no carriage return.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

// A Report says what Verify found.
type Report struct {
	Packs   int   // that were read
	Bundles int64 // that were read
	Events  int64 // in them
	Faults  int   // how often fault was called
}

// Verify reads a whole archive with all cores and calls fault for everything
// that is not as it should be: packs that are damaged, missing, out of order, or
// not in the manifest; bundles that [pith.Verify] rejects, that are not in
// canonical form, or out of order. Whether signers are trusted is not asked.
// head is the digest of the last pack if it is known from elsewhere, or "". The
// error is that of an archive that cannot be read at all, or of ctx.
func Verify(ctx context.Context, dir, head string, fault func(error), progress func(Report)) (Report, error) {
	var r Report
	report := func(err error) {
		r.Faults++
		fault(err)
	}
	m, err := Open(dir)
	if err != nil {
		return r, err
	}
	if head != "" && head != m.Head {
		report(fmt.Errorf("%w: its head is %s, not %s", ErrDamaged, m.Head, head))
	}
	names, err := filepath.Glob(filepath.Join(dir, "pack-*"))
	if err != nil {
		return r, err
	}
	for _, name := range names {
		if base := filepath.Base(name); !m.has(base) {
			report(fmt.Errorf("%w: %s is not in the manifest", ErrDamaged, base))
		}
	}
	for i, p := range m.Packs {
		first, last := "", ""
		for b, err := range verified(m.Pack(ctx, Dir(dir), i)) {
			if err != nil {
				if ctx.Err() != nil {
					return r, ctx.Err()
				}
				report(err)
				continue
			}
			r.Bundles++
			r.Events += int64(b.events)
			switch {
			case b.err != nil:
				report(fmt.Errorf("%s: bundle %s after %s: %w", p.Name, b.suffix, last, b.err))
			case b.suffix <= last:
				report(fmt.Errorf("%s: %w: %s comes after %s", p.Name, ErrDamaged, b.suffix, last))
			}
			if first == "" {
				first = b.suffix
			}
			last = b.suffix
		}
		if first != "" && (first != p.First || last != p.Last) {
			report(fmt.Errorf("%s: %w: it holds %s to %s, the manifest says %s to %s", p.Name, ErrDamaged, first, last, p.First, p.Last))
		}
		r.Packs++
		if progress != nil {
			progress(r)
		}
	}
	return r, nil
}

// has reports whether a pack is called name.
func (m *Manifest) has(name string) bool {
	var i int
	if _, err := fmt.Sscanf(name, "pack-%06d.jsonl.zst", &i); err != nil || i < 0 || i >= len(m.Packs) {
		return false
	}
	return m.Packs[i].Name == name
}

// A checked bundle is what verification says about one.
type checked struct {
	suffix string
	events int
	err    error // the bundle is rejected
}

// verified checks bundles on all cores and gives the answers in order. Errors of
// reading come where they belong.
func verified(bundles iter.Seq2[[]byte, error]) iter.Seq2[checked, error] {
	type answer struct {
		checked
		read error
	}
	return func(yield func(checked, error) bool) {
		workers := runtime.GOMAXPROCS(0)
		order := make(chan chan answer, 4*workers)
		slots := make(chan struct{}, workers)
		stop := make(chan struct{})
		defer func() {
			close(stop)
			for range order { // until the reader has gone
			}
		}()
		go func() {
			defer close(order)
			for data, err := range bundles {
				a := make(chan answer, 1)
				if err != nil {
					a <- answer{read: err}
				} else {
					data := bytes.Clone(data)
					slots <- struct{}{}
					go func() {
						defer func() { <-slots }()
						a <- answer{checked: check(data)}
					}()
				}
				select {
				case order <- a:
				case <-stop:
					return
				}
			}
		}()
		for a := range order {
			got := <-a
			if !yield(got.checked, got.read) {
				return
			}
		}
	}
}

// check verifies one bundle.
func check(data []byte) checked {
	r := pith.Verify(data, nil)
	c := checked{events: r.Events.Total}
	if _, suffix, ok := strings.Cut(strings.TrimPrefix(r.PithNumber, "pith:"), ":"); ok {
		c.suffix = suffix
	}
	if v := r.Structure(); v != pith.Valid {
		c.err = fmt.Errorf("%s: %s", v, r.Failures()[0])
		return c
	}
	if canonical, err := pith.Canonical(data); err != nil || !bytes.Equal(canonical, data) {
		c.err = fmt.Errorf("%w: not in canonical form", ErrDamaged)
	}
	return c
}
