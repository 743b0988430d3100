package admin

// HealthState says how well the daemon does its work. It is a closed set.
type HealthState string

const (
	// HealthOK: all of it is done.
	HealthOK HealthState = "ok"
	// HealthDegraded: guests are served, but something does not work or is about to end.
	HealthDegraded HealthState = "degraded"
	// HealthFailing: guests are not served, or not all of them.
	HealthFailing HealthState = "failing"
)

// Health answers GET /1.0/health. The answer is 200 whatever the state is; for probes that go by the code there are /healthz and /readyz.
type Health struct {
	// State is the worst of the reasons, ok without any.
	State   HealthState    `json:"state"`
	Reasons []HealthReason `json:"reasons"`
}

// HealthReason is one thing that is wrong.
type HealthReason struct {
	// Name is the label of a fault (devlxd_fault_active), or one of the names below.
	Name  string      `json:"name"`
	State HealthState `json:"state"`
	// Detail says what is wrong and what to do.
	Detail string `json:"detail"`
}

// Names of reasons that are no faults of the host.
const (
	// ReasonNotReady: the containers are being loaded, or the daemon is ending.
	ReasonNotReady = "not_ready"
	// ReasonEventLoop: an event loop does not take up its work, see systemd's watchdog.
	ReasonEventLoop = "event_loop"
	// ReasonConnections: nearly as many guest connections are open as may be.
	ReasonConnections = "connections"
)

// health is what Options.Health says, and whether guests are served.
func (s *Server) health() Health {
	h := Health{State: HealthOK, Reasons: []HealthReason{}}
	if !s.isReady() {
		h.Reasons = append(h.Reasons, HealthReason{ReasonNotReady, HealthFailing,
			"guests are not served: containers are being loaded, or the server is ending"})
	}
	if s.options.Health != nil {
		h.Reasons = append(h.Reasons, s.options.Health()...)
	}
	for _, r := range h.Reasons {
		if r.State == HealthFailing || h.State == HealthOK {
			h.State = r.State
		}
	}
	return h
}

// showHealth: GET /1.0/health.
func (s *Server) showHealth(*request) (reply, error) { return reply{metadata: s.health()}, nil }
