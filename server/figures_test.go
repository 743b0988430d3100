package server

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"devlxd/registry"
)

// figures are those of a container of the rig.
func (r *rig) figures(name string) Figures {
	r.t.Helper()
	c, ok := r.reg.Container(name)
	if !ok {
		r.t.Fatalf("no container %q", name)
	}
	if a := existingAccount(c.Binding()); a != nil {
		return a.figures()
	}
	return Figures{}
}

// askTimes has a container ask n times on a connection of its own.
func (r *rig) askTimes(name string, n int) {
	r.t.Helper()
	c := r.dial(name)
	defer c.Close()
	for range n {
		c.get("/1.0")
	}
}

// families are the metrics by name.
func (r *rig) families() map[string]*dto.MetricFamily {
	r.t.Helper()
	gatherer := prometheus.NewRegistry()
	gatherer.MustRegister(r.srv.Collector())
	list, err := gatherer.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	families := make(map[string]*dto.MetricFamily)
	for _, f := range list {
		families[f.GetName()] = f
	}
	return families
}

// sum adds up the series of a metric that have all of the labels; labels are NAME, VALUE.
func (r *rig) sum(name string, labels ...string) (total float64) {
	for _, m := range r.families()[name].GetMetric() {
		has := make(map[string]string)
		for _, l := range m.GetLabel() {
			has[l.GetName()] = l.GetValue()
		}
		match := true
		for i := 0; i < len(labels); i += 2 {
			match = match && has[labels[i]] == labels[i+1]
		}
		if match {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return total
}

// size is how many bytes came over the wire.
func (a *answer) size() int {
	if strings.Contains(a.head, "\r\nDate: D\r\n") {
		return len(a.raw()) + len(http.TimeFormat) - len("D")
	}
	return len(a.raw())
}

// TestFigures: each container has what was done for it, on whichever loop, and all of them together have what the server has done.
func TestFigures(t *testing.T) {
	r := newRig(t, Options{Loops: 2, Limits: registry.Limits{registry.LimitSubscribers: 1}})
	large := strings.Repeat("x", 3*copyLimit)
	r.container("c1", map[string]string{"user.a": "1", "user.large": large})
	r.container("c2", map[string]string{"user.a": "1"})
	r.srv.SetPerContainer(2)
	read := map[string]int{}
	for i := range 4 { // both loops have some
		for _, name := range []string{"c1", "c2"} {
			c := r.dial(name)
			for range i {
				read[name] += c.get("/1.0/config/user.a").size()
			}
			if i == 0 && name == "c1" {
				read[name] += c.get("/1.0/config/user.large").size()
			}
		}
	}
	stream := r.dial("c1")
	stream.send("GET /1.0/events HTTP/1.1\r\nHost: lxd\r\n\r\n")
	read["c1"] += stream.answer("GET").size()
	refused := r.dial("c1").get("/1.0/events")
	if read["c1"] += refused.size(); refused.status != 500 {
		t.Fatalf("a second subscription is answered %d", refused.status)
	}
	r.set("c1", "user.b", "2", "user.c", "3")
	for range 2 {
		line, err := stream.r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		read["c1"] += len(line)
	}
	eventually(t, "the last bytes are counted", func() bool { return r.figures("c1").Events == 2 && r.figures("c1").Sent == uint64(read["c1"]) })
	f1, f2 := r.figures("c1"), r.figures("c2")
	if f1.Requests != 9 || f1.Connections != 6 || f1.Subscribers != 1 || f1.Refused[registry.LimitSubscribers] != 1 {
		t.Errorf("c1: %+v", f1)
	}
	if want := (Figures{Requests: 6, Connections: 4, Sent: uint64(read["c2"])}); f2 != want {
		t.Errorf("c2: %+v; want %+v", f2, want)
	}
	for single, all := range map[string]string{
		"devlxd_container_requests_total": "devlxd_requests_total", "devlxd_container_connections": "devlxd_connections",
		"devlxd_container_subscribers": "devlxd_subscribers", "devlxd_container_events_sent_total": "devlxd_events_delivered_total",
		"devlxd_container_sent_bytes_total": "devlxd_sent_bytes_total", "devlxd_container_quota_refused_total": "devlxd_quota_refused_total",
	} {
		if got, want := r.sum(single), r.sum(all); got != want || want == 0 {
			t.Errorf("%s is %v in all; %s is %v", single, got, all, want)
		}
	}
}

// TestFiguresOfWaiting: who waits for a quota is counted for its container, and is no longer among those that wait when it goes.
func TestFiguresOfWaiting(t *testing.T) {
	r := limited(t, 1, map[registry.Limit]int64{registry.LimitRequests: 1})
	r.container("c1", map[string]string{"user.a": "1"})
	c := r.dial("c1")
	c.send(strings.Repeat(getKey("user.a"), 3))
	waiting := func() float64 { return r.sum("devlxd_quota_waiting", "quota", "requests") }
	eventually(t, "it waits", func() bool { return waiting() == 1 })
	if f := r.figures("c1"); f.Waits[registry.LimitRequests] == 0 || f.Waits[registry.LimitRequests] != r.quotaWaits(registry.LimitRequests) {
		t.Errorf("figures %+v; the server has %d waits", f, r.quotaWaits(registry.LimitRequests))
	}
	c.Close()
	r.reg.Stop(r.binding("c1"))
	eventually(t, "nobody waits", func() bool { return waiting() == 0 })
	if f := r.figures("c1"); f != (Figures{}) {
		t.Errorf("a stopped container has %+v", f)
	}
}

func (r *rig) binding(name string) *registry.Binding {
	c, _ := r.reg.Container(name)
	return c.Binding()
}

// publish changes a config key of c1 so often, each time an event with a value of that many bytes.
func (m *manual) publish(times, size int) {
	for range times {
		m.rig.set("c1", "user.n", fmt.Sprint(time.Now().UnixNano())+strings.Repeat("x", size))
	}
	m.settle()
}

// settle goes around until nothing is left to do.
func (m *manual) settle() {
	for range 100 {
		if err := m.l.goAround(false); err != nil {
			m.t.Fatal(err)
		}
	}
}

// TestSubscriberLag: a subscriber that does not read is as many events behind as were published since its socket was full, until it has
// caught up; what the ring has no room for is lost to it.
func TestSubscriberLag(t *testing.T) {
	m := newManual(t, Options{RingEvents: 64})
	m.rig.container("c1", nil)
	slow, fast := m.connect("c1"), m.connect("c1")
	for _, fd := range []int{slow, fast} {
		if _, err := unix.Write(fd, []byte("GET /1.0/events HTTP/1.1\r\nHost: lxd\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	m.settle()
	measure := func() uint64 {
		m.l.lagAt = m.l.wheel.now - lagTicks
		m.l.measureLag()
		return m.rig.figures("c1").Lag
	}
	for measure() == 0 {
		m.publish(1, 32<<10)
		m.drain(fast)
	}
	before := measure()
	m.publish(5, 10)
	m.drain(fast)
	if got := measure(); got != before+5 {
		t.Errorf("the slow one is %d behind after 5 more events; want %d", got, before+5)
	}
	for m.drain(slow) > 0 {
		m.settle()
	}
	if got := measure(); got != 0 || len(m.l.lagging) != 0 {
		t.Errorf("it has caught up, and is %d behind", got)
	}
	if f := m.rig.figures("c1"); f.Lost != 0 {
		t.Errorf("%d events are lost", f.Lost)
	}
	for measure() == 0 {
		m.publish(1, 32<<10)
		m.drain(fast)
	}
	for range 70 {
		m.publish(1, 10)
		m.drain(fast)
	}
	if f, lost := m.rig.figures("c1"), m.rig.lost(registry.EventConfig, CloseOverrun); f.Lost != lost || lost == 0 {
		t.Errorf("the container has lost %d events; the server says %d", f.Lost, lost)
	}
	measure()
	m.rig.reg.Stop(m.rig.binding("c1"))
	m.settle()
	m.l.measureLag()
	if len(m.l.lagging) != 0 {
		t.Error("the loop goes on to look at a container that has stopped")
	}
}

func names(t Top) (list []string) {
	for _, c := range t.Containers {
		list = append(list, c.Name)
	}
	return list
}

// TestTop: containers come in the order that was asked for, by what they did of late and not by what they did before, and no more than asked
// for.
func TestTop(t *testing.T) {
	r := newRig(t, Options{Loops: 2})
	for i := range 4 {
		r.container(numbered("c", i), nil)
	}
	r.askTimes("c0", 50)
	r.askTimes("c1", 10)
	wantNames(t, "at first", r.srv.Top(RankRequests, 10), "c0", "c1", "c2", "c3")
	look := func() { // as a second later
		r.srv.looks.Lock()
		r.srv.looks.at[1] = -lookApart
		r.srv.looks.Unlock()
		r.srv.Top(RankRequests, 1)
	}
	look()
	look()
	r.askTimes("c2", 5)
	r.askTimes("c1", 3)
	top := r.srv.Top(RankRequests, 3)
	wantNames(t, "of late", top, "c2", "c1", "c0")
	if c := top.Containers[2]; c.Requests != 50 || c.Rates.Requests != 0 {
		t.Errorf("c0: %+v", c)
	}
	if c := top.Containers[0]; c.Requests != 5 || c.Rates.Requests <= 0 {
		t.Errorf("c2: %+v", c)
	}
	if top.Totals.Requests != 68 || top.Rates.Requests <= top.Containers[0].Rates.Requests {
		t.Errorf("totals %+v, rates %+v", top.Totals, top.Rates)
	}
	r.dial("c3").get("/1.0")
	eventually(t, "one connection is left", func() bool { return r.srv.Top(RankName, 1).Totals.Connections == 1 })
	wantNames(t, "by connections", r.srv.Top(RankConnections, 2), "c3", "c0")
	wantNames(t, "by name", r.srv.Top(RankName, 2), "c0", "c1")
	for rank := range numRanks {
		if got, ok := ParseRank(rank.String()); got != rank || !ok {
			t.Errorf("ParseRank(%q) = %v, %v", rank, got, ok)
		}
		if got := len(r.srv.Top(rank, 2).Containers); got != 2 {
			t.Errorf("%s: %d containers", rank, got)
		}
	}
}

func wantNames(t *testing.T, what string, top Top, want ...string) {
	t.Helper()
	if got := names(top); !slices.Equal(got, want) {
		t.Errorf("%s: %v; want %v", what, got, want)
	}
}

// shown are the containers that the metrics tell of.
func (r *rig) shown() []string {
	list := make(map[string]bool)
	for _, m := range r.families()["devlxd_container_requests_total"].GetMetric() {
		list[m.GetLabel()[0].GetValue()] = true
	}
	return slices.Sorted(maps.Keys(list))
}

// TestPerContainer: the metrics tell of as many containers as they are told to, of the busiest, and do not change their mind for a little.
func TestPerContainer(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	for i := range 4 {
		r.container(numbered("c", i), nil)
	}
	r.container("bad\xff", nil)
	if got := r.shown(); len(got) != 0 {
		t.Errorf("at the start: %v; want none", got)
	}
	r.srv.SetPerContainer(2)
	for _, step := range []struct {
		what string
		ask  map[string]int
		want []string
	}{
		{"the busiest", map[string]int{"c1": 20, "c3": 30, "c2": 10}, []string{"c1", "c3"}},
		{"a little busier than one of them", map[string]int{"c2": 15}, []string{"c1", "c3"}},
		{"much busier", map[string]int{"c2": 40}, []string{"c2", "c3"}},
	} {
		for name, n := range step.ask {
			r.askTimes(name, n)
		}
		if got := r.shown(); !slices.Equal(got, step.want) {
			t.Errorf("%s: %v; want %v", step.what, got, step.want)
		}
	}
	r.srv.SetPerContainer(100)
	if got := r.shown(); !slices.Equal(got, []string{`"bad\xff"`, "c0", "c1", "c2", "c3"}) {
		t.Errorf("all: %q", got)
	}
	if err := r.reg.Remove("c2"); err != nil {
		t.Fatal(err)
	}
	if got := r.shown(); slices.Contains(got, "c2") {
		t.Errorf("a container that was removed is shown: %v", got)
	}
	r.srv.SetPerContainer(0)
	if got := r.shown(); len(got) != 0 {
		t.Errorf("switched off: %v", got)
	}
}
