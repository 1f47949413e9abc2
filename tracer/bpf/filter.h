/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * --filter: which first SYNs open a handshake? Between the stages every SYN
 * passes a program that tracer/loader/filter_program.py makes from tcpdump's
 * expression. It says in struct filter_state whether the SYN is wanted and calls
 * the second stage, which then does everything but open a handshake. Without
 * FILTER defined, this costs packets nothing.
 */
#ifndef TFOTRACE_FILTER_H
#define TFOTRACE_FILTER_H

#include "state.h"

/* Written by the filter program, read by the second stage on the same CPU. */
struct filter_state {
	__u32 unwanted;
	__u32 offset;  /* only for the filter program, like the rest */
	__u8 head[24]; /* the packet's first bytes, with a removed tag back in its place */
};

#ifdef FILTER

/* The stage for a segment that the first stage has read. */
static __always_inline int stage_of_segment(const struct segment *s)
{
	return (s->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN ? STAGE_FILTER : STAGE_PAIR;
}

static __always_inline int stage_by_link(int stage, int no_link_header)
{
	return stage == STAGE_FILTER && no_link_header ? STAGE_FILTER_NO_LINK : stage;
}

static __always_inline int is_filter(int stage)
{
	return stage == STAGE_FILTER || stage == STAGE_FILTER_NO_LINK;
}

#else

static __always_inline int stage_of_segment(const struct segment *s)
{
	(void)s;
	return STAGE_PAIR;
}

static __always_inline int stage_by_link(int stage, int no_link_header)
{
	(void)no_link_header;
	return stage;
}

#endif

#endif
