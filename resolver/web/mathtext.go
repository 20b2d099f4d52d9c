package web

import (
	"strings"

	"github.com/openpith/evidence/pith/export"
)

// plainTitle turns the TeX of a title into text: accents by export.Plain, and
// formulas that consist of nothing but letters, digits and known symbols into
// Unicode. A formula that does not stays as its author wrote it, with its
// dollars.
func plainTitle(tex string) string { return plainText(tex) }

func plainText(tex string) string {
	text := strings.Join(strings.Fields(export.Plain(tex)), " ")
	parts := strings.Split(text, "$")
	if len(parts) < 3 || len(parts)%2 == 0 { // a dollar without its partner is a dollar
		return text
	}
	for i := 1; i < len(parts); i += 2 {
		if formula, ok := mathText(parts[i]); ok {
			parts[i] = formula
		} else {
			parts[i] = "$" + parts[i] + "$"
		}
	}
	return strings.Join(parts, "")
}

var symbols = map[string]string{
	"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
	"theta": "θ", "vartheta": "ϑ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π",
	"rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "ϕ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω",
	"Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Upsilon": "Υ",
	"Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "ell": "ℓ", "hbar": "ħ", "infty": "∞", "partial": "∂", "nabla": "∇",
	"times": "×", "cdot": "·", "pm": "±", "mp": "∓", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠",
	"approx": "≈", "sim": "∼", "simeq": "≃", "equiv": "≡", "propto": "∝", "ll": "≪", "gg": "≫", "in": "∈", "subset": "⊂",
	"to": "→", "rightarrow": "→", "leftarrow": "←", "otimes": "⊗", "oplus": "⊕", "ldots": "…", "dots": "…", "circ": "∘",
	"star": "⋆", "ast": "∗", "dagger": "†", "prime": "′", "sum": "∑", "prod": "∏", "int": "∫", "sqrt": "√", "odot": "⊙",
	"log": "log", "exp": "exp", "sin": "sin", "cos": "cos", "max": "max", "min": "min", "deg": "deg", "dim": "dim",
	"mathbb": "", "mathcal": "", "mathrm": "", "mathbf": "", "rm": "", "bf": "", "it": "", "text": "", "left": "", "right": "", ",": "\u2009", ";": " ", "!": "",
}

var doubleStruck = map[rune]string{'C': "ℂ", 'N': "ℕ", 'P': "ℙ", 'Q': "ℚ", 'R': "ℝ", 'Z': "ℤ", 'H': "ℍ"}

var (
	superscripts = map[rune]rune{'0': '⁰', '1': '¹', '2': '²', '3': '³', '4': '⁴', '5': '⁵', '6': '⁶', '7': '⁷', '8': '⁸', '9': '⁹', '+': '⁺', '-': '⁻', '−': '⁻', 'n': 'ⁿ', 'i': 'ⁱ', '*': '*', '∗': '*', '′': '′', '†': '†', '∘': '°', '°': '°'}
	subscripts   = map[rune]rune{'0': '₀', '1': '₁', '2': '₂', '3': '₃', '4': '₄', '5': '₅', '6': '₆', '7': '₇', '8': '₈', '9': '₉', '+': '₊', '-': '₋', '−': '₋', 'n': 'ₙ', 'i': 'ᵢ', 'j': 'ⱼ', 'k': 'ₖ', 'm': 'ₘ', 'x': 'ₓ', 'p': 'ₚ', 's': 'ₛ', 't': 'ₜ', 'e': 'ₑ', 'o': 'ₒ', 'a': 'ₐ', 'h': 'ₕ', 'l': 'ₗ', 'r': 'ᵣ', 'u': 'ᵤ', 'v': 'ᵥ'}
)

// mathText writes a formula in one line of Unicode, if it can.
func mathText(tex string) (string, bool) {
	var out strings.Builder
	for tex != "" {
		item, rest, ok := mathItem(tex)
		if !ok {
			return "", false
		}
		out.WriteString(item)
		tex = rest
	}
	return out.String(), true
}

// mathItem reads one command, group, script or character.
func mathItem(tex string) (item, rest string, ok bool) {
	switch c := tex[0]; c {
	case '\\':
		end := 1
		for end < len(tex) && isLetter(tex[end]) {
			end++
		}
		if end == 1 && len(tex) > 1 {
			end = 2
		}
		command := tex[1:end]
		text, known := symbols[command]
		rest = tex[end:]
		if end > 2 {
			rest = strings.TrimLeft(rest, " ")
		}
		if command == "mathbb" && rest != "" {
			letter, after, fine := mathItem(rest)
			if r := []rune(letter); fine && len(r) == 1 && doubleStruck[r[0]] != "" {
				return doubleStruck[r[0]], after, true
			}
			return "", "", false
		}
		return text, rest, known
	case '{':
		end := closing(tex)
		if end < 0 {
			return "", "", false
		}
		item, ok = mathText(tex[1:end])
		return item, tex[end+1:], ok
	case '^', '_':
		rest = strings.TrimLeft(tex[1:], " ")
		if rest == "" || rest[0] == '^' || rest[0] == '_' {
			return "", "", false
		}
		argument, after, fine := mathItem(rest)
		if !fine {
			return "", "", false
		}
		table := superscripts
		if c == '_' {
			table = subscripts
		}
		var script strings.Builder
		for _, r := range argument {
			s, there := table[r]
			if !there {
				return "", "", false
			}
			script.WriteRune(s)
		}
		return script.String(), after, true
	case '}', '&', '#', '%', '~':
		return "", "", false
	case '-':
		return "−", tex[1:], true
	case '\'':
		return "′", tex[1:], true
	}
	for i := range tex {
		if i > 0 {
			return tex[:i], tex[i:], true
		}
	}
	return tex, "", true
}

// closing finds the brace that closes the one at the start, -1 for none.
func closing(tex string) int {
	depth := 0
	for i := 0; i < len(tex); i++ {
		switch tex[i] {
		case '\\':
			i++
		case '{':
			if depth++; depth > 4 {
				return -1
			}
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
