package registry_test

import (
	"fmt"
	"time"

	"devlxd/registry"
)

// A reader subscribes, a writer changes a key, and the reader drains its cursor.
func Example() {
	r := registry.New(registry.Options{Now: func() time.Time { return time.Unix(0, 0).UTC() }})
	r.Put(registry.Spec{Name: "c1", Config: map[string]string{"user.colour": "red"}})
	b, err := r.Bind("c1", registry.Identity{InitPID: 4711, CgroupID: 272, RootUID: 100000})
	if err != nil {
		fmt.Println(err)
		return
	}

	ring := b.Ring()
	cursor := ring.Subscribe(registry.ParseTypes([]byte("config")))
	woken := make(chan struct{}, 1)
	watch := ring.Watch(func() { woken <- struct{}{} })
	defer watch.Close()

	r.Put(registry.Spec{Name: "c1", Config: map[string]string{"user.colour": "blue"}})

	<-woken
	watch.Rearm()
	for {
		event, err := ring.Next(&cursor)
		if event == nil || err != nil {
			break
		}
		fmt.Printf("%d: %s", event.Offset(), event.Payload(false))
	}
	peer, ok := r.LookupCgroup(272)
	fmt.Println(peer.Container().Name(), ok)
	// Output:
	// 1: {"type":"config","timestamp":"1970-01-01T00:00:00Z","metadata":{"key":"user.colour","old_value":"red","value":"blue"}}
	// c1 true
}
