/* SPDX-License-Identifier: MIT */
/*
 * BPF_PROG_TEST_RUN repeats one frame, but a handshake has several. This program
 * runs before the measured one: each time it turns the frame into the next segment
 * - the first of every connection, then the second of every one, and so on, then
 * from the beginning - and calls the measured program by tail call. Running it
 * with an empty program shows its own cost.
 */
#include "types.h"

#define HEADERS_LEN 96 /* Ethernet, IPv4 and TCP with all options of these segments */
#define CLIENT_PORTS 32768
#define FIRST_PORT 1024
#define SEGMENTS_MAX 5

/* The low half of an address and a port, in untagged IPv4 frames. */
#define SOURCE_ADDRESS 28
#define SOURCE_PORT 34
#define DESTINATION_ADDRESS 32
#define DESTINATION_PORT 36

struct segment {
	__u8 bytes[HEADERS_LEN]; /* of connection 0 */
	__u64 from_client;
};

struct position {
	__u64 first; /* connection */
	__u64 count; /* connections */
	__u64 kinds; /* of segments[] */
	__u64 n;     /* connection after the first one */
	__u32 kind;
	__u32 pad;
};

/* Filled by user space. */
BPF_ARRAY(segments, struct segment, SEGMENTS_MAX);
/* Set by user space, advanced here. */
BPF_ARRAY(positions, struct position, 1);
BPF_PROG_ARRAY(tc_measured, 1);
BPF_PROG_ARRAY(xdp_measured, 1);

static __always_inline void write_segment(__u8 *frame, void *end)
{
	struct position *p;
	struct segment *s;
	__u16 address, port;
	__u64 n;
	__u32 kind;
	int zero = 0;

	p = positions.lookup(&zero);
	if (!p)
		return;
	n = p->first + p->n;
	kind = p->kind;
	p->n++;
	if (p->n >= p->count) {
		p->n = 0;
		p->kind = kind + 1 < p->kinds ? kind + 1 : 0;
	}
	s = segments.lookup(&kind);
	if (!s || (void *)(frame + HEADERS_LEN) > end)
		return;
#pragma clang loop unroll(full)
	for (int i = 0; i < HEADERS_LEN; i += 8)
		*(__u64 *)(frame + i) = *(__u64 *)(s->bytes + i);
	address = __builtin_bswap16(n / CLIENT_PORTS);
	port = __builtin_bswap16(FIRST_PORT + (n & (CLIENT_PORTS - 1)));
	if (s->from_client) {
		*(__u16 *)(frame + SOURCE_ADDRESS) = address;
		*(__u16 *)(frame + SOURCE_PORT) = port;
	} else {
		*(__u16 *)(frame + DESTINATION_ADDRESS) = address;
		*(__u16 *)(frame + DESTINATION_PORT) = port;
	}
}

int tc_walk(struct __sk_buff *skb)
{
	write_segment((void *)(long)skb->data, (void *)(long)skb->data_end);
	tc_measured.call(skb, 0);
	return -1;
}

int xdp_walk(struct xdp_md *ctx)
{
	write_segment((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	xdp_measured.call(ctx, 0);
	return 2;
}
