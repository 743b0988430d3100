package discover

import (
	"strings"
)

// lxcPayload begins the name of the cgroup of a LXC container (src/lxc/cgroups/cgroup.h: DEFAULT_PAYLOAD_CGROUP_PREFIX, since
// LXC 4.0), lxcMonitor that of the one of its monitor.
const (
	lxcPayload = "lxc.payload."
	lxcMonitor = "lxc.monitor."
)

// lxcRules are those of LXC containers that root starts: lxc.payload.NAME directly below the root of the tree
// (src/lxc/cgroups/cgfsng.c takes the cgroup of process 1 as the base). The cgroups beside them, lxc.monitor.NAME and
// lxc.pivot, hold processes of the host, and .lxc below a payload those that lxc-attach has started inside.
//
// The containers of an unprivileged user are below the user's own slice, where the user could make any name up; they are no
// places.
func lxcRules() rules {
	return rules{
		runtime: LXC,
		kind: func(dir string) kind {
			switch p := parts(dir); {
			case len(p) == 0:
				return kindPlace
			case len(p) == 1 && len(dir) > len(lxcPayload) && strings.HasPrefix(dir, lxcPayload):
				return kindPayload
			}
			return kindNone
		},
		named: lxcNamed,
	}
}

// lxcNamed takes the name from the cgroup. LXC appends "-1" and so on where a cgroup is left over or another LXCPATH has a
// container of that name (cgfsng_payload_create), so a name that ends like that is only taken with the word of the monitor.
func lxcNamed(p *procs, dir string, init process) (name, identity string, err error) {
	name = strings.TrimPrefix(dir, lxcPayload)
	short, numbered := cutNumber(name)
	if !numbered {
		return name, name, nil
	}
	switch told := lxcMonitored(p, init); told {
	case name, short:
		return told, told, nil
	}
	return "", "", errNameless
}

// cutNumber takes "-" and a number off the end.
func cutNumber(name string) (string, bool) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 || i == len(name)-1 || strings.Trim(name[i+1:], "0123456789") != "" {
		return name, false
	}
	return name[:i], true
}

// lxcMonitored is the name in the title of the monitor, "[lxc monitor] LXCPATH NAME" (src/lxc/lxccontainer.c: do_lxcapi_start), or in
// the arguments of lxc-start in the foreground. "": the parent of init is none. A guest can call a process of its own so, but
// such a one is no parent of init, and is neither outside of the container nor in the cgroup of a monitor.
func lxcMonitored(p *procs, init process) string {
	monitor, err := p.read(init.parent)
	if err != nil || len(monitor.ns) != 1 {
		return ""
	}
	if dir, err := p.cgroup(monitor.pid); err != nil || !strings.HasPrefix(dir, "/"+lxcMonitor) || strings.Count(dir, "/") != 1 {
		return ""
	}
	args, err := p.args(monitor.pid)
	if err != nil || len(args) == 0 {
		return ""
	}
	if title, ok := strings.CutPrefix(args[0], "[lxc monitor] "); ok {
		return title[strings.LastIndexByte(title, ' ')+1:]
	}
	return flagValue(args, "-n", "--name")
}

// flagValue finds the value of a flag in the arguments of a program.
func flagValue(args []string, names ...string) string {
	for i, arg := range args {
		for _, name := range names {
			if arg == name && i+1 < len(args) {
				return args[i+1]
			}
			if v, ok := strings.CutPrefix(arg, name+"="); ok {
				return v
			}
		}
	}
	return ""
}
