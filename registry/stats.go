package registry

// Stats are counters and gauges of a registry at one time; they are read one after the other, not all at once.
type Stats struct {
	Containers   int    // registered
	Bound        int    // of them running
	Images       int    // registered
	Rings        int    // of running containers that somebody subscribed to
	RingBytes    int64  // charge of the events in these rings: both variants of each, made or not
	ConfigEvents uint64 // published since New
	DeviceEvents uint64 // published since New
}

// Published returns the number of events of a single type.
func (s *Stats) Published(t EventType) uint64 {
	switch t {
	case EventConfig:
		return s.ConfigEvents
	case EventDevice:
		return s.DeviceEvents
	default:
		return 0
	}
}

// Stats returns the current numbers. It never locks.
func (r *Registry) Stats() Stats {
	return Stats{
		Containers:   r.containers.Size(),
		Bound:        int(r.bound.Load()),
		Images:       r.images.Size(),
		Rings:        int(r.rings.Load()),
		RingBytes:    r.ringBytes.Load(),
		ConfigEvents: r.published[EventConfig.index()].Load(),
		DeviceEvents: r.published[EventDevice.index()].Load(),
	}
}
