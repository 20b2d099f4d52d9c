package tlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/openpith/evidence/resolver"
)

// Check derives the log from the store again and compares all its files with
// that, and the store with every checkpoint that is known: the published one,
// the one that the store remembers, and those in known, which may come from
// anywhere. It takes 32 bytes of memory for each event.
func (l *Log) Check(ctx context.Context, known []*Checkpoint, report func(resolver.Problem)) error {
	problem := func(where, code, format string, args ...any) {
		report(resolver.Problem{Where: where, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	// In the order against that of writing: a mirror may run.
	seen, err := l.seen(ctx)
	forgotten := seen == nil && err == nil
	if err != nil {
		problem("remembered checkpoint", "log_checkpoint", "%v", err)
	}
	published, err := l.Checkpoint(ctx)
	if errors.Is(err, resolver.ErrNotFound) {
		published = nil
	} else if err != nil {
		problem("log checkpoint", "log_checkpoint", "%v", err)
	}
	_, err = os.Stat(l.dir)
	lost := errors.Is(err, fs.ErrNotExist) // all of it, so it will be written again
	type claim struct {
		where string
		*Checkpoint
	}
	var claims []claim
	if published != nil {
		claims = append(claims, claim{"log checkpoint", published})
	}
	if seen != nil {
		claims = append(claims, claim{"remembered checkpoint", seen})
		if !lost && (published == nil || published.Size < seen.Size) {
			problem("log", "log_truncated", "a checkpoint of %d entries was published, the log has none as large", seen.Size)
		}
	}
	for _, cp := range known {
		claims = append(claims, claim{"given checkpoint", cp})
	}

	roots := map[int64][]byte{}
	for _, c := range claims {
		roots[c.Size] = nil
	}
	tree := newTree(nil)
	if err := l.derive(ctx, tree, roots); err != nil {
		return err
	}
	if published != nil && forgotten && 0 < published.Size && published.Size < tree.size {
		// Of a store that was loaded anew nothing is lost: it has what the log has. A
		// mirror that runs may have told its store meanwhile.
		if now, err := l.seen(ctx); now == nil && err == nil {
			problem("remembered checkpoint", "log_forgotten", "the log covers %d of %d events and the database remembers no checkpoint: whether there was a larger one nobody knows", published.Size, tree.size)
		}
	}
	for _, c := range claims {
		switch root := roots[c.Size]; {
		case c.Size > tree.size:
			problem(c.where, "log_ahead", "it covers %d events, the store has %d", c.Size, tree.size)
		case !bytes.Equal(root, c.Root[:]):
			problem(c.where, "log_root", "its root is %s, the store's first %d events give %x", c.Root, c.Size, root)
		}
	}
	if published == nil {
		return nil
	}
	return l.checkFiles(ctx, tree, published.Size, problem)
}

// derive adds the store's events to a tree that is empty, and says what roots it has
// at some sizes. A tree that does not keep all its hashes ends at the largest of them.
func (l *Log) derive(ctx context.Context, t *tree, roots map[int64][]byte) error {
	last := slices.Max(append(slices.Collect(maps.Keys(roots)), 0))
	note := func() (err error) {
		if _, wanted := roots[t.size]; wanted {
			roots[t.size], err = t.root()
		}
		return err
	}
	if err := note(); err != nil {
		return err
	}
	for t.full == nil || t.size < last {
		n := int64(pageSize)
		if t.full != nil {
			n = min(n, last-t.size)
		}
		events, err := l.store.EventsFrom(ctx, t.size, int(n))
		if err != nil || len(events) == 0 {
			return err
		}
		for _, e := range events {
			if e.Seq != t.size {
				return nil // what comes after a gap has no place; the store's check reports it
			}
			if err := t.append(rfc6962.DefaultHasher.HashLeaf(resolver.Leaf(e))); err != nil {
				return err
			}
			if err := note(); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkFiles compares every file of the log with the tree, and asks that those
// of the published size are there.
func (l *Log) checkFiles(ctx context.Context, t *tree, size int64, problem func(where, code, format string, args ...any)) error {
	base := filepath.Join(l.dir, "tile")
	err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if path == base && errors.Is(err, fs.ErrNotExist) {
			return nil // a log of no entries; of others the files are missed below
		}
		if err != nil {
			problem(path, "log_unreadable", "%v", err)
			return nil
		}
		if d.IsDir() || isLeftover(d.Name()) {
			return nil
		}
		rel, err := filepath.Rel(base, path)
		if err != nil {
			return err
		}
		level, index, ok := strings.Cut(filepath.ToSlash(rel), "/")
		if !ok {
			problem(path, "log_file", "a file that no log has")
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			problem(path, "log_unreadable", "%v", err)
			return nil
		}
		if level == "entries" {
			n, partial, err := layout.ParseTileIndexPartial(index)
			if err != nil || n > uint64(t.size) {
				problem(path, "log_file", "a file that no log has")
				return nil
			}
			return l.checkEntries(ctx, path, data, int64(n), width(partial), t.size, problem)
		}
		lev, n, partial, err := layout.ParseTileLevelIndexPartial(level, index)
		if err != nil || n > uint64(t.size) { // the largest names say more than a number holds
			problem(path, "log_file", "a file that no log has")
			return nil
		}
		var want []byte
		if int(lev) < len(t.levels) {
			hashes := t.levels[lev]
			from := min(int(n)*layout.TileWidth, len(hashes))
			want = bytes.Join(hashes[from:min(from+width(partial), len(hashes))], nil)
		}
		if !bytes.Equal(data, want) || len(want) == 0 {
			problem(path, "log_tile", "its hashes are not those of the store's events")
		}
		return nil
	})
	if err != nil {
		return err
	}
	for level, hashes := uint64(0), size; hashes > 0; level, hashes = level+1, hashes/layout.TileWidth {
		for i := int64(0); i*layout.TileWidth < hashes; i++ {
			p := layout.PartialTileSize(level, uint64(i), uint64(size))
			names := []string{layout.TilePath(level, uint64(i), p), layout.TilePath(level, uint64(i), 0)}
			if level == 0 {
				l.present(problem, layout.EntriesPath(uint64(i), p), layout.EntriesPath(uint64(i), 0))
			}
			l.present(problem, names...)
		}
	}
	return nil
}

// present asks that one of two files is there.
func (l *Log) present(problem func(where, code, format string, args ...any), names ...string) {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(l.dir, filepath.FromSlash(name))); err == nil {
			return
		}
	}
	problem(names[0], "log_missing", "the published checkpoint needs this file")
}

func width(partial uint8) int {
	if partial == 0 {
		return layout.TileWidth
	}
	return int(partial)
}

func (l *Log) checkEntries(ctx context.Context, path string, data []byte, n int64, count int, size int64, problem func(where, code, format string, args ...any)) error {
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(data); err != nil || len(bundle.Entries) != count {
		problem(path, "log_entries", "not a file of %d entries", count)
		return nil
	}
	events, err := l.store.EventsFrom(ctx, n*layout.EntryBundleWidth, count)
	if err != nil {
		return err
	}
	for i, entry := range bundle.Entries {
		if i >= len(events) || n*layout.EntryBundleWidth+int64(i) >= size || !bytes.Equal(entry, resolver.Leaf(events[i])) {
			problem(path, "log_entries", "entry %d is not the event of the store", n*layout.EntryBundleWidth+int64(i))
			return nil
		}
	}
	return nil
}
