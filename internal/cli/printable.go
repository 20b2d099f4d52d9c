package cli

import "strings"

// Printable keeps a stranger's text from steering the terminal: control characters and
// those that turn the direction of writing become U+FFFD.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0x61c || r == 0x200e || r == 0x200f || 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 {
			return '\ufffd'
		}
		return r
	}, s)
}

// lines is Printable for words of several lines. A line that a stranger's text begins
// stands indented, so that it cannot pass for one of the tool's own.
func lines(s string) string {
	parts := strings.Split(s, "\n")
	for i, line := range parts {
		parts[i] = Printable(strings.ReplaceAll(line, "\t", "  "))
	}
	return strings.Join(parts, "\n  ")
}
