package discover

import (
	"strings"
)

// podmanIDLen is the length of the id of a container or pod: hexadecimal digits of a SHA-256.
const podmanIDLen = 64

// podmanRules are those of podman as root (libpod/container_internal_common.go: getOCICgroupPath, libpod/oci_conmon_linux.go):
//
//   - cgroup manager systemd: machine.slice/libpod-ID.scope, and in a pod machine.slice/machine-libpod_pod_ID.slice/libpod-ID.scope;
//   - cgroup manager cgroupfs: libpod_parent/libpod-ID, and in a pod libpod_parent/POD/libpod-ID;
//   - --cgroups=split, which Quadlet uses: system.slice/UNIT.service/libpod-payload-ID.
//
// The cgroups of conmon (libpod-conmon-ID, conmon, runtime) hold processes of the host. A container that shares the pid
// namespace of the host or of a pod has no process 1 and is left alone.
func podmanRules() rules {
	return rules{runtime: Podman, kind: podmanKind, named: podmanNamed}
}

func podmanKind(dir string) kind {
	p := parts(dir)
	if len(p) == 0 {
		return kindPlace
	}
	last := p[len(p)-1]
	switch p[0] {
	case machineSlice:
		pod := len(p) > 1 && podmanHas(p[1], "machine-libpod_pod_", ".slice")
		switch {
		case len(p) == 1, len(p) == 2 && pod:
			return kindPlace
		case (len(p) == 2 || len(p) == 3 && pod) && podmanHas(last, "libpod-", ".scope"):
			return kindPayload
		}
	case "libpod_parent":
		pod := len(p) > 1 && podmanHas(p[1], "", "")
		switch {
		case len(p) == 1, len(p) == 2 && pod:
			return kindPlace
		case (len(p) == 2 || len(p) == 3 && pod) && podmanHas(last, "libpod-", ""):
			return kindPayload
		}
	case "system.slice":
		switch {
		case len(p) == 1, len(p) == 2 && strings.HasSuffix(p[1], ".service"):
			return kindPlace
		case len(p) == 3 && strings.HasSuffix(p[1], ".service") && podmanHas(last, "libpod-payload-", ""):
			return kindPayload
		}
	}
	return kindNone
}

// podmanHas tells whether name is an id between prefix and suffix.
func podmanHas(name, prefix, suffix string) bool {
	id, ok := between(name, prefix, suffix)
	return ok && isPodmanID(id)
}

func isPodmanID(id string) bool {
	return len(id) == podmanIDLen && strings.Trim(id, "0123456789abcdef") == ""
}

// podmanNamed asks conmon, which is the parent of init and outlives podman: conmon ... -c ID ... -n NAME (libpod/oci_conmon_common.go). The
// id stays the same over restarts of the container.
func podmanNamed(p *procs, dir string, init process) (name, identity string, err error) {
	id := strings.TrimSuffix(dir[strings.LastIndexByte(dir, '-')+1:], ".scope")
	conmon, err := p.read(init.parent)
	if err != nil || len(conmon.ns) != 1 {
		return "", "", errNameless
	}
	args, err := p.args(conmon.pid)
	if err != nil || flagValue(args, "-c", "--cid") != id {
		return "", "", errNameless
	}
	if name = flagValue(args, "-n", "--name"); name == "" {
		return "", "", errNameless
	}
	return name, id, nil
}
