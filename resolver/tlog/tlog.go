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
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	logformat "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
)

// ErrHistory reports a log that is not the one of its store: one of them was
// changed, or lost what it had. Nothing is appended then. pith fsck tells more.
var ErrHistory = errors.New("the log and the store tell different histories")

// How long the log waits between two looks at the store, and for more to come.
const (
	pause  = time.Second
	gather = 200 * time.Millisecond
)

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

// Open returns the log of a store in a directory, which Run and Follow make.
// The key is the mirror's own.
func Open(dir string, store resolver.Store, key *pith.PrivateKey) (*Log, error) {
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

// Name is that of the log of a key, its origin. It is made of the fingerprint: no two
// logs share it.
func Name(key *pith.PrivateKey) string { return "pith-mirror/" + key.Public().Fingerprint() }

// encodeKey writes a key as golang.org/x/mod/sumdb/note wants it.
func encodeKey(key *pith.PrivateKey) (secret, public string) {
	const ed25519Algorithm = 1
	name := Name(key)
	pub := append([]byte{ed25519Algorithm}, key.Public().Key...)
	sum := sha256.Sum256(append([]byte(name+"\n"), pub...)) // note.keyHash
	hash := fmt.Sprintf("%08x", binary.BigEndian.Uint32(sum[:4]))
	seed := append([]byte{ed25519Algorithm}, key.Seed()[:ed25519.SeedSize]...)
	return "PRIVATE+KEY+" + name + "+" + hash + "+" + base64.StdEncoding.EncodeToString(seed),
		name + "+" + hash + "+" + base64.StdEncoding.EncodeToString(pub)
}

// PublicKey is the key in a line as VerifierKey returns it: a mirror signs its log and
// the bundles that it unites with one key.
func PublicKey(line string) (ed25519.PublicKey, error) {
	if _, err := note.NewVerifier(line); err != nil {
		return nil, err
	}
	parts := strings.SplitN(line, "+", 3) // the last one may have more of them
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize {
		return nil, fmt.Errorf("%.100q has no Ed25519 key", line)
	}
	return key[1:], nil
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
	if origin, _, _ := strings.Cut(string(text), "\n"); err != nil && origin != verifier.Name() {
		return nil, fmt.Errorf("checkpoint: it is of the log %q, the key of %s: %w", origin, verifier.Name(), err)
	}
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
		a, err := l.open(ctx)
		if err != nil {
			return err
		}
		for {
			wake := changed()
			if err := a.follow(ctx); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-wake:
			case <-time.After(pause):
			}
			select { // what comes in a storm is published together
			case <-ctx.Done():
				return nil
			case <-time.After(gather):
			}
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Whose turn it is to write the log.
const (
	undecided = iota
	ours
	theirs
)

// Follow writes the log beside a store that is being loaded, and returns when loaded
// is closed and a checkpoint covers all of it. Where another process writes the log, it
// waits then until that has done so, but not longer than a while; then there is
// nothing left to do and no error.
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
		a, err := l.open(ctx)
		if errors.Is(err, ErrHistory) { // a store that is loaded anew has what the log has in the end
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-loaded:
			}
			a, err = l.open(ctx)
		}
		if err != nil {
			return err
		}
		for {
			last := isClosed(loaded) // before the store is asked, which has everything then
			if err := a.follow(ctx); err != nil || last {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-loaded:
			case <-time.After(pause):
			}
		}
	})
	if turn.Load() == theirs && (err == nil || errors.Is(err, context.Canceled)) {
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
		if err := atomicfile.MkdirAll(state, 0o755); err != nil {
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

// isLeftover reports whether a file of the log is one that a crash left half
// written: under another name, which says so. Earlier versions wrote to the name of
// the tile, which has three digits at the most, with a random number behind it.
func isLeftover(name string) bool {
	return strings.HasSuffix(name, ".tmp") || len(name) > 3 && strings.Trim(name, "0123456789") == ""
}

func (l *Log) removeLeftovers() error {
	return filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isLeftover(d.Name()) {
			return err
		}
		return os.Remove(path)
	})
}

// Owner returns the name of the log that was signed over a store, as Name gives it for
// the key that did, "" where none was.
func Owner(ctx context.Context, store resolver.Store) (name string, err error) {
	text, err := store.Meta(ctx, seenKey)
	if errors.Is(err, resolver.ErrNotFound) {
		return "", nil
	}
	name, _, _ = strings.Cut(string(text), "\n")
	return name, err
}

// Renew has the store forget the log that another key signed, so that this one
// begins, in a directory where none is. Those who copied the other hold it to what it
// signed: with the same key that would be a contradiction.
func (l *Log) Renew(ctx context.Context) error {
	switch owner, err := Owner(ctx, l.store); {
	case err != nil || owner == "":
		return err
	case owner == l.verifier.Name(): // however the rest of what the store remembers may be damaged
		return errors.New("a new log needs a new key, and this one signed the old log")
	}
	return l.store.SetMeta(ctx, seenKey, nil)
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
