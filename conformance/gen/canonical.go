package main

import (
	"encoding/base64"
	"strings"
)

// canonicalForm holds section 1.
func (s *suite) canonicalForm() {
	good := func(name, why, in, out string) {
		s.add(testCase{name: "canonical_" + name, why: why, op: "canonical",
			inputs: []input{{name: "input", files: []file{{"input.json", []byte(in)}}}},
			expect: obj{"ok": true, "canonical": base64.StdEncoding.EncodeToString([]byte(out))}})
	}
	bad := func(name, why, in, reason string) {
		s.add(testCase{name: "canonical_" + name + "_fail", why: why, op: "canonical",
			inputs: []input{{name: "input", files: []file{{"input.json", []byte(in)}}}},
			expect: obj{"ok": false, "reason": reason}})
	}

	good("space", "The four kinds of white space that RFC 8259 allows go.", " {\t\"a\"\r\n: [ 1 , 2 ] } \n", `{"a":[1,2]}`)
	good("sorted", "Members are sorted by name (1.2), inside each other as well.", `{"b":{"z":1,"y":2},"a":0}`, `{"a":0,"b":{"y":2,"z":1}}`)
	good("sorted_case", "Code points decide, not an alphabet: B, _ and a.", `{"a":1,"B":2,"_":3}`, `{"B":2,"_":3,"a":1}`)
	good("sorted_prefix", "A name sorts before the names that begin with it; the empty name is first.", `{"ab":1,"a":2,"":3}`, `{"":3,"a":2,"ab":1}`)
	good("sorted_astral", "U+1F600 sorts after U+FFEE by code points; by UTF-16 units it would come first (1.2).", `{"😀":1,"`+"\uffee"+`":2}`, `{"`+"\uffee"+`":2,"😀":1}`)
	good("sorted_unescaped", "Names are compared without their escapes: a quote (U+0022) is less than # (U+0023), the escape's backslash is not.", `{"#":1,"\"":2}`, `{"\"":2,"#":1}`)
	good("sorted_digits", "Names are text: 10 is less than 9.", `{"9":1,"10":2}`, `{"10":2,"9":1}`)
	good("order_of_arrays", "Arrays keep their order.", `[3,1,2]`, `[3,1,2]`)
	good("scalar", "A document may be a single value.", ` "x" `, `"x"`)
	good("empty_containers", "Empty containers have nothing inside.", `[ { } , [ ] ]`, `[{},[]]`)
	good("words", "The three words.", `[true,false,null]`, `[true,false,null]`)

	good("escapes_short", "Seven characters have a short escape (1.3).", `"\u0022\u005c\u0008\u0009\u000a\u000c\u000d"`, `"\"\\\b\t\n\f\r"`)
	good("escapes_control", "Other characters below U+0020 are written in lower case hex (1.3).", `"\u0000\u001F\u000b"`, `"\u0000\u001f\u000b"`)
	good("escapes_undone", "Everything else stands for itself: the slash, the letter A, é.", `"\/\u0041\u00E9"`, `"/Aé"`)
	good("escapes_html", "<, > and & are not escaped, although some writers do.", `"\u003c\u003e\u0026"`, `"<>&"`)
	good("escapes_lines", "U+2028 and U+2029 are not escaped, although some writers do.", `"\u2028\u2029"`, "\"\u2028\u2029\"")
	good("escapes_delete", "U+007F and the C1 controls are not escaped.", `"\u007f\u0085"`, "\"\u007f\u0085\"")
	good("escapes_pair", "Two escapes of a surrogate pair are one character, written as itself.", `"\ud83d\uDE00"`, `"😀"`)
	good("escapes_in_names", "Names are unescaped and escaped like values.", `{"\u0061\/":1}`, `{"a/":1}`)
	good("unicode_composed", "é as one character and as e with an accent are two strings: there is no normalisation (1.3).", "[\"\u00e9\",\"e\u0301\"]", "[\"\u00e9\",\"e\u0301\"]")
	good("unicode_names_differ", "Two names that only normalisation would unite are two members.", "{\"\u00e9\":1,\"e\u0301\":2}", "{\"e\u0301\":2,\"\u00e9\":1}")
	good("unicode_noncharacter", "Noncharacters and U+FFFD are characters like others.", `"\uffff\ufffd\ufdd0"`, "\"\uffff\ufffd\ufdd0\"")
	good("unicode_last", "U+10FFFF is the last code point.", `"\udbff\udfff"`, "\"\U0010ffff\"")
	good("unicode_bom_inside", "U+FEFF inside a string is a character.", `"\ufeff"`, "\"\ufeff\"")

	for _, n := range []struct{ name, why, in, out string }{
		{"zero", "Zero is written as it stands.", "0", "0"},
		{"minus_zero", "An integer has one zero (1.4).", "-0", "0"},
		{"big", "An integer keeps its digits beyond 2^53 and 2^64 (1.4).", "-123456789012345678901234567890", "-123456789012345678901234567890"},
		{"longest", "4,300 digits are within the limit (10), and the sign is not counted.", "-" + strings.Repeat("9", 4300), "-" + strings.Repeat("9", 4300)},
		{"float_integral", "With a fraction it is a binary64, which is written with a point (1.4).", "1.0", "1.0"},
		{"float_minus_zero", "-0.0 stays.", "-0.0", "-0.0"},
		{"float_exponent", "With an exponent it is a binary64 as well.", "1E2", "100.0"},
		{"float_exponent_zero", "0e0 is a binary64.", "0e0", "0.0"},
		{"float_shortest", "The fewest digits that read back.", "0.1000000000000000055511151231257827", "0.1"},
		{"float_seventeen", "Sometimes that takes 17 digits.", "0.30000000000000004", "0.30000000000000004"},
		{"float_below_1e16", "Below 1e16 there is no exponent.", "1e15", "1000000000000000.0"},
		{"float_from_1e16", "From 1e16 on there is one, with two digits.", "10000000000000000.0", "1e+16"},
		{"float_to_1e-4", "1e-4 has no exponent.", "1e-4", "0.0001"},
		{"float_below_1e-4", "Below 1e-4 there is one, with two digits.", "0.00001", "1e-05"},
		{"float_three_digits", "Exponents of three digits.", "1.5E300", "1.5e+300"},
		{"float_1e23", "1e23 lies between two binary64; the nearer one reads back from 1e+23.", "1e23", "1e+23"},
		{"float_2_53", "2^53+1 as a binary64 is even.", "9007199254740993.0", "9007199254740992.0"},
		{"float_largest", "The largest binary64, from more digits than it has.", "1.79769313486231580e308", "1.7976931348623157e+308"},
		{"float_subnormal", "The smallest binary64.", "4.9e-324", "5e-324"},
		{"float_underflow", "What underflows becomes zero (1.4).", "1e-400", "0.0"},
		{"float_minus_underflow", "And keeps its sign.", "-1e-400", "-0.0"},
		{"float_halfway", "Half of the smallest binary64 rounds to even, which is zero.", "2.4703282292062327e-324", "0.0"},
		{"float_exponent_huge", "A zero stays zero however large its exponent.", "0e999999999", "0.0"},
	} {
		good("number_"+n.name, n.why, "["+n.in+"]", "["+n.out+"]")
	}

	bad("duplicate_name", "Two readers could keep different ones (1.5).", `{"a":1,"a":1}`, "json_duplicate_name")
	bad("duplicate_escaped", "Names are compared after unescaping (1.5).", `{"a":1,"\u0061":2}`, "json_duplicate_name")
	bad("duplicate_inside", "Also in inner objects.", `[{"x":{"":1,"":2}}]`, "json_duplicate_name")
	bad("surrogate_high", "Half of a pair (1.5).", `"\ud800"`, "json_lone_surrogate")
	bad("surrogate_low", "The other half.", `"x\udc00"`, "json_lone_surrogate")
	bad("surrogate_swapped", "The halves in the wrong order.", `"\ude00\ud83d"`, "json_lone_surrogate")
	bad("surrogate_then_letter", "Half of a pair before an escape that is none.", `"\ud83d\u0041"`, "json_lone_surrogate")
	bad("surrogate_name", "Also in names.", `{"\udfff":1}`, "json_lone_surrogate")
	bad("nan", "Python writes NaN; JSON has none (1.5).", `[NaN]`, "json_not_finite")
	bad("infinity", "Nor Infinity.", `[Infinity]`, "json_not_finite")
	bad("minus_infinity", "Nor its negative.", `[-Infinity]`, "json_not_finite")
	bad("overflow", "Numbers that overflow binary64 would become Infinity.", `[1e309]`, "json_not_finite")
	bad("overflow_negative", "On both sides.", `[-1.8e308]`, "json_not_finite")
	bad("overflow_exponent", "An exponent of nine digits takes no more time.", `[1e999999999]`, "json_not_finite")
	bad("byte_order_mark", "A byte-order mark is not white space.", "\xef\xbb\xbf{}", "json_byte_order_mark")
	bad("trailing_value", "Nothing follows the value.", `{} {}`, "json_trailing_data")
	bad("trailing_comma", "Not even a comma.", `1,`, "json_trailing_data")
	bad("utf8_stray", "A continuation byte without a beginning.", "\"\x80\"", "json_invalid_utf8")
	bad("utf8_overlong", "A slash in two bytes.", "\"\xc0\xaf\"", "json_invalid_utf8")
	bad("utf8_surrogate", "A surrogate in UTF-8.", "\"\xed\xa0\x80\"", "json_invalid_utf8")
	bad("utf8_cut", "A character that is cut short.", "\"\xe2\x82\"", "json_invalid_utf8")
	bad("utf8_beyond", "A code point after U+10FFFF.", "\"\xf4\x90\x80\x80\"", "json_invalid_utf8")
	bad("utf16", "UTF-16 is not UTF-8.", "\xff\xfe{\x00}\x00", "json_invalid_utf8")
	bad("cut_object", "The end is missing.", `{"a":1`, "json_truncated")
	bad("cut_string", "The end of a string is missing.", `["abc`, "json_truncated")
	bad("empty", "There is no value.", ``, "json_truncated")
	bad("only_space", "There is no value.", " \n", "json_truncated")
	bad("depth", "65 arrays inside each other (10).", strings.Repeat("[", 65)+strings.Repeat("]", 65), "json_depth")
	good("depth_limit", "64 arrays inside each other are within the limit (10).", strings.Repeat("[", 64)+strings.Repeat("]", 64), strings.Repeat("[", 64)+strings.Repeat("]", 64))
	good("depth_scalar", "A scalar inside 64 arrays is no deeper than they are.", strings.Repeat("[", 64)+"1"+strings.Repeat("]", 64), strings.Repeat("[", 64)+"1"+strings.Repeat("]", 64))
	bad("number_length", "4,301 digits are beyond the limit (10).", strings.Repeat("9", 4301), "json_number_length")
	bad("number_length_float", "The limit holds for every number.", "0."+strings.Repeat("1", 4299), "json_number_length")
	large := func(name, why, reason string, parts ...list) {
		c := testCase{name: "canonical_" + name, why: why, op: "canonical", inputs: []input{{name: "input"}}, expect: obj{"ok": true}}
		for _, p := range parts {
			c.inputs[0].repeat = append(c.inputs[0].repeat, p)
		}
		if reason != "" {
			c.name, c.expect = c.name+"_fail", obj{"ok": false, "reason": reason}
		}
		s.add(c)
	}
	large("size_limit", "16 MiB are within the limit (10), white space included.", "", list{" ", 1<<24 - 1}, list{"0", 1})
	large("size", "One byte more is not.", "json_size", list{" ", 1 << 24}, list{"0", 1})
	large("values_limit", "1,048,576 values are within the limit (10): the array and what is in it.", "", list{"[", 1}, list{"0,", 1<<20 - 2}, list{"0]", 1})
	large("values", "One value more is not.", "json_values", list{"[", 1}, list{"0,", 1<<20 - 1}, list{"0]", 1})
	large("size_grown_limit", "4.4 million bytes whose canonical form keeps to 16 MiB: each 1e15 becomes 1000000000000000.0.", "", list{"[", 1}, list{"1e15,", 883010}, list{"1e15]", 1})
	large("size_grown", "One number more, and the canonical form of an accepted document would be refused (1.7).", "json_size", list{"[", 1}, list{"1e15,", 883011}, list{"1e15]", 1})
	for _, n := range []struct{ name, why, in string }{
		{"leading_zero", "A number has no leading zero.", `[01]`},
		{"plus", "A number has no plus sign.", `[+1]`},
		{"bare_point", "A digit stands before the point.", `[.5]`},
		{"open_point", "A digit stands after the point.", `[1.]`},
		{"open_exponent", "A digit stands in the exponent.", `[1e]`},
		{"hex", "There are no hexadecimal numbers.", `[0x1]`},
		{"underscore", "Digits are not grouped.", `[1_000]`},
		{"minus", "A minus sign alone is no number.", `[-]`},
		{"comma_array", "No comma before the end of an array.", `[1,]`},
		{"comma_object", "Nor of an object.", `{"a":1,}`},
		{"no_colon", "A colon stands between name and value.", `{"a" 1}`},
		{"bare_name", "Names are strings.", `{a:1}`},
		{"single_quotes", "Strings have double quotes.", `['a']`},
		{"comment", "There are no comments.", `[1/**/]`},
		{"capital", "The words are in lower case.", `[True]`},
		{"control_character", "A control character in a string is escaped.", "[\"\t\"]"},
		{"escape", "There is no such escape.", `["\x41"]`},
		{"escape_hex", "Four hexadecimal digits follow \\u.", `["\u00g0"]`},
		{"no_break_space", "U+00A0 is not white space.", "[\u00a01]"},
		{"vertical_tab", "U+000B is not white space.", "[\v1]"},
	} {
		bad("syntax_"+n.name, n.why, n.in, "json_syntax")
	}
}

// identity holds section 2.
func (s *suite) identity() {
	good := func(name, why string, record obj, text []byte) {
		if text == nil {
			text = canon(record)
		}
		s.add(testCase{name: "number_" + name, why: why, op: "number", inputs: []input{{name: "input", files: []file{{"record.json", text}}}},
			expect: obj{"ok": true, "pith_number": numberOf(record), "canonical_sha256": sha(canon(record))}})
	}
	bad := func(name, why string, record any, reason string) {
		s.add(testCase{name: "number_" + name + "_fail", why: why, op: "number",
			inputs: []input{{name: "input", files: []file{{"record.json", canon(record)}}}}, expect: obj{"ok": false, "reason": reason}})
	}
	r := newRecord()
	meta := func(name string, value any) obj { return with(r, "metadata", with(r["metadata"].(obj), name, value)) }
	source := func(name string, value any) obj { return with(r, "source", with(r["source"].(obj), name, value)) }

	good("plain", "A record in canonical form.", r, nil)
	good("spelled_otherwise", "The digest is that of the canonical form, not of the bytes (2.2).", r, edit(canon(r), `"arxiv"`, ` "\u0061rxiv" `))
	good("year_of_submission", "The year is that of submitted_at, not of the id (2.3).", meta("submitted_at", "2025-12-31T23:59:59Z"), nil)
	good("old_id", "An id of the old style.", source("id", "hep-th/9309160"), nil)
	good("large_version", "Any positive integer is a version.", source("version", raw("18446744073709551617")), nil)
	good("no_licence", "Papers from before licences have an empty one (2.1).", meta("license", ""), nil)
	good("no_categories", "There may be no further category.", meta("cross_cats_sorted", list{}), nil)
	good("unknown_member", "Further members are allowed and part of the identity (2.1).", with(meta("doi", "10.1/x"), "more", list{raw("1.5"), nil}), nil)
	good("unsorted_categories", "Nobody sorts them again: they are taken as they stand.", meta("cross_cats_sorted", list{"cs.LG", "cs.CR"}), nil)
	good("leap_day", "29 February of a leap year.", meta("submitted_at", "2024-02-29T00:00:00Z"), nil)
	good("other_kind", "Sources need not be arXiv.", with(r, "source", obj{"kind": "zenodo", "id": "1", "version": 1}), nil)

	bad("no_leap_day", "29 February of a year that is none.", meta("submitted_at", "2023-02-29T00:00:00Z"), "record_shape")
	bad("leap_second", "A minute has 60 seconds.", meta("submitted_at", "2016-12-31T23:59:60Z"), "record_shape")
	bad("fraction", "submitted_at has no fraction (2.1).", meta("submitted_at", "2024-02-28T00:00:00.5Z"), "record_shape")
	bad("offset", "Times are in UTC and say so with Z.", meta("submitted_at", "2024-02-28T00:00:00+00:00"), "record_shape")
	bad("small_z", "T and Z are capitals.", meta("submitted_at", "2024-02-28t00:00:00z"), "record_shape")
	bad("no_hour_24", "There is no hour 24.", meta("submitted_at", "2024-02-28T24:00:00Z"), "record_shape")
	bad("year_0", "There is no year 0.", meta("submitted_at", "0000-02-28T00:00:00Z"), "record_shape")
	bad("version_zero", "A version is positive.", source("version", 0), "record_shape")
	bad("version_float", "A version is an integer; 1.0 is none.", source("version", raw("1.0")), "record_shape")
	bad("version_string", "Nor is a string.", source("version", "1"), "record_shape")
	bad("version_true", "Nor is true, which some languages take for 1.", source("version", true), "record_shape")
	bad("capital_hex", "Digests are in lower case.", meta("title_canon_sha256", strings.Repeat("A", 64)), "record_shape")
	bad("short_hex", "Digests have 64 digits.", meta("abstract_canon_sha256", strings.Repeat("a", 63)), "record_shape")
	bad("category_number", "Categories are strings.", meta("cross_cats_sorted", list{1}), "record_shape")
	bad("licence_null", "A licence is a string.", meta("license", nil), "record_shape")
	bad("empty_id", "A name has 1 to 256 bytes.", source("id", ""), "record_shape")
	bad("long_id", "A name has 1 to 256 bytes: 129 characters of two bytes are too many.", source("id", strings.Repeat("é", 129)), "record_shape")
	bad("no_source", "All members are required.", without(r, "source"), "record_shape")
	bad("version_of_schema", "Another schema_version may have other rules.", with(r, "schema_version", "1.1"), "record_shape")
	bad("array", "A record is an object.", list{r}, "record_shape")
}
