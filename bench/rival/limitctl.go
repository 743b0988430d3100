package rival

import (
	"bytes"
	"os"
)

// adoptAnswer has the loop answer what fixed says. Answers that are under way when it changes would be mixed up: it changes with
// the first container, before there is load.
func (s *limit) adoptAnswer() {
	wire := s.answer.Load().wire
	s.answerLen = len(wire)
	s.replies = bytes.Repeat(wire, max(1, replySize/len(wire)))
}

// register implements server.
func (s *limit) register(containers []Container) error {
	before := s.answer.Load()
	if err := s.fixed.register(containers); err != nil {
		return err
	}
	return s.task(func() {
		if s.answer.Load() != before {
			s.adoptAnswer()
		}
		for i := range containers {
			s.forget(containers[i].Name)
			if containers[i].PID > 0 {
				s.containers[int32(containers[i].PID)] = containers[i].Name
			}
		}
	})
}

// unregister implements server.
func (s *limit) unregister(name string) error {
	if err := s.fixed.unregister(name); err != nil {
		return err
	}
	return s.task(func() { s.forget(name) })
}

func (s *limit) forget(name string) {
	for pid, n := range s.containers {
		if n == name {
			delete(s.containers, pid)
		}
	}
}

// set implements server. The frame has been written to every subscriber when it returns.
func (s *limit) set(name, key, value string) error {
	old, err := s.book.change(name, key, value)
	if err != nil || !makesEvent(key, old, value) {
		return err
	}
	frame, err := eventFrame(key, old, value)
	if err != nil {
		return err
	}
	return s.task(func() {
		s.publish(s.groups[name], frame)
		s.publish(s.groups[""], frame)
	})
}

// image implements server. It takes the place of the one before; downloads under way go on.
func (s *limit) image(path string) (string, error) {
	fingerprint, err := fingerprintOf(path)
	if err != nil {
		return "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return "", err
	}
	return fingerprint, s.task(func() {
		if s.file != nil {
			s.file.release()
		}
		s.file = &exported{File: file, size: info.Size(), uses: 1}
	})
}

func (s *limit) task(f func()) error {
	if !s.do(f) {
		return errEnded
	}
	return nil
}

// ended implements server.
func (s *limit) ended() <-chan error { return s.fail }

// close implements server.
func (s *limit) close() error {
	s.do(func() { s.stopped = true })
	<-s.done
	return s.release()
}
