package discover

import (
	"strconv"
	"strings"
)

// nspawnPayload is the cgroup that systemd-nspawn makes for a container beside that of its own, "supervisor" (its
// src/nspawn/nspawn-cgroup.c: create_subcgroup). Scopes of libvirt in the same slice have none.
const nspawnPayload = "payload"

// nspawnRules are those of systemd-nspawn: machine.slice/machine-NAME.scope/payload where it was started from a shell, and
// machine.slice/systemd-nspawn@NAME.service/payload by its unit. What belongs to podman and libvirt there is not theirs.
func nspawnRules() rules {
	return rules{
		runtime: Nspawn,
		kind: func(dir string) kind {
			p := parts(dir)
			if len(p) == 0 {
				return kindPlace
			}
			if p[0] != machineSlice || len(p) > 1 && nspawnUnit(p[1]) == "" {
				return kindNone
			}
			switch {
			case len(p) <= 2:
				return kindPlace
			case len(p) == 3 && p[2] == nspawnPayload:
				return kindPayload
			}
			return kindNone
		},
		named: func(_ *procs, dir string, _ process) (name, identity string, err error) {
			name, err = unescapeUnit(nspawnUnit(parts(dir)[1]))
			return name, name, err
		},
	}
}

// machineSlice is where systemd keeps virtual machines and containers.
const machineSlice = "machine.slice"

// nspawnUnit takes the name, still escaped, out of that of a unit; "": it is none of systemd-nspawn's.
func nspawnUnit(unit string) string {
	if name, ok := between(unit, "machine-", ".scope"); ok {
		return name
	}
	name, _ := between(unit, "systemd-nspawn@", ".service")
	return name
}

// unescapeUnit undoes systemd's unit_name_escape: "-" was "/", which no machine has in its name, and \xNN a byte.
func unescapeUnit(name string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			b.WriteByte(name[i])
			continue
		}
		if len(name) < i+4 || name[i+1] != 'x' {
			return "", errEscape
		}
		c, err := strconv.ParseUint(name[i+2:i+4], 16, 8)
		if err != nil {
			return "", errEscape
		}
		b.WriteByte(byte(c))
		i += 3
	}
	return b.String(), nil
}
