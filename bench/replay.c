// SPDX-License-Identifier: MIT
/*
 * Sends frames of a file on an interface at given times, round after round,
 * through a packet socket, so they pass the interface's egress programs. In each
 * round every frame gets another client port and sequence number, so that no
 * connection comes twice.
 *
 * The file is a sequence of: u32 time within the round in ticks, ascending;
 * u16 length; u16 offset of the port; u16 offset of the number; u16 is it the
 * first frame of a connection; then the frame. The file is trusted.
 *
 * Usage: replay INTERFACE FILE TICK_US TICKS_OF_A_ROUND SECONDS
 * Prints a line every quarter of a second: connections started, frames that
 * could not be sent, ticks left out because the sender was late.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BURST 512
#define LATE_TICKS 50
#define PORT_LOWEST 1024
#define NUMBER_STEP 104729 /* larger than any payload */

struct entry {
	uint32_t tick;
	uint16_t length;
	uint16_t port_at;
	uint16_t number_at;
	uint16_t is_first;
	uint8_t frame[];
};

static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("replay: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static char *read_file(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	struct stat st;
	char *data;

	if (fd < 0 || fstat(fd, &st))
		die("cannot read %s: %s", path, strerror(errno));
	*size = st.st_size;
	data = malloc(*size);
	while (data && done < *size) {
		ssize_t got = read(fd, data + done, *size - done);

		if (got <= 0)
			die("cannot read %s", path);
		done += got;
	}
	close(fd);
	return data;
}

/* Makes it another connection for the next time. */
static void change(struct entry *e)
{
	uint32_t number;
	uint16_t port;

	memcpy(&port, e->frame + e->port_at, sizeof(port));
	port = ntohs(port) + 1;
	port = htons(port < PORT_LOWEST ? PORT_LOWEST : port);
	memcpy(e->frame + e->port_at, &port, sizeof(port));
	memcpy(&number, e->frame + e->number_at, sizeof(number));
	number = htonl(ntohl(number) + NUMBER_STEP);
	memcpy(e->frame + e->number_at, &number, sizeof(number));
}

static int open_socket(const char *interface)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(interface)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0 || !to.sll_ifindex || bind(fd, (struct sockaddr *)&to, sizeof(to)))
		die("cannot send on %s: %s", interface, strerror(errno));
	return fd;
}

static struct mmsghdr messages[BURST];
static struct iovec parts[BURST];
static struct entry *entries[BURST];

/* Sends `count` frames and changes them; returns how many could not be sent. */
static long flush(int fd, int count)
{
	long failed = 0;
	int done = 0;

	while (done < count) {
		int sent = sendmmsg(fd, messages + done, count - done, 0);

		if (sent <= 0) {
			failed++;
			sent = 1;
		}
		done += sent;
	}
	for (int i = 0; i < count; i++)
		change(entries[i]);
	return failed;
}

int main(int argc, char **argv)
{
	long begun = 0, failed = 0, left_out = 0, tick_ns, round, last, told = 0, offset = 0;
	struct timespec at;
	char *data, *place;
	size_t size;
	int fd;

	if (argc != 6)
		die("usage: replay INTERFACE FILE TICK_US TICKS_OF_A_ROUND SECONDS");
	fd = open_socket(argv[1]);
	data = place = read_file(argv[2], &size);
	tick_ns = atol(argv[3]) * 1000;
	round = atol(argv[4]);
	last = atol(argv[5]) * 1000000000L / tick_ns;
	if (!data || size < sizeof(struct entry) || tick_ns <= 0 || round <= 0)
		die("nothing to send");
	clock_gettime(CLOCK_MONOTONIC, &at);
	for (long tick = 0; tick < last; tick++) {
		struct timespec now;
		int count = 0;
		long late;

		for (;;) {
			struct entry *e = (struct entry *)place;

			if (place == data + size || (long)e->tick + offset > tick)
				break;
			parts[count] = (struct iovec){.iov_base = e->frame, .iov_len = e->length};
			messages[count].msg_hdr = (struct msghdr){.msg_iov = &parts[count], .msg_iovlen = 1};
			entries[count++] = e;
			begun += e->is_first;
			if (count == BURST) {
				failed += flush(fd, count);
				count = 0;
			}
			place += sizeof(*e) + ((e->length + 3) & ~3);
		}
		failed += flush(fd, count);
		if (place == data + size && tick + 1 == offset + round) {
			place = data;
			offset += round;
		}
		at.tv_nsec += tick_ns;
		while (at.tv_nsec >= 1000000000L) {
			at.tv_nsec -= 1000000000L;
			at.tv_sec++;
		}
		if ((tick + 1) * tick_ns / 250000000L > told) {
			told = (tick + 1) * tick_ns / 250000000L;
			printf("%ld %ld %ld\n", begun, failed, left_out);
			fflush(stdout);
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		late = ((now.tv_sec - at.tv_sec) * 1000000000L + now.tv_nsec - at.tv_nsec) / tick_ns;
		if (late > LATE_TICKS) { /* do not flood after a pause, which would distort the measurement */
			left_out += late;
			at = now;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	}
	return 0;
}
