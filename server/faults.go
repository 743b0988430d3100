package server

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"devlxd/fault"
)

// acceptFaults are the conditions that are over when the backlog has been
// emptied.
var acceptFaults = [...]fault.Kind{fault.ConnectionLimit, fault.ProcessFiles, fault.SystemFiles, fault.Memory, fault.Accept}

// acceptFault is what an error of accept(2) says of the host; nil stands for the
// connection limit.
func acceptFault(err error) fault.Kind {
	switch {
	case err == nil:
		return fault.ConnectionLimit
	case errors.Is(err, unix.EMFILE):
		return fault.ProcessFiles
	case errors.Is(err, unix.ENFILE):
		return fault.SystemFiles
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOBUFS):
		return fault.Memory
	}
	return fault.Accept
}

// cannotAccept says why accepting pauses: err of accept(2), or nil at the
// connection limit. One reason at a time: another one replaces it.
func (s *Server) cannotAccept(err error) {
	kind := acceptFault(err)
	for _, k := range acceptFaults {
		if k != kind {
			s.faults.Leave(k)
		}
	}
	if err == nil {
		s.faults.Enter(kind, "limit", s.maxConnections())
		return
	}
	s.faults.Enter(kind, "error", os.NewSyscallError("accept4", err))
}

// outOfImageFiles reports whether err, for which an image could not be served, is
// a want of descriptors, and notes it.
func (s *Server) outOfImageFiles(err error) bool {
	for _, want := range [...]error{errImageFiles, unix.EMFILE, unix.ENFILE} {
		if errors.Is(err, want) {
			s.faults.Enter(fault.ImageFiles, "limit", s.budget.maxImageFiles(), "error", err)
			return true
		}
	}
	return false
}
