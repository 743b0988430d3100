package settings

import (
	"strings"

	"devlxd/registry"
	"devlxd/server"
)

// DefaultFile is the configuration file that is read if no other is named. It may be missing.
const DefaultFile = "/etc/devlxd/config.yaml"

// FileEnv names another one, as --config does.
const FileEnv = "DEVLXD_CONFIG"

// Kind is what a value looks like in YAML.
type Kind uint8

const (
	// KindText is a string.
	KindText Kind = iota
	// KindNumber is a whole number.
	KindNumber
	// KindList is a list of words; with commas between them as a flag.
	KindList
	// KindLimit is a whole number or the word unlimited.
	KindLimit
)

// String names the kind for documentation.
func (k Kind) String() string {
	switch k {
	case KindText:
		return "text"
	case KindNumber:
		return "whole number"
	case KindList:
		return "list"
	case KindLimit:
		return "whole number or unlimited"
	}
	return "unknown"
}

// Change is what it takes for another value to count.
type Change uint8

const (
	// ChangeLive: SIGHUP.
	ChangeLive Change = iota
	// ChangeUpgrade: "devlxd upgrade", or a restart.
	ChangeUpgrade
	// ChangeRestart: a restart.
	ChangeRestart
)

// String names the means.
func (c Change) String() string {
	switch c {
	case ChangeLive:
		return "SIGHUP"
	case ChangeUpgrade:
		return "devlxd upgrade"
	case ChangeRestart:
		return "restart"
	}
	return "unknown"
}

// Setting is a row of the table.
type Setting struct {
	// Key is the name: where in the file the value is, sections before a dot.
	Key string
	// Flag is the flag without the dashes, and Env the variable.
	Flag, Env string
	// Part is which part of the value of flag and variable it is, as NAME=VALUE with commas between parts; "": all of it.
	Part string
	Kind Kind
	// Default is the value as flag and variable have it.
	Default string
	// Unit is what a number counts; "": it is said by Usage.
	Unit string
	// Yes is what true is in the file, where false is 0; "": neither is a value.
	Yes string
	// Choices are the only values, if there are few.
	Choices []string
	// Usage is a phrase for help and documentation.
	Usage string
	// Note is more of it, for documentation and the example file; sentences.
	Note   string
	Change Change

	set func(c *Config, text string) error
}

// Section is what is before the dot of the key, "" at the top of the file; Name is the rest.
func (s *Setting) Section() string {
	section, _, ok := strings.Cut(s.Key, ".")
	if !ok {
		return ""
	}
	return section
}

// Name is the key within its section.
func (s *Setting) Name() string { return s.Key[strings.LastIndexByte(s.Key, '.')+1:] }

// Flag is a flag of serve: one setting, or several that are its parts.
type Flag struct {
	Name, Env, Usage, Default string
	Kind                      Kind
}

// Flags are the flags of the table, in its order.
func Flags() (flags []Flag) {
	seen := make(map[string]bool)
	for _, s := range All() {
		if seen[s.Flag] {
			continue
		}
		seen[s.Flag] = true
		f := Flag{Name: s.Flag, Env: s.Env, Usage: s.Usage, Default: s.Default, Kind: s.Kind}
		if s.Part != "" {
			f.Usage, f.Default, f.Kind = "quotas of a container, QUOTA=VALUE,... in place of "+defaultLimits(), "", KindText
		}
		flags = append(flags, f)
	}
	return flags
}

// defaultLimits are the default quotas as --limits takes them.
func defaultLimits() string {
	var pairs []string
	for l, n := range server.DefaultLimits() {
		pairs = append(pairs, registry.Limit(l).String()+"="+registry.FormatLimit(n))
	}
	return strings.Join(pairs, ",")
}

// All is the table. The caller owns it.
func All() []Setting {
	list := []Setting{
		{
			Key: "run-dir", Flag: "run-dir", Env: "DEVLXD_RUN_DIR", Default: "/run/devlxd", Usage: "directory of the sockets",
			Note:   "Commands such as 'devlxd status' do not read this file: tell them by DEVLXD_RUN_DIR or --run-dir.",
			Change: ChangeRestart, set: setRunDir,
		},
		{
			Key: "state-dir", Flag: "state-dir", Env: "DEVLXD_STATE_DIR", Default: "/var/lib/devlxd", Usage: "directory of the store and the images",
			Change: ChangeRestart, set: setStateDir,
		},
		{
			Key: "metrics.address", Flag: "metrics", Env: "DEVLXD_METRICS", Default: "127.0.0.1:9778",
			Usage: "address of the Prometheus metrics, or off", Note: "HOST:PORT; port 0 is any that is free.", Change: ChangeUpgrade, set: setMetrics,
		},
		{
			Key: "metrics.per-container", Flag: "metrics-per-container", Env: "DEVLXD_METRICS_PER_CONTAINER", Kind: KindNumber, Default: "0",
			Unit: "containers", Usage: "how many containers, the busiest, have metrics of their own",
			Note: "true is 20 of them, false none.", Yes: "20", Change: ChangeLive, set: setPerContainer,
		},
		{
			Key: "dialect", Flag: "dialect", Env: "DEVLXD_DIALECT", Default: server.DialectDocument.String(),
			Choices: []string{"document", "lxd", "incus"}, Usage: "whose bodies and texts guests see: document, lxd or incus",
			Change: ChangeUpgrade, set: setDialect,
		},
		{
			Key: "identity-proof", Flag: "identity-proof", Env: "DEVLXD_IDENTITY_PROOF", Default: proofAuto, Choices: []string{proofAuto, proofAlways},
			Usage:  "when guests are told apart by their pid namespace too: auto or always",
			Note:   "always, if privileged containers run on this host that devlxd is never told of.",
			Change: ChangeUpgrade, set: setProof,
		},
		{
			Key: "privileges", Flag: "privileges", Env: "DEVLXD_PRIVILEGES", Default: privilegesDrop, Choices: []string{privilegesDrop, privilegesKeep},
			Usage:  "what becomes of the capabilities that serving does not need: drop or keep",
			Change: ChangeRestart, set: setPrivileges,
		},
		{
			Key: "discover", Flag: "discover", Env: "DEVLXD_DISCOVER", Kind: KindList,
			Usage:  "runtimes whose running containers are found by themselves, with commas: lxc, nspawn, podman",
			Change: ChangeUpgrade, set: setDiscover,
		},
		{
			Key: "source", Flag: "source", Env: "DEVLXD_SOURCE", Default: sourceStore,
			Usage: "where containers come from: store, lxd[:SOCKET] or incus[:SOCKET]", Change: ChangeRestart, set: setSource,
		},
		{
			Key: "loops", Flag: "loops", Env: "DEVLXD_LOOPS", Kind: KindNumber, Default: "0", Unit: "event loops",
			Usage: "event loops; 0 is one less than there are cores, and at least one", Change: ChangeUpgrade, set: setLoops,
		},
	}
	for l, n := range server.DefaultLimits() {
		limit := registry.Limit(l)
		row := Setting{
			Key: "limits." + limit.String(), Flag: "limits", Env: "DEVLXD_LIMITS", Part: limit.String(), Kind: KindLimit,
			Default: registry.FormatLimit(n), Usage: limitUsage[l], Unit: limitUnit[l], Change: ChangeLive,
		}
		row.set = func(c *Config, text string) (err error) {
			c.Limits[limit], err = registry.ParseLimit(text)
			return err
		}
		list = append(list, row)
	}
	return append(list,
		Setting{
			Key: "log.level", Flag: "log-level", Env: "DEVLXD_LOG_LEVEL", Default: "info", Choices: []string{"debug", "info", "warn", "error"},
			Usage: "which lines are logged: debug, info, warn or error", Note: "'devlxd log-level' changes it until the daemon is reloaded or ends.",
			Change: ChangeLive, set: setLogLevel,
		},
		Setting{
			Key: "log.format", Flag: "log-format", Env: "DEVLXD_LOG_FORMAT", Default: "auto", Choices: []string{"auto", "text", "json"},
			Usage: "how lines are logged: text, json, or auto for text on a terminal and JSON elsewhere", Change: ChangeLive, set: setLogFormat,
		},
	)
}

// Of the quotas, by registry.Limit.
var (
	limitUsage = [registry.NumLimits]string{
		"guest connections of a container that are open", "event subscriptions of a container", "requests of a container a second, and as many at once",
		"bytes of a container's requests and answers under way", "image downloads of a container at once",
	}
	limitUnit = [registry.NumLimits]string{"connections", "subscriptions", "requests a second", "bytes", "downloads"}
)
