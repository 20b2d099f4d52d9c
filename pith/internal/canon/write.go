package canon

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// A writer lays out a tree in canonical form and notes where each value went.
type writer struct {
	nodes []node
	out   []byte
}

// value writes node i. The recursion is as deep as the reader allowed.
func (w *writer) value(i int32) {
	n := &w.nodes[i]
	n.start = int32(len(w.out))
	switch n.kind {
	case Object:
		w.children(n.child, '{', '}')
	case Array:
		w.children(n.child, '[', ']')
	case String:
		w.out = AppendString(w.out, n.text)
	default:
		w.out = append(w.out, n.text...)
	}
	n.end = int32(len(w.out))
}

func (w *writer) children(first int32, open, close byte) {
	w.out = append(w.out, open)
	for i := first; i != 0; i = w.nodes[i].next {
		if i != first {
			w.out = append(w.out, ',')
		}
		n := &w.nodes[i]
		n.nameAt = int32(len(w.out))
		if open == '{' {
			w.out = AppendString(w.out, n.key)
			w.out = append(w.out, ':')
		}
		w.value(i)
	}
	w.out = append(w.out, close)
}

// AppendString appends s, which must be UTF-8, as a canonical JSON string. Only
// quotes, backslashes and control characters are escaped: not <, > and &, as
// encoding/json would, nor U+2028.
func AppendString[S string | []byte](dst []byte, s S) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		done = i + 1
		if k := strings.IndexByte("\"\\\b\f\n\r\t", c); k >= 0 {
			dst = append(dst, '\\', `"\bfnrt`[k])
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}

// Quote returns s as a canonical JSON string. Bytes that are not UTF-8 become
// U+FFFD, because nothing else could be read back.
func Quote(s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	return AppendString(nil, s)
}

// A Member is one member of an object under construction: a name and a value
// that is already in canonical form.
type Member struct {
	Name  string
	Value []byte
}

// Build returns the canonical form of an object with these members, in any
// order. The names must differ.
func Build(members ...Member) []byte {
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	out := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			out = append(out, ',')
		}
		out = AppendString(out, m.Name)
		out = append(out, ':')
		out = append(out, m.Value...)
	}
	return append(out, '}')
}

// BuildArray returns the canonical form of an array of canonical values.
func BuildArray(values ...[]byte) []byte {
	out := []byte{'['}
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, v...)
	}
	return append(out, ']')
}
