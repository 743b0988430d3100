package loadtest

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// clock reads CLOCK_MONOTONIC in nanoseconds. Guests stamp their connects with the same clock, so that the two can be compared.
// Safe for concurrent use.
type clock struct {
	base time.Time // with the runtime's monotonic reading, which is CLOCK_MONOTONIC too and needs no system call
	at   int64     // CLOCK_MONOTONIC at base
}

func newClock() (clock, error) {
	var ts unix.Timespec
	c := clock{base: time.Now()}
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return c, os.NewSyscallError("clock_gettime", err)
	}
	c.at = ts.Nano()
	return c, nil
}

func (c *clock) now() int64 { return c.at + int64(time.Since(c.base)) }
