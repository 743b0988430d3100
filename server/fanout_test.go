package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The round of TestFanout: 200 subscribers in 20 containers get 250 events each, 50,000 in all.
const (
	fanoutContainers  = 20
	fanoutSubscribers = 10 // of each container
	fanoutEvents      = 250
	fanoutWriters     = 8
)

// TestFanout: events of many containers, changed by several writers at once, reach each subscriber: none lost, none twice, each
// writer's in order, and in the same order for all, and none of another container.
func TestFanout(t *testing.T) {
	r := newRig(t, Options{Loops: 2, RingEvents: 2 * fanoutEvents})
	var readers sync.WaitGroup
	sequences := make([][][]string, fanoutContainers)
	for i := range fanoutContainers {
		name := fmt.Sprintf("c%d", i)
		r.container(name, nil)
		sequences[i] = make([][]string, fanoutSubscribers)
		for j := range fanoutSubscribers {
			c, _ := r.subscribe(name, "")
			readers.Go(func() { sequences[i][j] = readSequence(t, name, c) })
		}
	}
	var writers sync.WaitGroup
	for w := range fanoutWriters {
		writers.Go(func() {
			for n := w; n < fanoutEvents; n += fanoutWriters {
				for i := range fanoutContainers {
					// Writers share containers, and each has a key of its own.
					name := fmt.Sprintf("c%d", (i+w)%fanoutContainers)
					r.set(name, fmt.Sprintf("user.w%d", w), fmt.Sprintf("%s %d", name, n))
				}
			}
		})
	}
	writers.Wait()
	readers.Wait()
	for i, ofContainer := range sequences {
		for j, sequence := range ofContainer {
			if got, want := strings.Join(sequence, ","), strings.Join(ofContainer[0], ","); got != want {
				t.Errorf("subscriber %d of c%d saw another order than the first one", j, i)
			}
		}
	}
	if got, want := r.srv.Totals().Delivered, uint64(fanoutContainers*fanoutSubscribers*fanoutEvents); got != want {
		t.Errorf("%d deliveries were counted; want %d", got, want)
	}
	if n := r.totalLost(); n != 0 {
		t.Errorf("%d subscribers were too slow", n)
	}
}

// readSequence reads all events of a container and returns "writer number" for each.
func readSequence(t *testing.T, name string, c *client) (sequence []string) {
	last := make(map[string]int)
	for n := range fanoutEvents {
		payload, err := readText(c.r)
		if err != nil {
			t.Errorf("%s after %d events: %v", name, n, err)
			return sequence
		}
		var event struct {
			Metadata struct{ Key, Value string }
		}
		if err := json.Unmarshal(payload, &event); err != nil {
			t.Errorf("%s: %v in %q", name, err, payload)
			return sequence
		}
		owner, number, _ := strings.Cut(event.Metadata.Value, " ")
		at, err := strconv.Atoi(number)
		if err != nil || owner != name {
			t.Errorf("%s got the event %q", name, payload)
			return sequence
		}
		key := event.Metadata.Key
		if before, ok := last[key]; ok && at != before+fanoutWriters {
			t.Errorf("%s: %s = %d follows %d", name, key, at, before)
		}
		last[key] = at
		sequence = append(sequence, key+" "+number)
	}
	return sequence
}

// readText reads one short text frame, over pings.
func readText(r *bufio.Reader) ([]byte, error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, err
		}
		length := int(head[1])
		if length == 126 {
			var extended [2]byte
			if _, err := io.ReadFull(r, extended[:]); err != nil {
				return nil, err
			}
			length = int(extended[0])<<8 | int(extended[1])
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(r, payload); err != nil {
			return nil, err
		}
		if head[0] == 0x81 {
			return payload, nil
		}
		if head[0] != 0x89 {
			return nil, fmt.Errorf("frame %x %q", head, payload)
		}
	}
}

// TestManySubscribersOfOneContainer: more than one slice of a fan-out pass, with subscribers that come and go meanwhile.
func TestManySubscribersOfOneContainer(t *testing.T) {
	const subscribers, events = 3*fanoutSlice + 7, 20
	r := newRig(t, Options{Loops: 1})
	r.container("c1", nil)
	var readers sync.WaitGroup
	for i := range subscribers {
		c, _ := r.subscribe("c1", "?type=config")
		readers.Go(func() {
			for n := range events {
				payload, err := readText(c.r)
				if want := fmt.Sprintf(`"value":"%d"`, n); err != nil || !strings.Contains(string(payload), want) {
					t.Errorf("subscriber %d: event %q, %v; want %s", i, payload, err, want)
					return
				}
				if i%3 == 0 && n == events/2 {
					_ = c.Close() // in the middle of a pass
					return
				}
			}
		})
	}
	for n := range events {
		r.set("c1", "user.n", strconv.Itoa(n))
	}
	readers.Wait()
	eventually(t, "those who left are gone", func() bool { return r.srv.Subscribers() == subscribers-(subscribers+2)/3 })
}
