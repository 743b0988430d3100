package lxdtest

import "errors"

var (
	errNotInside = errors.New("the tests do not run in namespaces of their own: they need root, and Main in TestMain")
	errNoBusybox = errors.New("no static busybox: install busybox-static")
	errOperation = errors.New("the daemon failed")
	errRefused   = errors.New("the daemon refused")
	errAgent     = errors.New("the agent in the container failed")
)
