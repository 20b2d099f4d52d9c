// Package tlog keeps the transparency log of a mirror: an append-only list of
// everything that it accepted, under checkpoints that it signs, in the form of
// https://c2sp.org/tlog-tiles. Who has two checkpoints can check that the later
// one only added to the earlier; who has a bundle can check that its events are
// in the log that everybody else sees.
//
// The log holds nothing that the store does not: leaf i is [resolver.Leaf] of
// the event with the number i. It follows the store, so a crash between the two
// is repaired by going on, and a lost log is written again, the same to the bit
// except for its signatures.
package tlog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	logformat "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
)

// ErrHistory reports a log that is not the one of its store: one of them was
// changed, or lost what it had. Nothing is appended then. pith fsck tells more.
var ErrHistory = errors.New("the log and the store tell different histories")

// seenKey is where the store keeps the newest checkpoint that was published.
const seenKey = "log/checkpoint"

// A Log is the log of one mirror, in a directory.
type Log struct {
	dir      string
	store    resolver.Store
	signer   note.Signer
	verifier note.Verifier
	key      string // of the verifier, as text
	files    client.FileFetcher
}

// A Checkpoint is what the mirror signed last.
type Checkpoint struct {
	Size int64
	Root resolver.Digest
	Text []byte // the signed note
}

// Open returns the log of a store in a directory, which Run and CatchUp make.
// The key is the mirror's own.
func Open(dir string, store resolver.Store, key *pith.PrivateKey) (*Log, error) {
	quiet()
	secret, public := encodeKey(key)
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return &Log{dir: dir, store: store, signer: signer, verifier: verifier, key: public, files: client.FileFetcher{Root: dir}}, nil
}

// quiet keeps Tessera, which writes what it does to standard error, to warnings.
var quiet = sync.OnceFunc(func() {
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
})

// encodeKey writes a key as golang.org/x/mod/sumdb/note wants it. The name of
// the log, its origin, is made of the fingerprint: no two logs share it.
func encodeKey(key *pith.PrivateKey) (secret, public string) {
	const ed25519Algorithm = 1
	name := "pith-mirror/" + key.Public().Fingerprint()
	pub := append([]byte{ed25519Algorithm}, key.Public().Key...)
	sum := sha256.Sum256(append([]byte(name+"\n"), pub...)) // note.keyHash
	hash := fmt.Sprintf("%08x", binary.BigEndian.Uint32(sum[:4]))
	seed := append([]byte{ed25519Algorithm}, key.Seed()[:ed25519.SeedSize]...)
	return "PRIVATE+KEY+" + name + "+" + hash + "+" + base64.StdEncoding.EncodeToString(seed),
		name + "+" + hash + "+" + base64.StdEncoding.EncodeToString(pub)
}

// VerifierKey is the line that others need to check checkpoints, in the form of
// golang.org/x/mod/sumdb/note.
func (l *Log) VerifierKey() string { return l.key }

// Checkpoint returns the newest published checkpoint. Errors:
// resolver.ErrNotFound before the first one.
func (l *Log) Checkpoint(ctx context.Context) (*Checkpoint, error) {
	text, err := l.files.ReadCheckpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, resolver.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return l.parse(text)
}

func (l *Log) parse(text []byte) (*Checkpoint, error) { return ParseCheckpoint(text, l.key) }

// ParseCheckpoint reads a checkpoint and checks its signature by the key of a
// log, see VerifierKey.
func ParseCheckpoint(text []byte, key string) (*Checkpoint, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return nil, fmt.Errorf("key of the log: %w", err)
	}
	cp, _, _, err := logformat.ParseCheckpoint(text, verifier.Name(), verifier)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if cp.Size > 1<<62 || len(cp.Hash) != sha256.Size {
		return nil, errors.New("checkpoint: its size or its root cannot be")
	}
	return &Checkpoint{Size: int64(cp.Size), Root: resolver.Digest(cp.Hash), Text: text}, nil
}

// Size is the number of events that the newest checkpoint covers, 0 without one.
func (l *Log) Size(ctx context.Context) int64 {
	cp, err := l.Checkpoint(ctx)
	if err != nil {
		return 0
	}
	return cp.Size
}

// Run keeps the log up with its store until the context ends. changed tells
// when there is something new; the store is asked once a second beside, since
// others may write to it. Of several processes one does the work, the others
// wait to take over. An error other than the context's means that the log
// stands still.
func (l *Log) Run(ctx context.Context, changed func() <-chan struct{}) error {
	err := l.locked(ctx, func(ctx context.Context) error {
		return l.append(ctx, func(a *appender) error {
			remembered := l.Size(ctx)
			for {
				wake := changed()
				if err := a.follow(ctx); err != nil {
					return err
				}
				if size := l.Size(ctx); size != remembered {
					if err := l.remember(ctx); err != nil {
						return err
					}
					remembered = size
				}
				select {
				case <-ctx.Done():
					return nil
				case <-wake:
				case <-time.After(pause):
				}
			}
		})
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// CatchUp brings the log up with its store and publishes a checkpoint that
// covers all of it. Where another process does that, it waits until it has done so,
// but not longer than a while; then there is nothing left to do and no error.
func (l *Log) CatchUp(ctx context.Context, wait time.Duration) error {
	loaded := make(chan struct{})
	close(loaded)
	return l.Follow(ctx, loaded, wait)
}

// Whose turn it is to write the log.
const (
	undecided = iota
	ours
	theirs
)

// Follow is CatchUp for a store that is being loaded: it writes the log beside,
// and returns when loaded is closed and all is in the log.
func (l *Log) Follow(ctx context.Context, loaded <-chan struct{}, wait time.Duration) error {
	var turn atomic.Int32
	waiting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	go func() {
		select {
		case <-loaded:
			l.await(waiting, wait)
		case <-waiting.Done():
		}
		if turn.CompareAndSwap(undecided, theirs) {
			giveUp()
		}
	}()
	err := l.locked(waiting, func(ctx context.Context) error {
		if !turn.CompareAndSwap(undecided, ours) {
			return nil
		}
		return l.append(ctx, func(a *appender) error {
			for {
				last := isClosed(loaded) // before the store is asked, which has everything then
				if err := a.follow(ctx); err != nil || last {
					return err
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-loaded:
				case <-time.After(pause): // many at once: fewer files are written twice
				}
			}
		})
	})
	if turn.Load() == theirs {
		return ctx.Err()
	}
	return err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// await returns when another process has published all that the store has, or
// after a while.
func (l *Log) await(ctx context.Context, wait time.Duration) {
	ctx, stop := context.WithTimeout(ctx, wait)
	defer stop()
	tick := time.NewTicker(500 * time.Millisecond) // who finds the lock free has it by then
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if counts, err := l.store.Counts(ctx); err == nil && l.Size(ctx) == counts.Events {
			return
		}
	}
}

// locked runs f as the only one that may append: the only one on the store, by its
// lock, and the only one in the directory, by a file. A lock of a database can be
// lost with its connection; the file keeps the next one out until the one before
// has ended, since two of them would write the same event twice.
func (l *Log) locked(ctx context.Context, f func(context.Context) error) error {
	return l.store.Lock(ctx, "log", func(ctx context.Context) (err error) {
		state := filepath.Join(l.dir, ".state")
		if err := os.MkdirAll(state, 0o755); err != nil {
			return fmt.Errorf("log: %w", err)
		}
		file := flock.New(filepath.Join(state, "writer.lock"))
		if _, err := file.TryLockContext(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("log: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		return f(ctx)
	})
}

// append runs f with an appender and publishes what it added. What was begun is
// brought to its end when the context ends.
func (l *Log) append(ctx context.Context, f func(*appender) error) error {
	if err := l.removeLeftovers(); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	work, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	a, err := l.open(work)
	if err != nil {
		return err
	}
	err = f(a)
	if a.next > 0 { // of an empty log nothing is published
		err = errors.Join(err, a.shutdown(work))
	}
	return errors.Join(err, l.remember(work))
}

// isLeftover reports whether a file of the log is one that a crash left half
// written: Tessera writes to the name of the tile with a random number behind it,
// and then renames. Names of tiles have three digits at the most.
func isLeftover(name string) bool { return len(name) > 3 && strings.Trim(name, "0123456789") == "" }

func (l *Log) removeLeftovers() error {
	err := filepath.WalkDir(filepath.Join(l.dir, "tile"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isLeftover(d.Name()) {
			return err
		}
		return os.Remove(path)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there are no tiles yet
	}
	return err
}

// An appender adds to the log.
type appender struct {
	*Log
	add      tessera.AddFn
	shutdown func(context.Context) error
	next     int64
}

// Sizes of what is added at once, and how long a checkpoint may lag behind.
const (
	batchSize = 1024
	pageSize  = 8 * batchSize
	interval  = 500 * time.Millisecond
	pause     = time.Second // between two looks at the store
)

func (l *Log) open(ctx context.Context) (*appender, error) {
	driver, err := posix.New(ctx, posix.Config{Path: l.dir})
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	options := tessera.NewAppendOptions().WithCheckpointSigner(l.signer).WithCheckpointInterval(interval).
		WithCheckpointRepublishInterval(0).WithBatching(batchSize, 5*time.Millisecond).WithPushback(2 * pageSize)
	a, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	next, err := reader.IntegratedSize(ctx)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	out := &appender{l, a.Add, shutdown, int64(next)}
	return out, out.sameHistory(ctx)
}

// sameHistory asks whether the log is a beginning of what the store has: it is not
// longer, its last entry is the store's, it is not shorter than a checkpoint that
// was published, and the store's events have the root of every checkpoint that is
// known, also when the files of the log are gone. The files are compared by Check.
func (a *appender) sameHistory(ctx context.Context) error {
	seen, err := a.seen(ctx)
	if err != nil {
		return err
	}
	if seen != nil && seen.Size > a.next {
		if a.next > 0 {
			return fmt.Errorf("log: it has %d entries, a published checkpoint has %d: %w", a.next, seen.Size, ErrHistory)
		}
	}
	published, err := a.Checkpoint(ctx)
	if err != nil && !errors.Is(err, resolver.ErrNotFound) {
		return err
	}
	if err := a.sameRoots(ctx, seen, published); err != nil || a.next == 0 {
		return err
	}
	events, err := a.store.EventsFrom(ctx, a.next-1, 1)
	if err != nil {
		return err
	}
	if len(events) == 0 {
		return fmt.Errorf("log: it has %d entries, the store has fewer events: %w", a.next, ErrHistory)
	}
	leaf, err := a.leaf(ctx, a.next-1, a.next)
	if err != nil {
		return fmt.Errorf("log: entry %d: %w", a.next-1, err)
	}
	if string(leaf) != string(resolver.Leaf(events[0])) {
		return fmt.Errorf("log: entry %d is not the event of the store: %w", a.next-1, ErrHistory)
	}
	return nil
}

// sameRoots asks whether the store's events have the roots of checkpoints; those
// that are nil are not asked about.
func (l *Log) sameRoots(ctx context.Context, checkpoints ...*Checkpoint) error {
	roots := map[int64][]byte{}
	for _, cp := range checkpoints {
		if cp != nil {
			roots[cp.Size] = nil
		}
	}
	if len(roots) == 0 {
		return nil
	}
	if _, err := l.derive(ctx, roots, false); err != nil {
		return err
	}
	for _, cp := range checkpoints {
		if cp != nil && !bytes.Equal(roots[cp.Size], cp.Root[:]) {
			return fmt.Errorf("log: a checkpoint of %d entries was signed, the store has other events: %w", cp.Size, ErrHistory)
		}
	}
	return nil
}

// leaf reads an entry of a log of a size.
func (l *Log) leaf(ctx context.Context, index, size int64) ([]byte, error) {
	bundle, err := client.GetEntryBundle(ctx, l.files.ReadEntryBundle, uint64(index)/256, uint64(size))
	if err != nil {
		return nil, err
	}
	if i := index % 256; i < int64(len(bundle.Entries)) {
		return bundle.Entries[i], nil
	}
	return nil, fmt.Errorf("the file holds %d entries", len(bundle.Entries))
}

// follow adds what the store has beyond the log.
func (a *appender) follow(ctx context.Context) error {
	for {
		events, err := a.store.EventsFrom(ctx, a.next, pageSize)
		if err != nil || len(events) == 0 {
			return err
		}
		futures := make([]tessera.IndexFuture, len(events))
		for i, e := range events {
			if e.Seq != a.next+int64(i) {
				return fmt.Errorf("log: the store has no event %d: %w", a.next+int64(i), ErrHistory)
			}
			futures[i] = a.add(ctx, tessera.NewEntry(resolver.Leaf(e)))
		}
		for i, future := range futures {
			got, err := future()
			if err != nil {
				return fmt.Errorf("log: append event %d: %w", a.next+int64(i), err)
			}
			if int64(got.Index) != a.next+int64(i) {
				return fmt.Errorf("log: event %d got the index %d: %w", a.next+int64(i), got.Index, ErrHistory)
			}
		}
		a.next += int64(len(events))
	}
}

// seen returns the newest checkpoint that the store remembers, or nil.
func (l *Log) seen(ctx context.Context) (*Checkpoint, error) {
	text, err := l.store.Meta(ctx, seenKey)
	if errors.Is(err, resolver.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return l.parse(text)
}

// remember keeps the published checkpoint in the store, so that a log that is
// cut off or exchanged is noticed.
func (l *Log) remember(ctx context.Context) error {
	cp, err := l.Checkpoint(ctx)
	if errors.Is(err, resolver.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.store.SetMeta(ctx, seenKey, cp.Text)
}
