package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"devlxd/registry"
	"devlxd/server"
	"devlxd/source/discover"
)

// Defaults of the daemon's settings.
const (
	defaultRunDir   = "/run/devlxd"
	defaultStateDir = "/var/lib/devlxd"
	defaultMetrics  = "127.0.0.1:9778"
)

// maxPerContainer bounds --metrics-per-container: each container has 17 series, and a Prometheus has to hold them.
const maxPerContainer = 10_000

// Values of --identity-proof.
const (
	proofAuto   = "auto"
	proofAlways = "always"
)

// Values of --privileges.
const (
	privilegesDrop = "drop"
	privilegesKeep = "keep"
)

// setting is one value of the daemon: a flag, or an environment variable, or a
// default, the first that is given.
type setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"` // flag, environment, default
	env    string
	usage  string
}

// settings are the values that serve and check take.
type settings struct {
	cmd    *cobra.Command
	values []setting
	loops  int
}

// bind declares the flags of s on cmd.
func (s *settings) bind(cmd *cobra.Command) {
	s.cmd = cmd
	s.values = []setting{
		{Name: "run-dir", Value: defaultRunDir, env: "DEVLXD_RUN_DIR", usage: "directory of the sockets"},
		{Name: "state-dir", Value: defaultStateDir, env: "DEVLXD_STATE_DIR", usage: "directory of the store and the images"},
		{Name: "metrics", Value: defaultMetrics, env: "DEVLXD_METRICS", usage: "address of the Prometheus metrics, or off"},
		{Name: "dialect", Value: server.DialectDocument.String(), env: "DEVLXD_DIALECT", usage: "whose bodies and texts guests see: document, lxd or incus"},
		{Name: "identity-proof", Value: proofAuto, env: "DEVLXD_IDENTITY_PROOF", usage: "when guests are told apart by their pid namespace too: auto or always"},
		{Name: "privileges", Value: privilegesDrop, env: "DEVLXD_PRIVILEGES", usage: "what becomes of the capabilities that serving does not need: drop or keep"},
		{Name: "discover", Value: "", env: "DEVLXD_DISCOVER", usage: "runtimes whose running containers are found by themselves, with commas: lxc, nspawn, podman"},
		{Name: "limits", Value: "", env: "DEVLXD_LIMITS", usage: "quotas of a container, QUOTA=VALUE,... in place of " + defaultLimits()},
		{Name: "source", Value: sourceStore, env: "DEVLXD_SOURCE", usage: "where containers come from: store, lxd[:SOCKET] or incus[:SOCKET]"},
		{Name: "metrics-per-container", Value: "0", env: "DEVLXD_METRICS_PER_CONTAINER", usage: "how many containers, the busiest, have metrics of their own"},
	}
	for i := range s.values {
		v := &s.values[i]
		cmd.Flags().String(v.Name, v.Value, fmt.Sprintf("%s (or %s)", v.usage, v.env))
	}
	cmd.Flags().IntVar(&s.loops, "loops", 0, "event loops (default: cores less one, at least one)")
}

// resolve gives each value its origin and checks it.
func (s *settings) resolve() ([]setting, error) {
	for i := range s.values {
		v := &s.values[i]
		v.Origin = "default"
		if env, ok := os.LookupEnv(v.env); ok && env != "" {
			v.Value, v.Origin = env, "environment"
		}
		if flag := s.cmd.Flags().Lookup(v.Name); flag.Changed {
			v.Value, v.Origin = flag.Value.String(), "flag"
		}
	}
	if _, err := parseDialect(s.value("dialect")); err != nil {
		return nil, usageError(err)
	}
	if _, err := parseSource(s.value("source")); err != nil {
		return nil, usageError(err)
	}
	if proof := s.value("identity-proof"); proof != proofAuto && proof != proofAlways {
		return nil, usageError(fmt.Errorf("--identity-proof: unknown value %q: use %s or %s", proof, proofAuto, proofAlways))
	}
	if p := s.value("privileges"); p != privilegesDrop && p != privilegesKeep {
		return nil, usageError(fmt.Errorf("--privileges: unknown value %q: use %s or %s", p, privilegesDrop, privilegesKeep))
	}
	if n, err := strconv.ParseUint(s.value("metrics-per-container"), 10, 31); err != nil || n > maxPerContainer {
		return nil, usageError(fmt.Errorf("--metrics-per-container: %q is not a number of containers: use 0 to %d", s.value("metrics-per-container"), maxPerContainer))
	}
	if _, err := registry.ParseLimits(s.value("limits")); err != nil {
		return nil, usageError(fmt.Errorf("--limits: %w", err))
	}
	if _, err := discover.ParseRuntimes(s.value("discover")); err != nil {
		return nil, usageError(fmt.Errorf("--discover: %w", err))
	}
	if s.loops < 0 {
		return nil, usageError(fmt.Errorf("--loops: %d is negative: leave it out or give a number of loops", s.loops))
	}
	for _, name := range []string{"run-dir", "state-dir"} {
		if s.value(name) == "" {
			return nil, usageError(fmt.Errorf("--%s is empty: give a directory", name))
		}
	}
	if address := s.value("metrics"); address != "" && address != "off" {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, usageError(fmt.Errorf("--metrics: %w: give HOST:PORT or off", err))
		}
	}
	return s.values, nil
}

func (s *settings) value(name string) string {
	for _, v := range s.values {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// defaultLimits are the quotas of server.DefaultLimits as --limits takes them.
func defaultLimits() string {
	var pairs []string
	for l, n := range server.DefaultLimits() {
		pairs = append(pairs, registry.Limit(l).String()+"="+registry.FormatLimit(n))
	}
	return strings.Join(pairs, ",")
}

// daemonConfig is what startDaemon takes.
func (s *settings) daemonConfig(log *slog.Logger) (daemonConfig, error) {
	if _, err := s.resolve(); err != nil {
		return daemonConfig{}, err
	}
	dialect, err := parseDialect(s.value("dialect"))
	if err != nil {
		return daemonConfig{}, err
	}
	limits, err := registry.ParseLimits(s.value("limits"))
	if err != nil {
		return daemonConfig{}, err
	}
	source, err := parseSource(s.value("source"))
	if err != nil {
		return daemonConfig{}, err
	}
	runtimes, err := discover.ParseRuntimes(s.value("discover"))
	if err != nil {
		return daemonConfig{}, err
	}
	perContainer, err := strconv.Atoi(s.value("metrics-per-container"))
	if err != nil {
		return daemonConfig{}, err
	}
	cfg := daemonConfig{PerContainer: perContainer, Limits: limits, Source: source, Discover: runtimes, Metrics: s.value("metrics"), Dialect: dialect, Loops: s.loops, ProofAlways: s.value("identity-proof") == proofAlways, Log: log}
	for dir, name := range map[*string]string{&cfg.RunDir: "run-dir", &cfg.StateDir: "state-dir"} {
		if *dir, err = filepath.Abs(s.value(name)); err != nil {
			return daemonConfig{}, err
		}
	}
	return cfg, nil
}
