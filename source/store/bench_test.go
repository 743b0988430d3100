package store

import (
	"fmt"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"devlxd/registry"
	"devlxd/source"
)

// fillStore writes n containers with 5 keys and a nic each in one transaction, as no user could, to measure the load.
func fillStore(t testing.TB, dir string, n int) {
	t.Helper()
	s, err := Open(dir, registry.New(registry.Options{MaxContainers: 1}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.commit("fill", func(tx *bbolt.Tx) error {
		for i := range n {
			rec := &containerRecord{
				name: fmt.Sprintf("c%06d", i), instanceID: newInstanceID(),
				config: map[string]string{
					"user.role": "web", "user.owner": "team-a", "user.rack": fmt.Sprint(i % 40), "security.devlxd.images": "true",
					"cloud-init.user-data": "#cloud-config\npackages: [nginx]\nruncmd: [[systemctl, start, nginx]]\n",
				},
				devices: map[string]map[string]string{"eth0": {"type": "nic", "network": "lxdbr0", "name": "eth0"}},
				bound:   &boundRecord{request: source.BindRequest{PID: i + 2}, facts: source.Facts{PID: i + 2, BootID: "b", CgroupID: uint64(i + 2)}},
			}
			if err := putContainer(rec.name, rec.encode())(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// BenchmarkOpen is the start of a daemon: verify the file, decode and publish every container.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{5_000, 100_000} {
		b.Run(fmt.Sprintf("containers=%d", n), func(b *testing.B) {
			dir := b.TempDir()
			fillStore(b, dir, n)
			b.ReportAllocs()
			for b.Loop() {
				reg := registry.New(registry.Options{})
				start := time.Now()
				s, err := Open(dir, reg, nil, nil)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(time.Since(start).Seconds(), "s/load")
				if reg.Len() != n {
					b.Fatalf("%d containers loaded; want %d", reg.Len(), n)
				}
				_ = s.Close()
			}
		})
	}
}

// BenchmarkUpdateConfig is one change of one key, with two syncs of the disk.
func BenchmarkUpdateConfig(b *testing.B) {
	for name, dir := range map[string]string{"disk": b.TempDir(), "memory": memDir(b)} {
		b.Run(name, func(b *testing.B) {
			fillStore(b, dir, 1000)
			s, err := Open(dir, registry.New(registry.Options{}), nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			i := 0
			for b.Loop() {
				i++
				if err := s.UpdateConfig("c000500", map[string]string{"user.role": fmt.Sprint(i)}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
