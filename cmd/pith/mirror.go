package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/mirror"
)

func mirrorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "mirror",
		Short:   "Copy other mirrors",
		Example: "  pith mirror add https://pith.example.org",
	}
	cmd.AddCommand(mirrorAddCommand(), mirrorListCommand(), mirrorSyncCommand(), mirrorRemoveCommand())
	return cmd
}

func mirrorAddCommand() *cobra.Command {
	var (
		h       home
		logKey  string
		all     bool
		bundles bool
		noLog   bool
	)
	cmd := &cobra.Command{
		Use:   "add URL",
		Short: "Name a mirror to copy",
		Long: `add remembers a mirror, to be copied by pith mirror sync and pith serve. It asks the
mirror for the key of its transparency log and pins it: from then on the
mirror is held to everything that it signs. Whoever knows the key from elsewhere
says so with --log-key.

Nothing that a mirror sends is believed: bundles are verified and judged by the
policy as if their authors had sent them. With --bundles the mirror is believed how
it puts bundles together: their aliases, links and hints, of which no event tells.
With --all everything valid is taken, also of signers that the policy does not know;
they are still not trusted. Who adds a mirror again with other flags has what was
kept out of it read again.`,
		Example: "  pith mirror add https://pith.example.org",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := h.open(cmd)
			if err != nil {
				return err
			}
			defer store.Close()
			client, err := mirror.NewClient(args[0], mirror.Limits{})
			if err != nil {
				return cli.Hint(err, "name the mirror as https://HOST")
			}
			defer client.Close()
			u, err := mirror.LoadUpstream(cmd.Context(), store, client.Base)
			known := err == nil
			if err != nil && !errors.Is(err, resolver.ErrNotFound) {
				return err
			}
			switch {
			case noLog:
				logKey = ""
			case logKey == "":
				if logKey, err = client.LogKey(cmd.Context()); err != nil {
					return cli.Hint(err, "is it a mirror? --log-key names its key, --no-log copies it without looking at its history")
				}
			}
			if known && u.LogKey != logKey && u.Next > 0 {
				return &cli.Error{Code: cli.ExitRejected,
					Err:  fmt.Errorf("%s had the log key %s and now has %s", u.URL, orNone(u.LogKey), orNone(logKey)),
					Hint: "ask whoever runs it; if the change is right, pith mirror remove it and add it again"}
			}
			u.URL, u.LogKey, u.All, u.Bundles = client.Base, logKey, all, bundles
			if err := mirror.AddUpstream(cmd.Context(), store, u); errors.Is(err, mirror.ErrLogKey) {
				return cli.Hint(err, "--log-key takes one line, as GET /log/key of the mirror has it")
			} else if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", u.URL, orNone(u.LogKey))
			return nil
		},
	}
	h.storeFlags(cmd)
	cmd.Flags().StringVar(&logKey, "log-key", "", "the `KEY` of the mirror's log (default: what the mirror says now)")
	cmd.Flags().BoolVar(&noLog, "no-log", false, "the mirror has no log: its history cannot be checked")
	cmd.Flags().BoolVar(&bundles, "bundles", false, "believe how the mirror puts bundles together, by the key of its log")
	cmd.Flags().BoolVar(&all, "all", false, "take everything valid, also of signers that no trust file names")
	cmd.MarkFlagsMutuallyExclusive("bundles", "no-log")
	return cmd
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func mirrorRemoveCommand() *cobra.Command {
	var h home
	cmd := &cobra.Command{
		Use:     "remove URL",
		Short:   "Copy a mirror no more",
		Long:    "remove forgets a mirror and how far it was copied. What was taken from it stays.",
		Example: "  pith mirror remove https://pith.example.org",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := h.openThere(cmd)
			if err != nil {
				return err
			}
			defer store.Close()
			url := strings.TrimRight(args[0], "/")
			err = mirror.RemoveUpstream(cmd.Context(), store, url)
			if errors.Is(err, resolver.ErrNotFound) {
				err = fmt.Errorf("%s is not one of the mirrors that are copied", url)
			}
			return cli.Hint(err, "pith mirror list names them")
		},
	}
	h.storeFlags(cmd)
	return cmd
}

func mirrorListCommand() *cobra.Command {
	var (
		h      home
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the mirrors that are copied, and how far",
		Long: `list prints for each mirror how many of its events were read, how many it had when
it was last asked, how many of its bundles were refused or had to wait for a moderator,
and what was wrong. Exit code 1 says that one of them has
contradicted what it signed, now or ever: --json has the checkpoints.`,
		Example: "  pith mirror list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := h.openThere(cmd)
			if err != nil {
				return err
			}
			defer store.Close()
			ups, err := mirror.Upstreams(cmd.Context(), store)
			if err != nil {
				return err
			}
			list := make([]accused, len(ups))
			convicted := false
			for i, u := range ups {
				list[i].Upstream = u
				if list[i].Evidence, err = mirror.EvidenceAgainst(cmd.Context(), store, u.URL); err != nil {
					return err
				}
				convicted = convicted || u.Convicted || list[i].proofs() > 0
			}
			if err := printUpstreams(cmd.OutOrStdout(), list, asJSON); err != nil {
				return err
			}
			if convicted {
				return cli.Exit(cli.ExitRejected)
			}
			return nil
		},
	}
	h.storeFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

// An accused is a mirror with what was ever found against it.
type accused struct {
	mirror.Upstream
	Evidence []mirror.Evidence `json:"evidence"`
}

// proofs counts contradictions that need nothing besides.
func (a accused) proofs() (n int) {
	for _, e := range a.Evidence {
		if e.Proof {
			n++
		}
	}
	return n
}

func printUpstreams(w io.Writer, ups []accused, asJSON bool) error {
	if asJSON {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		return out.Encode(ups)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, u := range ups {
		fmt.Fprintf(table, "%s\t%d of %d events read\t%d refused\t%d had to wait\t%d conflicts\t%s\n", u.URL, u.Next, u.Head, u.Refused, u.Queued, u.Conflicts, cmp.Or(u.At(), "never"))
		if n := u.proofs(); n > 0 {
			fmt.Fprintf(table, "  has contradicted what it signed, %d times: --json has the checkpoints\n", n)
		}
		if u.Error != "" {
			text, _, _ := strings.Cut(u.Error, "\n")
			fmt.Fprintf(table, "  %s\n", cli.Printable(text))
		}
	}
	return table.Flush()
}

func mirrorSyncCommand() *cobra.Command {
	var (
		h      home
		follow bool
	)
	cmd := &cobra.Command{
		Use:   "sync [URL...]",
		Short: "Copy mirrors",
		Long: `sync takes over what the mirrors have that pith mirror add named, or those of them
that are given. It verifies all of it, recomputes the mirrors' logs, and keeps
how far it came: an interrupted sync goes on where it was. With --follow it goes
on copying what comes.

Exit code 1 says that a mirror contradicts what it signed: the checkpoints that
prove it are kept, see pith mirror list --json.`,
		Example: "  pith mirror sync",
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := h.openThere(cmd)
			if err != nil {
				return err
			}
			defer store.Close()
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			config, err := h.config(cmd, store, log)
			if err != nil {
				return err
			}
			known, all, err := services(config)
			if err != nil {
				return err
			}
			urls, err := chooseUpstreams(cmd, store, args)
			if err != nil {
				return err
			}
			// Of those who copy for one database one does it at a time: two would take
			// back from each other how far they came.
			ctx, giveUp := context.WithCancelCause(cmd.Context())
			defer giveUp(nil)
			patience := time.AfterFunc(5*time.Second, func() { giveUp(errCopied) })
			err = store.Lock(ctx, copyLock, func(ctx context.Context) error {
				if !patience.Stop() {
					return ctx.Err()
				}
				return copyMirrors(ctx, cmd, mirror.NewTarget(known, all), store, log, urls, follow)
			})
			if context.Cause(ctx) == errCopied {
				return cli.Hint(errCopied, "pith serve does it all the time; pith mirror list tells how far it is")
			}
			return err
		},
	}
	h.serviceFlags(cmd)
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what comes, until interrupted")
	return cmd
}

// errCopied reports that another process copies.
var errCopied = errors.New("another process copies the mirrors of this database")

// copyMirrors copies mirrors in the place of everybody else on the database, and
// prints how far they are.
func copyMirrors(ctx context.Context, cmd *cobra.Command, target mirror.Target, store resolver.Store, log *slog.Logger, urls []string, follow bool) error {
	bar := newCounter(cmd.ErrOrStderr(), "events")
	var mu sync.Mutex
	at := map[string]mirror.Upstream{}
	s := &mirror.Sync{Target: target, Leaf: leafOf, Log: log, Progress: func(u mirror.Upstream) {
		mu.Lock()
		defer mu.Unlock()
		at[u.URL] = u
		done, of := int64(0), int64(0)
		for _, u := range at {
			done, of = done+u.Next, of+u.Head
		}
		bar.show(done, of)
	}}
	err := s.Run(ctx, urls, follow)
	bar.close()
	ups, listErr := mirror.Upstreams(context.WithoutCancel(ctx), store) // also for who interrupts
	if listErr == nil {
		listErr = printUpstreams(cmd.OutOrStdout(), only(ups, urls), false)
	}
	if counts, failed := store.Counts(context.WithoutCancel(ctx)); failed == nil && counts.Queued > 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "something waits for a moderator: pith moderate list")
	}
	switch {
	case errors.Is(err, mirror.ErrFork):
		return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "pith mirror list --json has both checkpoints: show them to others who use that mirror"}
	case mirror.Convicting(err): // by what it sends, of which no copy is kept
		return &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "ask whoever runs it; the same command goes on when its answers fit again"}
	case err != nil:
		return cli.Hint(err, "what was copied is stored; the same command goes on")
	}
	return listErr
}

// chooseUpstreams are the mirrors that were named, which must be known, or all.
func chooseUpstreams(cmd *cobra.Command, store resolver.Store, args []string) ([]string, error) {
	ups, err := mirror.Upstreams(cmd.Context(), store)
	if err != nil {
		return nil, err
	}
	if len(ups) == 0 {
		return nil, cli.Hint(errors.New("there is no mirror to copy"), "name one with pith mirror add URL")
	}
	var urls []string
	for _, u := range ups {
		urls = append(urls, u.URL)
	}
	if len(args) == 0 {
		return urls, nil
	}
	for i, a := range args {
		args[i] = strings.TrimRight(a, "/")
		if len(only(ups, args[i:i+1])) == 0 {
			return nil, cli.Hint(fmt.Errorf("%s is not one of the mirrors that are copied", args[i]), "pith mirror add %s", args[i])
		}
	}
	return args, nil
}

func only(ups []mirror.Upstream, urls []string) []accused {
	var list []accused
	for _, u := range ups {
		for _, url := range urls {
			if u.URL == url {
				list = append(list, accused{Upstream: u})
			}
		}
	}
	return list
}
