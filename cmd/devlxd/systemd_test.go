package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/peer"
	"devlxd/server"
)

// notifySocket stands for systemd's: it is where NOTIFY_SOCKET points to.
func notifySocket(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

// told is the next notification; "" if none comes in time.
func told(t *testing.T, conn *net.UnixConn, within time.Duration) (state string, fds []int) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(within))
	b, oob := make([]byte, 4096), make([]byte, 256)
	n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		return "", nil
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		some, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, some...)
	}
	return string(b[:n]), fds
}

func startedServer(t *testing.T) *server.Server {
	t.Helper()
	host, err := peer.Probe(peer.Options{})
	if err != nil {
		t.Skipf("needs a kernel that can identify peers: %v", err)
	}
	s, err := server.New(server.Options{Host: host, Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		_ = s.Shutdown(context.Background())
		_ = host.Close()
	})
	return s
}

// listen makes the guest socket in a directory of its own.
func listen(t *testing.T, s *server.Server) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dx-") // short: the path of a socket has to fit into 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "guest", "sock")
	if err := s.Listen(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestStoreSocket: systemd gets a descriptor of the guest socket by its name, on which clients are accepted.
func TestStoreSocket(t *testing.T) {
	conn, s := notifySocket(t), startedServer(t)
	path := listen(t, s)
	f, err := s.ListenerFile()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := storeSocket(f); err != nil {
		t.Fatal(err)
	}
	if state, _ := told(t, conn, 20*time.Second); state != "FDSTOREREMOVE=1\nFDNAME=stored-guest" {
		t.Errorf("first systemd was told %q", state)
	}
	state, fds := told(t, conn, 20*time.Second)
	if state != "FDSTORE=1\nFDNAME=stored-guest" || len(fds) != 1 {
		t.Fatalf("systemd was told %q with %d descriptors", state, len(fds))
	}
	s.KeepSocket()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored := os.NewFile(uintptr(fds[0]), "stored")
	defer stored.Close()
	guest, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("a guest that connects without a daemon: %v", err)
	}
	guest.Close()
	there, err := server.IsSocketAt(stored, path)
	if err != nil {
		t.Skipf("needs CAP_NET_ADMIN: %v", err)
	}
	if !there {
		t.Error("the stored socket is not recognised")
	}
	if err := os.Rename(path, path+"x"); err != nil {
		t.Fatal(err)
	}
	if there, err := server.IsSocketAt(stored, path); there || err != nil {
		t.Errorf("with another file: %v, %v", there, err)
	}
}

func TestStates(t *testing.T) {
	if got := stateSuccessor(42); got != "MAINPID=42\nREADY=1\nWATCHDOG=1" {
		t.Errorf("stateSuccessor = %q", got)
	}
	if got := stateReloading(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") || strings.HasSuffix(got, "=0") {
		t.Errorf("stateReloading = %q", got)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	notifySystemd(slog.New(slog.NewTextHandler(io.Discard, nil)), "READY=1") // nobody is there
	t.Setenv("FDSTORE", "2")
	if canStore() {
		t.Error("without systemd there is a store")
	}
	t.Setenv("NOTIFY_SOCKET", "/x")
	if !canStore() {
		t.Error("there is no store")
	}
}

func TestSuccessorEnv(t *testing.T) {
	got := successorEnv([]string{"A=1", "WATCHDOG_PID=2", "WATCHDOG_USEC=3", upgradeVariable + "=3", "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=x", "NOTIFY_SOCKET=y"})
	if want := "A=1 WATCHDOG_USEC=3 NOTIFY_SOCKET=y"; strings.Join(got, " ") != want {
		t.Errorf("successorEnv = %v; want %s", got, want)
	}
}
