package guest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"devlxd/guest"
)

// follow reads n elements: "sync" or the value of user.n, each with its position.
func follow(ctx context.Context, c *guest.Client, o guest.EventsOptions, n int) (got []string, err error) {
	for event, err := range c.Events(ctx, o) {
		if err != nil {
			return got, err
		}
		name := string(event.Type)
		if event.Config != nil {
			name = event.Config.Value
		}
		if got = append(got, name+" "+event.Position); len(got) == n {
			return got, nil
		}
	}
	return got, nil
}

func TestEventsGoOn(t *testing.T) {
	for name, tc := range map[string]struct {
		each    func(f *fake) []func(http.ResponseWriter, *http.Request)
		o       guest.EventsOptions
		want    []string
		queries []string
	}{
		"behind the last event": {
			each: func(f *fake) []func(http.ResponseWriter, *http.Request) {
				return []func(http.ResponseWriter, *http.Request){f.send("e.0", 1001, changed("1", "e.1"), changed("2", "e.2")), refuse(500), f.send("e.2", 0, changed("3", "e.3"))}
			},
			want:    []string{"sync e.0", "1 e.1", "2 e.2", "3 e.3"},
			queries: []string{"position=true", "position=true&since=e.2", "position=true&since=e.2"},
		},
		"where it began": { // nothing has come before the end
			each: func(f *fake) []func(http.ResponseWriter, *http.Request) {
				return []func(http.ResponseWriter, *http.Request){f.send("e.7", 1013), f.send("e.7", 0, changed("1", "e.8"))}
			},
			want:    []string{"sync e.7", "1 e.8"},
			queries: []string{"position=true", "position=true&since=e.7"},
		},
		"after a restart": {
			each: func(f *fake) []func(http.ResponseWriter, *http.Request) {
				return []func(http.ResponseWriter, *http.Request){f.send("e.0", 1001, changed("1", "e.1")), refuse(410), f.send("f.0", 0, changed("2", "f.1"))}
			},
			want:    []string{"sync e.0", "1 e.1", "sync f.0", "2 f.1"},
			queries: []string{"position=true", "position=true&since=e.1", "position=true"},
		},
		"of an earlier run": {
			each: func(f *fake) []func(http.ResponseWriter, *http.Request) {
				return []func(http.ResponseWriter, *http.Request){f.send("e.5", 0, changed("6", "e.6"))}
			},
			o: guest.EventsOptions{Since: "e.5"}, want: []string{"6 e.6"}, queries: []string{"position=true&since=e.5"},
		},
		"without positions": { // LXD and Incus
			each: func(f *fake) []func(http.ResponseWriter, *http.Request) {
				return []func(http.ResponseWriter, *http.Request){f.send("", 1001, changed("1", "")), f.send("", 0, changed("2", ""))}
			},
			want: []string{"sync ", "1 ", "sync ", "2 "}, queries: []string{"position=true", "position=true"},
		},
		"without asking for them": {
			each: func(f *fake) []func(http.ResponseWriter, *http.Request) {
				return []func(http.ResponseWriter, *http.Request){f.send("", 1001), f.send("", 0, changed("2", ""))}
			},
			o:    guest.EventsOptions{NoPositions: true, Types: []guest.EventType{guest.EventConfig}, Since: "e.1"},
			want: []string{"sync ", "sync ", "2 "}, queries: []string{"type=config", "type=config"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, c, ctx := newFake(t)
			f.events(tc.each(f)...)
			got, err := follow(ctx, c, tc.o, len(tc.want))
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
			if !slices.Equal(f.queries, tc.queries) {
				t.Errorf("subscribed with %q; want %q", f.queries, tc.queries)
			}
		})
	}
}

func TestEventsEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		each func(f *fake) func(http.ResponseWriter, *http.Request)
		o    guest.EventsOptions
		want error
	}{
		"closed by the host": {each: func(*fake) func(http.ResponseWriter, *http.Request) { return refuse(403) }, want: guest.ErrForbidden},
		"not root":           {each: func(*fake) func(http.ResponseWriter, *http.Request) { return refuse(401) }, want: guest.ErrUnauthorized},
		"no position":        {each: func(*fake) func(http.ResponseWriter, *http.Request) { return refuse(400) }, o: guest.EventsOptions{Since: "x"}, want: guest.ErrPosition},
		"gone for no reason": {each: func(*fake) func(http.ResponseWriter, *http.Request) { return refuse(410) }, want: guest.ErrGone},
		"nonsense":           {each: func(f *fake) func(http.ResponseWriter, *http.Request) { return f.send("e.0", 0, "[]") }, want: guest.ErrAnswer},
		"no event stream":    {each: func(*fake) func(http.ResponseWriter, *http.Request) { return refuse(200) }, want: guest.ErrAnswer},
		"too much": {each: func(f *fake) func(http.ResponseWriter, *http.Request) {
			return f.send("e.0", 0, changed(strings.Repeat("x", 17<<20), "e.1"))
		}, want: guest.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			f, c, ctx := newFake(t)
			f.events(tc.each(f))
			if got, err := follow(ctx, c, tc.o, 9); !errors.Is(err, tc.want) {
				t.Errorf("got %.100q, %v; want %v", got, err, tc.want)
			}
		})
	}
	t.Run("by the caller", func(t *testing.T) {
		f, c, ctx := newFake(t)
		f.events(refuse(500))
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(cause)
		if _, err := follow(ctx, c, guest.EventsOptions{}, 1); !errors.Is(err, cause) {
			t.Errorf("ended with %v; want %v", err, cause)
		}
	})
}

// TestWaitKeyHasNoGap sets the key where a client that read before it subscribed would miss it, and where one that took the event of
// another key for its own would return too early.
func TestWaitKeyHasNoGap(t *testing.T) {
	f, c, ctx := newFake(t)
	f.events(func(w http.ResponseWriter, r *http.Request) {
		f.set("user.n", "1") // no event says so
		f.send("e.1", 0)(w, r)
	})
	if got, err := c.WaitKey(ctx, "user.n"); got != "1" || err != nil {
		t.Errorf("WaitKey = %q, %v; want 1", got, err)
	}
}

func TestWaitChange(t *testing.T) {
	f, c, ctx := newFake(t)
	f.set("user.n", "1")
	f.events(
		f.send("", websocket.StatusGoingAway, strings.Replace(changed("5", ""), "user.n", "user.other", 1)),
		func(w http.ResponseWriter, r *http.Request) {
			f.set("user.n", "2") // while nobody was subscribed
			f.send("", 0)(w, r)
		})
	if got, err := c.WaitChange(ctx, "user.n", "1"); got != "2" || err != nil {
		t.Errorf("WaitChange = %q, %v; want 2", got, err)
	}
	if len(f.queries) != 2 {
		t.Errorf("subscribed %d times; want 2", len(f.queries))
	}
}

func TestWaitWithoutEvents(t *testing.T) {
	f, c, ctx := newFake(t)
	f.set("cloud-init.user-data", "x")
	if got, err := c.WaitKey(ctx, "cloud-init.user-data"); got != "x" || err != nil {
		t.Errorf("WaitKey = %q, %v; want x", got, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := c.WaitKey(ctx, "cloud-init.none"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitKey = %v; want the end of the context", err)
	}
}

// flaky serves an image and breaks off after some bytes, which each answer has one more of.
func (f *fake) flaky(content string, each int) {
	modified := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.HandleFunc("GET /1.0/images/{fp}/export", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("fp") == "other" {
			modified = modified.Add(time.Hour)
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", "inline;filename=x.tar")
		http.ServeContent(&breaking{w, each}, r, "", modified, strings.NewReader(content))
	})
}

type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) > b.left {
		_, _ = b.ResponseWriter.Write(p[:b.left])
		_ = http.NewResponseController(b.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return b.ResponseWriter.Write(p)
}

func TestExportResumes(t *testing.T) {
	const content = "0123456789abcdefghij"
	f, c, ctx := newFake(t)
	f.flaky(content, 8)
	var got bytes.Buffer
	var at []string
	image, err := c.ExportImage(ctx, "same", &got, guest.ExportOptions{Progress: func(done, total int64) { at = append(at, fmt.Sprint(done, "/", total)) }})
	if err != nil || got.String() != content || image.Size != 20 || image.Name != "x.tar" {
		t.Errorf("got %q, %+v, %v; want %q", got.String(), image, err, content)
	}
	if want := []string{"8/20", "16/20", "20/20"}; !slices.Equal(at, want) {
		t.Errorf("progress %q; want %q", at, want)
	}
	got.Reset()
	if _, err := c.ExportImage(ctx, "same", &got, guest.ExportOptions{Offset: 15, Modified: image.Modified}); err != nil || got.String() != content[15:] {
		t.Errorf("from 15: %q, %v", got.String(), err)
	}
	if _, err := c.ExportImage(ctx, "other", &got, guest.ExportOptions{}); !errors.Is(err, guest.ErrImageChanged) {
		t.Errorf("an image that changes: %v; want %v", err, guest.ErrImageChanged)
	}
}

func TestRequestErrors(t *testing.T) {
	f, c, ctx := newFake(t)
	for status, want := range map[int]error{401: guest.ErrUnauthorized, 403: guest.ErrForbidden, 404: guest.ErrNotFound, 500: guest.ErrUnavailable, 502: guest.ErrUnavailable} {
		f.HandleFunc(fmt.Sprintf("GET /1.0/config/user.%d", status), refuse(status))
		_, err := c.Get(ctx, fmt.Sprintf("user.%d", status))
		var answered *guest.Error
		if !errors.Is(err, want) || !errors.As(err, &answered) || answered.Text != "no" {
			t.Errorf("%d is %v; want %v", status, err, want)
		}
	}
	f.HandleFunc("GET /1.0/config", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`["x"]`)) })
	if _, err := c.Keys(ctx); !errors.Is(err, guest.ErrAnswer) {
		t.Errorf("Keys = %v; want %v", err, guest.ErrAnswer)
	}
	f.set("user.large", strings.Repeat("x", 16<<20+1))
	if _, err := c.Get(ctx, "user.large"); !errors.Is(err, guest.ErrTooLarge) {
		t.Errorf("a large value: %v; want %v", err, guest.ErrTooLarge)
	}
	f.HandleFunc("PATCH /1.0", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere/", http.StatusFound)
	})
	var answered *guest.Error
	if err := c.SetState(ctx, guest.Ready); !errors.As(err, &answered) || answered.Status != 302 {
		t.Errorf("a redirect is followed: %v", err)
	}
	if err := c.SetState(ctx, "Running"); !errors.Is(err, guest.ErrState) {
		t.Errorf("SetState = %v; want %v", err, guest.ErrState)
	}
	nobody := guest.New(filepath.Join(t.TempDir(), "none"))
	if _, err := nobody.Info(ctx); !errors.Is(err, guest.ErrUnavailable) {
		t.Errorf("nobody there: %v; want %v", err, guest.ErrUnavailable)
	}
}
