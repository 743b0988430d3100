/* The limit of the machine: an epoll loop that answers fixed bytes for every CRLFCRLF and reads nothing but the path of a handshake.
 * Usage: limit-c SOCKET. One JSON command a line on stdin, one answer a line on stdout; the end of stdin ends it (see doc.go). */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ = 64 << 10, REPLIES = 64 << 10, FDS = 1 << 20 };
/* The accept key of RFC 6455's sample key, which is the one that the load generator sends. */
static const char upgraded[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			       "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char events[] = "GET /1.0/events";

struct conn {
	char *in;	/* a request whose end has not come */
	unsigned nin;
	char websocket, writes;
	size_t owed;	/* bytes of answers that the kernel did not take: they end with a whole one */
};
static struct conn *conns;	/* by descriptor; pages that are not used cost nothing */
static char buf[READ], *replies;
static size_t answer_len, replies_len;
static int epfd, lnfd, starved;
static pid_t peer;		/* of the last accept; kept so that the call is not left out */

static void die(const char *what) { perror(what); exit(1); }
static void watch(int op, int fd, unsigned events_wanted)
{
	struct epoll_event ev = { .events = events_wanted, .data.fd = fd };
	if (epoll_ctl(epfd, op, fd, &ev)) die("epoll_ctl");
}

static void set_answer(const char *body, size_t n)
{
	char head[256];
	int h = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
			 "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n\r\n", n);
	answer_len = h + n;
	size_t copies = REPLIES / answer_len ? REPLIES / answer_len : 1;
	free(replies);
	if (!(replies = malloc(replies_len = copies * answer_len))) die("malloc");
	for (size_t i = 0; i < copies; i++) {
		memcpy(replies + i * answer_len, head, h);
		memcpy(replies + i * answer_len + h, body, n);
	}
}

static void accept_all(void)
{
	for (starved = 0;;) {
		int fd = accept4(lnfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EINTR || errno == ECONNABORTED) continue;
			starved = errno != EAGAIN;
			return;
		}
		if (fd >= FDS) { close(fd); continue; }
		struct ucred cred = { 0 };
		socklen_t len = sizeof cred;
		if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len)) peer = cred.pid;
		memset(&conns[fd], 0, sizeof conns[fd]);
		watch(EPOLL_CTL_ADD, fd, EPOLLIN);
	}
}

/* The descriptor may be another connection's when this returns. */
static void drop(int fd)
{
	free(conns[fd].in);
	memset(&conns[fd], 0, sizeof conns[fd]);
	close(fd);
	if (starved) accept_all();
}

static void pump(int fd)
{
	struct conn *c = &conns[fd];
	while (c->owed) {
		size_t at = (answer_len - c->owed % answer_len) % answer_len, n = replies_len - at < c->owed ? replies_len - at : c->owed;
		ssize_t done = write(fd, replies + at, n);
		if (done < 0 && errno == EINTR) continue;
		if (done < 0 && errno != EAGAIN) { drop(fd); return; }
		if (done < 0) break;
		c->owed -= done;
	}
	if (!!c->owed == c->writes) return;
	watch(EPOLL_CTL_MOD, fd, (c->writes = !!c->owed) ? EPOLLOUT : EPOLLIN);
}

static void readable(int fd)
{
	struct conn *c = &conns[fd];
	unsigned kept = c->nin;
	if (kept) memcpy(buf, c->in, kept);
	ssize_t n = read(fd, buf + kept, READ - kept);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
	if (n <= 0) { drop(fd); return; }
	if (c->websocket) return;
	char *p = buf, *end = buf + kept + n, *crlf;
	for (; (crlf = memmem(p, end - p, "\r\n\r\n", 4)); p = crlf + 4) {
		if (crlf - p > 15 && p[9] == 'e' && !memcmp(p, events, sizeof events - 1)) {
			/* Behind requests that were read with it, a handshake is refused. */
			if (c->owed || write(fd, upgraded, sizeof upgraded - 1) != sizeof upgraded - 1) { drop(fd); return; }
			c->websocket = 1, p = end;
			break;
		}
		c->owed += answer_len;
	}
	if (end - p > READ / 2) { drop(fd); return; }
	if ((c->nin = end - p)) {
		if (!(c->in = realloc(c->in, c->nin))) die("realloc");
		memcpy(c->in, p, c->nin);
	} else if (kept) {
		free(c->in), c->in = NULL;
	}
	if (c->owed) pump(fd);
}

/* A command: the first one that has the value sets the answer. */
static void command(const char *line, size_t n)
{
	static const char op[] = "{\"op\":\"", key[] = "\"user.load\":\"";
	static int named;
	const char *body, *quote, *reply = "{}\n";
	if (n < sizeof op || memcmp(line, op, sizeof op - 1) || !strchr("ru", line[sizeof op - 1]))
		reply = "{\"error\":\"this rival knows register and unregister only\"}\n";
	else if (!named && (body = memmem(line, n, key, sizeof key - 1))) {
		body += sizeof key - 1;
		quote = memchr(body, '"', line + n - body);
		if (!quote || memchr(body, '\\', quote - body)) reply = "{\"error\":\"value has an escape: use plain text\"}\n";
		else set_answer(body, quote - body), named = 1;
	}
	if (write(1, reply, strlen(reply)) < 0) exit(1);
}

static void control(void)
{
	static char *in;
	static size_t len, cap;
	if (cap - len < READ && !(in = realloc(in, cap = 2 * cap + READ))) die("realloc");
	ssize_t n = read(0, in + len, READ);
	if (n == 0) exit(0);
	if (n < 0 && errno != EINTR && errno != EAGAIN) die("read");
	char *nl;
	size_t from = 0;
	for (len += n > 0 ? n : 0; (nl = memchr(in + from, '\n', len - from)); from = nl + 1 - in) command(in + from, nl - in - from);
	memmove(in, in + from, len -= from);
}

int main(int argc, char **argv)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct epoll_event ready[256];
	if (argc != 2 || strlen(argv[1]) >= sizeof addr.sun_path) return fprintf(stderr, "usage: limit-c SOCKET\n"), 2;
	strcpy(addr.sun_path, argv[1]);
	signal(SIGPIPE, SIG_IGN);
	if (!(conns = calloc(FDS, sizeof *conns))) die("calloc");
	set_answer("abc", 3);
	if ((lnfd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0) die("socket");
	if (bind(lnfd, (struct sockaddr *)&addr, sizeof addr)) die("bind");
	if (chmod(argv[1], 0666)) die("chmod");
	if (listen(lnfd, 4096)) die("listen");
	if ((epfd = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
	watch(EPOLL_CTL_ADD, 0, EPOLLIN);
	watch(EPOLL_CTL_ADD, lnfd, EPOLLIN | EPOLLET);
	for (;;) {
		int n = epoll_wait(epfd, ready, 256, -1);
		for (int i = 0; i < n; i++) {
			int fd = ready[i].data.fd;
			if (fd == 0) control();
			else if (fd == lnfd) accept_all();
			else if (conns[fd].writes) pump(fd);
			else readable(fd);
		}
	}
}
