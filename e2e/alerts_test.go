package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"devlxd/fault"
	"devlxd/source/discover"
	"devlxd/source/lxd"
)

const (
	rulesFile     = "../packaging/prometheus/devlxd.rules.yaml"
	ruleTestsFile = "../packaging/prometheus/devlxd.rules.test.yaml"
	scrapeFile    = "../packaging/prometheus/scrape.yaml"
	runbookFile   = "../docs/runbook.md"
)

// optionalMetrics are not among those of the daemon that testdata/metrics.txt lists.
var optionalMetrics []string

// rule is a recording or alert rule.
type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

// readRules returns the rules of the package in their order.
func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	b, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) == 0 {
		t.Fatalf("%s has no rules", rulesFile)
	}
	return rules
}

// knownMetrics are the names of all series that a query may be about: of the daemon, of its sources, of Prometheus itself, and
// those that the rules record.
func knownMetrics(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{"up": true, "ALERTS": true}
	add := func(name, kind string) {
		switch known[name] = true; kind {
		case "histogram":
			known[name+"_bucket"] = true
			fallthrough
		case "summary":
			known[name+"_sum"], known[name+"_count"] = true, true
		}
	}
	b, err := os.ReadFile(filepath.Join("testdata", "metrics.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		add(words[0], words[1])
	}
	for _, name := range optionalMetrics {
		if known[name] {
			t.Errorf("%s is in testdata/metrics.txt: it is optional no more", name)
		}
		known[name] = true
	}
	found, err := discover.New(discover.Options{Runtimes: discover.Runtimes(), Tree: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	gatherer := prometheus.NewRegistry()
	gatherer.MustRegister(lxd.New(lxd.Options{}).Collector(), found.Collector())
	families, err := gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		add(f.GetName(), strings.ToLower(f.GetType().String()))
	}
	for _, r := range readRules(t) {
		if r.Record != "" {
			known[r.Record] = true
		}
	}
	return known
}

var (
	// Of PromQL, all that is neither a metric nor an operator; in this order.
	notMetrics = []*regexp.Regexp{
		regexp.MustCompile(`"(?:[^"\\]|\\.)*"`),
		regexp.MustCompile(`\{[^}]*\}`),
		regexp.MustCompile(`\[[^\]]*\]`),
		regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`),
		regexp.MustCompile(`[a-z0-9_]+\s*\(`), // a function
		regexp.MustCompile(`\b(?:and|or|unless|bool)\b`),
	}
	identifier = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
)

// metricsOf returns the names of the metrics of a PromQL expression.
func metricsOf(expression string) []string {
	for _, r := range notMetrics {
		expression = r.ReplaceAllString(expression, " ")
	}
	return identifier.FindAllString(expression, -1)
}

// TestMetricsOf: the other tests see every metric.
func TestMetricsOf(t *testing.T) {
	got := metricsOf(`sum by (a) (rate(x_total{b=~"c|d\""}[5m])) / on (job) y_z > 0.5 or vector(0) and instance:q:r and without`)
	if want := []string{"x_total", "y_z", "instance:q:r", "without"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// promtool runs Prometheus's own checks.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules: the rules are well formed and do what their tests say, and each alert has a test.
func TestRules(t *testing.T) {
	need(t, "promtool")
	promtool(t, "check", "rules", "--lint-fatal", rulesFile)
	promtool(t, "check", "config", "--lint-fatal", scrapeFile)
	promtool(t, "test", "rules", ruleTestsFile)
}

// TestAlerts: each alert says what is wrong, of whom and how badly, is tested to fire and not to fire, and has its section in the
// runbook, which has no others; every metric exists.
func TestAlerts(t *testing.T) {
	known, sections := knownMetrics(t), runbookSections(t)
	tested := alertTests(t)
	for _, r := range readRules(t) {
		for _, name := range metricsOf(r.Expr) {
			if !known[name] {
				t.Errorf("%s%s: there is no metric %s", r.Record, r.Alert, name)
			}
		}
		if r.Alert == "" {
			continue
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has severity %q", r.Alert, s)
		}
		if want := "docs/runbook.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("the runbook of %s is %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if s := r.Annotations["summary"]; !strings.Contains(s, "{{ $labels.instance }}") || strings.Contains(s, "\n") || r.Annotations["description"] == "" {
			t.Errorf("%s: the summary %q does not say in one line where it is, or there is no description", r.Alert, s)
		}
		if got := tested[r.Alert]; !got.fires || !got.silent {
			t.Errorf("%s is not tested to fire and not to fire: %+v", r.Alert, got)
		}
		if !sections[r.Alert] {
			t.Errorf("%s has no section with the three questions in %s", r.Alert, runbookFile)
		}
		delete(sections, r.Alert)
	}
	for name := range sections {
		t.Errorf("%s has a section about %s, which is no alert", runbookFile, name)
	}
}

// TestEveryFaultHasOneAlert: none is forgotten, and none is told twice.
func TestEveryFaultHasOneAlert(t *testing.T) {
	matcher := regexp.MustCompile(`devlxd_fault_active\{fault(=~|!~)"([^"]+)"\}`)
	for _, k := range fault.All() {
		if k == fault.MirrorLost || k == fault.MirrorPart {
			continue // by the metrics of the mirror
		}
		var alerts []string
		for _, r := range readRules(t) {
			for _, m := range matcher.FindAllStringSubmatch(r.Expr, -1) {
				if regexp.MustCompile("^(?:"+m[2]+")$").MatchString(k.String()) == (m[1] == "=~") {
					alerts = append(alerts, r.Alert)
				}
			}
		}
		if len(alerts) != 1 {
			t.Errorf("the fault %s has the alerts %q, want one", k, alerts)
		}
	}
}

// alertTest says how an alert is tested.
type alertTest struct{ fires, silent bool }

func alertTests(t *testing.T) map[string]alertTest {
	t.Helper()
	b, err := os.ReadFile(ruleTestsFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			Cases []struct {
				Name   string           `yaml:"alertname"`
				Alerts []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	tests := make(map[string]alertTest)
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			x := tests[c.Name]
			x.fires, x.silent = x.fires || len(c.Alerts) > 0, x.silent || len(c.Alerts) == 0
			tests[c.Name] = x
		}
	}
	return tests
}

// runbookSections are the sections about alerts, true if each question has an answer.
func runbookSections(t *testing.T) map[string]bool {
	t.Helper()
	b, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	sections := make(map[string]bool)
	for _, s := range strings.Split(string(b), "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		if strings.HasPrefix(title, "Devlxd") {
			sections[title] = strings.Contains(text, "\n**Meaning.** ") && strings.Contains(text, "\n**Look.**") && strings.Contains(text, "\n**Do.** ")
		}
	}
	return sections
}

// TestRunbookIsReal: the commands of the runbook exist, with their flags, and so do the metrics.
func TestRunbookIsReal(t *testing.T) {
	b, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	known, help := knownMetrics(t), make(map[string]string)
	for _, name := range regexp.MustCompile(`\bdevlxd_[a-z_]+`).FindAllString(string(b), -1) {
		if !known[name] {
			t.Errorf("there is no metric %s", name)
		}
	}
	for _, m := range regexp.MustCompile("(?m)(?:^    |`)devlxd ([a-z]+(?: [a-z]+)?)([^`\n|]*)").FindAllStringSubmatch(string(b), -1) {
		command := m[1]
		if help[command] == "" {
			// Of an argument that is no command the help is that of the command before it.
			out, err := exec.Command(binary, append(strings.Fields(command), "--help")...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "devlxd "+command) {
				t.Errorf("there is no command devlxd %s: %v", command, err)
			}
			help[command] = string(out)
		}
		for _, flag := range regexp.MustCompile(`(?:^| )(-[a-z]|--[a-z-]+)\b`).FindAllStringSubmatch(m[2], -1) {
			if !strings.Contains(help[command], flag[1]) {
				t.Errorf("devlxd %s has no flag %s", command, flag[1])
			}
		}
	}
	if len(help) < 10 {
		t.Errorf("only the commands %v were found", help)
	}
}
