package rival

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// gnetServer is the GNet rival: an engine with one loop, which is what devlxd takes on two cores; a second one competes with the
// clients for the cores and makes every loop slower.
type gnetServer struct {
	gnet.BuiltinEventEngine
	fixed
	socket string
	engine gnet.Engine
	booted chan error
	done   chan struct{}
	fail   chan error
	out    []byte // answers of one read; owned by the loop

	mu   sync.Mutex
	subs map[string]map[gnet.Conn]struct{} // by container, "" for those of none
}

// subscription is the context of an upgraded connection.
type subscription struct{ container string }

func startGNet(socket string) (server, error) {
	s := &gnetServer{socket: socket, booted: make(chan error, 1), done: make(chan struct{}), fail: make(chan error, 1)}
	s.init()
	s.subs = make(map[string]map[gnet.Conn]struct{})
	go func() {
		defer close(s.done)
		s.fail <- gnet.Run(s, "unix://"+socket, gnet.WithNumEventLoop(1), gnet.WithLogger(gnetLog{}))
	}()
	select {
	case err := <-s.booted:
		if err != nil {
			<-s.done
			return nil, err
		}
		return s, nil
	case err := <-s.fail:
		return nil, err
	}
}

// OnBoot implements gnet.EventHandler. The socket is listening already; the engine has no option for its mode.
func (s *gnetServer) OnBoot(engine gnet.Engine) gnet.Action {
	s.engine = engine
	err := os.Chmod(s.socket, socketMode)
	s.booted <- err
	if err != nil {
		return gnet.Shutdown
	}
	return gnet.None
}

// OnTraffic implements gnet.EventHandler: one write for all requests that were read.
func (s *gnetServer) OnTraffic(c gnet.Conn) gnet.Action {
	if c.Context() != nil {
		_, _ = c.Discard(-1)
		return gnet.None
	}
	in, err := c.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	answer := s.answer.Load().wire
	s.out = s.out[:0]
	used, upgraded := 0, false
	for !upgraded {
		end := bytes.Index(in[used:], headEnd)
		if end < 0 {
			break
		}
		head := in[used : used+end+len(headEnd)]
		used += len(head)
		if routeOf(head) == routeEvents {
			if accepted := switching(head); accepted != nil {
				s.out, upgraded = append(s.out, accepted...), true
				continue
			}
		}
		s.out = append(s.out, answer...)
	}
	if len(in)-used > maxHead {
		return gnet.Close
	}
	if upgraded {
		used = -1 // what came behind the handshake is the client's frames
	}
	if used != 0 {
		_, _ = c.Discard(used)
	}
	if upgraded {
		s.subscribe(c) // events are queued for the loop, so that the answer comes first
	}
	if len(s.out) > 0 {
		_, _ = c.Write(s.out) // the engine closes the connection when it fails
	}
	return gnet.None
}

func (s *gnetServer) subscribe(c gnet.Conn) {
	sub := &subscription{}
	if cred, err := unix.GetsockoptUcred(c.Fd(), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
		if known := s.book.withInit(int(cred.Pid)); known != nil {
			sub.container = known.Name
		}
	}
	c.SetContext(sub)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs[sub.container] == nil {
		s.subs[sub.container] = make(map[gnet.Conn]struct{})
	}
	s.subs[sub.container][c] = struct{}{}
}

// OnClose implements gnet.EventHandler.
func (s *gnetServer) OnClose(c gnet.Conn, _ error) gnet.Action {
	if sub, ok := c.Context().(*subscription); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs[sub.container], c)
	}
	return gnet.None
}

// set implements server. One frame is queued for each subscriber.
func (s *gnetServer) set(name, key, value string) error {
	old, err := s.book.change(name, key, value)
	if err != nil || !makesEvent(key, old, value) {
		return err
	}
	frame, err := eventFrame(key, old, value)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, container := range []string{name, ""} {
		for c := range s.subs[container] {
			_ = c.AsyncWrite(frame, nil) // fails when the connection has ended
		}
	}
	return nil
}

// ended implements server.
func (s *gnetServer) ended() <-chan error { return s.fail }

// close implements server. The engine looks twice a second whether it has stopped.
func (s *gnetServer) close() error {
	err := s.engine.Stop(context.Background())
	<-s.done
	return err
}

// gnetLog writes errors to standard error. The engine's own logger writes to standard output, which is for answers.
type gnetLog struct{}

// Debugf implements logging.Logger.
func (gnetLog) Debugf(string, ...any) {}

// Infof implements logging.Logger.
func (gnetLog) Infof(string, ...any) {}

// Warnf implements logging.Logger.
func (gnetLog) Warnf(string, ...any) {}

// Errorf implements logging.Logger.
func (gnetLog) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "gnet: "+format+"\n", args...)
}

// Fatalf implements logging.Logger.
func (l gnetLog) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	os.Exit(1)
}
