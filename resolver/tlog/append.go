package tlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	logformat "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/resolver"
)

// An appender adds to the log. It does one thing after the other: entries are
// where the store has them, since nothing is under way beside. What it publishes
// is on the disk before the checkpoint that covers it. Where it fails the log is as
// it was and the appender is of no more use: the next one writes the same files.
type appender struct {
	*Log
	tree    *tree  // of what is written
	entries []byte // of the last file of entries, while it is not full
	signed  int64  // the size of the largest checkpoint, below which none is signed
}

// pageSize is how many events are published at once at most.
const pageSize = 8192

// open returns the appender of a log that has the history of its store.
func (l *Log) open(ctx context.Context) (*appender, error) {
	published, err := l.Checkpoint(ctx)
	fresh := errors.Is(err, resolver.ErrNotFound)
	if fresh {
		published, err = &Checkpoint{Root: resolver.Digest(rfc6962.DefaultHasher.EmptyRoot())}, nil
	}
	if err != nil {
		return nil, err
	}
	seen, err := l.seen(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.removeLeftovers(); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	a := &appender{Log: l, signed: published.Size}
	if seen != nil && seen.Size == published.Size && seen.Root == published.Root {
		if a.tree, err = l.continued(ctx, published); err != nil {
			return nil, err
		}
	}
	if a.tree == nil {
		if a.tree, err = l.derived(ctx, published, seen); err != nil {
			return nil, err
		}
	}
	switch {
	case seen != nil:
		a.signed = max(a.signed, seen.Size)
	case fresh:
		if err := l.sign(ctx, a.tree); err != nil {
			return nil, fmt.Errorf("log: %w", err)
		}
	default: // a crash came before the store was told of the first one
		if err := l.store.SetMeta(ctx, seenKey, published.Text); err != nil {
			return nil, fmt.Errorf("log: %w", err)
		}
	}
	return a, a.resume(ctx)
}

// continued takes the end of the tree from the tiles. It returns nil where they
// have not the root of the checkpoint, or where the newest events of the store, up to
// 65,536 of them, are not theirs: derived finds out why. To compare all events takes
// minutes in a log of millions; Check does it.
func (l *Log) continued(ctx context.Context, published *Checkpoint) (*tree, error) {
	t := &tree{size: published.Size, full: forget}
	var nodes [][]byte // the complete subtrees, from the largest to the smallest
	for level := 0; t.size>>(8*level) > 0; level++ {
		n, index := int(t.size>>(8*level)%layout.TileWidth), t.size>>(8*(level+1))
		var hashes [][]byte
		if n > 0 {
			data, err := l.files.ReadTile(ctx, uint64(level), uint64(index), uint8(n))
			if err != nil || len(data) < n*sha256.Size {
				return nil, nil // derived does without them
			}
			hashes = slices.Collect(slices.Chunk(data[:n*sha256.Size], sha256.Size))
		}
		t.levels = append(t.levels, hashes)
		part, err := rangeOf(hashes)
		if err != nil {
			return nil, err
		}
		nodes = append(part.Hashes(), nodes...)
	}
	var err error
	if t.all, err = ranges.NewRange(0, uint64(t.size), nodes); err != nil {
		return nil, err
	}
	if root, err := t.root(); err != nil || !bytes.Equal(root, published.Root[:]) {
		return nil, err
	}
	const span = layout.TileWidth * layout.TileWidth
	newest := newTree(forget)
	start := max(t.size-1, 0) / span * span
	for at := start; at < t.size; {
		events, err := l.store.EventsFrom(ctx, at, int(min(pageSize, t.size-at)))
		if err != nil {
			return nil, err
		}
		if len(events) == 0 || events[0].Seq != at {
			return nil, nil
		}
		for _, e := range events {
			if err := newest.append(rfc6962.DefaultHasher.HashLeaf(resolver.Leaf(e))); err != nil {
				return nil, err
			}
		}
		at += int64(len(events))
	}
	for level, hashes := range newest.levels {
		before := len(t.levels[level]) - len(hashes)
		if before < 0 || !slices.EqualFunc(hashes, t.levels[level][before:], bytes.Equal) {
			return nil, nil
		}
	}
	return t, nil
}

// derived makes the tree of the published checkpoint from the store, which must have
// the roots of that and of the one that it remembers.
func (l *Log) derived(ctx context.Context, published, seen *Checkpoint) (*tree, error) {
	t := newTree(forget)
	roots := map[int64][]byte{published.Size: nil}
	if seen != nil && seen.Size < published.Size { // a crash came before the store was told
		roots[seen.Size] = nil
	}
	if err := l.derive(ctx, t, roots); err != nil {
		return nil, err
	}
	if seen != nil && seen.Size > published.Size { // the log is gone, or comes from a backup: it is written again
		roots[seen.Size] = nil
		if err := l.derive(ctx, newTree(forget), roots); err != nil {
			return nil, err
		}
	}
	for _, cp := range []*Checkpoint{published, seen} {
		if cp != nil && !bytes.Equal(roots[cp.Size], cp.Root[:]) {
			return nil, fmt.Errorf("log: a checkpoint of %d entries was signed, the store has other events: %w", cp.Size, ErrHistory)
		}
	}
	return t, nil
}

// resume reads the entries of the last file, which is not full.
func (a *appender) resume(ctx context.Context) error {
	n := int(a.tree.size % layout.EntryBundleWidth)
	if n == 0 {
		return nil
	}
	events, err := a.store.EventsFrom(ctx, a.tree.size-int64(n), n)
	if err != nil {
		return err
	}
	for _, e := range events {
		a.entries = appendEntry(a.entries, resolver.Leaf(e))
	}
	return nil
}

// appendEntry writes an entry as files of entries hold it (c2sp.org/tlog-tiles).
func appendEntry(to, leaf []byte) []byte {
	return append(binary.BigEndian.AppendUint16(to, uint16(len(leaf))), leaf...)
}

// follow publishes what the store has beyond the log.
func (a *appender) follow(ctx context.Context) error {
	for {
		events, err := a.store.EventsFrom(ctx, a.tree.size, pageSize)
		if err != nil || len(events) == 0 {
			return err
		}
		err = a.publish(context.WithoutCancel(ctx), events)
		if errors.Is(err, syscall.ENOSPC) {
			err = fmt.Errorf("%w: %w", resolver.ErrFull, err)
		}
		if err != nil {
			return fmt.Errorf("log: %w", err)
		}
	}
}

// publish adds events and signs a checkpoint that covers them.
func (a *appender) publish(ctx context.Context, events []resolver.Event) error {
	files := map[string][]byte{}
	var parts []string // directories with files of less, of what is full now
	before := a.tree.size
	a.tree.full = func(level int, index int64, hashes [][]byte) {
		path := layout.TilePath(uint64(level), uint64(index), 0)
		files[path], parts = bytes.Join(hashes, nil), append(parts, path+".p")
	}
	for _, e := range events {
		if e.Seq != a.tree.size {
			return fmt.Errorf("the store has no event %d: %w", a.tree.size, ErrHistory)
		}
		leaf := resolver.Leaf(e)
		a.entries = appendEntry(a.entries, leaf)
		if err := a.tree.append(rfc6962.DefaultHasher.HashLeaf(leaf)); err != nil {
			return err
		}
		if a.tree.size%layout.EntryBundleWidth == 0 {
			path := layout.EntriesPath(uint64(a.tree.size/layout.EntryBundleWidth-1), 0)
			files[path], parts = a.entries, append(parts, path+".p")
			a.entries = nil
		}
	}
	if n := uint8(a.tree.size % layout.EntryBundleWidth); n > 0 {
		files[layout.EntriesPath(uint64(a.tree.size/layout.EntryBundleWidth), n)] = a.entries
	}
	for level, hashes := range a.tree.levels {
		if len(hashes) > 0 && a.tree.size>>(8*level) != before>>(8*level) { // else it is there
			index := a.tree.size >> (8 * (level + 1))
			files[layout.TilePath(uint64(level), uint64(index), uint8(len(hashes)))] = bytes.Join(hashes, nil)
		}
	}
	if err := writeAll(a.dir, files); err != nil {
		return err
	}
	if a.tree.size >= a.signed { // else a lost log is being written again
		if err := a.sign(ctx, a.tree); err != nil {
			return err
		}
		a.signed = a.tree.size
	}
	for _, dir := range parts { // who asks for one of them is sent to the full file
		if err := os.RemoveAll(filepath.Join(a.dir, filepath.FromSlash(dir))); err != nil {
			return err
		}
	}
	return nil
}

// writeAll writes files below a directory, several at once: each waits for the disk.
func writeAll(dir string, files map[string][]byte) error {
	var group errgroup.Group
	group.SetLimit(8)
	for name, data := range files {
		group.Go(func() error {
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err := atomicfile.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			return atomicfile.Write(path, data, 0o644)
		})
	}
	return group.Wait()
}

// sign publishes a checkpoint over a tree, and has the store remember it, so that
// a log that is cut off or exchanged is noticed.
func (l *Log) sign(ctx context.Context, t *tree) error {
	root, err := t.root()
	if err != nil {
		return err
	}
	body := logformat.Checkpoint{Origin: l.signer.Name(), Size: uint64(t.size), Hash: root}
	text, err := note.Sign(&note.Note{Text: string(body.Marshal())}, l.signer)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(l.dir, layout.CheckpointPath), text, 0o644); err != nil {
		return err
	}
	return l.store.SetMeta(ctx, seenKey, text)
}
