package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"

	"devlxd/internal/lxdapi"
	"devlxd/source"
)

// guestPath is where guests look for the socket.
const guestPath = "/dev/lxd"

var (
	errForeignDevice = errors.New(`it has a device "devlxd" that 'devlxd attach' has not made: rename or remove that first`)
	errForeignMount  = errors.New("it has another device at /dev/lxd: remove that first")
)

// entry is a profile or a container of a daemon. What is not written by attach is kept as it was read.
type entry struct {
	what, path, etag string
	doc              document
}

// document has the parts of a profile or container that can be written, as the daemon has them.
type document struct {
	Architecture string                       `json:"architecture,omitempty"`
	Config       map[string]string            `json:"config"`
	Devices      map[string]map[string]string `json:"devices"`
	Ephemeral    bool                         `json:"ephemeral,omitempty"`
	Profiles     []string                     `json:"profiles,omitempty"`
	Stateful     bool                         `json:"stateful,omitempty"`
	Description  string                       `json:"description"`
}

// step is one change, which running containers follow before the next is made: what the key and the device become, "" and nil for none.
type step struct {
	text   string
	value  string
	device map[string]string
}

// plan are the steps of attach or detach; none: it is so already.
type plan []step

// with returns a document with a key of the config and a device set; "" and nil remove.
func (d document) with(key, value string, device map[string]string) document {
	d.Config, d.Devices = maps.Clone(d.Config), maps.Clone(d.Devices)
	if d.Config == nil {
		d.Config = make(map[string]string)
	}
	if d.Devices == nil {
		d.Devices = make(map[string]map[string]string)
	}
	delete(d.Config, key)
	if value != "" {
		d.Config[key] = value
	}
	delete(d.Devices, source.AttachDevice)
	if device != nil {
		d.Devices[source.AttachDevice] = device
	}
	return d
}

// attach plans how the guest directory gets there. The key is first: when it becomes false the daemon takes the topmost mount at
// /dev/lxd away, which is its own then, and would be the device's otherwise, also with both in one change.
func (e *entry) attach(key, guest string) (plan, error) {
	has, own := e.doc.Devices[source.AttachDevice]
	for name, device := range e.doc.Devices {
		if name != source.AttachDevice && path.Clean("/"+device["path"]) == guestPath {
			return nil, errForeignMount
		}
	}
	was := e.doc.Config[key]
	if was == "" {
		was = source.AttachUnset
	}
	var steps plan
	if own {
		if has[source.AttachWas] == "" {
			return nil, errForeignDevice
		}
		if has["source"] == guest && e.doc.Config[key] == "false" {
			return nil, nil
		}
		was = has[source.AttachWas] // of the first time
		steps = append(steps, step{"remove device devlxd, which is at " + has["source"], e.doc.Config[key], nil})
	}
	if e.doc.Config[key] != "false" {
		steps = append(steps, step{fmt.Sprintf("set %s=false (it was %s)", key, was), "false", nil})
	}
	device := map[string]string{
		"type": "disk", "source": guest, "path": guestPath, "readonly": "true", "required": "false", source.AttachWas: was,
	}
	return append(steps, step{fmt.Sprintf("add device devlxd, %s at %s", guest, guestPath), "false", device}), nil
}

// detach plans how what was before comes back. The device is first: with the key the daemon would mount its own over it, and then take that
// away in place of the device.
func (e *entry) detach(key string) (plan, error) {
	has, own := e.doc.Devices[source.AttachDevice]
	if !own {
		return nil, nil
	}
	was := has[source.AttachWas]
	if was == "" {
		return nil, errForeignDevice
	}
	steps := plan{{"remove device devlxd", e.doc.Config[key], nil}}
	switch {
	case was == source.AttachUnset:
		steps = append(steps, step{"unset " + key, "", nil})
	case was != e.doc.Config[key]:
		steps = append(steps, step{fmt.Sprintf("set %s=%s", key, was), was, nil})
	}
	return steps, nil
}

// carryOut makes the changes, each to the document as it is by then. When one fails those before it are taken back, so that it is as it was.
func (e *entry) carryOut(ctx context.Context, c *lxdapi.Client, key string, p plan) error {
	for i, s := range p {
		err := e.write(ctx, c, key, s, i > 0)
		switch {
		case err == nil:
		case i == 0:
			return fmt.Errorf("cannot %s: %w", s.text, err)
		default:
			before := step{"", e.doc.Config[key], e.doc.Devices[source.AttachDevice]}
			if back := e.write(context.WithoutCancel(ctx), c, key, before, true); back != nil {
				return fmt.Errorf("cannot %s: %w; and what was done before cannot be taken back: %w", s.text, err, back)
			}
			return fmt.Errorf("cannot %s: %w; what was done before is taken back", s.text, err)
		}
	}
	return nil
}

// write makes one change: to the document that was read, or, again, to what it is now, whoever has changed it.
func (e *entry) write(ctx context.Context, c *lxdapi.Client, key string, s step, again bool) error {
	doc, etag := e.doc, e.etag
	for try := 0; ; try++ {
		if again {
			var err error
			doc = document{}
			if etag, err = c.Get(ctx, e.path, &doc); err != nil {
				return err
			}
		}
		err := c.Put(ctx, e.path, etag, doc.with(key, s.value, s.device))
		if !again || !errors.Is(err, lxdapi.ErrChanged) || try == 3 {
			return err
		}
	}
}
