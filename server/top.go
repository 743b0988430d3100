package server

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Rank is what containers are put in order by. It is a closed set.
type Rank uint8

const (
	// RankRequests: requests a second.
	RankRequests Rank = iota
	// RankConnections: open connections.
	RankConnections
	// RankSubscribers: event subscriptions.
	RankSubscribers
	// RankEvents: events a second.
	RankEvents
	// RankBytes: bytes a second.
	RankBytes
	// RankWaits: waits for a quota a second.
	RankWaits
	// RankLag: how far the slowest subscriber is behind.
	RankLag
	// RankLost: events that were lost.
	RankLost
	// RankName: by name, from A on. The others begin with the most, and have those that are equal by name.
	RankName

	numRanks
)

var rankLabels = [numRanks]string{"requests", "connections", "subscribers", "events", "bytes", "waits", "lag", "lost", "name"}

// String is the word for the rank.
func (r Rank) String() string {
	if r >= numRanks {
		return "unknown"
	}
	return rankLabels[r]
}

// ParseRank reads a word that String gives.
func ParseRank(word string) (Rank, bool) {
	i := slices.Index(rankLabels[:], word)
	return Rank(max(i, 0)), i >= 0
}

// Rates are how much a second.
type Rates struct{ Requests, Events, Sent, Waits float64 }

// TopContainer is one of the containers of a [Top].
type TopContainer struct {
	Name string
	Figures
	Rates Rates
}

// Top is what the server is doing and for whom.
type Top struct {
	At         time.Duration // since the server was made, by the monotonic clock
	Window     time.Duration // that the rates are of; it ends now
	Totals     Figures       // of all containers and of the peers that belong to none; without Waits, Refused, Lost and Lag
	Rates      Rates         // of all
	CPU        time.Duration // of the process, in all
	Cores      float64       // how many CPUs the process kept busy in Window
	Containers []TopContainer
}

// Top returns at most limit containers that are first by rank, in order. Rates go back to the look of anybody before the last second, so at
// least a second, and to the beginning where nobody has looked before. It reads the counters of every container, about a microsecond
// for each (BenchmarkTop), so it is for people who look, not for each request. Safe for concurrent use; it waits for no loop.
func (s *Server) Top(by Rank, limit int) Top {
	k := &s.looks
	k.Lock()
	defer k.Unlock()
	now, cpu, total := s.clock(), processTime(), s.totalMark()
	fresh := k.move(now, cpu, total)
	best := best[ranked]{limit: limit, before: func(a, b *ranked) bool { return by.compare(a, b) < 0 }}
	window := max(now-k.at[0], 1)
	var x ranked // one for all, as it is on the heap
	for c := range s.reg.All() {
		x = ranked{TopContainer: TopContainer{Name: c.Name()}}
		if a := existingAccount(c.Binding()); a != nil {
			x.Figures = a.figures()
			x.gained = k.note(a, x.Figures.mark(), fresh)
		}
		best.add(&x)
	}
	list := best.sorted()
	t := Top{
		At: now, Window: window, CPU: cpu, Cores: float64(cpu-k.cpu[0]) / float64(window), Rates: total.since(k.total[0]).per(window), Containers: make([]TopContainer, len(list)),
		Totals: Figures{Requests: total.requests, Events: total.events, Sent: total.sent, Connections: s.Connections(), Subscribers: s.Subscribers()},
	}
	for i := range list {
		t.Containers[i] = list[i].TopContainer
		t.Containers[i].Rates = list[i].gained.per(window)
	}
	return t
}

// note returns what a has had since the older look, and keeps m as the newer one if there is to be one; k is held.
func (k *looks) note(a *account, m mark, fresh bool) (gained mark) {
	if fresh {
		l := k.lookAt(a)
		l.marks = [2]mark{l.marks[1], m}
	}
	if a.look != nil {
		return m.since(a.look.marks[0])
	}
	return m // it was made since
}

// per is a mark over a time as rates.
func (m mark) per(d time.Duration) Rates {
	s := d.Seconds()
	return Rates{float64(m.requests) / s, float64(m.events) / s, float64(m.sent) / s, float64(m.waits) / s}
}

// ranked is a container with what it has had since the older look.
type ranked struct {
	TopContainer
	gained mark
}

// value is what goes first by r if it is greater.
func (r Rank) value(x *ranked) uint64 {
	switch r {
	case RankRequests:
		return x.gained.requests
	case RankConnections:
		return uint64(x.Connections)
	case RankSubscribers:
		return uint64(x.Subscribers)
	case RankEvents:
		return x.gained.events
	case RankBytes:
		return x.gained.sent
	case RankWaits:
		return x.gained.waits
	case RankLag:
		return x.Lag
	case RankLost:
		return x.Lost
	}
	return 0
}

// compare is negative when a comes before b.
func (r Rank) compare(a, b *ranked) int {
	return cmp.Or(cmp.Compare(r.value(b), r.value(a)), strings.Compare(a.Name, b.Name))
}
