// Package canon reads JSON strictly and writes it in the one form that every
// Pith digest is taken over.
//
// The canonical form is, byte for byte, what Python prints for
//
//	json.dumps(value, sort_keys=True, separators=(',', ':'), ensure_ascii=False)
//
// as UTF-8: members sorted by code point of their names, no white space,
// non-ASCII characters as they are, floats as Python's repr (1e16 is 1e+16,
// 1.0 stays 1.0), integers exact at any length up to a limit (spec §1).
//
// The reader accepts RFC 8259 and no more, and refuses what two honest readers
// could see differently: repeated names, lone surrogates, invalid UTF-8,
// numbers outside float64, a byte-order mark, anything after the value. What it
// accepts has exactly one canonical form, and that form reads back to itself.
//
// [Parse] turns bytes into a [Doc]: one flat array of nodes and one buffer with
// the canonical bytes of the whole document, in which every value is a span. So
// the digest of any part costs a hash and no copying.
package canon
