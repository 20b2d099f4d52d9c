package export

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// A title comes from a stranger and ends in somebody's paper, where TeX runs it
// and BibTeX counts its braces, those behind a backslash included. So what is
// written is built from a few things that can do no harm: text, braces in pairs,
// accents, letters, escaped signs, and formulas of well-known commands. All else
// is printed as the characters it consists of.

// signs are the characters that TeX reads as something else than themselves.
var signs = map[rune]string{
	'%': `\%`, '&': `\&`, '#': `\#`, '_': `\_`, '$': `\$`,
	'^': `\textasciicircum{}`, '\\': `\textbackslash{}`,
}

// escaped are the signs that may stand behind a backslash. Braces get names:
// BibTeX would count them.
var escaped = map[string]string{
	`%`: `\%`, `&`: `\&`, `#`: `\#`, `_`: `\_`, `$`: `\$`, ` `: ` `, `\`: ` `, `,`: `\,`, `-`: `\-`,
	`{`: `\textbraceleft{}`, `}`: `\textbraceright{}`,
}

// mathematics are the commands that may stand in a formula.
var mathematics = func() map[string]bool {
	names := map[string]bool{}
	for name := range strings.FieldsSeq(`
		alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi varpi rho varrho sigma
		varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
		ell hbar imath jmath infty partial nabla forall exists emptyset Re Im aleph wp prime dagger ddagger star ast circ bullet
		times div cdot pm mp oplus otimes odot wedge vee cap cup setminus
		leq geq le ge neq ne ll gg sim simeq approx equiv cong propto in ni notin subset subseteq supset supseteq perp parallel mid
		to rightarrow leftarrow Rightarrow Leftarrow leftrightarrow mapsto longrightarrow uparrow downarrow gets
		sum prod int oint sqrt frac tfrac dfrac binom log ln exp sin cos tan min max sup inf lim det dim ker Pr arg
		mathbb mathbf mathcal mathfrak mathit mathrm mathsf mathscr boldsymbol bm text operatorname rm bf it cal
		hat bar tilde vec dot ddot overline underline widehat widetilde
		left right big Big bigg Bigg langle rangle lfloor rfloor lceil rceil lbrace rbrace lvert rvert lVert rVert
		ldots cdots dots quad not`) {
		names[name] = true
	}
	return names
}()

// texSafe keeps the accents, letters and formulas of TeX in a text of one line,
// with its braces if they are in pairs. Every brace in the result is one of a
// pair, as BibTeX counts.
func texSafe(s string) string {
	var pieces []string
	depth, paired := 0, true
	for s = strings.Join(strings.Fields(s), " "); s != ""; {
		var piece string
		switch r, n := utf8.DecodeRuneInString(s); {
		case r == '\\':
			piece, s = textCommand(s)
		case r == '$':
			piece, s = formula(s)
		case r == '{' || r == '}':
			if r == '}' {
				depth--
			} else {
				depth++
			}
			paired = paired && depth >= 0
			piece, s = s[:n], s[n:]
		default:
			if piece = signs[r]; piece == "" {
				piece = s[:n]
			}
			s = s[n:]
		}
		pieces = append(pieces, piece)
	}
	var out strings.Builder
	for _, piece := range pieces {
		if loose := piece == "{" || piece == "}"; !loose || paired && depth == 0 {
			out.WriteString(piece)
		}
	}
	return strings.TrimSpace(out.String())
}

// textCommand writes the command at the start of s, and returns what follows it.
func textCommand(s string) (piece, rest string) {
	name, after := commandName(s)
	if name == "" {
		return signs['\\'], s[1:]
	}
	if text, ok := escaped[name]; ok {
		return text, after
	}
	if _, ok := letters[name]; ok && isLetter(name[0]) {
		return `{\` + name + `}`, strings.TrimLeft(after, " ")
	}
	if _, ok := marks[name]; ok {
		if argument := accented.FindStringSubmatch(after); argument != nil {
			return `\` + name + `{` + argument[1] + argument[2] + argument[3] + `}`, after[len(argument[0]):]
		}
	}
	return signs['\\'], s[1:]
}

// accented is what an accent stands on: a letter, or i and j without their dots.
var accented = regexp.MustCompile(`^ *(?:\{(\\?[ij]|\pL)\}|(\\[ij])(?: +|\b)|(\pL))`)

// commandName cuts the name of the command from the start of s: letters, or one
// other character.
func commandName(s string) (name, rest string) {
	end := 1
	for end < len(s) && isLetter(s[end]) {
		end++
	}
	if end == 1 && len(s) > 1 && s[1] < utf8.RuneSelf {
		end = 2
	}
	return s[1:end], s[end:]
}

// formula writes the formula at the start of s, or a dollar if there is none.
func formula(s string) (piece, rest string) {
	var out strings.Builder
	out.WriteByte('$')
	depth := 0
	for rest = s[1:]; rest != ""; {
		switch r, n := utf8.DecodeRuneInString(rest); {
		case r == '$':
			if depth != 0 || out.Len() == 1 {
				return signs['$'], s[1:]
			}
			return out.String() + "$", rest[n:]
		case r == '\\':
			name, after := commandName(rest)
			switch {
			case mathematics[name]:
				out.WriteString(`\` + name)
			case name == "{" || name == "}":
				out.WriteString(map[string]string{"{": `\lbrace `, "}": `\rbrace `}[name])
			case len(name) == 1 && strings.Contains(`,;:! |%&#_$`, name):
				out.WriteString(`\` + name)
			default:
				return signs['$'], s[1:]
			}
			rest = after
		default:
			switch r {
			case '^':
				// TeX reads ^^5c as a backslash, before anything else.
				if strings.HasPrefix(rest, "^^") {
					return signs['$'], s[1:]
				}
			case '{':
				depth++
			case '}':
				depth--
			case '%', '&', '#':
				out.WriteByte('\\')
			}
			if depth < 0 {
				return signs['$'], s[1:]
			}
			out.WriteString(rest[:n])
			rest = rest[n:]
		}
	}
	return signs['$'], s[1:]
}
