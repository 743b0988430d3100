package registry

import (
	"slices"
	"strings"
	"time"
)

// eventPrefix is the only namespace whose changes are events: LXD sends none for cloud-init.* and the rest.
const eventPrefix = "user."

// draft is an event that is not in a ring yet.
type draft struct {
	typ     EventType
	payload []byte
	at      time.Duration // on the registry's Clock; 0: not known
}

// diff returns the events that lead from one snapshot to the other: changed user.* keys, then devices removed, added and updated, each
// sorted by name. An absent value counts as empty, as it does in the event itself. same is [Spec.Same].
func diff(from, to *Snapshot, at time.Time, same func(a, b *Device) bool) []draft {
	if same == nil {
		same = sameType
	}
	drafts := diffConfig(nil, from.userKeys(), to.userKeys(), at)
	drafts = diffDevices(drafts, actionRemoved, from.devices, to.devices, at, same)
	drafts = diffDevices(drafts, actionAdded, to.devices, from.devices, at, same)
	return diffDevices(drafts, actionUpdated, to.devices, from.devices, at, same)
}

func sameType(a, b *Device) bool { return a.Get("type") == b.Get("type") }

// userKeys returns the entries under eventPrefix; they stand together because entries are sorted.
func (s *Snapshot) userKeys() []Entry {
	first, _ := s.find(eventPrefix)
	last := first
	for last < len(s.entries) && strings.HasPrefix(s.entries[last].Key, eventPrefix) {
		last++
	}
	return s.entries[first:last]
}

func diffConfig(drafts []draft, from, to []Entry, at time.Time) []draft {
	for len(from) > 0 || len(to) > 0 {
		var key string
		var oldValue, value []byte
		order := 0
		switch {
		case len(to) == 0:
			order = -1
		case len(from) == 0:
			order = 1
		default:
			order = strings.Compare(from[0].Key, to[0].Key)
		}
		if order <= 0 {
			key, oldValue, from = from[0].Key, from[0].Value(), from[1:]
		}
		if order >= 0 {
			key, value, to = to[0].Key, to[0].Value(), to[1:]
		}
		if string(oldValue) == string(value) {
			continue
		}
		room := 128 + len(key) + len(oldValue) + len(value)
		payload := appendConfigEvent(make([]byte, 0, room), at, key, oldValue, value)
		drafts = append(drafts, draft{typ: EventConfig, payload: payload})
	}
	return drafts
}

// diffDevices adds the events of one action: a device is added or removed when the other side has none of this name that is the same one,
// and updated when the other side has it with another config.
func diffDevices(drafts []draft, action deviceAction, devices, others []Device, at time.Time, isSame func(a, b *Device) bool) []draft {
	for i := range devices {
		d := &devices[i]
		j, ok := slices.BinarySearchFunc(others, d.Name, func(o Device, name string) int { return strings.Compare(o.Name, name) })
		equal := ok && slices.Equal(d.Config, others[j].Config)
		same := ok && (equal || isSame(d, &others[j]))
		if equal || same != (action == actionUpdated) {
			continue
		}
		drafts = append(drafts, draft{typ: EventDevice, payload: appendDeviceEvent(nil, at, action, d)})
	}
	return drafts
}
