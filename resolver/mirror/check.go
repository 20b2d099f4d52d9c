package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/transparency-dev/merkle/compact"

	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/tlog"
)

// Check asks whether what a store keeps about mirrors that are copied fits together,
// and reports what does not. A cursor that is damaged would let copying convict an
// honest mirror.
func Check(ctx context.Context, store resolver.Store, report func(resolver.Problem)) error {
	problem := func(url, code string, err error) {
		if err != nil {
			report(resolver.Problem{Where: "mirror " + url, Code: code, Detail: err.Error()})
		}
	}
	keys, err := store.MetaKeys(ctx, "mirror/")
	if err != nil {
		return err
	}
	for _, key := range keys {
		if url, ok := strings.CutPrefix(key, upstreamKey); ok {
			set, err := loadSettings(ctx, store, url)
			if err == nil && set.URL != url {
				err = fmt.Errorf("its settings are those of %.200q", set.URL)
			}
			problem(url, "mirror_settings", err)
		}
		if url, ok := strings.CutPrefix(key, progressKey); ok {
			var p progress
			err := load(ctx, store, key, &p)
			if set, e := loadSettings(ctx, store, url); err == nil && e == nil && set.Named == p.Named {
				p.LogKey = set.LogKey
				err = p.fits()
			}
			problem(url, "mirror_progress", err)
		}
		if rest, ok := strings.CutPrefix(key, evidenceKey); ok {
			url, digest, _ := strings.Cut(rest, " ")
			var e Evidence
			err := load(ctx, store, key, &e)
			if err == nil && (e.URL != url || e.digest() != digest) {
				err = errors.New("the checkpoints that are kept as evidence are others than those that were")
			}
			problem(url, "mirror_evidence", err)
		}
	}
	return ctx.Err()
}

// fits asks whether a cursor fits the checkpoint up to which it was proven.
func (up *Upstream) fits() error {
	if _, err := up.leaves(); err != nil {
		return err
	}
	proven, err := ranges.NewRange(0, uint64(up.Proven), up.Base)
	if err != nil || up.Checkpoint == "" {
		return err
	}
	cp, err := tlog.ParseCheckpoint([]byte(up.Checkpoint), up.LogKey)
	if err != nil {
		return err
	}
	if root, err := rootOf(proven); err != nil || cp.Size != up.Proven || !bytes.Equal(root, cp.Root[:]) {
		return fmt.Errorf("the hashes up to event %d are not those of its checkpoint", up.Proven)
	}
	return nil
}

// rootOf is the root of a log of which r covers all.
func rootOf(r *compact.Range) ([]byte, error) {
	if r.End() == 0 {
		return emptyRoot, nil
	}
	return r.GetRootHash(nil)
}
