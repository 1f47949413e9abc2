// SPDX-License-Identifier: MIT
/*
 * Sends TCP SYNs from random addresses and ports on an interface through a
 * packet socket, bypassing its queue and its egress programs: a tracer at the
 * other end of the veth sees them at ingress.
 *
 * Usage: flood INTERFACE TARGET_MAC TARGET_ADDRESS TARGET_PORT RATE SECONDS
 * RATE is in packets per second, 0 is the maximum. With an unknown MAC the
 * target's stack drops them after its ingress hook. Prints packets sent,
 * failures and seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define OPTIONS 20

struct frame {
	struct ether_header ether;
	struct iphdr ip;
	struct tcphdr tcp;
	uint8_t options[OPTIONS];
} __attribute__((packed));

static const uint8_t options[OPTIONS] = {2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7};
static struct frame frames[BATCH];
static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];
static volatile sig_atomic_t stopped;

static uint64_t state = 88172645463325252ULL;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static uint16_t sum(const void *data, size_t length, uint32_t start)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < length; i += 2)
		start += bytes[i] << 8 | bytes[i + 1];
	while (start >> 16)
		start = (start & 0xffff) + (start >> 16);
	return htons(~start & 0xffff);
}

static void fill(struct frame *f, const struct ether_addr *to, uint32_t address, int port)
{
	memcpy(f->ether.ether_dhost, to, 6);
	memcpy(f->ether.ether_shost, "\2\0\0\0\0\1", 6);
	f->ether.ether_type = htons(ETHERTYPE_IP);
	f->ip = (struct iphdr){.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .daddr = address};
	f->ip.tot_len = htons(sizeof(*f) - sizeof(f->ether));
	f->tcp = (struct tcphdr){.syn = 1, .doff = 5 + OPTIONS / 4, .dest = htons(port), .window = htons(64240)};
	memcpy(f->options, options, OPTIONS);
}

/* Another client: an address outside 10/8, 127/8 and multicast, with valid checksums. */
static void change(struct frame *f)
{
	uint64_t a = next_random(), b = next_random();
	uint8_t pseudo[12];

	f->ip.saddr = htonl(((11 + (a >> 32) % 100) << 24) | (a & 0xffffff));
	f->ip.check = 0;
	f->ip.check = sum(&f->ip, sizeof(f->ip), 0);
	f->tcp.source = htons(1024 + (b & 0x7fff));
	f->tcp.seq = b >> 32;
	f->tcp.check = 0;
	memcpy(pseudo, &f->ip.saddr, 8);
	pseudo[8] = 0;
	pseudo[9] = IPPROTO_TCP;
	pseudo[10] = 0;
	pseudo[11] = sizeof(f->tcp) + OPTIONS;
	f->tcp.check = sum(&f->tcp, sizeof(f->tcp) + OPTIONS, (uint16_t)~ntohs(sum(pseudo, sizeof(pseudo), 0)));
}

int main(int argc, char **argv)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET};
	double began, rate, seconds, passed;
	const struct ether_addr *to;
	long sent = 0, failed = 0;
	uint32_t address;
	int fd, one = 1;

	if (argc != 7 || !(at.sll_ifindex = if_nametoindex(argv[1])) || !(to = ether_aton(argv[2])) ||
	    !inet_pton(AF_INET, argv[3], &address)) {
		fputs("usage: flood INTERFACE TARGET_MAC TARGET_ADDRESS TARGET_PORT RATE SECONDS\n", stderr);
		return 2;
	}
	rate = atof(argv[5]);
	seconds = atof(argv[6]);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one))) {
		perror("flood");
		return 1;
	}
	state ^= (uint64_t)getpid() << 32; /* several floods at once must not have the same clients */
	signal(SIGTERM, stop);
	signal(SIGINT, stop);
	for (int i = 0; i < BATCH; i++) {
		fill(&frames[i], to, address, atoi(argv[4]));
		parts[i] = (struct iovec){.iov_base = &frames[i], .iov_len = sizeof(frames[i])};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
	}
	began = now();
	while (!stopped && (passed = now() - began) < seconds) {
		if (rate > 0 && sent > passed * rate) {
			struct timespec nap = {.tv_nsec = 200000};

			nanosleep(&nap, NULL);
			continue;
		}
		for (int i = 0; i < BATCH; i++)
			change(&frames[i]);
		for (int done = 0; done < BATCH;) {
			int n = sendmmsg(fd, messages + done, BATCH - done, 0);

			if (n <= 0) {
				failed++;
				n = 1;
			} else {
				sent += n;
			}
			done += n;
		}
	}
	printf("%ld %ld %.3f\n", sent, failed, now() - began);
	return 0;
}
