/* SPDX-License-Identifier: MIT */
/* Shared by the parts of the load generator. */
#ifndef BENCH_HANDSHAKES_H
#define BENCH_HANDSHAKES_H

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#define PROCESSES_MAX 64
#define PAYLOAD_MAX 4096
#define WINDOW_MAX 1024
#define BUCKETS 1024 /* of durations: 32 for each power of two nanoseconds */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

struct options {
	const char *server_ns;
	const char *client_ns;
	union address server;
	union address client;
	int sources; /* consecutive client addresses, in turn */
	int port;    /* of the first process, the others follow */
	long count;  /* handshakes of all processes together */
	int processes;
	int tfo_percent;
	int window; /* connections pending at once, with --split */
	int split;
	int client_cpu;
	int server_cpu;
	long rate; /* handshakes a second of all processes together, 0: as many as go */
	char payload[PAYLOAD_MAX];
	size_t payload_len;
};

/* Of one process; shared with the parent, who adds them up. */
struct tally {
	long connections;
	long tfo;      /* of connections: by MSG_FASTOPEN */
	long answered; /* of connections: the server's byte came */
	long failed;
	long took[BUCKETS]; /* of connections: how long each took, without --split (bucket_of) */
};

extern struct options opt;

__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
void parse_options(int argc, char **argv);

#endif
