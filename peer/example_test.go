package peer_test

import (
	"fmt"
	"log"

	"devlxd/peer"
)

// container is the smallest Binding.
type container struct {
	name string
	init *peer.Init
}

func (c *container) CgroupID() uint64         { return c.init.CgroupID }
func (c *container) PidNS() (dev, ino uint64) { return c.init.PidNS.Dev, c.init.PidNS.Ino }
func (c *container) RootUID() uint32          { return c.init.RootUID }
func (c *container) Privileged() bool         { return c.init.Privileged }
func (c *container) Dead() bool               { return c.init.Exited() }

// one is a Directory of a single container.
type one struct{ *container }

func (o one) LookupCgroup(id uint64) (*container, bool) {
	return o.container, id == o.CgroupID() && id != 0
}

func (o one) LookupPidNS(dev, ino uint64) (*container, bool) {
	return o.container, o.CgroupID() == 0 && o.init.PidNS == peer.NS{Dev: dev, Ino: ino}
}

func (o one) CacheLeaf(uint64, *container) {}

// A server registers a container by its init process and identifies each connection
// that it accepts.
func ExampleIdentify() {
	host, err := peer.Probe(peer.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	serve := func(initPID int, accepted int) {
		init, err := host.OpenInit(initPID, peer.InitOptions{})
		if err != nil {
			log.Fatal(err)
		}
		defer init.Close()
		dir := one{&container{name: "c1", init: init}}
		c, p, reject := peer.Identify(host, dir, accepted)
		if reject != peer.RejectNone {
			fmt.Println("refused:", reject)
			return
		}
		fmt.Println(c.name, "by process", p.PID)
	}
	_ = serve
}
