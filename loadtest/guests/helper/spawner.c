/*
 * The one process that the load generator starts. It forks all guests, which is cheap because it is small, keeps their cgroups,
 * and outlives the load generator just long enough to remove everything.
 */
#include "guest.h"

static void put_text(char **p, const char *text)
{
	while (*text)
		*(*p)++ = *text++;
}

static void put_number(char **p, u32 n)
{
	if (n >= 10)
		put_number(p, n / 10);
	*(*p)++ = '0' + n % 10;
}

static void cgroup_name(char *name, u32 index)
{
	*name++ = 'g';
	put_number(&name, index);
	*name = 0;
}

/* Removes the cgroups that the load generator may have made in one: "0" and "1". */
static void remove_leaves(const char *name)
{
	for (char leaf = '0'; leaf < '2'; leaf++) {
		char path[24], *p = path;

		put_text(&p, name);
		*p++ = '/';
		*p++ = leaf;
		*p = 0;
		sys3(NR_unlinkat, CGROUP_FD, path, AT_REMOVEDIR);
	}
}

/* Removes a guest's cgroup, or that of all, whose processes are dead. The kernel may take a moment longer to see that it is empty. */
static int remove_cgroup(const char *name)
{
	long r = 0;

	for (int i = 0; i < 2000; i++) {
		r = sys3(NR_unlinkat, CGROUP_FD, name, AT_REMOVEDIR);
		if (r != -EBUSY)
			break;
		if (name[0] == 'g')
			remove_leaves(name);
		sleep_ms(1);
	}
	return r < 0 ? -r : 0;
}

static int remove_guest_cgroup(u32 index)
{
	char name[16];

	if (!(HEADER->flags & WITH_CGROUP))
		return 0;
	cgroup_name(name, index);
	return remove_cgroup(name);
}

/* Waits up to ms until the process of a pidfd has ended; tells whether it has. */
static int ended(int pidfd, u32 ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	return sys4(NR_ppoll, &p, 1, &t, 0) > 0;
}

static void kill_guest(struct slot *s)
{
	/* A child that was not collected and a pidfd: neither can be another process by now. */
	if (s->pid)
		sys2(NR_kill, s->pid, SIGKILL);
	else if (s->pidfd)
		sys4(NR_pidfd_send_signal, s->pidfd, SIGKILL, 0, 0);
}

/* Ends a guest if it runs; returns an error of its cgroup. */
static int stop(u32 index)
{
	struct slot *s = &SLOTS[index];

	kill_guest(s);
	if (s->pid) {
		sys4(NR_wait4, s->pid, 0, 0, 0);
		s->pid = 0;
		return remove_guest_cgroup(index);
	}
	if (s->pidfd) {
		ended(s->pidfd, 5000); /* the container's init collects it */
		close_fd(s->pidfd);    /* and out of epoll */
		s->pidfd = 0;
	}
	return 0;
}

/* Everything ends here when the load generator has closed the control socket, knowingly or by its own end. */
__attribute__((noreturn)) static void clean_up(void)
{
	for (u32 i = 0; i < HEADER->count; i++)
		kill_guest(&SLOTS[i]);
	for (u32 i = 0; i < HEADER->count; i++)
		stop(i);
	if (HEADER->flags & WITH_CGROUP)
		remove_cgroup(HEADER->base);
	leave(0);
}

static void say(u32 kind, u32 index, s32 pid, s32 error, int fd)
{
	struct report r = { kind, index, pid, error };
	struct { struct cmsghdr head; s32 fd; } rights = { .fd = fd };
	long n;

	do
		n = send_with(CONTROL_FD, &r, sizeof r, &rights, fd > 0);
	while (n == -EINTR);
	if (n < 0)
		clean_up();
}

static int write_proc(int pid, const char *file, const char *text)
{
	char path[48], *p = path;
	size_t len = 0;
	long fd, r;

	put_text(&p, "/proc/");
	put_number(&p, pid);
	put_text(&p, file);
	*p = 0;
	fd = sys4(NR_openat, -1, path, O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return -fd;
	while (text[len])
		len++;
	r = sys3(NR_write, fd, text, len);
	close_fd(fd);
	return r < 0 ? -r : 0;
}

/* user_namespaces(7): a gid map written without privilege needs setgroups denied first. */
static int write_maps(int pid)
{
	int error = 0;

	if (!(HEADER->flags & WITH_SETGROUPS))
		error = write_proc(pid, "/setgroups", "deny");
	if (!error)
		error = write_proc(pid, "/gid_map", HEADER->gid_map);
	if (!error)
		error = write_proc(pid, "/uid_map", HEADER->uid_map);
	return error;
}

static int dead(struct slot *s)
{
	s32 info[32]; /* siginfo_t, si_signo first */

	info[0] = 0;
	if (s->pidfd)
		return ended(s->pidfd, 0);
	sys5(NR_waitid, P_PID, s->pid, info, WEXITED | WNOHANG | WNOWAIT, 0);
	return info[0] != 0;
}

/* Lets a guest go on whose maps are there, until it serves. */
static int release(struct slot *s)
{
	store(&s->go, GO_MAPPED);
	futex_wake(&s->go);
	while (futex_wait(&s->go, GO_MAPPED, 100))
		if (dead(s))
			return ESRCH;
	if (s->error)
		return s->error;
	store(&s->go, GO_SERVE);
	futex_wake(&s->go);
	return 0;
}

static int open_cgroup(u32 index)
{
	char name[16];
	long r;

	cgroup_name(name, index);
	r = sys3(NR_mkdirat, CGROUP_FD, name, 0755);
	if (r < 0)
		return r;
	r = sys4(NR_openat, CGROUP_FD, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (r < 0)
		remove_cgroup(name);
	return r;
}

/* Forks a guest, with the pid that it has to have if that is not 0 and free, and allowed to be chosen. */
static long fork_guest(int cgroup, s32 want)
{
	s32 tids[2] = { 1, want };
	long pid = -ENOENT;

	if (want)
		pid = fork_as(CLONE_NEWUSER | CLONE_NEWPID, cgroup, 0, tids, 2);
	return pid < 0 ? fork_with(CLONE_NEWUSER | CLONE_NEWPID, cgroup, 0) : pid;
}

static int start(u32 index, s32 want)
{
	struct slot *s = &SLOTS[index];
	u32 seen = load(&s->seq);
	int cgroup = -1, error;
	long pid;

	if (s->pid || s->pidfd)
		return EEXIST;
	if (HEADER->flags & WITH_CGROUP) {
		cgroup = open_cgroup(index);
		if (cgroup < 0)
			return -cgroup;
	}
	store(&s->go, GO_WAITING);
	pid = fork_guest(cgroup, want);
	if (pid == 0)
		guest_main(index, seen, 0);
	if (cgroup >= 0)
		close_fd(cgroup);
	if (pid < 0) {
		remove_guest_cgroup(index);
		return -pid;
	}
	s->pid = pid;
	error = write_maps(pid);
	if (!error)
		error = release(s);
	if (error)
		stop(index);
	return error;
}

/* In the namespaces of the container: makes the guest and leaves, so that the container's init adopts it. */
static int beget(u32 index, u32 seen)
{
	int pidfd = 0, pid = fork_with(CLONE_PIDFD, -1, &pidfd);

	if (pid == 0)
		guest_main(index, seen, 1);
	if (pid < 0)
		return -pid;
	SLOTS[index].pidfd = pidfd;
	return 0;
}

static int exit_code(int pid)
{
	s32 status = 0;

	sys4(NR_wait4, pid, &status, 0, 0);
	return status & 0x7f ? EPROTO : status >> 8 & 0xff;
}

/*
 * In the container's cgroup, on the way into its namespaces. setns(2) moves only children into a pid namespace, and orphans go to
 * the init of their parent's pid namespace: it takes one child to be in there, and a child of that to be adopted in there.
 */
static int enter(u32 index, u32 seen, int init)
{
	long r;
	int pid;

	/* Root of the container must not trace what is still root of the host. */
	sys2(NR_prctl, PR_SET_DUMPABLE, 0);
	r = sys2(NR_setns, init, CLONE_NEWUSER | CLONE_NEWPID);
	if (r == -EINVAL) /* a privileged container has our own user namespace, which cannot be entered again */
		r = sys2(NR_setns, init, CLONE_NEWPID);
	if (r < 0)
		return -r;
	pid = fork_with(CLONE_FILES, -1, 0);
	if (pid == 0)
		leave(beget(index, seen));
	return pid < 0 ? -pid : exit_code(pid);
}

/* Starts a guest in the container of a pidfd. The descriptor table is shared on the way, so that the guest's pidfd gets to us. */
static int attach(u32 index, int init, int cgroup, int epoll)
{
	struct slot *s = &SLOTS[index];
	struct epoll_event e = { EPOLLIN, index };
	u32 seen = load(&s->seq);
	int pid, error;

	if (s->pid || s->pidfd)
		return EEXIST;
	store(&s->go, GO_WAITING);
	pid = fork_with(CLONE_FILES, cgroup, 0);
	if (pid == 0)
		leave(enter(index, seen, init));
	error = pid < 0 ? -pid : exit_code(pid);
	if (!error)
		error = release(s);
	if (!error)
		error = -sys4(NR_epoll_ctl, epoll, EPOLL_CTL_ADD, s->pidfd, &e);
	if (error)
		stop(index);
	return error;
}

/* Reads one command and its descriptors, at most two, -1 where there is none. */
static int receive(struct command *c, int fd[2])
{
	struct iovec iov = { c, sizeof *c };
	struct { struct cmsghdr head; s32 fd[2]; } rights = { .head.len = 0 };
	struct msghdr m = { .iov = &iov, .iovlen = 1, .control = &rights, .controllen = sizeof rights };
	long n;

	fd[0] = fd[1] = -1;
	do
		n = sys3(NR_recvmsg, CONTROL_FD, &m, MSG_CMSG_CLOEXEC);
	while (n == -EINTR);
	if (n != sizeof *c)
		return 0;
	for (u32 i = 0; i < 2 && m.controllen >= sizeof rights.head && rights.head.len >= sizeof rights.head + (i + 1) * sizeof(s32); i++)
		fd[i] = rights.fd[i];
	return 1;
}

static void obey(int epoll)
{
	struct command c;
	int fd[2], error;

	if (!receive(&c, fd) || c.first >= HEADER->count)
		clean_up();
	switch (c.op) {
	case OP_START:
		for (u32 i = c.first; i < c.first + c.count && i < HEADER->count; i++) {
			error = start(i, c.count == 1 ? (s32)c.pid : 0);
			say(SAY_STARTED, i, SLOTS[i].pid, error, 0);
		}
		break;
	case OP_ATTACH:
		error = attach(c.first, fd[0], fd[1], epoll);
		say(SAY_STARTED, c.first, 0, error, SLOTS[c.first].pidfd);
		break;
	case OP_STOP:
		error = stop(c.first);
		say(SAY_STOPPED, c.first, 0, error, 0);
		break;
	default:
		clean_up();
	}
	for (int i = 0; i < 2; i++)
		if (fd[i] >= 0)
			close_fd(fd[i]);
}

/* Collects guests that ended by themselves. */
static void reap(int signals)
{
	char info[128]; /* struct signalfd_siginfo */
	long pid;

	sys3(NR_read, signals, info, sizeof info);
	while ((pid = sys4(NR_wait4, -1, 0, WNOHANG, 0)) > 0)
		for (u32 i = 0; i < HEADER->count; i++)
			if (SLOTS[i].pid == pid) {
				SLOTS[i].pid = 0;
				say(SAY_DIED, i, pid, remove_guest_cgroup(i), 0);
			}
}

static void watch(int epoll, int fd, u64 tag)
{
	struct epoll_event e = { EPOLLIN, tag };

	if (sys4(NR_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		leave(1);
}

#define TAG_CONTROL (1ULL << 32)
#define TAG_CHILD (2ULL << 32)

__attribute__((noreturn, used)) void spawner(void)
{
	/* A terminal's Ctrl-C and a service manager's SIGTERM are for the load generator: we follow it, and clean up. */
	u64 all = ~0ULL, child = 1ULL << (SIGCHLD - 1);
	struct rlimit files;
	int epoll, signals;

	sys4(NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
	sys2(NR_prctl, PR_SET_NAME, "devlxd-guests");
	if (sys6(NR_mmap, HEADER, SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, SHARED_FD, 0) != L(HEADER))
		leave(1);
	close_fd(EXE_FD);
	close_fd(SHARED_FD);
	/* It bounds the descriptors in flight too; the load generator had the hard limit as well. */
	if (sys4(NR_prlimit64, 0, RLIMIT_NOFILE, 0, &files) == 0) {
		files.cur = files.max;
		sys4(NR_prlimit64, 0, RLIMIT_NOFILE, &files, 0);
	}
	signals = sys4(NR_signalfd4, -1, &child, sizeof child, SFD_CLOEXEC | SFD_NONBLOCK);
	epoll = sys1(NR_epoll_create1, EPOLL_CLOEXEC);
	watch(epoll, CONTROL_FD, TAG_CONTROL);
	watch(epoll, signals, TAG_CHILD);
	for (;;) {
		struct epoll_event e; /* one at a time: an answer to one may make another one void */

		if (sys5(NR_epoll_pwait, epoll, &e, 1, -1, 0) < 1)
			continue;
		if (e.data == TAG_CONTROL) {
			obey(epoll);
		} else if (e.data == TAG_CHILD) {
			reap(signals);
		} else {
			stop(e.data);
			say(SAY_DIED, e.data, 0, 0, 0);
		}
	}
}

__asm__(".globl _start\n.type _start, %function\n_start:\n\t" START);
