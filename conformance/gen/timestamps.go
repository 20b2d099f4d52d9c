package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
)

// Proof files of section 11, byte by byte.

var (
	otsMagic = unhex("004f70656e54696d657374616d7073000050726f6f6600bf89e2e884e89294")
	pending  = attestation("83dfe30d2ef90c8e", varbytes([]byte("https://calendar.example/a_1")))
	bitcoin  = attestation("0588960d73d71901", varuint(900000))
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func varuint(n uint64) []byte {
	var out []byte
	for ; n >= 128; n >>= 7 {
		out = append(out, byte(n)|128)
	}
	return append(out, byte(n))
}

func varbytes(b []byte) []byte { return append(varuint(uint64(len(b))), b...) }

func attestation(tag string, payload []byte) []byte {
	return append(append([]byte{0}, unhex(tag)...), varbytes(payload)...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// timestamps holds 4.8 and section 11.
func (s *suite) timestamps() {
	digest := unhex(sha(canon(newRecord())))
	proof := func(digest []byte, rest ...[]byte) []byte {
		return join(append([][]byte{otsMagic, {1, 8}, digest}, rest...)...)
	}
	anchor := func(data []byte) obj {
		return obj{"schema": "timestamp_anchor/1", "method": "opentimestamps", "of": "record", "digest_sha256": sha(canon(newRecord())),
			"proof_b64": base64.StdEncoding.EncodeToString(data)}
	}
	good := func(name, why string, confirmed int, data []byte) {
		b := newBundle()
		b.add(ada, "timestamp_anchor", anchor(data))
		expect := b.want()
		expect["timestamps"] = obj{"valid": 1, "trusted": 1, "confirmed": confirmed, "pending": 1 - confirmed}
		s.verify("ots_"+name, why, b.json(), b.trust, expect)
	}
	bad := func(name, why string, data []byte) {
		s.undeclared("ots_"+name, why, "timestamp_proof", func(b *bundle) *event { return b.add(ada, "timestamp_anchor", anchor(data)) })
	}
	repeat := func(n int, part ...byte) []byte { return bytes.Repeat(part, n) }

	good("pending", "A calendar's promise (11.3).", 0, proof(digest, pending))
	good("bitcoin", "An attestation in Bitcoin; whether it is true needs block headers (4.8).", 1, proof(digest, []byte{0xf0, 3, 1, 2, 3, 8}, bitcoin))
	good("operations", "All operations (11.2).", 1, proof(digest, []byte{0xf1, 2, 1, 2, 0xf2, 0xf3, 2, 3, 0x67, 8}, bitcoin))
	good("branches", "Each entry but the last has ff before it (11.2).", 1, proof(digest, []byte{0xff}, pending, []byte{0xff, 0xf0, 1, 7, 0xff}, pending, bitcoin, []byte{8}, bitcoin))
	good("unknown_attestation", "Other attestations are kept and prove nothing (11.3).", 0, proof(digest, attestation("0102030405060708", []byte("anything"))))
	good("deepest", "255 operations deep is within the limit (11.5).", 1, proof(digest, repeat(255, 8), bitcoin))
	good("large_height", "A varuint has up to 64 bits (11.1).", 1, proof(digest, attestation("0588960d73d71901", varuint(1<<64-1))))

	bad("magic", "The file begins with its magic (11.1).", append([]byte{1}, proof(digest, pending)[1:]...))
	bad("version", "The version is 1 (11.1).", edit(proof(digest, pending), string(otsMagic)+"\x01", string(otsMagic)+"\x02"))
	bad("empty", "Nothing is no proof.", nil)
	bad("cut", "The end is missing.", proof(digest, pending[:20]))
	bad("trailing", "Nothing follows (11.1).", proof(digest, pending, []byte{0}))
	bad("other_digest", "The proof is of the digest it names (4.8).", proof(repeat(32, 7), pending))
	bad("sha1_file", "The file's digest is the SHA-256 of the payload's.", join(otsMagic, []byte{1, 2}, repeat(20, 7), pending))
	bad("unknown_operation", "There is no such operation (11.2).", proof(digest, []byte{0x42}, pending))
	bad("append_nothing", "An argument has at least one byte (11.2).", proof(digest, []byte{0xf0, 0}, pending))
	bad("append_long", "A result has at most 4,096 bytes (11.2).", proof(digest, []byte{0xf0}, varbytes(repeat(4065, 1)), pending))
	bad("hexlify_long", "A message of hexlify has at most 2,048 bytes (11.2).", proof(digest, []byte{0xf0}, varbytes(repeat(2017, 1)), []byte{0xf3, 8}, pending))
	bad("too_deep", "256 operations are too deep (11.5).", proof(digest, repeat(256, 8), bitcoin))
	bad("too_many", "4,097 attestations are too many (11.5).", proof(digest, bytes.Repeat(append([]byte{0xff}, attestation("0588960d73d71901", []byte{1})...), 4096), bitcoin))
	bad("address_characters", "The address of a calendar has few characters (11.3).", proof(digest, attestation("83dfe30d2ef90c8e", varbytes([]byte("https://calendar.example/?q")))))
	bad("address_trailing", "Nothing follows the address (11.3).", proof(digest, attestation("83dfe30d2ef90c8e", append(varbytes([]byte("https://c.example")), 0))))
	bad("height_trailing", "Nor the height.", proof(digest, attestation("0588960d73d71901", []byte{1, 0})))
	bad("varuint_long", "A varuint has at most 64 bits (11.1).", proof(digest, attestation("0588960d73d71901", append(repeat(9, 0xff), 0x7f))))
	bad("attestation_long", "An attestation has at most 8,192 bytes (11.3).", proof(digest, attestation("0102030405060708", repeat(8193, 1))))
	bad("ends_after_fork", "After ff an entry follows, and one more.", proof(digest, []byte{0xff}, pending))

	s.undeclared("ots_digest_of_another_record", "The digest is that of the record (4.8).", "payload_record", func(b *bundle) *event {
		p := anchor(proof(repeat(32, 7), pending))
		p["digest_sha256"] = hex.EncodeToString(repeat(32, 7))
		return b.add(ada, "timestamp_anchor", p)
	})
	s.undeclared("ots_method", "There is one method (4.8).", "payload_shape", func(b *bundle) *event {
		return b.add(ada, "timestamp_anchor", with(anchor(proof(digest, pending)), "method", "rfc3161"))
	})
	s.undeclared("ots_base64", "A proof is in strict base64 (4.8).", "timestamp_proof", func(b *bundle) *event {
		p := anchor(proof(digest, bitcoin))
		p["proof_b64"] = p["proof_b64"].(string) + "\n"
		return b.add(ada, "timestamp_anchor", p)
	})

	s.blocks()

	b := newBundle()
	first := b.note(ada, "stamped")
	p := anchor(proof(unhex(first.obj["content_sha256"].(string)), []byte{8}, bitcoin))
	p["of"], p["digest_sha256"] = first.id(), first.obj["content_sha256"]
	b.add(ada, "timestamp_anchor", p, after(first))
	s.ok("ots_of_event", "An event can be stamped; the digest is the one in its id (4.8).", b)

	b = newBundle()
	b.proofs = list{anchor(proof(digest, pending))}
	b.trust = [][]byte{trustAll()}
	expect := b.want()
	expect["timestamps"] = obj{"valid": 1, "trusted": 0, "confirmed": 0, "pending": 1}
	s.verify("ots_of_bundle", "A proof may stand in timestamp_proofs, where nobody signs it (7.8, 9.6).", b.json(), b.trust, expect)
	b = newBundle()
	b.proofs = list{anchor(proof(repeat(32, 7), pending)), obj{"proof": "x"}, 1}
	expect = b.want()
	expect["notes"] = list{"timestamp_proofs"}
	expect["timestamps"] = obj{"valid": 0, "trusted": 0, "confirmed": 0, "pending": 0}
	s.verify("ots_of_bundle_noted", "One that proves nothing is kept and noted (7.8).", b.json(), b.trust, expect)

	s.together(digest, proof, anchor)
}

// together holds the limits of all proofs of a bundle (11.5). A proof of 100
// bytes reaches the limit of one, 262,144 bytes of results: seven times hexlify
// gives 64 + 128 + ... + 4096 = 8,128, 62 times reverse 62 * 4,096, and twice
// sha256 the last 64.
func (s *suite) together(digest []byte, proof func([]byte, ...[]byte) []byte, anchor func([]byte) obj) {
	most := func(n int) obj {
		return anchor(proof(digest, bytes.Repeat([]byte{0xf3}, 7), bytes.Repeat([]byte{0xf2}, 62), []byte{8, 8}, attestation("0588960d73d71901", varuint(uint64(n)))))
	}
	with := func(n int, more ...any) *bundle {
		b := newBundle()
		for i := range n {
			b.proofs = append(b.proofs, most(i+1))
		}
		b.proofs = append(b.proofs, more...)
		return b
	}
	tooMuch := func(name, why string, b *bundle) {
		s.unreadable("ots_together_"+name, why, b.json(), "timestamp_limit")
	}

	b := with(63)
	// 60 times reverse and three times sha256 leave room for 255 results of 32 bytes.
	rest := anchor(proof(digest, bytes.Repeat([]byte{0xf3}, 7), bytes.Repeat([]byte{0xf2}, 60), []byte{8, 8, 8}, bitcoin))
	b.proofs = append(b.proofs, rest, anchor(proof(digest, bytes.Repeat([]byte{8}, 256), bitcoin)))
	expect := b.want()
	expect["notes"] = list{"timestamp_proofs"}
	expect["timestamps"] = obj{"valid": 64, "trusted": 0, "confirmed": 64, "pending": 0}
	s.verify("ots_together_too_deep", "The 256th operation of a proof is too deep, and its result is not computed: the 255 results before it are just within the limit of a bundle (11.5).", b.json(), b.trust, expect)

	b = with(64)
	expect = b.want()
	expect["timestamps"] = obj{"valid": 64, "trusted": 0, "confirmed": 64, "pending": 0}
	s.verify("ots_together_most", "64 proofs with 262,144 bytes of results each are just within the limit of a bundle (11.5).", b.json(), b.trust, expect)
	tooMuch("too_much", "With one more the bundle is not read: nobody should have to compute what a stranger dictates (11.5).", with(65))
	b = with(64)
	b.add(ada, "timestamp_anchor", anchor(proof(digest, []byte{8}, bitcoin)))
	tooMuch("with_events", "Proofs of events and of timestamp_proofs count together (11.5).", b)
	tooMuch("broken_counts", "A proof that turns out to be none counts with what was computed (11.5): 32 bytes here.", with(64, anchor(proof(digest, []byte{8}))))
	s.add(testCase{name: "merge_proofs_together_fail", why: "Each bundle keeps the limit of all proofs, their union does not (5.12, 11.5).", op: "merge",
		inputs: []input{{name: "bundles", list: true, files: []file{{"bundle-1.json", with(64).json()}, {"bundle-2.json", with(0, most(65)).json()}}}}, expect: obj{"ok": false}})
}

// blocks holds 11.2 and 11.6: what operations compute, and what blocks confirm.
func (s *suite) blocks() {
	digest := unhex(sha(nil))
	at := func(height uint64) []byte { return attestation("0588960d73d71901", varuint(height)) }
	explorer := func(root string) string { return hex.EncodeToString(reversed(unhex(root))) }
	check := func(name, why string, roots string, want list, rest ...[]byte) {
		s.add(testCase{name: "blocks_" + name, why: why, op: "timestamp",
			inputs: []input{
				{name: "proof", files: []file{{"proof.ots", join(append([][]byte{otsMagic, {1, 8}, digest}, rest...)...)}}},
				{name: "roots", files: []file{{"roots.txt", []byte(roots)}}},
			},
			expect: obj{"ok": true, "digest": hex.EncodeToString(digest), "attestations": want}})
	}
	hash := func(b []byte) string { return sha(b) }
	for _, c := range []struct {
		name, why string
		op        []byte
		root      string
	}{
		{"none", "Without an operation the digest itself is the root.", nil, sha(nil)},
		{"sha256", "SHA-256 of the message.", []byte{8}, hash(digest)},
		{"append", "The argument stands behind the message.", []byte{0xf0, 2, 1, 2, 8}, hash(join(digest, []byte{1, 2}))},
		{"prepend", "Or before it.", []byte{0xf1, 2, 1, 2, 8}, hash(join([]byte{1, 2}, digest))},
		{"reverse", "The bytes in the other order.", []byte{0xf2}, hex.EncodeToString(reversed(digest))},
		{"hexlify", "64 digits in lower case.", []byte{0xf3, 8}, hash([]byte(hex.EncodeToString(digest)))},
		{"sha1", "SHA-1, as old proofs have it.", []byte{2, 8}, hash(sum1(digest))},
		// These two by OpenSSL and by the Keccak team's code package.
		{"ripemd160", "RIPEMD-160.", []byte{3, 8}, hash(unhex("b472a266d0bd89c13706a4132ccfb16f7c3b9fcb"))},
		{"keccak256", "Keccak-256 is not SHA3-256: the padding differs.", []byte{0x67}, "a332df1e58a99d8dcb0767dab2d23985ef337d59fadbe040f56e1c642b314973"},
	} {
		check("operation_"+c.name, c.why+" The result is the Merkle root of the block (11.2, 11.6).", "900000 "+explorer(c.root)+"\n", list{"bitcoin 900000 confirmed"}, c.op, at(900000))
	}
	check("other_root", "The block has another root: the attestation is wrong.", "900000 "+explorer(sha([]byte("other")))+"\n", list{"bitcoin 900000 wrong"}, at(900000))
	check("root_not_turned", "Block explorers print roots with their bytes in the other order (11.6).", "900000 "+sha(nil)+"\n", list{"bitcoin 900000 wrong"}, at(900000))
	check("no_header", "The file does not have that block.", "900001 "+explorer(sha(nil))+"\n", list{"bitcoin 900000 no_header"}, at(900000))
	check("short_message", "A root has 32 bytes; a message of 33 that begins with them is none.", "900000 "+explorer(sha(nil))+"\n", list{"bitcoin 900000 wrong"}, []byte{0xf0, 1, 0}, at(900000))
	check("several", "Each attestation has its own answer; others are not checked. Times and comments may stand in the file (11.6).",
		"# three blocks\n\n1 "+explorer(sha(nil))+" 2026-01-01T00:00:00Z\n2 "+explorer(hash(digest))+" 1767225600\n3 "+explorer(sha(nil))+"\n",
		list{"bitcoin 1 confirmed", "bitcoin 2 confirmed", "bitcoin 3 wrong", "other", "pending https://calendar.example/a_1"},
		[]byte{0xff}, at(1), []byte{0xff}, pending, []byte{0xff}, attestation("0102030405060708", nil), []byte{8, 0xff}, at(2), at(3))
	s.add(testCase{name: "blocks_cut_fail", why: "A proof that is cut short is none (11.1).", op: "timestamp", inputs: []input{
		{name: "proof", files: []file{{"proof.ots", join(otsMagic, []byte{1, 8}, digest)}}}, {name: "roots", files: []file{{"roots.txt", nil}}}},
		expect: obj{"ok": false}})
}

func sum1(b []byte) []byte {
	sum := sha1.Sum(b)
	return sum[:]
}
