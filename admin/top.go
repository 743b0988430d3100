package admin

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// TopSort is what the containers of a [Top] are put in order by. It is a closed set.
type TopSort string

const (
	// SortRequests: requests a second. Where nothing else is said, the most come first, and those that are equal by name.
	SortRequests TopSort = "requests"
	// SortConnections: open connections.
	SortConnections TopSort = "connections"
	// SortSubscribers: event subscriptions.
	SortSubscribers TopSort = "subscribers"
	// SortEvents: events sent a second.
	SortEvents TopSort = "events"
	// SortBytes: bytes sent a second.
	SortBytes TopSort = "bytes"
	// SortWaits: waits for a quota a second.
	SortWaits TopSort = "waits"
	// SortLag: how far the slowest subscriber is behind.
	SortLag TopSort = "lag"
	// SortLost: events lost.
	SortLost TopSort = "lost"
	// SortName: by name, from A on.
	SortName TopSort = "name"
)

// TopSorts lists the closed set.
func TopSorts() []TopSort {
	return []TopSort{SortRequests, SortConnections, SortSubscribers, SortEvents, SortBytes, SortWaits, SortLag, SortLost, SortName}
}

// Bounds of the parameter limit of GET /1.0/top.
const (
	DefaultTop = 20
	MaxTop     = 10_000
)

// Top answers GET /1.0/top?sort=SORT&limit=N: what the daemon is doing, and for which containers most. The daemon puts them in order and cuts
// the list, so that not all containers of a large host are sent.
//
// Counters only grow while the process lives, those of a container while that runs; an upgrade begins them anew. A client that
// wants rates over a time of its own divides the difference of two answers with the same PID by that of Monotonic.
type Top struct {
	// Monotonic is nanoseconds since the process began, by a clock that does not jump.
	Monotonic int64 `json:"monotonic_ns"`
	// Window is the time that ends now of which the rates are: since the last answer of this kind that is at least a second old, whoever got it.
	Window     float64        `json:"window_seconds"`
	Sort       TopSort        `json:"sort"`
	Daemon     TopDaemon      `json:"daemon"`
	Containers []TopContainer `json:"containers"`
}

// TopDaemon is the daemon as a whole, with the guests that belong to no container.
type TopDaemon struct {
	Version     string      `json:"version"`
	PID         int         `json:"pid"`
	Uptime      int64       `json:"uptime_seconds"`
	Health      HealthState `json:"health"`
	Containers  int         `json:"containers"`
	Bound       int         `json:"bound"`
	Connections int64       `json:"connections"`
	Subscribers int64       `json:"subscribers"`
	TopCounters
	// CPUSeconds is the CPU time of the process, and CPUPercent its share of one CPU in the window.
	CPUSeconds float64 `json:"cpu_seconds"`
	CPUPercent float64 `json:"cpu_percent"`
	// RSS is the resident memory of the process in bytes; 0: not known.
	RSS int64 `json:"rss_bytes"`
}

// TopCounters are counters and how much a second was added to them in the window.
type TopCounters struct {
	Requests     uint64  `json:"requests"`
	Events       uint64  `json:"events"` // written to subscribers
	Bytes        uint64  `json:"bytes"`  // of answers and events
	RequestsRate float64 `json:"requests_per_second"`
	EventsRate   float64 `json:"events_per_second"`
	BytesRate    float64 `json:"bytes_per_second"`
	WaitsRate    float64 `json:"waits_per_second"` // for quotas
}

// TopContainer is one container.
type TopContainer struct {
	Name        string `json:"name"`
	Connections int64  `json:"connections"`
	Subscribers int64  `json:"subscribers"`
	TopCounters
	// Waits counts, by quota, how often a connection waited, and Refused what was answered 500.
	Waits   map[string]uint64 `json:"waits"`
	Refused map[string]uint64 `json:"refused"`
	// Lag is how many events the slowest subscriber is behind, as of the last second, and Lost how many were lost because subscribers read too slowly.
	Lag  uint64 `json:"lag"`
	Lost uint64 `json:"lost"`
}

// top: GET /1.0/top.
func (s *Server) top(r *request) (reply, error) {
	if s.options.Top == nil {
		return reply{}, errTopOff
	}
	by := SortRequests
	if value := r.query.Get("sort"); value != "" {
		if by = TopSort(value); !slices.Contains(TopSorts(), by) {
			return reply{}, errorf(http.StatusBadRequest, "parameter \"sort\" has the value %q: use %s", value, sortWords())
		}
	}
	limit := DefaultTop
	if value := r.query.Get("limit"); value != "" {
		var err error
		if limit, err = strconv.Atoi(value); err != nil || limit < 1 || limit > MaxTop {
			return reply{}, errorf(http.StatusBadRequest, "parameter \"limit\" has the value %q: use 1 to %d", value, MaxTop)
		}
	}
	t := s.options.Top(by, limit)
	t.Sort, t.Daemon.Health = by, s.health().State
	return reply{metadata: t}, nil
}

// sortWords lists the closed set in words.
func sortWords() string {
	words := make([]string, len(TopSorts()))
	for i, by := range TopSorts() {
		words[i] = string(by)
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
