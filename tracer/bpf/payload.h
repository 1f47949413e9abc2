/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Sends the first SYN's payload to the second ring. */
#ifndef TFOTRACE_PAYLOAD_H
#define TFOTRACE_PAYLOAD_H

#include "state.h"

/* Fills in the header of the payload record; returns how many bytes of payload to copy after it. */
static __always_inline __u32 begin_payload(struct payload_event *p, const struct scratch *sc)
{
	__u32 available = sc->frame_len > sc->payload_offset ? sc->frame_len - sc->payload_offset : 0;
	__u32 len = sc->segment.payload_len;

	p->id = sc->id;
	p->syn_ns = sc->segment.now_ns;
	p->ifindex = sc->ifindex;
	p->len = len > 0xffff ? 0xffff : len;
	if (len > available)
		len = available;
	if (len > PAYLOAD_MAX)
		len = PAYLOAD_MAX;
	p->captured = len;
	return len;
}

#define CHUNK 64

/* XDP has no helper for this before 5.18: copies whole chunks here, the rest byte by byte below. */
static __always_inline void copy_chunks(struct payload_event *p, const __u8 *from, const void *end, __u32 len,
					volatile __u32 *copied)
{
	*copied = 0;
	NO_UNROLL
	for (int i = 0; i < PAYLOAD_MAX / CHUNK; i++) {
		const __u8 *chunk = from + i * CHUNK;

		if ((i + 1) * CHUNK > len || (const void *)(chunk + CHUNK) > end)
			break;
		__builtin_memcpy(p->data + i * CHUNK, chunk, CHUNK);
		*copied = (i + 1) * CHUNK;
	}
}

static __always_inline void copy_rest(struct payload_event *p, const __u8 *from, const void *end, __u32 len,
				      volatile __u32 *copied)
{
	NO_UNROLL
	for (int i = 0; i < CHUNK - 1; i++) {
		__u32 done = *copied;
		const __u8 *byte;

		if (done >= len || done >= PAYLOAD_MAX)
			break;
		byte = from + done;
		asm volatile("" : "+r"(byte)); /* else the compiler compares end + 1, which the verifier rejects */
		if ((const void *)(byte + 1) > end)
			break;
		p->data[done] = *byte;
		*copied = done + 1;
	}
}

#endif
