package loadtest

import (
	"context"
	"errors"
	"fmt"

	"devlxd/loadtest/guests"
	"devlxd/loadtest/target"
)

// crowd is containers that work by themselves, beside those of the fleet: their processes are others, so that the scheduler can treat them
// in another way.
type crowd struct {
	*run
	set   *guests.Set
	names []string
}

// newCrowd starts containers and registers them; config is what each is registered with.
func (r *run) newCrowd(kind string, n int, config func(i int) map[string]string) (c *crowd, err error) {
	set, err := guests.Start(r.ctx, guests.Options{Count: n})
	if err != nil {
		return nil, err
	}
	c = &crowd{run: r, set: set}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if err := set.SetSocket(r.target.Socket()); err != nil {
		return nil, err
	}
	// Other names each time: a server that cannot forget a container may know those of the last run.
	r.fleet.crowds++
	containers := make([]target.Container, n)
	for i := range containers {
		name := fmt.Sprintf("%s-%d-%05d", kind, r.fleet.crowds, i)
		c.names = append(c.names, name)
		containers[i] = target.Container{Name: name, PID: set.Init(i), Config: config(i)}
	}
	return c, r.target.Register(r.ctx, containers, func(int) {})
}

// each has every container do something.
func (c *crowd) each(do func(i int) error) error {
	for i := range c.set.Len() {
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}

// attack has all containers flood the server, with the CPU time that nobody else wants.
func (c *crowd) attack(f guests.Flood) error {
	if err := c.set.Yield(true); err != nil {
		return err
	}
	return c.each(func(i int) error { return c.set.Launch(i, f) })
}

// halt ends what the containers do.
func (c *crowd) halt() error {
	all := make([]int, c.set.Len())
	for i := range all {
		all[i] = i
	}
	return errors.Join(c.set.Yield(false), c.set.Halt(all...))
}

// close ends the containers, and has the server forget them where it can.
func (c *crowd) close() error {
	err := c.set.Close()
	remover, ok := c.target.(target.Remover)
	if !ok {
		return err
	}
	ctx := context.WithoutCancel(c.ctx)
	for _, name := range c.names {
		if removed := remover.Remove(ctx, name); removed != nil {
			return errors.Join(err, removed) // the next ones would say the same
		}
	}
	return err
}
