package sandbox

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

const (
	// defaultHostID is the first host id given to containers, as in the default of
	// /etc/subuid of shadow-utils.
	defaultHostID = 100000
	// idRange is the number of ids that a container of root gets.
	idRange = 65536
)

// nextRange numbers the id ranges of one process, so that its containers differ.
var nextRange atomic.Uint32

// idMap says how the ids of a container look from outside.
type idMap struct {
	host uint32 // of id 0
	size int    // 1 or idRange
}

// idMaps returns the maps to try, the best one first. As root that is a range of its own;
// anyone else may map nothing but his own uid (user_namespaces(7)).
func idMaps(want uint32) []idMap {
	own := idMap{uint32(os.Geteuid()), 1}
	if own.host != 0 {
		return []idMap{own}
	}
	if want == 0 {
		want = defaultHostID + (nextRange.Add(1)-1)%1024*idRange
	}
	for _, file := range [...]string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		text, err := os.ReadFile(file)
		if err != nil || !mapsAll(string(text), want, idRange) {
			return []idMap{own}
		}
	}
	return []idMap{{want, idRange}, own}
}

// mapsAll tells whether one line of a uid_map or gid_map has all of the ids, as numbered
// inside of that user namespace.
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
