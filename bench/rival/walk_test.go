package rival_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/bench/rival"
)

// process is a guest, or a helper of one.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startGuest(t *testing.T, cmd *exec.Cmd, socket, path string, env ...string) *process {
	t.Helper()
	cmd.Env = append(append(os.Environ(), envGuest+"="+path, envSocket+"="+socket), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("this machine does not let a test make namespaces: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &process{Cmd: cmd, in: in, out: bufio.NewReader(out)}
}

// startContainer starts a guest as init of a pid and user namespace of its own.
func startContainer(t *testing.T, socket, path string, env ...string) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	return startGuest(t, cmd, socket, path, env...)
}

// ask has the guest ask and returns what it was answered.
func (p *process) ask(t *testing.T) string {
	t.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		t.Fatal(err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// forkGuest has a child of this process ask, and prints its answer.
func forkGuest() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envFork+"=")
	cmd.Stdin = strings.NewReader("\n")
	cmd.Stdout = os.Stdout
	return cmd.Run()
}

// TestContainersAreToldApart asks from two containers, from a child of an init, and from a process that joined one from the host.
func TestContainersAreToldApart(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: nsenter(1) sets the groups when it joins a container")
	}
	r := newEmptyRig(t, rival.NetHTTP)
	one := startContainer(t, r.socket, loadPath)
	two := startContainer(t, r.socket, loadPath)
	parent := startContainer(t, r.socket, loadPath, envFork+"=yes")
	host := startGuest(t, exec.Command("/proc/self/exe"), r.socket, loadPath)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	target := strconv.Itoa(one.Process.Pid)
	joined := startGuest(t, exec.Command("nsenter", "--target", target, "--user", "--pid", program), r.socket, loadPath)

	config := func(v string) map[string]string { return map[string]string{rival.Key: v} }
	if err := r.Register([]rival.Container{
		{Name: "one", PID: one.Process.Pid, Config: config("1")},
		{Name: "two", PID: two.Process.Pid, Config: config("2")},
		{Name: "parent", PID: parent.Process.Pid, Config: config("3")},
		{Name: "stopped", Config: config("4")},
	}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		from *process
		want string
	}{
		{"init", one, `200 "1"`},
		{"another init", two, `200 "2"`},
		{"child of an init", parent, `200 "3"`},
		{"process of the host", host, `500 "Process ID not found in container\n"`},
		{"process that joined the container", joined, `200 "1"`},
	} {
		if got := test.from.ask(t); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

// TestBindAgain: a container that is registered again is known by its new init.
func TestBindAgain(t *testing.T) {
	r := newEmptyRig(t, rival.NetHTTP)
	before := startContainer(t, r.socket, loadPath)
	after := startContainer(t, r.socket, loadPath)
	for _, p := range []*process{before, after} {
		if err := r.Register([]rival.Container{{Name: "c", PID: p.Process.Pid, Config: map[string]string{rival.Key: "x"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := before.ask(t), `500 "Process ID not found in container\n"`; got != want {
		t.Errorf("old init: got %s, want %s", got, want)
	}
	if got, want := after.ask(t), `200 "x"`; got != want {
		t.Errorf("new init: got %s, want %s", got, want)
	}
}

// TestOtherUID connects as another user of the container.
func TestOtherUID(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: only root can connect as another user")
	}
	r := newRig(t, rival.NetHTTP)
	dir := filepath.Dir(r.socket)
	for _, dir := range []string{dir, filepath.Dir(dir)} { // both are the test's own
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	answers := make(chan string)
	go func() {
		// The thread is never unlocked, so it ends with the goroutine: the uid is its own (setresuid(2), "C library/kernel differences").
		runtime.LockOSThread()
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			answers <- err.Error()
			return
		}
		file := os.NewFile(uintptr(fd), "socket")
		defer file.Close()
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 {
			answers <- errno.Error()
			return
		}
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: r.socket})
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 0, ^uintptr(0)); errno != 0 || err != nil {
			answers <- fmt.Sprint(errno, err)
			return
		}
		if _, err := io.WriteString(file, get(loadPath)); err != nil {
			answers <- err.Error()
			return
		}
		resp, err := http.ReadResponse(bufio.NewReader(file), nil)
		if err != nil {
			answers <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		answers <- fmt.Sprintf("%d %q %v", resp.StatusCode, body, err)
	}()
	if got, want := <-answers, `401 "Access denied for non-root user\n" <nil>`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestRoutes compares the paths of LXD's dialect.
func TestRoutes(t *testing.T) {
	r := newRig(t, rival.NetHTTP)
	const forbidden = `403 "Forbidden\n"`
	for _, test := range []struct{ path, want string }{
		{"/", `200 "[\"/1.0\"]\n"`},
		{"/nothing/here", `200 "[\"/1.0\"]\n"`},
		{"/1.0/config/user.load", `200 "value of c1"`},
		{"/1.0/config/cloud-init.user-data", `200 "#cloud-config\n"`},
		{"/1.0/config/limits.cpu", forbidden},
		{"/1.0/config/user.none", `404 "Not Found\n"`},
		{"/1.0/meta-data", `200 "instance-id: c1\nlocal-hostname: c1\n"`},
		{"/1.0/devices", `200 "{}\n"`},
		{"/1.0/images/0/export", `404 "{\"type\":\"error\",\"status\":\"\",\"status_code\":0,\"operation\":\"\",\"error_code\":404,\"error\":\"Not Found\",\"metadata\":null}\n"`},
	} {
		if got := ask(r.socket, test.path); got != test.want {
			t.Errorf("%s: got %s, want %s", test.path, got, test.want)
		}
	}
	for path, parts := range map[string][]string{
		"/1.0":        {`\"api_version\":\"1.0\",\"instance_type\":\"container\"`, `\"supported_storage_drivers\":[]}\n"`},
		"/1.0/config": {`\"/1.0/config/user.load\"`, `\"/1.0/config/cloud-init.user-data\"`},
	} {
		got := ask(r.socket, path)
		for _, part := range parts {
			if !strings.HasPrefix(got, "200 ") || !strings.Contains(got, part) || strings.Contains(got, "limits") {
				t.Errorf("%s: got %s, want %s in it", path, got, part)
			}
		}
	}
	c := r.dial(t)
	c.send(strings.Replace(get("/1.0"), "GET", "DELETE", 1))
	if resp, body, err := c.response(); err != nil || resp.StatusCode != http.StatusNotImplemented {
		t.Errorf("DELETE: %v %q %v", resp, body, err)
	}
	if err := r.Set("c1", "security.devlxd", "false"); err != nil {
		t.Fatal(err)
	}
	if got := ask(r.socket, "/1.0"); got != forbidden {
		t.Errorf("switched off: got %s", got)
	}
}
