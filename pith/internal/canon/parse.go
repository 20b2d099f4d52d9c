package canon

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of what the reader takes (spec §10). They bound time and memory for
// input from strangers; every implementation must take at least this much, and
// must refuse more, or two of them would disagree about one document.
const (
	MaxSize         = 16 << 20 // bytes of input
	MaxDepth        = 64       // arrays and objects inside each other
	MaxValues       = 1 << 20  // values, every container and scalar counted
	MaxNumberLength = 4300     // characters of a number without its sign; Python's limit for integers
)

// Canonical returns the canonical form of one JSON value. Errors are *Error.
func Canonical(data []byte) ([]byte, error) {
	doc, err := Parse(data)
	if err != nil {
		return nil, err
	}
	return doc.canonical, nil
}

// Parse reads one JSON value and nothing after it but white space. The Doc
// keeps no reference to data. Errors are *Error.
func Parse(data []byte) (*Doc, error) {
	if len(data) > MaxSize {
		return nil, &Error{ReasonSize, MaxSize, fmt.Sprintf("%d bytes, the limit is %d", len(data), MaxSize)}
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return nil, &Error{ReasonBOM, 0, "the input starts with a byte-order mark"}
	}
	if !utf8.Valid(data) {
		at := invalidUTF8(data)
		return nil, &Error{ReasonUTF8, at, fmt.Sprintf("byte 0x%02x is not UTF-8 here", data[at])}
	}
	// One copy of the input backs every string of the document.
	r := reader{in: bytes.Clone(data), nodes: make([]node, 0, estimateValues(data))}
	r.space()
	if _, err := r.value(1); err != nil {
		return nil, err
	}
	if r.space(); r.at < len(data) {
		return nil, &Error{ReasonTrailing, r.at, fmt.Sprintf("%s follows the value", excerpt(data[r.at:]))}
	}
	w := writer{nodes: r.nodes, out: make([]byte, 0, len(data))}
	w.value(0)
	return &Doc{nodes: r.nodes, canonical: w.out}, nil
}

// estimateValues gives an upper bound for the number of values: each one but
// the first follows a comma or opens a container.
func estimateValues(data []byte) int {
	n := 1 + bytes.Count(data, []byte{','}) + bytes.Count(data, []byte{'{'}) + bytes.Count(data, []byte{'['})
	return min(n, MaxValues)
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return 0
}

// A reader walks over the input once and lists what it sees.
type reader struct {
	in    []byte
	at    int
	nodes []node
	stack []int32 // children of the objects that are still open
}

func (r *reader) space() {
	for r.at < len(r.in) {
		switch r.in[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// fail describes what stands at the current place.
func (r *reader) fail(want string) *Error {
	if r.at >= len(r.in) {
		return &Error{ReasonTruncated, len(r.in), "the input ends where " + want + " should stand"}
	}
	return &Error{ReasonSyntax, r.at, fmt.Sprintf("%s where %s should stand", excerpt(r.in[r.at:]), want)}
}

// excerpt quotes the first character of data.
func excerpt(data []byte) string {
	c, _ := utf8.DecodeRune(data)
	return strconv.QuoteRune(c)
}

// value reads the value at the current place, which lies at the given depth if
// it is a container, and returns its node.
func (r *reader) value(depth int) (int32, *Error) {
	if len(r.nodes) == MaxValues {
		return 0, &Error{ReasonValues, r.at, fmt.Sprintf("more than %d values", MaxValues)}
	}
	if r.at >= len(r.in) {
		return 0, r.fail("a value")
	}
	i := int32(len(r.nodes))
	r.nodes = append(r.nodes, node{offset: int32(r.at)})
	var err *Error
	switch c := r.in[r.at]; {
	case c == '{':
		err = r.object(i, depth)
	case c == '[':
		err = r.array(i, depth)
	case c == '"':
		r.nodes[i].kind = String
		r.nodes[i].text, err = r.string()
	case c == '-' || '0' <= c && c <= '9':
		r.nodes[i].kind = Number
		r.nodes[i].text, err = r.number()
	default:
		err = r.word(&r.nodes[i])
	}
	return i, err
}

func (r *reader) word(n *node) *Error {
	rest := r.in[r.at:]
	for _, w := range words {
		if bytes.HasPrefix(rest, w.text) {
			n.kind, n.text = w.kind, w.text
			r.at += len(w.text)
			return nil
		}
	}
	for _, w := range []string{"NaN", "Infinity"} {
		if bytes.HasPrefix(rest, []byte(w)) {
			return &Error{ReasonNotFinite, r.at, w + " is not a JSON number"}
		}
	}
	return r.fail("a value")
}

var words = []struct {
	text []byte
	kind Kind
}{{[]byte("null"), Null}, {[]byte("true"), Bool}, {[]byte("false"), Bool}}

func (r *reader) open(depth int) *Error {
	if depth > MaxDepth {
		return &Error{ReasonDepth, r.at, fmt.Sprintf("more than %d arrays and objects inside each other", MaxDepth)}
	}
	r.at++
	r.space()
	return nil
}

func (r *reader) array(i int32, depth int) *Error {
	if err := r.open(depth); err != nil {
		return err
	}
	r.nodes[i].kind = Array
	if r.accept(']') {
		return nil
	}
	last := int32(0)
	for {
		child, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		if last == 0 {
			r.nodes[i].child = child
		} else {
			r.nodes[last].next = child
		}
		last = child
		r.space()
		if r.accept(']') {
			return nil
		}
		if !r.accept(',') {
			return r.fail("',' or ']'")
		}
		r.space()
	}
}

func (r *reader) object(i int32, depth int) *Error {
	if err := r.open(depth); err != nil {
		return err
	}
	r.nodes[i].kind = Object
	if r.accept('}') {
		return nil
	}
	base := len(r.stack)
	for {
		if r.at >= len(r.in) || r.in[r.at] != '"' {
			return r.fail("a name in quotes")
		}
		key, err := r.string()
		if err != nil {
			return err
		}
		r.space()
		if !r.accept(':') {
			return r.fail("':'")
		}
		r.space()
		child, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		r.nodes[child].key = key
		r.stack = append(r.stack, child)
		r.space()
		if r.accept('}') {
			break
		}
		if !r.accept(',') {
			return r.fail("',' or '}'")
		}
		r.space()
	}
	err := r.link(i, r.stack[base:])
	r.stack = r.stack[:base]
	return err
}

// link puts the members of an object in canonical order. Comparing UTF-8 bytes
// orders by code point, as Python does; comparing UTF-16 units would not.
func (r *reader) link(i int32, members []int32) *Error {
	byName := func(a, b int32) int { return bytes.Compare(r.nodes[a].key, r.nodes[b].key) }
	slices.SortFunc(members, byName)
	for k := 1; k < len(members); k++ {
		if byName(members[k-1], members[k]) == 0 {
			second := max(members[k-1], members[k])
			return &Error{ReasonDuplicateName, int(r.nodes[second].offset),
				fmt.Sprintf("the name %q appears twice in one object", r.nodes[second].key)}
		}
		r.nodes[members[k-1]].next = members[k]
	}
	r.nodes[i].child = members[0]
	return nil
}

func (r *reader) accept(c byte) bool {
	if r.at < len(r.in) && r.in[r.at] == c {
		r.at++
		return true
	}
	return false
}

// string reads a string from its opening quote and returns its characters.
func (r *reader) string() ([]byte, *Error) {
	r.at++
	start := r.at
	for r.at < len(r.in) {
		switch c := r.in[r.at]; {
		case c == '"':
			r.at++
			return r.in[start : r.at-1 : r.at-1], nil
		case c == '\\':
			return r.escapedString(start)
		case c < 0x20:
			return nil, r.fail("an escape instead of a control character")
		}
		r.at++
	}
	return nil, r.fail("the end of a string")
}

// escapedString reads on from the first backslash of a string.
func (r *reader) escapedString(start int) ([]byte, *Error) {
	text := bytes.Clone(r.in[start:r.at])
	for r.at < len(r.in) {
		switch c := r.in[r.at]; {
		case c == '"':
			r.at++
			return text, nil
		case c == '\\':
			char, err := r.escape()
			if err != nil {
				return nil, err
			}
			text = utf8.AppendRune(text, char)
			continue
		case c < 0x20:
			return nil, r.fail("an escape instead of a control character")
		default:
			text = append(text, c)
		}
		r.at++
	}
	return nil, r.fail("the end of a string")
}

// escape reads one escape sequence, or the two of a surrogate pair.
func (r *reader) escape() (rune, *Error) {
	start := r.at
	r.at++
	if r.at >= len(r.in) {
		return 0, r.fail("an escape")
	}
	c := r.in[r.at]
	if i := bytes.IndexByte([]byte(`"\/bfnrt`), c); i >= 0 {
		r.at++
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, r.fail("one of \"\\/bfnrtu")
	}
	first, err := r.hex4()
	if err != nil || !utf16.IsSurrogate(first) {
		return first, err
	}
	if bytes.HasPrefix(r.in[r.at:], []byte(`\u`)) {
		r.at++
		second, err := r.hex4()
		if err != nil {
			return 0, err
		}
		if pair := utf16.DecodeRune(first, second); pair != utf8.RuneError {
			return pair, nil
		}
	}
	return 0, &Error{ReasonSurrogate, start, fmt.Sprintf("\\u%04x is half of a surrogate pair", first)}
}

// hex4 reads the u and the four digits of an escape.
func (r *reader) hex4() (rune, *Error) {
	r.at++
	char := rune(0)
	for range 4 {
		if r.at >= len(r.in) {
			return 0, r.fail("a hexadecimal digit")
		}
		switch c := r.in[r.at]; {
		case '0' <= c && c <= '9':
			char = char<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			char = char<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			char = char<<4 | rune(c-'A'+10)
		default:
			return 0, r.fail("a hexadecimal digit")
		}
		r.at++
	}
	return char, nil
}

// number reads a number and returns its canonical literal. As in Python, a
// number without fraction and exponent is an exact integer, any other one a
// float64.
func (r *reader) number() ([]byte, *Error) {
	start := r.at
	r.accept('-')
	digitsFrom := r.at
	if bytes.HasPrefix(r.in[r.at:], []byte("Infinity")) {
		return nil, &Error{ReasonNotFinite, start, "Infinity is not a JSON number"}
	}
	if !r.accept('0') && !r.digits() {
		return nil, r.fail("a digit")
	}
	integer := true
	if r.accept('.') {
		integer = false
		if !r.digits() {
			return nil, r.fail("a digit")
		}
	}
	if r.accept('e') || r.accept('E') {
		integer = false
		if !r.accept('+') {
			r.accept('-')
		}
		if !r.digits() {
			return nil, r.fail("a digit")
		}
	}
	literal := r.in[start:r.at]
	if length := r.at - digitsFrom; length > MaxNumberLength {
		return nil, &Error{ReasonNumberLength, start, fmt.Sprintf("a number of %d characters, the limit is %d", length, MaxNumberLength)}
	}
	if integer {
		if string(literal) == "-0" {
			literal = literal[1:] // Python's int has one zero
		}
		return literal[:len(literal):len(literal)], nil
	}
	f, err := strconv.ParseFloat(string(literal), 64)
	if err != nil { // the grammar is checked, so only the range is left to fail
		return nil, &Error{ReasonNotFinite, start, "a number beyond the range of float64"}
	}
	return appendFloat(nil, f), nil
}

func (r *reader) digits() bool {
	start := r.at
	for r.at < len(r.in) && '0' <= r.in[r.at] && r.in[r.at] <= '9' {
		r.at++
	}
	return r.at > start
}

// appendFloat writes f as Python's repr does: the shortest digits that read
// back to f; with an exponent below 1e-4 and from 1e16 on; else with a point.
func appendFloat(dst []byte, f float64) []byte {
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, '.', '0')
	}
	return dst
}
