package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	promquery "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

const dashboardFile = "../packaging/grafana/devlxd.json"

// grafanaDashboard is the classic form, which every Grafana imports; the one that is preferred over it needs Grafana 12.
//
//lint:ignore SA1019 see above
type grafanaDashboard = dashboard.Dashboard

// grafanaRefuses is what Grafana's own schema says against a dashboard: nil if nothing.
func grafanaRefuses(b []byte) error {
	kinds := cog.NewRuntime()
	kinds.RegisterPanelcfgVariant(heatmap.VariantConfig())
	kinds.RegisterPanelcfgVariant(stat.VariantConfig())
	kinds.RegisterPanelcfgVariant(statetimeline.VariantConfig())
	kinds.RegisterPanelcfgVariant(timeseries.VariantConfig())
	kinds.RegisterDataqueryVariant(promquery.VariantConfig())
	var d grafanaDashboard
	err := d.UnmarshalJSONStrict(b)
	var list cog.BuildErrors
	if errors.As(err, &list) && len(list) == 0 {
		return nil // the decoder returns an empty list as an error
	}
	return err
}

// readDashboard decodes the dashboard.
func readDashboard(t *testing.T) *grafanaDashboard {
	t.Helper()
	b, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := grafanaRefuses(b); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	var d grafanaDashboard
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

// TestDashboardSchema: what Grafana does not know is found, however deep.
func TestDashboardSchema(t *testing.T) {
	good, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"graphTooltip", "lineWidth", "legendFormat", "rowHeight", "useValueForTime"} {
		bad := bytes.Replace(good, []byte(`"`+name+`"`), []byte(`"wrong"`), 1)
		if err := grafanaRefuses(bad); err == nil || !strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s is called wrong: %v", name, err)
		}
	}
}

// panelsOf are all panels but rows, those in collapsed rows too.
func panelsOf(d *grafanaDashboard) (panels []*dashboard.Panel) {
	for _, p := range d.Panels {
		if p.Panel != nil {
			panels = append(panels, p.Panel)
			continue
		}
		for i := range p.RowPanel.Panels {
			panels = append(panels, &p.RowPanel.Panels[i])
		}
	}
	return panels
}

// queriesOf are the queries of a panel.
func queriesOf(t *testing.T, p *dashboard.Panel) (queries []*promquery.Dataquery) {
	t.Helper()
	for _, target := range p.Targets {
		q, ok := target.(*promquery.Dataquery)
		if !ok {
			t.Fatalf("%s: a query is a %T", *p.Title, target)
		}
		queries = append(queries, q)
	}
	return queries
}

// units are the names that Grafana has for those that are used.
var units = []string{"none", "short", "s", "bytes", "Bps", "reqps", "cps", "dateTimeFromNow"}

// TestDashboard: every panel says what it shows, of what and in which unit, and asks the data source that was chosen for metrics
// that exist; no two lie on each other; links lead to sections of the runbook.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	if want := dashboard.NewDashboard().SchemaVersion; d.SchemaVersion != want {
		t.Errorf("the schema version is %d, want %d", d.SchemaVersion, want)
	}
	known, sections := knownMetrics(t), runbookSections(t)
	ids, titles := make(map[uint32]bool), make(map[string]bool)
	for _, p := range panelsOf(d) {
		title := *p.Title
		if title == "" || titles[title] || p.Description == nil || *p.Description == "" {
			t.Errorf("panel %d: the title %q is empty or another's, or there is no description", *p.Id, title)
		}
		titles[title] = true
		if ids[*p.Id] {
			t.Errorf("%s: another panel has the id %d", title, *p.Id)
		}
		ids[*p.Id] = true
		if u := p.FieldConfig.Defaults.Unit; u == nil || !slices.Contains(units, *u) {
			t.Errorf("%s: the unit is none of %v", title, units)
		}
		if p.FieldConfig.Defaults.Thresholds == nil {
			t.Errorf("%s: no thresholds", title)
		}
		checkTargets(t, p, known)
		for _, l := range p.Links {
			_, section, _ := strings.Cut(*l.Url, "${runbook:raw}#")
			if !slices.ContainsFunc(readRules(t), func(r rule) bool {
				return strings.ToLower(r.Alert) == section && l.Title == "Runbook: "+r.Alert && sections[r.Alert]
			}) {
				t.Errorf("%s: the link %q to %q leads to no alert", title, l.Title, *l.Url)
			}
		}
	}
	for _, p := range d.Panels {
		if r := p.RowPanel; r != nil {
			if ids[r.Id] {
				t.Errorf("row %s: another panel has the id %d", *r.Title, r.Id)
			}
			ids[r.Id] = true
		}
	}
}

// checkTargets checks the queries of a panel.
func checkTargets(t *testing.T, p *dashboard.Panel, known map[string]bool) {
	t.Helper()
	const source = "${datasource}"
	if len(p.Targets) == 0 || *p.Datasource.Uid != source {
		t.Errorf("%s: no query, or another data source", *p.Title)
	}
	refs := make(map[string]bool)
	for _, q := range queriesOf(t, p) {
		if refs[*q.RefId] || *q.Datasource.Uid != source || *q.LegendFormat == "" {
			t.Errorf("%s: query %s has the reference of another one, another data source, or no legend", *p.Title, *q.RefId)
		}
		refs[*q.RefId] = true
		for _, name := range metricsOf(q.Expr) {
			if !known[name] {
				t.Errorf("%s: there is no metric %s", *p.Title, name)
			}
		}
		// Both variables choose what every panel shows.
		if strings.Count(q.Expr, `instance=~"$instance"`) != len(metricsOf(q.Expr)) {
			t.Errorf("%s: %s does not go by the instances that were chosen", *p.Title, q.Expr)
		}
	}
}

// TestDashboardLayout: the grid of Grafana is 24 wide, and no panel lies on another.
func TestDashboardLayout(t *testing.T) {
	d := readDashboard(t)
	type place struct {
		title string
		pos   *dashboard.GridPos
	}
	var open []place
	check := func(places []place) {
		for i, a := range places {
			if a.pos.W == 0 || a.pos.H == 0 || a.pos.X+a.pos.W > 24 {
				t.Errorf("%s is outside of the grid: %+v", a.title, *a.pos)
			}
			for _, b := range places[:i] {
				if a.pos.X < b.pos.X+b.pos.W && b.pos.X < a.pos.X+a.pos.W && a.pos.Y < b.pos.Y+b.pos.H && b.pos.Y < a.pos.Y+a.pos.H {
					t.Errorf("%s lies on %s: %+v and %+v", a.title, b.title, *a.pos, *b.pos)
				}
			}
		}
	}
	for _, p := range d.Panels {
		if p.Panel != nil {
			open = append(open, place{*p.Panel.Title, p.Panel.GridPos})
			continue
		}
		r := p.RowPanel
		open = append(open, place{*r.Title, r.GridPos})
		var folded []place
		for _, q := range r.Panels {
			folded = append(folded, place{*q.Title, q.GridPos})
		}
		if r.Collapsed != (len(folded) > 0) {
			t.Errorf("row %s holds %d panels; those of an open row follow it", *r.Title, len(folded))
		}
		check(folded)
	}
	check(open)
}
