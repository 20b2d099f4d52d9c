package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/mirror"
	"github.com/openpith/evidence/resolver/tlog"
)

// checking are the settings of pith fsck.
type checking struct {
	home
	checkpoints []string
	json        bool
}

func fsckCommand() *cobra.Command {
	s := &checking{}
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Check everything a mirror's database and log hold",
		Long: `fsck verifies every bundle of a mirror's database again and derives from them
everything else that it holds: rows, look-ups, the order of events, the files
and the root of the transparency log. It finds what was damaged, what is
missing, and history that differs from a checkpoint which the mirror signed: the
published one, the last one that the database remembers, and those that you kept.

It changes nothing. Exit codes: 0 all is well, 1 something is not, 2 it could
not be checked.`,
		Example: "  pith fsck --checkpoint kept-last-month.txt",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	s.storeFlags(cmd)
	cmd.Flags().StringVar(&s.key, "key", "", "the mirror's key is in `FILE` (default $PITH_KEY, then the one in the data directory)")
	cmd.Flags().StringSliceVar(&s.checkpoints, "checkpoint", nil, "compare with a checkpoint of this mirror that you kept in `FILE` (repeatable)")
	cmd.Flags().BoolVar(&s.json, "json", false, "print what is found as JSON lines")
	return cmd
}

func (s *checking) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	store, err := s.openThere(cmd)
	if err != nil {
		return err
	}
	defer store.Close()
	found, out := 0, json.NewEncoder(cmd.OutOrStdout())
	report := func(p resolver.Problem) {
		found++
		if s.json {
			_ = out.Encode(struct {
				Where  string `json:"where"`
				Code   string `json:"code"`
				Detail string `json:"detail"`
			}{p.Where, p.Code, p.Detail})
			return
		}
		fmt.Fprintln(cmd.OutOrStdout(), cli.Printable(strings.ToValidUTF8(p.String(), "\ufffd")))
	}
	counts, err := store.Counts(ctx)
	if err != nil {
		return cli.Hint(err, "the database cannot be read; restore a backup")
	}
	bar, started := newCounter(cmd.ErrOrStderr(), "records"), time.Now()
	err = resolver.Fsck(ctx, store, report, func(records int) { bar.show(int64(records), counts.Records) })
	bar.close()
	if err == nil {
		err = mirror.Check(ctx, store, report)
	}
	switch {
	case ctx.Err() != nil:
		return cli.Hint(ctx.Err(), "nothing is known about what was not checked; the same command begins again")
	case err != nil:
		return cli.Hint(err, "the database could not be read to its end; restore a backup")
	}
	logged, err := s.checkLog(cmd, store, report)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d records, %d events, %s: %d problems, in %.1f s\n", counts.Records, counts.Events, logged, found, time.Since(started).Seconds())
	if found > 0 {
		return &cli.Error{Code: cli.ExitRejected, Hint: "pith explain CODE tells what to do"}
	}
	return nil
}

// checkLog compares the log, and the checkpoints that are known, with the events. A
// log that is not there, as after a restore, will be written again: then only what
// was signed is compared. It returns what there is, in words.
func (s *checking) checkLog(cmd *cobra.Command, store resolver.Store, report func(resolver.Problem)) (string, error) {
	ctx, dir := cmd.Context(), filepath.Join(s.data, "log")
	logged := ""
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		logged = "no log"
	} else if err != nil {
		return "", cli.Hint(err, "name the directory of the mirror with --data")
	}
	if !s.hasKey() { // mirrorKey would make one, and nothing here is signed by that
		if logged != "" && len(s.checkpoints) == 0 {
			return logged, nil
		}
		return "", cli.Hint(fmt.Errorf("%s: the mirror's key, under which its log is checked, is not there", s.data), "name its directory with --data, or its key with --key")
	}
	key, err := s.mirrorKey(cmd, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	l, err := tlog.Open(dir, store, key)
	if err != nil {
		return "", err
	}
	var known []*tlog.Checkpoint
	for _, path := range s.checkpoints {
		text, err := cli.ReadFile(path, 64<<10)
		if err != nil {
			return "", cli.Hint(err, "name a file with a checkpoint, as GET /log/checkpoint gave it")
		}
		cp, err := tlog.ParseCheckpoint(text, l.VerifierKey())
		if err != nil {
			return "", cli.Hint(fmt.Errorf("%s: %w", path, err), "it must be a checkpoint that this mirror signed")
		}
		known = append(known, cp)
	}
	if err := l.Check(ctx, known, report); err != nil {
		return "", cli.Hint(err, "the log could not be read to its end")
	}
	return cmp.Or(logged, fmt.Sprintf("%d in the signed log", l.Size(ctx))), nil
}
