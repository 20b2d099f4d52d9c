package report

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"fmt"
	"html/template"
	"io"
	"regexp"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// turning is the script that redraws a surface while it is dragged.
//
//go:embed surface.js
var turning string

// A Section is a heading with the pictures below it.
type Section struct {
	Title   string
	Text    string // may be empty
	Figures []Figure
}

// Page renders sections as one self-contained page: no links to elsewhere, light
// and dark. It is complete without scripts: numbers under the pointer and
// series that can be hidden are markup and style. The one script it carries
// turns surfaces.
func Page(title string, sections []Section) ([]byte, error) {
	var colors []string
	for _, c := range series {
		colors = append(colors, hex(c))
	}
	var b bytes.Buffer
	err := pageTemplate.ExecuteTemplate(&b, "analysis", struct {
		Title    string
		Sections []Section
		Colors   []string
		Script   template.JS
	}{title, sections, colors, template.JS(turning)})
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return b.Bytes(), nil
}

// WriteCSV writes the numbers behind the picture.
func (f Figure) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	if err := c.Write(f.Table.Head); err != nil {
		return err
	}
	return c.WriteAll(f.Table.Rows)
}

// pageColor is a colour that follows the page, with the one of paper in it.
var pageColor = regexp.MustCompile(`var\(--[a-z0-9-]+,(#[0-9A-F]{6})\)`)

// strip is the room below a picture for the command that made it.
const strip vg.Length = 12

// Stamp writes a command into the pictures that do not say yet what made them.
func Stamp(sections []Section, command string) {
	for _, s := range sections {
		for i := range s.Figures {
			s.Figures[i].stamp(command)
		}
	}
}

// stamp writes into the picture which command made it.
func (f *Figure) stamp(command string) {
	if f.SVG == "" || f.made != "" || command == "" {
		return
	}
	if r := []rune(command); len(r) > 90 {
		command = string(r[:89]) + "…"
	}
	f.made = command
	svg := string(f.SVG)
	svg = strings.Replace(svg, viewBox(figureHeight), viewBox(figureHeight+strip), 1)
	end := strings.LastIndex(svg, "</svg>")
	f.SVG = template.HTML(fmt.Sprintf(`%s<text x="6" y="%g" style="font-family:'Liberation Sans',Arial,Helvetica,sans-serif;font-size:7.5px;fill:var(--muted,%s)">%s</text>%s`, //nolint:gosec // escaped
		svg[:end], float64(figureHeight+strip-3), hex(muted), template.HTMLEscapeString(command), svg[end:]))
}

func viewBox(height vg.Length) string {
	return fmt.Sprintf(`viewBox="0 0 %g %g"`, float64(figureWidth), float64(height))
}

// height of the picture with what stands below it.
func (f Figure) height() vg.Length {
	if f.made != "" {
		return figureHeight + strip
	}
	return figureHeight
}

// StandaloneSVG is the picture as a file of its own, in the colours of paper.
func (f Figure) StandaloneSVG() []byte {
	svg := pageColor.ReplaceAllString(string(f.SVG), "$1")
	size := fmt.Sprintf(`<svg width="%gpt" height="%gpt" style="background:#fff" `, float64(figureWidth), float64(f.height()))
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + strings.Replace(svg, "<svg ", size, 1))
}

// WritePNG draws the picture on white, at 300 dots per inch.
func (f Figure) WritePNG(w io.Writer) error {
	if f.plot == nil {
		return fmt.Errorf("%w: %s has no picture", ErrNothing, f.Title)
	}
	c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(figureWidth, f.height()), vgimg.UseDPI(300))}
	whole := draw.New(c)
	f.plot.Draw(draw.Crop(whole, 2*vg.Millimeter, -2*vg.Millimeter, 2*vg.Millimeter+f.height()-figureHeight, -2*vg.Millimeter))
	if f.made != "" {
		style := f.plot.X.Label.TextStyle
		style.Font.Size, style.Color = 7, muted
		style.XAlign, style.YAlign = draw.XLeft, draw.YBottom
		whole.FillText(style, vg.Point{X: 6, Y: 4}, f.made)
	}
	_, err := c.WriteTo(w)
	return err
}
