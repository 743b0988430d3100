package peer

import "strings"

// cgroup2Mounts returns the mount points of whole cgroup2 trees in a text of
// /proc/self/mountinfo (proc_pid_mountinfo(5)), in the order in which to try them:
// the usual places first.
func cgroup2Mounts(mountinfo string) []string {
	var usual, other []string
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		if !ok || !strings.HasPrefix(right, "cgroup2 ") {
			continue
		}
		f := strings.Fields(left)
		if len(f) < 6 || f[3] != "/" {
			continue // a bind mount of a part: paths of /proc/PID/cgroup do not fit it
		}
		point := unescapeMount(f[4])
		if point == "/sys/fs/cgroup" || point == "/sys/fs/cgroup/unified" {
			usual = append(usual, point)
		} else {
			other = append(other, point)
		}
	}
	return append(usual, other...)
}

// unescapeMount undoes the octal escapes of blanks and backslashes in mountinfo.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
