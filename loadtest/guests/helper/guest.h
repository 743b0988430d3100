/*
 * What the helper and the load generator share: the memory and the messages. shared.go and wire.go have the same in Go.
 */
#ifndef GUEST_H
#define GUEST_H

#include "sys.h"

/* Descriptors that the load generator gives. */
enum { EXE_FD = 3, CONTROL_FD = 4, DATA_FD = 5, SHARED_FD = 6, CGROUP_FD = 7 };

enum {
	WITH_CGROUP = 1,    /* CGROUP_FD is open on the directory to make cgroups in */
	WITH_SETGROUPS = 2, /* guests may call setgroups(2): they have maps of their own, written with privilege */
};

struct header {
	u32 flags;
	u32 count;    /* slots that follow */
	u32 addr_len; /* of the sockaddr_un below, 0 before there is one */
	u16 family;
	char path[110];
	char base[64]; /* "../NAME" of CGROUP_FD */
	char uid_map[32], gid_map[32];
	char reserved[4];
};

/* Steps of a guest's start, in slot.go: each side moves to the next and wakes the other. */
enum {
	GO_WAITING, /* guest: there, waits for its maps */
	GO_MAPPED,  /* spawner: the maps are written */
	GO_READY,   /* guest: root in its namespaces, or slot.error says why not */
	GO_SERVE,   /* spawner: alive after the guest had asked to die with it */
};

/* What a command has the guest do. CONNECT is done when its connections are made; the others go on until the next command. */
enum { JOB_CONNECT, JOB_FLOOD, JOB_PROBE, JOB_REST };

/* What a flood is made of: a process for each. */
enum { FLOOD_PIPELINE = 1, FLOOD_CONNECT = 2, FLOOD_SUBSCRIBE = 4, FLOOD_HALF = 8, FLOODS = 4 };

enum { SECRET_LEN = 32 };

struct job {
	u32 kind;
	u32 mix;         /* flood: of FLOOD_*; probe: number of processes */
	u32 connections; /* flood: that each process holds */
	u32 pipeline;    /* flood: requests that a connection sends at once */
	u32 period;      /* ns from one connection of a process to its next; 0: as fast as it goes */
	u32 settled;     /* probe: other than 0 while the server knows this container; another number each time */
	u32 reserved[2];
	char secret[SECRET_LEN]; /* probe: what this container is answered */
};

/* What is counted, in slot.counts. */
enum {
	COUNT_CONNECTED,      /* connections */
	COUNT_NO_CONNECT,     /* connect(2) failed */
	COUNT_RIGHT,          /* answers: 200 and, of a probe, with the secret */
	COUNT_REFUSED,        /* 401, 403 or 500; of a probe while it was not settled */
	COUNT_CUT,            /* connections closed by the server; of a probe while it was not settled */
	COUNT_EXITED_RIGHT,   /* as RIGHT, of a peer that had exited before */
	COUNT_EXITED_REFUSED, /* as REFUSED or CUT, of a peer that had exited before */
	COUNT_WRONG,          /* probe: 200 with anything else than the secret */
	COUNT_DENIED,         /* probe: refused while settled */
	COUNT_DROPPED,        /* probe: closed while settled */
	COUNT_BROKEN,         /* probe: another status, or no HTTP */
	COUNT_UNANSWERED,     /* probe: nothing came for ANSWER_MS */
	COUNTS,
};

struct slot {
	u32 seq;   /* load generator: number of the newest command; a futex */
	u32 count; /* load generator: connections that it asks for */
	u32 go;    /* a futex */
	u32 error;
	s32 pid;   /* spawner: its child that runs, or 0 */
	s32 pidfd; /* spawner: on an attached guest that runs, or 0 */
	u32 done;  /* guest: number of the newest command before which all processes of jobs had ended */
	u32 reserved;
	struct job job;
	u64 counts[COUNTS]; /* guest: grow over all its lives */
	char wrong[64];     /* guest: the first answer that was wrong, cut off */
};

_Static_assert(offsetof(struct header, path) == 14 && offsetof(struct header, base) == 124, "fields");
_Static_assert(sizeof(struct header) == 256, "header");
_Static_assert(sizeof(struct job) == 64 && sizeof(struct slot) == 256, "slot");

/*
 * The memory is at a fixed address, so that nothing has to keep a pointer to it: a program without variables has no page that
 * each guest would get a copy of. Only pages with slots are ever there.
 */
#define HEADER ((struct header *)0x40000000UL)
#define SLOTS ((struct slot *)(HEADER + 1))
#define SHARED_SIZE (512UL << 20)

/* Control socket, load generator to spawner. */
enum {
	OP_START = 1,  /* count guests from first on; one may be given the pid that it has to have here, if that is free */
	OP_STOP = 2,   /* guest first */
	OP_ATTACH = 3, /* guest first, with a pidfd on the container's init and, if count is 1, its cgroup's directory */
};

struct command { u32 op, first, count, pid; };

/* Control socket, spawner to load generator. An attached guest that has started comes with a pidfd on it. */
enum { SAY_STARTED = 1, SAY_STOPPED = 2, SAY_DIED = 3 };

struct report { u32 kind, index; s32 pid, error; };

/* Data socket, guest to load generator: up to BATCH connections, with a descriptor of each that has no error. */
enum { BATCH = 64, LAST_OF_COMMAND = 1 };

struct record_head { u32 index, seq, count, flags; };
struct record_conn { s64 start; s32 error; u32 reserved; };
struct record { struct record_head head; struct record_conn conn[BATCH]; };

struct batch {
	struct record record;
	struct { struct cmsghdr head; s32 fd[BATCH]; } rights;
	u32 fds;
};

__attribute__((noreturn)) void guest_main(u32 index, u32 seen, int attached);
__attribute__((noreturn)) void job_main(u32 index, u32 seq, u32 nth);
void futex_wake(u32 *word);
int futex_wait(u32 *word, u32 old, u32 ms);
long send_with(int socket, void *data, size_t len, void *rights, u32 fds);

#endif
