package main

import (
	"encoding/base64"
	"slices"
	"strings"
)

// crowd hides the one failure that decides among more failures of the same code
// than any result lists (9.2), all forgiven because the state owns up to them.
func (s *suite) crowd() {
	const copies = 1001
	b := newBundle()
	original := b.draft(bob, "x", obj{}).obj
	original["content_sha256"], original["event_id"] = "", "" // which keeps the file small
	for i := range copies {
		forged := with(original["signature"].(obj), "signature_b64", base64.StdEncoding.EncodeToString(append(make([]byte, 62), byte(i>>8), byte(i))))
		b.events = append(b.events, &event{obj: with(original, "signature", forged), reason: "event_digest"})
	}
	b.after = append(b.after, func(o obj) {
		o["built_at"] = "2031-01-01T00:00:00Z"
		o["bundle_signature"].(obj)["bundle_sha256"] = sha(canon(without(o, "bundle_signature")))
	})
	s.reject("bundle_changed_in_a_crowd", "What the signature covers was changed after signing, and bundle_sha256 with it. 1,001 events have bad signatures as well, which the state tells, so those are notes (7.5): however many they are, they hide nothing (9.1).",
		b, "signature")
}

// entries fills lists up to their limit (10) and beyond.
func (s *suite) entries() {
	const limit = 1 << 16
	fill := func(name string, n int) input {
		b := newBundle()
		b.before = append(b.before, func(o obj) { o[name] = slices.Repeat(list{obj{}}, n) })
		before, after, found := strings.Cut(string(b.json()), strings.Repeat("{},", n-1))
		if !found {
			panic("no entries in " + name)
		}
		return input{name: "bundle", repeat: list{list{before, 1}, list{"{},", n - 1}, list{after, 1}}}
	}
	trust := input{name: "trust", list: true, files: []file{{"trust-1.json", trustAll()}}}
	for _, name := range []string{"events", "public_keys", "source_aliases", "mirror_hints", "timestamp_proofs"} {
		s.add(testCase{name: "bundle_too_many_" + name + "_fail", why: "65,537 entries are beyond the limit (10): nothing else is said about the bundle.", op: "verify",
			inputs: []input{fill(name, limit+1), trust}, expect: obj{"verdict": "unreadable", "failures": list{"list_length"}}})
	}
	s.add(testCase{name: "bundle_many_mirror_hints", why: "65,536 entries are within the limit (10).", op: "verify",
		inputs: []input{fill("mirror_hints", limit), trust}, expect: newBundle().want()})
}

// bundles holds section 7, and what follows from the record.
func (s *suite) bundles() {
	s.crowd()
	s.entries()
	s.ok("bundle_plain", "One event, everybody known.", newBundle())

	b := newBundle()
	b.text = [][2]string{{`"bundle_version":"1.0"`, "\n \"bundle_version\"\t:\r\n\"1\\u002e0\""}}
	s.ok("bundle_spelled_otherwise", "Digests are those of the canonical form: white space and escapes do not matter.", b)

	b = newBundle()
	b.before = append(b.before, func(o obj) { o["more"] = obj{"x": raw("1e+16"), "\u2028": "<é>"} })
	s.ok("bundle_unknown_member", "Unknown members are allowed, covered by the signature, and noted (7.1).", b, "unknown_member")

	b = newBundle()
	b.before = append(b.before, func(o obj) {
		o["links"] = obj{strings.Repeat("<é>", 1<<12): "http://pith.example/pith/" + b.suffix}
		o[strings.Repeat("/~", 1<<12)] = 1
	})
	s.ok("bundle_long_names", "Names of members have no limit of their own; a result cuts them in its paths (9.2).", b, "locator", "unknown_member")

	b = newBundle()
	b.after = append(b.after, func(o obj) { o["bundle_signature"].(obj)["signed_at"] = "2036-01-01T00:00:00Z" })
	s.ok("bundle_signed_at_is_uncovered", "signed_at of a bundle's signature is a claim that anybody can change (3.6, 7.3).", b)

	b = newBundle()
	b.before = append(b.before, func(o obj) { o["links"] = obj{"bundle": "http://pith.example/pith/" + b.suffix} })
	s.ok("bundle_link_http", "An address that is not https is noted (7.7).", b, "locator")

	b = newBundle()
	b.hints = list{obj{"name": "elsewhere", "base_url": "https://mirror.example/", "bundle_url": "https://mirror.example/other.json"}}
	s.ok("bundle_hint_of_another_record", "An address that does not name the record is noted; base_url need not (7.7).", b, "locator")

	b = newBundle()
	b.aliases, b.joined = append(b.aliases, with(b.aliases[2].(obj), "created_at", "2026-01-01T00:00:00Z")), append(list{}, b.aliases...)
	b.joined[2] = b.aliases[6]
	s.ok("aliases_earliest", "One alias for each kind and value stays in the state, the earliest (6.5).", b)

	b = newBundle()
	b.joined = append(list{}, b.aliases...)
	b.aliases = list{b.joined[5], b.joined[0], b.joined[3], b.joined[1], b.joined[4], b.joined[2]}
	s.ok("aliases_sorted", "The state sorts aliases by kind and value, whatever the bundle does (6.5).", b)

	b = newBundle()
	b.aliases = list{}
	s.ok("aliases_none", "No alias is required.", b)

	record := with(newRecord(), "source", obj{"kind": "arxiv", "id": "hep-TH/9309160", "version": 3})
	b = bundleOf(record)
	b.aliases = list{b.alias("arxiv", "hep-TH/9309160"), b.alias("arxiv_version", "hep-TH/9309160v3"), b.alias("doi", "10.48550/arxiv.hep-th/9309160")}
	s.ok("aliases_doi_lower_case", "The alias doi is in lower case (6.5).", b)

	b = bundleOf(with(newRecord(), "source", obj{"kind": "zenodo", "id": "77", "version": 1}))
	b.aliases = list{b.alias("pith_short_8", b.suffix[:8])}
	s.ok("aliases_other_source", "A source that is not arXiv has its short ids.", b)

	b = bundleOf(with(newRecord(), "source", obj{"kind": "zenodo", "id": "77", "version": 1}))
	b.aliases = list{b.alias("arxiv", "77")}
	s.reject("aliases_arxiv_of_other_source", "But no aliases of arXiv.", b, "alias")

	for _, c := range []struct {
		name, why string
		change    func(*bundle, obj) obj
	}{
		{"value", "An alias follows from the record (6.5).", func(b *bundle, a obj) obj { return with(a, "alias_value", "2603.01235") }},
		{"kind", "Aliases of other kinds do not (6.5).", func(b *bundle, a obj) obj { return with(a, "alias_kind", "ssrn") }},
		{"member", "Nothing may be slipped in: aliases change without an event (6.5).", func(b *bundle, a obj) obj { return with(a, "note", "x") }},
		{"time", "created_at is a time to the second.", func(b *bundle, a obj) obj { return with(a, "created_at", "2026-03-03T00:00:00.0Z") }},
	} {
		b := newBundle()
		b.aliases = append(list{}, b.aliases...)
		b.aliases[0] = c.change(b, b.aliases[0].(obj))
		if c.name == "kind" { // the state sorts by kind
			b.joined = append(append(list{}, b.aliases[1:]...), b.aliases[0])
		}
		s.reject("aliases_"+c.name, c.why, b, "alias")
	}

	set := func(name string, value any) func(*bundle) {
		return func(b *bundle) { b.before = append(b.before, func(o obj) { o[name] = value }) }
	}
	drop := func(name string) func(*bundle) {
		return func(b *bundle) { b.before = append(b.before, func(o obj) { delete(o, name) }) }
	}
	sign := func(name string, value any) func(*bundle) {
		return func(b *bundle) { b.after = append(b.after, func(o obj) { o["bundle_signature"].(obj)[name] = value }) }
	}
	state := func(f func(obj)) func(*bundle) {
		return func(b *bundle) {
			b.before = append(b.before, func(o obj) {
				st := without(o["state"].(obj), "state_sha256")
				f(st)
				st["state_sha256"] = sha(canon(st))
				o["state"] = st
			})
		}
	}
	for _, c := range []struct {
		name, why string
		change    func(*bundle)
		codes     []string
	}{
		{"year", "The year is that of submission.", set("pith_number", "pith:2027:"+suffixOf(newRecord())), []string{"pith_number"}},
		{"number_small", "A Pith Number is in capitals.", set("pith_number", strings.ToLower(numberOf(newRecord()))), []string{"pith_number"}},
		{"short_number", "The short number has 8 characters.", set("short_pith_number", "pith:"+suffixOf(newRecord())[:12]), []string{"short_pith_number"}},
		{"record_digest", "canonical_sha256 is the digest of the record.", set("canonical_sha256", strings.Repeat("0", 64)), []string{"canonical_sha256"}},
		{"source", "The source is that of the record.", set("source", obj{"kind": "arxiv", "id": "2603.01234", "version": 1}), []string{"source"}},
		{"source_float", "1.0 is not 1: canonical forms are compared.", set("source", obj{"kind": "arxiv", "id": "2603.01234", "version": raw("2.0")}), []string{"source"}},
		{"built_at", "built_at is a time to the second (7.1).", set("built_at", "2026-06-01T00:00:00.5Z"), []string{"bundle_shape"}},
		{"no_links", "All members are required (7.1).", drop("links"), []string{"bundle_shape"}},
		{"no_proofs", "All members are required (7.1), empty ones too.", drop("timestamp_proofs"), []string{"bundle_shape"}},
		{"hints_object", "Every member has its type.", set("mirror_hints", obj{}), []string{"bundle_shape"}},
		{"no_state", "All members are required (7.1).", drop("state"), []string{"bundle_shape"}},
		{"state_missing_member", "The state is what the events give, member by member.", state(func(st obj) { delete(st, "equivocations") }), []string{"state"}},
		{"state_more_members", "And no more than that.", state(func(st obj) { st["more"] = 1 }), []string{"state"}},
		{"state_count", "The counts count.", state(func(st obj) { st["event_count"] = 2 }), []string{"state"}},
		{"state_count_float", "1.0 is not 1: canonical forms are compared.", state(func(st obj) { st["event_count"] = raw("1.0") }), []string{"state"}},
		{"state_false_zero", "false is not 0, although some languages say so.", state(func(st obj) { st["equivocation_count"] = false }), []string{"state"}},
		{"state_invalid_invented", "It lists no invalid event that is not there.", state(func(st obj) {
			st["invalid_events"] = list{obj{"entry_sha256": strings.Repeat("0", 64), "event_id": nil, "reason": "event_shape"}}
		}), []string{"state"}},
		{"state_digest", "state_sha256 is the digest of the state.", func(b *bundle) {
			b.before = append(b.before, func(o obj) { o["state"] = with(o["state"].(obj), "state_sha256", strings.Repeat("0", 64)) })
		}, []string{"state_sha256"}},
		{"bundle_changed", "What the signature covers was changed after signing.", func(b *bundle) {
			b.after = append(b.after, func(o obj) { o["links"] = obj{} })
		}, []string{"bundle_sha256", "signature"}},
		{"bundle_digest", "bundle_sha256 is recomputed, not believed.", sign("bundle_sha256", strings.Repeat("0", 64)), []string{"bundle_sha256"}},
		{"signature_member", "A bundle's signature has no other members: nothing covers them (3.3).", sign("more", 1), []string{"signature_shape"}},
		{"signature_status", "Only signed_v1 is a signature.", sign("signature_status", "unsigned"), []string{"signature_shape"}},
		{"signature_label", "A bundle's signature says that it signs a bundle (3.3).", sign("signed_message", forEvent), []string{"signature_shape"}},
		{"signature_algorithm", "There is one algorithm.", sign("algorithm", "Ed25519"), []string{"signature_shape"}},
		{"signature_key", "The key must be in the bundle.", sign("public_key_fingerprint", eve.fingerprint()), []string{"signature_key"}},
		{"signature_other_key", "The key that is named must have signed.", func(b *bundle) {
			sign("public_key_fingerprint", bob.fingerprint())(b)
			sign("key_id", bob.keyID)(b)
		}, []string{"signature"}},
		{"signature_swapped", "A good signature of something else is none.", func(b *bundle) {
			b.after = append(b.after, func(o obj) {
				o["bundle_signature"].(obj)["signature_b64"] = b.events[0].obj["signature"].(obj)["signature_b64"]
			})
		}, []string{"signature"}},
	} {
		b := newBundle()
		c.change(b)
		s.reject("bundle_"+c.name, c.why, b, c.codes...)
	}

	for _, c := range []struct{ name, why, old, new string }{
		{"type", "Another type is not judged (7.2).", `"pith_open_graph_bundle"`, `"pith_open_graph_mirror"`},
		{"version", "A future version may have other rules, so nothing else is judged (7.2).", `"bundle_version":"1.0"`, `"bundle_version":"2.0"`},
		{"version_number", "The version is a string.", `"bundle_version":"1.0"`, `"bundle_version":1.0`},
		{"merge_version", "A future merge may have other rules (7.2).", `"merge_version":"pith-open-graph-merge-v1","mirror`, `"merge_version":"pith-open-graph-merge-v2","mirror`},
	} {
		s.unreadable("bundle_"+c.name, c.why, edit(newBundle().json(), c.old, c.new), "bundle_type")
	}
	s.unreadable("bundle_array", "A bundle is an object.", []byte("[]"), "bundle_type")
	s.unreadable("bundle_duplicate_name", "A repeated name makes the whole bundle unreadable (1.5): two readers could see two bundles.",
		edit(newBundle().json(), `"built_at":`, `"built_at":"2026-06-01T00:00:00Z","built_at":`), "json_duplicate_name")
	s.unreadable("bundle_cut", "The end is missing.", newBundle().json()[:2000], "json_truncated")
	s.unreadable("bundle_two", "Two bundles in one document.", append(newBundle().json(), newBundle().json()...), "json_trailing_data")

	b = newBundle()
	b.events = nil
	s.reject("bundle_no_events", "A bundle holds a valid record_created (7.5).", b, "record_created")

	b = newBundle()
	b.events = nil
	b.note(ada, "only this")
	s.reject("bundle_no_opening", "Another event does not open a record (7.5).", b, "record_created")

	b = newBundle()
	b.before = append(b.before, func(o obj) { o["canonical_record"] = with(b.record, "schema_version", "1.1") })
	s.reject("bundle_record_shape", "Without an identity there is nothing to say about events.", b, "record_shape")

	b = newBundle()
	e := b.note(ada, "twice")
	b.events = append(b.events, e)
	b.applied = b.events[:2]
	s.reject("bundle_event_twice", "A bundle holds each event once; it counts once (7.5, 5.1).", b, "event_duplicate")

	// Invalid events, of which each state tells the truth.
	badTwice := func() (*bundle, *event) {
		b := newBundle()
		e := b.note(ada, "bad", func(o obj) { o["schema_version"] = "9" })
		e.reason = "event_version"
		b.before = append(b.before, func(o obj) { o["events"] = append(o["events"].(list), e.obj) })
		return b, e
	}
	b, _ = badTwice()
	s.reject("bundle_invalid_event_twice", "Invalid events, too, stand in a bundle once: two entries that are equal in canonical form are one event, and that the state lists it excuses no copy (7.5).", b, "event_duplicate")
	b, _ = badTwice()
	b.text = [][2]string{{`"text":"bad"`, `"text":"b\u0061d"`}}
	s.reject("bundle_invalid_event_twice_spelled_otherwise", "However the copy is spelled (7.5).", b, "event_duplicate")
	b, e = badTwice()
	b.before = nil
	other := without(e.obj)
	other["created_at"] = "2026-04-02T00:00:00Z"
	b.events = append(b.events, &event{obj: other, reason: "event_version"})
	s.ok("bundle_invalid_events_of_one_id_kept", "Invalid events are told apart by all that was received, not by the id they claim (6.6, 7.5).", b, "event_version", "event_digest", "event_id", "signature")

	b = newBundle()
	first := b.note(ada, "one", at("2026-04-01T00:00:00Z"))
	second := b.note(ada, "two", at("2026-04-02T00:00:00Z"))
	b.applied = []*event{b.events[0], first, second}
	b.events = []*event{second, b.events[0], first}
	s.ok("bundle_any_order", "The order in which events stand does not matter (5.1).", b)
}

// signatures holds section 3, and the keys of section 8.
func (s *suite) signatures() {
	b64 := func(s string) func(obj) {
		return func(e obj) { e["signature"].(obj)["signature_b64"] = s }
	}
	good := func(b *bundle) (*event, string) {
		e := b.note(ada, "base64")
		return e, e.obj["signature"].(obj)["signature_b64"].(string)
	}
	for _, c := range []struct {
		name, why string
		spell     func(string) string
	}{
		{"no_padding", "base64 is padded (3.5).", func(s string) string { return strings.TrimRight(s, "=") }},
		{"more_padding", "And not more than that.", func(s string) string { return s + "=" }},
		{"line_break", "There are no line breaks (3.5).", func(s string) string { return s[:76] + "\n" + s[76:] }},
		{"space", "Nor spaces.", func(s string) string { return " " + s }},
		{"trailing_bits", "The bits that are left over are zero (3.5): else one signature has many spellings.", func(s string) string {
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
			i := strings.IndexByte(alphabet, s[len(s)-3])
			return s[:len(s)-3] + string(alphabet[i+1]) + "=="
		}},
		{"url_alphabet", "The alphabet is that of RFC 4648 section 4.", func(s string) string {
			return strings.NewReplacer("+", "-", "/", "_").Replace(s)
		}},
		{"short", "A signature has 64 bytes.", func(s string) string { return s[:84] }},
		{"long", "A signature has 64 bytes.", func(s string) string {
			raw, _ := base64.StdEncoding.DecodeString(s)
			return base64.StdEncoding.EncodeToString(append(raw, 0))
		}},
		{"empty", "An empty string is no signature.", func(string) string { return "" }},
		{"hex", "Nor are hexadecimal digits.", func(string) string { return strings.Repeat("00", 64) }},
	} {
		s.undeclared("base64_"+c.name, c.why, "signature", func(b *bundle) *event {
			e, sig := good(b)
			b64(c.spell(sig))(e.obj)
			return e
		})
	}

	sig := func(name string, value any) func(*bundle) *event {
		return func(b *bundle) *event {
			e := b.note(ada, "x")
			e.obj["signature"].(obj)[name] = value
			return e
		}
	}
	s.invalid("signature_key_id", "An event's signature names the key_id of its signer (3.7).", "signature_signer", sig("key_id", "another"))
	s.invalid("signature_fingerprint", "And its key (3.7).", "signature_signer", sig("public_key_fingerprint", bob.fingerprint()), "signature")
	s.invalid("signature_label", "The label is outside the signed bytes; a signature that says it signs something else is refused (3.2).", "signature_shape", sig("signed_message", forRecord))
	s.invalid("signature_member", "No digest covers the signature, so it has no other members (3.3).", "signature_shape", sig("comment", "hello"))
	s.invalid("signature_time", "signed_at is a time.", "signature_shape", sig("signed_at", "yesterday"))
	s.invalid("signature_unknown_key", "The key is not among public_keys.", "signature_key", func(b *bundle) *event { return b.note(eve, "x") })
	s.invalid("signature_missing", "All members are required.", "signature_shape", func(b *bundle) *event {
		e := b.note(ada, "x")
		delete(e.obj["signature"].(obj), "signed_at")
		return e
	})
	s.invalid("signature_by_another", "Signed with bob's key in ada's name.", "signature", func(b *bundle) *event {
		imposter := *ada
		imposter.sign = bob.sign
		return b.note(&imposter, "x")
	})
	s.invalid("signature_of_receipt", "A signature over the record's digest is none of an event: the digest is what counts (3.2).", "signature", func(b *bundle) *event {
		e := b.note(ada, "x")
		e.obj["signature"].(obj)["signature_b64"] = ada.signature(forEvent, sha(canon(b.record)), "2026-05-01T00:00:00Z")["signature_b64"]
		return e
	})
	s.invalid("signature_of_hex", "What is signed are the 32 bytes of the digest, not its 64 digits (3.1).", "signature", func(b *bundle) *event {
		e := b.note(ada, "x")
		e.obj["signature"].(obj)["signature_b64"] = base64.StdEncoding.EncodeToString(ada.sign([]byte(e.obj["content_sha256"].(string))))
		return e
	})
	s.invalid("signature_of_content", "Nor the bytes that are digested.", "signature", func(b *bundle) *event {
		e := b.note(ada, "x")
		e.obj["signature"].(obj)["signature_b64"] = base64.StdEncoding.EncodeToString(ada.sign(canon(without(e.obj, "content_sha256", "event_id", "signature"))))
		return e
	})
	b := newBundle()
	e := b.note(ada, "x")
	e.obj["signature"].(obj)["signed_at"] = "2020-01-01T00:00:00Z"
	s.ok("signature_signed_at", "signed_at of an event is covered by the bundle's digest alone (3.6), so it changes no event.", b)

	b = newBundle()
	b.after = append(b.after, func(o obj) { o["bundle_signature"].(obj)["key_id"] = "another-name" })
	s.reject("signature_label_of_bundle", "The key_id of a bundle's signature, which nothing else fixes, is that of its entry in public_keys (5.10).", b, "signature_key")

	key := func(name, why, code string, change func(obj), more ...string) {
		b := newBundle()
		e := eve.entry()
		change(e)
		b.keys = list{e}
		s.reject("key_"+name, why, b, append(more, code)...)
	}
	key("hex", "The forms of a key agree (8.2).", "key_forms", func(k obj) { k["public_key_hex"] = strings.Repeat("0", 64) })
	key("capital_hex", "Hex is in lower case.", "key_forms", func(k obj) { k["public_key_hex"] = strings.ToUpper(k["public_key_hex"].(string)) })
	key("fingerprint", "The fingerprint is recomputed (8.2).", "key_forms", func(k obj) { k["fingerprint_sha256_hex"] = ada.fingerprint() })
	key("fingerprint_of_hex", "It is taken of the 32 bytes, not of their digits.", "key_forms", func(k obj) { k["fingerprint_sha256_hex"] = sha([]byte(k["public_key_hex"].(string)))[:32] })
	key("fingerprint_b32", "The fingerprint in base32 has 130 bits in spite of its name (8.2).", "key_forms", func(k obj) {
		s := k["fingerprint_sha256_b32_first128bits"].(string)
		last := "A" // another last character
		if s[25:] == last {
			last = "B"
		}
		k["fingerprint_sha256_b32_first128bits"] = s[:25] + last
	})
	key("base64", "A key is in strict base64 as well (3.5).", "key_forms", func(k obj) { k["public_key_b64"] = strings.TrimRight(k["public_key_b64"].(string), "=") })
	key("short", "A key has 32 bytes.", "key_forms", func(k obj) { k["public_key_b64"] = "AAAA" })
	key("algorithm", "There is one algorithm.", "key_shape", func(k obj) { k["algorithm"] = "ed448" })
	key("missing_format", "The first seven members are required (8.1).", "key_shape", func(k obj) { delete(k, "format") })
	key("twice", "Each fingerprint appears once.", "key_duplicate", func(k obj) {
		for name, v := range ada.entry() {
			k[name] = v
		}
		k["key_id"] = "again"
	})
	b = newBundle()
	b.keys = list{without(eve.entry(), "rotates_at", "url", "notes")}
	s.ok("key_unused", "A key that signed nothing does no harm; three of its members may be absent (8.1).", b)
	b = newBundle()
	b.signers = []*signer{registry}
	b.keys = list{with(ada.entry(), "key_id", "another-name")}
	b.note(ada, "x")
	s.ok("key_label", "The label of a key in public_keys plays no part in signatures, and is noted (5.10).", b, "key_name")
}
