package canon

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// write lays out node i in canonical form and notes where it went. The recursion
// is as deep as the reader allowed.
func (d *Doc) write(i int32) {
	n := &d.nodes[i]
	n.start = int32(len(d.canonical))
	switch n.kind {
	case Object:
		d.canonical = append(d.canonical, '{')
		for m := n.child; m != 0; m = d.nodes[m].next {
			if m != n.child {
				d.canonical = append(d.canonical, ',')
			}
			d.nodes[m].nameAt = int32(len(d.canonical))
			d.writeString(d.nodes[m].key)
			d.canonical = append(d.canonical, ':')
			d.write(m)
		}
		d.canonical = append(d.canonical, '}')
	case Array:
		d.canonical = append(d.canonical, '[')
		for e := n.child; e != 0; e = d.nodes[e].next {
			if e != n.child {
				d.canonical = append(d.canonical, ',')
			}
			d.nodes[e].nameAt = int32(len(d.canonical))
			d.write(e)
		}
		d.canonical = append(d.canonical, ']')
	case String:
		d.writeString(n.text)
	default:
		d.canonical = append(d.canonical, d.text(n.text)...)
	}
	n.end = int32(len(d.canonical))
}

// writeString writes a string. One that stands in the input as it is has nothing
// to escape, and is copied with its quotes.
func (d *Doc) writeString(s span) {
	if s.to < 0 {
		d.canonical = AppendString(d.canonical, d.aside[s.from])
		return
	}
	d.canonical = append(d.canonical, d.in[s.from-1:s.to+1]...)
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

// A Writer writes canonical JSON whose members the caller names in canonical
// order. It puts the commas. The zero Writer is ready.
type Writer struct{ out []byte }

// Grow makes room for n more bytes.
func (w *Writer) Grow(n int) { w.out = append(make([]byte, 0, len(w.out)+n), w.out...) }

// Bytes returns what was written.
func (w *Writer) Bytes() []byte { return w.out }

// Len returns how many bytes were written.
func (w *Writer) Len() int { return len(w.out) }

// next puts a comma unless a container has just been opened or a member named.
// No value ends in one of these bytes.
func (w *Writer) next() {
	if n := len(w.out); n > 0 {
		switch w.out[n-1] {
		case '{', '[', ':':
		default:
			w.out = append(w.out, ',')
		}
	}
}

// Open starts an object or array with its opening bracket.
func (w *Writer) Open(bracket byte) {
	w.next()
	w.out = append(w.out, bracket)
}

// Close ends an object or array with its closing bracket.
func (w *Writer) Close(bracket byte) { w.out = append(w.out, bracket) }

// Name starts a member, whose value is to follow.
func (w *Writer) Name(name string) *Writer {
	w.String(name)
	w.out = append(w.out, ':')
	return w
}

// String writes a string, which must be UTF-8.
func (w *Writer) String(s string) {
	w.next()
	w.out = AppendString(w.out, s)
}

// Int writes an integer.
func (w *Writer) Int(n int) {
	w.next()
	w.out = strconv.AppendInt(w.out, int64(n), 10)
}

// Raw writes a value that is in canonical form.
func (w *Writer) Raw(value []byte) {
	w.next()
	w.out = append(w.out, value...)
}

// Array writes an array of values in canonical form.
func (w *Writer) Array(values [][]byte) {
	w.Open('[')
	for _, v := range values {
		w.Raw(v)
	}
	w.Close(']')
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
