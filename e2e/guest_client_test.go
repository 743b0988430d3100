package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	guestapi "devlxd/guest"
	"devlxd/internal/sandbox"
)

// clientResult is what the role "client" prints: all that package guest can ask for.
type clientResult struct {
	Info     guestapi.Info
	Config   map[string]string
	MetaData string
	Devices  map[string]map[string]string
	Absent   bool // ErrNotFound
	Secret   bool // ErrForbidden
	State    guestapi.State
	Image    guestapi.Image
	Sum      string // SHA-256 of the image
	Rest     string // of the image from its last byte on
	NoImage  bool   // ErrNotFound
	Leak     string
}

// clientRole asks for everything with package guest: client FINGERPRINT.
func clientRole(args []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	c := guestapi.New("")
	var r clientResult
	var errs [9]error
	r.Info, errs[0] = c.Info(ctx)
	r.Config, errs[1] = c.Config(ctx)
	r.MetaData, errs[2] = c.MetaData(ctx)
	r.Devices, errs[3] = c.Devices(ctx)
	errs[4] = c.SetState(ctx, guestapi.Ready)
	info, err := c.Info(ctx)
	r.State, errs[5] = info.State, err
	var content, rest bytes.Buffer
	r.Image, errs[6] = c.ExportImage(ctx, args[0], &content, guestapi.ExportOptions{})
	sum := sha256.Sum256(content.Bytes())
	r.Sum = hex.EncodeToString(sum[:])
	_, errs[7] = c.ExportImage(ctx, args[0], &rest, guestapi.ExportOptions{Offset: r.Image.Size - 1, Modified: r.Image.Modified})
	r.Rest = rest.String()
	if err := errors.Join(errs[:]...); err != nil {
		return fail(err)
	}
	_, err = c.Get(ctx, "user.absent")
	r.Absent = errors.Is(err, guestapi.ErrNotFound)
	_, err = c.Get(ctx, "security.devlxd.images")
	r.Secret = errors.Is(err, guestapi.ErrForbidden)
	_, err = c.ExportImage(ctx, strings.Repeat("0", 64), &rest, guestapi.ExportOptions{})
	r.NoImage = errors.Is(err, guestapi.ErrNotFound)
	for event, err := range c.Events(ctx, guestapi.EventsOptions{}) {
		if err != nil || event.Position == "" {
			return fail(fmt.Errorf("the first element is %+v, %w", event, err))
		}
		break
	}
	c.Close()
	if err := goleak.Find(); err != nil {
		r.Leak = err.Error()
	}
	return print(r)
}

// TestGuestClient: the Go client is told what there is, in each dialect, and leaves nothing behind.
func TestGuestClient(t *testing.T) {
	content := append([]byte{0x1f, 0x8b, 8, 0}, []byte(strings.Repeat("image bytes ", 100_000))...)
	file := filepath.Join(t.TempDir(), "image.tar.gz")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	fingerprint := hex.EncodeToString(sum[:])
	odd := "user.b%20c"
	for _, dialect := range []string{"document", "lxd", "incus"} {
		t.Run(dialect, func(t *testing.T) {
			d := serve(t, "--dialect", dialect)
			web := d.Bound("web", "user.role=frontend", odd+"=odd", "security.devlxd.images=true")
			d.CLI("device", "add", "web", "eth0", "nic", "network=br0")
			d.CLI("image", "import", file, "--public")
			var got clientResult
			guest(t, web, &got, "client", fingerprint)
			want := clientResult{
				Info:    guestapi.Info{APIVersion: "1.0"},
				Config:  map[string]string{"user.role": "frontend", odd: "odd"},
				Devices: map[string]map[string]string{"eth0": {"type": "nic", "network": "br0"}},
				Absent:  true, Secret: true, NoImage: true, Sum: fingerprint, Rest: string(content[len(content)-1:]),
				Image: guestapi.Image{Name: fingerprint + ".tar.gz", Size: int64(len(content)), Modified: got.Image.Modified},
			}
			if dialect != "document" {
				want.Info = guestapi.Info{APIVersion: "1.0", State: guestapi.Started, InstanceType: "container", Location: hostname(t)}
				want.State = guestapi.Ready
			}
			if want.MetaData = got.MetaData; !strings.Contains(got.MetaData, "local-hostname: web\n") || got.Image.Modified == "" {
				t.Errorf("meta-data %q, image %+v", got.MetaData, got.Image)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestGuestClientResumesBehindAnEvent: a follower that was killed goes on in another process where it was.
func TestGuestClientResumesBehindAnEvent(t *testing.T) {
	d := serve(t)
	web := d.Bound("web")
	first := background(t, func(ctx context.Context) *sandbox.Cmd { return web.Guest(ctx, "client-events", "", "3") })
	for n := 1; n <= 5; n++ {
		d.CLI("config", "set", "web", fmt.Sprintf("user.n=%d", n))
	}
	var got []string
	first.result(&got)
	position := got[len(got)-1]
	if want := []string{"sync", "1", "2", position}; !slices.Equal(got, want) {
		t.Fatalf("got %q; want %q", got, want)
	}
	guest(t, web, &got, "client-events", position, "3")
	if want := []string{"3", "4", "5", got[len(got)-1]}; !slices.Equal(got, want) {
		t.Errorf("behind %s: %q; want %q", position, got, want)
	}
}

// clientEventsRole follows events with package guest and prints what came, and the last position: client-events SINCE N.
func clientEventsRole(args []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var list []string
	var position string
	c := guestapi.New("")
	for event, err := range c.Events(ctx, guestapi.EventsOptions{Since: args[0]}) {
		if err != nil {
			return fail(err)
		}
		value := string(event.Type)
		if event.Config != nil {
			value = event.Config.Value
		} else {
			fmt.Fprintln(os.Stderr, "subscribed")
		}
		if list, position = append(list, value), event.Position; fmt.Sprint(len(list)) == args[1] {
			break
		}
	}
	c.Close()
	if err := goleak.Find(); err != nil {
		return fail(err)
	}
	return print(append(list, position))
}
