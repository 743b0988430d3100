package lxdtest

import (
	"fmt"
	"testing"
)

const (
	// clusterPort is where members talk to each other, on addresses of the loopback device of the tests' network namespace.
	clusterPort = 8443
	// clusterPassword is what a daemon must know that joins. It guards nothing: nobody else is in that namespace.
	clusterPassword = "tests"
)

// Cluster starts daemons that are the members "m1", "m2" and so on of one cluster of LXD. One at a time fits into the namespace of the tests.
func Cluster(t testing.TB, members int) []*Daemon {
	t.Helper()
	first := Start(t, LXD)
	first.Do("PATCH", "/1.0", map[string]any{"config": map[string]string{
		"core.https_address": clusterAddress(1), "cluster.https_address": clusterAddress(1), "core.trust_password": clusterPassword,
	}}, nil)
	first.Do("PUT", "/1.0/cluster", map[string]any{"server_name": MemberName(1), "enabled": true}, nil)
	list := []*Daemon{first}
	for n := 2; n <= members; n++ {
		list = append(list, first.join(n))
	}
	return list
}

// MemberName is what the member n of a cluster, the first is 1, is called.
func MemberName(n int) string { return fmt.Sprint("m", n) }

func clusterAddress(n int) string { return fmt.Sprintf("127.0.0.%d:%d", n, clusterPort) }

// join starts one more member. Profiles and images it gets from the cluster.
func (d *Daemon) join(n int) *Daemon {
	d.T.Helper()
	var server struct {
		Environment struct{ Certificate string }
	}
	d.Do("GET", "/1.0", nil, &server)
	member := launch(d.T, LXD)
	member.Image, member.ImageSize, member.prefix = d.Image, d.ImageSize, d.prefix
	member.Do("PUT", "/1.0/cluster", map[string]any{
		"server_name": MemberName(n), "enabled": true, "server_address": clusterAddress(n), "cluster_address": clusterAddress(1),
		"cluster_certificate": server.Environment.Certificate, "cluster_password": clusterPassword,
		"member_config": []map[string]string{{"entity": "storage-pool", "name": "default", "key": "source", "value": ""}},
	}, nil)
	return member
}
