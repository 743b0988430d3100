package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"devlxd/internal/sandbox"
)

// watchConfig scrapes two daemons with the rules of the package.
const watchConfig = `global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
  evaluation_interval: 500ms
rule_files: [%q]
scrape_configs:
  - job_name: devlxd
    static_configs:
      - targets: [%q, %q]
`

// watched is a Prometheus that watches a daemon with a store and one with a mirror.
type watched struct {
	t    *testing.T
	api  string
	vars *strings.Replacer // of the dashboard
	end  time.Time         // nothing is waited for any longer, so that many mistakes are told in the time of one
}

// sample is one series of an answer.
type sample struct {
	Metric map[string]string
	Value  [2]any
}

// number is NaN for what is none.
func (s sample) number() float64 {
	text, _ := s.Value[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// ask returns the instant vector of an expression, which must have no error and no warning.
func (w *watched) ask(expression string) []sample {
	w.t.Helper()
	var answer struct {
		Status          string
		Warnings, Infos []string
		Data            struct{ Result []sample }
	}
	body := mustFetch(w.t, w.api+"?"+url.Values{"query": {expression}}.Encode())
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" || len(answer.Warnings)+len(answer.Infos) > 0 {
		w.t.Fatalf("%s: %s %v", expression, body, err)
	}
	return answer.Data.Result
}

// awaitNumber asks until there is a number in the answer.
func (w *watched) awaitNumber(what, expression string) {
	w.t.Helper()
	for ; ; time.Sleep(200 * time.Millisecond) {
		got := w.ask(expression)
		if slices.ContainsFunc(got, func(s sample) bool { return !math.IsNaN(s.number()) }) {
			return
		}
		if time.Now().After(w.end) {
			w.t.Errorf("%s: %s is %v", what, expression, got)
			return
		}
	}
}

// startWatched starts all of it and waits until both daemons are seen to be ready.
func startWatched(t *testing.T, targets ...*daemon) *watched {
	t.Helper()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	a, b := targets[0].metrics(), targets[1].metrics()
	w := &watched{t: t, api: startPrometheus(t, fmt.Sprintf(watchConfig, rules, a, b)), end: time.Now().Add(patience)}
	// As Grafana writes the choice of all of several values, the values of a regular expression with its escapes in a string.
	all := strings.ReplaceAll(regexp.QuoteMeta(a)+"|"+regexp.QuoteMeta(b), `\`, `\\`)
	w.vars = strings.NewReplacer("$job", "devlxd", "$instance", "("+all+")", "$container", ".*", "$__rate_interval", "5s")
	for ; len(w.ask("up == 1 and on (instance) devlxd_ready == 1")) != len(targets); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(w.end) {
			t.Fatalf("the targets are not seen: %v", w.ask("up"))
		}
	}
	return w
}

// missing reports whether an expression is about a metric that neither daemon has, so that it is asked and has no answer to be waited for.
func missing(expression string) bool {
	return slices.ContainsFunc(metricsOf(expression), func(name string) bool { return slices.Contains(optionalMetrics, name) })
}

// TestWatched: a real Prometheus has an answer to everything that the dashboard and the rules ask, and no alert while two
// daemons serve guests, a mirror among them; when they end, it does.
func TestWatched(t *testing.T) {
	need(t, "prometheus")
	need(t, "promtool")
	d := serve(t, "--metrics", "127.0.0.1:0", "--metrics-per-container", "10", "--discover", "lxc,nspawn,podman")
	lxd, crash := fakeLXD(t)
	mirror := serve(t, "--metrics", "127.0.0.1:0", "--source", "lxd:"+lxd)
	stopLoad := watchedLoad(t, d)
	w := startWatched(t, d, mirror)
	w.dashboard()
	w.rules()
	w.healthy()
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(mustFetch(t, "http://"+d.metrics()+"/metrics"))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	stopLoad()
	crash()
	w.end = time.Now().Add(patience)
	w.awaitNumber("the daemon that is mirrored has ended", `ALERTS{alertname="DevlxdMirrorDisconnected"}`)
	address := d.metrics()
	d.Stop()
	w.awaitNumber("the daemon has ended", fmt.Sprintf(`ALERTS{alertname="DevlxdDown", instance=%q, severity="critical"}`, address))
}

// watchedLoad has guests of two containers ask, and follow events, until it is stopped.
func watchedLoad(t *testing.T, d *daemon) (stop func()) {
	t.Helper()
	quit := make(chan struct{})
	var publishers sync.WaitGroup
	var guests []*running
	for _, name := range []string{"web", "db"} {
		c := d.Bound(name, "user.name=u")
		guests = append(guests, background(t, func(ctx context.Context) *sandbox.Cmd { return c.Guest(ctx, "load", "3", "100") }))
		publishers.Go(func() { publish(t, d.RunDir, name, 20*time.Millisecond, quit) })
	}
	end := sync.OnceFunc(func() {
		close(quit)
		publishers.Wait()
	})
	t.Cleanup(end)
	return func() {
		t.Helper()
		end()
		for _, g := range guests {
			var got loadResult
			if g.result(&got); got.Events == 0 || got.Requests == 0 || len(got.Failures) > 0 {
				t.Errorf("a guest got %+v", got)
			}
		}
	}
}

// dashboard asks what every panel and variable asks.
func (w *watched) dashboard() {
	w.t.Helper()
	d := readDashboard(w.t)
	for _, p := range panelsOf(d) {
		for _, q := range queriesOf(w.t, p) {
			if missing(q.Expr) {
				w.ask(w.vars.Replace(q.Expr))
			} else {
				w.awaitNumber(*p.Title, w.vars.Replace(q.Expr))
			}
		}
	}
	for _, a := range d.Annotations.List {
		w.awaitNumber(a.Name, w.vars.Replace(*a.Expr))
	}
	values := regexp.MustCompile(`^label_values\((.+), ([a-z]+)\)$`)
	for _, v := range d.Templating.List {
		if v.Definition == nil {
			continue
		}
		m := values.FindStringSubmatch(*v.Definition)
		if m == nil {
			w.t.Errorf("the variable %s asks %q", v.Name, *v.Definition)
		} else if !missing(m[1]) {
			w.awaitNumber(v.Name, w.vars.Replace(fmt.Sprintf("count by (%s) (%s)", m[2], m[1])))
		}
	}
}

// selector is a metric with its matchers, matcher one of these.
var (
	selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`([a-z]+)(=~|!~|=|!=)"([^"]*)"`)
)

// rules asks what every rule asks: a rule records something, and each value that an alert goes by is the label of a series, so that it
// can fire.
func (w *watched) rules() {
	w.t.Helper()
	for _, r := range readRules(w.t) {
		w.ask(r.Expr)
		if r.Record != "" {
			w.awaitNumber(r.Record, r.Record)
		}
		for _, s := range selector.FindAllStringSubmatch(r.Expr, -1) {
			if missing(s[1]) {
				continue
			}
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				for value := range strings.SplitSeq(m[3], "|") {
					if value == "1.0" {
						continue // of Prometheus 3
					}
					w.awaitNumber(r.Alert, fmt.Sprintf("%s{%s=~%q}", s[1], m[1], value))
				}
			}
		}
	}
}

// healthy checks that no alert fires, and that none is about to but those that depend on how fast the machine is, and on what other
// containers it has.
func (w *watched) healthy() {
	w.t.Helper()
	for _, s := range w.ask(`ALERTS{alertname!~"DevlxdRequestsSlow|DevlxdLoopStalled|DevlxdDiscoveryFailing"} or ALERTS{alertstate="firing"}`) {
		w.t.Errorf("an alert about healthy daemons: %v", s.Metric)
	}
}
