package resolver

import (
	"strings"
)

// Leaf is the entry of an event in the transparency log of the mirror that
// accepted it, at the index that is its Seq: four lines with what the event is,
// who it is about, and the digest of all of it. It holds what a reader can
// compute from a bundle, and nothing that only the mirror knows.
func Leaf(e Event) []byte {
	var b strings.Builder
	b.WriteString("pith-event/1\n")
	b.WriteString(strings.ReplaceAll(e.ID, "\n", " ")) // invalid events may claim any id
	b.WriteString("\n")
	b.WriteString(e.Suffix)
	b.WriteString("\n")
	b.WriteString(e.SHA256.String())
	b.WriteString("\n")
	return []byte(b.String())
}
