package tlog

import (
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
)

// A tree is the Merkle tree of a log (RFC 6962) in tiles: of each level of tiles
// the hashes that its tiles hold.
type tree struct {
	size   int64
	levels [][][]byte
	all    *compact.Range

	// full is called with each tile that is complete, which is then forgotten. A
	// tree without it keeps all its hashes.
	full func(level int, index int64, hashes [][]byte)
}

var ranges = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

func newTree(full func(level int, index int64, hashes [][]byte)) *tree {
	return &tree{all: ranges.NewEmptyRange(0), full: full}
}

// forget is for trees of which nothing but the roots is wanted.
func forget(int, int64, [][]byte) {}

// append adds the hash of a leaf.
func (t *tree) append(leaf []byte) error {
	if err := t.all.Append(leaf, nil); err != nil {
		return err
	}
	t.size++
	return t.add(0, leaf)
}

// add appends a hash to a level. 256 of them make one of the next level.
func (t *tree) add(level int, hash []byte) error {
	if level == len(t.levels) {
		t.levels = append(t.levels, nil)
	}
	t.levels[level] = append(t.levels[level], hash)
	n := len(t.levels[level])
	if n%layout.TileWidth != 0 {
		return nil
	}
	tile := t.levels[level][n-layout.TileWidth:]
	r, err := rangeOf(tile)
	if err != nil {
		return err
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		return err
	}
	if t.full != nil {
		t.full(level, t.size>>(8*(level+1))-1, tile)
		t.levels[level] = nil
	}
	return t.add(level+1, root)
}

// root is the root of the tree.
func (t *tree) root() ([]byte, error) {
	if t.size == 0 {
		return rfc6962.DefaultHasher.EmptyRoot(), nil
	}
	return t.all.GetRootHash(nil)
}

// rangeOf is the compact range over some hashes.
func rangeOf(hashes [][]byte) (*compact.Range, error) {
	r := ranges.NewEmptyRange(0)
	for _, h := range hashes {
		if err := r.Append(h, nil); err != nil {
			return nil, err
		}
	}
	return r, nil
}
