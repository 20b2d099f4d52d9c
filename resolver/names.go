package resolver

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
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

// FoldAliases folds a list of aliases, of which several can become one.
func FoldAliases(list []Alias) map[Alias]bool {
	folded := map[Alias]bool{}
	for _, a := range list {
		folded[FoldAlias(a.Kind, a.Value)] = true
	}
	return folded
}

// maxWords bounds the work that one search can ask for.
const maxWords = 16

// QueryWords are the words of a query, the first sixteen.
func QueryWords(query string) []string {
	words := SearchWords(query)
	return words[:min(len(words), maxWords)]
}

// Bounds of what of one text is indexed, so that nobody's text is too much for an
// index: PostgreSQL takes a megabyte of words for a record.
const (
	maxIndexed  = 8192 // words
	maxWordSize = 96   // bytes of a word
)

// SearchTexts are the texts in which Search looks for words, the weightiest first:
// title, authors, categories, abstract.
func (r *Record) SearchTexts() [4]string {
	return [4]string{r.Title, r.Authors, strings.Join(r.Categories, " "), r.Abstract}
}

// SearchWords cuts a text into the words that search compares, in every store
// the same: runs of letters, digits and vowel signs, in lower case, without the
// accents that Latin, Greek and Cyrillic letters bear, ligatures taken apart. Of a
// long word its beginning counts, of a long text its first 8,192 words.
func SearchWords(text string) []string {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			text = fold(text)
			break
		}
	}
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		if r < utf8.RuneSelf { // nearly all of them
			return (r < 'a' || r > 'z') && (r < '0' || r > '9')
		}
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r)
	})
	words = words[:min(len(words), maxIndexed)]
	for i, w := range words {
		if len(w) > maxWordSize {
			words[i] = strings.ToValidUTF8(w[:maxWordSize], "")
		}
	}
	return words
}

// fold takes letters apart and drops the accents of Europe's scripts. Marks of
// other scripts are vowels, which make another word.
func fold(text string) string {
	apart := strings.Map(func(r rune) rune {
		if r >= 0x300 && r < 0x370 { // combining diacritical marks
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(text))
	return norm.NFC.String(apart) // syllables of Hangul are one letter again
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
