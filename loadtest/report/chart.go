package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// Chart is a plot of lines.
type Chart struct {
	Title string `json:"title"`
	X     Axis   `json:"x"`
	Y     Axis   `json:"y"`
	Lines []Line `json:"lines"`
}

// Axis is one direction of a chart.
type Axis struct {
	Label string `json:"label"`
	Log   bool   `json:"log,omitempty"`
	// Ticks are where the axis is labelled; nil: chosen by the values.
	Ticks []Tick `json:"-"`
	// Format writes a value; nil: as a number.
	Format func(float64) string `json:"-"`
}

// Micros is the Format of an axis in microseconds.
func Micros(us float64) string { return duration(us) }

// Bytes is the Format of an axis in bytes.
func Bytes(n float64) string { return size(n) }

// Tick is a label of an axis.
type Tick struct {
	At   float64
	Text string
}

// Line is a series of points in order of X.
type Line struct {
	Name   string       `json:"name"`
	Points [][2]float64 `json:"points"`
}

// Size of a chart and its margins, in CSS pixels.
const (
	chartWidth, chartHeight                       = 720, 320
	marginLeft, marginRight, marginTop, marginLow = 94, 30, 12, 44
	// colors is how many colours the page's style has.
	colors = 6
)

// span is an axis with what it shows.
type span struct {
	Axis
	low, high float64 // after the logarithm
	from, to  float64 // pixels
}

func (s *span) value(v float64) float64 {
	if s.Log {
		return math.Log10(v)
	}
	return v
}

func (s *span) pixel(v float64) float64 {
	return s.from + (s.value(v)-s.low)/(s.high-s.low)*(s.to-s.from)
}

func (s *span) text(v float64) string {
	if s.Format != nil {
		return s.Format(v)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// newSpan fits an axis to the values of one coordinate. A linear one begins at 0.
func newSpan(a Axis, lines []Line, coordinate int, from, to float64) span {
	s := span{Axis: a, low: math.Inf(1), high: math.Inf(-1), from: from, to: to}
	for _, l := range lines {
		for _, p := range l.Points {
			if a.Log && p[coordinate] <= 0 {
				continue // has no place on the axis
			}
			s.low, s.high = min(s.low, s.value(p[coordinate])), max(s.high, s.value(p[coordinate]))
		}
	}
	switch {
	case math.IsInf(s.low, 1):
		s.low, s.high = 0, 1
	case a.Log:
		s.low, s.high = math.Floor(s.low), math.Ceil(s.high+1e-9)
	default:
		s.low = min(s.low, 0)
	}
	if s.high <= s.low {
		s.high = s.low + 1
	}
	if s.Ticks == nil {
		s.Ticks = s.choose()
	}
	return s
}

// choose labels decades on a logarithmic axis, and about five round steps on a linear one.
func (s *span) choose() []Tick {
	var ticks []Tick
	if s.Log {
		for d := s.low; d <= s.high; d++ {
			v := math.Pow(10, d)
			ticks = append(ticks, Tick{v, s.text(v)})
		}
		return ticks
	}
	step := math.Pow(10, math.Floor(math.Log10((s.high-s.low)/4)))
	for _, m := range [...]float64{5, 2} {
		if (s.high-s.low)/(step*m) >= 4 {
			step *= m
			break
		}
	}
	for i := 0.0; s.low+i*step <= s.high*(1+1e-9); i++ {
		ticks = append(ticks, Tick{s.low + i*step, s.text(s.low + i*step)})
	}
	return ticks
}

// draw makes an SVG element. All text in it is escaped.
func (c *Chart) draw() template.HTML {
	x := newSpan(c.X, c.Lines, 0, marginLeft, chartWidth-marginRight)
	y := newSpan(c.Y, c.Lines, 1, chartHeight-marginLow, marginTop)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartWidth, chartHeight, html.EscapeString(c.Title))
	for _, t := range y.Ticks {
		at := y.pixel(t.At)
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="y" x="%d" y="%.1f">%s</text>`,
			marginLeft, chartWidth-marginRight, at, at, marginLeft-8, at+4, html.EscapeString(t.Text))
	}
	for _, t := range x.Ticks {
		at := x.pixel(t.At)
		if at < marginLeft-1 || at > chartWidth-marginRight+1 {
			continue
		}
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text class="x" x="%.1f" y="%d">%s</text>`,
			at, at, marginTop, chartHeight-marginLow, at, chartHeight-marginLow+18, html.EscapeString(t.Text))
	}
	fmt.Fprintf(&b, `<text class="x label" x="%d" y="%d">%s</text>`, (marginLeft+chartWidth-marginRight)/2, chartHeight-6, html.EscapeString(c.X.Label))
	fmt.Fprintf(&b, `<text class="x label" transform="rotate(-90)" x="%d" y="14">%s</text>`, -(marginTop+chartHeight-marginLow)/2, html.EscapeString(c.Y.Label))
	for i, l := range c.Lines {
		drawLine(&b, l, i%colors, &x, &y)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// markers is up to how many points a line shows each of them.
const markers = 40

func drawLine(b *strings.Builder, l Line, color int, x, y *span) {
	fmt.Fprintf(b, `<g class="c%d"><polyline points="`, color)
	for _, p := range l.Points {
		if (x.Log && p[0] <= 0) || (y.Log && p[1] <= 0) {
			continue
		}
		fmt.Fprintf(b, "%.1f,%.1f ", x.pixel(p[0]), y.pixel(p[1]))
	}
	b.WriteString(`"/>`)
	for _, p := range l.Points {
		if len(l.Points) > markers || (x.Log && p[0] <= 0) || (y.Log && p[1] <= 0) {
			continue
		}
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3"><title>%s: %s, %s</title></circle>`,
			x.pixel(p[0]), y.pixel(p[1]), html.EscapeString(l.Name), html.EscapeString(x.text(p[0])), html.EscapeString(y.text(p[1])))
	}
	b.WriteString("</g>")
}

// latencyChart has the whole distribution of each result; each step to the right is ten times as rare.
func latencyChart(results []Result) *Chart {
	c := &Chart{
		Title: "Latency by share of the " + results[0].Unit,
		X: Axis{Label: "share that was faster", Ticks: []Tick{
			{0, "0 %"}, {1, "90 %"}, {2, "99 %"}, {3, "99.9 %"}, {4, "99.99 %"}, {5, "99.999 %"}, {6, "99.9999 %"},
		}},
		Y: Axis{Label: "latency", Log: true, Format: duration},
	}
	for _, r := range results {
		l := Line{Name: r.Target}
		for _, p := range r.Distribution {
			if p.Quantile < 1 {
				l.Points = append(l.Points, [2]float64{math.Log10(1 / (1 - p.Quantile)), p.Micros})
			}
		}
		c.Lines = append(c.Lines, l)
	}
	return c
}

// timeChart has a value of each part of the run.
func timeChart(title, label string, format func(float64) string, results []Result, value func(Sample) float64) *Chart {
	c := &Chart{Title: title, X: Axis{Label: "seconds"}, Y: Axis{Label: label, Format: format}}
	for _, r := range results {
		l := Line{Name: r.Target}
		for _, s := range r.Timeline {
			l.Points = append(l.Points, [2]float64{s.At, value(s)})
		}
		c.Lines = append(c.Lines, l)
	}
	return c
}
