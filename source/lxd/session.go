package lxd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"devlxd/fault"
	"devlxd/internal/lxdapi"
)

// session is one connection to the daemon: its announcements are opened first, then everything is read, then what was announced since.
type session struct {
	m      *Mirror
	client *client
	server server
	dirs   []string // that the daemon may have its data in
	queue  *queue
	synced bool // everything was read

	// steadfast is whether the daemon lets nobody set the state of a guest, found out when it was tried first. Owned by forward.
	steadfast bool
}

// run returns why the session has ended.
func (s *session) run(ctx context.Context) error {
	m := s.m
	socket, err := m.opts.Address.Find(m.opts.Getenv)
	if err != nil {
		return fmt.Errorf("%w: start the daemon, or name its socket with --source %s:SOCKET", err, m.opts.Address.Kind)
	}
	s.dirs = m.opts.Address.Dirs(socket, m.opts.Getenv)
	s.client = newClient(socket)
	defer s.client.close()
	ctx, cancel := context.WithCancelCause(ctx)
	feed, err := follow(ctx, socket, m.opts.Times.Silence)
	if err != nil {
		cancel(nil)
		return err
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer feed.close()
	defer cancel(nil)
	group.Go(func() { cancel(feed.run(s.announced)) })
	group.Go(func() { feed.ping(ctx) })
	select {
	case <-feed.begun:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := s.load(ctx, socket); err != nil {
		return err
	}
	for range workers {
		group.Go(func() { s.work(ctx) })
	}
	group.Go(func() { s.forward(ctx) })
	<-ctx.Done()
	return context.Cause(ctx)
}

// load reads everything.
func (s *session) load(ctx context.Context, socket string) (err error) {
	if s.server, err = s.client.server(ctx); err != nil {
		return err
	}
	if s.server.Environment.Clustered {
		s.m.setMember(s.server.Environment.Name)
	} else {
		s.m.setMember("")
	}
	all := task{kind: readInstances}
	s.queue.begin(all)
	if err := s.readInstances(ctx); err != nil {
		return err
	}
	s.queue.done(all, false)
	if err := s.readImages(ctx); err != nil {
		return err
	}
	s.m.mended(all)
	s.m.mended(task{kind: readImages})
	s.synced = true
	s.m.connected(socket, &s.server, s.queue)
	s.m.faults.Leave(fault.MirrorLost)
	return nil
}

// announced notes what is to be read again because of e. It runs on the goroutine of the feed, and does not wait.
func (s *session) announced(e *event) {
	c := e.read()
	s.m.counts.events[c.about].Add(1)
	switch c.about {
	case aboutInstance:
		for _, k := range c.keys {
			s.queue.add(task{readInstance, k})
		}
	case aboutProfile:
		s.queue.again() // first: what is read to its end meanwhile is among those that use it
		for _, k := range s.m.using(c) {
			s.queue.add(task{readInstance, k})
		}
	case aboutProject:
		s.queue.again()
		for _, k := range s.m.within(c) {
			s.queue.add(task{readInstance, k})
		}
		if c.old != "" {
			s.queue.add(task{kind: readInstances})
		}
	case aboutImage:
		s.queue.add(task{kind: readImages})
	case aboutCluster:
		s.queue.add(task{kind: readInstances})
	}
}

// work reads what is in the queue until ctx ends.
func (s *session) work(ctx context.Context) {
	for {
		t, since, err := s.queue.next(ctx)
		if err != nil {
			return
		}
		if err = s.read(ctx, t); ctx.Err() != nil {
			return
		}
		tries := s.queue.done(t, err != nil)
		if err == nil {
			s.m.counts.applied.Observe(time.Since(since).Seconds())
			s.m.mended(t)
			continue
		}
		s.retry(t, err, tries)
	}
}

// patience is how often in a row a task is tried before the next announcement or list is waited for.
const patience = 10

// retry has a task that failed tried again later.
func (s *session) retry(t task, err error, tries int) {
	wait := s.m.opts.Times.Retry / 2
	for i := 1; i < tries && wait < s.m.opts.Times.RetryMost; i++ {
		wait *= 2
	}
	if tries >= patience {
		s.m.failed(t, err)
		wait = s.m.opts.Times.RetryMost
	}
	time.AfterFunc(min(wait, s.m.opts.Times.RetryMost), func() { s.queue.add(t) }) // nobody looks into it after the session
}

// read reads one thing and publishes it.
func (s *session) read(ctx context.Context, t task) error {
	switch t.kind {
	case readInstances:
		return s.readInstances(ctx)
	case readImages:
		return s.readImages(ctx)
	}
	s.m.applying.RLock()
	defer s.m.applying.RUnlock()
	i, err := s.client.instance(ctx, t.key)
	switch {
	case errors.Is(err, lxdapi.ErrNotFound):
		s.m.counts.reads[readGone].Add(1)
		s.m.remove(t.key)
		return nil
	case err != nil:
		s.m.counts.failed(&s.m.counts.reads, err)
		return err
	}
	s.m.counts.reads[readDone].Add(1)
	return s.publish(ctx, i)
}

// readInstances reads all instances and publishes the differences. Nothing is published of a list that was cut off.
func (s *session) readInstances(ctx context.Context) error {
	s.m.applying.Lock()
	defer s.m.applying.Unlock()
	var list []*instance
	err := s.client.instances(ctx, func(i *instance) {
		if i.mirrored(s.server.member()) {
			list = append(list, i)
		}
	})
	if err != nil {
		s.m.counts.failed(&s.m.counts.lists, err)
		return err
	}
	s.m.counts.lists[readDone].Add(1)
	seen := make(map[key]bool, len(list))
	for _, i := range list {
		seen[i.key()] = true
	}
	// First, so that their names and cgroups are free.
	for _, k := range s.m.keys() {
		if !seen[k] {
			s.m.remove(k)
		}
	}
	for _, i := range list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t := task{readInstance, i.key()}
		if err := s.publish(ctx, i); err != nil {
			s.queue.add(t) // by itself, again and again
			continue
		}
		s.m.mended(t)
	}
	return nil
}
