package settings

import (
	"fmt"
	"strings"

	"devlxd/registry"
)

// Origin is where a value comes from.
type Origin uint8

const (
	// FromDefault: nobody has given one.
	FromDefault Origin = iota
	// FromFile: the configuration file.
	FromFile
	// FromEnvironment: an environment variable.
	FromEnvironment
	// FromFlag: a flag.
	FromFlag
)

// Value is what a setting is.
type Value struct {
	Setting Setting
	Text    string // as a flag has it
	From    Origin
	// Origin is the place for people: "flag --dialect", "environment DEVLXD_DIALECT", "/etc/devlxd/config.yaml:12", "default".
	Origin string
}

// Input is where values may come from.
type Input struct {
	// Flag tells of a flag by its name whether it was given, and with what. nil: there are none.
	Flag func(name string) (text string, given bool)
	// Env is os.LookupEnv. A variable that is empty is as good as none. nil: there are none.
	Env  func(name string) (text string, set bool)
	File *File // nil: there is none
}

// Values are the values of all settings, in the order of the table.
type Values []Value

// Get finds a value by the key of its setting.
func (v Values) Get(key string) *Value {
	for i := range v {
		if v[i].Setting.Key == key {
			return &v[i]
		}
	}
	return nil
}

// Resolve gives each setting the value that it has. The error, of one line, says which flag or variable is wrong.
func Resolve(in Input) (Values, *Config, error) {
	c, all := new(Config), All()
	values := make(Values, len(all))
	for i, s := range all {
		v := &values[i]
		v.Setting = s
		if err := in.find(v); err != nil {
			return nil, nil, err
		}
		if err := s.set(c, v.Text); err != nil {
			return nil, nil, about(source(&s, v.From), err)
		}
	}
	if c.Source != nil && len(c.Discover) > 0 {
		return nil, nil, fmt.Errorf("discover (%s) and source (%s) exclude each other: a mirrored daemon names its containers by itself, so leave discover out",
			values.Get("discover").Origin, values.Get("source").Origin)
	}
	return values, c, nil
}

// source names a flag or variable as it is written.
func source(s *Setting, from Origin) string {
	switch from {
	case FromFlag:
		return "--" + s.Flag
	case FromEnvironment:
		return s.Env
	}
	return s.Key
}

// find sets what v is and where it comes from.
func (in *Input) find(v *Value) error {
	s := &v.Setting
	if in.Flag != nil {
		if text, given := in.Flag(s.Flag); given {
			if ok, err := v.take(text, FromFlag, "flag --"+s.Flag); ok || err != nil {
				return err
			}
		}
	}
	if in.Env != nil {
		if text, set := in.Env(s.Env); set && text != "" {
			if ok, err := v.take(text, FromEnvironment, "environment "+s.Env); ok || err != nil {
				return err
			}
		}
	}
	if in.File != nil {
		if f, given := in.File.values[s.Key]; given {
			v.Text, v.From, v.Origin = f.text, FromFile, fmt.Sprintf("%s:%d", in.File.Path, f.line)
			return nil
		}
	}
	v.Text, v.From, v.Origin = s.Default, FromDefault, "default"
	return nil
}

// take sets v to what a flag or variable says, or reports that it says nothing of this part.
func (v *Value) take(text string, from Origin, origin string) (bool, error) {
	if part := v.Setting.Part; part != "" {
		// All of it is to be right, whichever part is asked for.
		if _, err := registry.ParseLimits(text); err != nil {
			return false, fmt.Errorf("%s: %w", source(&v.Setting, from), err)
		}
		found := false
		for pair := range strings.SplitSeq(text, ",") {
			if name, value, _ := strings.Cut(pair, "="); name == part {
				text, found = value, true
				break
			}
		}
		if !found {
			return false, nil
		}
	}
	v.Text, v.From, v.Origin = text, from, origin
	return true, nil
}

// Changed are the settings whose value differs between two resolutions.
func Changed(from, to Values) (changed []Setting) {
	for i := range to {
		if old := from.Get(to[i].Setting.Key); old == nil || old.Text != to[i].Text {
			changed = append(changed, to[i].Setting)
		}
	}
	return changed
}

// Warnings are what was given and has no effect, a line each: variables that begin as the daemon's do and are none, those that are empty,
// and values that others make pointless. environ is os.Environ; other names variables that mean something else.
func Warnings(values Values, environ []string, other func(name string) bool) (lines []string) {
	known := map[string]bool{FileEnv: true}
	for _, s := range All() {
		known[s.Env] = true
	}
	for _, pair := range environ {
		name, text, _ := strings.Cut(pair, "=")
		switch {
		case !strings.HasPrefix(name, "DEVLXD_") || other(name):
		case !known[name]:
			line := "environment " + name + " is no setting"
			if near := nearestEnv(name); near != "" {
				line += ": perhaps " + near
			}
			lines = append(lines, line)
		case text == "":
			lines = append(lines, "environment "+name+" is empty, which is as if it was not there")
		}
	}
	if v := values.Get("metrics.per-container"); v.Text != "0" && values.Get("metrics.address").Text == MetricsOff {
		lines = append(lines, fmt.Sprintf("metrics.per-container (%s) shows on the admin socket alone, as metrics.address is off", v.Origin))
	}
	if v := values.Get("state-dir"); v.From != FromDefault && values.Get("source").Text != sourceStore {
		lines = append(lines, fmt.Sprintf("state-dir (%s) holds nothing with source %s", v.Origin, values.Get("source").Text))
	}
	return lines
}
