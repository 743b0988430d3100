package main

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/fdpass"
)

// TestGreet: a new process refuses an old one of another state format, of other directories, or that gives it too little.
func TestGreet(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*greeting)
		fds    int
		want   error
	}{
		"fits":              {func(*greeting) {}, 2, nil},
		"metrics too":       {func(g *greeting) { g.Metrics = true }, 3, nil},
		"an older format":   {func(g *greeting) { g.Format-- }, 2, errVersions},
		"a newer format":    {func(g *greeting) { g.Format++ }, 2, errVersions},
		"another directory": {func(g *greeting) { g.StateDir = "/other" }, 2, errPredecessor},
		"no admin socket":   {func(*greeting) {}, 1, errPredecessor},
	} {
		t.Run(name, func(t *testing.T) {
			old, f, err := fdpass.Pair()
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()
			conn, err := fdpass.New(f)
			if err != nil {
				t.Fatal(err)
			}
			cfg := daemonConfig{RunDir: "/run/a", StateDir: "/state/a", UpgradeTimes: defaultUpgradeTimes()}
			hello := newGreeting()
			hello.RunDir, hello.StateDir = cfg.RunDir, cfg.StateDir
			tt.change(&hello)
			sent := make(chan struct{})
			go func() { // the predecessor
				defer close(sent)
				_, _ = awaitStep(old, stepGreeting, nil, 20*time.Second)
				_ = sendStep(old, stepGreeting, hello, 20*time.Second, []int{0, 0, 0}[:tt.fds]...)
			}()
			p := &predecessor{conn: conn}
			err = p.greet(&cfg)
			<-sent // and acknowledged
			if !errors.Is(err, tt.want) || err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("greet = %v; want %v", err, tt.want)
			}
			p.close(err)
			if err == nil {
				return
			}
			if _, err := awaitStep(old, stepPrepared, nil, 20*time.Second); !errors.Is(err, errRefused) {
				t.Errorf("the old process is told %v", err)
			}
		})
	}
}

func TestFindPredecessor(t *testing.T) {
	t.Setenv(upgradeVariable, "")
	if p, err := findPredecessor(); p != nil || err != nil {
		t.Errorf("without one: %v, %v", p, err)
	}
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"x", "-1", "0", strconv.Itoa(fd)} {
		t.Setenv(upgradeVariable, value)
		if p, err := findPredecessor(); p != nil || !errors.Is(err, errPredecessor) {
			t.Errorf("%q: %v, %v", value, p, err)
		}
		if os.Getenv(upgradeVariable) != "" {
			t.Errorf("%q is left to children", value)
		}
	}
}

// TestResultOf: each failure has its label.
func TestResultOf(t *testing.T) {
	for err, want := range map[error]upgradeResult{
		errStopped: upgradeStopped, errNotStarted: upgradeNotStarted, errVersions: upgradeMismatch, errRefused: upgradeRefused,
		errNoAnswer: upgradeNoAnswer, errLost: upgradeLost, errors.New("x"): upgradeFailed,
	} {
		if got := resultOf(err); got != want || got.String() == "" {
			t.Errorf("%v is %v; want %v", err, got, want)
		}
	}
}

// TestInheritMetrics: the port of the metrics goes over where it is the one that is asked for; where the setting has another address that is
// opened, or else there is none.
func TestInheritMetrics(t *testing.T) {
	for name, tt := range map[string]struct {
		was, now string
		want     string // of the listener: the old port, another, or none
	}{
		"the same":       {"127.0.0.1:0", "127.0.0.1:0", "old"},
		"of old devlxds": {"", "127.0.0.1:0", "old"},
		"another":        {"127.0.0.1:9778", "127.0.0.1:0", "new"},
		"off":            {"127.0.0.1:0", "off", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			old, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()
			fd, err := descriptor(old)
			if err != nil {
				t.Fatal(err)
			}
			p := &predecessor{fds: []int{-1, -1, fd}, hello: greeting{Metrics: true, MetricsAddress: tt.was}}
			d := &daemon{cfg: daemonConfig{Metrics: tt.now}}
			if err := d.inheritMetrics(p); err != nil {
				t.Fatal(err)
			}
			got := "none"
			if d.metricsListener != nil {
				defer d.metricsListener.Close()
				if got = "new"; d.metricsListener.Addr().String() == old.Addr().String() {
					got = "old"
				}
			}
			if got != tt.want {
				t.Errorf("the listener is %s; want %s", got, tt.want)
			}
			for _, fd := range p.fds {
				if fd >= 0 {
					_ = unix.Close(fd)
				}
			}
		})
	}
}
