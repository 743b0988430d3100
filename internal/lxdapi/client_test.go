package lxdapi_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"devlxd/internal/lxdapi"
)

// answers serves one answer for each "METHOD PATH".
func answers(t *testing.T, list map[string]string) *lxdapi.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-Match") == "old" {
			w.WriteHeader(http.StatusPreconditionFailed)
			_, _ = io.WriteString(w, `{"type":"error","error":"ETag doesn't match","error_code":412}`)
			return
		}
		w.Header().Set("ETag", "tag")
		text := list[r.Method+" "+r.URL.Path]
		if strings.Contains(text, `"error_code":404`) {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, text)
	})}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	c := lxdapi.New(socket, 1)
	t.Cleanup(c.Close)
	return c
}

func TestClient(t *testing.T) {
	c := answers(t, map[string]string{
		"GET /doc": `{"type":"sync","status_code":200,"metadata":{"a":1}}`,
		"PUT /doc": `{"type":"sync","status_code":200,"metadata":{}}`,
		"PUT /op":  `{"type":"async","operation":"/1.0/operations/1?project=p"}`, "GET /1.0/operations/1/wait": `{"type":"sync","metadata":{"status_code":200}}`,
		"PUT /bad": `{"type":"async","operation":"/1.0/operations/2"}`, "GET /1.0/operations/2/wait": `{"type":"sync","metadata":{"status_code":400,"err":"no room"}}`,
		"GET /none": `{"type":"error","error":"Not Found","error_code":404}`, "GET /html": `<html>`,
	})
	var doc struct{ A int }
	if etag, err := c.Get(t.Context(), "/doc", &doc); err != nil || etag != "tag" || doc.A != 1 {
		t.Errorf("Get: %+v, %q, %v", doc, etag, err)
	}
	for _, path := range []string{"/doc", "/op"} {
		if err := c.Put(t.Context(), path, "tag", doc); err != nil {
			t.Errorf("Put %s: %v", path, err)
		}
	}
	if err := c.Put(t.Context(), "/bad", "", doc); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("an operation that fails: %v", err)
	}
	if err := c.Put(t.Context(), "/doc", "old", doc); !errors.Is(err, lxdapi.ErrChanged) {
		t.Errorf("an old ETag: %v", err)
	}
	if _, err := c.Get(t.Context(), "/none", &doc); !errors.Is(err, lxdapi.ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := c.Get(t.Context(), "/html", &doc); !errors.Is(err, lxdapi.ErrAnswer) {
		t.Errorf("another server: %v", err)
	}
	if _, err := lxdapi.New(filepath.Join(t.TempDir(), "x"), 1).Get(t.Context(), "/", &doc); !errors.Is(err, lxdapi.ErrNoDaemon) {
		t.Errorf("no server: %v", err)
	}
}
