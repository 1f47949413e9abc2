/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the segments of an established connection leave in its entry, short of settling it: the client's request and its
 * repeats, its FIN, the server's acknowledgement. The first stage does this by itself. Pure, as pair.h.
 */
#ifndef TFOTRACE_NOTE_H
#define TFOTRACE_NOTE_H

#include "copies.h"

/* Data of the client's that may go beyond what the SYN-ACK acked: the request. Call it once established. */
static __always_inline void note_request(struct pending *p, const struct segment *s)
{
	__u32 end = s->seq + s->payload_len;

	if (!is_behind(end, p->awaited))
		return; /* acked already, or a keep-alive */
	if (!p->ev.request_ns)
		p->ev.request_ns = s->now_ns;
	if (is_behind(end, p->client_next))
		p->client_next = end;
	if (is_behind(s->seq, p->awaited) || p->ev.copies == 255)
		return; /* what follows the first data; or so many are mirrored that nobody counts */
	if (!p->last_request_ns) {
		p->request_place = s->place;
	} else if (is_seen_again(s, p->request_place, p->last_request_ns)) {
		return;
	} else if (is_copy(s, p->request_print, p->last_request_ns)) {
		p->ev.copies = saturating_increment(p->ev.copies);
		return;
	} else {
		p->ev.request_repeats = saturating_increment(p->ev.request_repeats);
	}
	p->last_request_ns = s->now_ns;
	p->request_print = s->print;
}

/* Other segments without data say nothing new, so nobody looks whether they are mirrored. */
static __always_inline int is_like_the_ack(const struct pending *p, const struct segment *s)
{
	return s->seq == p->awaited && s->ack == p->server_isn + 1;
}

/* The client's ACK or FIN, or its copy. */
static __always_inline void note_bare(struct pending *p, const struct segment *s)
{
	if (p->state == PENDING_ESTABLISHED && s->place == p->place && is_copy(s, p->ack_print, p->last_ack_ns)) {
		p->ev.copies = saturating_increment(p->ev.copies);
		return;
	}
	p->ack_print = s->print;
	p->last_ack_ns = s->now_ns;
}

/* An established client's segment: its request, its FIN, or a copy of its ACK. Only segments that fit get here. */
static __always_inline void note_from_client(struct pending *p, const struct segment *s)
{
	if (s->payload_len)
		note_request(p, s);
	else if (s->flags & TCP_FIN || is_like_the_ack(p, s))
		note_bare(p, s);
	if (s->flags & TCP_FIN)
		p->ev.client_fin = 1;
}

/* A server's segment after the SYN-ACK. Only segments that fit get here. */
static __always_inline void note_from_server(struct pending *p, const struct segment *s)
{
	__u32 end = s->seq + s->payload_len;

	/* an out-of-order tail is no first response */
	if (s->payload_len && covers(s, p->server_isn + 1)) {
		if (!p->ev.response_ns)
			p->ev.response_ns = s->now_ns;
		else if (s->place == p->synack_place && is_copy(s, p->response_print, p->ev.response_ns))
			p->ev.copies = saturating_increment(p->ev.copies);
		p->response_print = s->print;
	}
	if (is_behind(end, p->server_next))
		p->server_next = end;
	if (acks_beyond(p, s))
		p->ev.request_acked = 1;
}

/*
 * Does the segment leave the entry unchanged? Most of a tracked connection do: what follows the client's first data, and
 * the server's bare ACKs before its answer. This may be called without the lock: if the entry changes meanwhile, the
 * segment counts as one that came a moment earlier.
 */
static __always_inline int pair_is_idle(const struct pending *p, const struct segment *s, int from_client)
{
	if (p->state != PENDING_ESTABLISHED || (s->flags & (TCP_SYN | TCP_FIN | TCP_RST)))
		return 0;
	if (!from_client)
		return !s->payload_len && (p->ev.request_acked || !acks_beyond(p, s));
	if (!s->payload_len)
		return !is_like_the_ack(p, s) || p->ev.copies == 255;
	if (!p->ev.request_ns)
		return 0;
	if (covers(s, p->awaited))
		return p->ev.copies == 255;
	return in_range(s->seq + s->payload_len, p->awaited, p->client_next - p->awaited + CLIENT_STEP);
}

/* Can it change the entry, but neither settle it nor take another answer? Then the first stage notes it. */
static __always_inline int pair_can_be_noted(const struct pending *p, const struct segment *s, int from_client)
{
	return p->state == PENDING_ESTABLISHED && !(s->flags & (TCP_SYN | TCP_FIN | TCP_RST)) &&
	       (from_client || !s->payload_len);
}

/* What the first stage does with such a segment, under the lock. */
static __always_inline void pair_note(struct pending *p, const struct segment *s, int from_client)
{
	if (from_client && client_fits(p, s))
		note_from_client(p, s);
	if (!from_client && server_fits(p, s))
		note_from_server(p, s);
}

#endif
