package lxd

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"devlxd/internal/daemontest"
	"devlxd/internal/lxdtest"
)

// oursDir is where devlxd's directory is mounted in containers that have the daemon's own guest API as well.
const oursDir = "/devlxd-ours"

// pair is a container that can ask both.
type pair struct {
	t         *testing.T
	kind      lxdtest.Kind
	daemon    *lxdtest.Daemon
	devlxd    *daemontest.Daemon
	container *lxdtest.Instance
	pid       int
	route     string // an address that no other container is given
	table     *table
	mirrored  bool                 // devlxd mirrors the daemon
	gets      [2]map[string]string // what GET of each path was answered
	synced    int                  // times that awaitMirror was called
	apply     func()               // brings what the daemon has changed to devlxd
}

// TestAgreement asks the guest API of a daemon and that of devlxd the same questions, from the same container. They have to be
// answered alike, but for what testdata/differences-*.txt lists with the reason.
func TestAgreement(t *testing.T) {
	for i, tc := range []struct {
		kind    lxdtest.Kind
		mirror  bool
		dialect string
		table   string
	}{
		{lxdtest.LXD, false, "lxd", "differences-lxd.txt"},
		{lxdtest.LXD, true, "lxd", "differences-lxd.txt"},
		{lxdtest.LXD, true, "incus", "differences-lxd-as-incus.txt"},
		{lxdtest.Incus, false, "incus", "differences-incus.txt"},
		{lxdtest.Incus, true, "incus", "differences-incus.txt"},
	} {
		from := map[bool]string{false: "store", true: "mirror"}[tc.mirror]
		t.Run(tc.kind.String()+", dialect "+tc.dialect+", "+from, func(t *testing.T) {
			t.Parallel()
			lxdtest.Need(t, tc.kind)
			p := &pair{t: t, kind: tc.kind, mirrored: tc.mirror, route: fmt.Sprintf("192.0.2.%d/32", i+1), table: readTable(t, tc.kind.String(), tc.table)}
			p.start(tc.dialect)
			p.askAll(questions(p))
			p.askAll(statements())
			p.askAll(wireQuestions())
			p.askImages()
			p.askEvents()
			p.askGate()
			p.table.finish()
		})
	}
}

// start starts both and the container.
func (p *pair) start(dialect string) {
	p.t.Helper()
	p.daemon = lxdtest.Start(p.t, p.kind)
	args := []string{"--dialect", dialect}
	if p.mirrored {
		args = append(args, "--source", p.kind.String()+":"+p.daemon.Socket())
	}
	p.devlxd = daemontest.New(p.t, binary(), args...)
	p.devlxd.Start()
	p.container = p.daemon.Run("web", lxdtest.Profile{
		Config: config(),
		Devices: map[string]map[string]string{
			"ours": {"type": "disk", "source": filepath.Dir(p.devlxd.Socket()), "path": oursDir},
			"eth0": {"type": "nic", "nictype": "p2p", "name": "eth0"},
			"zero": {"type": "unix-char", "source": "/dev/zero", "path": "/dev/other-zero"},
		},
	})
	p.pid = p.container.PID()
	p.apply = p.awaitMirror
	if !p.mirrored {
		p.devlxd.CLI("container", "add", p.container.Name, "--pid", fmt.Sprint(p.pid))
		known := &lxdtest.Full{}
		p.apply = func() { known = p.copyToStore(known) }
	}
	p.apply()
}

// syncKey is set to see that devlxd knows all before it.
const syncKey = "user.sync"

// awaitMirror waits until devlxd has what the daemon has now.
func (p *pair) awaitMirror() {
	p.t.Helper()
	p.synced++
	want := fmt.Sprint(p.synced)
	p.container.Set(map[string]string{syncKey: want})
	lxdtest.WaitFor(p.t.Context(), p.t, patience, func() string {
		got, err := p.devlxd.TryCLI("config", "get", p.container.Name, syncKey)
		if err != nil || strings.TrimSpace(got) != want {
			return fmt.Sprintf("devlxd has %q of %s, want %q (%v)", got, syncKey, want, err)
		}
		return ""
	})
}

// config has keys and values of all kinds that both take.
func config() map[string]string {
	return map[string]string{
		"user.plain":                "bar",
		"user.percent":              "bar %s %d%% %",
		"user.lines":                "one\ntwo\n\n",
		"user.spaces in name":       "  x  ",
		"user.ünï-日本":               "ünï 日本 \u2028",
		"user.a?b":                  "question mark",
		"user.a#b":                  "hash",
		"user.a%2Fb":                "percent in the name",
		"user.a+b":                  "plus",
		"user.markup":               "<a href=\"x\">&amp;</a>",
		"user.quote\"d":             "quote in the name",
		"user.long":                 strings.Repeat("0123456789", 10_000),
		"user.meta-data":            "extra: 1\n",
		"user.user-data":            "#cloud-config\nold: true\n",
		"cloud-init.user-data":      "#cloud-config\npackages: [vim]\n",
		"cloud-init.vendor-data":    "#cloud-config\n{}\n",
		"cloud-init.network-config": "version: 2\n",
		"boot.autostart":            "false",
		"limits.processes":          "200",
	}
}

// copyToStore brings what the daemon says of the container to the store, and returns it.
func (p *pair) copyToStore(before *lxdtest.Full) *lxdtest.Full {
	p.t.Helper()
	now := p.container.Get()
	name := p.container.Name
	keep := func(key string) bool {
		return strings.HasPrefix(key, "user.") || strings.HasPrefix(key, "cloud-init.") || strings.HasPrefix(key, p.kind.GuestKey()) ||
			key == "volatile.cloud-init.instance-id" || strings.HasPrefix(key, "volatile.") && strings.HasSuffix(key, ".hwaddr")
	}
	set, unset := []string{"config", "set", name}, []string{"config", "unset", name}
	for _, key := range slices.Sorted(maps.Keys(now.ExpandedConfig)) {
		if old, ok := before.ExpandedConfig[key]; keep(key) && (!ok || old != now.ExpandedConfig[key]) {
			set = append(set, key+"="+now.ExpandedConfig[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(before.ExpandedConfig)) {
		if _, ok := now.ExpandedConfig[key]; keep(key) && !ok {
			unset = append(unset, key)
		}
	}
	for _, args := range [][]string{set, unset} {
		if len(args) > 3 {
			p.devlxd.CLI(args...)
		}
	}
	p.copyDevices(before, &now)
	return &now
}

func (p *pair) copyDevices(before, now *lxdtest.Full) {
	p.t.Helper()
	for _, dev := range slices.Sorted(maps.Keys(before.ExpandedDevices)) {
		if now.ExpandedDevices[dev] == nil {
			p.devlxd.CLI("device", "remove", p.container.Name, dev)
		}
	}
	for _, dev := range slices.Sorted(maps.Keys(now.ExpandedDevices)) {
		props := now.ExpandedDevices[dev]
		if maps.Equal(props, before.ExpandedDevices[dev]) {
			continue
		}
		args := []string{"device", "add", p.container.Name, dev, props["type"]}
		switch old := before.ExpandedDevices[dev]; {
		case old != nil && props["ipv4.routes"] != old["ipv4.routes"]: // which the daemon changes live
			args = []string{"device", "set", p.container.Name, dev}
		case old != nil:
			p.devlxd.CLI("device", "remove", p.container.Name, dev)
		}
		for _, key := range slices.Sorted(maps.Keys(props)) {
			if key != "type" {
				args = append(args, key+"="+props[key])
			}
		}
		p.devlxd.CLI(args...)
	}
}

// theirs and ours connect to the daemon's guest API and to devlxd's.
func (p *pair) theirs() net.Conn { return p.dial(p.kind.GuestSocket()) }
func (p *pair) ours() net.Conn   { return p.dial(oursDir + "/sock") }

func (p *pair) dial(socket string) net.Conn {
	p.t.Helper()
	conn, err := lxdtest.DialPID(p.pid, socket)
	if err != nil {
		p.t.Fatal(err)
	}
	return conn
}

// breath is how long a daemon is left alone after a connection: LXD 5.0.2 and Incus 6.0.4 end by a fatal error of Go when a
// connection goes while they look at another one (their pidMapper reads a map without its lock).
const breath = 3 * time.Millisecond

func (p *pair) askAll(list []question) {
	p.t.Helper()
	for _, q := range list {
		p.ask(q)
	}
}

// ask asks both.
func (p *pair) ask(q question) {
	p.t.Helper()
	q.send = strings.ReplaceAll(q.send, "FINGERPRINT", p.daemon.Image)
	q.name = strings.ReplaceAll(q.name, p.daemon.Image, "FINGERPRINT")
	theirs := p.theirs()
	said := ask(theirs, q)
	theirs.Close()
	time.Sleep(breath)
	ours := p.ours()
	answered := ask(ours, q)
	ours.Close()
	said, answered = p.same(said), p.same(answered)
	p.table.compare(q.name, p.asToGet(q, said, &p.gets[0]), p.asToGet(q, answered, &p.gets[1]))
}

// asToGet remembers what GET of a path is answered, and says whether another method is answered alike.
func (p *pair) asToGet(q question, text string, gets *map[string]string) string {
	method, rest, _ := strings.Cut(q.name, " ")
	path, _, _ := strings.Cut(rest, " ")
	if method == "GET" {
		if *gets == nil {
			*gets = make(map[string]string)
		}
		(*gets)[path] = text
	} else if before, ok := (*gets)[path]; ok && text == before {
		return "as to GET"
	}
	return text
}

// same takes out what differs from run to run.
func (p *pair) same(text string) string {
	host, _ := os.Hostname()
	for _, r := range [][2]string{
		{`"location":"` + host + `"`, `"location":"HOST"`}, {p.container.Name, "NAME"}, {p.daemon.Image, "FINGERPRINT"},
		{strings.ToUpper(p.daemon.Image), "FINGERPRINT in upper case"}, {p.daemon.Image[:12], "FINGER"},
		{fmt.Sprint(p.daemon.ImageSize), "SIZE"}, {filepath.Dir(p.devlxd.Socket()), "GUEST_DIR"},
	} {
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	return instanceID.ReplaceAllString(hwaddr.ReplaceAllString(text, "HWADDR"), "INSTANCE_ID")
}

var (
	instanceID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	hwaddr     = regexp.MustCompile(`00:16:3e(:[0-9a-f]{2}){3}`)
)
