// SPDX-License-Identifier: MIT
/*
 * Makes TCP handshakes as fast as this machine can: each process opens its
 * listener in one network namespace and its clients in another. A share of
 * them uses TCP Fast Open with data in the SYN (RFC 7413).
 *
 * By default a process plays both ends on one CPU, one connection after the
 * other. With --split the two ends are processes of their own, each on its CPU,
 * and many connections are under way at once.
 *
 * The server answers with one byte; the client then closes by RST, so that no
 * port waits in TIME_WAIT. What was done is printed as one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 64
#define PAYLOAD_MAX 4096
#define BACKLOG 4096
#define PATIENCE_MS 10000
#define WINDOW_MAX 1024

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
	int window; /* connections under way at once, with --split */
	int split;
	int client_cpu;
	int server_cpu;
	char payload[PAYLOAD_MAX];
	size_t payload_len;
};

/* Of one process; shared with the parent, who adds them up. */
struct tally {
	long connections;
	long tfo;      /* of connections: by MSG_FASTOPEN */
	long answered; /* of connections: the server's byte came */
	long failed;
};

static struct options opt = {
	.sources = 1,
	.port = 7000,
	.count = 10000,
	.processes = 1,
	.window = 64,
	.client_cpu = -1,
	.server_cpu = -1,
};

static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("handshakes: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void enter(const char *ns)
{
	int fd;

	if (!ns)
		return;
	fd = open(ns, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die("cannot enter %s: %s", ns, strerror(errno));
	close(fd);
}

static void pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("cannot run on CPU %d: %s", cpu, strerror(errno));
}

static socklen_t length_of(const union address *a)
{
	return a->any.sa_family == AF_INET ? sizeof(a->v4) : sizeof(a->v6);
}

static void set_port(union address *a, int port)
{
	if (a->any.sa_family == AF_INET)
		a->v4.sin_port = htons(port);
	else
		a->v6.sin6_port = htons(port);
}

/* The client address of connection number `n`. */
static union address source(long n)
{
	union address a = opt.client;
	/* seven in a row, so that every address meets both kinds of handshake */
	unsigned int step = n / 7 % opt.sources;

	if (a.any.sa_family == AF_INET)
		a.v4.sin_addr.s_addr = htonl(ntohl(a.v4.sin_addr.s_addr) + step);
	else
		a.v6.sin6_addr.s6_addr[15] += step;
	return a;
}

/* Fast Open shares spread evenly, whatever the share. */
static int wants_tfo(long n)
{
	return (n + 1) * opt.tfo_percent / 100 != n * opt.tfo_percent / 100;
}

static int listen_at(int port)
{
	union address a = opt.server;
	int on = 1, queue = BACKLOG;
	int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	set_port(&a, port);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue)) || bind(fd, &a.any, length_of(&a)) ||
	    listen(fd, BACKLOG))
		die("cannot listen on port %d: %s", port, strerror(errno));
	return fd;
}

/* A client on its way: the SYN has left when this returns. -1 if it could not. */
static int begin(long n, int port, struct tally *t)
{
	union address from = source(n), to = opt.server;
	int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct linger abort_at_close = {.l_onoff = 1, .l_linger = 0};
	int on = 1;
	long sent;

	if (fd < 0)
		die("cannot open a socket: %s", strerror(errno));
	set_port(&to, port);
	if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_at_close, sizeof(abort_at_close)) ||
	    bind(fd, &from.any, length_of(&from)))
		die("cannot use the client address: %s", strerror(errno));
	t->connections++;
	if (wants_tfo(n)) {
		t->tfo++;
		sent = sendto(fd, opt.payload, opt.payload_len, MSG_FASTOPEN | MSG_NOSIGNAL, &to.any, length_of(&to));
	} else {
		sent = connect(fd, &to.any, length_of(&to));
	}
	if (sent < 0 && errno != EINPROGRESS) {
		t->failed++;
		close(fd);
		return -1;
	}
	return fd;
}

static int wait_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, PATIENCE_MS) > 0;
}

static void finish(int fd, struct tally *t)
{
	char answer[16];
	ssize_t got = recv(fd, answer, sizeof(answer), 0);

	/* mostly it is there at once: one CPU has done it all before send() returned */
	if (got < 0 && errno == EAGAIN && wait_readable(fd))
		got = recv(fd, answer, sizeof(answer), 0);
	if (got == 1)
		t->answered++;
	else
		t->failed++;
	close(fd);
}

static int answer(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		send(fd, "!", 1, MSG_NOSIGNAL);
	return fd;
}

/* Both ends in this process, one connection after the other. */
static void run_both(int port, long first, long count, struct tally *t)
{
	int listener, client, server;

	enter(opt.server_ns);
	listener = listen_at(port);
	enter(opt.client_ns);
	for (long n = first; n < first + count; n++) {
		client = begin(n, port, t);
		if (client < 0)
			continue;
		server = answer(listener);
		if (server < 0 && wait_readable(listener))
			server = answer(listener);
		if (server < 0) {
			t->failed++;
			close(client);
			continue;
		}
		finish(client, t);
		close(server);
	}
}

/* The server of a split pair: answers every connection and keeps it until the client has left. */
static void serve(int listener)
{
	int poller = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ready[256], want = {.events = EPOLLIN, .data.fd = listener};

	if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &want))
		die("epoll: %s", strerror(errno));
	for (;;) {
		int found = epoll_wait(poller, ready, 256, -1);

		for (int i = 0; i < found; i++) {
			int fd = ready[i].data.fd;

			if (fd != listener) {
				close(fd);
				continue;
			}
			while ((fd = answer(listener)) >= 0) {
				/* RST shows as EPOLLHUP, which is always reported */
				want = (struct epoll_event){.events = EPOLLRDHUP, .data.fd = fd};
				epoll_ctl(poller, EPOLL_CTL_ADD, fd, &want);
			}
		}
	}
}

/* The clients of a split pair: `opt.window` connections are under way at once. */
static void request(int port, long first, long count, struct tally *t)
{
	int poller = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ready[WINDOW_MAX], want;
	long next = first, end = first + count;
	int under_way = 0;

	if (poller < 0)
		die("epoll: %s", strerror(errno));
	while (next < end || under_way) {
		int found;

		while (next < end && under_way < opt.window) {
			int fd = begin(next++, port, t);

			if (fd < 0)
				continue;
			want = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
			epoll_ctl(poller, EPOLL_CTL_ADD, fd, &want);
			under_way++;
		}
		found = epoll_wait(poller, ready, WINDOW_MAX, PATIENCE_MS);
		if (found <= 0) {
			t->failed += under_way;
			return;
		}
		for (int i = 0; i < found; i++) {
			finish(ready[i].data.fd, t);
			under_way--;
		}
	}
}

static void run_split(int port, long first, long count, struct tally *t)
{
	pid_t server;
	int listener;

	enter(opt.server_ns);
	listener = listen_at(port);
	server = fork();
	if (server < 0)
		die("cannot fork: %s", strerror(errno));
	if (!server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(opt.server_cpu);
		serve(listener);
	}
	close(listener);
	enter(opt.client_ns);
	pin(opt.client_cpu);
	request(port, first, count, t);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
}

static void run_process(int number, struct tally *t)
{
	long share = opt.count / opt.processes, rest = opt.count % opt.processes;
	long first = number * share + (number < rest ? number : rest);
	long count = share + (number < rest);

	if (opt.split) {
		run_split(opt.port + number, first, count, t);
	} else {
		pin(number % (int)sysconf(_SC_NPROCESSORS_ONLN));
		run_both(opt.port + number, first, count, t);
	}
}

static void parse_address(const char *text, union address *a)
{
	memset(a, 0, sizeof(*a));
	if (inet_pton(AF_INET, text, &a->v4.sin_addr) == 1)
		a->v4.sin_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &a->v6.sin6_addr) == 1)
		a->v6.sin6_family = AF_INET6;
	else
		die("\"%s\" is no address", text);
}

static void read_payload(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, opt.payload, sizeof(opt.payload));

	if (got <= 0)
		die("cannot read %s", path);
	opt.payload_len = got;
	close(fd);
}

static long number_of(const char *text, long least, long most)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (end == text || *end || value < least || value > most)
		die("\"%s\" is no number from %ld to %ld", text, least, most);
	return value;
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{"server-ns", required_argument, NULL, 'S'},
		{"client-ns", required_argument, NULL, 'C'},
		{"server", required_argument, NULL, 's'},
		{"client", required_argument, NULL, 'c'},
		{"sources", required_argument, NULL, 'n'},
		{"port", required_argument, NULL, 'p'},
		{"count", required_argument, NULL, 'k'},
		{"processes", required_argument, NULL, 'j'},
		{"tfo-percent", required_argument, NULL, 't'},
		{"payload", required_argument, NULL, 'd'},
		{"split", no_argument, NULL, 'x'},
		{"window", required_argument, NULL, 'w'},
		{"client-cpu", required_argument, NULL, 'a'},
		{"server-cpu", required_argument, NULL, 'b'},
		{},
	};
	int key;

	while ((key = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (key) {
		case 'S':
			opt.server_ns = optarg;
			break;
		case 'C':
			opt.client_ns = optarg;
			break;
		case 's':
			parse_address(optarg, &opt.server);
			break;
		case 'c':
			parse_address(optarg, &opt.client);
			break;
		case 'n':
			opt.sources = number_of(optarg, 1, 200);
			break;
		case 'p':
			opt.port = number_of(optarg, 1, 65000);
			break;
		case 'k':
			opt.count = number_of(optarg, 1, 1000000000);
			break;
		case 'j':
			opt.processes = number_of(optarg, 1, PROCESSES_MAX);
			break;
		case 't':
			opt.tfo_percent = number_of(optarg, 0, 100);
			break;
		case 'd':
			read_payload(optarg);
			break;
		case 'x':
			opt.split = 1;
			break;
		case 'w':
			opt.window = number_of(optarg, 1, WINDOW_MAX);
			break;
		case 'a':
			opt.client_cpu = number_of(optarg, 0, 4095);
			break;
		case 'b':
			opt.server_cpu = number_of(optarg, 0, 4095);
			break;
		default:
			exit(2);
		}
	}
	if (!opt.server.any.sa_family || opt.server.any.sa_family != opt.client.any.sa_family)
		die("--server and --client take addresses of the same family");
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct tally *tallies, sum = {};
	int status, broken = 0;
	double began, took;

	memset(opt.payload, 'x', 100);
	opt.payload_len = 100;
	parse_options(argc, argv);
	tallies =
		mmap(NULL, sizeof(*tallies) * PROCESSES_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tallies == MAP_FAILED)
		die("no memory");
	began = seconds_now();
	for (int i = 0; i < opt.processes; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("cannot fork: %s", strerror(errno));
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			run_process(i, &tallies[i]);
			exit(0);
		}
	}
	while (wait(&status) > 0)
		broken |= status;
	took = seconds_now() - began;
	for (int i = 0; i < opt.processes; i++) {
		sum.connections += tallies[i].connections;
		sum.tfo += tallies[i].tfo;
		sum.answered += tallies[i].answered;
		sum.failed += tallies[i].failed;
	}
	printf("{\"connections\":%ld,\"tfo\":%ld,\"answered\":%ld,\"failed\":%ld,\"seconds\":%.6f,\"rate\":%.0f}\n",
	       sum.connections, sum.tfo, sum.answered, sum.failed, took, sum.connections / took);
	return broken ? 1 : 0;
}
