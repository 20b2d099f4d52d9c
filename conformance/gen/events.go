package main

import (
	"strings"
)

// envelope holds 4.1, 4.13 and the digests of events.
func (s *suite) envelope() {
	b := newBundle()
	b.note(ada, "x", at("2026-04-01T00:00:00.123456789Z"))
	s.ok("event_fraction", "created_at may have up to nine digits of fraction (4.1).", b)

	b = newBundle()
	b.note(ada, "x", set("more", obj{"y": raw("0.1")}))
	s.ok("event_unknown_member", "Further members are allowed, covered by the digest, and noted (4.1).", b, "unknown_member")

	b = newBundle()
	b.add(ada, "Ünknown type 型", obj{"": nil})
	s.ok("event_unknown_type", "Types that the specification does not name are valid with any payload, applied, and shown in no list (4.13, 6.2).", b)

	b = newBundle()
	b.note(ada, "x", set("event_type", strings.Repeat("é", 128)), target(strings.Repeat("t", 256)))
	s.ok("event_longest_words", "256 bytes of UTF-8 are within the limit.", b)

	signed := func(options ...option) func(*bundle) *event {
		return func(b *bundle) *event { return b.note(ada, "x", options...) }
	}
	changed := func(name string, value any) func(*bundle) *event {
		return func(b *bundle) *event {
			e := b.note(ada, "x")
			e.obj[name] = value
			return e
		}
	}
	s.invalid("event_version", "Events of another schema_version are invalid and kept (4.13).", "event_version", signed(set("schema_version", "1.1")))
	s.invalid("event_subject", "An event about another record, however well it is signed.", "event_subject", signed(set("subject_pith_number", "pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM")))
	s.invalid("event_subject_year", "The year is part of the number.", "event_subject", signed(set("subject_pith_number", "pith:2025:"+suffixOf(newRecord()))))
	s.invalid("event_changed", "The payload was changed after signing.", "event_digest", changed("payload", obj{"text": "y"}), "event_id", "signature")
	s.invalid("event_redated", "created_at was changed after signing.", "event_digest", changed("created_at", "2026-04-02T00:00:00Z"), "event_id", "signature")
	s.invalid("event_digest", "content_sha256 is recomputed, not believed.", "event_digest", changed("content_sha256", strings.Repeat("0", 64)))
	s.invalid("event_digest_capitals", "Digests are in lower case.", "event_digest", func(b *bundle) *event {
		e := b.note(ada, "x")
		e.obj["content_sha256"] = strings.ToUpper(e.obj["content_sha256"].(string))
		return e
	})
	s.invalid("event_id", "The id is sha256: and the digest.", "event_id", changed("event_id", "sha256:"+strings.Repeat("0", 64)))
	s.invalid("event_id_prefix", "The id has its prefix.", "event_id", func(b *bundle) *event {
		e := b.note(ada, "x")
		e.obj["event_id"] = e.obj["content_sha256"]
		return e
	})
	s.invalid("event_member_added", "A member was added after signing: the digest covers members that nobody knows (1.6).", "event_digest", changed("more", 1), "event_id", "signature")
	s.invalid("event_signer_renamed", "The signer's name is covered by the digest.", "event_digest", func(b *bundle) *event {
		e := b.note(ada, "x")
		e.obj["signer"] = with(e.obj["signer"].(obj), "signer_id", "eve@example.org")
		return e
	}, "event_id", "signature")

	for _, c := range []struct {
		name, why string
		option    option
	}{
		{"no_target", "All members are required (4.1).", func(e obj) { delete(e, "target") }},
		{"no_prev", "Also prev_event, which may be null (4.1).", func(e obj) { delete(e, "prev_event") }},
		{"empty_type", "A type has 1 to 256 bytes.", set("event_type", "")},
		{"long_type", "A type has 1 to 256 bytes: 129 characters of two bytes are too many.", set("event_type", strings.Repeat("é", 129))},
		{"payload_array", "A payload is an object.", set("payload", list{})},
		{"supersedes_null", "supersedes is an array (4.1).", set("supersedes", nil)},
		{"supersedes_number", "supersedes holds strings (4.1).", set("supersedes", list{1})},
		{"prev_number", "prev_event is an id or null (4.1).", set("prev_event", 0)},
		{"offset", "Times are in UTC and say so with Z.", at("2026-04-01T00:00:00+00:00")},
		{"comma", "A fraction stands after a point.", at("2026-04-01T00:00:00,5Z")},
		{"ten_digits", "A fraction has at most nine digits (4.1).", at("2026-04-01T00:00:00.0123456789Z")},
		{"open_fraction", "A fraction has digits.", at("2026-04-01T00:00:00.Z")},
		{"hour_of_one_digit", "An hour has two digits (4.1).", at("2026-04-01T5:04:05Z")},
		{"no_april_31", "A time exists in the calendar.", at("2026-04-31T00:00:00Z")},
		{"arabic_digits", "Digits are ASCII.", at("202٦-04-01T00:00:00Z")},
		{"signer_missing", "The signer has its four members (4.1).", set("signer", obj{"signer_id": "ada@example.org", "signer_type": "individual", "key_id": "k"})},
		{"signer_empty", "Names have 1 to 256 bytes.", set("signer", with(ada.names(), "signer_id", ""))},
	} {
		b := newBundle()
		e := b.note(ada, "x", c.option)
		e.reason = "event_shape"
		s.ok("event_shape_"+c.name+"_kept", c.why+" The state lists the event as invalid, so the bundle is valid.", b, "event_shape")
	}
	b = newBundle()
	b.events = append(b.events, &event{obj: obj{"event_id": 17}, reason: "event_shape"}, &event{obj: obj{"event_id": "sha256:12"}, reason: "event_shape"}, &event{obj: obj{}, reason: "event_shape"})
	s.ok("event_shape_nothing_kept", "Objects that are hardly events are kept like others; the id they claim is listed when it is a string (6.6).", b, "event_shape")

	b = newBundle()
	e := b.note(ada, "x")
	e.obj["content_sha256"] = strings.Repeat("0", 64)
	e.reason = "signature"
	s.reject("event_wrong_reason", "The state must give the right reason (7.5): the first check that fails in the order of 9.4.", b, "event_digest", "state")

	b = newBundle()
	e = b.draft(ada, "remark", obj{"text": "x"})
	other := without(e.obj)
	other["signature"] = ada.signature(forEvent, e.obj["content_sha256"].(string), "2026-05-02T00:00:00Z")
	b.events = append(b.events, &event{obj: other}, e)
	b.applied = []*event{b.events[0], e}
	s.reject("event_two_signatures", "Two entries with one id: the one signed earlier counts in the state (5.1), but a bundle holds each event once (7.5).", b, "event_duplicate")
}

// payloads holds 4.2 and 4.5 to 4.12.
func (s *suite) payloads() {
	opening := func(change func(*bundle, obj), options ...option) func(*bundle) *event {
		return func(b *bundle) *event {
			p := b.opening(ada)
			change(b, p)
			return b.add(ada, "record_created", p, append([]option{target("record")}, options...)...)
		}
	}
	receipt := func(name string, value any) func(*bundle, obj) {
		return func(b *bundle, p obj) { p["receipt"] = with(p["receipt"].(obj), name, value) }
	}
	member := func(name string, value any) func(*bundle, obj) {
		return func(b *bundle, p obj) { p[name] = value }
	}
	// Kept only: a record_created that is taken for valid would be a reissue.
	for _, c := range []struct {
		name, why, reason string
		make              func(*bundle) *event
	}{
		{"target", "record_created has the target record (4.2).", "payload_shape", opening(func(*bundle, obj) {}, target("paper"))},
		{"other_record", "It repeats the record (4.2).", "payload_record", opening(func(b *bundle, p obj) { p["canonical_record"] = with(b.record, "more", 1) })},
		{"digest", "And its digest.", "payload_record", opening(member("canonical_sha256", strings.Repeat("0", 64)))},
		{"source", "And its source.", "payload_record", opening(member("source_version", 1))},
		{"missing", "All members are required.", "payload_shape", opening(func(b *bundle, p obj) { delete(p, "attestation_state") })},
		{"receipt_digest", "The receipt is for this record.", "receipt_digest", opening(receipt("canonical_sha256", strings.Repeat("0", 64)))},
		{"receipt_kind", "The receipt says what it is.", "payload_shape", opening(receipt("kind", "receipt"))},
		{"receipt_version", "The receipt has the version 0.3.", "payload_shape", opening(receipt("receipt_version", "0.4"))},
		{"receipt_label", "The receipt's signature is one of a record (3.1).", "payload_shape", opening(receipt("signed_message", forEvent))},
		{"two_faults", "The shape of all of a payload is asked before what it says (9.4).", "payload_shape", opening(func(b *bundle, p obj) {
			p["source_version"] = 1
			p["receipt"] = with(p["receipt"].(obj), "receipt_version", "0.4")
		})},
		{"receipt_key", "The receipt is signed with the key of the event's signer (3.7).", "signature_signer", opening(func(b *bundle, p obj) { p["receipt"] = b.opening(bob)["receipt"] })},
		{"receipt_signature", "The receipt's signature is checked.", "signature", opening(func(b *bundle, p obj) {
			p["receipt"] = with(p["receipt"].(obj), "signature_b64", ada.signature(forRecord, strings.Repeat("0", 64), "2026-03-03T00:00:00Z")["signature_b64"])
		})},
	} {
		b := newBundle()
		c.make(b).reason = c.reason
		s.ok("record_created_"+c.name+"_kept", c.why+" The state lists the event as invalid, so the bundle is valid.", b, c.reason)
	}

	b := newBundle()
	opening(receipt("comment", "hello"))(b)
	s.ok("record_created_reissue", "Another valid record_created, later: the first in order stands, the other is listed as a reissue (6.4). Its receipt may have further members, which the event's digest covers.", b)

	// The payloads with a schema of their own.
	hash := strings.Repeat("a", 64)
	replication := obj{"schema": "replication_record/1", "claim": obj{"id": "c"}, "outcome": "mixed", "plan_sha256": hash, "results_sha256": hash}
	author := obj{"schema": "author_attestation/1", "name": "Ada Lovelace", "identity": obj{"scheme": "orcid", "value": "0000-0002-1825-0097"}}
	storage := obj{"schema": "storage_attestation/1", "archive": "internet_archive", "stored_at": "2026-06-01T12:00:00Z",
		"url": "https://web.archive.org/web/20260601120000/https://arxiv.org/abs/2603.01234v2"}
	citation := obj{"schema": "citation_signature/1", "relation": "extends", "citing": obj{"kind": "arxiv", "id": "2605.00001"}}
	correction := obj{"schema": "correction/1", "kind": "erratum", "text": "Table 2 is wrong."}
	mirror := obj{"schema": "mirror_hint/1", "name": "Example", "mirror_type": "https",
		"bundle_url": "https://mirror.example/" + suffixOf(newRecord()) + "/bundle.json"}
	b = newBundle()
	for _, p := range []obj{replication, author, storage, citation, correction, mirror} {
		b.add(ada, strings.TrimSuffix(p["schema"].(string), "/1"), p)
	}
	b.applied = inOrder(b.events)
	s.ok("payload_all_types", "One event of every type with a payload of its own; each fills its list of the state (6.2).", b)

	good := func(name, why, kind string, payload obj) {
		b := newBundle()
		b.add(ada, kind, payload)
		s.ok("payload_"+name, why, b)
	}
	good("citation_full", "All members that may be absent are there, and one that nobody knows.", "citation_signature",
		with(with(with(citation, "claim", "C1"), "statement", "as in section 3"), "more", true))
	good("citation_pith", "A citing record has a Pith Number.", "citation_signature", with(citation, "citing", obj{"kind": "pith", "id": "pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM", "title": "SmoothOut"}))
	good("author_email", "An address of mail.", "author_attestation", with(author, "identity", obj{"scheme": "email", "value": "ada@example.org"}))
	good("author_orcid_x", "The check digit of an ORCID iD can be X (4.7).", "author_attestation", with(author, "identity", obj{"scheme": "orcid", "value": "0000-0002-1694-233X"}))
	good("author_position", "The place in the byline counts from 1.", "author_attestation", with(author, "position", 1))
	good("storage_elsewhere", "Another archive may write its addresses as it likes.", "storage_attestation", with(with(storage, "archive", "zenodo"), "url", "https://zenodo.org/records/1"))
	good("correction_about", "A correction may name the event it means, anybody's, present or not.", "correction", with(correction, "about", "sha256:"+hash))

	for _, c := range []struct {
		name, why, kind string
		payload         obj
	}{
		{"no_schema", "A payload without schema is valid, and nothing is read from it (4.5).", "correction", obj{"kind": 7}},
		{"later_schema", "So is one of a later schema.", "replication_record", with(replication, "schema", "replication_record/2")},
		{"foreign_schema", "The schema of another type is not known for this one.", "mirror_hint", correction},
		{"schema_number", "A schema is a string.", "citation_signature", obj{"schema": 1}},
	} {
		b := newBundle()
		b.add(ada, c.kind, c.payload)
		s.ok("payload_"+c.name, c.why, b, "payload_schema")
	}

	for _, c := range []struct {
		name, why, reason, kind string
		payload                 obj
	}{
		{"replication_outcome", "The outcome is one of four words (4.6).", "payload_shape", "replication_record", with(replication, "outcome", "success")},
		{"replication_hex", "Digests are in lower case.", "payload_shape", "replication_record", with(replication, "plan_sha256", strings.Repeat("A", 64))},
		{"replication_claim", "The claim is an object.", "payload_shape", "replication_record", with(replication, "claim", "c")},
		{"author_orcid_digit", "The check digit of an ORCID iD is checked (4.7).", "payload_shape", "author_attestation", with(author, "identity", obj{"scheme": "orcid", "value": "0000-0002-1825-0098"})},
		{"author_orcid_address", "An ORCID iD stands without address.", "payload_shape", "author_attestation", with(author, "identity", obj{"scheme": "orcid", "value": "https://orcid.org/0000-0002-1825-0097"})},
		{"author_scheme", "There are four kinds of identity.", "payload_shape", "author_attestation", with(author, "identity", obj{"scheme": "facebook", "value": "ada"})},
		{"author_email", "An address of mail has one @ with something on both sides.", "payload_shape", "author_attestation", with(author, "identity", obj{"scheme": "email", "value": "@example.org"})},
		{"author_email_control", "An address of mail has no control characters.", "payload_shape", "author_attestation", with(author, "identity", obj{"scheme": "email", "value": "a\u0001@b"})},
		{"author_position_zero", "The byline counts from 1.", "payload_shape", "author_attestation", with(author, "position", 0)},
		{"author_position_large", "The byline ends at a million.", "payload_shape", "author_attestation", with(author, "position", 1000001)},
		{"author_statement_empty", "A text has at least one byte, or is absent.", "payload_shape", "author_attestation", with(author, "statement", "")},
		{"storage_http", "An address begins with https://.", "payload_shape", "storage_attestation", with(with(storage, "archive", "zenodo"), "url", "http://zenodo.org/records/1")},
		{"storage_time", "The digits of a Wayback address are stored_at (4.9).", "payload_shape", "storage_attestation", with(storage, "stored_at", "2026-06-01T12:00:01Z")},
		{"storage_host", "Only the Wayback Machine has them.", "payload_shape", "storage_attestation", with(storage, "url", "https://web.archive.org.example/web/20260601120000/x")},
		{"storage_space", "An address has no white space.", "payload_shape", "storage_attestation", with(with(storage, "archive", "zenodo"), "url", "https://zenodo.org/a b")},
		{"storage_bare", "An address goes on after https://.", "payload_shape", "storage_attestation", with(with(storage, "archive", "zenodo"), "url", "https://")},
		{"storage_long", "An address has at most 2,048 bytes.", "payload_shape", "storage_attestation", with(with(storage, "archive", "zenodo"), "url", "https://zenodo.org/"+strings.Repeat("a", 2030))},
		{"citation_relation", "There are eight relations (4.10).", "payload_shape", "citation_signature", with(citation, "relation", "mentions")},
		{"citation_number", "A Pith Number has 26 characters.", "payload_shape", "citation_signature", with(citation, "citing", obj{"kind": "pith", "id": "pith:CWPYLZDW"})},
		{"citation_url", "An url is an address.", "payload_shape", "citation_signature", with(citation, "citing", obj{"kind": "url", "id": "example.org"})},
		{"citation_of_itself", "A record does not cite itself (4.10).", "payload_record", "citation_signature", with(citation, "citing", obj{"kind": "pith", "id": numberOf(newRecord())})},
		{"correction_kind", "There are five kinds (4.11).", "payload_shape", "correction", with(correction, "kind", "typo")},
		{"correction_long", "A text has at most 16,384 bytes.", "payload_shape", "correction", with(correction, "text", strings.Repeat("x", 16385))},
		{"correction_about", "An event id has its prefix.", "payload_shape", "correction", with(correction, "about", hash)},
		{"mirror_type", "mirror_type is a word (4.12).", "payload_shape", "mirror_hint", with(mirror, "mirror_type", "")},
		{"mirror_other_record", "The address holds the number of the record (4.12).", "payload_record", "mirror_hint", with(mirror, "bundle_url", "https://mirror.example/bundle.json")},
	} {
		s.undeclared("payload_"+c.name, c.why, c.reason, func(b *bundle) *event { return b.add(ada, c.kind, c.payload) })
	}
}

// inOrder sorts events that are not linked: those at one time by their ids.
func inOrder(events []*event) []*event {
	out := append([]*event{}, events...)
	for i := range out {
		for j := i + 1; j < len(out); j++ {
			if out[i].obj["created_at"] == out[j].obj["created_at"] && out[j].id() < out[i].id() {
				out[i], out[j] = out[j], out[i]
			}
		}
	}
	return out
}

// graph holds 4.3.
func (s *suite) graph() {
	const empty = "258153158e38e3291e3d48162225fcdb2d5a3ed65a07baac614ab91432fd4f57"
	snapshot := func(record obj) obj {
		meta := record["metadata"].(obj)
		return obj{"verdict_id": nil, "graph_snapshot": obj{
			"paper": obj{"title": title, "license": meta["license"], "headline": "", "cross_cats": meta["cross_cats_sorted"],
				"primary_cat": meta["primary_cat"], "authors_text": "Ada Lovelace, Bob Builder", "submitted_at": meta["submitted_at"],
				"abstract_excerpt": abstract},
			"claims":       obj{"count": 0, "items": list{}, "snapshot_sha256": empty},
			"references":   obj{"count": 0, "sample": list{}, "resolved_work": 0, "internal_anchors": 0, "snapshot_sha256": empty},
			"formal_canon": obj{"evidence_count": 0, "snapshot_sha256": empty}, "author_claims": obj{"count": 0, "strong_count": 0, "snapshot_sha256": empty},
			"source": record["source"], "verdict": obj{}, "builder_version": "test"}}
	}
	// change edits the graph, or its paper, of a fresh snapshot.
	graph := func(p obj, change func(obj)) obj {
		g := without(p["graph_snapshot"].(obj))
		change(g)
		return with(p, "graph_snapshot", g)
	}
	paper := func(p obj, name string, value any) obj {
		return graph(p, func(g obj) { g["paper"] = with(g["paper"].(obj), name, value) })
	}
	good := func(name, why string, change func(obj) obj, notes ...string) {
		b := newBundle()
		b.add(registry, "graph_snapshot", change(snapshot(b.record)), target("graph"), after(b.events[0]))
		s.ok("graph_"+name, why, b, notes...)
	}
	good("plain", "A snapshot that repeats the record.", func(p obj) obj { return p })
	good("title_case", "The title's digest is taken in lower case (2.1).", func(p obj) obj { return paper(p, "title", strings.ToUpper(title)) })
	good("abstract_lines", "Newlines of the abstract count as spaces (2.1).", func(p obj) obj {
		return paper(p, "abstract_excerpt", strings.ReplaceAll(abstract, " ", "\n")+"\n")
	})
	good("abstract_600", "600 characters are cut off, so there is nothing to compare (4.3).", func(p obj) obj { return paper(p, "abstract_excerpt", strings.Repeat("é", 600)) })
	good("abstract_other", "A shorter excerpt is the whole abstract; another one is noted (4.3).", func(p obj) obj { return paper(p, "abstract_excerpt", "Something else.") }, "graph_abstract")
	good("abstract_601", "No excerpt has more than 600 characters (4.3).", func(p obj) obj { return paper(p, "abstract_excerpt", strings.Repeat("é", 601)) }, "graph_abstract")
	good("paper_licence", "Where the paper's metadata differ from the record, the record decides.", func(p obj) obj { return paper(p, "license", "") }, "graph_paper")
	good("claims", "The digest of a list is assumed to be that of {\"payload\": items} (4.3).", func(p obj) obj {
		items := list{obj{"claim_id": "C1"}}
		return graph(p, func(g obj) {
			g["claims"] = obj{"count": 1, "items": items, "snapshot_sha256": sha(canon(obj{"payload": items}))}
		})
	})
	good("claims_other_digest", "That rule is seen for the empty list alone, so another digest is noted (4.3).", func(p obj) obj {
		return graph(p, func(g obj) {
			g["claims"] = obj{"count": 1, "items": list{obj{"claim_id": "C1"}}, "snapshot_sha256": empty}
		})
	}, "graph_snapshot_sha256")

	for _, c := range []struct{ name, why, title, lower string }{
		{"dotted_i", "İ becomes i and U+0307 (2.5).", "İstanbul", "i̇stanbul"},
		{"final_sigma", "Σ becomes ς at the end of a word (2.5).", "ΟΔΟΣ ΣΑΣ", "οδος σας"},
		{"sharp_s", "ẞ becomes ß; nothing becomes longer or shorter but İ.", "STRAẞE", "straße"},
		{"tex", "TeX is text: nothing is stripped.", `Schr\"odinger's $\Theta=\Pi$`, `schr\"odinger's $\theta=\pi$`},
	} {
		record := newRecord()
		record["metadata"] = with(record["metadata"].(obj), "title_canon_sha256", sha([]byte(c.lower)))
		b := bundleOf(record)
		b.add(registry, "graph_snapshot", paper(snapshot(record), "title", c.title), target("graph"), after(b.events[0]))
		expect := b.want()
		expect["title"] = c.title
		s.verify("graph_title_"+c.name, c.why, b.json(), b.trust, expect)
	}
	b := newBundle()
	b.add(registry, "graph_snapshot", paper(snapshot(b.record), "title", "Über Leser"), target("graph"))
	s.ok("graph_title_unicode", "A title with other characters than ASCII whose digest differs is noted, not rejected (2.5).", b, "graph_title_unicode")

	for _, c := range []struct {
		name, why, reason string
		change            func(obj) obj
	}{
		{"title", "The title has the record's digest (4.3).", "graph_title", func(p obj) obj { return paper(p, "title", "On Writers that Agree") }},
		{"title_long", "A title has at most 16 KiB (10).", "graph_title", func(p obj) obj { return paper(p, "title", strings.Repeat("é", 8193)) }},
		{"source", "The source is that of the record (4.3).", "payload_record", func(p obj) obj { return graph(p, func(g obj) { g["source"] = obj{"kind": "arxiv"} }) }},
		{"empty_claims", "The digest of an empty list is known (4.3).", "graph_empty_snapshot", func(p obj) obj {
			return graph(p, func(g obj) {
				g["claims"] = obj{"count": 0, "items": list{}, "snapshot_sha256": strings.Repeat("0", 64)}
			})
		}},
		{"empty_formal", "For formal_canon it is evidence_count that counts.", "graph_empty_snapshot", func(p obj) obj {
			return graph(p, func(g obj) {
				g["formal_canon"] = obj{"evidence_count": 0, "snapshot_sha256": strings.Repeat("0", 64)}
			})
		}},
		{"no_paper", "All members are required.", "payload_shape", func(p obj) obj { return graph(p, func(g obj) { delete(g, "paper") }) }},
		{"title_null", "A title is a string.", "payload_shape", func(p obj) obj { return paper(p, "title", nil) }},
		{"no_verdict_id", "verdict_id is there, and may be null.", "payload_shape", func(p obj) obj { return without(p, "verdict_id") }},
	} {
		s.undeclared("graph_"+c.name, c.why, c.reason, func(b *bundle) *event {
			return b.add(registry, "graph_snapshot", c.change(snapshot(b.record)), target("graph"))
		})
	}
	s.undeclared("graph_target", "graph_snapshot has the target graph (4.3).", "payload_shape", func(b *bundle) *event {
		return b.add(registry, "graph_snapshot", snapshot(b.record), target("record"))
	})
}

// links holds 5.3 to 5.5.
func (s *suite) links() {
	b := newBundle()
	old := b.note(ada, "old")
	old.superseded = true
	b.note(ada, "new", replacing(old), at("2026-04-02T00:00:00Z"))
	s.ok("supersedes_own", "A signer replaces an event: it stays applied (5.3).", b)

	b = newBundle()
	old = b.add(ada, "correction", obj{"schema": "correction/1", "kind": "erratum", "text": "old"})
	old.superseded = true
	b.add(ada, "correction", obj{"schema": "correction/1", "kind": "erratum", "text": "new"}, replacing(old), at("2026-03-20T00:00:00Z"))
	s.ok("supersedes_earlier_date", "The replaced event leaves its list. It comes first, although it is dated later (5.2).", b)

	b = newBundle()
	first := b.note(ada, "1")
	second := b.note(ada, "2", replacing(first))
	b.note(ada, "3", replacing(second))
	first.superseded, second.superseded = true, true
	s.ok("supersedes_chain", "What was replaced stays replaced when the replacement is replaced in turn (5.3).", b)

	b = newBundle()
	first, second = b.note(ada, "1", at("2026-03-20T00:00:00Z")), b.note(ada, "2", at("2026-03-21T00:00:00Z"))
	first.superseded, second.superseded = true, true
	b.note(ada, "both", replacing(second, first, second))
	s.ok("supersedes_two", "An event may replace several, and name one twice.", b)

	b = newBundle()
	old = b.note(ada, "old", at("2026-03-20T00:00:00Z"))
	old.superseded = true
	x, y := b.note(ada, "x", replacing(old), at("2026-03-21T00:00:00Z")), b.note(ada, "y", replacing(old), at("2026-03-22T00:00:00Z"))
	b.applied = []*event{b.events[0], old, x, y}
	s.ok("supersedes_twice", "Two events may replace the same one; both stand.", b)

	s.invalid("supersedes_foreign", "Only the signer replaces an event (5.3).", "supersedes_signer", func(b *bundle) *event {
		mine := b.note(ada, "mine", at("2026-03-20T00:00:00Z"))
		return b.note(bob, "not yours", replacing(mine))
	})
	s.invalid("supersedes_unknown", "What is replaced must be here (5.3).", "supersedes_target", func(b *bundle) *event {
		return b.note(ada, "x", set("supersedes", list{"sha256:" + strings.Repeat("0", 64)}))
	})
	s.invalid("supersedes_no_id", "A string that is no id names nothing.", "supersedes_target", func(b *bundle) *event {
		return b.note(ada, "x", set("supersedes", list{"everything"}))
	})
	b = newBundle()
	bad := b.note(ada, "bad", set("schema_version", "9"))
	bad.reason = "event_version"
	b.note(ada, "x", replacing(bad)).reason = "supersedes_target"
	s.ok("supersedes_invalid_kept", "An invalid event cannot be replaced (5.3).", b, "event_version", "supersedes_target")

	b = newBundle()
	mine := b.note(ada, "mine", at("2026-03-20T00:00:00Z"))
	theft := b.note(bob, "not yours", replacing(mine))
	theft.reason = "supersedes_signer"
	b.note(bob, "instead", replacing(theft)).reason = "supersedes_target"
	s.ok("supersedes_fate_follows_kept", "An event that is invalid by its links is invalid for those that name it.", b, "supersedes_signer", "supersedes_target")

	b = newBundle()
	opening := b.events[0]
	opening.superseded = true
	b.note(registry, "withdrawn", replacing(opening))
	s.reject("supersedes_opening", "When the only record_created is replaced, nothing opens the record (7.5).", b, "record_created")

	b = newBundle()
	first = b.note(ada, "1")
	second = b.note(ada, "2", after(first))
	b.note(ada, "3", after(second))
	s.ok("prev_chain", "A chain of one signer.", b)

	b = newBundle()
	first = b.note(ada, "1", at("2026-04-03T00:00:00Z"))
	second = b.note(ada, "2", after(first), at("2026-04-02T00:00:00Z"))
	third := b.note(bob, "3", at("2026-04-01T00:00:00Z"))
	b.applied = []*event{b.events[0], third, first, second}
	s.ok("prev_outweighs_date", "A predecessor comes first, whatever the dates say (5.2).", b)

	b = newBundle()
	b.note(ada, "x", set("prev_event", "sha256:"+strings.Repeat("0", 64)))
	s.ok("prev_missing", "A gap in a chain is noted (5.4): the signer has said more than is here.", b, "prev_event_missing")

	b = newBundle()
	bad = b.note(ada, "bad", set("schema_version", "9"))
	bad.reason = "event_version"
	b.note(ada, "x", after(bad))
	s.ok("prev_invalid_kept", "A predecessor that is invalid leaves a gap (5.4).", b, "event_version", "prev_event_missing")

	b = newBundle()
	theft = b.note(bob, "not yours", set("supersedes", list{b.events[0].id()}))
	theft.reason = "supersedes_signer"
	b.note(bob, "x", after(theft))
	s.ok("prev_invalid_by_link_kept", "Also when it is invalid by its links.", b, "supersedes_signer", "prev_event_missing")

	s.invalid("prev_foreign", "prev_event is the signer's own (5.4).", "prev_event_signer", func(b *bundle) *event {
		return b.note(ada, "x", after(b.events[0]))
	})

	b = newBundle()
	first = b.note(ada, "1")
	x = b.note(ada, "x", after(first), at("2026-04-02T00:00:00Z"))
	y = b.note(ada, "y", after(first), at("2026-04-03T00:00:00Z"))
	b.equivocate("prev_event", first.id(), x, y)
	s.ok("equivocation_chain", "Two events after the same one: both stay, the state lists them (5.5).", b)

	b = newBundle()
	first = b.note(ada, "1")
	x = b.note(ada, "x", after(first), at("2026-04-02T00:00:00Z"))
	y = b.note(ada, "y", after(first), at("2026-04-03T00:00:00Z"))
	z := b.note(ada, "z", after(first), at("2026-04-04T00:00:00Z"))
	b.equivocate("prev_event", first.id(), x, y, z)
	s.ok("equivocation_three", "Three events after the same one are one equivocation.", b)

	b = newBundle()
	b.note(ada, "x", at("2026-04-02T00:00:00Z"))
	b.note(ada, "y", at("2026-04-03T00:00:00Z"))
	s.ok("equivocation_not_null", "Two beginnings are none: null does not count (5.5).", b)

	b = newBundle()
	missing := "sha256:" + strings.Repeat("0", 64)
	x = b.note(ada, "x", set("prev_event", missing), at("2026-04-02T00:00:00Z"))
	y = b.note(ada, "y", set("prev_event", missing), at("2026-04-03T00:00:00Z"))
	b.equivocate("prev_event", missing, x, y)
	s.ok("equivocation_after_missing", "The event that both follow need not be here.", b, "prev_event_missing")

	b = newBundle()
	b.note(ada, "x", set("prev_event", missing), at("2026-04-02T00:00:00Z"))
	b.note(bob, "y", set("prev_event", missing), at("2026-04-03T00:00:00Z"))
	s.ok("equivocation_not_of_two", "Two signers do not contradict themselves.", b, "prev_event_missing")

	b = newBundle()
	first = b.note(ada, "1")
	b.note(ada, "x", after(first), at("2026-04-02T00:00:00Z"))
	b.note(ada, "y", after(first), at("2026-04-03T00:00:00Z"), set("schema_version", "9")).reason = "event_version"
	s.ok("equivocation_not_of_invalid_kept", "Invalid events say nothing (5.6).", b, "event_version")

	b = newBundle()
	first = b.note(ada, "1")
	x = b.note(ada, "x", after(first), at("2026-04-02T00:00:00Z"))
	x.superseded = true
	y = b.note(ada, "y", after(first), replacing(x), at("2026-04-03T00:00:00Z"))
	b.equivocate("prev_event", first.id(), x, y)
	s.ok("equivocation_superseded", "Replacing an event does not undo that both were said.", b)

	b = newBundle()
	first = b.note(ada, "1")
	b.note(ada, "x", after(first), at("2026-04-02T00:00:00Z"))
	b.note(ada, "y", after(first), at("2026-04-03T00:00:00Z"))
	s.reject("equivocation_hidden", "A state that keeps silent about it is not what the events give.", b, "state")

	for _, c := range []struct {
		name, why string
		change    func(obj)
		twice     bool
	}{
		{"reissue", "Two openings that differ in the receipt alone are a reissue (5.5).", func(p obj) { p["receipt"] = with(p["receipt"].(obj), "builder_version", "test-2") }, false},
		{"openings", "Two openings that differ in more contradict each other (5.5).", func(p obj) { p["attestation_state"] = "attested" }, true},
	} {
		b := newBundle()
		p := b.opening(registry)
		c.change(p)
		e := b.add(registry, "record_created", p, target("record"))
		if c.twice {
			b.equivocate("record_created", nil, b.events[0], e)
		}
		s.ok("equivocation_"+c.name, c.why, b)
	}
}

// order holds 5.2.
func (s *suite) order() {
	type spec struct {
		name, created string
	}
	permuted := func(name, why string, make func(*bundle) []*event) {
		// The same events in three orders of arrival give one state.
		for i, arrange := range []func([]*event) []*event{
			func(e []*event) []*event { return e },
			func(e []*event) []*event {
				var out []*event
				for j := range e {
					out = append(out, e[len(e)-1-j])
				}
				return out
			},
			func(e []*event) []*event { return append(append([]*event{}, e[len(e)/2:]...), e[:len(e)/2]...) },
		} {
			b := newBundle()
			b.applied = make(b)
			b.events = arrange(b.events)
			s.ok("order_"+name+"_"+string(rune('a'+i)), why, b)
		}
	}
	permuted("dates", "By created_at, to the nanosecond: a fraction is later than none, .1 is .10 (5.2).", func(b *bundle) []*event {
		times := []spec{{"4", "2026-04-01T00:00:00.11Z"}, {"1", "2026-04-01T00:00:00Z"}, {"3", "2026-04-01T00:00:00.1Z"}, {"5", "2026-04-01T00:00:01Z"}, {"2", "2026-04-01T00:00:00.000000001Z"}}
		made := map[string]*event{}
		for _, t := range times {
			made[t.name] = b.note(ada, t.name, at(t.created))
		}
		return []*event{b.events[0], made["1"], made["2"], made["3"], made["4"], made["5"]}
	})
	permuted("opening_first", "record_created comes first, although it is dated last (5.2).", func(b *bundle) []*event {
		e := b.note(ada, "before", at("2020-01-01T00:00:00Z"))
		return []*event{b.events[0], e}
	})
	permuted("ids", "At one time the smallest id comes first (5.2).", func(b *bundle) []*event {
		for _, text := range []string{"a", "b", "c", "d"} {
			b.note(ada, text)
		}
		return append([]*event{b.events[0]}, inOrder(b.events[1:])...)
	})
	permuted("links", "An event waits for all it names; others pass it (5.2).", func(b *bundle) []*event {
		late := b.note(ada, "late", at("2026-04-09T00:00:00Z"))
		early := b.note(ada, "early", after(late), at("2026-04-01T00:00:00Z"))
		other := b.note(bob, "other", at("2026-04-05T00:00:00Z"))
		last := b.note(bob, "last", at("2026-04-09T00:00:01Z"))
		return []*event{b.events[0], other, late, early, last}
	})
	permuted("opening_behind", "A record_created that follows another event waits like others (5.2).", func(b *bundle) []*event {
		e := b.note(registry, "before", at("2026-04-01T00:00:00Z"))
		x := b.note(ada, "x", at("2026-04-02T00:00:00Z"))
		again := b.add(registry, "record_created", with(b.opening(registry), "receipt", with(b.opening(registry)["receipt"].(obj), "builder_version", "2")),
			after(e), at("2026-04-03T00:00:00Z"))
		return []*event{b.events[0], e, again, x}
	})
	b := newBundle()
	x := b.note(ada, "x", at("2026-04-02T00:00:00Z"))
	y := b.note(ada, "y", at("2026-04-01T00:00:00Z"))
	b.applied = []*event{b.events[0], x, y}
	s.reject("order_of_arrival", "A state in the order of arrival is not the state.", b, "state")
}
