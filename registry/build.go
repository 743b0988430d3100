package registry

import (
	"slices"
	"strings"
)

// Spec is the whole desired state of one container. Put copies what it keeps: the caller may reuse the maps, and no string of the
// caller stays referenced.
type Spec struct {
	Name       string
	Hostname   string // as the guest is told; "": Name
	InstanceID string
	Config     map[string]string            // expanded
	Devices    map[string]map[string]string // expanded: name -> config
	// Same tells whether a device whose config has changed is still the same one, which is then said to be updated; else that of before is
	// removed and another one added. It must not care which of the two is the older. nil: it is the same while its type is.
	Same func(a, b *Device) bool
}

func (s *Spec) validate() error {
	if s.Name == "" {
		return ErrName
	}
	if _, ok := s.Config[""]; ok {
		return ErrName
	}
	for name, config := range s.Devices {
		if _, ok := config[""]; ok || name == "" {
			return ErrName
		}
	}
	return nil
}

// hostname is what the guest is told, never empty.
func (s *Spec) hostname() string {
	if s.Hostname != "" {
		return s.Hostname
	}
	return s.Name
}

// arena holds the short strings of one snapshot in one allocation: there are dozens of them in each of a hundred thousand snapshots.
type arena struct{ b strings.Builder }

func (a *arena) hold(s string) string {
	start := a.b.Len()
	a.b.WriteString(s)
	return a.b.String()[start:]
}

func (s *Spec) arenaSize() int {
	n := len(s.InstanceID) + len(s.Hostname)
	for key := range s.Config {
		n += len(key)
	}
	for name, config := range s.Devices {
		n += len(name)
		for key, value := range config {
			n += len(key) + len(value)
		}
	}
	return n
}

// matches reports whether the snapshot says what the spec says.
func (s *Snapshot) matches(spec *Spec) bool {
	if s.instanceID != spec.InstanceID || s.hostname != spec.hostname() || len(s.entries) != len(spec.Config) || len(s.devices) != len(spec.Devices) {
		return false
	}
	for i := range s.entries {
		value, ok := spec.Config[s.entries[i].Key]
		if !ok || string(s.entries[i].Value()) != value {
			return false
		}
	}
	for i := range s.devices {
		config, ok := spec.Devices[s.devices[i].Name]
		if !ok || len(config) != len(s.devices[i].Config) {
			return false
		}
		for _, kv := range s.devices[i].Config {
			if value, ok := config[kv.Key]; !ok || value != kv.Value {
				return false
			}
		}
	}
	return true
}

// buildSnapshot makes the snapshot of spec. Values that old has already are not rendered again, and share its bytes.
func (o *Options) buildSnapshot(name string, spec *Spec, old *Snapshot) (*Snapshot, error) {
	var text arena
	text.b.Grow(spec.arenaSize())
	s := &Snapshot{name: name, hostname: name, instanceID: text.hold(spec.InstanceID)}
	if spec.Hostname != "" {
		s.hostname = text.hold(spec.Hostname)
	}
	if err := o.buildEntries(s, &text, spec.Config, old); err != nil {
		return nil, err
	}
	buildDevices(s, &text, spec.Devices)
	s.allowed = !s.anyValue(isFalse, "security.devlxd", "security.guestapi")
	s.readLimits()
	s.images = s.anyValue(isTrue, "security.devlxd.images", "security.guestapi.images")
	return s, o.deriveEntries(s, old)
}

func (o *Options) deriveEntries(s, old *Snapshot) error {
	if o.Derive == nil {
		return nil
	}
	derived, same := o.Derive(s, old)
	if same {
		s.derived = old.derived
		return nil
	}
	for _, kv := range derived {
		e := Entry{Key: kv.Key}
		if err := o.render(&e, kv.Value); err != nil {
			return err
		}
		s.derived = append(s.derived, e)
	}
	slices.SortFunc(s.derived, compareKeys)
	return nil
}

func compareKeys(a, b Entry) int { return strings.Compare(a.Key, b.Key) }

// render sets the response of e.
func (o *Options) render(e *Entry, value string) error {
	response, body := o.RenderValue(value)
	if body < 0 || body > len(response) || string(response[body:]) != value {
		return ErrRender
	}
	e.response, e.body = response[:len(response):len(response)], uint32(body)
	return nil
}

func (o *Options) buildEntries(s *Snapshot, text *arena, config map[string]string, old *Snapshot) error {
	s.entries = make([]Entry, 0, len(config))
	for key := range config {
		s.entries = append(s.entries, Entry{Key: key})
	}
	slices.SortFunc(s.entries, compareKeys)
	for i := range s.entries {
		e := &s.entries[i]
		value := config[e.Key]
		e.Key = text.hold(e.Key)
		if j, ok := old.find(e.Key); ok && string(old.entries[j].Value()) == value {
			e.response, e.body = old.entries[j].response, old.entries[j].body
			continue
		}
		if err := o.render(e, value); err != nil {
			return err
		}
	}
	return nil
}

func buildDevices(s *Snapshot, text *arena, devices map[string]map[string]string) {
	s.devices = make([]Device, 0, len(devices))
	for name, config := range devices {
		d := Device{Name: text.hold(name), Config: make([]KV, 0, len(config))}
		for key, value := range config {
			d.Config = append(d.Config, KV{Key: text.hold(key), Value: text.hold(value)})
		}
		slices.SortFunc(d.Config, func(a, b KV) int { return strings.Compare(a.Key, b.Key) })
		s.devices = append(s.devices, d)
	}
	slices.SortFunc(s.devices, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
}

// anyValue reports whether the value of any of the keys fulfils the condition.
func (s *Snapshot) anyValue(is func([]byte) bool, keys ...string) bool {
	for _, key := range keys {
		if value, ok := s.Value(key); ok && is(value) {
			return true
		}
	}
	return false
}

// isFalse and isTrue are LXD's explicit booleans (shared/util: IsFalse, IsTrue): any case, not trimmed, empty is neither.
func isFalse(value []byte) bool { return equalAny(value, "false", "0", "no", "off") }
func isTrue(value []byte) bool  { return equalAny(value, "true", "1", "yes", "on") }

func equalAny(value []byte, words ...string) bool {
	return len(value) <= len("false") && slices.Contains(words, strings.ToLower(string(value)))
}
