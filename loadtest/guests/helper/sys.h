/*
 * The system calls of the helper, without a C library and without kernel headers: numbers and structures are those of
 * include/uapi/linux and arch/{x86,arm64}/include of Linux. A failed call returns -errno, as from the kernel.
 */
#ifndef SYS_H
#define SYS_H

#include <stddef.h>
#include <stdint.h>

typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

#if defined(__x86_64__)

enum {
	NR_read = 0, NR_write = 1, NR_close = 3, NR_mmap = 9, NR_rt_sigaction = 13, NR_rt_sigprocmask = 14, NR_nanosleep = 35,
	NR_socket = 41, NR_connect = 42, NR_sendto = 44, NR_sendmsg = 46, NR_recvmsg = 47, NR_wait4 = 61, NR_kill = 62, NR_fcntl = 72,
	NR_setgroups = 116, NR_setresuid = 117, NR_setresgid = 119, NR_prctl = 157, NR_futex = 202, NR_clock_gettime = 228,
	NR_exit_group = 231, NR_epoll_ctl = 233, NR_waitid = 247, NR_openat = 257, NR_mkdirat = 258, NR_unlinkat = 263,
	NR_ppoll = 271, NR_epoll_pwait = 281, NR_signalfd4 = 289, NR_epoll_create1 = 291, NR_prlimit64 = 302, NR_setns = 308,
};

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}

static inline long sys3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}

#define START "xor %ebp, %ebp\n\tand $-16, %rsp\n\tcall spawner\n\t"
#define EPOLL_PACKED __attribute__((packed)) /* EPOLL_PACKED of linux/eventpoll.h: on this machine only */

#elif defined(__aarch64__)

enum {
	NR_epoll_create1 = 20, NR_epoll_ctl = 21, NR_epoll_pwait = 22, NR_fcntl = 25, NR_mkdirat = 34, NR_unlinkat = 35,
	NR_openat = 56, NR_close = 57, NR_read = 63, NR_write = 64, NR_ppoll = 73, NR_signalfd4 = 74, NR_exit_group = 94,
	NR_waitid = 95, NR_futex = 98, NR_nanosleep = 101, NR_clock_gettime = 113, NR_kill = 129, NR_rt_sigaction = 134,
	NR_rt_sigprocmask = 135, NR_setresuid = 147, NR_setresgid = 149, NR_setgroups = 159, NR_prctl = 167, NR_socket = 198,
	NR_connect = 203, NR_sendto = 206, NR_sendmsg = 211, NR_recvmsg = 212, NR_mmap = 222, NR_wait4 = 260, NR_prlimit64 = 261, NR_setns = 268,
};

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}

static inline long sys3(long nr, long a, long b, long c)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
}

#define START "mov x29, #0\n\tmov x30, #0\n\tbl spawner\n\t"
#define EPOLL_PACKED

#else
#error "no system calls for this machine"
#endif

/* The same on all machines. */
enum { NR_pidfd_send_signal = 424, NR_clone3 = 435, NR_close_range = 436 };

#define L(x) ((long)(x))
#define sys3(nr, a, b, c) sys3(nr, L(a), L(b), L(c))
#define sys1(nr, a) sys3(nr, a, 0, 0)
#define sys2(nr, a, b) sys3(nr, a, b, 0)
#define sys6(nr, a, b, c, d, e, f) sys6(nr, L(a), L(b), L(c), L(d), L(e), L(f))
#define sys4(nr, a, b, c, d) sys6(nr, a, b, c, d, 0, 0)
#define sys5(nr, a, b, c, d, e) sys6(nr, a, b, c, d, e, 0)

enum {
	ENOENT = 2, ESRCH = 3, EINTR = 4, EAGAIN = 11, ENOMEM = 12, EBUSY = 16, EEXIST = 17, EINVAL = 22, EPIPE = 32, EPROTO = 71, ENOBUFS = 105,
	ETOOMANYREFS = 109,
};

enum {
	AF_UNIX = 1, SOCK_STREAM = 1, SOCK_NONBLOCK = 04000, SOCK_CLOEXEC = 02000000, SOL_SOCKET = 1, SCM_RIGHTS = 1,
	MSG_NOSIGNAL = 0x4000, MSG_CMSG_CLOEXEC = 0x40000000,
	O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_NONBLOCK = 04000, O_CLOEXEC = 02000000, F_SETFL = 4, AT_REMOVEDIR = 0x200,
	PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_FIXED_NOREPLACE = 0x100000,
	FUTEX_WAIT = 0, FUTEX_WAKE = 1, CLOCK_MONOTONIC = 1,
	SIGKILL = 9, SIGCHLD = 17, SIG_SETMASK = 2, SIG_IGN = 1, SFD_CLOEXEC = O_CLOEXEC, SFD_NONBLOCK = O_NONBLOCK,
	WNOHANG = 1, WEXITED = 4, WNOWAIT = 0x1000000, P_PID = 1,
	PR_SET_PDEATHSIG = 1, PR_SET_DUMPABLE = 4, PR_SET_NAME = 15, RLIMIT_NOFILE = 7,
	POLLIN = 1, POLLOUT = 4, POLLERR = 8, POLLHUP = 16, EPOLLIN = 1, EPOLL_CTL_ADD = 1, EPOLL_CLOEXEC = O_CLOEXEC,
};

#if defined(__aarch64__)
enum { O_DIRECTORY = 040000 };
#else
enum { O_DIRECTORY = 0200000 };
#endif

#define CLONE_FILES 0x400ULL
#define CLONE_PIDFD 0x1000ULL
#define CLONE_NEWUSER 0x10000000ULL
#define CLONE_NEWPID 0x20000000ULL
#define CLONE_INTO_CGROUP 0x200000000ULL

struct clone_args { /* linux/sched.h, version 2 */
	u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

struct timespec { s64 sec, nsec; };
struct pollfd { s32 fd; u16 events, revents; };
struct rlimit { u64 cur, max; };
struct iovec { void *base; size_t len; };
struct epoll_event { u32 events; u64 data; } EPOLL_PACKED;
struct sigaction { u64 handler, flags, restorer, mask; };

struct msghdr {
	void *name;
	u32 namelen;
	struct iovec *iov;
	size_t iovlen;
	void *control;
	size_t controllen;
	u32 flags;
};

struct cmsghdr { size_t len; s32 level, type; };

static inline u32 load(const u32 *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
static inline void store(u32 *p, u32 v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }

static inline void close_fd(int fd) { sys1(NR_close, fd); }

__attribute__((noreturn)) static inline void leave(int code)
{
	for (;;)
		sys1(NR_exit_group, code);
}

static inline void sleep_ms(u32 ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	sys2(NR_nanosleep, &t, 0);
}

static inline s64 now(void)
{
	struct timespec t;

	sys2(NR_clock_gettime, CLOCK_MONOTONIC, &t);
	return t.sec * 1000000000L + t.nsec;
}

/*
 * fork is fork(2) with flags; a child in the cgroup that cgroup is open on when that is not negative. tids has a pid for each of
 * count pid namespaces, the innermost first (clone(2), set_tid).
 */
static inline int fork_as(u64 flags, int cgroup, int *pidfd, const s32 *tids, u64 count)
{
	struct clone_args a = { .flags = flags, .exit_signal = SIGCHLD, .pidfd = (u64)pidfd, .set_tid = (u64)tids, .set_tid_size = count };

	if (cgroup >= 0) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = cgroup;
	}
	return sys2(NR_clone3, &a, sizeof a);
}

static inline int fork_with(u64 flags, int cgroup, int *pidfd) { return fork_as(flags, cgroup, pidfd, 0, 0); }

#endif
