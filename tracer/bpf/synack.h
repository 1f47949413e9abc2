/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What SYN-ACKs do to the pending entry: which one counts, and who goes on after a failure. Pure, as pair.h. */
#ifndef TFOTRACE_SYNACK_H
#define TFOTRACE_SYNACK_H

#include "copies.h"

/* The SYN-ACK that the client acks from here on. */
static __always_inline void take_answer(struct pending *p, __u32 isn, __u32 ack, __u32 payload_len)
{
	p->server_isn = isn;
	p->server_next = isn + 1 + payload_len;
	p->awaited = ack;
	if (is_behind(ack, p->client_next))
		p->client_next = ack; /* it acks more than was sent; a client resets at that number */
}

/* Returns enum pair_note. */
static __always_inline int first_synack(struct pending *p, const struct segment *s)
{
	p->ev.synack_ns = s->now_ns;
	p->ev.synack_count = 1;
	p->ev.synack_isns = 1;
	copy_words(&p->ev.synack, &s->facts, sizeof(s->facts));
	p->ev.server_socket = s->socket;
	p->synack_place = s->place;
	p->synack_print = s->print;
	p->last_synack_ns = s->now_ns;
	/* the server's data overtook it: is it this server's? */
	if (p->ev.response_ns && p->server_isn != s->seq)
		p->ev.response_ns = 0;
	take_answer(p, s->seq, s->ack, s->facts.payload_len);
	if (s->facts.payload_len)
		p->ev.response_ns = s->now_ns;
	p->ev.one_way = 0;
	if (p->state == PENDING_SYN_SENT) {
		p->state = PENDING_SYN_ACKED;
		p->deadline_ns = s->now_ns + NO_ANSWER_NS;
	}
	return (s->facts.has & HAS_TFO) && !(p->ev.syn.has & HAS_TFO) ? NOTE_UNSOLICITED : NOTE_NONE;
}

/* A SYN-ACK with another ISN, from another server: the newest may still be the one that the client takes. */
static __always_inline void other_synack(struct pending *p, const struct segment *s)
{
	p->ev.synack_isns = saturating_increment(p->ev.synack_isns);
	p->has_other = 1;
	p->other.ns = s->now_ns;
	p->other.response_ns = s->facts.payload_len ? s->now_ns : 0;
	p->other.server_next = s->seq + 1 + s->facts.payload_len;
	p->other.socket = s->socket;
	p->other.place = s->place;
	copy_words(&p->other.facts, &s->facts, sizeof(s->facts));
}

/* The client acks the other SYN-ACK; of the first the record keeps what Fast Open is judged by. */
static __always_inline void take_other(struct pending *p)
{
	struct handshake_event *ev = &p->ev;
	struct first_answer *first = &ev->first_answer;

	first->ns = ev->synack_ns;
	first->seq = ev->synack.seq;
	first->ack = ev->synack.ack;
	first->ts_ecr = ev->synack.ts_ecr;
	first->has = ev->synack.has;
	first->tfo_kind = ev->synack.tfo_kind;
	first->cookie_len = ev->synack.cookie_len;
	/* beyond the options follows the rest of the entry, so a hostile offset reads nothing else */
	copy_words(first->cookie, ev->synack.options + (ev->synack.tfo_offset & 63), TFO_COOKIE_MAX);
	NO_UNROLL
	for (__u32 i = 0; i < TFO_COOKIE_MAX; i++)
		if (i >= ev->synack.cookie_len)
			first->cookie[i] = 0;
	ev->synack_ns = p->other.ns;
	ev->response_ns = p->other.response_ns;
	ev->server_socket = p->other.socket;
	copy_words(&ev->synack, &p->other.facts, sizeof(p->other.facts));
	p->synack_place = p->other.place;
	take_answer(p, p->other.facts.seq, p->other.facts.ack, p->other.facts.payload_len);
	p->server_next = p->other.server_next;
	p->has_other = 0;
}

/* The ACK of the other SYN-ACK overtook it. */
static __always_inline void take_early_ack(struct pending *p, const struct segment *s)
{
	take_other(p);
	p->ev.ack_ns = p->early_ack_ns;
	p->state = PENDING_ESTABLISHED;
	p->deadline_ns = s->now_ns + s->response_timeout_ns;
}

/* The record was sent, and yet the handshake goes on: begins a second record with the same SYN. */
static __always_inline void open_again(struct pending *p)
{
	struct handshake_event *ev = &p->ev;

	ev->resumed = ev->result;
	ev->result = RESULT_NONE;
	ev->reason = SETTLED_NOT;
	ev->settled_ns = 0;
	ev->reset_from = 0;
	ev->reset_ttl = 0;
	ev->icmp_type = 0;
	ev->icmp_code = 0;
	__builtin_memset(ev->icmp_from, 0, sizeof(ev->icmp_from));
	ev->copies = 0;
	ev->misfit_rsts = 0;
	ev->misfit_synacks = 0;
	ev->misfit_icmps = 0;
	p->syn_since = 0;
}

static __always_inline void forget_answer(struct pending *p)
{
	struct handshake_event *ev = &p->ev;

	ev->synack_ns = 0;
	ev->response_ns = 0;
	ev->ack_ns = 0;
	ev->request_ns = 0;
	ev->synack_count = 0;
	ev->synack_isns = 0;
	ev->late_syns = 0;
	ev->client_fin = 0;
	ev->request_acked = 0;
	ev->request_repeats = 0;
	__builtin_memset(&ev->synack, 0, sizeof(ev->synack));
	__builtin_memset(&ev->first_answer, 0, sizeof(ev->first_answer));
	p->has_other = 0;
	p->early_ack_ns = 0;
	p->server_fin = 0;
	p->server_fin_ahead = 0;
	p->simultaneous = 0;
}

static __always_inline struct pair_outcome pair_synack_again(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};
	int is_other = p->has_other && s->seq == p->other.facts.seq;

	if (is_seen_again(s, p->synack_place, p->last_synack_ns)) {
		out.note = NOTE_SEEN_AGAIN;
		return out;
	}
	if (is_copy(s, p->synack_print, p->last_synack_ns)) {
		p->ev.copies = saturating_increment(p->ev.copies);
		return out;
	}
	p->ev.synack_count = saturating_increment(p->ev.synack_count);
	if (p->state == PENDING_SYN_ACKED)
		p->deadline_ns = s->now_ns + wait_after(s->now_ns, p->last_synack_ns, NO_ANSWER_NS);
	p->synack_print = s->print;
	p->last_synack_ns = s->now_ns;
	if (s->seq != p->ev.synack.seq && s->seq != p->ev.first_answer.seq && !is_other)
		other_synack(p, s);
	if (p->state == PENDING_ESTABLISHED && s->seq == p->server_isn)
		p->ev.synacks_after_ack = saturating_increment(p->ev.synacks_after_ack);
	if (p->early_ack_ns && p->state == PENDING_SYN_ACKED && s->seq + 1 == p->early_ack &&
	    apart(s->now_ns, p->early_ack_ns) < EARLY_NS) {
		take_early_ack(p, s);
		if (p->ev.response_ns)
			out.settled = SETTLED_BY_RESPONSE;
	}
	return out;
}

/*
 * Another stack goes on after the record said that the handshake had failed. After a RST that alone proves nothing: the
 * server may repeat what the client has reset, so the client must have asked again, or acked. Returns whether there will be
 * a second record.
 */
static __always_inline int goes_on(struct pending *p, const struct segment *s)
{
	if (p->ev.result == RESULT_ABORTED && !p->syn_since && !p->early_ack_ns) {
		p->deadline_ns = s->now_ns + wait_after(s->now_ns, p->last_synack_ns, TOMBSTONE_NS);
		p->last_synack_ns = s->now_ns;
		return 0;
	}
	open_again(p);
	forget_answer(p);
	p->state = PENDING_SYN_SENT;
	return 1;
}

static __always_inline struct pair_outcome pair_synack_from_server(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};

	if (!synack_fits(p, s)) {
		if (p->state == PENDING_TOMBSTONE || count_aside(p, s, &p->ev.misfit_synacks))
			out.note = in_range(s->ack, p->ev.syn.seq + 1, OVER_ACK_MAX) ? NOTE_ODD_ACK : NOTE_STRAY_ACK;
		return out;
	}
	if (p->state == PENDING_TOMBSTONE) {
		if (!goes_on(p, s))
			return out;
		out.note = NOTE_OPENED_AGAIN;
	}
	if (p->ev.synack_ns)
		return pair_synack_again(p, s);
	/* one way: either the ACK overtook this, or an earlier SYN-ACK took another path */
	if (p->ev.one_way && s->seq != p->server_isn)
		return out;
	out.note |= first_synack(p, s);
	if (p->crossed && s->seq == p->crossing_isn)
		p->simultaneous = 1;
	if (p->simultaneous && p->ev.ack_ns)
		out.settled = SETTLED_BY_ACK;
	else if (p->state == PENDING_ESTABLISHED && p->ev.response_ns)
		out.settled = SETTLED_BY_RESPONSE; /* it has data, and the ACK overtook it */
	return out;
}

/* The client sends one only in a simultaneous open. */
static __always_inline struct pair_outcome pair_synack_from_client(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};

	if (p->state == PENDING_TOMBSTONE)
		return out;
	if (p->crossed && s->seq == p->ev.syn.seq && s->ack == p->crossing_isn + 1)
		p->simultaneous = 1;
	if (!p->simultaneous)
		return out;
	if (!p->ev.ack_ns)
		p->ev.ack_ns = s->now_ns;
	if (p->state == PENDING_SYN_ACKED)
		out.settled = SETTLED_BY_ACK;
	return out;
}

#endif
