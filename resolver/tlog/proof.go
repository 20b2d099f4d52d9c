package tlog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
)

// A Proof shows that the events of a record are in a log.
type Proof struct {
	Type       string       `json:"proof_type"`
	Version    string       `json:"proof_version"`
	Number     string       `json:"pith_number"`
	Checkpoint string       `json:"checkpoint"` // a signed note
	Events     []EventProof `json:"events"`
	Pending    []string     `json:"pending"` // entry_sha256 of events that the checkpoint does not cover yet
}

// An EventProof shows that one event is in a log.
type EventProof struct {
	Seq    int64    `json:"seq"`
	ID     string   `json:"event_id"`
	SHA256 string   `json:"entry_sha256"`
	Path   []string `json:"inclusion_path"` // hashes in hex, from the leaf up (RFC 6962)
}

const proofType = "pith_inclusion_proof"

// Prove returns the proof for a record. Errors: resolver.ErrNotFound when there
// is no such record, or no checkpoint yet.
func (l *Log) Prove(ctx context.Context, suffix string) (*Proof, error) {
	record, err := l.store.Record(ctx, suffix)
	if err != nil {
		return nil, err
	}
	cp, err := l.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	events, err := l.store.RecordEvents(ctx, suffix)
	if err != nil {
		return nil, err
	}
	nodes := &nodes{size: uint64(cp.Size), read: l.files.ReadTile, known: map[compact.NodeID][]byte{}}
	p := &Proof{Type: proofType, Version: "1.0", Number: record.Number, Checkpoint: string(cp.Text), Events: []EventProof{}, Pending: []string{}}
	for _, e := range events {
		if e.Seq >= cp.Size {
			p.Pending = append(p.Pending, e.SHA256.String())
			continue
		}
		path, err := nodes.inclusion(ctx, uint64(e.Seq))
		if err != nil {
			return nil, fmt.Errorf("log: %w", err)
		}
		ep := EventProof{Seq: e.Seq, ID: e.ID, SHA256: e.SHA256.String(), Path: []string{}}
		for _, hash := range path {
			ep.Path = append(ep.Path, hex.EncodeToString(hash))
		}
		p.Events = append(p.Events, ep)
	}
	return p, nil
}

// nodes are those of a log's tree that were asked for. The proofs of a record share
// most of them, and each is made once: of a record with thousands of events they would
// take half a minute to make for every event anew.
type nodes struct {
	size  uint64
	read  client.TileFetcherFunc
	known map[compact.NodeID][]byte
}

// inclusion is the path from a leaf to the root.
func (n *nodes) inclusion(ctx context.Context, leaf uint64) ([][]byte, error) {
	path, err := proof.Inclusion(leaf, n.size)
	if err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(path.IDs))
	for i, id := range path.IDs {
		if hashes[i], err = n.get(ctx, id); err != nil {
			return nil, err
		}
	}
	return path.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
}

// get returns a node: from its tile, or made of the two below it.
func (n *nodes) get(ctx context.Context, id compact.NodeID) ([]byte, error) {
	if hash, ok := n.known[id]; ok {
		return hash, nil
	}
	if id.Level%layout.TileHeight == 0 {
		level, tile := uint64(id.Level/layout.TileHeight), id.Index/layout.TileWidth
		data, err := n.read(ctx, level, tile, layout.PartialTileSize(level, tile, n.size))
		if err != nil {
			return nil, err
		}
		for i := range len(data) / sha256.Size {
			n.known[compact.NewNodeID(id.Level, tile*layout.TileWidth+uint64(i))] = data[i*sha256.Size:][:sha256.Size]
		}
		if hash, ok := n.known[id]; ok {
			return hash, nil
		}
		return nil, fmt.Errorf("tile %d of level %d lacks the node %d", tile, level, id.Index)
	}
	left, err := n.get(ctx, compact.NewNodeID(id.Level-1, 2*id.Index))
	if err != nil {
		return nil, err
	}
	right, err := n.get(ctx, compact.NewNodeID(id.Level-1, 2*id.Index+1))
	if err != nil {
		return nil, err
	}
	n.known[id] = rfc6962.DefaultHasher.HashChildren(left, right)
	return n.known[id], nil
}

// VerifyInclusion checks that all events of a bundle are in the log of a key,
// see Log.VerifierKey, by a proof that its mirror gave. It returns the
// checkpoint. Events that the proof calls pending make it fail: ask again.
func VerifyInclusion(data []byte, key string, bundle []byte) (*Checkpoint, error) {
	var p Proof
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("inclusion proof: %w", err)
	}
	if p.Type != proofType || p.Version != "1.0" {
		return nil, fmt.Errorf("inclusion proof: not a %s of version 1.0", proofType)
	}
	cp, err := ParseCheckpoint([]byte(p.Checkpoint), key)
	if err != nil {
		return nil, fmt.Errorf("inclusion proof: %w", err)
	}
	result, contents := pith.Inspect(bundle, nil)
	if contents == nil {
		return nil, fmt.Errorf("inclusion proof: the bundle: %v", result.Failures()[0])
	}
	proofs := map[string]EventProof{}
	for _, e := range p.Events {
		proofs[e.SHA256] = e
	}
	for i, entry := range contents.Entries {
		sum := resolver.Digest(entry)
		e, ok := proofs[sum.String()]
		if !ok {
			return nil, fmt.Errorf("inclusion proof: nothing about the event %s", result.History[i].EventID)
		}
		leaf := resolver.Leaf(resolver.Event{ID: resolver.LoggedID(result.History[i].EventID), Suffix: contents.Suffix, SHA256: sum})
		path := make([][]byte, len(e.Path))
		for j, text := range e.Path {
			if path[j], err = hex.DecodeString(text); err != nil {
				return nil, fmt.Errorf("inclusion proof: event %s: %w", result.History[i].EventID, err)
			}
		}
		if e.Seq < 0 {
			return nil, errors.New("inclusion proof: a negative number")
		}
		err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(e.Seq), uint64(cp.Size), rfc6962.DefaultHasher.HashLeaf(leaf), path, cp.Root[:])
		if err != nil {
			return nil, fmt.Errorf("inclusion proof: event %s: %w", result.History[i].EventID, err)
		}
	}
	return cp, nil
}

// VerifyConsistency checks that the log with the checkpoint newer still begins
// with all of the log with the checkpoint older. readTile gets tiles of the
// newer log, from disk or from a mirror. An error means that the mirror
// rewrote what it had signed, or that tiles could not be had.
func VerifyConsistency(ctx context.Context, older, newer *Checkpoint, readTile client.TileFetcherFunc) error {
	switch {
	case older.Size > newer.Size:
		return fmt.Errorf("the log shrank from %d to %d entries: %w", older.Size, newer.Size, ErrHistory)
	case older.Size == newer.Size:
		if older.Root != newer.Root {
			return fmt.Errorf("two checkpoints of %d entries have the roots %s and %s: %w", older.Size, older.Root, newer.Root, ErrHistory)
		}
		return nil
	case older.Size == 0:
		return nil
	}
	builder, err := client.NewProofBuilder(ctx, uint64(newer.Size), readTile)
	if err != nil {
		return err
	}
	path, err := builder.ConsistencyProof(ctx, uint64(older.Size), uint64(newer.Size))
	if err != nil {
		return err
	}
	err = proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(older.Size), uint64(newer.Size), path, older.Root[:], newer.Root[:])
	if err != nil {
		return fmt.Errorf("%d entries do not begin with the %d that were signed before: %w: %w", newer.Size, older.Size, ErrHistory, err)
	}
	return nil
}
