/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Sends the handshake's own packets to a third ring, for captures. Compiled in
 * only if one is written (-DPACKETS).
 */
#ifndef TFOTRACE_PACKETS_H
#define TFOTRACE_PACKETS_H

#include "parse_link.h"
#include "state.h"

#ifdef PACKETS

/*
 * Is it one of the handshake's own packets: a SYN, a SYN-ACK, the ACK, the first
 * response, or one that refuses or ends it? Other packets between client and
 * server are not, nor is a segment seen again. Call it under the set's lock, last.
 */
static __always_inline void choose_packet(struct scratch *sc, const struct pending *p, const struct pair_outcome *done,
					  int opens, int filtered)
{
	const struct segment *s = &sc->segment;
	int own = opens || done->settled;

	if (!sc->icmp && p->state != PENDING_TOMBSTONE &&
	    !(done->note & (NOTE_SEEN_AGAIN | NOTE_LATE_SYN | NOTE_STRAY_ACK)))
		own |= (s->flags & TCP_SYN) || p->ev.ack_ns == s->now_ns || p->ev.response_ns == s->now_ns;
	if (!own || filtered)
		return;
	sc->packet_id = p->ev.id;
	sc->packet_syn_ns = p->ev.syn_ns;
}

/* Which kind of tag was removed from the packet? Only needed here. */
static __always_inline __u32 service_tag(const struct __sk_buff *skb)
{
	return skb->vlan_proto == __builtin_bswap16(ETHERTYPE_QINQ) ? 0x20000 : 0;
}

static __always_inline void begin_packet(struct scratch *sc)
{
	sc->packet_id = 0;
}

/* Fills in everything but the bytes; returns how many of them to copy. */
static __always_inline __u32 describe_packet(struct packet_event *e, const struct scratch *sc, int no_link_header)
{
	__u32 len = sc->icmp ? PACKET_MAX : sc->payload_offset;

	e->id = sc->packet_id;
	e->syn_ns = sc->packet_syn_ns;
	e->now_ns = sc->segment.now_ns;
	e->ifindex = sc->ifindex;
	e->frame_len = sc->frame_len;
	e->vlan_tci = sc->vlan_tci;
	e->headers_len = sc->icmp ? 0 : sc->payload_offset;
	e->egress = sc->segment.place & 1;
	e->no_link_header = no_link_header;
	return len < sc->frame_len ? len : sc->frame_len;
}

/* Copies byte by byte, since XDP has no helper for it before 5.18. */
static __always_inline void copy_packet(struct packet_event *e, const __u8 *from, const void *end, __u32 len)
{
	e->captured = 0;
	NO_UNROLL
	for (__u32 i = 0; i < PACKET_MAX; i++) {
		const __u8 *byte = from + i;

		asm volatile("" : "+r"(byte)); /* else the compiler compares end + 1, which the verifier rejects */
		if (i >= len || (const void *)(byte + 1) > end)
			break;
		e->data[i] = *byte;
		e->captured = i + 1;
	}
}

#else
#define choose_packet(sc, p, done, opens, filtered)
#define service_tag(skb) 0
#define begin_packet(sc)
#define send_packet(ctx, data, data_end, sc, c)
#endif

#endif
