package web

import (
	"strings"
	"testing"
)

func TestNegotiate(t *testing.T) {
	const profile = "https://w3id.org/ro/crate"
	offers := []mediaType{{"text/html", ""}, {"application/ld+json", ""}, {"application/json", ""}, {"application/ld+json", profile}, {"application/x-bibtex", ""}}
	for accept, want := range map[string]int{
		"":                                     0,
		"*/*":                                  0,
		"text/html":                            0,
		"application/ld+json":                  1,
		"application/ld+json, text/html;q=0.5": 1,
		"text/html;q=0.5, application/json;q=0.6":                                               2,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": 0,
		"application/*":                                 1,
		"application/*, text/html;q=0":                  1,
		"*/*;q=0.1, application/x-bibtex":               4,
		"*/*, text/html;q=0":                            1,
		"image/png":                                     -1,
		"text/html;q=0":                                 -1,
		"text/html;q=2":                                 -1,
		"text/html;q=x, application/json":               2,
		`application/ld+json;profile="` + profile + `"`: 3,
		`application/ld+json;profile="` + profile + `", text/html;q=0.9`: 3,
		`application/ld+json;profile="https://example.org/a,b"`:          1,
		"TEXT/HTML": 0,
		";;;, ,,":   -1,
		strings.Repeat("image/png,", 70) + "text/html": -1, // beyond the bound
	} {
		if got := negotiate(accept, offers); got != want {
			t.Errorf("%q: %d, want %d", accept, got, want)
		}
	}
}

func FuzzNegotiate(f *testing.F) {
	f.Add(`application/ld+json;profile="a,b";q=0.3, */*;q=0.1`)
	offers := []mediaType{{"text/html", ""}, {"application/ld+json", "a,b"}}
	f.Fuzz(func(t *testing.T, accept string) {
		if got := negotiate(accept, offers); got < -1 || got >= len(offers) {
			t.Errorf("%q: %d", accept, got)
		}
	})
}
