package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"devlxd/registry"
	"devlxd/registry/registrytest"

	"pgregory.net/rapid"
)

func TestParseTypes(t *testing.T) {
	both := registry.EventConfig | registry.EventDevice
	for in, want := range map[string]registry.EventType{
		"": both, "config": registry.EventConfig, "device": registry.EventDevice, "config,device": both, "device,config,config": both,
		"config, device": registry.EventConfig, "foo": 0, "Config": 0, ",": 0, "foo,device": registry.EventDevice, "config,": registry.EventConfig,
		"configdevice": 0,
	} {
		t.Run(in, func(t *testing.T) {
			if got := registry.ParseTypes([]byte(in)); got != want {
				t.Errorf("ParseTypes = %b; want %b", got, want)
			}
		})
	}
}

// TestLabels: each member of a closed set is listed once and has a label of its own.
func TestLabels(t *testing.T) {
	labels := map[string]bool{}
	for _, typ := range registry.AllEventTypes() {
		labels[typ.String()] = true
		if got := registry.ParseTypes([]byte(typ.String())); got != typ {
			t.Errorf("ParseTypes(%q) = %b; want %b", typ, got, typ)
		}
	}
	for _, k := range registry.AllRenders() {
		labels[k.String()] = true
	}
	if labels[""] || len(labels) != len(registry.AllEventTypes())+len(registry.AllRenders()) {
		t.Errorf("labels = %v; want a different one for each", labels)
	}
	if next := registry.EventType(1 << len(registry.AllEventTypes())); next.String() != "" {
		t.Errorf("AllEventTypes lacks %q", next)
	}
	if next := registry.Render(len(registry.AllRenders())); next.String() != "" {
		t.Errorf("AllRenders lacks %q", next)
	}
}

// The members of an event in their order, for encoding/json.
type referenceEvent struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Metadata  any       `json:"metadata"`
	Position  string    `json:"position,omitempty"`
}

// publishOne runs one Put on a running container and returns its events.
func publishOne(t testing.TB, o registry.Options, from, to registry.Spec) []*registry.Event {
	t.Helper()
	var host registrytest.Host
	r := registry.New(o)
	ring := host.Start(t, r, from).Ring()
	cursor := ring.Subscribe(registry.EventConfig | registry.EventDevice)
	if _, err := r.Put(to); err != nil {
		t.Fatal(err)
	}
	return registrytest.Drain(t, ring, &cursor)
}

func TestEventLikeEncodingJSON(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(rt *rapid.T) {
		offset := rapid.IntRange(-12, 12).Draw(rt, "zone") * 3600
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(rt, "s"), rapid.Int64Range(0, 999_999_999).Draw(rt, "ns"))
		at = at.In(time.FixedZone("", offset))
		key, before, after := "user."+text.Draw(rt, "key"), text.Draw(rt, "before"), text.Draw(rt, "after")
		device, config := "d"+text.Draw(rt, "device"), rapid.MapOf(rapid.Map(text, func(s string) string { return "k" + s }), text).Draw(rt, "config")
		o := registry.Options{Now: func() time.Time { return at }}
		from := registry.Spec{Name: "c1", Config: map[string]string{key: before}}
		to := registry.Spec{Name: "c1", Config: map[string]string{key: after}, Devices: map[string]map[string]string{device: config}}
		events := publishOne(t, o, from, to)
		var want []referenceEvent
		if before != after {
			want = append(want, referenceEvent{Type: "config", Metadata: map[string]any{"key": key, "old_value": before, "value": after}})
		}
		want = append(want, referenceEvent{Type: "device", Metadata: map[string]any{"action": "added", "name": device, "config": config}})
		if len(events) != len(want) {
			rt.Fatalf("%d events; want %d", len(events), len(want))
		}
		for i, event := range events {
			want[i].Timestamp = at
			if got, want := string(event.Payload(false)), referenceJSON(rt, want[i])+"\n"; got != want {
				rt.Fatalf("payload\n%s; want\n%s", got, want)
			}
			want[i].Position = event.Position().String()
			if got, want := string(event.Payload(true)), referenceJSON(rt, want[i])+"\n"; got != want {
				rt.Fatalf("payload with position\n%s; want\n%s", got, want)
			}
		}
	})
}

// TestFrames: the hook makes each variant once, with the payload at the offset it says.
func TestFrames(t *testing.T) {
	calls := 0
	frame := func(payload []byte) ([]byte, int) {
		calls++
		head := fmt.Appendf(nil, "[%d]", len(payload))
		return append(head, payload...), len(head)
	}
	events := publishOne(t, registry.Options{FrameEvent: frame}, registry.Spec{Name: "c1"},
		registry.Spec{Name: "c1", Config: map[string]string{"user.a": "1"}})
	event := events[0]
	for range 3 {
		for _, position := range []bool{false, true} {
			payload := event.Payload(position)
			want := fmt.Sprintf("[%d]%s", len(payload), payload)
			if got := string(event.Frame(position)); got != want {
				t.Errorf("Frame(%v) = %q; want %q", position, got, want)
			}
			if got := bytes.Contains(payload, []byte(`,"position":"`+event.Position().String()+"\"}\n")); got != position {
				t.Errorf("Payload(%v) = %s", position, payload)
			}
			var v map[string]any
			if err := json.Unmarshal(payload, &v); err != nil {
				t.Errorf("Payload(%v): %v", position, err)
			}
			if cap(payload) != len(payload) {
				t.Errorf("Payload(%v) can be appended to in place", position)
			}
		}
	}
	if calls != 2 {
		t.Errorf("frames made %d times; want once for each variant", calls)
	}
}

func TestEventsOfOnePut(t *testing.T) {
	nic := map[string]string{"type": "nic", "name": "eth0"}
	nic2 := map[string]string{"type": "nic", "name": "eth1"}
	disk := map[string]string{"type": "disk", "path": "/"}
	type devices = map[string]map[string]string
	for _, tt := range []struct {
		name     string
		from, to registry.Spec
		want     []string // "key old new" or "action name config"
	}{
		{name: "nothing", from: registry.Spec{Config: map[string]string{"user.a": "1"}}, to: registry.Spec{Config: map[string]string{"user.a": "1"}}},
		{name: "set, change and unset sorted",
			from: registry.Spec{Config: map[string]string{"user.b": "1", "user.z": "9", "user.same": "s"}},
			to:   registry.Spec{Config: map[string]string{"user.b": "2", "user.a": "0", "user.same": "s"}},
			want: []string{"user.a||0", "user.b|1|2", "user.z|9|"}},
		{name: "only user keys",
			from: registry.Spec{Config: map[string]string{"cloud-init.user-data": "1", "security.nesting": "1", "user": "1", "users.a": "1", "user-a": "1"}},
			to:   registry.Spec{Config: map[string]string{"cloud-init.user-data": "2", "volatile.x": "1", "user.": "x", "uses": "2"}},
			want: []string{"user.||x"}},
		{name: "absent is empty",
			from: registry.Spec{Config: map[string]string{"user.a": "", "user.c": "x"}},
			to:   registry.Spec{Config: map[string]string{"user.b": "", "user.c": ""}},
			want: []string{"user.c|x|"}},
		{name: "instance id only", from: registry.Spec{InstanceID: "1"}, to: registry.Spec{InstanceID: "2"}},
		{name: "devices removed, added, updated",
			from: registry.Spec{Devices: devices{"same": disk, "up2": nic, "up1": nic, "gone2": disk, "gone1": nic}},
			to:   registry.Spec{Devices: devices{"same": disk, "up2": nic2, "up1": nic2, "new2": disk, "new1": nic}, Config: map[string]string{"user.k": "v"}},
			want: []string{"user.k||v",
				`removed|gone1|{"name":"eth0","type":"nic"}`, `removed|gone2|{"path":"/","type":"disk"}`,
				`added|new1|{"name":"eth0","type":"nic"}`, `added|new2|{"path":"/","type":"disk"}`,
				`updated|up1|{"name":"eth1","type":"nic"}`, `updated|up2|{"name":"eth1","type":"nic"}`}},
		{name: "another type is another device",
			from: registry.Spec{Devices: devices{"x": disk}}, to: registry.Spec{Devices: devices{"x": nic}},
			want: []string{`removed|x|{"path":"/","type":"disk"}`, `added|x|{"name":"eth0","type":"nic"}`}},
		{name: "the source says what is the same device",
			from: registry.Spec{Devices: devices{"x": disk, "y": nic, "z": nic}},
			to: registry.Spec{Devices: devices{"x": nic, "y": nic2, "z": nic}, Same: func(a, b *registry.Device) bool {
				return a.Get("type") != b.Get("type")
			}},
			want: []string{`removed|y|{"name":"eth0","type":"nic"}`, `added|y|{"name":"eth1","type":"nic"}`, `updated|x|{"name":"eth0","type":"nic"}`}},
		{name: "empty device config",
			from: registry.Spec{}, to: registry.Spec{Devices: devices{"x": nil}}, want: []string{`added|x|{}`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.from.Name, tt.to.Name = "c1", "c1"
			var got []string
			for _, event := range publishOne(t, registry.Options{}, tt.from, tt.to) {
				got = append(got, describe(t, event))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// describe returns "key|old|new" or "action|name|config".
func describe(t rapid.TB, event *registry.Event) string {
	t.Helper()
	var v struct {
		Type     string
		Metadata struct {
			Key, Value, Action, Name string
			OldValue                 string `json:"old_value"`
			Config                   json.RawMessage
		}
	}
	if err := json.Unmarshal(event.Payload(false), &v); err != nil {
		t.Fatal(err)
	}
	if v.Type != event.Type().String() {
		t.Errorf("type member %q in an event of type %q", v.Type, event.Type())
	}
	m := v.Metadata
	if event.Type() == registry.EventConfig {
		return strings.Join([]string{m.Key, m.OldValue, m.Value}, "|")
	}
	return strings.Join([]string{m.Action, m.Name, string(m.Config)}, "|")
}
