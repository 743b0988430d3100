package main

import (
	"context"
	"fmt"
	"time"

	"devlxd/admin"
	"devlxd/fault"
)

const (
	// responsiveTime is how long event loops may take to take up a task before the health says that one is stuck.
	responsiveTime = 2 * time.Second
	// connectionShare is the percentage of the guest connections that may be open, from which on the health says so.
	connectionShare = 90
)

// health tells the admin API what is wrong.
func (d *daemon) health() (reasons []admin.HealthReason) {
	for _, k := range fault.All() {
		if k.Degrades() && d.faults.Active(k) {
			reasons = append(reasons, admin.HealthReason{Name: k.String(), State: admin.HealthDegraded, Detail: k.Advice() + d.faultDetail(k)})
		}
	}
	ctx, cancel := context.WithTimeout(d.life, responsiveTime)
	defer cancel()
	if err := d.server.Responsive(ctx); err != nil && d.life.Err() == nil {
		reasons = append(reasons, admin.HealthReason{
			Name: admin.ReasonEventLoop, State: admin.HealthFailing, Detail: oneLine(err) + ": see the log, and restart devlxd",
		})
	}
	if open, limit := d.server.Connections(), d.server.ConnectionLimit(); nearly(open, limit) && !d.faults.Active(fault.ConnectionLimit) {
		reasons = append(reasons, admin.HealthReason{
			Name: admin.ReasonConnections, State: admin.HealthDegraded,
			Detail: fmt.Sprintf("%d of %d guest connections are open, more will have to wait: raise LimitNOFILE", open, limit),
		})
	}
	return reasons
}

// nearly reports whether so much of a limit is used that the health says so.
func nearly(used, limit int64) bool { return used*100 >= limit*connectionShare }

// faultDetail is what is known of a fault beside its advice.
func (d *daemon) faultDetail(k fault.Kind) string {
	m := d.mirrorStatus()
	switch {
	case m == nil:
	case k == fault.MirrorLost && !m.Connected:
		return fmt.Sprintf(" (for %.0f s: %s)", m.Age, m.Error)
	case k == fault.MirrorPart && m.Broken > 0:
		return fmt.Sprintf(" (%d, one of them: %s)", m.Broken, m.BrokenError)
	}
	return ""
}
