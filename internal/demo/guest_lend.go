package demo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
)

// handoverFD is the socket to the other container: standard input of both roles.
const handoverFD = 0

// lendRole connects to the server and gives the connection to the process at the other
// end of standard input, once that is ready for it. It stays until the other end is
// closed: a peer that has exited before the server looks has no pid namespace any more,
// and nothing else tells who it was where containers have no cgroup.
func lendRole([]string) error {
	var ready [1]byte
	if _, err := unix.Read(handoverFD, ready[:]); err != nil {
		return os.NewSyscallError("read", err)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: guestSocket, Net: "unix"})
	if err != nil {
		return err
	}
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Sendmsg(handoverFD, []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	_, err = unix.Read(handoverFD, ready[:])
	return os.NewSyscallError("read", err)
}

// borrowRole takes a connection from the process at the other end of standard input, and
// asks on it: borrow PATH. It prints a report.
func borrowRole(args []string) error {
	if _, err := unix.Write(handoverFD, []byte{0}); err != nil {
		return os.NewSyscallError("write", err)
	}
	conn, err := receiveConn()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: lxd\r\nConnection: close\r\n\r\n", args[0]); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	a, err := readAnswer(resp)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report{Self: lookAtSelf(), Answers: []answer{a}})
}

func receiveConn() (net.Conn, error) {
	var data [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(handoverFD, data[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("no connection was handed over")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "borrowed")
	defer f.Close()
	return net.FileConn(f)
}
