package main

import (
	"slices"
	"strings"
)

// trust holds 8.3 to 8.6.
func (s *suite) trust() {
	// signedBy is a bundle with one event of ada's, under a policy for her.
	signedBy := func(created string, policy obj) *bundle {
		b := newBundle()
		b.trust = [][]byte{canon(trusts(registry.trusted(), policy))}
		b.note(ada, "x", at(created))
		return b
	}
	const now = "2026-04-01T00:00:00Z"
	window := func(from, until any) obj {
		return with(with(ada.trusted(), "valid_from", from), "valid_until", until)
	}
	s.ok("trust_window_first", "The first second of a window is in it (8.4).", signedBy(now, window(now, nil)))
	s.ok("trust_window_last", "The last second of a window is in it (8.4).", signedBy(now, window(nil, now)))
	s.untrusted("trust_window_before", "Before the window.", signedBy("2026-03-31T23:59:59.999999999Z", window(now, nil)), "trust_window")
	s.untrusted("trust_window_after", "The window ends with the second, not within it.", signedBy("2026-04-01T00:00:00.000000001Z", window(nil, now)), "trust_window")
	s.ok("trust_event_type", "The type is listed (8.4).", signedBy(now, with(ada.trusted(), "event_types", list{"a", "remark"})))
	s.untrusted("trust_other_event_type", "The type is not listed (8.4).", signedBy(now, with(ada.trusted(), "event_types", list{"correction"})), "trust_event_type")
	s.untrusted("trust_no_event_type", "No type is listed.", signedBy(now, with(ada.trusted(), "event_types", list{})), "trust_event_type")
	s.ok("trust_no_bundles", "Who signs events need not sign bundles.", signedBy(now, with(ada.trusted(), "bundles", false)))
	s.untrusted("trust_signer_id", "The policy knows the key by another name.", signedBy(now, with(ada.trusted(), "signer_id", "ada")), "trust_name")
	s.untrusted("trust_signer_type", "And in another role.", signedBy(now, with(ada.trusted(), "signer_type", "registry")), "trust_name")

	b := newBundle()
	b.trust = [][]byte{canon(trusts(registry.trusted()))}
	b.note(ada, "x")
	s.untrusted("trust_unknown_key", "The mathematics is right, the policy does not know the key (8.5).", b, "trust_key")

	b = newBundle()
	s.verify("trust_pinned_only_fail", "Without a trust file only the key of pith.science is known (8.3).", b.json(), nil,
		with(with(b.want(), "verdict", "untrusted"), "failures", list{"trust_key"}))

	b = newBundle()
	imposter := *eve
	imposter.id = ada.id
	b.signers = append(b.signers, &imposter)
	b.note(&imposter, "I am Ada")
	s.untrusted("trust_impersonation", "An unknown key under a known name (8.6): untrusted, not rejected, or a stranger could spoil the record.", b, "trust_impersonation")

	b = newBundle()
	imposter2 := *eve
	imposter2.id = "pith.science"
	b.signers = append(b.signers, &imposter2)
	b.note(&imposter2, "I am the registry")
	s.untrusted("trust_impersonation_pinned", "The pinned name is known as well.", b, "trust_impersonation")

	b = newBundle()
	b.by = ada
	b.trust = [][]byte{canon(trusts(registry.trusted(), with(ada.trusted(), "bundles", false)))}
	s.untrusted("trust_bundle", "The policy does not let ada sign bundles (8.4).", b, "trust_bundle")

	b = newBundle()
	b.by, b.signers = eve, append(b.signers, eve)
	s.untrusted("trust_bundle_key", "Anybody may sign a bundle (7.4); the policy does not know this key.", b, "trust_key")

	b = newBundle()
	b.trust = [][]byte{canon(trusts(with(registry.trusted(), "valid_until", "2026-05-31T23:59:59Z")))}
	s.untrusted("trust_bundle_window", "For a bundle it is built_at that counts (8.4).", b, "trust_window")

	b = newBundle()
	b.note(ada, "x", set("schema_version", "9")).reason = "event_version"
	b.trust = [][]byte{canon(trusts(registry.trusted()))}
	s.ok("trust_not_of_invalid_kept", "Nobody is asked to trust invalid events (8.5).", b, "event_version")

	b = newBundle()
	b.note(eve, "x", set("schema_version", "9"))
	b.trust = [][]byte{canon(trusts(registry.trusted()))}
	b.note(ada, "y", at("2026-04-02T00:00:00Z"))
	b.events[1].reason = "signature_key"
	s.reject("trust_and_rejection", "Rejection outweighs distrust; both are said (9.1).", b, "event_version", "signature_key", "state", "trust_key")

	b = signedBy(now, with(ada.trusted(), "event_types", list{"correction"}))
	b.trust = append(b.trust, canon(trusts(with(ada.trusted(), "event_types", list{"remark"}))))
	s.ok("trust_files_united", "What two files allow a key is united (8.4).", b)

	unreadable := func(name, why, code string, files ...[]byte) {
		b := newBundle()
		s.verify("trust_file_"+name+"_fail", why, b.json(), files, obj{"verdict": "unreadable", "failures": list{code}})
	}
	unreadable("member", "A policy that is half understood is none (8.4).", "trust_file", canon(with(trusts(registry.trusted()), "more", 1)))
	unreadable("signer_member", "Nor in its entries.", "trust_file", canon(trusts(with(registry.trusted(), "valid_till", nil))))
	unreadable("missing", "All members are required.", "trust_file", canon(trusts(without(registry.trusted(), "bundles"))))
	unreadable("type", "It says what it is.", "trust_file", canon(with(trusts(), "trust_type", "trust")))
	unreadable("version", "Another version may have other rules.", "trust_file", canon(with(trusts(), "trust_version", "2.0")))
	unreadable("fingerprint", "A fingerprint has 32 digits in lower case.", "trust_file", canon(trusts(with(ada.trusted(), "fingerprint", strings.ToUpper(ada.fingerprint())))))
	unreadable("twice", "One file names a fingerprint once.", "trust_file", canon(trusts(ada.trusted(), ada.trusted())))
	unreadable("time", "A window has times to the second.", "trust_file", canon(trusts(with(ada.trusted(), "valid_from", "2026-01-01"))))
	unreadable("syntax", "It is read as strictly as a bundle.", "json_duplicate_name", edit(canon(trusts()), `"signers":[]`, `"signers":[],"signers":[]`))
	unreadable("conflict_name", "Two files that name one fingerprint agree on the name (8.4).", "trust_file", trustAll(), canon(trusts(with(ada.trusted(), "signer_id", "eve@example.org"))))
	unreadable("conflict_window", "And on the window (8.4).", "trust_file", trustAll(), canon(trusts(with(ada.trusted(), "valid_until", "2030-01-01T00:00:00Z"))))
}

// A document is a key document (8.7), sealed and signed.
func document(content obj, signers ...*signer) obj {
	d := without(content)
	digest := sha(canon(d))
	d["document_sha256"] = digest
	signatures := list{}
	for _, s := range signers {
		signatures = append(signatures, s.signature(forDocument, digest, content["created_at"].(string)))
	}
	d["signatures"] = signatures
	return d
}

// renewed is the signer with another key.
func renewed(s *signer, n string) *signer {
	next := person(s.id+" key "+n, s.role)
	next.id, next.keyID = s.id, s.keyID+"-"+n
	return next
}

func rotation(old, new *signer, more ...option) obj {
	d := obj{"document_type": "pith_key_rotation", "document_version": "1.0", "signer_id": old.id, "signer_type": old.role,
		"old_key": old.entry(), "new_key": new.entry(), "created_at": "2026-04-01T00:00:00Z", "valid_from": "2026-04-10T00:00:00Z",
		"old_valid_until": "2026-04-20T00:00:00Z"}
	for _, o := range more {
		o(d)
	}
	return d
}

func revocation(s *signer, from string) obj {
	return document(obj{"document_type": "pith_key_revocation", "document_version": "1.0", "signer_id": s.id, "signer_type": s.role,
		"key": s.entry(), "created_at": "2026-05-01T00:00:00Z", "revoked_at": from, "reason": "compromised"}, s)
}

// rotation holds 8.7 to 8.11.
func (s *suite) rotation() {
	one, two, three, four := ada, renewed(ada, "2"), renewed(ada, "3"), renewed(ada, "4")
	policy := func(documents ...obj) []byte {
		t := trusts(registry.trusted(), ada.trusted())
		all := list{}
		for _, d := range documents {
			all = append(all, d)
		}
		t["key_documents"] = all
		return canon(t)
	}
	signed := func(by *signer, created string, trust ...[]byte) *bundle {
		b := newBundle()
		b.signers = append(b.signers, two, three, four)
		b.trust = trust
		b.note(by, "x", at(created))
		return b
	}
	plain := document(rotation(one, two), one, two)
	s.ok("rotation_new_key", "A rotation gives the new key the rights of the old one (8.9).", signed(two, "2026-04-15T00:00:00Z", policy(plain)))
	s.ok("rotation_old_key_meanwhile", "The old key stays good until old_valid_until (8.9).", signed(one, "2026-04-15T00:00:00Z", policy(plain)))
	s.ok("rotation_old_key_last_second", "Included.", signed(one, "2026-04-20T00:00:00Z", policy(plain)))
	s.ok("rotation_new_key_first_second", "The new key begins at valid_from.", signed(two, "2026-04-10T00:00:00Z", policy(plain)))
	s.untrusted("rotation_old_key_late", "After old_valid_until.", signed(one, "2026-04-20T00:00:01Z", policy(plain)), "trust_window")
	s.untrusted("rotation_new_key_early", "Before valid_from.", signed(two, "2026-04-09T23:59:59Z", policy(plain)), "trust_window")
	s.untrusted("rotation_without_document", "Without its document a new key is a stranger's under a known name (8.6).", signed(two, "2026-04-15T00:00:00Z", policy()), "trust_impersonation")
	s.ok("rotation_file_of_its_own", "A document is a trust file by itself (8.7).", signed(two, "2026-04-15T00:00:00Z", policy(), canon(plain)))
	s.ok("rotation_file_first", "In whatever order the files are named.", signed(two, "2026-04-15T00:00:00Z", canon(plain), policy()))
	s.ok("rotation_twice_the_same", "The same document twice is one.", signed(two, "2026-04-15T00:00:00Z", policy(plain, plain), canon(plain)))
	next := document(rotation(two, three, set("created_at", "2026-05-01T00:00:00Z"), set("valid_from", "2026-05-10T00:00:00Z"), set("old_valid_until", "2026-05-10T00:00:00Z")), two, three)
	s.ok("rotation_chain", "Rotations follow each other, whatever their order in the file (8.9).", signed(three, "2026-05-10T00:00:00Z", policy(next, plain)))
	s.ok("rotation_chain_middle", "The key in the middle has a beginning and an end.", signed(two, "2026-05-10T00:00:00Z", policy(plain, next)))
	s.untrusted("rotation_chain_middle_late", "After its end.", signed(two, "2026-05-10T00:00:01Z", policy(plain, next)), "trust_window")
	limited := trusts(registry.trusted(), with(ada.trusted(), "event_types", list{"correction"}))
	limited["key_documents"] = list{plain}
	s.untrusted("rotation_same_rights", "The new key may not do more than the old one (8.9).", signed(two, "2026-04-15T00:00:00Z", canon(limited)), "trust_event_type")
	named := trusts(registry.trusted(), ada.trusted(), two.trusted())
	named["key_documents"] = list{plain}
	s.ok("rotation_to_named_key", "A key that the policy names itself keeps what the policy says (8.9).", signed(two, "2026-04-01T00:00:00Z", canon(named)))
	ending := trusts(registry.trusted(), with(ada.trusted(), "valid_until", "2026-04-05T00:00:00Z"))
	ending["key_documents"] = list{plain}
	s.untrusted("rotation_ends_before", "A window that ends before old_valid_until stays as it is (8.9).", signed(one, "2026-04-15T00:00:00Z", canon(ending)), "trust_window")
	s.ok("rotation_of_unknown_key", "A document about a key that the policy does not know has no effect (8.9).", signed(one, "2026-04-15T00:00:00Z", policy(document(rotation(eve, four), eve, four))))
	s.untrusted("rotation_of_unknown_key_gives_nothing", "It makes nobody known.", signed(two, "2026-04-15T00:00:00Z", canon(trusts(registry.trusted())), canon(plain)), "trust_key")

	fail := func(name, why, code string, trust ...[]byte) {
		b := newBundle()
		s.verify("rotation_"+name+"_fail", why, b.json(), trust, obj{"verdict": "unreadable", "failures": list{code}})
	}
	fail("forked", "Two rotations leave one key (8.10).", "key_rotation", policy(plain, document(rotation(one, three), one, three)))
	fail("joined", "Two rotations lead to one key (8.10).", "key_rotation", policy(plain, document(rotation(three, two, set("signer_id", "x")), three, two)))
	fail("circle", "Rotations form a circle (8.10).", "key_rotation", policy(plain, document(rotation(two, one, set("created_at", "2026-04-12T00:00:00Z")), two, one)))
	fail("to_itself", "A key becomes itself (8.10).", "key_rotation", policy(document(rotation(one, one), one, one)))
	fail("other_name", "The document names another signer than the policy (8.10).", "key_rotation", policy(document(rotation(one, two, set("signer_id", "bob@example.org")), one, two)))
	fail("made_too_late", "A rotation is made within the old key's window (8.10).", "key_rotation", policy(plain, document(rotation(two, three), two, three)))
	fail("made_after_revocation", "And before its revocation (8.10).", "key_rotation", policy(plain, revocation(one, "2026-04-01T00:00:00Z")))
	fail("one_signature", "Both keys sign (8.7).", "key_document_signature", policy(document(rotation(one, two), one)))
	fail("signatures_swapped", "The old key signs first (8.7).", "key_document_signature", policy(document(rotation(one, two), two, one)))
	fail("signed_by_stranger", "The new key proves that its owner agrees.", "key_document_signature", policy(document(rotation(one, two), one, three)))
	renamed := *two
	renamed.keyID = "another-name"
	fail("signature_key_id", "A signature names its key as the document does (8.8).", "key_document_signature", policy(document(rotation(one, two), one, &renamed)))
	fail("digest", "The digest is recomputed (8.8).", "key_document_sha256", policy(with(plain, "document_sha256", strings.Repeat("0", 64))))
	fail("changed", "A date was changed after signing.", "key_document_sha256", policy(with(plain, "old_valid_until", "2027-04-20T00:00:00Z")))
	fail("member", "No members are allowed but those listed (8.7).", "key_document", policy(document(rotation(one, two, set("more", 1)), one, two)))
	fail("key_forms", "Its keys are checked like those of a bundle (8.1).", "key_document", policy(document(rotation(one, two, set("new_key", with(two.entry(), "public_key_hex", "00"))), one, two)))
	fail("version", "Another version may have other rules.", "key_document", policy(document(rotation(one, two, set("document_version", "2.0")), one, two)))

	revoked := revocation(one, "2026-04-10T00:00:00Z")
	s.ok("revocation_before", "What was signed before a revocation stays (8.11).", signed(one, "2026-04-09T23:59:59.9Z", policy(revoked)))
	s.untrusted("revocation_from", "From that second on the key is believed nothing (8.11).", signed(one, "2026-04-10T00:00:00Z", policy(revoked)), "trust_revoked")
	s.untrusted("revocation_earlier_counts", "Of two revocations the earlier counts (8.11).", signed(one, "2026-04-09T00:00:00Z", policy(revoked, revocation(one, "2026-04-08T00:00:00Z"))), "trust_revoked")
	s.ok("revocation_not_of_successor", "The new key is not revoked with the old one.", signed(two, "2026-04-15T00:00:00Z", policy(plain, revocation(one, "2026-04-05T00:00:00Z"))))
	s.ok("revocation_of_unknown_key", "A revocation of an unknown key has no effect.", signed(one, "2026-04-15T00:00:00Z", policy(revocation(eve, "2020-01-01T00:00:00Z"))))
	fail("revocation_by_another", "Only the key itself revokes (8.7).", "key_document_signature", policy(document(without(revocation(one, "2026-04-10T00:00:00Z"), "document_sha256", "signatures"), bob)))
}

// merging holds 5.8 and 5.9.
func (s *suite) merging() {
	merged := func(name, why string, expect *bundle, in ...*bundle) {
		var files []file
		for i, b := range in {
			files = append(files, file{"bundle-" + string(rune('1'+i)) + ".json", b.json()})
		}
		var entries []string
		for _, e := range append(append([]*event{}, expect.valid()...), expect.invalid()...) {
			entries = append(entries, sha(canon(e.obj)))
		}
		// The union to the byte (5.8): the events in order, the keys by fingerprint.
		united := without(expect.object(), "bundle_signature")
		ordered, keys := list{}, united["public_keys"].(list)
		for _, e := range append(append([]*event{}, expect.valid()...), expect.invalid()...) {
			ordered = append(ordered, e.obj)
		}
		united["events"] = ordered
		slices.SortFunc(keys, func(a, b any) int {
			return strings.Compare(a.(obj)["fingerprint_sha256_hex"].(string), b.(obj)["fingerprint_sha256_hex"].(string))
		})
		s.add(testCase{name: "merge_" + name, why: why, op: "merge", inputs: []input{{name: "bundles", list: true, files: files}},
			expect: obj{"ok": true, "merged_sha256": sha(canon(united)), "state_sha256": expect.state()["state_sha256"], "event_set_sha256": sha(canon(sorted(entries)))}})
	}
	// Two mirrors share the opening; each has an event of its own.
	left, right, both := newBundle(), newBundle(), newBundle()
	l := left.note(ada, "left", at("2026-04-02T00:00:00Z"))
	r := right.note(bob, "right", at("2026-04-01T00:00:00Z"))
	both.events = []*event{both.events[0], r, l}
	merged("two", "Set union: each mirror had an event that the other lacked (5.1).", both, left, right)
	merged("two_swapped", "In whatever order.", both, right, left)
	merged("three_with_copies", "Copies change nothing.", both, left, right, left, left)
	merged("one", "A bundle alone is merged with itself.", left, left)

	bad := newBundle()
	x := bad.note(ada, "x", set("schema_version", "9"))
	x.reason = "event_version"
	with1 := newBundle()
	with1.events = append(with1.events, l, x)
	merged("invalid_kept", "Invalid events are united as well (5.6).", with1, left, bad)

	gap := newBundle()
	follower := gap.note(ada, "next", after(l), at("2026-04-03T00:00:00Z"))
	healed := newBundle()
	healed.events = append(healed.events, l, follower)
	merged("gap_closed", "A gap in a chain closes when another mirror has the event (5.4).", healed, gap, left)

	fork := newBundle()
	fork.events = append(fork.events, l)
	a := fork.note(ada, "a", after(l), at("2026-04-04T00:00:00Z"))
	known := newBundle()
	known.events = append(known.events, l, follower, a)
	known.equivocate("prev_event", l.id(), follower, a)
	merged("equivocation_found", "Two mirrors were told two stories: together they see it (5.5).", known, healed, fork)

	orphan := newBundle()
	y := orphan.note(ada, "instead", replacing(l), at("2026-04-05T00:00:00Z"))
	y.reason = "supersedes_target"
	replaced := newBundle()
	was, now := &event{obj: l.obj, superseded: true}, &event{obj: y.obj}
	replaced.events = append(replaced.events, was, now)
	merged("supersedes_found", "An event that was invalid because its target was missing becomes valid when the target arrives (5.3).", replaced, orphan, left)

	again := newBundle()
	copied := without(l.obj)
	copied["signature"] = ada.signature(forEvent, l.obj["content_sha256"].(string), "2026-04-30T00:00:00Z")
	again.events = append(again.events, &event{obj: copied})
	merged("earlier_signature", "Of two signatures of one event the earlier stays (5.1).", again, left, again)

	older := newBundle()
	older.aliases = append(list{}, older.aliases...)
	older.aliases[0] = with(older.aliases[0].(obj), "created_at", "2026-01-01T00:00:00Z")
	merged("aliases", "Of each alias the earliest stays (6.5).", older, newBundle(), older)

	hinted, hintedToo, hints := newBundle(), newBundle(), newBundle()
	hint := func(n string) obj {
		return obj{"name": n, "bundle_url": "https://" + n + ".example/" + hinted.suffix + "/bundle.json"}
	}
	hinted.hints, hintedToo.hints, hints.hints = list{hint("m2"), hint("m1")}, list{hint("m3"), hint("m2")}, list{hint("m1"), hint("m2"), hint("m3")}
	slices.SortFunc(hints.hints, func(a, b any) int { return strings.Compare(string(canon(a)), string(canon(b))) })
	hintedToo.builtAt, hints.builtAt = "2026-06-02T00:00:00Z", "2026-06-02T00:00:00Z"
	merged("hints", "Mirror hints each once, sorted by canonical form; built_at is the latest (5.8).", hints, hinted, hintedToo)

	more, less, least := newBundle(), newBundle(), newBundle()
	more.before = append(more.before, func(o obj) { o["more"] = "b"; o["only"] = 1 })
	less.before = append(less.before, func(o obj) { o["more"] = "a" })
	least.before = append(least.before, func(o obj) { o["more"] = "a"; o["only"] = 1 })
	merged("unknown_members", "Of two values of an unknown member the smaller stays (5.8).", least, more, less)

	rejected := newBundle()
	rejected.before = append(rejected.before, func(o obj) { o["short_pith_number"] = "pith:AAAAAAAA" })
	s.add(testCase{name: "merge_rejected_fail", why: "What is rejected is not merged (5.11).", op: "merge",
		inputs: []input{{name: "bundles", list: true, files: []file{{"bundle-1.json", left.json()}, {"bundle-2.json", rejected.json()}}}}, expect: obj{"ok": false}})

	unsigned := right.object()
	delete(unsigned, "bundle_signature")
	s.add(testCase{name: "merge_unsigned", why: "A bundle without signature is judged by everything else (5.11).", op: "merge",
		inputs: []input{{name: "bundles", list: true, files: []file{{"bundle-1.json", left.json()}, {"bundle-2.json", canon(unsigned)}}}},
		expect: obj{"ok": true, "state_sha256": both.state()["state_sha256"]}})

	other := bundleOf(with(newRecord(), "source", obj{"kind": "zenodo", "id": "77", "version": 1}))
	other.aliases = list{}
	s.add(testCase{name: "merge_two_records_fail", why: "Only bundles of one record are merged (5.8).", op: "merge",
		inputs: []input{{name: "bundles", list: true, files: []file{{"bundle-1.json", left.json()}, {"bundle-2.json", other.json()}}}}, expect: obj{"ok": false}})
	s.add(testCase{name: "merge_unreadable_fail", why: "What cannot be read cannot be merged.", op: "merge",
		inputs: []input{{name: "bundles", list: true, files: []file{{"bundle-1.json", left.json()}, {"bundle-2.json", []byte("{}")}}}}, expect: obj{"ok": false}})
}
