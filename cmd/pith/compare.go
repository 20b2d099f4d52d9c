package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/compare"
	"github.com/openpith/evidence/resolver/mirror"
)

func compareCommand() *cobra.Command {
	var (
		asJSON bool
		limit  int
	)
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Tell in which records two mirrors differ",
		Long: `compare finds the records that two mirrors do not hold alike. A and B are addresses
of mirrors (https://…) or databases (sqlite:FILE, postgres://...). Lines with < are records that
B lacks, lines with > records that A lacks, lines with ! records of which both have
something else, followed by the events that one of them lacks.

Only digests of ranges are exchanged until the differing records are found, so
two mirrors with a million records that agree are compared by one question.

Exit code 0: the same; 1: not; 2: could not be compared.`,
		Example: "  pith compare https://pith.example.org sqlite:pith.db",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var sides [2]side
			for i, arg := range args {
				s, err := openSide(cmd.Context(), arg)
				if err != nil {
					return err
				}
				defer s.close()
				sides[i] = s
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			report := &comparison{ctx: cmd.Context(), out: out, json: asJSON, sides: sides, limit: limit}
			stats, err := compare.Diff(cmd.Context(), sides[0], sides[1], report.found)
			if errors.Is(err, errEnough) {
				err = nil
			}
			if err == nil {
				err = report.end(stats)
			}
			err = errors.Join(err, out.Flush())
			var failed *compare.SideError
			switch {
			case errors.As(err, &failed):
				return cli.Hint(fmt.Errorf("%s: %w", args[failed.Side], failed.Err), "nothing is known about what was not compared")
			case err != nil:
				return cli.Hint(err, "nothing is known about what was not compared")
			case report.missing+report.extra+report.divergent > 0:
				return cli.Exit(cli.ExitRejected)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per record and a last one with the sums")
	cmd.Flags().IntVar(&limit, "limit", 0, "stop after so `MANY` records (default: list all)")
	return cmd
}

// A side is one of the two that are compared.
type side struct {
	compare.Set
	bundle func(ctx context.Context, suffix string) ([]byte, error)
	close  func()
}

// openSide opens a mirror by its address or a database.
func openSide(ctx context.Context, name string) (side, error) {
	if strings.HasPrefix(name, "https://") || strings.HasPrefix(name, "http://") {
		client, err := mirror.NewClient(name, mirror.Limits{})
		if err != nil {
			return side{}, cli.Hint(err, "name the mirror as https://HOST")
		}
		return side{client, client.Bundle, client.Close}, nil
	}
	store, err := openStoreThere(ctx, name)
	if err != nil {
		return side{}, err
	}
	return side{mirror.NewSet(store), func(ctx context.Context, suffix string) ([]byte, error) {
		return mirror.Bundle(ctx, store, suffix)
	}, func() { store.Close() }}, nil
}

var errEnough = errors.New("enough")

// A comparison prints what is found.
type comparison struct {
	ctx   context.Context
	out   io.Writer
	json  bool
	sides [2]side
	limit int

	missing, extra, divergent int
}

// A foundLine is the JSON form of one difference.
type foundLine struct {
	Suffix         string         `json:"suffix"`
	Kind           string         `json:"kind"` // missing (B lacks it), extra (A lacks it) or divergent
	A              *compare.Entry `json:"a"`
	B              *compare.Entry `json:"b"`
	OnlyA          []string       `json:"only_a,omitempty"` // ids of events that B lacks
	OnlyB          []string       `json:"only_b,omitempty"` // ids of events that A lacks
	Contradictions []string       `json:"contradictions,omitempty"`
}

func (c *comparison) found(d compare.Difference) error {
	if c.limit > 0 && c.missing+c.extra+c.divergent >= c.limit {
		return errEnough
	}
	line := foundLine{Suffix: d.Suffix(), A: d.A, B: d.B}
	sign := ""
	switch {
	case d.B == nil:
		line.Kind, sign = "missing", "<"
		c.missing++
	case d.A == nil:
		line.Kind, sign = "extra", ">"
		c.extra++
	default:
		line.Kind, sign = "divergent", "!"
		c.divergent++
	}
	var diff *pith.Difference
	if line.Kind == "divergent" {
		var err error
		if diff, err = c.diff(line.Suffix); err != nil {
			return err
		}
		for _, s := range diff.OnlyA {
			line.OnlyA = append(line.OnlyA, s.EventID)
		}
		for _, s := range diff.OnlyB {
			line.OnlyB = append(line.OnlyB, s.EventID)
		}
		line.Contradictions = diff.Contradictions
	}
	if c.json {
		return json.NewEncoder(c.out).Encode(line)
	}
	fmt.Fprintf(c.out, "%s %s\n", sign, line.Suffix)
	if diff != nil {
		for _, s := range diff.OnlyA {
			fmt.Fprintf(c.out, "  < %s\n", eventLine(s))
		}
		for _, s := range diff.OnlyB {
			fmt.Fprintf(c.out, "  > %s\n", eventLine(s))
		}
		for _, text := range diff.Contradictions {
			fmt.Fprintf(c.out, "  ! %s\n", cli.Printable(text))
		}
	}
	return nil
}

// diff compares the two bundles of a record. Both are verified on the way.
func (c *comparison) diff(suffix string) (*pith.Difference, error) {
	var bundles [2][]byte
	for i, s := range c.sides {
		var err error
		if bundles[i], err = s.bundle(c.ctx, suffix); err != nil {
			if errors.Is(err, resolver.ErrNotFound) {
				err = fmt.Errorf("%s is gone again: %w", suffix, err)
			}
			return nil, &compare.SideError{Side: i, Err: err}
		}
	}
	d, err := pith.Diff(bundles[0], bundles[1])
	if err != nil {
		return nil, fmt.Errorf("the bundles of %s: %w", suffix, err)
	}
	byID := func(a, b pith.Statement) int { return cmp.Compare(a.EventID, b.EventID) }
	slices.SortStableFunc(d.OnlyA, byID)
	slices.SortStableFunc(d.OnlyB, byID)
	return d, nil
}

// end prints the sums.
func (c *comparison) end(stats compare.Stats) error {
	if !c.json {
		return nil
	}
	return json.NewEncoder(c.out).Encode(map[string]any{
		"records": stats.Records, "missing": c.missing, "extra": c.extra, "divergent": c.divergent,
		"rounds": stats.Rounds, "ranges": stats.Ranges,
	})
}
