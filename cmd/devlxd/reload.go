package main

import (
	"strings"
	"sync"
	"time"

	sddaemon "github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"

	"devlxd/admin"
	"devlxd/internal/logging"
	"devlxd/internal/settings"
)

// reloadResult is what came of reading the settings again. It is a closed set: each value is a label of devlxd_config_reloads_total from
// the start.
type reloadResult uint8

const (
	// reloadOK: what can change while the daemon runs has changed.
	reloadOK reloadResult = iota
	// reloadFailed: the settings are wrong, and the old ones go on.
	reloadFailed

	numReloadResults
)

// String is the metric label.
func (r reloadResult) String() string {
	if r == reloadOK {
		return "ok"
	}
	return "failed"
}

// reloadable are the settings that a daemon was started with, and how they are read again. The zero value never changes.
type reloadable struct {
	Loaded loaded
	Load   func() (loaded, error)
	Sink   *logging.Sink // of the log, whose level and format are settings; nil: they stay
}

// inEffect are the settings in effect. Safe for concurrent use.
type inEffect struct {
	mu     sync.Mutex
	file   string
	values settings.Values
	at     time.Time
	err    error // of the last reload

	reloads *prometheus.CounterVec
	last    prometheus.Gauge
}

func newInEffect(l *loaded) *inEffect {
	e := &inEffect{
		file: l.File, values: l.Values, at: time.Now(),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "devlxd_config_reloads_total", Help: "Times that the settings were read again (SIGHUP), by what came of it.",
		}, []string{"result"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "devlxd_config_last_reload_success_timestamp_seconds", Help: "Unix time at which the settings were read last without a mistake, at the start too.",
		}),
	}
	for r := range numReloadResults {
		e.reloads.WithLabelValues(r.String())
	}
	e.last.Set(float64(e.at.Unix()))
	return e
}

// status tells the admin API.
func (e *inEffect) status() admin.Config {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := admin.Config{File: e.file, Loaded: e.at}
	if e.err != nil {
		s.Error = oneLine(e.err)
	}
	return s
}

// take makes new values those in effect, as far as they can be while the daemon runs, and says which have changed and which of them wait
// for what.
func (e *inEffect) take(l *loaded) (changed []string, waiting map[settings.Change][]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	waiting = make(map[settings.Change][]string)
	values := append(settings.Values(nil), l.Values...)
	for _, s := range settings.Changed(e.values, l.Values) {
		if s.Change == settings.ChangeLive {
			changed = append(changed, s.Key)
			continue
		}
		waiting[s.Change] = append(waiting[s.Change], s.Key)
		*values.Get(s.Key) = *e.values.Get(s.Key)
	}
	e.file, e.values, e.at, e.err = l.File, values, time.Now(), nil
	e.reloads.WithLabelValues(reloadOK.String()).Inc()
	e.last.Set(float64(e.at.Unix()))
	return changed, waiting
}

// fail notes that the settings stay as they were.
func (e *inEffect) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
	e.reloads.WithLabelValues(reloadFailed.String()).Inc()
}

// reload reads the settings again, and has those count that can change while the daemon runs. If anything is wrong nothing changes.
func (d *daemon) reload() {
	if d.cfg.Settings.Load == nil {
		return
	}
	d.upgrading.Lock()
	defer d.upgrading.Unlock()
	if d.wasReplaced() {
		return // by a process that has read them
	}
	log := d.cfg.Log
	notifySystemd(log, stateReloading())
	defer notifySystemd(log, sddaemon.SdNotifyReady)
	l, err := d.cfg.Settings.Load()
	if err == nil {
		err = d.server.SetLimits(l.Config.Limits)
	}
	if err != nil {
		d.settings.fail(err)
		log.Error("settings not reloaded; those of before hold on", "error", oneLine(err))
		return
	}
	changed, waiting := d.settings.take(&l)
	sink := d.cfg.Settings.Sink
	if sink != nil {
		sink.SetLevel(min(sink.Level(), l.Config.LogLevel)) // the line below is of the old level or the new one
		sink.SetFormat(l.Config.LogFormat)
	}
	d.server.SetPerContainer(l.Config.PerContainer)
	for _, w := range l.warnings() {
		log.Warn("a setting has no effect", "detail", w)
	}
	for change, keys := range waiting {
		log.Warn("changed settings do not count yet", "settings", strings.Join(keys, " "), "needs", change.String())
	}
	log.Info("settings reloaded", "file", l.File, "changed", strings.Join(changed, " "))
	if sink != nil {
		sink.SetLevel(l.Config.LogLevel)
	}
}

// logLevel is what the admin API changes the level of the log by; nil: it stays.
func (d *daemon) logLevel() admin.LogLevel {
	if d.cfg.Settings.Sink == nil {
		return nil
	}
	return &d.cfg.Settings
}

// LogLevel implements admin.LogLevel.
func (s *reloadable) LogLevel() string { return logging.FormatLevel(s.Sink.Level()) }

// SetLogLevel implements admin.LogLevel.
func (s *reloadable) SetLogLevel(name string) error {
	level, err := logging.ParseLevel(name)
	if err != nil {
		return err
	}
	s.Sink.SetLevel(level)
	return nil
}
