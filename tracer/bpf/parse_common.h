/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Common packets, which nearly all are: Ethernet without a tag in the frame, IPv4
 * without options or IPv6 without extension headers, TCP or UDP, all of it
 * readable and with consistent lengths. Everything is at a fixed place then, so
 * this costs a handful of comparisons. All other packets, UDP that seems to be a
 * tunnel's and bad ones are left to the parsers of link, network and TCP headers.
 */
#ifndef TFOTRACE_PARSE_COMMON_H
#define TFOTRACE_PARSE_COMMON_H

#include "parse_tcp.h"

#define ETHERNET_LEN 14

/* Offsets and values in the packet's byte order; both architectures are little endian. */
#define ETHERTYPE_IPV6_RAW __builtin_bswap16(ETHERTYPE_IPV6)
/* Four bytes from the EtherType on: EtherType, version and header length, but not the TOS. */
#define IPV4_BEGINNING_MASK 0x00ffffff
#define IPV4_BEGINNING (__builtin_bswap16(ETHERTYPE_IPV4) | 0x45 << 16)
/* Four bytes from the fragment offset on: offset and protocol, but not the flags and the TTL. */
#define IPV4_TCP_MASK (0xff000000 | __builtin_bswap16(IPV4_FRAGMENT_OFFSET))
#define IPV4_TCP (IP_PROTOCOL_TCP << 24)

/* parse_common() returns this, PARSED_TCP or PARSED_OTHER. */
#define NOT_COMMON (-1)

static __always_inline int common_tcp(struct cursor *c, struct headers *h, __u8 *tcp)
{
	__u64 header_len;

	if ((void *)(tcp + TCP_HEADER_LEN) > c->end)
		return NOT_COMMON;
	header_len = tcp_header_len(tcp);
	/* signed: below zero if IPv4's total length is less than its header's */
	if (header_len < TCP_HEADER_LEN || (__s64)header_len > (__s64)h->l4_len)
		return NOT_COMMON;
	h->tcp = tcp;
	c->pos = tcp + TCP_HEADER_LEN;
	return PARSED_TCP;
}

/* The ports are readable. Of what is no UDP header at all, what stands in their place decides nothing. */
static __always_inline int common_udp(const __u8 *udp)
{
	return kind_of_udp(load_be16(udp + 2)) == PARSED_OTHER ? PARSED_OTHER : NOT_COMMON;
}

/* The fixed header is readable with what follows it, and has no options. */
static __always_inline int common_ipv4(struct cursor *c, struct headers *h, enum length_rule rule)
{
	__u8 *ip = c->pos;
	__u64 total, protocol;

	total = load_be16(ip + 2);
	if (rule == LENGTH_WITHIN_FRAME && total > h->l3_len)
		return NOT_COMMON;
	protocol = load_u32(ip + 6);
	if ((protocol & IPV4_TCP_MASK) != IPV4_TCP)
		return protocol >> 24 == IP_PROTOCOL_UDP && total >= 20 ? common_udp(ip + 20) : NOT_COMMON;
	h->family = 4;
	h->ip = ip;
	h->l4_len = total - 20;
	return common_tcp(c, h, ip + 20);
}

static __always_inline int common_ipv6(struct cursor *c, struct headers *h, enum length_rule rule)
{
	__u8 *ip = c->pos;
	__u64 remaining;

	if ((void *)(ip + 40 + PORTS_LEN) > c->end || ip[0] >> 4 != 6)
		return NOT_COMMON;
	remaining = load_be16(ip + 4);
	if (rule == LENGTH_WITHIN_FRAME && remaining + 40 > h->l3_len)
		return NOT_COMMON;
	if (ip[6] == IP_PROTOCOL_UDP)
		return common_udp(ip + 40);
	if (ip[6] != IP_PROTOCOL_TCP)
		return NOT_COMMON;
	h->family = 6;
	h->ip = ip;
	h->l4_len = remaining;
	return common_tcp(c, h, ip + 40);
}

/* Returns PARSED_TCP with the cursor at the options, PARSED_OTHER, or NOT_COMMON; else like parse_ethernet(). */
static __always_inline int parse_common(struct cursor *c, struct headers *h, enum length_rule rule, __u64 tci)
{
	__u8 *eth = c->pos;
	__u64 beginning;

	if ((void *)(eth + ETHERNET_LEN + 20 + PORTS_LEN) > c->end)
		return NOT_COMMON;
	beginning = load_u32(eth + 12);
	c->pos = eth + ETHERNET_LEN;
	h->l3_len -= ETHERNET_LEN;
	h->ip_extra = 0;
	h->vlans = tci & VLAN_VID_MASK;
	if ((beginning & IPV4_BEGINNING_MASK) == IPV4_BEGINNING)
		return common_ipv4(c, h, rule);
	if ((beginning & 0xffff) == ETHERTYPE_IPV6_RAW)
		return common_ipv6(c, h, rule);
	return NOT_COMMON;
}

#endif
