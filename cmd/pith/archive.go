package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/internal/httpserve"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/archive"
	"github.com/openpith/evidence/resolver/mirror"
)

func archiveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "archive",
		Short:   "Keep all bundles of a mirror as plain files",
		Example: "  pith archive verify /mnt/cold/pith-2026-11",
	}
	cmd.AddCommand(archiveWriteCommand(), archiveVerifyCommand(), archiveCloneCommand())
	return cmd
}

func archiveWriteCommand() *cobra.Command {
	var (
		h      home
		source string
	)
	cmd := &cobra.Command{
		Use:   "write DIR",
		Short: "Write an archive",
		Long: `write puts every bundle of a mirror into packs of 10,000: Zstandard files that need
no program of ours ("zstdcat pack-*.zst" gives one bundle per line), each naming the
digest of the one before, and a manifest. It prints the head: the digest of the last
pack, which fixes every byte of all of them. Keep it somewhere else.

An interrupted write goes on with the next pack.`,
		Example: "  pith archive write /mnt/cold/pith-2026-11",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := h.openThere(cmd)
			if err != nil {
				return err
			}
			defer store.Close()
			counts, err := store.Counts(cmd.Context())
			if err != nil {
				return err
			}
			bar := newCounter(cmd.ErrOrStderr(), "bundles")
			m, err := archive.Write(cmd.Context(), args[0], archive.Options{
				CreatedAt: time.Now(), Source: source, Events: counts.Events,
				Progress: func(m archive.Manifest) { bar.show(m.Bundles, counts.Records) },
			}, bundlesAfter(cmd.Context(), store))
			bar.close()
			switch {
			case errors.Is(err, archive.ErrComplete):
				return cli.Hint(err, "name a new directory")
			case errors.Is(err, archive.ErrDamaged):
				return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "name a new directory"}
			case err != nil:
				return cli.Hint(err, "the same command goes on with what is written")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n", m.Head)
			fmt.Fprintf(cmd.ErrOrStderr(), "pith: %d bundles, %d packs\n", m.Bundles, len(m.Packs))
			return nil
		},
	}
	h.storeFlags(cmd)
	cmd.Flags().StringVar(&source, "source", "", "`WHO` writes it, for people")
	return cmd
}

// bundlesAfter lists the bundles of a store in the order of suffixes.
func bundlesAfter(ctx context.Context, store resolver.Store) func(string) iter.Seq2[archive.Bundle, error] {
	const page = 200
	return func(after string) iter.Seq2[archive.Bundle, error] {
		return func(yield func(archive.Bundle, error) bool) {
			for {
				records, err := store.Records(ctx, "", after, page)
				if err != nil {
					yield(archive.Bundle{}, err)
					return
				}
				suffixes := make([]string, len(records))
				for i, r := range records {
					suffixes[i] = r.Suffix
				}
				stored, err := store.Bundles(ctx, suffixes)
				if err != nil {
					yield(archive.Bundle{}, err)
					return
				}
				byName := make(map[string]resolver.Stored, len(stored))
				for _, s := range stored {
					byName[s.Record.Suffix] = s
				}
				for _, suffix := range suffixes {
					data, err := resolver.Gunzip(byName[suffix].Bundle)
					if err != nil {
						err = fmt.Errorf("%s: %w", suffix, err)
					}
					if !yield(archive.Bundle{Suffix: suffix, Data: data}, err) || err != nil {
						return
					}
					after = suffix
				}
				if len(records) < page {
					return
				}
			}
		}
	}
}

func archiveVerifyCommand() *cobra.Command {
	var head string
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Check an archive, every bit of it",
		Long: `verify reads all packs: their digests and their order, and every bundle in them, as
pith verify does. Each fault is one line. With --head the archive must be the one
of which this head was printed. Who trusts the signers asks pith verify --lines.`,
		Example: "  pith archive verify /mnt/cold/pith-2026-11",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := archive.Open(args[0])
			if err != nil {
				return archiveFailed(err)
			}
			bar := newCounter(cmd.ErrOrStderr(), "bundles")
			r, err := archive.Verify(cmd.Context(), args[0], head, func(fault error) {
				fmt.Fprintln(cmd.OutOrStdout(), cli.Printable(fault.Error()))
			}, func(r archive.Report) { bar.show(r.Bundles, m.Bundles) })
			bar.close()
			if err != nil {
				return archiveFailed(err)
			}
			if r.Faults > 0 {
				return cli.Exit(cli.ExitRejected)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\t%d bundles\t%d events\t%d packs\n", m.Head, r.Bundles, r.Events, r.Packs)
			return nil
		},
	}
	cmd.Flags().StringVar(&head, "head", "", "the `DIGEST` that pith archive write printed")
	return cmd
}

// archiveFailed gives errors of archives their exit code and hint.
func archiveFailed(err error) error {
	var answer *mirror.StatusError
	switch {
	case errors.Is(err, archive.ErrIncomplete):
		return cli.Hint(err, "pith archive write goes on with it")
	case errors.Is(err, fs.ErrNotExist):
		return cli.Hint(err, "name the directory of an archive")
	case errors.Is(err, archive.ErrDamaged):
		return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "take another copy of the archive"}
	case errors.As(err, &answer) && answer.Status == http.StatusNotFound:
		return cli.Hint(err, "a mirror that runs with --archive has its archive at /archive")
	}
	return cli.Hint(err, "the same command reads it again")
}

func archiveCloneCommand() *cobra.Command {
	var (
		h    home
		head string
		all  bool
	)
	cmd := &cobra.Command{
		Use:   "clone DIR|URL",
		Short: "Fill a mirror from an archive",
		Long: `clone lets all bundles of an archive into a database, judged as if their authors had
sent them: each is verified, and what the policy does not know is queued. With
--all everything valid is taken. An interrupted clone goes on with the pack where it
stopped. A mirror that runs with --archive has its archive at /archive.

Afterwards pith mirror add and sync fetch from that mirror what came later.`,
		Example: "  pith archive clone /mnt/cold/pith-2026-11 --db sqlite:pith.db",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, open, err := openArchive(cmd.Context(), args[0], mirror.Limits{})
			if err != nil {
				return archiveFailed(err)
			}
			if head != "" && head != m.Head {
				return &cli.Error{Code: cli.ExitRejected, Err: fmt.Errorf("the head of %s is %s, not %s", args[0], m.Head, head), Hint: "take another copy of the archive"}
			}
			store, err := h.open(cmd)
			if err != nil {
				return err
			}
			defer store.Close()
			config, err := h.config(cmd, store, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})))
			if err != nil {
				return err
			}
			known, everything, err := services(config)
			if err != nil {
				return err
			}
			if all {
				known = everything
			}
			c := &cloning{m: m, open: open, service: known, bar: newCounter(cmd.ErrOrStderr(), "bundles")}
			err = c.run(cmd.Context())
			c.bar.close()
			if err != nil {
				return archiveFailed(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d bundles\t%d refused or queued\n", c.done, c.refused)
			if c.refused > 0 {
				return &cli.Error{Code: cli.ExitUntrusted, Err: fmt.Errorf("%d of %d bundles were not let in as a whole: %v", c.refused, c.done, c.reason),
					Hint: "--trust names signers to let in, --all takes everything valid"}
			}
			return nil
		},
	}
	h.serviceFlags(cmd)
	cmd.Flags().StringVar(&head, "head", "", "the `DIGEST` that pith archive write printed")
	cmd.Flags().BoolVar(&all, "all", false, "take everything valid, also of signers that no trust file names")
	return cmd
}

// openArchive reads the manifest of an archive in a directory, or at a URL within
// limits.
func openArchive(ctx context.Context, where string, limits mirror.Limits) (*archive.Manifest, archive.Opener, error) {
	if !strings.HasPrefix(where, "http://") && !strings.HasPrefix(where, "https://") {
		m, err := archive.Open(where)
		return m, archive.Dir(where), err
	}
	client, err := mirror.NewClient(where, limits)
	if err != nil {
		return nil, nil, err
	}
	manifest, err := client.Open(ctx, archive.ManifestName)
	if err != nil {
		return nil, nil, err
	}
	defer manifest.Close()
	m, err := archive.Read(manifest)
	packs := *client
	packs.Limits.Answer = math.MaxInt64 // a pack is as long as the manifest says, and cut off there
	return m, packs.Open, err
}

// serveArchive offers the archive in a directory at /archive. Nothing is opened
// under a name that a reader chose: it must be that of the manifest or of one of
// its packs.
func serveArchive(mux *http.ServeMux, dir string, clientIP func(*http.Request) netip.Addr) error {
	slots := httpserve.NewSlots(64, 4)
	if _, err := archive.Open(dir); err != nil {
		return archiveFailed(err)
	}
	mux.HandleFunc("GET /archive/{name}", func(w http.ResponseWriter, r *http.Request) {
		release, ok := slots.Take(resolver.Customer(clientIP(r)))
		if !ok {
			w.Header().Set("Retry-After", "5")
			http.Error(w, "limit: too many files of the archive at once, try again in a few seconds", http.StatusServiceUnavailable)
			return
		}
		defer release()
		m, err := archive.Open(dir) // now: it may have been exchanged
		if err != nil {
			http.Error(w, "the archive cannot be read", http.StatusInternalServerError)
			return
		}
		tag, media := m.SHA256, "application/json"
		if name := r.PathValue("name"); name != archive.ManifestName {
			at := slices.IndexFunc(m.Packs, func(p archive.Pack) bool { return p.Name == name })
			if at < 0 {
				http.Error(w, "the archive has no such file; its files are listed in "+archive.ManifestName, http.StatusNotFound)
				return
			}
			tag, media = m.Packs[at].SHA256, "application/zstd"
		}
		f, err := os.Open(filepath.Join(dir, r.PathValue("name")))
		if err != nil {
			http.Error(w, "the archive cannot be read", http.StatusInternalServerError)
			return
		}
		defer f.Close()
		h := w.Header()
		h.Set("Content-Type", media)
		h.Set("ETag", `"`+tag+`"`)
		h.Set("Cache-Control", "no-cache")
		http.ServeContent(&httpserve.Paced{ResponseWriter: w, Wait: 30 * time.Second, Bytes: 256 << 10}, r, "", time.Time{}, f)
	})
	return nil
}

// A cloning fills a store from an archive.
type cloning struct {
	m       *archive.Manifest
	open    archive.Opener
	service *resolver.Service
	bar     *counter

	batch         []resolver.Submission
	bytes         int
	done, refused int64
	reason        error // of the first refusal
}

// run takes pack after pack, and remembers in the store how many.
func (c *cloning) run(ctx context.Context) error {
	store, key := c.service.Store(), "archive/cloned/"+c.m.Head
	next := 0
	if text, err := store.Meta(ctx, key); err == nil {
		if next, err = strconv.Atoi(string(text)); err != nil || next < 0 {
			return fmt.Errorf("what is stored about this archive is damaged: %q", text)
		}
	} else if !errors.Is(err, resolver.ErrNotFound) {
		return err
	}
	for i, p := range c.m.Packs {
		if i < next {
			c.done += int64(p.Bundles)
			continue
		}
		for data, err := range c.m.Pack(ctx, c.open, i) {
			if err != nil {
				return err
			}
			c.batch = append(c.batch, resolver.Submission{Data: bytes.Clone(data), From: "archive " + c.m.Head, Unlimited: true})
			if c.bytes += len(data); len(c.batch) >= 256 || c.bytes >= 32<<20 {
				if err := c.submit(ctx); err != nil {
					return err
				}
			}
		}
		if err := c.submit(ctx); err != nil {
			return err
		}
		if c.refused == 0 { // else the next call, perhaps with another policy, shall ask again
			if err := store.SetMeta(ctx, key, []byte(strconv.Itoa(i+1))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cloning) submit(ctx context.Context) error {
	if len(c.batch) == 0 {
		return nil
	}
	outcomes, err := c.service.SubmitAll(ctx, c.batch)
	if err != nil {
		return err
	}
	for _, o := range outcomes {
		c.done++
		if o.Err != nil {
			if c.refused++; c.reason == nil {
				c.reason = o.Err
			}
		}
	}
	c.batch, c.bytes = c.batch[:0], 0
	c.bar.show(c.done, c.m.Bundles)
	return nil
}
