package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The main goroutine keeps the main thread, so that what TestMain starts runs on another one.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	// On whichever thread: a program may have started goroutines before, and be moved.
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		Main(map[string]Role{
			"facts": factsRole, "dial": dialRole, "hang": hangRole, "orphan": orphanRole, "code": codeRole, "enter": enterRole,
		})
	}()
	<-returned
	// Or every process that ends waits a second where the race detector is on.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	if mode := os.Getenv(helperEnv); mode != "" {
		os.Exit(helper(mode))
	}
	goleak.VerifyTestMain(m)
}

// helperEnv makes the test binary another caller of this package.
const helperEnv = "SANDBOX_TEST_HELPER"

// helper starts a container in a process of its own, prints its pid, and then its notes
// or what goes wrong.
func helper(mode string) int {
	if mode == "masked" {
		if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("tmpfs", "/proc/sys", "tmpfs", 0, "")); err != nil {
			fmt.Println("cannot cover /proc/sys:", err)
			return 1
		}
	}
	c, err := Start(context.Background(), Options{Name: "helper", Cgroup: mode == "killed"})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(c.PID())
	if mode == "killed" {
		fmt.Println(c.Cgroup())
		if err := c.Guest(context.Background(), "hang").Run(); err != nil {
			fmt.Println(err)
		}
		return 1
	}
	out, err := c.Guest(context.Background(), "facts").Output()
	fmt.Printf("%q\n%s%v\n", c.Notes(), out, err)
	if err := c.Stop(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// factsRole prints what a process in the container sees, one "key=value" a line.
func factsRole([]string) int {
	uts := unix.Utsname{}
	if err := unix.Uname(&uts); err != nil {
		return 1
	}
	fmt.Printf("host=%s\n", unix.ByteSliceToString(uts.Nodename[:]))
	fmt.Printf("uid=%d gid=%d ppid=%d\n", os.Getuid(), os.Getgid(), os.Getppid())
	for _, dir := range []string{"/", "/dev", "/dev/lxd"} {
		var names []string
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		fmt.Printf("ls %s=%s %v\n", dir, strings.Join(names, " "), err)
	}
	for _, path := range []string{"/dev/lxd/x", "/usr/x", "/tmp/x", "/dev/null"} {
		fmt.Printf("write %s=%v\n", path, os.WriteFile(path, []byte("x"), 0o644))
	}
	b := make([]byte, 4)
	f, err := os.Open("/dev/zero")
	if err == nil {
		_, err = io.ReadFull(f, b)
	}
	fmt.Printf("zero=%x %v\n", b, err)
	pids, err := filepath.Glob("/proc/[0-9]*")
	fmt.Printf("processes=%d %v\n", len(pids), err)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	fmt.Printf("propagated=%v %v\n", strings.Contains(string(mounts), "shared:") || strings.Contains(string(mounts), "master:"), err)
	cmdline, err := os.ReadFile("/proc/self/cmdline")
	fmt.Printf("cmdline=%q %v\n", cmdline, err)
	return 0
}

// dialRole connects to a socket, tells what it reads and waits for the end of input.
func dialRole(args []string) int {
	c, err := net.Dial("unix", args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	text, err := io.ReadAll(c)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("%s", text)
	return 0
}

// hangRole says that it is there and ignores every signal it can.
func hangRole([]string) int {
	signal.Ignore()
	fmt.Println("hanging")
	select {}
}

// orphanRole starts a process that outlives it.
func orphanRole([]string) int {
	p, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(p.Pid)
	return 0
}

// codeRole exits with the code 3.
func codeRole([]string) int {
	fmt.Fprintln(os.Stderr, "as told")
	return 3
}

// enterRole makes a cgroup in the container's tree, moves there and stays.
func enterRole(args []string) int {
	dir := filepath.Join("/sys/fs/cgroup", args[0])
	if err := os.Mkdir(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	fmt.Printf("%s%v\n", text, err)
	select {}
}
