package registry

import (
	"slices"
	"strings"
	"sync/atomic"
)

// Entry is one config key with its value and the response rendered from it. Its bytes are shared and must not be changed.
type Entry struct {
	Key      string
	response []byte
	body     uint32 // where the value starts in response
}

// Value returns the value, a part of Response.
func (e *Entry) Value() []byte { return e.response[e.body:len(e.response):len(e.response)] }

// Response returns what Options.RenderValue made of the value.
func (e *Entry) Response() []byte { return e.response }

// KV is one key of a device's config with its value.
type KV struct{ Key, Value string }

// Device is one device with its config, sorted by key.
type Device struct {
	Name   string
	Config []KV
}

// Get returns the value of a key, "" when it is absent.
func (d *Device) Get(key string) string {
	if i, ok := d.find(key); ok {
		return d.Config[i].Value
	}
	return ""
}

func (d *Device) find(key string) (int, bool) {
	return slices.BinarySearchFunc(d.Config, key, func(kv KV, key string) int { return strings.Compare(kv.Key, key) })
}

// AppendJSON appends the config as a JSON object, keys in order, encoded as by AppendJSONString.
func (d *Device) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range d.Config {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSONString(dst, d.Config[i].Key)
		dst = append(dst, ':')
		dst = AppendJSONString(dst, d.Config[i].Value)
	}
	return append(dst, '}')
}

// Render names a whole body that is made from a snapshot and kept with it.
type Render uint8

// The bodies that a snapshot can keep.
const (
	RenderConfigList Render = iota // the list of readable keys
	RenderMetaData                 // meta-data
	RenderDevices                  // the devices and their config

	renders = 3
)

// AllRenders lists every Render.
func AllRenders() []Render { return []Render{RenderConfigList, RenderMetaData, RenderDevices} }

// String returns a short label, "" for an unknown value.
func (k Render) String() string {
	switch k {
	case RenderConfigList:
		return "config-list"
	case RenderMetaData:
		return "meta-data"
	case RenderDevices:
		return "devices"
	default:
		return ""
	}
}

// Snapshot is the state of one container at one time: immutable, safe for concurrent use, and replaced whole by Put. Slices and bytes
// that it returns are shared and must not be changed.
type Snapshot struct {
	name       string
	hostname   string
	instanceID string
	entries    []Entry  // sorted by key
	derived    []Entry  // sorted by key; see Options.Derive
	devices    []Device // sorted by name
	rendered   [renders]atomic.Pointer[[]byte]
	limits     *Limits // nil: none set
	allowed    bool
	images     bool
}

// Name returns the name of the container.
func (s *Snapshot) Name() string { return s.name }

// Hostname returns what the guest is told as its name: the Spec's Hostname, or the name of the container.
func (s *Snapshot) Hostname() string { return s.hostname }

// InstanceID returns the Spec's InstanceID as given.
func (s *Snapshot) InstanceID() string { return s.instanceID }

// Config returns every key, sorted.
func (s *Snapshot) Config() []Entry { return s.entries }

// Devices returns every device with its config as given, sorted by name.
func (s *Snapshot) Devices() []Device { return s.devices }

// Allowed reports whether the guest API is open to the container: unless security.devlxd or security.guestapi is explicitly false.
func (s *Snapshot) Allowed() bool { return s.allowed }

// ImagesAllowed reports whether security.devlxd.images or security.guestapi.images is explicitly true. It does not imply Allowed.
func (s *Snapshot) ImagesAllowed() bool { return s.images }

// Lookup returns the response for a key: the derived one if there is, else the one rendered from the value. It allocates nothing.
func (s *Snapshot) Lookup(key []byte) (response []byte, ok bool) {
	if response, ok = lookup(s.derived, key); ok {
		return response, true
	}
	return lookup(s.entries, key)
}

func lookup(entries []Entry, key []byte) (response []byte, ok bool) {
	lo, hi := 0, len(entries)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if entries[mid].Key < string(key) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(entries) || entries[lo].Key != string(key) {
		return nil, false
	}
	return entries[lo].response, true
}

// Value returns the value of a key. It allocates nothing.
func (s *Snapshot) Value(key string) ([]byte, bool) {
	i, ok := s.find(key)
	if !ok {
		return nil, false
	}
	return s.entries[i].Value(), true
}

func (s *Snapshot) find(key string) (int, bool) {
	return slices.BinarySearchFunc(s.entries, key, func(e Entry, key string) int { return strings.Compare(e.Key, key) })
}

// Rendered returns the body k, made by build when it is asked for the first time and kept as long as the snapshot. Two callers at once
// may both build; all of them get the one result that is kept. build must be pure and must not return bytes that it changes later.
// For an unknown k nothing is kept.
func (s *Snapshot) Rendered(k Render, build func(*Snapshot) []byte) []byte {
	if k >= renders {
		return build(s)
	}
	if body := s.rendered[k].Load(); body != nil {
		return *body
	}
	body := build(s)
	s.rendered[k].CompareAndSwap(nil, &body)
	return *s.rendered[k].Load()
}

// DevicesWithHwaddr returns Devices, but each device of type nic whose hwaddr is absent or empty gets it from the config key
// volatile.NAME.hwaddr, so that cloud-init can tell the interfaces apart (LXD: devLXDDevicesGetHandler). Where there is
// nothing to fill in, it returns Devices itself.
func (s *Snapshot) DevicesWithHwaddr() []Device {
	devices, copied := s.devices, false
	for i := range s.devices {
		d := &s.devices[i]
		if d.Get("type") != "nic" || d.Get("hwaddr") != "" {
			continue
		}
		hwaddr, _ := s.Value("volatile." + d.Name + ".hwaddr")
		if len(hwaddr) == 0 {
			continue
		}
		if !copied {
			devices, copied = slices.Clone(s.devices), true
		}
		devices[i].Config = d.with("hwaddr", string(hwaddr))
	}
	return devices
}

// with returns a copy of the config with one key set.
func (d *Device) with(key, value string) []KV {
	i, ok := d.find(key)
	if ok {
		config := slices.Clone(d.Config)
		config[i].Value = value
		return config
	}
	config := make([]KV, 0, len(d.Config)+1)
	config = append(config, d.Config[:i]...)
	config = append(config, KV{Key: key, Value: value})
	return append(config, d.Config[i:]...)
}
