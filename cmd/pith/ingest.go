package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/tlog"
)

// ingesting are the settings of pith ingest.
type ingesting struct {
	home
	refused string
	batch   int
	again   bool
	json    bool
}

func ingestCommand() *cobra.Command {
	s := &ingesting{}
	cmd := &cobra.Command{
		Use:   "ingest FILE...",
		Short: "Load bundles into a mirror's database",
		Long: `ingest verifies bundles, events and key documents on all cores and lets them into
the database of a mirror, by the rules of that mirror, but without limits on how
many. Settings come from the command line, else from the environment and the
configuration file, as those of pith serve. A file that ends in .json holds one of
them; in every other file, and on standard input (-), each line holds one.

What was loaded before under the same trust files and --unknown is skipped. When
ingest is interrupted, the same command goes on where it stopped. A mirror may
serve from the database meanwhile.

Exit codes: 0 everything is in, 1 something was refused, 2 it could not be
done, 3 nothing was refused, but something waits for a moderator. What is skipped
counts as it did when it was loaded.`,
		Example: "  pith ingest --trust signers.json --refused refused.jsonl bundles.jsonl",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return s.run(cmd, args) },
	}
	s.serviceFlags(cmd)
	cmd.Flags().StringVar(&s.refused, "refused", "", "append what does not get in to `FILE`, or print it with -, one line of JSON each: where it stood and why")
	cmd.Flags().IntVar(&s.batch, "batch", 512, "commit `N` at a time")
	cmd.Flags().BoolVar(&s.again, "again", false, "read files from their beginning, whatever was loaded before")
	cmd.Flags().BoolVar(&s.json, "json", false, "print the result as JSON")
	return cmd
}

// An ingestResult is what pith ingest did.
type ingestResult struct {
	Submissions int            `json:"submissions"`
	NewEvents   int            `json:"new_events"`
	Unchanged   int            `json:"unchanged"` // held nothing that was not there
	Queued      int            `json:"queued"`
	Refused     int            `json:"refused"`
	Reasons     map[string]int `json:"reasons"` // of both
	Seconds     float64        `json:"seconds"`
}

func (s *ingesting) run(cmd *cobra.Command, paths []string) error {
	if s.batch < 1 {
		return cli.Hint(fmt.Errorf("--batch %d", s.batch), "1 or more")
	}
	// Loading makes much garbage and keeps little: this trades some memory for time.
	defer debug.SetGCPercent(debug.SetGCPercent(200))
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	store, err := s.open(cmd)
	if err != nil {
		return err
	}
	defer store.Close()
	config, err := s.config(cmd, store, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
	if err != nil {
		return err
	}
	config.Limits = resolver.Limits{Refused: -1, Queued: -1}
	service, err := resolver.NewService(config)
	if err != nil {
		return err
	}
	in := &ingest{service: service, store: store, batch: s.batch, again: s.again, policy: service.Policy(), result: ingestResult{Reasons: map[string]int{}}}
	switch s.refused {
	case "":
	case "-":
		in.refused = cmd.OutOrStdout()
	default:
		f, err := os.OpenFile(s.refused, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return cli.Hint(err, "name a file that can be written")
		}
		defer f.Close()
		in.refused = f
	}
	started := time.Now()
	in.bar = newReading(cmd.ErrOrStderr(), paths)
	logged := s.beside(ctx, stop, store, config.Key)
	err = in.files(ctx, cmd, paths)
	in.bar.close()
	if stopped := context.Cause(ctx); stopped != nil && cmd.Context().Err() == nil {
		err = stopped // what came of it says less
	}
	if failed := logged(); err == nil {
		err = failed
	}
	r := &in.result
	r.Seconds = time.Since(started).Seconds()
	if s.json {
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d submissions in %.1f s (%.0f/s): %d new events, %d unchanged, %d queued, %d refused\n",
			r.Submissions, r.Seconds, float64(r.Submissions)/r.Seconds, r.NewEvents, r.Unchanged, r.Queued, r.Refused)
		for _, code := range slices.Sorted(maps.Keys(r.Reasons)) {
			fmt.Fprintf(cmd.ErrOrStderr(), "  %d %s\n", r.Reasons[code], code)
		}
	}
	refused, queued := r.Refused+in.earlier.Refused, r.Queued+in.earlier.Queued
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cli.Hint(err, "check the name; what was loaded before it is loaded")
	case errors.Is(err, tlog.ErrHistory):
		return cli.Hint(err, "is %s the log of another database? give each database a --data directory of its own; else run pith fsck", filepath.Join(s.data, "log"))
	case err != nil:
		return cli.Hint(err, "what was loaded is loaded; the same command goes on from there")
	case refused > 0:
		return &cli.Error{Code: cli.ExitRejected, Err: fmt.Errorf("%d of the submissions were refused", refused),
			Hint: "with --again --refused FILE, FILE has for each where it stands and why; pith explain CODE tells more"}
	case queued > 0:
		return &cli.Error{Code: cli.ExitUntrusted, Err: fmt.Errorf("%d of the submissions wait for a moderator", queued),
			Hint: "pith moderate list, with the same --data and --db, shows them; the same command with --trust FILE lets in what the signers in FILE say"}
	}
	return nil
}

// beside writes the transparency log while the store is loaded, and stops the
// loading when it cannot. It returns what waits until all that was loaded is in
// the log. A mirror that runs on the store holds the log's lock and does it itself.
func (s *ingesting) beside(ctx context.Context, stop func(error), store resolver.Store, key *pith.PrivateKey) (wait func() error) {
	if s.db == "memory:" {
		return func() error { return nil }
	}
	loaded, done := make(chan struct{}), make(chan error, 1)
	go func() {
		l, err := tlog.Open(filepath.Join(s.data, "log"), store, key)
		if err == nil {
			err = l.Follow(ctx, loaded, 5*time.Second)
		}
		if err != nil {
			stop(err)
		}
		done <- err
	}()
	return func() error {
		close(loaded)
		return <-done
	}
}

// ingest loads files into a store.
type ingest struct {
	service *resolver.Service
	store   resolver.Store
	batch   int
	again   bool
	policy  string // digest of what decides who gets in
	refused io.Writer
	bar     *counter
	read    atomic.Int64
	result  ingestResult
	earlier fate // of what was loaded before

	loaded cursor    // of the file that is being loaded
	saved  time.Time // when the store took note of it
}

// A batch is some submissions of one file.
type batch struct {
	subs []resolver.Submission
	end  int64 // where in the file the next one begins
	cursor
	done chan error // buffered
	out  []resolver.Outcome
}

// A cursor says how far a file was loaded, and what of it did not get in. It belongs
// to the file as it was and to the policy: with another size, time or trust file it
// is read from its beginning.
type cursor struct {
	key      string // of the store's small values; "" for what cannot be resumed
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"`
	Policy   string `json:"policy"`
	Offset   int64  `json:"offset"`
	fate
}

// A fate is how many submissions did not get in.
type fate struct {
	Refused int `json:"refused"`
	Queued  int `json:"queued"`
}

// files loads files in order. While one batch is written the next are verified.
func (in *ingest) files(ctx context.Context, cmd *cobra.Command, paths []string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	order := make(chan *batch, runtime.GOMAXPROCS(0))
	var readErr error
	go func() {
		defer close(order)
		for _, path := range paths {
			if readErr = in.file(ctx, cmd, path, order); readErr != nil {
				return
			}
		}
	}()
	var failed error
	for b := range order {
		if err := <-b.done; err != nil {
			failed = errors.Join(failed, err)
			stop()
		}
		if failed != nil {
			continue // let the reader end
		}
		if failed = in.settle(ctx, b); failed == nil {
			failed = in.account(ctx, b)
		}
		if failed != nil {
			stop()
		}
	}
	if failed != nil && ctx.Err() != nil && cmd.Context().Err() != nil {
		failed, readErr = cmd.Context().Err(), nil
	}
	saveErr := in.save(context.WithoutCancel(ctx))
	return cmp.Or(errors.Join(failed, readErr), saveErr)
}

// file cuts one file into batches and starts them.
func (in *ingest) file(ctx context.Context, cmd *cobra.Command, path string, order chan<- *batch) error {
	c, err := in.cursorOf(ctx, path)
	if err != nil {
		return err
	}
	f, err := open(cmd, path)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.Offset > 0 {
		if _, err := f.(io.Seeker).Seek(c.Offset, io.SeekStart); err != nil {
			return err
		}
		in.read.Add(c.Offset)
		in.earlier.Refused += c.Refused
		in.earlier.Queued += c.Queued
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d of %d bytes were loaded before: %d queued, %d refused\n", path, c.Offset, c.Size, c.Queued, c.Refused)
	}
	b := &batch{cursor: c, end: c.Offset, done: make(chan error, 1)}
	send := func() error {
		if len(b.subs) == 0 {
			return nil
		}
		select {
		case order <- b: // as many at once as the channel holds
		case <-ctx.Done():
			return ctx.Err()
		}
		go func(b *batch) {
			var err error
			b.out, err = in.service.SubmitAll(ctx, b.subs)
			b.done <- err
		}(b)
		b = &batch{cursor: c, end: b.end, done: make(chan error, 1)}
		return nil
	}
	if strings.HasSuffix(path, ".json") {
		data, err := io.ReadAll(io.LimitReader(f, pith.MaxSize+1))
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		in.read.Add(int64(len(data)))
		b.subs, b.end = append(b.subs, resolver.Submission{Data: data, From: path, Unlimited: true}), int64(len(data))
		return send()
	}
	n := 0
	err = eachLine(ctx, f, &in.read, func(line []byte, size int) error {
		n++
		b.end += int64(size)
		if line == nil {
			return nil
		}
		from := fmt.Sprintf("%s:%d", path, n)
		if c.Offset > 0 {
			from = fmt.Sprintf("%s@%d", path, b.end-int64(size)) // lines before were not counted
		}
		if b.subs = append(b.subs, resolver.Submission{Data: line, From: from, Unlimited: true}); len(b.subs) < in.batch {
			return nil
		}
		return send()
	})
	if err != nil {
		return err // has the path
	}
	return send()
}

// settle submits again what was refused of a batch, now that everything before
// it is in: the batches before were under way at the same time, and may have
// brought the record, the key or the event that it needs.
func (in *ingest) settle(ctx context.Context, b *batch) error {
	var at []int
	var subs []resolver.Submission
	for i, out := range b.out {
		if r := new(resolver.Refusal); errors.As(out.Err, &r) && r.Status == resolver.Refused {
			at, subs = append(at, i), append(subs, b.subs[i])
		}
	}
	if len(at) == 0 {
		return nil
	}
	again, err := in.service.SubmitAll(ctx, subs)
	if err != nil {
		return err
	}
	for j, i := range at {
		if part := b.out[i].Receipt; part != nil {
			in.result.NewEvents += part.New
		}
		var before *resolver.Refusal
		if again[j].Err == nil && errors.As(b.out[i].Err, &before) && before.ID != 0 {
			err := in.store.MoveHeld(ctx, before.ID, resolver.Refused, resolver.Accepted, before.Code, "what it needs came with what was loaded before it")
			if err != nil && !errors.Is(err, resolver.ErrNotFound) {
				return err
			}
		}
		b.out[i] = again[j]
	}
	return nil
}

const cursorPrefix = "ingest/"

// cursorOf returns how far a file was loaded.
func (in *ingest) cursorOf(ctx context.Context, path string) (cursor, error) {
	info, err := os.Stat(path)
	if path == "-" || err != nil || !info.Mode().IsRegular() || strings.HasSuffix(path, ".json") {
		return cursor{}, nil // what cannot be opened says so when it is opened
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return cursor{}, err
	}
	sum := sha256.Sum256([]byte(full))
	c := cursor{key: cursorPrefix + hex.EncodeToString(sum[:]), Size: info.Size(), Modified: info.ModTime().UnixNano(), Policy: in.policy}
	text, err := in.store.Meta(ctx, c.key)
	if in.again || errors.Is(err, resolver.ErrNotFound) {
		return c, nil
	}
	old := cursor{}
	if err == nil {
		err = json.Unmarshal(text, &old)
	}
	if err != nil {
		return c, err
	}
	if old.Size == c.Size && old.Modified == c.Modified && old.Policy == c.Policy {
		c.Offset, c.fate = old.Offset, old.fate
	}
	return c, nil
}

// account takes note of a batch that is in the store.
func (in *ingest) account(ctx context.Context, b *batch) error {
	r := &in.result
	if b.key == in.loaded.key {
		b.fate = in.loaded.fate
	}
	for i, out := range b.out {
		r.Submissions++
		if out.Receipt != nil {
			r.NewEvents += out.Receipt.New
		}
		var refusal *resolver.Refusal
		switch {
		case out.Err == nil:
			if out.Receipt.New == 0 {
				r.Unchanged++
			}
		case errors.As(out.Err, &refusal):
			r.Reasons[refusal.Code]++
			if refusal.Status == resolver.Queued {
				r.Queued++
				b.Queued++
			} else {
				r.Refused++
				b.Refused++
			}
			if in.refused != nil {
				text, err := json.Marshal(struct {
					From   string          `json:"from"`
					Status resolver.Status `json:"status"`
					Code   string          `json:"code"`
					Detail string          `json:"detail"`
					ID     int64           `json:"id,omitempty"`
				}{b.subs[i].From, refusal.Status, refusal.Code, refusal.Detail, refusal.ID})
				if err != nil {
					return err
				}
				if _, err := in.refused.Write(append(text, '\n')); err != nil {
					return err
				}
			}
		default:
			return out.Err
		}
	}
	in.bar.showRead(in.read.Load(), r.Submissions)
	b.Offset = b.end
	if b.key != in.loaded.key {
		if err := in.save(ctx); err != nil {
			return err
		}
	}
	in.loaded = b.cursor
	if time.Since(in.saved) < time.Second {
		return nil // what a crash makes it load twice is skipped
	}
	return in.save(ctx)
}

// save has the store take note of how far a file was loaded.
func (in *ingest) save(ctx context.Context) error {
	if in.loaded.key == "" {
		return nil
	}
	text, err := json.Marshal(in.loaded)
	if err != nil {
		return err
	}
	in.saved = time.Now()
	return in.store.SetMeta(ctx, in.loaded.key, text)
}
