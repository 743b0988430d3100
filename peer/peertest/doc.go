// Package peertest starts real processes in real cgroups and namespaces, for tests
// of who is on the other end of a Unix socket.
//
// The processes are the test binary itself: TestMain must call [Main] (or [Child], where
// it has an own way to run the tests), which takes the child's role when the binary
// was started as one.
//
//	func TestMain(m *testing.M) { peertest.Main(m) }
//
//	func TestPeer(t *testing.T) {
//		peertest.Need(t, peertest.Root, peertest.Cgroup2)
//		l := peertest.Listen(t)
//		p := peertest.Start(t, peertest.Spec{Cgroup: peertest.NewCgroup(t), PidNS: true, RootUID: 100000})
//		conn := p.Connect(l.Path)
//		fd := l.Accept()
//		...
//	}
//
// A child does what it is told over a socket, one order at a time, and ends when that
// socket is closed; so nothing is left over when a test fails or is killed. Cgroups
// are called devlxd-test-PID-N and are removed when the test ends, with whatever is in
// them; those of test processes that were killed are removed by the next one.
//
// Methods of Proc, Conn and Listener fail the test on error. A Proc may be used by
// one goroutine at a time; different ones are independent.
package peertest
