package lxd

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"devlxd/internal/lxdtest"
)

// TestMirror runs a daemon with containers as its operator would, and looks from inside of them at what devlxd makes of it.
func TestMirror(t *testing.T) {
	for _, kind := range []lxdtest.Kind{lxdtest.LXD, lxdtest.Incus} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			lxdtest.Need(t, kind)
			h := newHost(t, kind)
			// One after the other, on one host: each leaves it as it was.
			for _, story := range []struct {
				name string
				tell func(*host)
			}{
				{"each knows itself", (*host).eachKnowsItself},
				{"processes of exec", (*host).execs},
				{"a profile reaches all", (*host).profileReachesAll},
				{"a life", (*host).life},
				{"kinds of containers", (*host).kinds},
				{"a project", (*host).project},
				{"in place of the daemon's own", (*host).inPlace},
				{"attached by its operator", (*host).attached},
				{"closed before it is attached", (*host).closedBefore},
				{"switched off and on", (*host).gate},
				{"what a guest says", (*host).ready},
				{"many changes at once", (*host).burst},
				{"how soon", (*host).soon},
				{"the daemon restarts", (*host).restart},
				{"the daemon dies", (*host).crash},
			} {
				ok := t.Run(story.name, func(t *testing.T) {
					outer, daemonT := h.t, h.daemon.T
					h.t, h.daemon.T = t, t
					defer func() { h.t, h.daemon.T = outer, daemonT }()
					story.tell(h)
					h.agrees()
				})
				if !ok {
					t.Fatal("the host is not as the next story needs it")
				}
			}
			if m := h.status(); !m.Connected || m.Broken != 0 {
				t.Errorf("in the end the mirror is %+v", m)
			}
		})
	}
}

// eachKnowsItself: every guest is told its own, by a child of its init.
func (h *host) eachKnowsItself() {
	for i, pid := range h.pids {
		h.await(pid, keyPath("user.me"), fmt.Sprintf("200 c%02d", i))
		if got := fetch(h.ours(pid), "/1.0/meta-data"); !strings.Contains(got, "local-hostname: "+h.members[i].Name+"\n") && !strings.HasSuffix(got, "local-hostname: "+h.members[i].Name) {
			h.t.Errorf("meta-data of %s is %q", h.members[i].Name, got)
		}
	}
	if got := fetch(h.theirs(h.pids[3]), keyPath("user.me")); got != "200 c03" {
		h.t.Errorf("the daemon's own guest API answers %q", got)
	}
}

// execs: a process that the daemon starts in a container is that container's, and is told its own; who is not root is told nothing.
func (h *host) execs() {
	for _, i := range []int{0, 7} {
		agent, other := h.members[i].Exec(0), h.members[i].Exec(1000)
		for path, want := range map[string]string{agent: fmt.Sprintf("200 c%02d", i), other: "401 Access denied for non-root user"} {
			conn, err := h.members[i].DialFrom(path, oursDir+"/sock")
			if err != nil {
				h.t.Fatal(err)
			}
			if got := fetch(conn, keyPath("user.me")); got != want {
				h.t.Errorf("from %s: %q, want %q", path, got, want)
			}
		}
	}
}

// profileReachesAll: an edit of a profile is one event in each container that has it, and none in one that has the key itself.
func (h *host) profileReachesAll() {
	var streams []*stream
	for i, pid := range h.pids {
		streams = append(streams, follow(h.t, h.members[i].Name, h.ours(pid), "", true))
	}
	own := h.members[5]
	own.Set(map[string]string{"user.profile": "its own"})
	streams[5].await(h.t, "its own")
	h.daemon.SetProfile(guestProfile, func(p *lxdtest.Profile) {
		p.Config["user.profile"] = "for all"
		p.Devices["full"] = map[string]string{"type": "unix-char", "source": "/dev/full", "path": "/dev/full2"}
	})
	for i, s := range streams {
		if i != 5 {
			s.await(h.t, `"for all"`)
		}
		s.await(h.t, `"added"`)
	}
	h.daemon.SetProfile(guestProfile, func(p *lxdtest.Profile) {
		delete(p.Config, "user.profile")
		delete(p.Devices, "full")
	})
	const device = `{"path":"/dev/full2","source":"/dev/full","type":"unix-char"}`
	want := []string{
		`config {"key":"user.profile","old_value":"","value":"for all"}`, `device {"action":"added","config":` + device + `,"name":"full"}`,
		`config {"key":"user.profile","old_value":"for all","value":""}`, `device {"action":"removed","config":` + device + `,"name":"full"}`,
	}
	for i, s := range streams {
		s.await(h.t, `"removed"`)
		want := want
		if i == 5 {
			want = []string{`config {"key":"user.profile","old_value":"","value":"its own"}`, want[1], want[3]}
		}
		if got := texts(s.asCame()); !slices.Equal(got, want) {
			h.t.Errorf("%s was told\n%s\nwant\n%s", s.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	own.Set(map[string]string{"user.profile": ""})
}

// life: a container is created, started, stopped, renamed, copied and deleted.
func (h *host) life() {
	c := h.daemon.Create(lxdtest.DefaultProject, "life", member("life"))
	h.awaitState(c.Name, "stopped")
	c.Start()
	pid := c.PID()
	h.await(pid, keyPath("user.me"), "200 life")
	first := strings.Fields(fetch(h.ours(pid), "/1.0/meta-data"))
	s := follow(h.t, "a life", h.ours(pid), "", true)
	c.Stop()
	h.awaitState(c.Name, "stopped")
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		if s.ended() == nil {
			return "the stream of a container that was stopped goes on"
		}
		return ""
	})
	before := c.Name
	c.Rename("renamed")
	h.awaitState(before, "absent")
	h.awaitState(c.Name, "stopped")
	c.Start()
	pid = c.PID()
	h.await(pid, keyPath("user.me"), "200 life")
	second := strings.Fields(fetch(h.ours(pid), "/1.0/meta-data"))
	if want := strings.Fields(fetch(h.theirs(pid), "/1.0/meta-data")); second[len(second)-1] != c.Name || second[len(second)-3] != want[len(want)-3] || second[len(second)-3] == first[len(first)-3] {
		h.t.Errorf("meta-data before the new name %v, after it %v, the daemon's own %v", first, second, want)
	}
	copied := c.Copy("copied")
	copied.Set(map[string]string{"user.me": "copy"})
	copied.Start()
	h.await(copied.PID(), keyPath("user.me"), "200 copy")
	h.await(pid, keyPath("user.me"), "200 life")
	for _, i := range []*lxdtest.Instance{c, copied} {
		i.Stop()
		i.Delete()
		h.awaitState(i.Name, "absent")
	}
}

// kinds: containers whose root is the host's, and those that may nest others, are told their own and nothing else.
func (h *host) kinds() {
	privileged, nesting, isolated := member("privileged"), member("nesting"), member("isolated")
	privileged.Config["security.privileged"] = "true"
	nesting.Config["security.nesting"] = "true"
	isolated.Config["security.idmap.isolated"] = "true"
	var list []*lxdtest.Instance
	for short, p := range map[string]lxdtest.Profile{"privileged": privileged, "nesting": nesting, "isolated": isolated} {
		list = append(list, h.daemon.Create(lxdtest.DefaultProject, short, p))
	}
	h.start(list)
	for _, c := range list {
		pid := c.PID()
		want := "200 " + strings.TrimPrefix(c.Name, h.daemon.Name(""))
		h.await(pid, keyPath("user.me"), want)
		if got := fetch(h.theirs(pid), keyPath("user.me")); got != want {
			h.t.Errorf("the daemon's own guest API answers %q, want %q", got, want)
		}
		for name, agent := range map[string]string{"a process of exec": c.Exec(0), "one in a nested pid namespace": c.ExecNested()} {
			conn, err := c.DialFrom(agent, oursDir+"/sock")
			if err != nil {
				h.t.Fatal(err)
			}
			if got := fetch(conn, keyPath("user.me")); got != want {
				h.t.Errorf("%s is answered %q, want %q", name, got, want)
			}
		}
	}
	h.await(h.pids[0], keyPath("user.me"), "200 c00")
	for _, c := range list {
		c.Stop()
		c.Delete()
	}
}

// project: a container of another project may have a name that is taken, and is told its own; the project's own keys are nobody's.
func (h *host) project() {
	h.daemon.Do("POST", "/1.0/projects", map[string]any{"name": "team", "config": map[string]string{
		"features.images": "false", "features.profiles": "false", "user.project": "x",
	}}, nil)
	c := h.daemon.Create("team", "c00", member("team"))
	c.Start()
	pid := c.PID()
	h.await(pid, keyPath("user.me"), "200 team")
	h.await(h.pids[0], keyPath("user.me"), "200 c00")
	if got, want := fetch(h.ours(pid), keyPath("user.project")), fetch(h.theirs(pid), keyPath("user.project")); got != want && !strings.EqualFold(got, want) {
		h.t.Errorf("a key of the project: %q, want %q", got, want)
	}
	h.awaitState("team_"+c.Name, "running")
	s := follow(h.t, "in a project", h.ours(pid), "", true)
	c.Set(map[string]string{"user.n": "1"})
	s.await(h.t, `"user.n"`)
	c.Stop()
	c.Delete()
	h.awaitState("team_"+c.Name, "absent")
	h.daemon.Do("DELETE", "/1.0/projects/team", nil, nil)
}

// inPlace: where devlxd's directory is mounted over the daemon's own, guests do not know the difference. It is so from the start, or added to
// a container that runs, and taken away again, which brings the daemon's own back.
func (h *host) inPlace() {
	device := map[string]string{
		"type": "disk", "source": filepath.Dir(h.devlxd.Socket()), "path": strings.TrimSuffix(h.kind.GuestSocket(), "/sock"), "readonly": "true",
	}
	p := member("place")
	p.Profiles, p.Devices = []string{"default"}, map[string]map[string]string{"devlxd": device}
	c := h.daemon.Run("place", p)
	h.awaitState(c.Name, "running")
	h.awaitServer(c.PID(), "devlxd")
	if got := fetch(h.theirs(c.PID()), keyPath("user.me")); got != "200 place" {
		h.t.Errorf("the guest is told %q", got)
	}
	c.Stop()
	c.Delete()

	live, pid := h.members[9], h.pids[9]
	h.awaitServer(pid, "daemon")
	live.Device("in-place", device)
	h.awaitServer(pid, "devlxd")
	live.Device("in-place", nil)
	h.awaitServer(pid, "daemon")
}

// awaitServer waits until it is devlxd, or the daemon, that answers where guests look for the daemon's guest API.
func (h *host) awaitServer(pid int, want string) {
	h.t.Helper()
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		conn, err := lxdtest.DialPID(pid, h.kind.GuestSocket())
		if err != nil {
			return err.Error()
		}
		// A path that is not clean: devlxd does not find it, the daemons redirect.
		got := fetch(conn, "//1.0")
		if answers := map[string]string{"404": "devlxd", "301": "daemon"}[strings.Fields(got)[0]]; answers != want {
			return fmt.Sprintf("%s is answered by %q (%s), want %s", h.kind.GuestSocket(), answers, got, want)
		}
		return ""
	})
}

// gate: the key that takes the guest API away does so for devlxd, in open connections too.
func (h *host) gate() {
	c, pid := h.members[2], h.pids[2]
	s := follow(h.t, "gate", h.ours(pid), "", true)
	held := h.ours(pid)
	defer held.Close()
	ask := get(keyPath("user.me"))
	if got := askOn(held, ask); !strings.Contains(got, `"c02"`) {
		h.t.Errorf("on an open connection: %s", got)
	}
	keepOpen(held, func() { c.Set(map[string]string{h.kind.GuestKey(): "false"}) })
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		if got := askOn(held, ask); !strings.HasPrefix(got, "403 ") {
			return "on an open connection: " + got
		}
		return ""
	})
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		if s.ended() == nil {
			return "the stream goes on"
		}
		return ""
	})
	c.Set(map[string]string{h.kind.GuestKey(): "", "user.me": "c02"})
	h.await(pid, keyPath("user.me"), "200 c02")
}

// ready: what a guest says of itself comes to the daemon, where it takes it.
func (h *host) ready() {
	c, pid := h.members[4], h.pids[4]
	conn := h.ours(pid)
	defer conn.Close()
	if got := askOn(conn, patch("/1.0", `{"state":"Ready"}`)); !strings.HasPrefix(got, "200 ") {
		h.t.Fatalf("PATCH is answered %s", got)
	}
	if got := askOn(conn, get("/1.0")); !strings.Contains(got, `\"state\":\"Ready\"`) {
		h.t.Errorf("then /1.0 is %s", got)
	}
	if h.kind == lxdtest.LXD { // 5.0 lets nobody set it but itself
		return
	}
	lxdtest.WaitFor(h.t.Context(), h.t, patience, func() string {
		if now := c.Get(); now.Config["volatile.last_state.ready"] != "true" || !strings.EqualFold(now.Status, "ready") {
			return fmt.Sprintf("the daemon has it %s, ready %q", now.Status, now.Config["volatile.last_state.ready"])
		}
		return ""
	})
}

// burst: of changes as fast as the daemon takes them guests may miss values in between, as they do with the daemon, but no key, and what they
// are told fits together.
func (h *host) burst() {
	const changes, keys = 40, 4
	pid := h.pids[1]
	ours, theirs := follow(h.t, "ours", h.ours(pid), "", true), follow(h.t, "theirs", h.theirs(pid), "", true)
	others := make([]*stream, crowd)
	for i := 2; i < crowd; i++ {
		others[i] = follow(h.t, h.members[i].Name, h.ours(h.pids[i]), "", true)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for i := 2; i < crowd; i++ {
			h.patch(h.members[i], map[string]string{"user.burst": fmt.Sprint(i)})
		}
	})
	for i := range changes {
		h.patch(h.members[1], map[string]string{fmt.Sprint("user.burst", i%keys): fmt.Sprint(i)})
	}
	group.Wait()
	h.patch(h.members[1], map[string]string{mark: "end"})
	ours.await(h.t, `"end"`)
	theirs.await(h.t, `"end"`)
	told, sent := ours.asCame(), theirs.list()
	h.t.Logf("%d changes: the daemon has told %d, devlxd %d", changes+1, len(sent), len(told))
	now := make(map[string]string)
	for _, e := range told {
		c := configOf(h.t, e)
		if c.OldValue != now[c.Key] {
			h.t.Errorf("%s does not follow on %q", e, now[c.Key])
		}
		now[c.Key] = c.Value
	}
	for i := changes - keys; i < changes; i++ {
		if key := fmt.Sprint("user.burst", i%keys); now[key] != fmt.Sprint(i) {
			h.t.Errorf("in the end %s is told to be %q, want %d", key, now[key], i)
		}
	}
	if position := 0; len(told) <= len(sent) {
		for _, e := range told { // each of ours that is one of theirs stands in their order
			if at := slices.IndexFunc(sent, func(s event) bool {
				return configOf(h.t, s).Key == configOf(h.t, e).Key && configOf(h.t, s).Value == configOf(h.t, e).Value
			}); at < 0 {
				h.t.Errorf("the daemon has not told %s", e)
			} else if at < position-keys {
				h.t.Errorf("%s stands too late", e)
			} else {
				position = at
			}
		}
	}
	for i := 2; i < crowd; i++ {
		others[i].await(h.t, fmt.Sprintf(`"value":"%d"`, i))
		if got := others[i].asCame(); len(got) != 1 {
			h.t.Errorf("%s was told %v", others[i].name, texts(got))
		}
		h.patch(h.members[i], map[string]string{"user.burst": ""})
	}
}

// patch changes keys in one call, which is as fast as a daemon takes them.
func (h *host) patch(c *lxdtest.Instance, config map[string]string) {
	if err := h.daemon.Call("PATCH", "/1.0/instances/"+c.Name, map[string]any{"config": config}, nil); err != nil {
		h.t.Error(err)
	}
}

// latencyBound is what nothing here takes; what it does take is in the log. A busy machine with two cores is allowed a lot.
const latencyBound = 5 * time.Second

// soon: containers appear and vanish, and guests are told, soon after the daemon says so.
func (h *host) soon() {
	const times = 5
	c := h.daemon.Create(lxdtest.DefaultProject, "soon", member("soon"))
	h.awaitState(c.Name, "stopped")
	events := h.daemon.Watch(h.t.Context())
	var appear, vanish, told, first []time.Duration
	for range times {
		appear = append(appear, h.after(events, "instance-started", c, "running", func() error { return c.TryState("start") }))
		vanish = append(vanish, h.after(events, "instance-stopped", c, "stopped", func() error { return c.TryState("stop") }))
	}
	c.Delete()
	pid := h.pids[8]
	ours, theirs := follow(h.t, "ours", h.ours(pid), "", true), follow(h.t, "theirs", h.theirs(pid), "", true)
	for i := range times {
		value := fmt.Sprintf(`"value":"soon %d"`, i)
		begin := time.Now()
		h.patch(h.members[8], map[string]string{"user.soon": fmt.Sprint("soon ", i)})
		a, b := ours.await(h.t, value), theirs.await(h.t, value)
		told, first = append(told, a.arrived.Sub(begin)), append(first, b.arrived.Sub(begin))
	}
	h.patch(h.members[8], map[string]string{"user.soon": ""})
	h.t.Logf("a container appears %s after the daemon's event of its start, vanishes %s after that of its stop", spread(appear), spread(vanish))
	h.t.Logf("a guest is told of a change %s after it was asked for, by the daemon itself %s", spread(told), spread(first))
	for _, d := range slices.Concat(appear, vanish, told) {
		if d > latencyBound {
			h.t.Errorf("it took %v", d)
		}
	}
}

// after does something and measures from the daemon's event until devlxd has the container so: below zero when that is before the event.
func (h *host) after(events <-chan lxdtest.Lifecycle, action string, c *lxdtest.Instance, want string, do func() error) time.Duration {
	h.t.Helper()
	reached := make(chan time.Time, 1)
	go func() {
		for h.state(c.Name) != want && h.t.Context().Err() == nil {
			time.Sleep(500 * time.Microsecond)
		}
		reached <- time.Now()
	}()
	if err := do(); err != nil {
		h.t.Fatal(err)
	}
	limit := time.After(patience)
	for {
		select {
		case e := <-events:
			if e.Action != action || !strings.HasSuffix(strings.SplitN(e.Source, "?", 2)[0], "/"+c.Name) {
				continue
			}
			select {
			case at := <-reached:
				return at.Sub(e.Arrived)
			case <-limit:
				h.t.Fatalf("devlxd has %s %s, want %s", c.Name, h.state(c.Name), want)
			}
		case <-limit:
			h.t.Fatalf("no event %s of %s", action, c.Name)
		}
	}
}

// spread is the least, the median and the greatest.
func spread(list []time.Duration) string {
	slices.Sort(list)
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	return fmt.Sprintf("%v/%v/%v", round(list[0]), round(list[len(list)/2]), round(list[len(list)-1]))
}
