package main

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"devlxd/admin"
	"devlxd/registry"
	"devlxd/server"
)

// quotas tells the admin API what a container uses and may use.
func (d *daemon) quotas(c *registry.Container) map[string]admin.Quota {
	usage := d.server.Usage(c)
	quotas := make(map[string]admin.Quota, registry.NumLimits)
	for _, l := range registry.AllLimits() {
		quotas[l.String()] = admin.Quota{Limit: registry.FormatLimit(usage.Limits[l]), Used: usage.InUse[l]}
	}
	return quotas
}

// top tells the admin API what the daemon does and for whom.
func (d *daemon) top(by admin.TopSort, limit int) admin.Top {
	rank, _ := server.ParseRank(string(by)) // TestTopSorts
	t := d.server.Top(rank, limit)
	st := d.server.Registry().Stats()
	out := admin.Top{
		Monotonic: time.Since(d.started).Nanoseconds(), Window: t.Window.Seconds(), Containers: make([]admin.TopContainer, len(t.Containers)),
		Daemon: admin.TopDaemon{
			Version: version, PID: os.Getpid(), Uptime: int64(time.Since(d.started).Seconds()), Containers: st.Containers, Bound: st.Bound,
			Connections: t.Totals.Connections, Subscribers: t.Totals.Subscribers, TopCounters: counters(&t.Totals, t.Rates),
			CPUSeconds: t.CPU.Seconds(), CPUPercent: 100 * t.Cores, RSS: residentMemory(),
		},
	}
	for i := range t.Containers {
		c := &t.Containers[i]
		x := admin.TopContainer{
			Name: c.Name, Connections: c.Connections, Subscribers: c.Subscribers, TopCounters: counters(&c.Figures, c.Rates),
			Waits: make(map[string]uint64), Refused: make(map[string]uint64), Lag: c.Lag, Lost: c.Lost,
		}
		for _, q := range registry.AllLimits() {
			x.Waits[q.String()], x.Refused[q.String()] = c.Waits[q], c.Refused[q]
		}
		out.Containers[i] = x
	}
	return out
}

func counters(f *server.Figures, r server.Rates) admin.TopCounters {
	return admin.TopCounters{
		Requests: f.Requests, Events: f.Events, Bytes: f.Sent,
		RequestsRate: r.Requests, EventsRate: r.Events, BytesRate: r.Sent, WaitsRate: r.Waits,
	}
}

// residentMemory is that of the process in bytes (proc_pid_statm(5)), 0 if it cannot be read.
func residentMemory() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(data)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
