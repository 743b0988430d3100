package demo

import (
	"context"
	"fmt"
	"strconv"
)

const pathEvents = "/1.0/events?position=true"

// burst is the number of changes that are made in a row without reading an event.
const burst = 25

// change is a command of the operator and what those who listen are told of it.
type change struct {
	args   []string
	events []event
}

// showEvents leaves web and db listening.
func (t *Tour) showEvents(ctx context.Context) (err error) {
	t.p.shell("web", "curl -N --unix-socket "+guestSocket+" 'ws://lxd"+pathEvents+"' &")
	if t.web, err = t.listen(ctx, "web", overWebsocket); err != nil {
		return err
	}
	t.p.check("web listens on a websocket")
	t.p.shell("db", "curl -N --unix-socket "+guestSocket+" 'http://lxd"+pathEvents+"' &")
	if t.db, err = t.listen(ctx, "db", overStream); err != nil {
		return err
	}
	t.p.check("db listens on a stream, one JSON event a line")
	for _, c := range changes() {
		if err := t.change(ctx, c); err != nil {
			return err
		}
	}
	return t.burst(ctx)
}

// changes is the script: what is done, and what is heard in the same container.
func changes() []change {
	web, kvm := settings()["web"], map[string]any{"type": "unix-char", "path": "/dev/kvm"}
	return []change{
		{[]string{"config", "set", "web", "user.role=" + web.role + "-2", "user.color=green"}, []event{
			configEvent("user.color", "", "green"), configEvent("user.role", web.role, web.role+"-2"),
		}},
		{[]string{"config", "set", "db", "user.role=replica"}, []event{configEvent("user.role", settings()["db"].role, "replica")}},
		{[]string{"device", "add", "web", "kvm", "unix-char", "path=/dev/kvm"}, []event{deviceEvent("added", "kvm", kvm)}},
		{[]string{"device", "set", "web", "eth0", "network=br1"}, []event{
			deviceEvent("updated", "eth0", map[string]any{"type": "nic", "network": "br1"}),
		}},
		{[]string{"device", "remove", "web", "kvm"}, []event{deviceEvent("removed", "kvm", kvm)}},
		// Neither the keys of another container nor those outside of user.* are events here.
		{[]string{"config", "set", "cache", "user.role=lru"}, nil},
		{[]string{"config", "set", "db", "security.devlxd.images=false"}, nil},
		{[]string{"config", "unset", "db", "user.role"}, []event{configEvent("user.role", "replica", "")}},
	}
}

// change makes a change and waits for its events.
func (t *Tour) change(ctx context.Context, c change) error {
	if err := t.command(ctx, c.args...); err != nil {
		return err
	}
	s := t.web
	if c.args[2] == t.db.name {
		s = t.db
	}
	for _, e := range c.events {
		text, err := s.expect(ctx, e)
		if err != nil {
			return err
		}
		t.p.check("%s: %s", s.name, text)
	}
	if c.events == nil {
		t.p.say("(nobody who listens is told)")
	}
	return nil
}

// burst makes changes faster than they are read.
func (t *Tour) burst(ctx context.Context) error {
	t.p.shell("", "for i in $(seq "+strconv.Itoa(burst)+"); do devlxd config set web user.n=$i; devlxd config set db user.n=$i; done")
	for i := range burst {
		for _, name := range []string{"web", "db"} {
			if err := t.quietly(ctx, "config", "set", name, fmt.Sprintf("user.n=%d", i+1)); err != nil {
				return err
			}
		}
	}
	for _, s := range []*subscription{t.web, t.db} {
		before := ""
		for i := range burst {
			value := strconv.Itoa(i + 1)
			if _, err := s.expect(ctx, configEvent("user.n", before, value)); err != nil {
				return err
			}
			before = value
		}
		t.p.check("%s: %d events, in order, none missing, up to position %s", s.name, burst, s.last.Position)
	}
	return nil
}
