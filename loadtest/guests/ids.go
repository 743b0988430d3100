package guests

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	// defaultIDBase is the first host id given to containers, as in the default of /etc/subuid of shadow-utils and in LXD.
	defaultIDBase = 100000
	// defaultIDRange is the number of ids of a container.
	defaultIDRange = 65536
)

// idMaps are the id maps of the guests (user_namespaces(7)).
type idMaps struct {
	uid, gid  string
	setgroups bool   // they allow setgroups(2)
	note      string // why they are not what was asked for
}

// chooseMaps returns maps of a range of ids for root, and of the own ids, which is all that others may map, for anyone else.
func chooseMaps(base, size uint32) idMaps {
	own := idMaps{uid: fmt.Sprintf("0 %d 1", os.Geteuid()), gid: fmt.Sprintf("0 %d 1", os.Getegid())}
	if os.Geteuid() != 0 {
		return own
	}
	if base == 0 {
		base = defaultIDBase
	}
	if size == 0 {
		size = defaultIDRange
	}
	for _, file := range [...]string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		text, err := os.ReadFile(file)
		if err != nil || !mapsAll(string(text), base, uint64(size)) {
			own.note = fmt.Sprintf("guests are root of the host: ids %d to %d are not in %s", base, uint64(base)+uint64(size)-1, file)
			return own
		}
	}
	m := fmt.Sprintf("0 %d %d", base, size)
	return idMaps{uid: m, gid: m, setgroups: true}
}

// mapsAll tells whether one line of a uid_map or gid_map has all of the ids, as numbered inside of that user namespace.
func mapsAll(text string, first uint32, size uint64) bool {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		inside, err := strconv.ParseUint(f[0], 10, 32)
		length, err2 := strconv.ParseUint(f[2], 10, 32)
		if err == nil && err2 == nil && uint64(first) >= inside && uint64(first)+size <= inside+length {
			return true
		}
	}
	return false
}
