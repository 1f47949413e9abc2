/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The key of a connection: interface group, VLAN and 4-tuple; its hash for the table and its id for records. */
#ifndef TFOTRACE_FLOW_H
#define TFOTRACE_FLOW_H

#include "parse_tcp.h"

/* Seen from one segment: source and destination, not client and server. */
struct flow {
	__u8 src[16]; /* network order, IPv4 as ::ffff:a.b.c.d */
	__u8 dst[16];
	__u16 src_port;
	__u16 dst_port;
	__u16 vlan[2];
	__u32 group;
};

static __always_inline void copy_address(__u8 *to, const __u8 *from)
{
	((__u64 *)to)[0] = load_u64(from);
	((__u64 *)to)[1] = load_u64(from + 8);
}

static __always_inline int same_address(const __u8 *a, const __u8 *b)
{
	return ((const __u64 *)a)[0] == ((const __u64 *)b)[0] && ((const __u64 *)a)[1] == ((const __u64 *)b)[1];
}

static __always_inline void map_ipv4(__u8 *to, const __u8 *from)
{
	((__u64 *)to)[0] = 0;
	((__u32 *)to)[2] = 0xffff0000; /* bytes 00 00 ff ff */
	((__u32 *)to)[3] = load_u32(from);
}

/* Takes addresses and ports; reads only the first 4 bytes of the TCP header. */
static __always_inline void take_flow(struct flow *f, const struct headers *h, __u32 group)
{
	const __u8 *ip = h->ip;
	const __u8 *tcp = h->tcp;

	if (h->family == 4) {
		map_ipv4(f->src, ip + 12);
		map_ipv4(f->dst, ip + 16);
	} else {
		copy_address(f->src, ip + 8);
		copy_address(f->dst, ip + 24);
	}
	f->src_port = load_be16(tcp);
	f->dst_port = load_be16(tcp + 2);
	f->vlan[0] = h->vlans;
	f->vlan[1] = h->vlans >> 16;
	f->group = group;
}

/*
 * Multiplying by a random odd number and folding the high half down spreads
 * addresses even if an attacker, who does not know the number, chooses them;
 * adding the two ends gives both directions of a connection the same hash.
 */
static __always_inline __u64 mix(__u64 v, __u64 key)
{
	v *= key;
	return v ^ v >> 32;
}

static __always_inline __u32 flow_hash(const struct headers *h, __u32 group, __u64 key)
{
	const __u8 *ip = h->ip;
	const __u8 *tcp = h->tcp;
	__u64 sum;

	if (h->family == 4) {
		sum = mix((__u64)load_u32(ip + 12) << 16 | load_u16(tcp), key) +
		      mix((__u64)load_u32(ip + 16) << 16 | load_u16(tcp + 2), key);
	} else {
		sum = mix(mix(load_u64(ip + 8), key) + load_u64(ip + 16) + load_u16(tcp), key) +
		      mix(mix(load_u64(ip + 24), key) + load_u64(ip + 32) + load_u16(tcp + 2), key);
	}
	return ((sum + group) * key) >> 32;
}

/*
 * The record's id: the same on every interface and host, so without a key. A hash
 * like FNV over six little-endian words: client address, server address, ports, ISN.
 */
static __always_inline __u64 handshake_id(const struct flow *f, __u32 isn)
{
	const __u64 multiplier = 0xff51afd7ed558ccdULL;
	__u64 id = 0x9e3779b97f4a7c15ULL;
	__u64 words[6] = {
		((__u64 *)f->src)[0],
		((__u64 *)f->src)[1],
		((__u64 *)f->dst)[0],
		((__u64 *)f->dst)[1],
		(__u64)f->src_port << 16 | f->dst_port,
		isn,
	};

#pragma clang loop unroll(full)
	for (int i = 0; i < 6; i++) {
		id = (id ^ words[i]) * multiplier;
		id ^= id >> 32;
	}
	return id;
}

#endif
