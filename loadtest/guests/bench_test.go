package guests

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkStart is the cost of one guest, of 500 at once: to start, with the share of its helper, and to end.
func BenchmarkStart(b *testing.B) {
	const count = 500
	for b.Loop() {
		s, err := Start(b.Context(), Options{Count: count})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/guest")
}

// BenchmarkRestart is the cost of one container that stops and starts again.
func BenchmarkRestart(b *testing.B) {
	s := startSet(b, Options{Count: 100})
	i := 0
	for b.Loop() {
		if _, err := s.Restart(i % s.Len()); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkConnect is the cost of one connection: asked for, made by a guest, received, accepted and closed at both ends. n is how
// many are asked for at once.
func BenchmarkConnect(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			s := startSet(b, Options{Count: 1, NoCgroup: true})
			v := newServer(b, 128)
			if err := s.SetSocket(v.path); err != nil {
				b.Fatal(err)
			}
			poll := []unix.PollFd{{Fd: int32(s.FD()), Events: unix.POLLIN}}
			left := 0
			f := func(c Conn) { left--; unix.Close(c.FD) }
			for b.Loop() {
				left = n
				if err := s.Connect(0, n); err != nil {
					b.Fatal(err)
				}
				for left > 0 {
					_, _ = unix.Poll(poll, -1)
					if err := s.Receive(f); err != nil {
						b.Fatal(err)
					}
				}
				v.discard()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/conn")
		})
	}
}

// BenchmarkHost is a dense host: how long 4200 guests take to be set up and to be gone, and the memory of each.
func BenchmarkHost(b *testing.B) {
	const count = 4200
	var up, down time.Duration
	var rss, host float64
	for b.Loop() {
		before := meminfo(b)
		began := time.Now()
		s, err := Start(b.Context(), Options{Count: count})
		if err != nil {
			b.Fatal(err)
		}
		up += time.Since(began)
		host += (before - meminfo(b)) / count
		for i := range count {
			rss += anonOf(b, s.PID(i)) / count
		}
		began = time.Now()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		down += time.Since(began)
	}
	n := float64(b.N)
	b.ReportMetric(up.Seconds()/n, "up-s")
	b.ReportMetric(down.Seconds()/n, "down-s")
	b.ReportMetric(rss/n, "anon-B/guest")
	b.ReportMetric(host/n, "host-B/guest")
}

// meminfo returns MemAvailable in bytes.
func meminfo(b *testing.B) float64 { return kilobytes(b, "/proc/meminfo", "MemAvailable:") }

// anonOf returns the memory that a process has for itself. VmRSS counts the page cache of the shared slots as well.
func anonOf(b *testing.B, pid int) float64 {
	return kilobytes(b, fmt.Sprintf("/proc/%d/status", pid), "RssAnon:")
}

func kilobytes(b *testing.B, file, key string) float64 {
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			n, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return n * 1024
		}
	}
	b.Fatalf("%s has no %s", file, key)
	return 0
}
