package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"devlxd/api"
	"devlxd/api/apitest"
)

// curlArgs asks the guest API from inside a container; parseAnswer reads what curl prints.
func curlArgs(path string, extra ...string) []string {
	args := []string{"curl", "-sS", "-i", "--max-time", "20", "--unix-socket", "/dev/lxd/sock", "-w", "\n%{method} %{url_effective}\n%{http_code} %{content_type}"}
	return append(append(args, extra...), "http://lxd"+path)
}

// answer is what curl saw: "CODE TYPE", and the body.
type answer struct{ status, body string }

// documented holds what curl is answered against the document of the API. The tests fail in the end for what is not documented.
var documented = apitest.Must(api.Guest, "document", "lxd", "incus")

func parseAnswer(out string) answer {
	i := strings.LastIndexByte(out, '\n')
	a := answer{status: out[i+1:], body: out[:max(i, 0)]}
	if !strings.HasPrefix(a.body, "HTTP/") {
		return a
	}
	i = strings.LastIndexByte(a.body, '\n')
	request := a.body[i+1:]
	rest := bufio.NewReader(strings.NewReader(a.body[:i]))
	a.body = ""
	rec := documented.Record("")
	defer rec.End()
	method, url, _ := strings.Cut(request, " ")
	rec.Sent([]byte(method + " " + strings.TrimPrefix(url, "http://lxd") + " HTTP/1.1\r\nHost: lxd\r\n\r\n"))
	rec.Received([]byte(out[:len(out)-len(a.status)-len(request)-2]))
	for {
		resp, err := http.ReadResponse(rest, &http.Request{Method: method})
		if err != nil {
			return a
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		a.body = string(body)
		return a
	}
}

const (
	asJSON = "application/json"
	asRaw  = "application/octet-stream"
	asText = "text/plain; charset=utf-8"
)

func TestCurlEveryEndpoint(t *testing.T) {
	need(t, "curl")
	d := serve(t)
	web := d.Bound("web", "user.role=frontend", "user.format=bar %s bar", "cloud-init.user-data=#cloud-config\nruncmd: []\n", "security.devlxd=true")
	d.Bound("db", "user.password=of-db-only")
	d.CLI("device", "add", "web", "eth0", "nic", "network=br0")
	for _, tc := range []struct {
		path   string
		status string
		body   string
	}{
		{"/", "200 " + asJSON, `["/1.0"]` + "\n"},
		{"/1.0", "200 " + asJSON, `{"api_version":"1.0"}` + "\n"},
		{"/1.0/config", "200 " + asJSON, `["/1.0/config/cloud-init.user-data","/1.0/config/user.format","/1.0/config/user.role"]` + "\n"},
		{"/1.0/config/user.role", "200 " + asRaw, "frontend"},
		{"/1.0/config/user.format", "200 " + asRaw, "bar %s bar"},
		{"/1.0/config/user%2erole", "200 " + asRaw, "frontend"},
		{"/1.0/config/cloud-init.user-data", "200 " + asRaw, "#cloud-config\nruncmd: []\n"},
		{"/1.0/config/user.none", "404 " + asText, "not found\n"},
		{"/1.0/config/user.password", "404 " + asText, "not found\n"},
		{"/1.0/config/security.devlxd", "403 " + asText, "not authorized\n"},
		{"/1.0/config/security.none", "403 " + asText, "not authorized\n"},
		{"/1.0/meta-data", "200 " + asRaw, "#cloud-config\ninstance-id: web\nlocal-hostname: web\n"},
		{"/1.0/devices", "200 " + asJSON, `{"eth0":{"network":"br0","type":"nic"}}` + "\n"},
		{"/1.0/nope", "404 " + asText, "404 page not found\n"},
	} {
		t.Run(tc.path, func(t *testing.T) {
			got := parseAnswer(in(t, web, curlArgs(tc.path)...))
			if got.status != tc.status || got.body != tc.body {
				t.Errorf("got %q %q, want %q %q", got.status, got.body, tc.status, tc.body)
			}
		})
	}
}

func TestContainersSeeThemselvesOnly(t *testing.T) {
	need(t, "curl")
	d := serve(t)
	names := []string{"web", "db", "cache"}
	for _, name := range names {
		c := d.Bound(name, "user.secret=secret-of-"+name)
		for path, want := range map[string]string{
			"/1.0/config/user.secret": "secret-of-" + name,
			"/1.0/meta-data":          "#cloud-config\ninstance-id: " + name + "\nlocal-hostname: " + name + "\n",
		} {
			// A Host, a name in the path or a header of the guest's choice changes nothing.
			got := parseAnswer(in(t, c, curlArgs(path, "-H", "Host: db", "-H", "X-Container: db")...))
			if got.body != want {
				t.Errorf("%s asks %s: got %q, want %q", name, path, got.body, want)
			}
		}
	}
}

func TestHostProcessIsRefused(t *testing.T) {
	need(t, "curl")
	d := serve(t)
	d.Bound("web", "user.secret=x")
	out, err := exec.Command("curl", "-sS", "--unix-socket", d.Socket(), "-w", "\n%{http_code} %{content_type}", "http://lxd/1.0/config/user.secret").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := parseAnswer(string(out)); got.status != "500 "+asText || got.body != "pid not in container?\n" {
		t.Errorf("got %+v", got)
	}
}

func TestDialectBodies(t *testing.T) {
	need(t, "curl")
	for dialect, want := range map[string]map[string]answer{
		"lxd": {
			"/1.0":                    {"200 " + asJSON, `{"state":"Started","api_version":"1.0","instance_type":"container","location":"` + hostname(t) + `","auth":"untrusted","supported_storage_drivers":[]}` + "\n"},
			"/1.0/config/user.none":   {"404 " + asText, "Not Found\n"},
			"/1.0/config/security.a":  {"403 " + asText, "Forbidden\n"},
			"/1.0/images/x/export":    {"403 " + asJSON, `{"type":"error","status":"","status_code":0,"operation":"","error_code":403,"error":"Forbidden","metadata":null}` + "\n"},
			"/1.0/ubuntu-pro":         {"200 " + asJSON, `{"guest_attach":"off"}` + "\n"},
			"/1.0/config/user.absent": {"404 " + asText, "Not Found\n"},
		},
		"incus": {
			"/1.0":                   {"200 " + asJSON, `{"state":"Started","api_version":"1.0","instance_type":"container","location":"` + hostname(t) + `"}` + "\n"},
			"/1.0/config/user.none":  {"404 " + asText, "not found\n"},
			"/1.0/config/security.a": {"403 " + asText, "not authorized\n"},
			"/1.0/ubuntu-pro":        {"404 " + asText, "404 page not found\n"},
		},
	} {
		t.Run(dialect, func(t *testing.T) {
			d := serve(t, "--dialect", dialect)
			c := d.Bound("web")
			for path, w := range want {
				if got := parseAnswer(in(t, c, curlArgs(path)...)); got != w {
					t.Errorf("%s: got %+v, want %+v", path, got, w)
				}
			}
		})
	}
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestImageDownload(t *testing.T) {
	need(t, "curl")
	d := serve(t)
	c := d.Bound("web")
	// A gzip header, so that the image has a type.
	content := append([]byte{0x1f, 0x8b, 8, 0}, []byte(strings.Repeat("image bytes ", 300_000))...)
	file := filepath.Join(t.TempDir(), "image.tar.gz")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	fp := hex.EncodeToString(sum[:])
	d.CLI("image", "import", file, "--public")
	path := "/1.0/images/" + fp + "/export"
	if got := parseAnswer(in(t, c, curlArgs(path)...)); got.status != "403 "+asText || got.body != "not authorized\n" {
		t.Errorf("without security.devlxd.images: %+v", got)
	}
	d.CLI("config", "set", "web", "security.devlxd.images=true")
	if got := in(t, c, "sh", "-c", "curl -sS --unix-socket /dev/lxd/sock http://lxd"+path+" | sha256sum"); !strings.HasPrefix(got, fp) {
		t.Errorf("sha256 of the download is %s, want %s", got, fp)
	}
	part := parseAnswer(in(t, c, curlArgs(path, "-r", "4-15")...))
	if part.status != "206 "+asRaw || part.body != "image bytes " {
		t.Errorf("range: %+v", part)
	}
	head := in(t, c, curlArgs(path, "-I")...)
	for _, want := range []string{"Content-Disposition: inline;filename=" + fp + ".tar.gz", fmt.Sprintf("Content-Length: %d", len(content)), "Accept-Ranges: bytes", "Last-Modified: "} {
		if !strings.Contains(head, want) {
			t.Errorf("HEAD lacks %q:\n%s", want, head)
		}
	}
}
