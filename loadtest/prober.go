package loadtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"devlxd/loadtest/guests"
	"devlxd/loadtest/target"
)

// prober has the containers of a crowd ask for their secrets and compare them, each from inside, while others change who they are for the
// server. A secret belongs to one life of one container.
type prober struct {
	*crowd
	remover target.Remover
	period  time.Duration // of each container from one connection to the next
	secrets []string
	serial  atomic.Uint32 // of what was settled, and of names

	mu    sync.Mutex
	freed []int // pids of containers that have stopped, to be given to others

	restarts, reused, renames, replacements, swaps, splits atomic.Uint64
}

// newProber takes a target that can forget containers.
func newProber(c *crowd, period time.Duration) (*prober, error) {
	remover, ok := c.target.(target.Remover)
	if !ok {
		return nil, fmt.Errorf("containers that change their names: %w", target.ErrUnsupported)
	}
	return &prober{crowd: c, remover: remover, period: period, secrets: make([]string, c.set.Len())}, nil
}

// start gives each container its first secret and has it ask. The server knows the containers.
func (p *prober) start(ctx context.Context) error {
	return p.each(func(i int) error {
		p.secrets[i] = newSecret()
		if err := p.target.Set(ctx, p.names[i], target.Key, p.secrets[i]); err != nil {
			return err
		}
		if err := p.probe(i); err != nil {
			return err
		}
		p.settle(i)
		return nil
	})
}

func newSecret() string {
	// 160 bits in base 32 are 32 characters.
	return rand.Text()[:16] + rand.Text()[:guests.SecretLen-16]
}

// probe has the container ask, whether the server knows it or not.
func (p *prober) probe(i int) error {
	return p.set.Launch(i, guests.Probe{Secret: p.secrets[i], Processes: 1, Period: p.period})
}

// settle says that the server knows the container from now on, and unsettle that it may not.
func (p *prober) settle(i int)   { p.set.Settle(i, p.serial.Add(1)) }
func (p *prober) unsettle(i int) { p.set.Settle(i, 0) }

// churn does something to containers in turn, with a pause between, until ctx is done. Worker w of n has containers of its own. What has
// begun is done to its end.
func (p *prober) churn(ctx context.Context, w, n int, pause time.Duration) error {
	var own []int
	for i := w; i < p.set.Len(); i += n {
		own = append(own, i)
	}
	for len(own) > 0 && ctx.Err() == nil {
		i, other := own[mrand.IntN(len(own))], own[mrand.IntN(len(own))]
		if err := p.act(context.WithoutCancel(ctx), i, other); err != nil {
			return err
		}
		if pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
	return nil
}

// act does one of what can happen to a container.
func (p *prober) act(ctx context.Context, i, other int) error {
	switch dice := mrand.IntN(100); {
	case dice < 40:
		return p.restart(ctx, i)
	case dice < 60:
		return p.replace(ctx, i)
	case dice < 80:
		return p.rename(ctx, i)
	case dice < 90 && i != other:
		return p.swap(ctx, i, other)
	default:
		return p.split(i)
	}
}

// stop ends a container, whose pid may be had by the next one that starts.
func (p *prober) stop(i int) error {
	p.unsettle(i)
	pid := p.set.PID(i)
	if err := p.set.Stop(i); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.freed = append(p.freed, pid)
	return nil
}

// begin starts a container that has stopped, with a new secret and a pid that another one had, and has it ask before the server knows it.
func (p *prober) begin(i int) (pid int, err error) {
	p.mu.Lock()
	want := 0
	if n := len(p.freed); n > 1 { // the last one is likely its own
		want = p.freed[n-2]
		p.freed = append(p.freed[:n-2], p.freed[n-1])
	}
	p.mu.Unlock()
	if pid, err = p.set.RestartAs(i, want); err != nil {
		return 0, err
	}
	if pid == want {
		p.reused.Add(1)
	}
	return pid, p.probe(i)
}

// restart is a new life under the same name.
func (p *prober) restart(ctx context.Context, i int) error {
	if err := p.stop(i); err != nil {
		return err
	}
	p.secrets[i] = newSecret()
	if err := p.target.Set(ctx, p.names[i], target.Key, p.secrets[i]); err != nil {
		return err
	}
	pid, err := p.begin(i)
	if err == nil {
		err = p.target.Bind(ctx, p.names[i], pid)
	}
	p.settle(i)
	p.restarts.Add(1)
	return err
}

// replace is a new life under another name.
func (p *prober) replace(ctx context.Context, i int) error {
	err := p.stop(i)
	if err == nil {
		err = p.remover.Remove(ctx, p.names[i])
	}
	if err != nil {
		return err
	}
	p.secrets[i] = newSecret()
	if _, err = p.begin(i); err != nil {
		return err
	}
	p.replacements.Add(1)
	return p.add(ctx, i, p.newName())
}

// rename gives a container that runs another name: the server is told that it is gone, and of it anew.
func (p *prober) rename(ctx context.Context, i int) error {
	p.unsettle(i)
	if err := p.remover.Remove(ctx, p.names[i]); err != nil {
		return err
	}
	p.renames.Add(1)
	return p.add(ctx, i, p.newName())
}

// swap gives two containers that run each other's names.
func (p *prober) swap(ctx context.Context, i, other int) error {
	a, b := p.names[i], p.names[other]
	p.unsettle(i)
	p.unsettle(other)
	if err := errors.Join(p.remover.Remove(ctx, a), p.remover.Remove(ctx, b)); err != nil {
		return err
	}
	p.swaps.Add(1)
	return errors.Join(p.add(ctx, i, b), p.add(ctx, other, a))
}

// split has what asks in a container do so from another cgroup below that of the container. Who is between two cgroups while the server
// looks may be refused.
func (p *prober) split(i int) error {
	p.unsettle(i)
	defer p.settle(i)
	p.splits.Add(1)
	return p.set.SplitCgroup(i)
}

func (p *prober) newName() string { return fmt.Sprintf("probe-%d", p.serial.Add(1)) }

// add makes a container that runs known.
func (p *prober) add(ctx context.Context, i int, name string) error {
	p.names[i] = name
	err := p.target.Register(ctx, []target.Container{
		{Name: name, PID: p.set.PID(i), Config: map[string]string{target.Key: p.secrets[i]}},
	}, func(int) {})
	p.settle(i)
	return err
}

// judge counts what the containers have seen that must not be.
func (p *prober) judge(seen guests.Counts) {
	wrong := ""
	for i := range p.set.Len() {
		if wrong = p.set.Wrong(i); wrong != "" {
			break
		}
	}
	p.rec.failMany(failForeign, seen.Wrong, wrong)
	p.rec.failMany(failRefused, seen.Denied, wrong)
	p.rec.failMany(failStatus, seen.Broken, wrong)
	p.rec.failMany(failClosed, seen.Dropped, "a connection of a container that the server knows")
	p.rec.failMany(failUnanswered, seen.Unanswered, "a container waited for 10 s")
	p.rec.failMany(failConnect, seen.NoConnect, "a container")
}

// values adds what has happened.
func (p *prober) values(seen guests.Counts) {
	for _, v := range []struct {
		name string
		n    uint64
	}{
		{"containers restarted", p.restarts.Load()}, {"containers replaced by one of another name", p.replacements.Load()},
		{"of these, with the pid that another one had", p.reused.Load()}, {"containers renamed while they ran", p.renames.Load()},
		{"pairs of containers that took each other's names", p.swaps.Load()}, {"cgroups in containers made anew", p.splits.Load()},
		{"answers with the right secret", seen.Right + seen.ExitedRight}, {"of these, to processes that had exited", seen.ExitedRight},
		{"refused before the server knew the container", seen.Refused}, {"closed before the server knew the container", seen.Cut},
		{"processes that had exited, refused", seen.ExitedRefused},
	} {
		p.value(v.name, "", float64(v.n))
	}
}
