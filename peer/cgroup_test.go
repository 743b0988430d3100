package peer

import (
	"bytes"
	"strings"
	"testing"
)

func TestCgroupLine(t *testing.T) {
	const hybrid = "9:name=systemd:/\n4:memory:/lxc.payload.x\n1:cpu:/\n"
	tests := []struct{ name, text, want string }{
		{"root", "0::/\n", "/"},
		{"payload", "0::/lxc.payload.c1\n", "/lxc.payload.c1"},
		{"nested", "0::/a.slice/b.scope/c\n", "/a.slice/b.scope/c"},
		{"hybrid", hybrid + "0::/lxc.payload.c1\n", "/lxc.payload.c1"},
		{"v2 first", "0::/c\n" + hybrid, "/c"},
		{"name with blanks and colons", "0::/a b:c::d\n", "/a b:c::d"},
		{"name that looks like a line", "0::/0::\n", "/0::"},
		{"deleted in the middle", "0::/a (deleted)/b\n", "/a (deleted)/b"},
		{"dots in names", "0::/..a/b..\n", "/..a/b.."},

		{"empty", "", ""},
		{"v1 only", hybrid, ""},
		{"v1 controller called 0", "10::/a\n", ""},
		{"v1 line with the text in it", "1:name=0::/x:/y\n", ""},
		{"blank before", " 0::/a\n", ""},
		{"named hierarchy", "0:name=x:/a\n", ""},
		{"cut off", "0::/lxc.payload.c1", ""},
		{"cut off before", "4:memory:/a\n0::/lxc", ""},
		{"cut off after", "0::/a\n4:mem", ""},
		{"twice", "0::/a\n0::/b\n", ""},
		{"deleted", "0::/a (deleted)\n", ""},
		{"relative", "0::a\n", ""},
		{"no path", "0::\n", ""},
		{"above the cgroup namespace", "0::/../b\n", ""},
		{"the cgroup namespace's parent", "0::/..\n", ""},
		{"up in the middle", "0::/a/../b\n", ""},
		{"dot", "0::/a/./b\n", ""},
		{"empty component", "0::/a//b\n", ""},
		{"trailing slash", "0::/a/\n", ""},
		{"NUL", "0::/a\x00b\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path, ok := cgroupLine([]byte(tt.text))
			if string(path) != tt.want || ok != (tt.want != "") {
				t.Errorf("path = %q, %v; want %q", path, ok, tt.want)
			}
		})
	}
}

// FuzzCgroupLine: a path that is returned is the whole of the only cgroup v2 line.
func FuzzCgroupLine(f *testing.F) {
	for _, s := range []string{"0::/\n", "4:memory:/a\n0::/b/c\n", "0::/a (deleted)\n", "0::/../a\n", "0::/a\n0::/b\n", "0::/a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		path, ok := cgroupLine(bytes.Clone(text))
		if !ok {
			return
		}
		lines := strings.Split(string(text), "\n")
		found := 0
		for _, line := range lines {
			if strings.HasPrefix(line, "0::") {
				found++
				if line != "0::"+string(path) {
					t.Errorf("path %q of line %q", path, line)
				}
			}
		}
		if found != 1 || lines[len(lines)-1] != "" {
			t.Errorf("path %q of %q", path, text)
		}
		if path[0] != '/' || strings.HasSuffix(string(path), " (deleted)") || strings.Contains(string(path)+"/", "/../") {
			t.Errorf("path %q leads somewhere else", path)
		}
	})
}

func TestParseUIDMap(t *testing.T) {
	for _, tt := range []struct {
		name, text         string
		root               uint32
		mapped, privileged bool
		err                bool
	}{
		{"host", "         0          0 4294967295\n", 0, true, true, false},
		{"LXD", "         0     100000   10000001\n", 100000, true, false, false},
		{"unprivileged user", "         0       1000          1\n", 1000, true, false, false},
		{"two ranges", "0 100000 1000\n1000 1000 1\n1001 101001 64535\n", 100000, true, false, false},
		{"root last", "1 200000 10\n0 5 1\n", 5, true, false, false},
		{"host root under another name", "0 100000 65536\n70000 0 1\n", 100000, true, true, false},
		{"no root", "1 100000 10\n", 0, false, false, false},
		{"not mapped in the reader's", "0 4294967295 1\n", 0, false, false, false},
		{"empty length", "0 1000 0\n", 0, false, false, false},
		{"empty", "", 0, false, false, false},
		{"two numbers", "0 100000\n", 0, false, false, true},
		{"negative", "0 -1 1\n", 0, false, false, true},
		{"too large", "0 4294967296 1\n", 0, false, false, true},
		{"words", "zero one two\n", 0, false, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, mapped, privileged, err := parseUIDMap(tt.text)
			if root != tt.root || mapped != tt.mapped || privileged != tt.privileged || (err != nil) != tt.err {
				t.Errorf("got %d, %v, %v, %v", root, mapped, privileged, err)
			}
		})
	}
}
