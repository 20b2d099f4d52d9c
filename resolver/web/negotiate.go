package web

import (
	"mime"
	"strconv"
	"strings"
)

// Bounds on what a reader's headers may make us do.
const (
	maxAccept = 2 << 10 // bytes of Accept that are read
	maxRanges = 64      // media ranges that are read
)

// A mediaType is one of the forms that something is offered in.
type mediaType struct {
	essence string // "application/ld+json"
	profile string // value of the profile parameter, "" for none
}

// negotiate returns the index of the offer that an Accept header (RFC 9110
// §12.5.1) prefers, the first of several, or -1 if it takes none of them. An
// empty header takes anything.
func negotiate(accept string, offers []mediaType) int {
	if strings.TrimSpace(accept) == "" {
		return 0
	}
	ranges := splitQuoted(accept[:min(len(accept), maxAccept)], ',')
	quality := make([]float64, len(offers))
	rank := make([]int, len(offers)) // how exactly the range that decided matched; 0: none
	for _, r := range ranges[:min(len(ranges), maxRanges)] {
		essence, params, err := mime.ParseMediaType(strings.TrimSpace(r))
		if err != nil {
			continue
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil || !(q >= 0 && q <= 1) {
				continue
			}
		}
		for i, offer := range offers {
			exact := match(essence, params["profile"], offer)
			if exact > rank[i] || exact > 0 && exact == rank[i] && q > quality[i] {
				rank[i], quality[i] = exact, q
			}
		}
	}
	best := -1
	for i, q := range quality {
		if q > 0 && (best < 0 || q > quality[best] || q == quality[best] && rank[i] > rank[best]) {
			best = i
		}
	}
	return best
}

// match says how exactly a media range means an offer: 0 not at all, 1 as */*,
// 2 by its type, 3 wholly, 4 with the profile. An offer with a profile is given
// to those alone who ask for the profile.
func match(essence, profile string, offer mediaType) int {
	switch {
	case essence == offer.essence && profile != "" && profile == offer.profile:
		return 4
	case offer.profile != "":
		return 0
	case essence == offer.essence:
		return 3
	case strings.HasSuffix(essence, "/*") && strings.HasPrefix(offer.essence, essence[:len(essence)-1]):
		return 2
	case essence == "*/*":
		return 1
	}
	return 0
}

// splitQuoted cuts s at a separator that stands outside of quoted strings.
func splitQuoted(s string, separator byte) []string {
	var out []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == separator && !quoted:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}
