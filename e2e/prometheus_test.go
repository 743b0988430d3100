package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	"devlxd/internal/daemontest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// patience bounds every wait for something that must come.
const patience = 60 * time.Second

// web asks plain HTTP on loopback. No connection is kept, so that an answer is
// always of the process that listens now.
var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

// fetch returns the status and body of a GET.
func fetch(url string) (code int, body string, err error) {
	resp, err := web.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// mustFetch is fetch of what is there.
func mustFetch(t *testing.T, url string) string {
	t.Helper()
	code, body, err := fetch(url)
	if err != nil || code != http.StatusOK {
		t.Fatalf("%s: %d %q %v", url, code, body, err)
	}
	return body
}

// freePort returns a loopback address that nobody listens on, for a program that
// does not say which port it was given. It lies below the
// ports that the kernel gives out by itself, so that nobody gets it by chance
// before it is used.
func freePort(t *testing.T) string {
	t.Helper()
	start := 20000 + os.Getpid()%8000
	for port := start; port < 32000; port++ {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		return ln.Addr().String()
	}
	t.Fatalf("no free port from %d to 32000", start)
	return ""
}

// metrics is the address that the daemon chose for its metrics.
func (d *daemon) metrics() string {
	d.t.Helper()
	for line := range strings.Lines(d.Log.String()) {
		var l struct{ Msg, Metrics string }
		if err := json.Unmarshal([]byte(line), &l); err == nil && l.Msg == "serving" {
			return l.Metrics
		}
	}
	d.t.Fatalf("the daemon does not say where its metrics are:\n%s", d.Log)
	return ""
}

// TestMetricsOfTheDaemon: the families of the whole /metrics, with their types
// and labels, are an interface.
func TestMetricsOfTheDaemon(t *testing.T) {
	d := serve(t, "--metrics", "127.0.0.1:0", "--metrics-per-container", "1")
	d.CLI("container", "add", "web")
	address := d.metrics()
	body := mustFetch(t, "http://"+address+"/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, name := range slices.Sorted(maps.Keys(families)) {
		fmt.Fprintln(&got, describe(families[name]))
	}
	path := filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the metrics differ from %s (-update writes it anew):\n%s", path, got.String())
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
	sameBuild(t, d, families["devlxd_build_info"])
}

// describe is "NAME TYPE LABEL...": what a query or a dashboard relies on.
func describe(f *dto.MetricFamily) string {
	labels := make(map[string]bool)
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = true
		}
	}
	words := append([]string{f.GetName(), strings.ToLower(f.GetType().String())}, slices.Sorted(maps.Keys(labels))...)
	return strings.Join(words, " ")
}

// sameBuild compares the labels of the build with what the daemon says of itself.
func sameBuild(t *testing.T, d *daemon, f *dto.MetricFamily) {
	t.Helper()
	var status struct{ Version, Revision string }
	if err := json.Unmarshal([]byte(d.CLI("status", "-f", "json")), &status); err != nil {
		t.Fatal(err)
	}
	labels := make(map[string]string)
	for _, l := range f.GetMetric()[0].GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	if value := f.GetMetric()[0].GetGauge().GetValue(); value != 1 || status.Version == "" ||
		labels["version"] != status.Version || labels["revision"] != status.Revision || !strings.HasPrefix(labels["goversion"], "go") {
		t.Errorf("devlxd_build_info%v = %v; status says %+v", labels, value, status)
	}
}

// TestReadyWhileServing: a daemon that serves is healthy and ready; while it
// drains it is healthy, and not ready any more.
func TestReadyWhileServing(t *testing.T) {
	need(t, "curl")
	d := serve(t, "--metrics", "127.0.0.1:0", "--dialect", "lxd")
	address := d.metrics()
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		if body := mustFetch(t, "http://"+address+path); body != want {
			t.Errorf("%s = %q; want %q", path, body, want)
		}
	}
	// A request whose body does not come to its end keeps the drain waiting.
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	upload := d.Bound("web").Command(t.Context(), curlArgs("/1.0", "-X", "PATCH", "-T", "-")...)
	upload.Stdin = theirs
	if err := upload.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	for end := time.Now().Add(patience); !strings.Contains(mustFetch(t, "http://"+address+"/metrics"), "\ndevlxd_connections 1\n"); {
		if time.Now().After(end) {
			t.Fatal("the connection of the upload is not counted")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := d.Cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for {
		code, body, err := fetch("http://" + address + "/readyz")
		if err != nil {
			t.Fatalf("the daemon ended and was never not ready: %v", err)
		}
		if code == http.StatusServiceUnavailable && strings.HasPrefix(body, "not ready: ") {
			break
		}
		if code != http.StatusOK {
			t.Fatalf("/readyz = %d %q", code, body)
		}
	}
	if body := mustFetch(t, "http://"+address+"/healthz"); body != "ok\n" {
		t.Errorf("/healthz while draining = %q", body)
	}
	ours.Close()
	_ = upload.Wait() // answered or cut off, which is not what this is about
	if err := <-d.Exited; err != nil {
		t.Errorf("the daemon ended with %v\n%s", err, d.Log)
	}
	d.Cmd = nil // a second signal would be one too many
}

// prometheusConfig scrapes one daemon.
const prometheusConfig = `global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: devlxd
    static_configs:
      - targets: ["%s"]
`

// startPrometheus runs Debian's Prometheus with the text of a configuration file
// until the end of the test and returns the URL of its query API.
func startPrometheus(t *testing.T, text string) string {
	t.Helper()
	dir, address := t.TempDir(), freePort(t)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log daemontest.Buffer
	cmd := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-exited:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", &log)
		}
	})
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if code, _, err := fetch("http://" + address + "/-/ready"); err == nil && code == http.StatusOK {
			return "http://" + address + "/api/v1/query"
		}
		select {
		case <-exited:
			t.Fatalf("Prometheus ended:\n%s", &log)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("Prometheus is not ready:\n%s", &log)
		}
	}
}

// query returns the values of an instant vector.
func query(t *testing.T, api, expression string) (values []float64) {
	t.Helper()
	var answer struct {
		Status string
		Data   struct{ Result []struct{ Value [2]any } }
	}
	body := mustFetch(t, api+"?"+url.Values{"query": {expression}}.Encode())
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %q %v", expression, body, err)
	}
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%s: %q: %v", expression, body, err)
		}
		values = append(values, v)
	}
	return values
}

// TestPrometheusScrapes: a real Prometheus takes the metrics and answers from
// them what the guests have done, to the number.
func TestPrometheusScrapes(t *testing.T) {
	need(t, "curl")
	need(t, "prometheus")
	need(t, "promtool")
	d := serve(t, "--metrics", "127.0.0.1:0", "--metrics-per-container", "5")
	address := d.metrics()
	web := d.Bound("web", "user.role=frontend")
	api := startPrometheus(t, fmt.Sprintf(prometheusConfig, address))
	const found, missing = 7, 3
	for range found {
		in(t, web, curlArgs("/1.0/config/user.role")...)
	}
	for range missing {
		in(t, web, curlArgs("/1.0/config/user.none")...)
	}
	for _, c := range []struct {
		expression string
		want       float64
	}{
		{`up == 1`, 1},
		{`devlxd_requests_total{route="config_key",code="200"}`, found},
		{`devlxd_requests_total{route="config_key",code="404"}`, missing},
		{`sum(devlxd_requests_total)`, found + missing},
		{`devlxd_connections_accepted_total`, found + missing},
		{`sum(devlxd_identifications_total{result="identified"})`, found + missing},
		{`sum(devlxd_peers_rejected_total)`, 0},
		{`devlxd_request_duration_seconds_count`, found + missing},
		{`devlxd_container_requests_total{container="web"}`, found + missing},
		{`sum(devlxd_container_sent_bytes_total) - sum(devlxd_sent_bytes_total)`, 0},
		{`devlxd_containers_running`, 1},
		{`devlxd_build_info`, 1},
	} {
		await(t, api, c.expression, c.want)
	}
	quantile := query(t, api, `histogram_quantile(0.99, sum by (le) (devlxd_request_duration_seconds_bucket))`)
	if len(quantile) != 1 || math.IsNaN(quantile[0]) || math.IsInf(quantile[0], 0) || quantile[0] <= 0 {
		t.Errorf("the 99th percentile of the request duration is %v", quantile)
	}
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = bytes.NewReader([]byte(mustFetch(t, "http://"+address+"/metrics")))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// await asks until the scrape that has seen everything is answered from.
func await(t *testing.T, api, expression string, want float64) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		got := query(t, api, expression)
		if len(got) == 1 && got[0] == want {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%s = %v; want %v", expression, got, want)
			return
		}
	}
}
