package rival

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// server is a rival that listens. The methods are called by one goroutine, one at a time.
type server interface {
	register(containers []Container) error
	unregister(name string) error
	set(container, key, value string) error
	image(path string) (fingerprint string, err error)
	// ended is readable when the server has ended by itself.
	ended() <-chan error
	// close ends the server and all its connections.
	close() error
}

// Main is a rival in a process of its own: it is controlled by standard input and output and returns at the end of the input. It
// becomes the C program when the rival is LimitC, so that the process is the server and nothing else; ctx does not end that.
func Main(ctx context.Context, kind Kind, socket string) error {
	if kind == LimitC {
		return execLimit(socket)
	}
	return Serve(ctx, kind, socket, os.Stdin, os.Stdout)
}

// Serve listens on socket, with mode 0666, until control ends or ctx is done, both of which are no error. The path must be free;
// removing the socket afterwards is the caller's, though some rivals have done it already. When ctx ends it, a goroutine may stay
// behind in a read of control until that returns.
func Serve(ctx context.Context, kind Kind, socket string, control io.Reader, ack io.Writer) error {
	if kind == LimitC {
		return serveLimitC(ctx, socket, control, ack)
	}
	srv, err := start(kind, socket)
	if err != nil {
		return err
	}
	return errors.Join(obey(ctx, srv, control, ack), srv.close())
}

func start(kind Kind, socket string) (server, error) {
	switch kind {
	case NetHTTP:
		return startNetHTTP(socket)
	case Plain:
		return startPlain(socket)
	case FastHTTP:
		return startFastHTTP(socket)
	case GNet:
		return startGNet(socket)
	case Limit:
		return startLimit(socket)
	}
	return nil, ErrKind
}

// obey carries out commands until there are no more.
func obey(ctx context.Context, srv server, control io.Reader, ack io.Writer) error {
	commands := make(chan command)
	input := make(chan error, 1)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		dec := json.NewDecoder(control)
		for {
			var cmd command
			if err := dec.Decode(&cmd); err != nil {
				input <- err
				return
			}
			select {
			case commands <- cmd:
			case <-stop:
				return
			}
		}
	}()
	answers := json.NewEncoder(ack)
	for {
		select {
		case cmd := <-commands:
			if err := answers.Encode(carryOut(srv, &cmd)); err != nil {
				return fmt.Errorf("cannot answer a control command: %w", err)
			}
		case err := <-input:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("%w: %w", ErrControl, err)
		case err := <-srv.ended():
			return errors.Join(errEnded, err)
		case <-ctx.Done():
			return nil
		}
	}
}

func carryOut(srv server, cmd *command) (r reply) {
	var err error
	switch cmd.Op {
	case opRegister:
		err = srv.register(cmd.Containers)
	case opUnregister:
		err = srv.unregister(cmd.Container)
	case opSet:
		err = srv.set(cmd.Container, cmd.Key, cmd.Value)
	case opImage:
		r.Fingerprint, err = srv.image(cmd.Path)
	default:
		err = errOp
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// socketMode lets every guest connect.
const socketMode = 0o666

// listen makes the socket of the rivals that use package net.
func listen(socket string) (net.Listener, error) {
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, socketMode); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// retryable reports whether a system call is to be made again at once.
func retryable(err syscall.Errno) bool { return err == syscall.EINTR || err == syscall.ECONNABORTED }
