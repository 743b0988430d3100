/*
 * One emulated container: a process that is root in namespaces of its own, or in those of a real container, and connects to the
 * socket under load when it is told to. The connected sockets go to the load generator; what the server knows of the peer, which
 * is what connect(2) left in the socket, stays this process.
 */
#include "guest.h"

void futex_wake(u32 *word) { sys3(NR_futex, word, FUTEX_WAKE, 0x7fffffff); }

/* Waits until word is no longer old, or ms have passed if ms is not 0; tells whether it still is. */
int futex_wait(u32 *word, u32 old, u32 ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	if (load(word) == old)
		sys4(NR_futex, word, FUTEX_WAIT, old, ms ? &t : 0);
	return load(word) == old;
}

/* Sends one message; rights is a cmsghdr followed by the descriptors. */
long send_with(int socket, void *data, size_t len, void *rights, u32 fds)
{
	struct iovec iov = { data, len };
	struct msghdr m = { .iov = &iov, .iovlen = 1 };
	struct cmsghdr *c = rights;

	if (fds) {
		c->len = sizeof *c + fds * sizeof(s32);
		c->level = SOL_SOCKET;
		c->type = SCM_RIGHTS;
		m.control = c;
		m.controllen = (c->len + 7) & ~7UL;
	}
	return sys3(NR_sendmsg, socket, &m, MSG_NOSIGNAL);
}

/* The load generator is gone: it alone has the other end of the data socket. */
static int abandoned(void)
{
	struct pollfd p = { .fd = DATA_FD };
	struct timespec t = { 0, 0 };

	return sys4(NR_ppoll, &p, 1, &t, 0) > 0 && p.revents & (POLLHUP | POLLERR);
}

/*
 * Waits for word to change. A guest that dies with the spawner sleeps for as long as it takes; any other has to look by itself
 * whether somebody is left to serve.
 */
static void await(u32 *word, u32 old, int orphan)
{
	while (futex_wait(word, old, orphan ? 1000 : 0))
		if (orphan && abandoned())
			leave(0);
}

/* Sends what is in the batch and gives up its descriptors. A full queue blocks; too many descriptors in flight take retries. */
static void flush(struct batch *b, u32 flags)
{
	u32 ms = 1;

	b->record.head.flags = flags;
	for (;;) {
		long r = send_with(DATA_FD, &b->record, sizeof b->record.head + b->record.head.count * sizeof b->record.conn[0], &b->rights,
				   b->fds);
		if (r >= 0)
			break;
		if (r == -EINTR)
			continue;
		/* unix(7): ETOOMANYREFS counts all guests together, as they share a uid. */
		if (r != -ETOOMANYREFS && r != -ENOMEM && r != -ENOBUFS)
			leave(1);
		sleep_ms(ms);
		if (ms < 64)
			ms *= 2;
	}
	for (u32 i = 0; i < b->fds; i++)
		close_fd(b->rights.fd[i]);
	b->fds = 0;
	b->record.head.count = 0;
}

/* Makes one connection. EAGAIN says that the backlog is full: what is ready must not wait for that with us. */
static long dial(struct batch *b, int fd)
{
	long r = sys3(NR_connect, fd, &HEADER->family, HEADER->addr_len);

	if (r != -EAGAIN)
		return r;
	if (b->record.head.count)
		flush(b, 0);
	sys3(NR_fcntl, fd, F_SETFL, O_RDWR);
	do
		r = sys3(NR_connect, fd, &HEADER->family, HEADER->addr_len);
	while (r == -EINTR);
	sys3(NR_fcntl, fd, F_SETFL, O_RDWR | O_NONBLOCK);
	return r;
}

static void connect_all(u32 index, u32 seq, u32 count)
{
	struct batch b;

	b.fds = 0;
	b.record.head.index = index;
	b.record.head.seq = seq;
	b.record.head.count = 0;
	for (u32 i = 0; i < count; i++) {
		struct record_conn c = { .start = now() };
		long fd = sys3(NR_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		long r = fd;

		if (fd >= 0) {
			r = dial(&b, fd);
			if (r >= 0)
				b.rights.fd[b.fds++] = fd;
			else
				close_fd(fd);
		}
		if (r < 0)
			c.error = -r;
		b.record.conn[b.record.head.count++] = c;
		if (b.record.head.count == BATCH && i + 1 < count)
			flush(&b, 0);
	}
	flush(&b, LAST_OF_COMMAND);
}

/* Forks the processes of a job. One that cannot be forked counts as connections that failed. */
static void start_job(u32 index, u32 seq)
{
	struct slot *s = &SLOTS[index];
	u32 processes = s->job.kind == JOB_PROBE ? s->job.mix : s->job.kind == JOB_FLOOD ? FLOODS : 0;

	for (u32 i = 0; i < processes; i++) {
		int pid;

		if (s->job.kind == JOB_FLOOD && !(s->job.mix >> i & 1))
			continue;
		pid = fork_with(0, -1, 0);
		if (pid == 0)
			job_main(index, seq, i);
		if (pid < 0)
			__atomic_fetch_add(&s->counts[COUNT_NO_CONNECT], 1, __ATOMIC_RELAXED);
	}
}

/* Becomes root of the user namespace. */
static long become_root(int attached)
{
	long r = 0;

	/* An attached guest comes with the host's groups, and in a container that forbids setgroups(2) keeps them. */
	if (attached || HEADER->flags & WITH_SETGROUPS)
		r = sys2(NR_setgroups, 0, 0);
	if (r < 0 && !attached)
		return r;
	r = sys3(NR_setresgid, 0, 0, 0);
	if (r < 0)
		return r;
	return sys3(NR_setresuid, 0, 0, 0);
}

/* seen is the newest command that is not for this guest any more. */
void guest_main(u32 index, u32 seen, int attached)
{
	struct slot *s = &SLOTS[index];
	struct sigaction ignore = { .handler = SIG_IGN };
	long r;

	if (!attached)
		sys2(NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
	/* Who comes after us in here has pid 1 to collect what ends: ignoring SIGCHLD does that by itself. */
	sys4(NR_rt_sigaction, SIGCHLD, &ignore, 0, sizeof ignore.mask);
	await(&s->go, GO_WAITING, 1);
	r = become_root(attached);
	if (!attached) /* again: a change of credentials clears it */
		sys2(NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
	sys3(NR_close_range, 0, DATA_FD - 1, 0);
	sys3(NR_close_range, DATA_FD + 1, ~0U, 0);
	s->error = r < 0 ? -r : 0;
	store(&s->go, GO_READY);
	futex_wake(&s->go);
	if (r < 0)
		leave(1);
	await(&s->go, GO_READY, 1);
	for (;;) {
		await(&s->seq, seen, attached);
		seen = load(&s->seq);
		/* The processes of a job see that it is over. With SIGCHLD ignored, wait4(2) returns when the last of them has ended. */
		do
			r = sys4(NR_wait4, -1, 0, 0, 0);
		while (r > 0 || r == -EINTR);
		store(&s->done, seen);
		if (s->job.kind == JOB_CONNECT)
			connect_all(index, seen, s->count);
		else
			start_job(index, seen);
	}
}
