package report

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ThisMachine describes the machine that the caller runs on; command is the command line that is run. What cannot be read
// stays empty.
func ThisMachine(command []string) Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Command: strings.Join(command, " "), CPU: runtime.GOARCH}
	if name := procField("/proc/cpuinfo", "model name"); name != "" {
		m.CPU = name
	}
	m.Memory = memory("MemTotal")
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	return m
}

// MemoryAvailable is how many bytes of memory programs could still use (MemAvailable of proc_meminfo(5)); 0: not known.
func MemoryAvailable() uint64 { return memory("MemAvailable") }

func memory(field string) uint64 {
	kib, err := strconv.ParseUint(strings.TrimSuffix(procField("/proc/meminfo", field), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// procField returns the value of the first line "NAME : VALUE" of a file (proc_cpuinfo(5), proc_meminfo(5)).
func procField(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
