package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"

	"golang.org/x/sys/unix"
)

func main() {
	var err error
	switch {
	case os.Getpid() == 1:
		err = initMain()
	case len(os.Args) >= 3 && os.Args[1] == "serve":
		err = serve(os.Args[2], os.Args[3:])
	default:
		err = fmt.Errorf("usage: agent serve PATH [UID]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

// sigHalt is what liblxc sends instead of SIGPWR to an init whose main thread blocks it, which it takes for systemd (SIGRTMIN+3 of systemd(1)).
// os/signal has one thread, which may be that, block what it is not asked for.
const sigHalt = unix.Signal(34 + 3)

// initMain runs until it is told to stop.
func initMain() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGPWR, unix.SIGTERM, unix.SIGINT, sigHalt)
	child := make(chan os.Signal, 1)
	signal.Notify(child, unix.SIGCHLD)
	os.Setenv("PATH", "/bin:/sbin")
	cmd := exec.Command("/sbin/init", "serve", "/run/agent.sock")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		select {
		case <-stop:
			return nil
		case <-child:
			for pid := 1; pid > 0; {
				pid, _ = unix.Wait4(-1, nil, unix.WNOHANG, nil)
			}
		}
	}
}

// serve connects for its clients until it is killed.
func serve(path string, args []string) error {
	_ = os.Remove(path) // of an earlier life of the container
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return err
	}
	if len(args) > 0 {
		uid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		if err := unix.Setgid(uid); err != nil {
			return err
		}
		if err := unix.Setuid(uid); err != nil {
			return err
		}
	}
	for {
		client, err := ln.AcceptUnix()
		if err != nil {
			return err
		}
		go connect(client)
	}
}

// connect serves one client.
func connect(client *net.UnixConn) {
	defer client.Close()
	buf := make([]byte, 256)
	n, err := client.Read(buf)
	if err != nil {
		return
	}
	if string(buf[:n]) == "exit" {
		os.Exit(0)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: string(buf[:n]), Net: "unix"})
	if err != nil {
		_, _ = client.Write([]byte(err.Error())) // a client that is gone needs no answer
		return
	}
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		_, _ = client.Write([]byte(err.Error()))
		return
	}
	defer f.Close()
	_, _, _ = client.WriteMsgUnix([]byte("ok"), unix.UnixRights(int(f.Fd())), nil)
}
