package canon

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of what the reader takes (spec §10). They bound time and memory for
// input from strangers; every implementation must take at least this much, and
// must refuse more, or two of them would disagree about one document.
const (
	MaxSize         = 16 << 20 // bytes of input, and of its canonical form
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
	var open [64]member // room for what most objects hold
	doc := &Doc{in: string(data), nodes: make([]node, 0, estimateValues(data))}
	r := reader{Doc: doc, stack: open[:0]}
	r.space()
	if _, err := r.value(1); err != nil {
		return nil, err
	}
	if r.space(); r.at < len(data) {
		return nil, &Error{ReasonTrailing, r.at, fmt.Sprintf("%s follows the value", excerpt(doc.in[r.at:]))}
	}
	doc.canonical = make([]byte, 0, len(data))
	doc.write(0)
	// 1e15 becomes 1000000000000000.0: else a document could be read whose
	// canonical form could not.
	if n := len(doc.canonical); n > MaxSize {
		return nil, &Error{ReasonSize, len(data), fmt.Sprintf("the canonical form has %d bytes, the limit is %d", n, MaxSize)}
	}
	return doc, nil
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

// A reader walks over the input once and lists what it sees in a document.
type reader struct {
	*Doc
	at    int
	stack []member // of the objects that are still open
}

// A member waits for its place among its siblings.
type member struct {
	node int32
	head uint64 // the first eight bytes of the name, so that they compare as a number
}

func (r *reader) space() {
	for r.at < len(r.in) && r.in[r.at] <= ' ' && isSpace(r.in[r.at]) {
		r.at++
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
func excerpt(data string) string {
	c, _ := utf8.DecodeRuneInString(data)
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
		if strings.HasPrefix(rest, w.text) {
			n.kind, n.text = w.kind, span{int32(r.at), int32(r.at + len(w.text))}
			r.at += len(w.text)
			return nil
		}
	}
	for _, w := range []string{"NaN", "Infinity"} {
		if strings.HasPrefix(rest, w) {
			return &Error{ReasonNotFinite, r.at, w + " is not a JSON number"}
		}
	}
	return r.fail("a value")
}

var words = []struct {
	text string
	kind Kind
}{{"null", Null}, {"true", Bool}, {"false", Bool}}

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
		r.stack = append(r.stack, member{child, head(r.text(key))})
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
func (r *reader) link(i int32, members []member) *Error {
	r.sort(members)
	for k := 1; k < len(members); k++ {
		a, b := members[k-1], members[k]
		if a.head == b.head && r.compare(a, b) == 0 {
			second := &r.nodes[max(a.node, b.node)]
			return &Error{ReasonDuplicateName, int(second.offset),
				fmt.Sprintf("the name %q appears twice in one object", r.text(second.key))}
		}
		r.nodes[a.node].next = b.node
	}
	r.nodes[i].child = members[0].node
	return nil
}

// sort orders members by name. Objects of a few members, which are nearly all,
// are sorted by insertion, where a call for each comparison would cost more than
// the comparison.
func (r *reader) sort(members []member) {
	if len(members) > 32 {
		slices.SortFunc(members, r.compare)
		return
	}
	for k := 1; k < len(members); k++ {
		m := members[k]
		at := k
		for ; at > 0; at-- {
			before := members[at-1]
			if before.head < m.head || before.head == m.head && r.compare(before, m) <= 0 {
				break
			}
			members[at] = before
		}
		members[at] = m
	}
}

func (r *reader) compare(a, b member) int {
	return cmp.Or(cmp.Compare(a.head, b.head), cmp.Compare(r.text(r.nodes[a.node].key), r.text(r.nodes[b.node].key)))
}

// head returns the first eight bytes of s, filled up with zeros, as a number
// that is ordered as they are.
func head(s string) uint64 {
	if len(s) >= 8 {
		return uint64(s[7]) | uint64(s[6])<<8 | uint64(s[5])<<16 | uint64(s[4])<<24 |
			uint64(s[3])<<32 | uint64(s[2])<<40 | uint64(s[1])<<48 | uint64(s[0])<<56
	}
	n := uint64(0)
	for i := range len(s) {
		n |= uint64(s[i]) << (56 - 8*i)
	}
	return n
}

func (r *reader) accept(c byte) bool {
	if r.at < len(r.in) && r.in[r.at] == c {
		r.at++
		return true
	}
	return false
}

// string reads a string from its opening quote and returns its characters.
func (r *reader) string() (span, *Error) {
	r.at++
	start := r.at
	for r.at < len(r.in) {
		if rest := r.in[r.at:]; len(rest) >= 8 {
			n := plain(rest)
			if r.at += n; n == 8 {
				continue
			}
		}
		switch c := r.in[r.at]; {
		case c == '"':
			r.at++
			return span{int32(start), int32(r.at - 1)}, nil
		case c == '\\':
			return r.escapedString(start)
		case c < 0x20:
			return span{}, r.fail("an escape instead of a control character")
		}
		r.at++
	}
	return span{}, r.fail("the end of a string")
}

// plain returns how many of the first eight bytes of s come before the first
// quote, backslash or control character, eight if there is none of these.
//
// All eight are looked at together. x ^ c is 0 in the bytes of x that are c. In
// b - n the top bit of a byte is set when b < n, unless it was set in b already
// (then &^ clears it) or a lower byte has borrowed: but a byte that borrows is
// itself found first, and the lowest one found is the one that counts.
func plain(s string) int {
	const (
		ones = 0x0101010101010101
		tops = 0x80 * ones
	)
	x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	quote, backslash := x^('"'*ones), x^('\\'*ones)
	found := ((quote-ones)&^quote | (backslash-ones)&^backslash | (x-0x20*ones)&^x) & tops
	return bits.TrailingZeros64(found) / 8
}

// escapedString reads on from the first backslash of a string.
func (r *reader) escapedString(start int) (span, *Error) {
	text := []byte(r.in[start:r.at])
	for r.at < len(r.in) {
		switch c := r.in[r.at]; {
		case c == '"':
			r.at++
			return r.keep(string(text)), nil
		case c == '\\':
			char, err := r.escape()
			if err != nil {
				return span{}, err
			}
			text = utf8.AppendRune(text, char)
			continue
		case c < 0x20:
			return span{}, r.fail("an escape instead of a control character")
		default:
			text = append(text, c)
		}
		r.at++
	}
	return span{}, r.fail("the end of a string")
}

// escape reads one escape sequence, or the two of a surrogate pair.
func (r *reader) escape() (rune, *Error) {
	start := r.at
	r.at++
	if r.at >= len(r.in) {
		return 0, r.fail("an escape")
	}
	c := r.in[r.at]
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
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
	if strings.HasPrefix(r.in[r.at:], `\u`) {
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
func (r *reader) number() (span, *Error) {
	start := r.at
	r.accept('-')
	digitsFrom := r.at
	if strings.HasPrefix(r.in[r.at:], "Infinity") {
		return span{}, &Error{ReasonNotFinite, start, "Infinity is not a JSON number"}
	}
	if !r.accept('0') && !r.digits() {
		return span{}, r.fail("a digit")
	}
	integer := true
	if r.accept('.') {
		integer = false
		if !r.digits() {
			return span{}, r.fail("a digit")
		}
	}
	if r.accept('e') || r.accept('E') {
		integer = false
		if !r.accept('+') {
			r.accept('-')
		}
		if !r.digits() {
			return span{}, r.fail("a digit")
		}
	}
	literal := r.in[start:r.at]
	if length := r.at - digitsFrom; length > MaxNumberLength {
		return span{}, &Error{ReasonNumberLength, start, fmt.Sprintf("a number of %d characters, the limit is %d", length, MaxNumberLength)}
	}
	if integer {
		if literal == "-0" {
			start++ // Python's int has one zero
		}
		return span{int32(start), int32(r.at)}, nil
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil { // the grammar is checked, so only the range is left to fail
		return span{}, &Error{ReasonNotFinite, start, "a number beyond the range of float64"}
	}
	return r.keep(string(appendFloat(nil, f))), nil
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
