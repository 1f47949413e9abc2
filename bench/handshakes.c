// SPDX-License-Identifier: MIT
/*
 * Makes TCP handshakes as fast as this machine can: each process opens its
 * listener in one network namespace and its clients in another. A share of
 * them uses TCP Fast Open with data in the SYN (RFC 7413).
 *
 * By default a process plays both ends on one CPU, one connection after the
 * other. With --split the two ends are separate processes, each on its CPU, and
 * many connections are pending at once. With --rate they come evenly spread, and
 * their durations are printed.
 *
 * The server answers with one byte; the client then closes by RST, so that no
 * port waits in TIME_WAIT. The result is printed as one line of JSON.
 */
#define _GNU_SOURCE
#include "handshakes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 4096
#define PATIENCE_MS 10000
#define NS 1000000000L

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

/* A child ends with its parent, even if the parent died before this call. */
static void end_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		exit(1);
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

/* Starts a client: the SYN has left when this returns; -1 if that failed. */
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

	/* mostly it is there at once: one CPU has done everything before send() returned */
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

static long nanoseconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS + now.tv_nsec;
}

static void sleep_until(long ns)
{
	struct timespec at = {.tv_sec = ns / NS, .tv_nsec = ns % NS};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

/* Buckets of durations: one for each value below 32 ns, then 32 for each power of two. */
static int bucket_of(long ns)
{
	int top = 63 - __builtin_clzl(ns | 1), bucket = ns;

	if (top >= 5)
		bucket = (top - 4) * 32 + (ns >> (top - 5) & 31);
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static long least_of(int bucket)
{
	return bucket < 32 ? bucket : (32L + bucket % 32) << (bucket / 32 - 1);
}

/* The duration in nanoseconds that `share` of the handshakes did not exceed, to within 3 %. */
static long percentile(const struct tally *t, double share)
{
	double left = 0;
	int bucket = 0;

	for (int i = 0; i < BUCKETS; i++)
		left += share * t->took[i];
	while (bucket < BUCKETS - 1 && (left -= t->took[bucket]) > 0)
		bucket++;
	return least_of(bucket);
}

/* Both ends in this process, one connection after the other. */
static void run_both(int port, long first, long count, struct tally *t)
{
	long begun = 0, at = 0, between = opt.rate ? NS * opt.processes / opt.rate : 0;
	int listener, client, server;

	enter(opt.server_ns);
	listener = listen_at(port);
	enter(opt.client_ns);
	if (opt.rate) {
		prctl(PR_SET_TIMERSLACK, 1);
		at = nanoseconds_now();
	}
	for (long n = first; n < first + count; n++) {
		if (opt.rate) {
			sleep_until(at += between);
			begun = nanoseconds_now();
		}
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
		if (opt.rate)
			t->took[bucket_of(nanoseconds_now() - begun)]++;
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

/* The clients of a split pair: `opt.window` connections are pending at once. */
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
	pid_t client = getpid(), server;
	int listener;

	enter(opt.server_ns);
	listener = listen_at(port);
	server = fork();
	if (server < 0)
		die("cannot fork: %s", strerror(errno));
	if (!server) {
		end_with(client);
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

static double seconds_of(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

static void add(struct tally *sum, const struct tally *t)
{
	sum->connections += t->connections;
	sum->tfo += t->tfo;
	sum->answered += t->answered;
	sum->failed += t->failed;
	for (int i = 0; i < BUCKETS; i++)
		sum->took[i] += t->took[i];
}

static void tell(const struct tally *sum, double took)
{
	struct rusage used;

	getrusage(RUSAGE_CHILDREN, &used);
	printf("{\"connections\":%ld,\"tfo\":%ld,\"answered\":%ld,\"failed\":%ld,\"seconds\":%.6f,\"rate\":%.0f",
	       sum->connections, sum->tfo, sum->answered, sum->failed, took, sum->connections / took);
	printf(",\"cpu_seconds\":%.6f", seconds_of(used.ru_utime) + seconds_of(used.ru_stime));
	if (opt.rate)
		printf(",\"median_us\":%.2f,\"p99_us\":%.2f", percentile(sum, 0.5) / 1e3, percentile(sum, 0.99) / 1e3);
	puts("}");
}

int main(int argc, char **argv)
{
	static struct tally sum;
	pid_t parent = getpid();
	struct tally *tallies;
	int status, broken = 0;
	double took;
	long began;

	memset(opt.payload, 'x', 100);
	opt.payload_len = 100;
	parse_options(argc, argv);
	tallies =
		mmap(NULL, sizeof(*tallies) * PROCESSES_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tallies == MAP_FAILED)
		die("no memory");
	began = nanoseconds_now();
	for (int i = 0; i < opt.processes; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("cannot fork: %s", strerror(errno));
		if (!pid) {
			end_with(parent);
			run_process(i, &tallies[i]);
			exit(0);
		}
	}
	while (wait(&status) > 0)
		broken |= status;
	took = (nanoseconds_now() - began) / (double)NS;
	for (int i = 0; i < opt.processes; i++)
		add(&sum, &tallies[i]);
	tell(&sum, took);
	return broken ? 1 : 0;
}
