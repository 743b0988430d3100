package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestCurlFollowsEvents: without an Upgrade field curl gets one event a line while the configuration changes, from some change on each
// of them in order.
func TestCurlFollowsEvents(t *testing.T) {
	need(t, "curl")
	d := serve(t)
	web := d.Bound("web")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	type result struct {
		out []byte
		err error
	}
	followed := make(chan result, 1)
	go func() {
		out, err := web.Command(ctx, "sh", "-c", "curl -sN --unix-socket /dev/lxd/sock 'http://lxd/1.0/events?type=config' | head -n 3").Output()
		followed <- result{out, err}
	}()
	for n := 1; ; n++ {
		select {
		case r := <-followed:
			if r.err != nil {
				t.Fatal(r.err)
			}
			checkEventLines(t, strings.TrimSuffix(string(r.out), "\n"))
			return
		default:
			d.CLI("config", "set", "web", fmt.Sprintf("user.n=%d", n))
		}
	}
}

// checkEventLines wants three changes of user.n, each by one.
func checkEventLines(t *testing.T, text string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines; want 3:\n%s", len(lines), text)
	}
	last := -1
	for _, line := range lines {
		var event struct {
			Type      string
			Timestamp time.Time
			Metadata  struct {
				Key, Value string
				OldValue   string `json:"old_value"`
			}
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		n, err := strconv.Atoi(event.Metadata.Value)
		if err != nil || event.Type != "config" || event.Metadata.Key != "user.n" || event.Timestamp.IsZero() {
			t.Fatalf("event %q", line)
		}
		if last >= 0 && (n != last+1 || event.Metadata.OldValue != strconv.Itoa(last)) {
			t.Errorf("event %d follows %d: %q", n, last, line)
		}
		last = n
	}
}

// TestCurlSplitImage downloads an image of two files, which comes as a form with two parts, as LXD sends it.
func TestCurlSplitImage(t *testing.T) {
	need(t, "curl")
	d := serve(t)
	c := d.Bound("web", "security.devlxd.images=true")
	dir := t.TempDir()
	files := map[string]string{"metadata": "\x1f\x8b\x08 metadata", "rootfs": "hsqs the root file system"}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.CLI("image", "import", filepath.Join(dir, "metadata"), filepath.Join(dir, "rootfs"), "--public")
	var images []struct{ Fingerprint string }
	if err := json.Unmarshal([]byte(d.CLI("image", "list", "-f", "json")), &images); err != nil || len(images) != 1 {
		t.Fatalf("images = %v, %v", images, err)
	}
	fingerprint := images[0].Fingerprint
	got := parseAnswer(in(t, c, curlArgs("/1.0/images/"+fingerprint+"/export")...))
	status, contentType, _ := strings.Cut(got.status, " ")
	media, params, err := mime.ParseMediaType(contentType)
	if status != "200" || err != nil || media != "multipart/form-data" {
		t.Fatalf("status and type %q, %v; want 200 and a form", got.status, err)
	}
	form := multipart.NewReader(strings.NewReader(got.body), params["boundary"])
	for _, name := range []string{"metadata", "rootfs"} {
		part, err := form.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		if part.FormName() != name || string(content) != files[name] || !strings.Contains(part.FileName(), fingerprint) {
			t.Errorf("part %q, file %q, content %q; want %s", part.FormName(), part.FileName(), content, name)
		}
	}
	if _, err := form.NextPart(); err != io.EOF {
		t.Errorf("after both parts: %v; want the end", err)
	}
}
