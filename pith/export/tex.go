package export

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// marks are the combining characters that accents of TeX stand for.
var marks = map[string]rune{
	"'": 0x301, "`": 0x300, "^": 0x302, `"`: 0x308, "~": 0x303, "=": 0x304, ".": 0x307,
	"u": 0x306, "v": 0x30c, "H": 0x30b, "c": 0x327, "k": 0x328, "r": 0x30a, "d": 0x323, "b": 0x331,
}

// letters are the characters that commands of TeX stand for.
var letters = map[string]string{
	"o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å", "AA": "Å", "i": "ı", "j": "ȷ",
	"&": "&", "%": "%", "#": "#", "_": "_", "$": "$", "{": "{", "}": "}", " ": " ",
}

// Plain turns the accents and special letters of TeX that occur in names and
// titles into Unicode, and drops braces outside of formulas. Commands that it
// does not know, and formulas between dollars, stay as they are.
func Plain(tex string) string {
	var out strings.Builder
	formula := false
	for tex != "" {
		switch c := tex[0]; {
		case c == '$':
			formula = !formula
			out.WriteByte('$')
			tex = tex[1:]
		case formula:
			out.WriteByte(c)
			tex = tex[1:]
		case c == '\\' && len(tex) > 1:
			text, rest := command(tex)
			out.WriteString(text)
			tex = rest
		case c == '{' || c == '}':
			tex = tex[1:]
		case c == '~':
			out.WriteByte(' ')
			tex = tex[1:]
		default:
			_, n := utf8.DecodeRuneInString(tex)
			out.WriteString(tex[:n])
			tex = tex[n:]
		}
	}
	return norm.NFC.String(out.String())
}

// command reads one command with its argument.
func command(tex string) (text, rest string) {
	name := tex[1:2]
	if isLetter(tex[1]) {
		end := 1
		for end < len(tex) && isLetter(tex[end]) {
			end++
		}
		name = tex[1:end]
	}
	rest = tex[1+len(name):]
	if letter, ok := letters[name]; ok {
		if isLetter(name[0]) {
			rest = strings.TrimLeft(rest, " ")
		}
		return letter, rest
	}
	if mark, ok := marks[name]; ok {
		argument := strings.TrimLeft(rest, " ")
		base, after := "", argument
		if strings.HasPrefix(argument, "{") {
			if end := strings.IndexByte(argument[:min(len(argument), 16)], '}'); end > 0 { // a letter or two, or no argument
				base, after = argument[1:end], argument[end+1:]
			}
		} else if r, n := utf8.DecodeRuneInString(argument); n > 0 && (unicode.IsLetter(r) || r == '\\') {
			base, after = argument[:n], argument[n:]
		}
		switch {
		case strings.HasPrefix(base, `\i`), base == `\` && strings.HasPrefix(after, "i"):
			after = strings.TrimPrefix(after, "i")
			base = "i"
		case strings.HasPrefix(base, `\j`), base == `\` && strings.HasPrefix(after, "j"):
			after = strings.TrimPrefix(after, "j")
			base = "j"
		}
		if r, n := utf8.DecodeRuneInString(base); n > 0 && unicode.IsLetter(r) {
			return string(r) + string(mark) + base[n:], after
		}
	}
	return `\` + name, rest
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
