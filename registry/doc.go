// Package registry holds what the guest API answers from: containers with their config and devices, the identity of those that run,
// images, and for each running container a ring of events. It does no I/O and starts no goroutine.
//
// # Readers and writers
//
// Readers are the event loops: they look up an identity once per connection, load a [Snapshot] once per request and read rings. They
// never wait for a writer: lookups are concurrent hash maps, a snapshot is an immutable value behind an atomic pointer, and a ring is a row of
// atomic pointers. Writers are the sources of containers and the watcher of their processes. They may call from any goroutine and take turns on one mutex,
// which rendering a large value keeps from other writers but from no reader.
//
// A change is visible before it is announced. Whoever got an event finds a snapshot at least as new as the event; whoever subscribes
// first and reads the snapshot then misses nothing, and may get an event for what it has read already. An [Observer] is called
// after the binding is dead, or after the new snapshot is in place.
//
// # Lives of a container
//
// A [Container] is registered by Put and forgotten by Remove. Between Bind and Stop it runs, and that one life is a [Binding] with
// its own identity, ring, Ready state and generation; a restart is another Binding under the same name. After Stop a binding is dead for good and no lookup
// leads to it. A reader that looked it up just before finds Dead true; so Dead is to be asked last, and again for each request on a connection that lives on.
//
// An identity belongs to one running container. A cgroup id wins over everything; a pid namespace leads to a container only when it has no cgroup of
// its own, and then no other running container may be in that namespace. Cgroups below a container's own are cached with CacheLeaf, 64 for each
// binding, so that a guest that makes cgroups without end only forgets its own. A cached leaf never outlives its binding, not even when
// it is cached while the binding stops.
//
// # Events: what is promised
//
// Put compares the new state with the old one. For a running container that has a ring it appends, in this order: one event for each user.*
// key whose value changed, sorted; then devices removed, added and updated, each sorted by name. Keys outside user.* are never
// announced, not even those that a guest can read: LXD does so. A device whose type changed is removed and added. All events of
// one Put carry the same time. A Put that changes nothing publishes nothing.
//
// While the guest API is closed to a container ([Snapshot.Allowed]) no ring of it exists. The Put that closes it publishes nothing and
// revokes the ring; what is put until it is open again, the Put that opens it included, is announced nowhere, since an event tells both the
// old value and the new one. Whoever reads a revoked ring gets [ErrRevoked], also when access is back by then.
//
// Order: a ring has one true sequence of events, numbered 1, 2, 3 and so on. Every reader sees events in this sequence, whatever types
// it asks for. There is no order between the rings of different containers.
//
// Exactly once or told: a [Cursor] gets every event of its types published after it was made, each exactly once, or Next returns
// [ErrOverrun] or [ErrRevoked], from then on always. Nothing is skipped in silence. An event that left the ring unread counts as lost only if the
// cursor asked for its type: a flood of config events does not cost a subscriber to devices its place.
//
// Who is at fault when slow: the reader, always. Publishing never waits, never fails, and costs the same for one cursor as for ten thousand: a ring
// does not know its cursors. A reader that cannot keep up is overrun and has to be told, and its neighbours notice nothing.
//
// Waking: a reader that found nothing is woken by its [Watch], of which a loop needs one per ring. The protocol is to call Rearm, then to drain
// every cursor until Next returns nil, then to look at Dead, and only then to wait. An event appended before the drain is found by
// it; one appended after Rearm notifies. A watch is notified at most once until Rearm, however much is published, and once for all events of a Put.
// Stop notifies too; what the ring holds then can still be drained, and nothing follows it. So does the Put that closes the guest API, after
// [Observer] Revoked was called.
//
// # Positions and epochs
//
// A [Position] is an epoch and the offset of the last event seen. The epoch is random for each ring, so a position is good for the
// ring that gave it and no other: not for another container, not after a restart of this one, not after access to the guest API was closed
// and opened again, not after the server has lost its memory.
// [Ring.Resume] continues right after a position, or returns [ErrGone] if it cannot promise exactly once: another epoch, an offset that was
// never reached, or an event asked for that has left the ring. Then the guest must read its config again. ExportRing and RestoreRing carry epoch,
// offsets and events over to a successor process, so that a hand-over ends no epoch.
//
// # Memory
//
// A value is kept once, inside the response rendered from it, and shared by all snapshots in which it did not change. A registered
// container costs less than 1.5 KB beside the bytes of its config; a test holds that for 100,000 of them.
//
// A ring is made when the first subscriber asks for it and lives as long as the binding, or until access is closed. Before that nothing is encoded or kept, since
// nobody can hold a position. It starts with 16 slots and doubles up to RingEvents. An event is encoded once, as the finished frame that all
// subscribers share, and a second time only if somebody asks for positions. The ring drops its oldest events beyond RingEvents or RingBytes;
// each is charged for both variants, so RingBytes bounds what is held, except that the newest event always stays. A cursor is two words of its owner.
//
// # Who may call what
//
//   - from anywhere, without ever locking: Container, Containers, Len, Stats, Image, Images, LookupCgroup, LookupPidNS, and every method of
//     Container, Snapshot, Event and Cursor; of Ring all but Watch; of Binding all, where the first call of Ring takes a lock of that binding;
//   - from anywhere, with a short lock that no writer of another container holds: CacheLeaf, Watch and Watch.Close;
//   - writers, one at a time: Put, Remove, Bind, Stop, ExportRing, RestoreRing. They must not be called from RenderValue, Derive or
//     FrameEvent, but may be from an Observer, from Release and from the callback of a Watch;
//   - a Cursor belongs to one goroutine at a time.
package registry
