/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* IPv4 with options and IPv6 with extension headers, down to TCP or ICMP (RFC 791, RFC 8200). */
#ifndef TFOTRACE_PARSE_IP_H
#define TFOTRACE_PARSE_IP_H

#include "parse_link.h"

#define IP_PROTOCOL_ICMP 1
#define IP_PROTOCOL_IPV4 4
#define IP_PROTOCOL_TCP 6
#define IP_PROTOCOL_UDP 17
#define IP_PROTOCOL_IPV6 41
#define IP_PROTOCOL_GRE 47
#define IP_PROTOCOL_ICMPV6 58

#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44
#define IPV6_AUTHENTICATION 51
#define IPV6_DESTINATION 60
#define IPV6_MOBILITY 135
#define IPV6_HIP 139
#define IPV6_SHIM6 140

/* Real packets have one or two; the verifier must follow two such chains (ICMP) within 64 KiB. */
#define IPV6_EXTENSIONS_MAX 6

#define IPV4_FRAGMENT_OFFSET 0x1fff

#define UDP_HEADER_LEN 8
#define PORTS_LEN 4 /* the first bytes of both TCP and UDP */
#define UDP_PORT_GTP 2152
#define UDP_PORT_VXLAN 4789
#define UDP_PORT_GENEVE 6081
#define UDP_PORT_VXLAN_OLD 8472 /* what Linux takes unless told */

/*
 * May the IP header claim more bytes than there are? Not more than the frame had on
 * the wire, or the kernel would drop it, but a packet quoted by an ICMP error is cut.
 */
enum length_rule { LENGTH_WITHIN_FRAME, LENGTH_MAY_BE_CUT };

/* A tunnel's packets go to its port from any: those from it to another port are none of its. */
static __always_inline int kind_of_udp(__u64 dst_port)
{
	if (dst_port == UDP_PORT_VXLAN || dst_port == UDP_PORT_VXLAN_OLD)
		return NOT_READ_VXLAN;
	if (dst_port == UDP_PORT_GENEVE)
		return NOT_READ_GENEVE;
	return dst_port == UDP_PORT_GTP ? NOT_READ_GTP : PARSED_OTHER;
}

/* What a packet is that is neither TCP nor ICMP, nor a fragment but the first. The cursor is behind the IP header. */
static __always_inline int kind_of_protocol(const struct cursor *c, const struct headers *h, __u64 protocol)
{
	const __u8 *udp = c->pos;

	if (protocol == IP_PROTOCOL_GRE)
		return NOT_READ_GRE;
	if (protocol == IP_PROTOCOL_IPV4 || protocol == IP_PROTOCOL_IPV6)
		return NOT_READ_IPIP;
	if (protocol != IP_PROTOCOL_UDP || h->l4_len < UDP_HEADER_LEN)
		return PARSED_OTHER;
	if ((void *)(udp + PORTS_LEN) > c->end)
		return PARSED_CUT;
	return kind_of_udp(load_be16(udp + 2));
}

static __always_inline int parse_ipv4(struct cursor *c, struct headers *h, enum length_rule rule)
{
	__u8 *ip = c->pos;
	__u64 header_len, total, protocol;

	if ((void *)(ip + 20) > c->end || h->l3_len < 20)
		return BAD_IP_HEADER;
	header_len = (ip[0] & 0x0f) * 4;
	if (ip[0] >> 4 != 4 || header_len < 20)
		return BAD_IP_HEADER;
	total = load_be16(ip + 2);
	if (!total && h->l3_len > 0xffff)
		total = h->l3_len; /* BIG TCP: the length does not fit in the field */
	if (total < header_len || (rule == LENGTH_WITHIN_FRAME && total > h->l3_len))
		return BAD_IP_LENGTH;
	protocol = ip[9];
	h->ip = ip;
	h->ip_extra = header_len - 20;
	h->l4_len = total - header_len;
	c->pos = ip + header_len;
	if (load_be16(ip + 6) & IPV4_FRAGMENT_OFFSET)
		return protocol == IP_PROTOCOL_TCP ? PARSED_FRAGMENT : PARSED_OTHER;
	if (protocol != IP_PROTOCOL_TCP && protocol != IP_PROTOCOL_ICMP)
		return kind_of_protocol(c, h, protocol);
	return protocol == IP_PROTOCOL_TCP ? PARSED_TCP : PARSED_ICMP;
}

/* One bit test instead of eight comparisons, which the verifier would follow separately. */
#define EXTENSIONS_BELOW_64                                                                                            \
	(1ULL << IPV6_HOP_BY_HOP | 1ULL << IPV6_ROUTING | 1ULL << IPV6_FRAGMENT | 1ULL << IPV6_AUTHENTICATION |        \
	 1ULL << IPV6_DESTINATION)
#define EXTENSIONS_FROM_128 (1ULL << (IPV6_MOBILITY - 128) | 1ULL << (IPV6_HIP - 128) | 1ULL << (IPV6_SHIM6 - 128))

static __always_inline int is_ipv6_extension(__u64 type)
{
	__u64 set = type & 128 ? EXTENSIONS_FROM_128 : EXTENSIONS_BELOW_64;

	return !(type & 64) && set >> (type & 63) & 1;
}

/* Bytes of the extension header at `ext`. */
static __always_inline __u64 ipv6_extension_len(__u64 type, const __u8 *ext)
{
	if (type == IPV6_FRAGMENT)
		return 8;
	if (type == IPV6_AUTHENTICATION)
		return (ext[1] + 2) * 4;
	return (ext[1] + 1) * 8;
}

static __always_inline int parse_ipv6(struct cursor *c, struct headers *h, enum length_rule rule, struct opaque *o)
{
	__u8 *ip = c->pos;
	__u64 remaining, extra = 0;
	__u64 next;

	if ((void *)(ip + 40) > c->end || h->l3_len < 40 || ip[0] >> 4 != 6)
		return BAD_IP_HEADER;
	remaining = load_be16(ip + 4);
	if (!remaining && h->l3_len > 0xffff)
		remaining = h->l3_len - 40; /* BIG TCP or a jumbogram */
	if (rule == LENGTH_WITHIN_FRAME && remaining > h->l3_len - 40)
		return BAD_IP_LENGTH;
	next = ip[6];
	h->ip = ip;
	h->ip_extra = 0;
	c->pos = ip + 40;
	NO_UNROLL
	for (int i = 0; i < IPV6_EXTENSIONS_MAX; i++) {
		__u8 *ext = c->pos;
		__u64 len;

		if (!is_ipv6_extension(next))
			break;
		if ((void *)(ext + 8) > c->end || remaining < 8)
			return BAD_IP_EXTENSION;
		o->offset = ipv6_extension_len(next, ext);
		len = o->offset & 0xfff;
		if (len > remaining)
			return BAD_IP_EXTENSION;
		if (next == IPV6_FRAGMENT && load_be16(ext + 2) >> 3)
			return ext[0] == IP_PROTOCOL_TCP ? PARSED_FRAGMENT : PARSED_OTHER;
		next = ext[0];
		remaining -= len;
		extra += len;
		c->pos = ext + len;
	}
	if (extra) {
		o->offset = extra;
		extra = o->offset & 0x3fff;
		c->pos = ip + 40 + extra;
		h->ip_extra = extra;
	}
	h->l4_len = remaining;
	if (next == IP_PROTOCOL_TCP)
		return PARSED_TCP;
	if (next == IP_PROTOCOL_ICMPV6)
		return PARSED_ICMP;
	return is_ipv6_extension(next) ? BAD_IP_EXTENSION : kind_of_protocol(c, h, next);
}

static __always_inline int parse_ip(struct cursor *c, struct headers *h, enum length_rule rule, struct opaque *o)
{
	if (h->family == 4)
		return parse_ipv4(c, h, rule);
	return parse_ipv6(c, h, rule, o);
}

#endif
