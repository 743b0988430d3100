package demo

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"devlxd/internal/sandbox"
)

// monitorTitle is how LXC names the process that watches over a container, which LXD took
// for its identity (CVE-2025-54288).
const monitorTitle = "[lxc monitor] /var/lib/lxd/containers db"

// commLen is TASK_COMM_LEN less the final NUL (include/linux/sched.h).
const commLen = 15

// disguise is one attempt of web to be something else.
type disguise struct {
	say    string
	shell  string // what to type, with %s for the call of curl
	order  order
	change func(*sandbox.Cmd)
	worn   func(self) bool // says that the attempt was really made
	want   answer
	remark string
	cannot string // why this host does not allow it; "" if it does
}

// showImpostors has web do what a guest can do to be taken for db.
func (t *Tour) showImpostors(ctx context.Context) error {
	for _, d := range t.disguises() {
		t.p.say("%s", d.say)
		r := get(pathSecret)
		t.p.shell("web", fmt.Sprintf(d.shell, curl(r)))
		if d.cannot != "" {
			t.p.skip(d.cannot)
			continue
		}
		d.order.Requests = []request{r}
		got, err := t.ask(ctx, "web", d.order, d.change)
		if err != nil {
			return err
		}
		if !d.worn(got.Self) {
			return fmt.Errorf("web does not look as it should to prove anything: %+v", got.Self)
		}
		if err := t.verify("web", exchange{r, d.want}, got.Answers[0], d.remark); err != nil {
			return err
		}
	}
	if err := t.showHandover(ctx); err != nil {
		return err
	}
	return t.showHostProcess(ctx)
}

func (t *Tour) disguises() []disguise {
	box := t.boxes["web"]
	own := rawAnswer(t.secrets["web"])
	const group = "lxc.payload.db"
	noIDs, noCgroup := "", ""
	if box.IDs() == 1 {
		noIDs = "the container has one user id only: root can give it more"
	}
	if box.Cgroup() == "" {
		noCgroup = "the container has no cgroup of its own to make others in"
		for _, note := range box.Notes() {
			if strings.Contains(note, "cgroup") {
				noCgroup = note
			}
		}
	}
	return []disguise{
		{
			say:   "Its process has the title of the monitor of db, which once was enough (CVE-2025-54288):",
			shell: "(exec -a " + quote(monitorTitle) + " %s)",
			order: order{Comm: monitorTitle}, change: func(c *sandbox.Cmd) { c.Args = []string{monitorTitle} },
			worn: func(s self) bool { return s.Cmdline == monitorTitle && s.Comm == monitorTitle[:commLen] },
			want: own, remark: "web's own",
		},
		{
			say:   "It makes a cgroup with the name of db's, and enters it:",
			shell: "sh -c 'cd /sys/fs/cgroup/ && mkdir " + group + " && echo $$ > " + group + "/cgroup.procs && exec %s'",
			order: order{Cgroup: group},
			worn:  func(s self) bool { return filepath.Base(s.Cgroup) == group },
			want:  own, remark: "web's own", cannot: noCgroup,
		},
		{
			say:   "It is root and pid 1 of namespaces that it made itself:",
			shell: "unshare --user --map-root-user --pid --fork %s", change: func(c *sandbox.Cmd) { c.UserNS, c.PidNS = true, true },
			worn: func(s self) bool {
				outer, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", box.PID()))
				return err == nil && s.PID == 1 && s.UID == 0 && s.UserNS != "" && s.UserNS != outer
			},
			want: own, remark: "web's own",
		},
		{
			say:   "It is not root:",
			shell: "setpriv --reuid 1000 --regid 1000 --clear-groups %s", change: func(c *sandbox.Cmd) { c.UID, c.GID = 1000, 1000 },
			worn: func(s self) bool { return s.UID == 1000 },
			want: textAnswer(401, "Access denied for non-root user\n"), cannot: noIDs,
		},
	}
}

// showHandover has web connect and db ask on that connection.
func (t *Tour) showHandover(ctx context.Context) error {
	t.p.say("It connects and passes the open connection to db, which asks on it (SCM_RIGHTS):")
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	lender, borrower := os.NewFile(uintptr(fds[0]), "lender"), os.NewFile(uintptr(fds[1]), "borrower")
	var lendErrs bytes.Buffer
	lend := t.boxes["web"].Guest(ctx, "lend")
	lend.Stdin, lend.Stderr = lender, &lendErrs
	err = lend.Start()
	lender.Close()
	borrow := t.boxes["db"].Guest(ctx, "borrow", pathSecret)
	borrow.Stdin = borrower
	var r report
	if err == nil {
		r, err = readReport(borrow)
		borrower.Close()
		if lendErr := lend.Wait(); lendErr != nil {
			err = fmt.Errorf("%w: %s", lendErr, lendErrs.String())
		}
	}
	borrower.Close()
	if err != nil {
		return err
	}
	e := exchange{get(pathSecret), rawAnswer(t.secrets["web"])}
	return t.verify("db", e, r.Answers[0], "that of web, which connected")
}

// showHostProcess asks as this process, which is in no container.
func (t *Tour) showHostProcess(ctx context.Context) error {
	t.p.say("A process of the host is nobody:")
	socket := filepath.Join(t.guestDir(), "sock")
	e := exchange{get(pathSecret), textAnswer(500, t.texts.unidentified)}
	t.p.shell("host", curlTo(socket, e.request))
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(dial context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(dial, "unix", socket)
			if err == nil {
				context.AfterFunc(ctx, func() { conn.Close() })
			}
			return conn, err
		},
	}}
	got, err := send(client, "http://lxd", e.request)
	if err != nil {
		return err
	}
	return t.verify("host", e, got, "")
}
