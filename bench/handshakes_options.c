// SPDX-License-Identifier: MIT
/* The command line of the load generator. */
#define _GNU_SOURCE
#include "handshakes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options opt = {
	.sources = 1,
	.port = 7000,
	.count = 10000,
	.processes = 1,
	.window = 64,
	.client_cpu = -1,
	.server_cpu = -1,
};

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("handshakes: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
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

void parse_options(int argc, char **argv)
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
		{"rate", required_argument, NULL, 'r'},
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
		case 'r':
			opt.rate = number_of(optarg, 1, 1000000);
			break;
		default:
			exit(2);
		}
	}
	if (!opt.server.any.sa_family || opt.server.any.sa_family != opt.client.any.sa_family)
		die("--server and --client take addresses of the same family");
	if (opt.split && opt.rate)
		die("--rate is for processes that play both ends, without --split");
}
