package apitest

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// Covered is a test binary of which every documented answer has to be seen. It
// runs where testing.M would: in TestMain, also for goleak.
type Covered struct {
	M       interface{ Run() int }
	Checker *Checker
	// Excused has the reason for each label that cannot be seen, see [Checker.Unseen].
	Excused map[string]string
}

// Run runs the tests, and fails if they all ran and were good but left
// something unseen, or if something undocumented was found that no test has
// reported. Without root, which some tests need, nothing has to be seen.
func (c Covered) Run() int {
	code := c.M.Run()
	if err := c.Checker.Settle(time.Minute); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	for _, err := range c.Checker.Failures() {
		fmt.Fprintln(os.Stderr, "not documented:", err)
		code = max(code, 1)
	}
	if code != 0 || partial() || os.Getuid() != 0 {
		return code
	}
	for _, line := range c.Checker.Unseen(c.Excused) {
		fmt.Fprintln(os.Stderr, "not covered:", line)
		code = 1
	}
	return code
}

// partial reports that not all tests of the package were asked for.
func partial() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return true
		}
	}
	return false
}
