package resolver

import "context"

// Quick is what a store may have beside the methods of Store: short ways to what
// readers ask for most, which read nothing else. Whoever serves readers uses them
// when they are there.
type Quick interface {
	// Tag returns the digest of the bundle of a record. Errors: ErrNotFound.
	Tag(ctx context.Context, suffix string) (Digest, error)

	// Packed returns the digest of the bundle of a record, and the bundle,
	// gzip-compressed as it was committed. Errors: ErrNotFound.
	Packed(ctx context.Context, suffix string) (Digest, []byte, error)
}

// QuickOf returns the short ways of a store, or the long ones as if they were.
func QuickOf(s Store) Quick {
	if q, ok := s.(Quick); ok {
		return q
	}
	return long{s}
}

type long struct{ Store }

func (s long) Tag(ctx context.Context, suffix string) (Digest, error) {
	rec, err := s.Record(ctx, suffix)
	return rec.Digest, err
}

func (s long) Packed(ctx context.Context, suffix string) (Digest, []byte, error) {
	rec, packed, err := s.Bundle(ctx, suffix)
	return rec.Digest, packed, err
}
