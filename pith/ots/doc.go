// Package ots reads, checks, unites and writes OpenTimestamps proofs, offline.
//
// A proof leads from a digest by hashing and concatenation to messages that
// somebody attests: a calendar, which promises to tell more later, or a Bitcoin
// block, whose header then dates the digest. [Parse] reads a proof, [Proof.Verify]
// compares it with block headers that the caller chose to believe, [Merge] and
// [Proof.Attach] add what a calendar has learned since.
//
// The format is that of python-opentimestamps; spec §11 repeats it and adds
// limits, so that a stranger's proof costs little time and memory.
package ots
