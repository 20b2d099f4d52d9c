package resolver

import (
	"strings"
	"unicode"
)

// FoldAlias returns an alias as look-ups compare it: kinds and values without
// regard to case, DOIs and arXiv ids without the address in front of them.
func FoldAlias(kind, value string) Alias {
	kind, value = strings.ToLower(strings.TrimSpace(kind)), strings.ToLower(strings.TrimSpace(value))
	var prefixes []string
	switch kind {
	case "doi":
		prefixes = []string{"https://doi.org/", "http://doi.org/", "https://dx.doi.org/", "http://dx.doi.org/", "doi:"}
	case "arxiv", "arxiv_version":
		prefixes = []string{"https://arxiv.org/abs/", "http://arxiv.org/abs/", "arxiv:"}
	}
	for _, prefix := range prefixes {
		value = strings.TrimPrefix(value, prefix)
	}
	return Alias{kind, value}
}

// maxWords bounds the work that one search can ask for.
const maxWords = 16

// QueryWords are the words of a query, the first sixteen.
func QueryWords(query string) []string {
	words := SearchWords(query)
	return words[:min(len(words), maxWords)]
}

// SearchWords cuts a text into the words that search compares: runs of letters
// and digits, in lower case.
func SearchWords(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// CutNumber cuts "pith:2018:CWPY..." into its year and its suffix.
func CutNumber(number string) (year, suffix string, ok bool) {
	rest, ok := strings.CutPrefix(number, "pith:")
	if !ok || len(rest) != len("2018:")+26 || rest[4] != ':' || !IsSuffix(rest[5:]) || strings.Trim(rest[:4], "0123456789") != "" {
		return "", "", false
	}
	return rest[:4], rest[5:], true
}

// IsSuffix reports whether s has the form of a suffix: 26 characters of base32
// in upper case.
func IsSuffix(s string) bool {
	return len(s) == 26 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
