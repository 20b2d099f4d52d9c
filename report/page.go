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

// StandaloneSVG is the picture as a file of its own, in the colours of paper.
func (f Figure) StandaloneSVG() []byte {
	svg := pageColor.ReplaceAllString(string(f.SVG), "$1")
	size := fmt.Sprintf(`<svg width="%gpt" height="%gpt" style="background:#fff" `, float64(figureWidth), float64(figureHeight))
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + strings.Replace(svg, "<svg ", size, 1))
}

// WritePNG draws the picture on white, at 300 dots per inch.
func (f Figure) WritePNG(w io.Writer) error {
	if f.plot == nil {
		return fmt.Errorf("%w: %s has no picture", ErrNothing, f.Title)
	}
	c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(figureWidth, figureHeight), vgimg.UseDPI(300))}
	f.plot.Draw(draw.Crop(draw.New(c), 2*vg.Millimeter, -2*vg.Millimeter, 2*vg.Millimeter, -2*vg.Millimeter))
	_, err := c.WriteTo(w)
	return err
}
