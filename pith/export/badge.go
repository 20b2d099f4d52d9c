package export

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

// LaTeX returns the lines that put the badge into a paper, behind comments that
// tell who has taken it back.
func (r *Record) LaTeX() []byte {
	var out []byte
	for _, sentence := range r.taken() { // in comments, which end with the line
		out = fmt.Appendf(out, "%% %s\n", strings.Join(strings.Fields(sentence), " "))
	}
	return fmt.Appendf(out, "\\usepackage{pith}\n\\pithnumber{%s}\n", r.suffix())
}

// SVG returns a badge that names the record and links to it. It says nothing
// about its being valid: a picture cannot. That a trusted signer has taken the
// paper back, it does say.
func (r *Record) SVG() []byte {
	const (
		height    = 20
		character = 7.2 // pixels, of the 11 pixel monospace below with some air
		padding   = 8
	)
	left, right := "pith", r.PithNumber[len("pith:"):len("pith:")+len("2018:CWPYLZDW")]
	color := "#1f6f54"
	if status := r.status(); status != "" {
		left, color = left+" "+status, "#a3231f"
	}
	a := int(float64(len(left))*character) + 2*padding
	b := int(float64(len(right))*character) + 2*padding
	var title bytes.Buffer
	_ = xml.EscapeText(&title, []byte(strings.Join(append([]string{r.PithNumber + " " + Plain(r.heading())}, r.taken()...), ". "))) // a Buffer takes everything
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" role="img" aria-label="%[3]s">
<title>%[3]s</title>
<a href="%[4]s">
<clipPath id="r"><rect width="%[1]d" height="%[2]d" rx="3"/></clipPath>
<g clip-path="url(#r)"><rect width="%[5]d" height="%[2]d" fill="#3b3b3b"/><rect x="%[5]d" width="%[6]d" height="%[2]d" fill="%[11]s"/></g>
<g fill="#fff" font-family="ui-monospace,Menlo,Consolas,monospace" font-size="11" text-anchor="middle">
<text x="%[7]d" y="14">%[8]s</text><text x="%[9]d" y="14">%[10]s</text>
</g></a></svg>
`, a+b, height, title.String(), r.URL(), a, b, a/2, left, a+b/2, right, color)
}
