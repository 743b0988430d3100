package settings

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"

	"devlxd/internal/logging"
	"devlxd/internal/lxdapi"
	"devlxd/registry"
	"devlxd/server"
	"devlxd/source/discover"
)

// Words of settings.
const (
	proofAuto      = "auto"
	proofAlways    = "always"
	privilegesDrop = "drop"
	privilegesKeep = "keep"
	sourceStore    = "store"

	// MetricsOff is the address of no metrics listener.
	MetricsOff = "off"
)

// maxPerContainer bounds the metrics of containers: each has 17 series, and a Prometheus has to hold them.
const maxPerContainer = 10_000

// Config is what the values mean.
type Config struct {
	RunDir, StateDir string // absolute
	// Metrics is HOST:PORT, or MetricsOff.
	Metrics string
	// PerContainer is of how many containers there are metrics with their names; 0: of none.
	PerContainer int
	Dialect      server.Dialect
	// ProofAlways demands the pid namespace of every peer, see peer.Options.PidNSAlways.
	ProofAlways bool
	// KeepPrivileges has nothing given up.
	KeepPrivileges bool
	Discover       []discover.Runtime
	// Limits are the quotas of a container whose config says nothing else; each is set.
	Limits registry.Limits
	// Source is the daemon that is mirrored; nil: containers come from the store in StateDir.
	Source    *lxdapi.Address
	Loops     int // 0: the server's default
	LogLevel  slog.Level
	LogFormat logging.Format
}

func setRunDir(c *Config, text string) (err error) {
	c.RunDir, err = directory(text)
	return err
}

func setStateDir(c *Config, text string) (err error) {
	c.StateDir, err = directory(text)
	return err
}

func directory(text string) (string, error) {
	if text == "" {
		return "", errEmpty
	}
	return filepath.Abs(text)
}

func setMetrics(c *Config, text string) error {
	c.Metrics = text
	if text == "" {
		c.Metrics = MetricsOff
	}
	if c.Metrics == MetricsOff {
		return nil
	}
	if _, _, err := net.SplitHostPort(text); err != nil {
		return fmt.Errorf("%w: give HOST:PORT or off", err)
	}
	return nil
}

func setPerContainer(c *Config, text string) (err error) {
	c.PerContainer, err = number(text, 0, maxPerContainer)
	return err
}

func setLoops(c *Config, text string) (err error) {
	c.Loops, err = number(text, 0, 1024)
	return err
}

// number reads a whole number between two others.
func number(text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q is no whole number from %d to %d: give one", text, least, most)
	}
	return n, nil
}

func setDialect(c *Config, text string) (err error) {
	c.Dialect, err = server.ParseDialect(text)
	return err
}

func setProof(c *Config, text string) error {
	if text != proofAuto && text != proofAlways {
		return fmt.Errorf("unknown value %q: use %s or %s", text, proofAuto, proofAlways)
	}
	c.ProofAlways = text == proofAlways
	return nil
}

func setPrivileges(c *Config, text string) error {
	if text != privilegesDrop && text != privilegesKeep {
		return fmt.Errorf("unknown value %q: use %s or %s", text, privilegesDrop, privilegesKeep)
	}
	c.KeepPrivileges = text == privilegesKeep
	return nil
}

func setDiscover(c *Config, text string) (err error) {
	c.Discover, err = discover.ParseRuntimes(text)
	return err
}

func setSource(c *Config, text string) error {
	if text == sourceStore {
		c.Source = nil
		return nil
	}
	a, err := lxdapi.ParseAddress(text)
	if err != nil {
		return fmt.Errorf("unknown value %q: use %s, lxd[:SOCKET] or incus[:SOCKET] with the absolute path of a socket", text, sourceStore)
	}
	c.Source = &a
	return nil
}

func setLogLevel(c *Config, text string) (err error) {
	c.LogLevel, err = logging.ParseLevel(text)
	return err
}

func setLogFormat(c *Config, text string) (err error) {
	c.LogFormat, err = logging.ParseFormat(text)
	return err
}
