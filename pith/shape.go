package pith

import (
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/openpith/evidence/pith/internal/canon"
)

// A field is a member that an object must have.
type field struct {
	name string
	want string // the type in words
	ok   func(canon.Value) bool
}

// shape asks whether v is an object with all these fields. It answers with one
// check when all is well and with one for each wrong field otherwise.
func (c *checks) shape(code Code, path place, v canon.Value, fields []field) bool {
	if v.Kind() != canon.Object {
		return c.failure(answer{code: code, at: path.number, expected: "an object", got: v.Kind().String()})
	}
	good := true
	for _, f := range fields {
		member := v.Get(f.name)
		if f.ok(member) {
			continue
		}
		good = false
		c.failure(answer{code: code, at: path.at(f.name).number, expected: f.want, got: describe(member)})
		if len(c.answers) > manyAnswers { // one is enough to be wrong
			break
		}
	}
	if good {
		c.pass(code, path)
	}
	return good
}

// manyAnswers is when an object with a dozen wrong fields gets one answer and no
// longer a dozen: no honest bundle comes near it before its events are many.
const manyAnswers = 1 << 16

// describe tells what stands somewhere, for the reader of a failure.
func describe(v canon.Value) string {
	if k := v.Kind(); k == canon.String || k == canon.Number {
		return short(string(v.Canonical()))
	}
	return v.Kind().String()
}

// unknown returns the first member of v that no field names. allowed lists
// further names.
func unknown(v canon.Value, fields []field, allowed ...string) (name string, found bool) {
members:
	for m := range v.Children() {
		name := m.Name()
		for _, f := range fields {
			if f.name == name {
				continue members
			}
		}
		for _, a := range allowed {
			if a == name {
				continue members
			}
		}
		return name, true
	}
	return "", false
}

// closed is shape for objects that no digest covers: there, a member that
// nobody knows could be slipped in by anybody.
func (c *checks) closed(code Code, path place, v canon.Value, fields []field) bool {
	if !c.shape(code, path, v, fields) {
		return false
	}
	if name, found := unknown(v, fields); found {
		return c.failure(answer{code: code, at: path.at(name).number, expected: "no other members", got: short(name)})
	}
	return true
}

func kindField(name string, kind canon.Kind) field {
	return field{name, kind.String(), func(v canon.Value) bool { return v.Kind() == kind }}
}

func object(name string) field { return kindField(name, canon.Object) }
func array(name string) field  { return kindField(name, canon.Array) }
func text(name string) field   { return kindField(name, canon.String) }

// anything asks only that the member is there.
func anything(name string) field {
	return field{name, "any value", canon.Value.Exists}
}

func constant(name, value string) field {
	return field{name, string(canon.Quote(value)), func(v canon.Value) bool { return v.Is(value) }}
}

func oneOf(name string, values ...string) field {
	return field{name, strings.Join(values, " | "), func(v canon.Value) bool {
		for _, value := range values {
			if v.Is(value) {
				return true
			}
		}
		return false
	}}
}

// word is a string that is neither empty nor longer than a name should be.
func word(name string) field {
	return field{name, "a string of 1 to 256 bytes", func(v canon.Value) bool {
		n := len(v.Text())
		return 0 < n && n <= 256
	}}
}

// optional is a field that may be absent.
func optional(f field) field {
	return field{f.name, f.want + ", or nothing", func(v canon.Value) bool { return !v.Exists() || f.ok(v) }}
}

// prose is a string that people read.
func prose(name string) field {
	return field{name, "a string of 1 to 16384 bytes", func(v canon.Value) bool {
		n := len(v.Text())
		return 0 < n && n <= 16<<10
	}}
}

func address(name string) field {
	return field{name, "an https address of at most 2048 bytes", func(v canon.Value) bool { return isAddress(v.Text()) }}
}

func isAddress(s string) bool {
	rest, ok := strings.CutPrefix(s, "https://")
	return ok && rest != "" && len(s) <= 2048 && !hasBlank(s)
}

// hasBlank reports white space or control characters.
func hasBlank(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}

func hexDigest(name string) field {
	return field{name, "64 lower-case hexadecimal digits", func(v canon.Value) bool { return isHex(v.Text(), 64) }}
}

func isHex(s string, length int) bool {
	return len(s) == length && strings.Trim(s, "0123456789abcdef") == ""
}

func positive(name string) field {
	return field{name, "a positive integer", func(v canon.Value) bool {
		s := string(v.Canonical())
		return v.Kind() == canon.Number && s[0] != '0' && strings.Trim(s, "0123456789") == ""
	}}
}

// byline counts from 1, and no further than an int holds on any machine.
func byline(name string) field {
	f := positive(name)
	return field{name, "an integer from 1 to 1000000", func(v canon.Value) bool {
		n, err := strconv.Atoi(string(v.Canonical()))
		return f.ok(v) && err == nil && n <= 1000000
	}}
}

func strs(name string) field {
	return field{name, "an array of strings", isStrings}
}

func isStrings(v canon.Value) bool {
	if v.Kind() != canon.Array {
		return false
	}
	for e := range v.Children() {
		if e.Kind() != canon.String {
			return false
		}
	}
	return true
}

func instant(name string) field {
	return field{name, "a UTC time like 2026-05-17T23:59:22Z", func(v canon.Value) bool {
		_, ok := parseTime(v.Text())
		return ok
	}}
}

// second is an instant without fraction.
func second(name string) field {
	return field{name, "a UTC time like 2026-05-17T23:59:22Z", func(v canon.Value) bool {
		_, ok := parseTime(v.Text())
		return ok && len(v.Text()) == len(secondsFormat)
	}}
}

func nullOr(f field) field {
	return field{f.name, "null or " + f.want, func(v canon.Value) bool { return v.Kind() == canon.Null || f.ok(v) }}
}

const (
	secondsFormat = "2006-01-02T15:04:05Z"
	microsFormat  = "2006-01-02T15:04:05.000000Z"
)

// parseTime reads the one form of time in the format: RFC 3339 in UTC with a
// capital T and Z and at most nine digits of fraction. time.Parse alone would
// take more, for example a comma.
func parseTime(s string) (time.Time, bool) {
	body, ok := strings.CutSuffix(s, "Z")
	if !ok || len(body) > len("2006-01-02T15:04:05.000000000") || strings.Contains(body, ",") {
		return time.Time{}, false
	}
	t, err := time.Parse("2006-01-02T15:04:05", body) // takes a fraction, too
	return t, err == nil && t.Year() > 0
}
