package peer

import (
	"fmt"
	"strconv"
	"strings"
)

// parseUIDMap reads a text of /proc/PID/uid_map (user_namespaces(7)): lines "INSIDE
// OUTSIDE LENGTH", OUTSIDE in the reader's user namespace. It returns the outside uid
// of inside 0 and whether outside 0 is mapped at all: who is host uid 0 anywhere
// inside owns the host's files.
func parseUIDMap(text string) (root uint32, mapped, privileged bool, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return 0, false, false, fmt.Errorf("line %q: %w", strings.TrimSpace(line), ErrUIDMap)
		}
		var n [3]uint32
		for i := range n {
			v, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return 0, false, false, fmt.Errorf("line %q: %w", strings.TrimSpace(line), ErrUIDMap)
			}
			n[i] = uint32(v)
		}
		inside, outside, length := n[0], n[1], n[2]
		if length == 0 || outside == unmappedID {
			continue // unmapped in the reader's own namespace
		}
		if inside == 0 {
			root, mapped = outside, true
		}
		if outside == 0 {
			privileged = true
		}
	}
	return root, mapped, privileged, nil
}
