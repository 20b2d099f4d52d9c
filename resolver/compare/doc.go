// Package compare finds how two collections of records differ without sending
// either of them: both sides answer with digests of ranges, and only ranges
// whose digests differ are looked into.
//
// A record is known by its suffix, the 26 base32 characters of its Pith Number,
// which are the first bits of a SHA-256 and therefore spread evenly. A range is
// what begins with a prefix of it. Digests form a Merkle trie that depends on
// the set alone, never on the order in which it grew:
//
//	at most 128 records below a prefix:
//	    digest = SHA-256("pith-range-leaf-v1\n" (suffix " " events " " state "\n")...)   in the order of suffixes
//	more than that:
//	    digest = SHA-256("pith-range-node-v1\n" (count " " digest "\n") × 32)        in the order of characters
//
// Two equal sets need one question. Two sets of n records that differ in a few
// hundred need at most about log32(n/128)+2 rounds, five for a million; beyond that
// it is one round for every 256 ranges in which something differs. (A sum or XOR of hashes would be cheaper to keep up to date, but
// a signer who can choose a few hundred events can make XORs collide, and a few
// more make sums collide: two mirrors would look the same and not be.)
package compare
