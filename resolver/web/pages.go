package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"strconv"
	"strings"
	"time"
)

//go:embed templates/*.gohtml
var templateFiles embed.FS

//go:embed assets/style.css
var style string

//go:embed assets/favicon.svg
var favicon []byte

// styleHash lets the page's own style sheet, and no other, pass the content
// security policy.
var styleHash = func() string {
	sum := sha256.Sum256([]byte(style))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"style":      func() template.CSS { return template.CSS(style) },
	"join":       func(list []string, by string) string { return strings.Join(list, by) },
	"date":       func(t time.Time) string { return formatTime(t, "2 January 2006") },
	"datetime":   func(t time.Time) string { return formatTime(t, "2 January 2006, 15:04 UTC") },
	"rfc3339":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"relation":   relationWords,
	"aliasKind":  aliasKind,
	"firstUpper": firstUpper, "scheme": identityScheme,
	"n": thousands[int64],
}).ParseFS(templateFiles, "templates/*.gohtml"))

func formatTime(t time.Time, layout string) string {
	if t.IsZero() {
		return "an unknown day"
	}
	return t.UTC().Format(layout)
}

func aliasKind(kind string) string {
	if length, ok := strings.CutPrefix(kind, "pith_short_"); ok {
		return "first " + length
	}
	switch kind {
	case "arxiv":
		return "arXiv"
	case "arxiv_version":
		return "arXiv version"
	case "doi":
		return "DOI"
	}
	return kind
}

// thousands writes a count with thin spaces between its thousands.
func thousands[T ~int | ~int64 | ~uint64](x T) string {
	s := strconv.FormatInt(int64(x), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u2009" + s[i:]
	}
	return s
}

// A page is what the frame around every page needs to know.
type page struct {
	Title, Description string
	Mirror             string // the name of this mirror
	At                 string // which entry of the menu this is
	Canonical          string
	Alternates         []offer
}

// An offer is one of the forms in which a record can be had.
type offer struct{ Name, Type, URL string }

// render fills in a template. Templates that fail to render are faults of ours,
// so the page is made as a whole before its first byte is sent.
func render(name string, data any) ([]byte, error) {
	var out bytes.Buffer
	err := templates.ExecuteTemplate(&out, name, data)
	return out.Bytes(), err
}

type recordPage struct {
	Page    page
	Record  *recordView
	Exports []offer
	LaTeX   string
	Embed   string // HTML of the badge
	Recipe  string // three lines of shell
}
