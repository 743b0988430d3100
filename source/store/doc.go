// Package store keeps containers and images in one directory, and publishes them to a registry.
//
//	DIR/state.db        containers and image records (bbolt), 0600
//	DIR/lock            held while a store is open
//	DIR/images/         one file per image, named by its fingerprint; FINGERPRINT.rootfs beside it for a split image
//
// # What is promised
//
// Durable. A method of [Store] that changes something returns nil after the change is on disk (fdatasync), and from then
// on survives the kill of the process and the loss of power. Changes are made one after another: checked, committed in
// one transaction, published. A change is there whole or not at all, after a crash as well.
//
// Unchanged on failure. When a commit fails, neither the file nor the registry changes, and the error wraps
// [source.ErrStorage]; once the disk takes writes again, so does the store. There is one exception: if the disk fails in
// the last step of a commit, so that nobody knows what it holds, the store refuses further changes until it is opened
// again, and says so.
//
// Never repaired by guess. Open reads the whole file before it trusts any of it. Damage is reported with the name of the
// file, and of the container where one record is concerned, as [source.ErrDamaged]; the file stays as it is, byte by
// byte, and the registry empty. The same holds for a file of a newer version ([source.ErrNewer]).
//
// Running containers stay bound. With each bind the facts of the init process are stored, and Open binds it again if it
// is still the same process by [source.Facts.SameProcess]. Any other outcome leaves the container stopped. The binder is
// given these facts, so that a container keeps the cgroup it was bound with while its init moves below it, and so that a
// privileged one counts for the identification of others although it may not be bound again.
//
// # Images
//
// An image is received into a temporary file, synced, renamed to its fingerprint and only then recorded. What an
// interrupted import or removal leaves behind is noted in the file beforehand, and removed by the next Open; a file that
// devlxd knows nothing of is never removed. A record whose file is missing or has another size is reported and not
// published: import the image again, or remove it.
package store
