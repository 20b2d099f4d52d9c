package web

import (
	"regexp"
	"strings"
)

// A name is something a reader may type or link to instead of a record's 26
// characters.
type name struct {
	kind  string // "pith", or the kind of an alias: arxiv, arxiv_version, doi
	value string // for pith: 8 to 26 characters in upper case; else as aliases are written
}

var (
	pithName = regexp.MustCompile(`^(?i:pith:)?(?:[0-9]{4}:)?([A-Za-z2-7]{8}|[A-Za-z2-7]{12}|[A-Za-z2-7]{16}|[A-Za-z2-7]{26})$`)
	arxivNew = regexp.MustCompile(`^[0-9]{4}\.[0-9]{4,5}(v[1-9][0-9]{0,3})?$`)
	arxivOld = regexp.MustCompile(`^([A-Za-z-]{2,12})(\.[A-Za-z]{2})?/([0-9]{7})(v[1-9][0-9]{0,3})?$`)
	doiName  = regexp.MustCompile(`^10\.[0-9]{4,9}/[!-~]{1,200}$`)
	prefixes = []string{
		"https://", "http://", "www.", "arxiv.org/abs/", "arxiv.org/pdf/", "arxiv:", "dx.doi.org/", "doi.org/", "doi:",
		"pith.science/pith/", "pith.science/paper/", "pith.science/p/",
	}
)

// parseName reads what people write: a Pith Number, long or short, in any case;
// an arXiv id of the new style or the old, with or without version; a DOI; and
// each of them as an address.
func parseName(text string) (name, bool) {
	text = strings.TrimSpace(text)
	if len(text) > 300 {
		return name{}, false
	}
	for _, prefix := range prefixes {
		if len(text) > len(prefix) && strings.EqualFold(text[:len(prefix)], prefix) {
			text = strings.TrimSpace(text[len(prefix):])
		}
	}
	if m := pithName.FindStringSubmatch(text); m != nil {
		return name{"pith", strings.ToUpper(m[1])}, true
	}
	if n, ok := arxivName(text); ok {
		return n, true
	}
	if doiName.MatchString(text) {
		return name{"doi", strings.ToLower(text)}, true
	}
	return name{}, false
}

// arxivName reads an arXiv id. The subject class of an old id (math.GT/0309136)
// is no part of it.
func arxivName(text string) (name, bool) {
	text = strings.TrimSuffix(text, ".pdf")
	id, version := text, ""
	if m := arxivNew.FindStringSubmatch(text); m != nil {
		version = m[1]
		id = strings.TrimSuffix(text, version)
	} else if m := arxivOld.FindStringSubmatch(text); m != nil {
		version = m[4]
		id = strings.ToLower(m[1]) + "/" + m[3]
	} else {
		return name{}, false
	}
	if version == "" {
		return name{"arxiv", id}, true
	}
	return name{"arxiv_version", id + version}, true
}

// pithID reports whether s could be a Pith Number, long or short, and returns
// it in upper case. It allocates nothing for one that is in upper case already.
func pithID(s string) (id string, ok bool) {
	switch len(s) {
	case 8, 12, 16, 26:
	default:
		return "", false
	}
	lower := false
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', '2' <= c && c <= '7':
		case 'a' <= c && c <= 'z':
			lower = true
		default:
			return "", false
		}
	}
	if lower {
		s = strings.ToUpper(s)
	}
	return s, true
}
