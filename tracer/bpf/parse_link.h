/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* From the start of a frame to its network header: Ethernet with 0-2 VLAN tags, or no link header at all. */
#ifndef TFOTRACE_PARSE_LINK_H
#define TFOTRACE_PARSE_LINK_H

#include "types.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100 /* IEEE 802.1Q */
#define ETHERTYPE_QINQ 0x88a8 /* IEEE 802.1ad */
#define ETHERTYPE_QINQ_OLD 0x9100
#define ETHERTYPE_MPLS 0x8847
#define ETHERTYPE_MPLS_UPSTREAM 0x8848 /* RFC 5332 */
#define ETHERTYPE_PPPOE_SESSION 0x8864 /* discovery, 0x8863, carries nothing */
#define ETHERTYPE_SGT 0x8909	       /* Cisco MetaData: a security group tag before the real EtherType */

#define VLAN_VID_MASK 0x0fff

enum parse_result {
	PARSED_TCP,
	PARSED_ICMP,
	PARSED_OTHER,	 /* well formed but irrelevant */
	PARSED_FRAGMENT, /* a fragment of a TCP segment, but not the first */
	/* well formed, and there may be handshakes inside */
	NOT_READ_GRE,
	NOT_READ_VXLAN,
	NOT_READ_GENEVE,
	NOT_READ_GTP,
	NOT_READ_IPIP,
	NOT_READ_MPLS,
	NOT_READ_PPPOE,
	NOT_READ_VLAN,
	NOT_READ_SGT,
	/* from here on more of the packet might tell more */
	PARSED_CUT, /* UDP whose ports cannot be read */
	BAD_ETHERNET,
	BAD_IP_HEADER,
	BAD_IP_LENGTH,
	BAD_IP_EXTENSION,
	BAD_TCP_HEADER,
	BAD_TCP_OFFSET,
};

/* The position in the packet, and the end of its readable part. */
struct cursor {
	void *pos;
	void *end;
};

/*
 * The link and network headers; pointers are into the packet. Numbers are 64 bits
 * wide because comparing narrower ones costs two shifts each.
 */
struct headers {
	void *ip;	/* the fixed part of the IP header is readable */
	void *tcp;	/* likewise, after parse_tcp() */
	__u64 l3_len;	/* bytes of the frame from the IP header on */
	__u64 l4_len;	/* bytes of TCP or ICMP with header, according to the IP header */
	__u32 vlans;	/* outer VID, inner VID << 16; 0 = none */
	__u64 ip_extra; /* bytes of IPv4 options or IPv6 extension headers */
	__u64 family;	/* 4 or 6 */
};

static __always_inline int is_vlan_ethertype(__u64 ethertype)
{
	return ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ || ethertype == ETHERTYPE_QINQ_OLD;
}

/* What a frame is whose EtherType is not that of IP. A third tag is one that is left when two were read. */
static __always_inline int kind_of_ethertype(__u64 ethertype)
{
	if (is_vlan_ethertype(ethertype))
		return NOT_READ_VLAN;
	if (ethertype == ETHERTYPE_MPLS || ethertype == ETHERTYPE_MPLS_UPSTREAM)
		return NOT_READ_MPLS;
	if (ethertype == ETHERTYPE_PPPOE_SESSION)
		return NOT_READ_PPPOE;
	return ethertype == ETHERTYPE_SGT ? NOT_READ_SGT : PARSED_OTHER;
}

/*
 * Words of map memory. The verifier forgets a value that goes through one: paths
 * that differ only in the number of tags or extension headers join there, and
 * what follows is checked once, not once for each path. Common packets have
 * neither and do not come here.
 */
struct opaque {
	volatile __u32 offset;
	volatile __u32 vlans;
};

/* A priority tag (VID 0) names no VLAN, so it changes nothing. The outer VID is in the low half. */
static __always_inline __u64 add_vlan(__u64 vlans, __u64 tci)
{
	__u64 vid = tci & VLAN_VID_MASK;

	return vlans & 0xffff ? vlans | vid << 16 : vid;
}

/*
 * Steps over the link header. `tci` is the tag that was moved from the packet
 * into the skb, with a bit above its 16 that says that there is one. It counts
 * towards the limit of two tags.
 */
static __always_inline int parse_ethernet(struct cursor *c, struct headers *h, __u64 tci, struct opaque *o)
{
	__u8 *eth = c->pos;
	__u64 offset = 14, vlans = 0;
	__u64 ethertype;

	if ((void *)(eth + 14) > c->end || h->l3_len < 14)
		return BAD_ETHERNET;
	ethertype = load_be16(eth + 12);
	if (tci || is_vlan_ethertype(ethertype)) {
		vlans = add_vlan(0, tci);
		for (int i = 0; i < 2; i++) {
			__u8 *tag = eth + 14 + i * 4;

			if (!is_vlan_ethertype(ethertype) || (i && tci))
				break;
			if ((void *)(tag + 4) > c->end || h->l3_len < offset + 4)
				return BAD_ETHERNET;
			vlans = add_vlan(vlans, load_be16(tag));
			ethertype = load_be16(tag + 2);
			offset += 4;
		}
		o->vlans = vlans;
		vlans = o->vlans;
		o->offset = offset;
		offset = o->offset & 31;
	}
	h->vlans = vlans;
	c->pos = eth + offset;
	h->l3_len -= offset;
	if (ethertype == ETHERTYPE_IPV4)
		h->family = 4;
	else if (ethertype == ETHERTYPE_IPV6)
		h->family = 6;
	else
		return kind_of_ethertype(ethertype);
	return PARSED_TCP;
}

/* tun, WireGuard and the like: the IP header comes first and has the version. */
static __always_inline int parse_no_link(struct cursor *c, struct headers *h)
{
	__u8 *ip = c->pos;

	h->vlans = 0;
	if ((void *)(ip + 1) > c->end)
		return BAD_ETHERNET;
	if (*ip >> 4 == 4)
		h->family = 4;
	else if (*ip >> 4 == 6)
		h->family = 6;
	else
		return PARSED_OTHER;
	return PARSED_TCP;
}

#endif
