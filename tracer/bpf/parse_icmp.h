/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* ICMP and ICMPv6 errors (RFC 792, RFC 4443) that can refuse a SYN, and the SYN that they quote. */
#ifndef TFOTRACE_PARSE_ICMP_H
#define TFOTRACE_PARSE_ICMP_H

#include "parse_ip.h"

#define ICMP_UNREACHABLE 3
#define ICMP_FRAGMENTATION_NEEDED 4 /* code */
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_PARAMETER_PROBLEM 4

/* Frag-needed and packet-too-big do not refuse: the client sends a smaller or a bare SYN. */
static __always_inline int icmp_refuses(__u8 family, __u8 type, __u8 code)
{
	if (family == 4)
		return (type == ICMP_UNREACHABLE && code != ICMP_FRAGMENTATION_NEEDED) || type == ICMP_TIME_EXCEEDED ||
		       type == ICMP_PARAMETER_PROBLEM;
	return type == ICMPV6_UNREACHABLE || type == ICMPV6_TIME_EXCEEDED || type == ICMPV6_PARAMETER_PROBLEM;
}

/*
 * The cursor is at the ICMP header. Replaces `h` by the headers of the quoted
 * packet, with 8 readable bytes of its TCP header (ports and sequence number).
 */
static __always_inline int parse_icmp(struct cursor *c, struct headers *h, __u8 *type, __u8 *code, struct opaque *o)
{
	__u8 *icmp = c->pos;
	__u8 *quoted;
	int result;

	if ((void *)(icmp + 8) > c->end || h->l4_len < 8)
		return PARSED_OTHER;
	*type = icmp[0];
	*code = icmp[1];
	if (!icmp_refuses(h->family, *type, *code))
		return PARSED_OTHER;
	c->pos = icmp + 8;
	h->l3_len = h->l4_len - 8;
	result = parse_ip(c, h, LENGTH_MAY_BE_CUT, o);
	if (result != PARSED_TCP)
		return PARSED_OTHER;
	quoted = c->pos;
	if ((void *)(quoted + 8) > c->end)
		return PARSED_OTHER;
	h->tcp = quoted;
	return PARSED_TCP;
}

#endif
