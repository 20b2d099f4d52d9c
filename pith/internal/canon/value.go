package canon

import (
	"crypto/sha256"
	"iter"
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
	key    []byte // unescaped name, for members of an object
	text   []byte // String: unescaped; Number, Bool, Null: the canonical literal
	child  int32  // first child
	next   int32  // next sibling; members of objects are linked in canonical order
	offset int32  // where the value starts in the input

	// Spans in Doc.canonical. A member's own span, with its name, starts at
	// nameAt; for other values nameAt equals start.
	nameAt, start, end int32
}

// A Doc is a document that was read and found good. It is not changed after
// Parse and may be used by several goroutines.
type Doc struct {
	nodes     []node
	canonical []byte
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
func (v Value) Name() string { return string(v.node().key) }

// Text returns the characters of a string, "" for every other kind.
func (v Value) Text() string {
	if n := v.node(); n.kind == String {
		return string(n.text)
	}
	return ""
}

// Is reports whether the value is the string s.
func (v Value) Is(s string) bool {
	n := v.node()
	return n.kind == String && string(n.text) == s
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
		if string(v.doc.nodes[i].key) == name {
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
func (v Value) Without(names ...string) []byte {
	out := []byte{'{'}
	for m := range v.Children() {
		if dropped(m.node().key, names) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		n := m.node()
		out = append(out, v.doc.canonical[n.nameAt:n.end]...)
	}
	return append(out, '}')
}

func dropped(key []byte, names []string) bool {
	for _, name := range names {
		if string(key) == name {
			return true
		}
	}
	return false
}

// Digest returns the SHA-256 of the canonical bytes.
func (v Value) Digest() [sha256.Size]byte { return sha256.Sum256(v.Canonical()) }

// DigestWithout returns the SHA-256 of the canonical bytes of an object that
// lacks the named members.
func (v Value) DigestWithout(names ...string) [sha256.Size]byte {
	return sha256.Sum256(v.Without(names...))
}
