/*
 * What a guest does by itself, in processes of its own, until its next command: flood the server, or ask for its secret over and
 * over and compare.
 */
#include "guest.h"

enum {
	ANSWER_MS = 10000, /* how long an answer may take */
	STEP_MS = 100,     /* how often a process that waits looks whether its job is over */
	LATE_NS = 100000000, /* a process that is late by more does not catch up */
	KEPT_EVERY = 8,    /* a probe asks on the connection that it keeps, too */
	EXITED_EVERY = 32, /* a probe has a process ask that exits at once */
	MAX_HELD = 256,    /* connections of a process */
};

#define KEY "GET /1.0/config/user.load HTTP/1.1\r\nHost: lxd\r\nUser-Agent: probe\r\n\r\n"
#define SUBSCRIBE                                                                                         \
	"GET /1.0/events HTTP/1.1\r\nHost: lxd\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"          \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
#define HALF "GET /1.0/config/user.lo"

static void add(struct slot *s, u32 which) { __atomic_fetch_add(&s->counts[which], 1, __ATOMIC_RELAXED); }

static int over(struct slot *s, u32 seq) { return load(&s->seq) != seq; }

static int equal(const char *a, const char *b, u32 n)
{
	for (u32 i = 0; i < n; i++)
		if (a[i] != b[i])
			return 0;
	return 1;
}

/* Waits for a socket; tells whether it is ready, closed ones too. */
static int ready(int fd, u16 events, u32 ms)
{
	struct pollfd p = { .fd = fd, .events = events };
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	return sys4(NR_ppoll, &p, 1, &t, 0) > 0;
}

static int new_socket(void) { return sys3(NR_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

/* Connects, for as long as the backlog is full. */
static long join(struct slot *s, u32 seq, int fd)
{
	long r;

	while ((r = sys3(NR_connect, fd, &HEADER->family, HEADER->addr_len)) == -EAGAIN && !over(s, seq))
		sleep_ms(1);
	return r;
}

/* Makes a connection; -1 when that fails. */
static int dial(struct slot *s, u32 seq)
{
	int fd = new_socket();

	if (fd >= 0 && join(s, seq, fd) >= 0) {
		add(s, COUNT_CONNECTED);
		return fd;
	}
	if (fd >= 0)
		close_fd(fd);
	if (!over(s, seq)) {
		add(s, COUNT_NO_CONNECT);
		sleep_ms(10);
	}
	return -1;
}

/* Waits for the time of the next connection. */
static void pace(struct slot *s, s64 *due)
{
	s64 left;

	if (!s->job.period)
		return;
	*due += s->job.period;
	left = *due - now();
	if (left < -LATE_NS)
		*due = now();
	if (left > 0) {
		struct timespec t = { left / 1000000000, left % 1000000000 };

		sys2(NR_nanosleep, &t, 0);
	}
}

/* --- flood --- */

/* Counts answers by their status lines. One that is cut in two by the end of the buffer is missed. */
static void count_answers(struct slot *s, const char *b, long n)
{
	for (long i = 0; i + 12 <= n; i++)
		if (b[i] == 'H' && equal(b + i, "HTTP/1.1 ", 9)) {
			add(s, equal(b + i + 9, "200", 3) ? COUNT_RIGHT : COUNT_REFUSED);
			i += 11;
		}
}

/* Requests on kept connections, in batches, whether earlier ones were answered or not. */
static void flood_pipeline(struct slot *s, u32 seq)
{
	struct pollfd p[MAX_HELD];
	u32 held = s->job.connections, batch = s->job.pipeline * (sizeof KEY - 1);
	char requests[128 * (sizeof KEY - 1)], in[16384];
	s64 due = now();

	for (u32 i = 0; i < batch; i++)
		requests[i] = KEY[i % (sizeof KEY - 1)];
	for (u32 i = 0; i < held; i++)
		p[i].fd = -1;
	while (!over(s, seq)) {
		struct timespec t = { 0, STEP_MS * 1000000L };

		for (u32 i = 0; i < held; i++)
			if (p[i].fd < 0) {
				p[i].fd = dial(s, seq);
				p[i].events = POLLIN | POLLOUT;
			}
		if (sys4(NR_ppoll, p, held, &t, 0) < 1)
			continue;
		for (u32 i = 0; i < held; i++) {
			long n = 1;

			if (p[i].fd < 0 || !p[i].revents)
				continue;
			if (p[i].revents & POLLIN) {
				n = sys3(NR_read, p[i].fd, in, sizeof in);
				if (n > 0)
					count_answers(s, in, n);
			}
			/* What the socket takes of the batch may end in the middle of a request: the next one is then a bad one. */
			if (n > 0 && p[i].revents & POLLOUT)
				n = sys6(NR_sendto, p[i].fd, requests, batch, MSG_NOSIGNAL, 0, 0);
			if (n == 0 || (n < 0 && n != -EAGAIN) || p[i].revents & POLLERR) {
				add(s, COUNT_CUT);
				close_fd(p[i].fd);
				p[i].fd = -1;
			}
		}
		pace(s, &due);
	}
}

/* Connections that send something and read nothing, each closed when as many newer ones are there as may be held. */
static void flood_ring(struct slot *s, u32 seq, const char *text, u32 size, u32 every)
{
	int ring[MAX_HELD];
	s64 due = now();

	for (u32 i = 0; i < MAX_HELD; i++)
		ring[i] = -1;
	for (u32 i = 0; !over(s, seq); i++) {
		int *fd = &ring[i % s->job.connections];

		if (*fd >= 0)
			close_fd(*fd);
		*fd = dial(s, seq);
		if (*fd >= 0 && i % every == 0 && sys6(NR_sendto, *fd, text, size, MSG_NOSIGNAL, 0, 0) < 0)
			add(s, COUNT_CUT);
		pace(s, &due);
	}
}

static void flood(struct slot *s, u32 seq, u32 nth)
{
	switch (1U << nth) {
	case FLOOD_PIPELINE:
		flood_pipeline(s, seq);
		break;
	case FLOOD_CONNECT: /* every other one says nothing at all */
		flood_ring(s, seq, KEY, sizeof KEY - 1, 2);
		break;
	case FLOOD_SUBSCRIBE:
		flood_ring(s, seq, SUBSCRIBE, sizeof SUBSCRIBE - 1, 1);
		break;
	case FLOOD_HALF:
		flood_ring(s, seq, HALF, sizeof HALF - 1, 1);
		break;
	}
}

/* --- probe --- */

/* What came in answer to one request. */
struct answer {
	s32 status; /* 0: closed, -1: not HTTP, -2: nothing in time, -3: the job is over */
	u32 length; /* of the body */
	u32 head;   /* where it begins */
	char text[1024];
};

/* Finds the length of the body in a head of n bytes, whose end is at the end; -1 when it is not there. */
static long body_length(const char *head, u32 n)
{
	static const char field[] = "\r\nContent-Length: ";

	for (u32 i = 0; i + sizeof field <= n; i++)
		if (equal(head + i, field, sizeof field - 1)) {
			long length = 0;

			for (i += sizeof field - 1; i < n && head[i] >= '0' && head[i] <= '9' && length < 100000; i++)
				length = length * 10 + head[i] - '0';
			return length;
		}
	return -1;
}

/* Looks at the n bytes that have come in; tells whether the answer is complete. */
static int parse(struct answer *a, u32 n)
{
	const char *t = a->text;

	a->status = -1;
	for (u32 i = 0; i + 4 <= n; i++)
		if (equal(t + i, "\r\n\r\n", 4)) {
			long length = body_length(t, i + 2);

			a->head = i + 4;
			if (!equal(t, "HTTP/1.1 ", 9) || length < 0 || length > (long)(sizeof a->text - a->head))
				return 1;
			a->length = length;
			if (n < a->head + a->length)
				return 0;
			a->status = (t[9] - '0') * 100 + (t[10] - '0') * 10 + t[11] - '0';
			return 1;
		}
	return n == sizeof a->text;
}

/* Reads one answer. */
static void receive(struct slot *s, u32 seq, int fd, struct answer *a)
{
	u32 n = 0;
	s64 end = now() + ANSWER_MS * 1000000LL;

	for (;;) {
		long r = sys3(NR_read, fd, a->text + n, sizeof a->text - n);

		if (r > 0) {
			n += r;
			if (parse(a, n))
				return;
		} else if (r != -EAGAIN && r != -EINTR) {
			a->status = 0;
			return;
		} else if (over(s, seq)) {
			a->status = -3;
			return;
		} else if (now() > end) {
			a->status = -2;
			return;
		} else {
			ready(fd, POLLIN, STEP_MS);
		}
	}
}

/* Keeps what was wrong, unless something was before. */
static void remember(struct slot *s, const struct answer *a)
{
	if (s->wrong[0])
		return;
	for (u32 i = 0; i < sizeof s->wrong - 1; i++)
		s->wrong[i] = a->status <= 0 ? 0 : a->status == 200 && i >= a->length ? 0 : a->text[i + (a->status == 200 ? a->head : 0)];
	if (!s->wrong[0])
		s->wrong[0] = '?';
}

/* Judges an answer. Only one that began and ended while the server knew the container, and knew it in the same way, has to be right. */
static void judge(struct slot *s, const struct answer *a, u32 settled, int exited)
{
	int must = settled && settled == load(&s->job.settled);

	switch (a->status) {
	case 200:
		if (a->length == SECRET_LEN && equal(a->text + a->head, s->job.secret, SECRET_LEN)) {
			add(s, exited ? COUNT_EXITED_RIGHT : COUNT_RIGHT);
			return;
		}
		remember(s, a);
		add(s, COUNT_WRONG);
		return;
	case 401:
	case 403:
	case 500:
		if (exited || !must) {
			add(s, exited ? COUNT_EXITED_REFUSED : COUNT_REFUSED);
			return;
		}
		remember(s, a);
		add(s, COUNT_DENIED);
		return;
	case 0:
		if (exited || !must) {
			add(s, exited ? COUNT_EXITED_REFUSED : COUNT_CUT);
			return;
		}
		add(s, COUNT_DROPPED);
		return;
	case -2:
		add(s, COUNT_UNANSWERED);
		return;
	case -3:
		return;
	}
	remember(s, a);
	add(s, COUNT_BROKEN);
}

/* Asks on a connection; tells whether it can be asked again. */
static int ask(struct slot *s, u32 seq, int fd, u32 settled)
{
	struct answer a;

	if (sys6(NR_sendto, fd, KEY, sizeof KEY - 1, MSG_NOSIGNAL, 0, 0) < 0)
		a.status = 0; /* what the server may have answered before it closed is not looked at: it was no answer to this */
	else
		receive(s, seq, fd, &a);
	judge(s, &a, settled, 0);
	return a.status == 200;
}

/* Has a process connect, ask and exit, before the server can look at it; the answer is read here. */
static void ask_exited(struct slot *s, u32 seq, u32 settled)
{
	struct answer a;
	int fd = new_socket();
	int pid;
	long r;

	if (fd < 0)
		return;
	pid = fork_with(0, -1, 0);
	if (pid == 0) {
		if (join(s, seq, fd) >= 0) {
			add(s, COUNT_CONNECTED);
			sys6(NR_sendto, fd, KEY, sizeof KEY - 1, MSG_NOSIGNAL, 0, 0);
		}
		leave(0);
	}
	do
		r = sys4(NR_wait4, -1, 0, 0, 0);
	while (r > 0 || r == -EINTR);
	if (pid > 0) {
		receive(s, seq, fd, &a);
		judge(s, &a, settled, 1);
	}
	close_fd(fd);
}

static void probe(struct slot *s, u32 seq, u32 nth)
{
	int kept = -1;
	u32 since = 0; /* what settled was when kept was made */
	s64 due = now();

	for (u32 i = nth; !over(s, seq); i++) {
		u32 settled = load(&s->job.settled);
		int fd;

		if (i % EXITED_EVERY == 1) {
			ask_exited(s, seq, settled);
		} else if ((fd = dial(s, seq)) >= 0) {
			ask(s, seq, fd, settled);
			close_fd(fd);
		}
		if (i % KEPT_EVERY == 0) {
			if (kept < 0) {
				since = load(&s->job.settled);
				kept = dial(s, seq);
			}
			if (kept >= 0 && !ask(s, seq, kept, since)) {
				close_fd(kept);
				kept = -1;
			}
		}
		pace(s, &due);
	}
}

__attribute__((noreturn)) void job_main(u32 index, u32 seq, u32 nth)
{
	struct slot *s = &SLOTS[index];

	close_fd(DATA_FD);
	if (s->job.kind == JOB_FLOOD)
		flood(s, seq, nth);
	else
		probe(s, seq, nth);
	leave(0);
}
