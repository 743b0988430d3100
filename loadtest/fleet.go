package loadtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/loadtest/guests"
	"devlxd/loadtest/target"
)

// settleStep is how often is looked whether connections of before are over.
const settleStep = 10 * time.Millisecond

// Fleet is the emulated containers of a run, and what each must be answered.
type Fleet struct {
	Set   *guests.Set
	names []string
	size  int
	wants []want // to a read of the key
	same  bool   // the target answers every container alike
	event uint64 // number of the last event that was published
	// crowds is how many there have been.
	crowds int
}

// NewFleet names the guests; size is that of their configuration value in bytes.
func NewFleet(set *guests.Set, size int) *Fleet {
	f := &Fleet{Set: set, size: max(size, 3)}
	for i := range set.Len() {
		f.names = append(f.names, fmt.Sprintf("load-%05d", i))
		f.wants = append(f.wants, want{status: 200, body: secret(i, f.size)})
	}
	return f
}

// turnTo has the guests connect to a socket from here on. It waits for the connections that an earlier run has asked for and that a slow server
// has not let in, and closes them.
func (f *Fleet) turnTo(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	for {
		err := f.Set.Receive(func(c guests.Conn) {
			if c.FD >= 0 {
				_ = unix.Close(c.FD)
			}
		})
		if err == nil {
			err = f.Set.SetSocket(socket)
		}
		if !errors.Is(err, guests.ErrBusy) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("connections to another server are still under way: %w", ctx.Err())
		case <-time.After(settleStep):
		}
	}
}

// Rename gives the guests the names that a daemon knows them by.
func (f *Fleet) Rename(names []string) { copy(f.names, names) }

// Containers is what a target is told.
func (f *Fleet) Containers() []target.Container {
	list := make([]target.Container, len(f.names))
	for i, name := range f.names {
		list[i] = target.Container{Name: name, PID: f.Set.Init(i), Config: f.config(i)}
	}
	return list
}

// config is what a container is registered with: what cloud-init reads.
func (f *Fleet) config(i int) map[string]string {
	return map[string]string{
		target.Key:                  string(f.wants[i].body),
		"cloud-init.user-data":      "#cloud-config\nhostname: " + f.names[i] + "\n",
		"cloud-init.vendor-data":    "#cloud-config\n{}\n",
		"cloud-init.network-config": "version: 2\n",
	}
}

// want is the answer to a read of the key by a guest.
func (f *Fleet) want(guest int32) *want {
	if f.same {
		return &f.wants[0]
	}
	return &f.wants[guest]
}

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"

// secret is a value of its own for each container: three digits of base 64, repeated.
func secret(i, size int) []byte {
	three := []byte{alphabet[i>>12&63], alphabet[i>>6&63], alphabet[i&63]}
	return slices.Concat(three, []byte(strings.Repeat(string(three), size/3)))[:size]
}

// step is one request of what cloud-init asks for at boot, each on a connection of its own (cloudinit.sources.DataSourceLXD).
type step struct {
	request []byte
	want    want
}

// boot is what a container asks for: its metadata, the list of keys, each value, the devices.
func (f *Fleet) boot(i int) []step {
	config := f.config(i)
	keys := make([]string, 0, len(config))
	for key := range config {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	hostname := "local-hostname: " + f.names[i] + "\n"
	steps := []step{{cloudInitRequest("/1.0/meta-data"), want{status: 200, check: func(body []byte) error {
		if !strings.Contains(string(body), hostname) {
			return fmt.Errorf("no %q in metadata %.200q", hostname, body)
		}
		return nil
	}}}, {cloudInitRequest("/1.0/config"), want{status: 200, check: func(body []byte) error {
		var paths []string
		if err := json.Unmarshal(body, &paths); err != nil {
			return fmt.Errorf("list of keys: %w", err)
		}
		for _, key := range keys {
			if !slices.Contains(paths, "/1.0/config/"+key) {
				return fmt.Errorf("no %s in the list of keys %.200q", key, body)
			}
		}
		return nil
	}}}}
	for _, key := range keys {
		steps = append(steps, step{cloudInitRequest("/1.0/config/" + key), want{status: 200, body: []byte(config[key])}})
	}
	return append(steps, step{cloudInitRequest("/1.0/devices"), want{status: 200, check: func(body []byte) error {
		var devices map[string]map[string]string
		if err := json.Unmarshal(body, &devices); err != nil {
			return fmt.Errorf("devices: %w", err)
		}
		return nil
	}}})
}

// cloudInitRequest is a request as cloud-init's Python sends it.
func cloudInitRequest(path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: lxd\r\nUser-Agent: python-requests/2.28.1\r\n" +
		"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n")
}

// keyRequest is a read of the key as curl sends it.
var keyRequest = "GET /1.0/config/" + target.Key + " HTTP/1.1\r\nHost: lxd\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"

// upgradeRequest subscribes to configuration events.
var upgradeRequest = "GET /1.0/events?type=config HTTP/1.1\r\nHost: lxd\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: " + handshakeKey + "\r\nSec-WebSocket-Version: 13\r\n\r\n"
