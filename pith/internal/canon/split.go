package canon

import "bufio"

// SplitValues returns a function that lets a bufio.Scanner cut a stream into
// the JSON values it consists of, written one after another with or without
// white space between them. It looks at brackets and quotes alone; whether a
// piece is good JSON, Parse decides. Use a fresh function for every stream.
func SplitValues() bufio.SplitFunc {
	var (
		at       int // bytes of data already seen
		depth    int
		inString bool
		escaped  bool
	)
	return func(data []byte, atEOF bool) (int, []byte, error) {
		start := 0
		for start < len(data) && isSpace(data[start]) {
			start++
		}
		if start == len(data) {
			at = 0
			return start, nil, nil
		}
		cut := func(end int) (int, []byte, error) {
			at, depth, inString, escaped = 0, 0, false, false
			return end, data[start:end], nil
		}
		for i := max(at, start); i < len(data); i++ {
			c := data[i]
			switch {
			case escaped:
				escaped = false
			case inString:
				escaped = c == '\\'
				if c == '"' {
					inString = false
					if depth == 0 {
						return cut(i + 1)
					}
				}
			case depth == 0 && i > start && (isSpace(c) || c == '{' || c == '[' || c == '"'):
				return cut(i) // the end of a bare word or number
			case c == '"':
				inString = true
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				if depth--; depth <= 0 {
					return cut(i + 1)
				}
			}
		}
		if atEOF {
			return cut(len(data))
		}
		at = len(data)
		return 0, nil, nil
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
