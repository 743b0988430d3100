package lxd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"devlxd/internal/lxdtest"
)

// subscription is a way to be told.
type subscription struct {
	name      string
	query     string
	websocket bool
}

var subscriptions = []subscription{
	{"a websocket", "", true},
	{"a JSON stream", "", false},
	{"type=config", "?type=config", true},
	{"type=device", "?type=device", true},
	{"type=config,device", "?type=config,device", true},
	{"type=device,config", "?type=device,config", false},
	{"type= twice", "?type=config&type=device", true},
	{"type= with a space", "?type=config,%20device", true},
	{"type=unknown", "?type=unknown", true},
	{"type= empty", "?type=", true},
	{"Type=config", "?Type=config", false},
}

// step is a change of the container.
type step struct {
	name string
	do   func(p *pair)
}

func steps() []step {
	set := func(config map[string]string) func(*pair) {
		return func(p *pair) { p.container.Set(config) }
	}
	device := func(name string, config map[string]string) func(*pair) {
		return func(p *pair) { p.container.Device(name, config) }
	}
	return []step{
		{"a key changes", set(map[string]string{"user.plain": "new"})},
		{"keys are added, one changes, one goes", set(map[string]string{"user.added": "<&>", "user.also": "ünï", "user.plain": "bar", "user.a+b": ""})},
		{"a key that is no guest's changes", set(map[string]string{"security.nesting": "true", "user.also": "2"})},
		{"a key of cloud-init changes", set(map[string]string{"cloud-init.user-data": "#cloud-config\n{}\n"})},
		{"nothing changes", set(map[string]string{"user.added": "<&>"})},
		{"a key goes", set(map[string]string{"user.added": ""})},
		{"a device is added", device("one", map[string]string{"type": "unix-char", "source": "/dev/null", "path": "/dev/one"})},
		{"a device changes", device("one", map[string]string{"type": "unix-char", "source": "/dev/null", "path": "/dev/two"})},
		{"a nic changes live", func(p *pair) {
			p.container.Edit(func(f *lxdtest.Full) { f.Devices["eth0"]["ipv4.routes"] = p.route })
		}},
		{"a nic changes otherwise", func(p *pair) {
			p.container.Edit(func(f *lxdtest.Full) { f.Devices["eth0"]["mtu"] = "1400" })
		}},
		{"what the operator notes of a device changes", func(p *pair) {
			p.container.Edit(func(f *lxdtest.Full) { f.Devices["one"]["user.note"] = "x" })
		}},
		{"what the operator notes of a nic changes", func(p *pair) {
			p.container.Edit(func(f *lxdtest.Full) { f.Devices["eth0"]["user.note"] = "x" })
		}},
		{"a device becomes another", device("one", map[string]string{"type": "unix-char", "source": "/dev/zero", "path": "/dev/two"})},
		{"a device becomes one of another type", device("one", map[string]string{"type": "none"})},
		{"devices are added and one goes, with a key", func(p *pair) {
			p.container.Edit(func(f *lxdtest.Full) {
				delete(f.Devices, "one")
				f.Devices["b"] = map[string]string{"type": "unix-char", "source": "/dev/null", "path": "/dev/b"}
				f.Devices["a"] = map[string]string{"type": "unix-char", "source": "/dev/null", "path": "/dev/a"}
				f.Config["user.with"] = "devices"
			})
		}},
		{"a device goes", device("a", nil)},
		{"a profile gets a key and a device", func(p *pair) {
			p.daemon.SetProfile("default", func(f *lxdtest.Profile) {
				f.Config["user.profile"] = "x"
				f.Config["user.also"] = "hidden by the container's own"
				f.Devices["full"] = map[string]string{"type": "unix-char", "source": "/dev/full", "path": "/dev/full2"}
			})
		}},
		{"the container's own device hides the profile's", device("full", map[string]string{"type": "none"})},
		{"a profile loses them", func(p *pair) {
			p.daemon.SetProfile("default", func(f *lxdtest.Profile) {
				delete(f.Config, "user.profile")
				delete(f.Devices, "full")
			})
		}},
	}
}

// askEvents compares how a subscription begins and what it is told.
func (p *pair) askEvents() {
	p.t.Helper()
	p.askAll(handshakes())
	var theirs, ours []*stream
	for _, s := range subscriptions {
		theirs = append(theirs, follow(p.t, s.name, p.theirs(), s.query, s.websocket))
		time.Sleep(breath)
		ours = append(ours, follow(p.t, s.name, p.ours(), s.query, s.websocket))
	}
	var told [2]int // how much of the first two has been compared
	for i, step := range steps() {
		step.do(p)
		if !p.mirrored {
			p.apply()
		}
		a, b := p.settle(theirs, ours, fmt.Sprintf("end of step %d", i))
		p.table.compare("events: "+step.name, p.same(showEvents(settled(a[told[0]:]))), p.same(showEvents(p.published(b[told[1]:]))))
		told[0], told[1] = len(a), len(b)
	}
	for i, s := range subscriptions {
		a, b := strip(theirs[i].list()), strip(ours[i].list())
		p.table.compare("events by "+s.name, count(a, theirs[0]), count(b, ours[0]))
	}
}

// mark is a key that is set to tell that all before it has been told.
const mark = "user.mark"

// settle sets the mark and waits until the first streams of both have it. It returns what came before.
func (p *pair) settle(theirs, ours []*stream, text string) (a, b []event) {
	p.t.Helper()
	p.container.Set(map[string]string{mark: text})
	if !p.mirrored {
		p.apply()
	}
	for i, s := range subscriptions {
		if s.name == "type=device" || s.name == "type=unknown" {
			continue // they never hear of it
		}
		theirs[i].await(p.t, text+`"`)
		ours[i].await(p.t, text+`"`)
	}
	return strip(theirs[0].list()), strip(ours[0].list())
}

// settled sorts the events of one change: those of the daemons come in the order in which Go walks a map, which is another each time.
// devlxd's come as they should be sorted.
func settled(events []event) []event {
	slices.SortFunc(events, func(a, b event) int { return cmp.Compare(rank(a), rank(b)) })
	return events
}

// published are devlxd's events of one change. The store was told of it by several commands; otherwise they are as they came.
func (p *pair) published(events []event) []event {
	if p.mirrored {
		return events
	}
	return settled(events)
}

// rank is where an event belongs in a change: config keys, then removed, added, updated devices, each sorted.
func rank(e event) string {
	if e.Type == "config" {
		return "0" + strings.Join(keysOf(e), "")
	}
	var about struct{ Action, Name string }
	_ = json.Unmarshal(e.Metadata, &about) // it has been read once
	return fmt.Sprint(1+slices.Index([]string{"removed", "added", "updated"}, about.Action), about.Name)
}

// strip takes the keys out that the test itself needs.
func strip(events []event) []event {
	return slices.DeleteFunc(events, func(e event) bool { return contains(e, mark) || contains(e, syncKey) })
}

func contains(e event, key string) bool { return slices.Contains(keysOf(e), key) }

// count says which of all events a stream has had.
func count(events []event, all *stream) string {
	every := strip(all.list())
	config := slices.DeleteFunc(slices.Clone(every), func(e event) bool { return e.Type != "config" })
	device := slices.DeleteFunc(slices.Clone(every), func(e event) bool { return e.Type != "device" })
	got := texts(events)
	switch {
	case slices.Equal(got, texts(every)):
		return "all events"
	case slices.Equal(got, texts(config)):
		return "all events of type config"
	case slices.Equal(got, texts(device)):
		return "all events of type device"
	}
	return showEvents(events)
}

// handshakes are ways to ask for events.
func handshakes() (list []question) {
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	const version = "Sec-WebSocket-Version: 13"
	ask := func(name string, headers ...string) {
		list = append(list, question{name: "handshake: " + name, send: head("GET", "/1.0/events", headers...), methods: []string{"GET"}, status: true})
	}
	ask("as it should be", "Connection: Upgrade", "Upgrade: websocket", key, version)
	ask("Connection with more", "Connection: keep-alive, Upgrade", "Upgrade: websocket", key, version)
	ask("with a subprotocol", "Connection: Upgrade", "Upgrade: websocket", key, version, "Sec-WebSocket-Protocol: chat")
	ask("with compression", "Connection: Upgrade", "Upgrade: websocket", key, version, "Sec-WebSocket-Extensions: permessage-deflate")
	ask("of the same origin", "Connection: Upgrade", "Upgrade: websocket", key, version, "Origin: http://lxd")
	ask("of another origin", "Connection: Upgrade", "Upgrade: websocket", key, version, "Origin: http://elsewhere")
	ask("without a key", "Connection: Upgrade", "Upgrade: websocket", version)
	ask("with a short key", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: abc", version)
	ask("without a version", "Connection: Upgrade", "Upgrade: websocket", key)
	ask("of another version", "Connection: Upgrade", "Upgrade: websocket", key, "Sec-WebSocket-Version: 8")
	ask("without Connection", "Upgrade: websocket", key, version)
	return list
}
