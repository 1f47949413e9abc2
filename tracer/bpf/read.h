/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* First stage: reads the frame into the scratch for the second stage. */
#ifndef TFOTRACE_READ_H
#define TFOTRACE_READ_H

#include "state.h"

/* Parses the headers of a frame; leaves the cursor at the options or at the ICMP header. */
static __always_inline int parse_frame(const struct frame *f, int no_link_header, struct cursor *c, struct headers *h,
				       struct opaque *o)
{
	int result;

	c->pos = f->data;
	c->end = f->data_end;
	h->l3_len = f->wire_len;
	if (no_link_header)
		result = parse_no_link(c, h);
	else
		result = parse_ethernet(c, h, f->vlan_tci, o);
	if (result != PARSED_TCP)
		return result;
	result = parse_ip(c, h, LENGTH_WITHIN_FRAME, o);
	if (result != PARSED_TCP)
		return result;
	return parse_tcp(c, h);
}

/* Reads the flow. 8 bytes of the TCP header are enough. */
static __always_inline void read_flow(struct scratch *sc, const struct headers *h, __u32 group)
{
	sc->segment.seq = load_be32(h->tcp + 4);
	take_flow(&sc->segment.flow, h, group);
}

static __always_inline __u32 place_of(const struct frame *f)
{
	return f->ifindex << 1 | f->direction;
}

static __always_inline void read_frame(struct scratch *sc, const struct frame *f)
{
	sc->ifindex = f->ifindex;
	sc->frame_len = f->len;
#ifdef PACKETS
	sc->vlan_tci = f->vlan_tci;
#endif
}

/* Of a segment that is no SYN; a SYN's options come to it when they are read. */
static __always_inline __u32 print_of_plain(const struct segment *s)
{
	__u64 stamps = (__u64)s->ts_val << 32 | s->ts_ecr;

	return finished_print(print_of_header(s), stamps ? stamps : s->ip_id, stamps || s->ip_id);
}

/* Kinds, length and values of the options that a middlebox may change stand for all of them. */
static __always_inline __u32 print_of_syn(const struct segment *s)
{
	const struct segment_facts *f = &s->facts;
	__u64 stamps = (__u64)f->ts_val << 32 | f->ts_ecr;
	__u64 options = (__u64)f->has << 48 | (__u64)f->options_len << 40 | (__u64)f->cookie_len << 32 |
			(__u64)f->wscale << 16 | f->mss;
	int stamped = f->has & HAS_TIMESTAMPS;

	return finished_print(print_of_header(s) + options * PRINT_KEY_OPTIONS, stamped ? stamps : s->ip_id,
			      stamped || s->ip_id);
}

static __always_inline void read_tcp(struct scratch *sc, const struct frame *f, const struct cursor *c,
				     const struct headers *h)
{
	struct segment *s = &sc->segment;
	__u32 header_len = tcp_header_len(h->tcp);
	const __u8 *ip = h->ip;

	s->place = place_of(f);
	s->header_len = header_len;
	s->flags = tcp_flags(h->tcp);
	s->ack = load_be32(h->tcp + 8);
	s->payload_len = h->l4_len - header_len;
	usual_timestamps(c, h, &s->ts_val, &s->ts_ecr);
	s->ip_id = 0;
	if (!s->ts_val || s->flags & TCP_RST) { /* else nobody asks */
		s->ttl = h->family == 4 ? ip[8] : ip[7];
		s->ip_id = h->family == 4 ? load_u16(ip + 4) : 0;
	}
	sc->icmp = 0;
#ifdef PACKETS
	sc->payload_offset = (__u32)((__u8 *)h->tcp - (__u8 *)f->data) + header_len;
#endif
	if (!(s->flags & TCP_SYN))
		return;
	sc->options_offset = (__u32)((__u8 *)h->tcp - (__u8 *)f->data) + TCP_HEADER_LEN;
	sc->payload_offset = sc->options_offset + header_len - TCP_HEADER_LEN;
	s->socket = 0;
	sc->addressee = 0;
	__builtin_memset(&sc->process, 0, sizeof(sc->process));
	__builtin_memset(&s->facts, 0, sizeof(s->facts));
	take_header_facts(&s->facts, h);
}

static __always_inline void read_options(struct option_walk *w, const struct scratch *sc, void *data, void *data_end)
{
	struct cursor c = {
		.pos = data + (sc->options_offset & 0x7fff),
		.end = data_end,
	};

	__builtin_memset(w->bytes, 0, TCP_OPTIONS_MAX);
	w->len = copy_options(w->bytes, &c, sc->payload_offset - sc->options_offset);
}

#endif
