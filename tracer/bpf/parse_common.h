/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The packet that nearly every packet is: Ethernet without a tag in the frame,
 * IPv4 without options or IPv6 without extension headers, TCP, all of it
 * readable and with lengths that agree. Everything is at a fixed place then, so
 * this costs a handful of comparisons. Whatever is otherwise, or wrong, is left
 * to the parsers of link, network and TCP headers, which say what it is.
 */
#ifndef TFOTRACE_PARSE_COMMON_H
#define TFOTRACE_PARSE_COMMON_H

#include "parse_tcp.h"

#define ETHERNET_LEN 14

/* Offsets and values as they lie in the packet; both architectures are little endian. */
#define ETHERTYPE_IPV4_RAW __builtin_bswap16(ETHERTYPE_IPV4)
#define ETHERTYPE_IPV6_RAW __builtin_bswap16(ETHERTYPE_IPV6)
#define IPV4_FRAGMENT_OFFSET_RAW __builtin_bswap16(IPV4_FRAGMENT_OFFSET)

static __always_inline int common_tcp(struct cursor *c, struct headers *h, __u8 *tcp, __u64 tci)
{
	__u64 header_len = tcp_header_len(tcp);

	if (header_len < TCP_HEADER_LEN || header_len > h->l4_len)
		return 0;
	h->tcp = tcp;
	h->ip_extra = 0;
	h->vlans = tci & VLAN_VID_MASK;
	c->pos = tcp + TCP_HEADER_LEN;
	return 1;
}

/* Returns whether it is such a packet; `c` is at the start of the frame and left at the TCP options. */
static __always_inline int common_ipv4(struct cursor *c, struct headers *h, enum length_rule rule, __u64 tci)
{
	__u8 *eth = c->pos;
	__u8 *ip = eth + ETHERNET_LEN;
	__u64 total;

	if ((void *)(ip + 20 + TCP_HEADER_LEN) > c->end || load_u16(eth + 12) != ETHERTYPE_IPV4_RAW || ip[0] != 0x45 ||
	    ip[9] != IP_PROTOCOL_TCP || load_u16(ip + 6) & IPV4_FRAGMENT_OFFSET_RAW)
		return 0;
	total = load_be16(ip + 2);
	if (total < 20 + TCP_HEADER_LEN || (rule == LENGTH_WITHIN_FRAME && total > h->l3_len - ETHERNET_LEN))
		return 0;
	h->family = 4;
	h->ip = ip;
	h->l4_len = total - 20;
	return common_tcp(c, h, ip + 20, tci);
}

static __always_inline int common_ipv6(struct cursor *c, struct headers *h, enum length_rule rule, __u64 tci)
{
	__u8 *eth = c->pos;
	__u8 *ip = eth + ETHERNET_LEN;
	__u64 remaining;

	if ((void *)(ip + 40 + TCP_HEADER_LEN) > c->end || load_u16(eth + 12) != ETHERTYPE_IPV6_RAW ||
	    ip[0] >> 4 != 6 || ip[6] != IP_PROTOCOL_TCP)
		return 0;
	remaining = load_be16(ip + 4);
	if (remaining < TCP_HEADER_LEN || (rule == LENGTH_WITHIN_FRAME && remaining > h->l3_len - ETHERNET_LEN - 40))
		return 0;
	h->family = 6;
	h->ip = ip;
	h->l4_len = remaining;
	return common_tcp(c, h, ip + 40, tci);
}

#endif
