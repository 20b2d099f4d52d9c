// Package pith reads, checks and extends Pith records: portable bundles that
// say, under signatures, what is known about one paper.
//
// To check a bundle call [Verify] with the signers you trust and look at
// [Result.Verdict]. To add signed events to a bundle call [Append], to unite what
// several mirrors hold [Merge]. Everything else serves these three:
//
//   - Identity. A paper's canonical record is hashed in canonical form; its
//     Pith Number is the first 130 bits of that SHA-256 in base32, 26
//     characters, behind the year of submission ([Number], spec §2).
//   - Events. A record grows by signed events that are never deleted or
//     changed. Each names itself by the digest of its content (spec §4).
//   - State. Replaying the set of events gives the state of the record, the
//     same on every machine and from every order of arrival (spec §5, §6).
//   - Trust. Whether a signature is good is mathematics, and [Verify] answers
//     it for everybody alike. Whether its signer may say such a thing is
//     policy, which a [Trust] holds and no bundle can bring along (spec §8).
//
// Digests are taken over the members that were received, unknown ones
// included, never over a Go struct that could lose one. No function here reads
// a clock, a file or the network, and none panics on any input.
//
// Bundles that verify today verify with every later version of this package.
package pith
