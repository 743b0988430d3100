package demo

import (
	"fmt"
	"strconv"
)

// Play prints how to go on by hand while everything keeps running. Program is the path
// of devlxd.
func (t *Tour) Play(program string) error {
	box := t.boxes["web"]
	enter := "nsenter -t " + strconv.Itoa(box.PID()) + " -U -m -u -p"
	if box.IDs() == 1 {
		enter += " --preserve-credentials" // there is no other id to change to
	}
	enter += " sh"
	if group := box.Cgroup(); group != "" {
		// Or the shell would stay in a cgroup of the host, and be nobody for the server.
		enter = fmt.Sprintf("sh -c 'echo $$ > %s/cgroup.procs; exec %s'", quote(group), enter)
	}
	t.p.heading("Your turn")
	t.p.say("The server and the containers run until Ctrl-C. In another terminal, as the same user:")
	t.p.command("", "export", "DEVLXD_RUN_DIR="+t.options.RunDir)
	for _, args := range [][]string{
		{"container", "list"}, {"config", "set", "web", "user.color=blue"}, {"monitor", "web"},
	} {
		t.p.command("", append([]string{program}, args...)...)
	}
	t.p.say("Inside of web:")
	t.p.shell("", enter)
	for _, path := range []string{pathConfig, pathRole, "/1.0/events"} {
		r := get(path)
		t.p.shell("web", curl(r))
	}
	return t.p.err
}
