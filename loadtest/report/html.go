package report

import (
	_ "embed"
	"html/template"
	"io"
)

//go:embed page.html
var pageText string

// page is what page.html is given.
type page struct {
	Title    string
	Machine  *Machine
	Sections []section
}

// section is a scenario.
type section struct {
	Title   string
	Note    string
	Head    []string
	Rows    [][]string
	Values  []named
	Charts  []*Chart
	Targets []string
}

type named struct{ Name, Text string }

// WriteHTML writes a result as one page that refers to nothing else.
func WriteHTML(w io.Writer, r *Result) error {
	return writePage(w, &page{Title: r.Scenario + " against " + r.Target, Machine: r.Machine, Sections: append([]section{newSection([]Result{*r})}, curves(r.Curves)...)})
}

// WriteComparisonHTML writes a comparison as one page that refers to nothing else. Its curves come behind the scenarios.
func WriteComparisonHTML(w io.Writer, c *Comparison) error {
	p := &page{Title: "devlxd compared", Machine: &c.Machine}
	for _, group := range c.Scenarios() {
		p.Sections = append(p.Sections, newSection(group))
	}
	p.Sections = append(p.Sections, curves(c.Curves)...)
	return writePage(w, p)
}

// curves has a section for each chart.
func curves(charts []*Chart) (sections []section) {
	for _, chart := range charts {
		s := section{Title: chart.Title, Charts: []*Chart{chart}}
		for _, l := range chart.Lines {
			s.Targets = append(s.Targets, l.Name)
		}
		sections = append(sections, s)
	}
	return sections
}

func newSection(group []Result) section {
	first := &group[0]
	s := section{
		Title: first.Title(),
		Note: count(float64(first.Containers)) + " containers, " + count(float64(first.Connections)) + " connections, " +
			three(first.Seconds) + " s measured",
		Head: []string{"target", first.Unit + "/s", "ratio", "CPU each", "ratio", "memory/conn", "ratio", "p99", "ratio", "errors", "lost"},
		Charts: []*Chart{
			latencyChart(group),
			timeChart("Throughput", first.Unit+" per second", count, group, func(s Sample) float64 { return s.RPS }),
			timeChart("99 % of latencies were below, by time", "latency", duration, group, func(s Sample) float64 { return s.P99 }),
		},
	}
	for i := range group {
		r := &group[i]
		s.Rows = append(s.Rows, row(r, first))
		s.Targets = append(s.Targets, r.Target)
		for _, v := range r.Values {
			s.Values = append(s.Values, named{r.Target + ": " + v.Name, quantity(v.Value, v.Unit)})
		}
	}
	return s
}

func writePage(w io.Writer, p *page) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"draw":  (*Chart).draw,
		"size":  func(b uint64) string { return size(float64(b)) },
		"color": func(i int) int { return i % colors },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	return t.Execute(w, p)
}
