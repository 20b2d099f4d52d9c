package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/openpith/evidence/resolver"
)

// Commit implements resolver.Store. Rows travel as arrays of their columns, one
// statement for each table.
func (s *Store) Commit(ctx context.Context, updates []resolver.Update) (out []resolver.Committed, err error) {
	err = s.write(ctx, func(tx pgx.Tx, c *resolver.Counts) error {
		out, err = commit(ctx, tx, c, updates)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func commit(ctx context.Context, tx pgx.Tx, c *resolver.Counts, updates []resolver.Update) ([]resolver.Committed, error) {
	have, err := revisions(ctx, tx, updates)
	if err != nil {
		return nil, err
	}
	var (
		out       = make([]resolver.Committed, len(updates))
		changed   []int64 // records that are there
		records   = newColumns("record", 19)
		bundles   = newColumns("bundle", 2)
		searches  = newColumns("search", 2)
		aliases   = newColumns("alias", 3)
		events    = newColumns("event", 10)
		citations = newColumns("citation", 6)
		keys      = newColumns("key", 4)
		used      []string // fingerprints of the keys
		seen      = map[string]bool{}
	)
	for i := range updates {
		u := &updates[i]
		r := &u.Record
		if seen[u.Suffix] {
			return nil, fmt.Errorf("%s occurs twice in one commit", u.Suffix)
		}
		seen[u.Suffix] = true
		c.Revision++
		out[i] = resolver.Committed{Revision: c.Revision, FirstSeq: c.Events}
		old, there := have[u.Suffix]
		switch {
		case old.revision != u.Base:
			return nil, fmt.Errorf("record %s: %w", u.Suffix, resolver.ErrConflict)
		case there:
			changed = append(changed, old.id)
		default:
			old.id = c.Revision
			c.Records++
		}
		categories := list(r.Categories)
		records.add(old.id, pack(u.Suffix), pack(r.Number), c.Revision, r.Digest[:], r.Size, r.Events[:], r.State[:], r.United, r.EventCount, r.Replications,
			list(r.Aliases), pack(r.Source), pack(r.Title), pack(r.Authors), categories, pack(r.Abstract), r.Submitted, r.BuiltAt)
		bundles.add(old.id, notNil(u.Bundle))
		searches.add(old.id, words(r))
		for a := range resolver.FoldAliases(r.Aliases) {
			aliases.add(old.id, pack(a.Kind), pack(a.Value))
		}
		seqs := map[string]int64{}
		for _, e := range u.Events {
			if e.Suffix != u.Suffix {
				return nil, fmt.Errorf("event %s is of %s, not of %s", e.ID, e.Suffix, u.Suffix)
			}
			events.add(c.Events, eventID(e.ID), old.id, e.SHA256[:], pack(e.Type), pack(e.SignerID), pack(e.Fingerprint), e.CreatedAt, e.ReceivedAt, pack(e.Invalid))
			if e.Invalid == "" { // an invalid one may claim any id
				seqs[e.ID] = c.Events
			}
			c.Events++
		}
		for _, x := range u.Cites {
			if seq, fresh := seqs[x.EventID]; fresh {
				x.Seq = seq
			}
			citations.add(x.Seq, old.id, pack(x.Kind), pack(x.ID), pack(x.EventID), pack(x.Relation))
		}
		for _, k := range u.Keys {
			used = append(used, k.Fingerprint)
			keys.add(k.Fingerprint, pack(k.SignerID), notNil(k.Entry), k.DeclaredAt)
		}
	}
	b := &pgx.Batch{}
	if len(changed) > 0 {
		b.Queue(`DELETE FROM alias WHERE record = ANY($1)`, changed)
	}
	records.queue(b, `ON CONFLICT (id) DO UPDATE SET (`+recordColumns+`) = ROW (`+excluded(recordColumns)+`)`)
	bundles.queue(b, `ON CONFLICT (id) DO UPDATE SET gzip = EXCLUDED.gzip`)
	searches.queue(b, `ON CONFLICT (id) DO UPDATE SET words = EXCLUDED.words WHERE search.words IS DISTINCT FROM EXCLUDED.words`)
	aliases.queue(b, ``)
	events.queue(b, ``)
	citations.queue(b, ``)
	if len(used) > 0 {
		b.Queue(`UPDATE key SET used = true WHERE fingerprint = ANY($1) AND NOT used`, used)
	}
	var fresh int64
	if q := keys.queue(b, `ON CONFLICT DO NOTHING`); q != nil {
		q.Exec(func(tag pgconn.CommandTag) error { fresh = tag.RowsAffected(); return nil })
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	c.Keys += fresh
	return out, nil
}
