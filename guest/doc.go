// Package guest is a client of the guest API that LXD, Incus and devlxd give to
// containers on /dev/lxd/sock: configuration, cloud-init data, devices, images,
// and events as they happen.
//
//	c := guest.New("")
//	defer c.Close()
//	role, err := c.Get(ctx, "user.role")
//
// # Following changes
//
// [Client.Events] is a sequence that goes on over lost connections, restarts and
// upgrades of the server. Its first element is an [EventSync]: the subscription
// stands, so what is read now, and the events that follow, leave no gap. With
// devlxd each event has a position, and the sequence goes on right behind the
// last one: nothing is lost or comes twice. Where that cannot be promised (the
// server keeps no position, was restarted, or kept fewer events than the client
// has missed) there is another EventSync, upon which the configuration has to be
// read again. LXD and Incus have no positions, so each new connection to them
// begins with one.
//
//	for event, err := range c.Events(ctx, guest.EventsOptions{}) {
//		if err != nil {
//			return err // the last element
//		}
//		switch event.Type {
//		case guest.EventSync:
//			// read the configuration
//		case guest.EventConfig:
//			// event.Config.Key has changed
//		}
//	}
//
// [Client.WaitKey] and [Client.WaitChange] do this for one key.
//
// # Errors
//
// An answer that is an error is an [*Error], which errors.Is knows as
// [ErrNotFound], [ErrForbidden], [ErrUnauthorized] or [ErrGone]. [ErrUnavailable]
// is what is worth another try: nobody listens on the socket, or the server does
// not know the container yet (500). Events, the Wait methods and a download that
// was begun try again by themselves, at growing intervals, until their context ends.
//
// # Limits
//
// No answer is read beyond 16 MiB, [ErrTooLarge], but images, which go to the
// caller as they come. Proxies of the environment are not used.
package guest
