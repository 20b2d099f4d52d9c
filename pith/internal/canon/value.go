package canon

import (
	"crypto/sha256"
	"iter"
	"slices"
	"sync"
)

// A Kind is one of the six kinds of JSON value; true and false are both Bool.
type Kind uint8

// The kinds. Invalid is the kind of the zero Value.
const (
	Invalid Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"nothing", "null", "a boolean", "a number", "a string", "an array", "an object"}

// String returns the kind as people say it: "an object", "nothing".
func (k Kind) String() string { return kindNames[k] }

// A node is one value of a document. Nodes lie in one flat array in the order
// in which they were read; node 0 is the root and therefore nobody's child or
// sibling, so 0 also means "none".
type node struct {
	kind   Kind
	key    span  // unescaped name, for members of an object
	text   span  // String: unescaped; Number, Bool, Null: the canonical literal
	child  int32 // first child
	next   int32 // next sibling; members of objects are linked in canonical order
	offset int32 // where the value starts in the input

	// Spans in Doc.canonical. A member's own span, with its name, starts at
	// nameAt; for other values nameAt equals start.
	nameAt, start, end int32
}

// A span is a part of Doc.in. Texts that do not stand there as they are, because
// of escapes or because a float is spelled in another way, are kept aside: then
// to is -1 and from their place in Doc.aside.
type span struct{ from, to int32 }

// A Doc is a document that was read and found good. It is not changed after
// Parse and may be used by several goroutines.
type Doc struct {
	in        string
	aside     []string
	nodes     []node
	canonical []byte
}

func (d *Doc) text(s span) string {
	if s.to < 0 {
		return d.aside[s.from]
	}
	return d.in[s.from:s.to]
}

func (d *Doc) keep(text string) span {
	d.aside = append(d.aside, text)
	return span{int32(len(d.aside) - 1), -1}
}

// Root returns the value that the document consists of.
func (d *Doc) Root() Value { return Value{d, 0} }

// A Value is a place in a Doc. The zero Value is what a missing member looks
// like: its kind is Invalid, and everything else about it is empty.
type Value struct {
	doc *Doc
	at  int32
}

func (v Value) node() *node {
	if v.doc == nil {
		return &node{}
	}
	return &v.doc.nodes[v.at]
}

// Exists reports whether there is a value at all.
func (v Value) Exists() bool { return v.doc != nil }

// Kind returns the kind of the value, Invalid for a missing one.
func (v Value) Kind() Kind { return v.node().kind }

// Offset returns where the value starts in the bytes that were read.
func (v Value) Offset() int { return int(v.node().offset) }

// Name returns the unescaped name under which the value is a member.
func (v Value) Name() string {
	if v.doc == nil {
		return ""
	}
	return v.doc.text(v.doc.nodes[v.at].key)
}

// Text returns the characters of a string, "" for every other kind.
func (v Value) Text() string {
	if n := v.node(); n.kind == String {
		return v.doc.text(n.text)
	}
	return ""
}

// Is reports whether the value is the string s.
func (v Value) Is(s string) bool {
	return v.Kind() == String && v.Text() == s
}

// Canonical returns the canonical bytes of the value. They belong to the Doc
// and must not be changed.
func (v Value) Canonical() []byte {
	if v.doc == nil {
		return nil
	}
	n := v.node()
	return v.doc.canonical[n.start:n.end:n.end]
}

// Get returns the member with that name, or the zero Value.
func (v Value) Get(name string) Value {
	n := v.node()
	if n.kind != Object {
		return Value{}
	}
	for i := n.child; i != 0; i = v.doc.nodes[i].next {
		if v.doc.text(v.doc.nodes[i].key) == name {
			return Value{v.doc, i}
		}
	}
	return Value{}
}

// Children yields the elements of an array in order, or the members of an
// object in canonical order, which Name tells apart.
func (v Value) Children() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		for i := v.node().child; i != 0; i = v.doc.nodes[i].next {
			if !yield(Value{v.doc, i}) {
				return
			}
		}
	}
}

// Len counts the children.
func (v Value) Len() int {
	n := 0
	for range v.Children() {
		n++
	}
	return n
}

// Without returns the canonical bytes of an object that lacks the named
// members. It is how an object is digested that holds its own digest.
func (v Value) Without(names ...string) []byte { return v.appendWithout(nil, names) }

func (v Value) appendWithout(dst []byte, names []string) []byte {
	start := len(dst)
	dst = append(dst, '{')
	for m := range v.Children() {
		if slices.Contains(names, m.Name()) {
			continue
		}
		if len(dst) > start+1 {
			dst = append(dst, ',')
		}
		n := m.node()
		dst = append(dst, v.doc.canonical[n.nameAt:n.end]...)
	}
	return append(dst, '}')
}

// Digest returns the SHA-256 of the canonical bytes.
func (v Value) Digest() [sha256.Size]byte { return sha256.Sum256(v.Canonical()) }

// DigestWithout returns the SHA-256 of the canonical bytes of an object that
// lacks the named members.
func (v Value) DigestWithout(names ...string) [sha256.Size]byte {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	if cap(*buf) < len(v.Canonical()) {
		*buf = make([]byte, 0, len(v.Canonical()))
	}
	return sha256.Sum256(v.appendWithout((*buf)[:0], names))
}

// scratch holds buffers for what is hashed and forgotten.
var scratch = sync.Pool{New: func() any { return new([]byte) }}
