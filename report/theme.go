package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"regexp"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Size of every picture, in points. A phone shows it at its natural size, so
// that the labels stay readable; wider screens put two side by side.
const (
	figureWidth  vg.Length = 380
	figureHeight vg.Length = 270
)

// The colours of the light page. In the report each one becomes a CSS
// variable, so that the same picture follows the reader into a dark page; a
// picture that is taken out of the page keeps these.
//
// The colours of the arms are from Okabe and Ito's palette, which stays
// distinct for colour-blind readers; shapes tell the arms apart as well.
var (
	ink    = color.NRGBA{0x22, 0x26, 0x2c, 0xff} // text and axes
	faint  = color.NRGBA{0xd9, 0xdc, 0xe1, 0xff} // grid
	muted  = color.NRGBA{0x8a, 0x90, 0x99, 0xff} // reference lines
	pair   = color.NRGBA{0xb0, 0xb6, 0xbf, 0xff} // lines that join the runs of a seed
	series = []color.NRGBA{
		{0x5b, 0x62, 0x6b, 0xff}, // the baseline: grey
		{0x00, 0x72, 0xb2, 0xff},
		{0xd5, 0x5e, 0x00, 0xff},
		{0x00, 0x9e, 0x73, 0xff},
		{0xcc, 0x79, 0xa7, 0xff},
		{0xb8, 0x86, 0x0b, 0xff},
	}
)

var glyphs = []draw.GlyphDrawer{
	draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{},
}

func colorOf(i int) color.NRGBA      { return series[i%len(series)] }
func glyphOf(i int) draw.GlyphDrawer { return glyphs[i%len(glyphs)] }
func hex(c color.NRGBA) string       { return fmt.Sprintf("#%02X%02X%02X", c.R, c.G, c.B) }

func translucent(c color.NRGBA, alpha uint8) color.NRGBA {
	c.A = alpha
	return c
}

// cssVariable names the variable of the page's style sheet that stands for a
// colour as the drawing library wrote it. Translucent colours come back with
// rounding errors, so near is good enough.
func cssVariable(written string) (name string, ok bool) {
	var r, g, b uint8
	if _, err := fmt.Sscanf(written, "#%02X%02X%02X", &r, &g, &b); err != nil {
		return "", false
	}
	near := func(c color.NRGBA) bool {
		diff := func(x, y uint8) int { return max(int(x)-int(y), int(y)-int(x)) }
		return max(diff(r, c.R), diff(g, c.G), diff(b, c.B)) <= 2
	}
	switch {
	case near(ink):
		return "--ink", true
	case near(faint):
		return "--faint", true
	case near(muted):
		return "--muted", true
	case near(pair):
		return "--pair", true
	}
	for i, c := range series {
		if near(c) {
			return fmt.Sprintf("--series-%d", i), true
		}
	}
	return "", false
}

// newPlot is an empty picture in the report's style.
func newPlot(xLabel, yLabel string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil // the page's
	p.X.Label.Text, p.Y.Label.Text = xLabel, yLabel
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color = ink
		axis.Label.TextStyle.Color = ink
		axis.Label.TextStyle.Font.Variant = "Sans"
		axis.Label.TextStyle.Font.Size = 11
		axis.Tick.Label.Color = ink
		axis.Tick.Label.Font.Variant = "Sans"
		axis.Tick.Label.Font.Size = 10
		axis.Tick.Color = ink
		axis.Tick.Length = 4
		axis.Padding = 4
		axis.Tick.Marker = roundTicks{}
	}
	p.Legend.TextStyle.Color = ink
	p.Legend.TextStyle.Font.Variant = "Sans"
	p.Legend.TextStyle.Font.Size = 10
	p.Legend.ThumbnailWidth = 22
	p.Legend.Padding = 2
	return p
}

// roundTicks labels an axis at multiples of 1, 2 or 5 times a power of ten, at
// least atLeast apart.
type roundTicks struct{ atLeast float64 }

func (r roundTicks) Ticks(low, high float64) []plot.Tick {
	const wanted = 5
	span := high - low
	if !(span > 0) || math.IsInf(span, 1) {
		return nil
	}
	step := math.Pow(10, math.Floor(math.Log10(span/wanted)))
	for _, m := range []float64{2, 2.5, 2} { // 1, 2, 5, 10
		if span/step <= wanted+1 {
			break
		}
		step *= m
	}
	step = math.Max(step, r.atLeast)
	decimals := max(0, int(math.Ceil(-math.Log10(step)-1e-9)))
	var ticks []plot.Tick
	for k := math.Ceil(low / step); k*step <= high && len(ticks) < 20; k++ {
		v := k*step + 0 // no -0
		label := strconv.FormatFloat(v, 'f', decimals, 64)
		if math.Abs(v) >= 1e5 || decimals > 5 {
			label = strconv.FormatFloat(v, 'g', 3, 64)
		}
		ticks = append(ticks, plot.Tick{Value: v, Label: label})
	}
	return ticks
}

// widen leaves room between what is drawn and the ends of an axis.
func widen(a *plot.Axis) {
	margin := 0.05 * (a.Max - a.Min)
	a.Min, a.Max = a.Min-margin, a.Max+margin
}

var (
	// Only style attributes are the drawing library's own words; in the texts
	// between tags it escapes the quotes, so no label looks like one.
	anyStyle = regexp.MustCompile(`style="[^"]*"`)
	anyColor = regexp.MustCompile(`#[0-9A-F]{6}`)
	svgSize  = regexp.MustCompile(`width="[^"]*" height="[^"]*" viewBox`)
)

// libraryFont is what the drawing library says of every text. The picture says
// it once.
const libraryFont = "font-family:Liberation Sans;font-variant:normal;font-weight:normal;font-style:normal;"

var (
	filled   = regexp.MustCompile(`^<path d="(M([^L"]*)[^"]*)Z" style="fill:[^";]*" />$`)
	outlined = regexp.MustCompile(`^<path d="([^"]*)" style="fill:none;([^"]*)" />$`)
)

// joinOutlines makes one path of an area and of the line around it, which the
// drawing library writes one after the other, and says once how the lines of
// neighbours are drawn: half of a surface's size.
func joinOutlines(svg string) string {
	lines := strings.Split(svg, "\n")
	var out []string
	edge := "" // of the group that is open
	group := func(style string) {
		if edge != "" && edge != style {
			out = append(out, "</g>")
		}
		if style != "" && edge != style {
			out = append(out, `<g style="`+style+`">`)
		}
		edge = style
	}
	for len(lines) > 0 {
		if len(lines) > 1 {
			area, line := filled.FindStringSubmatch(lines[0]), outlined.FindStringSubmatch(lines[1])
			if area != nil && line != nil && line[1] == area[1]+"L"+area[2] {
				group(line[2])
				out = append(out, lines[0])
				lines = lines[2:]
				continue
			}
		}
		group("")
		out = append(out, lines[0])
		lines = lines[1:]
	}
	return strings.Join(out, "\n")
}

// render draws p as an SVG element for the page. alt says what the picture
// shows to those who cannot see it.
func render(p *plot.Plot, alt string) template.HTML {
	c := &recorder{Canvas: vgsvg.New(figureWidth, figureHeight)}
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		panic(fmt.Sprintf("report: writing to memory failed: %v", err))
	}
	svg := b.String()
	svg = svg[strings.Index(svg, "<svg"):] // drop the XML prolog
	svg = joinOutlines(svg)
	svg = anyStyle.ReplaceAllStringFunc(svg, func(style string) string {
		style = strings.ReplaceAll(style, libraryFont, "")
		return anyColor.ReplaceAllStringFunc(style, func(c string) string {
			if name, ok := cssVariable(c); ok {
				return "var(" + name + "," + c + ")"
			}
			return c
		})
	})
	svg = svgSize.ReplaceAllString(svg, "viewBox")
	if marks := c.marks.String(); marks != "" {
		end := strings.LastIndex(svg, "</svg>")
		svg = svg[:end] + `<g class="marks" fill="transparent">` + marks + "</g>" + svg[end:]
	}
	label := template.HTMLEscapeString(alt)
	svg = strings.Replace(svg, "<svg ", `<svg role="img" aria-label="`+label+`" font-family="'Liberation Sans',Arial,Helvetica,sans-serif" `, 1)
	return template.HTML(svg) //nolint:gosec // every text in it was escaped by the drawing library
}
