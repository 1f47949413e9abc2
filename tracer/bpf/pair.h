/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * One handshake from its first SYN until it is settled (DESIGN.md section 4):
 * what each segment does to the pending entry. Pure: the caller takes the lock,
 * finds the entry, and sends the record when a function here says it is final.
 * fit.h says which numbers fit an entry; this acts only on segments that do.
 */
#ifndef TFOTRACE_PAIR_H
#define TFOTRACE_PAIR_H

#include "fit.h"

/* What a function here did, for the caller's counters. */
enum pair_note {
	NOTE_NONE = 0,
	NOTE_SEEN_AGAIN = 1 << 0,
	NOTE_STRAY_ACK = 1 << 1,
	NOTE_ODD_ACK = 1 << 2,
	NOTE_LATE_SYN = 1 << 3,
	NOTE_UNSOLICITED = 1 << 4,
	NOTE_OPENED_AGAIN = 1 << 5, /* the handshake goes on after its record was sent */
};

struct pair_outcome {
	int settled; /* enum settle_reason, SETTLED_NOT if the entry is still pending */
	int note;    /* enum pair_note, a bit mask */
};

static __always_inline __u8 saturating_increment(__u8 v)
{
	return v == 255 ? v : v + 1;
}

/* CPUs race for the lock and captures may be unsorted: "last" can be later than "now". */
static __always_inline __u64 wait_after(__u64 now_ns, __u64 last_ns, __u64 least_ns)
{
	__u64 wait_ns = now_ns > last_ns ? (now_ns - last_ns) * 5 / 2 : 0;

	return wait_ns > least_ns ? wait_ns : least_ns;
}

/* The same segment at another interface of the group. */
static __always_inline int is_seen_again(const struct segment *s, __u32 place, __u64 last_ns)
{
	return s->place != place && s->now_ns < last_ns + SEEN_AGAIN_NS;
}

/*
 * A mirror port's second copy (DESIGN.md section 3). What makes two segments equal is in their prints; a print without
 * timestamps or an IPv4 id says less, so copies must then follow each other more closely.
 */
static __always_inline int is_copy(const struct segment *s, __u32 print, __u64 last_ns)
{
	return s->print == print && apart(s->now_ns, last_ns) <= (print & PRINT_IS_STRONG ? COPY_NS : COPY_UNSURE_NS);
}

/* Makes an entry for the first SYN, overwriting any other. */
static __always_inline void pair_open(struct pending *p, const struct segment *s, __u32 ifindex, __u8 family)
{
	struct handshake_event *ev = &p->ev;

	/* all but the SYN's facts, which follow, and what a new entry does not read */
	__builtin_memset(p, 0, __builtin_offsetof(struct pending, ev.syn));
	__builtin_memset(&ev->synack, 0,
			 __builtin_offsetof(struct pending, deadline_ns) -
				 __builtin_offsetof(struct pending, ev.synack));
	ev->id = handshake_id(&s->flow, s->seq);
	ev->syn_ns = s->now_ns;
	copy_address(ev->client, s->flow.src);
	copy_address(ev->server, s->flow.dst);
	ev->client_port = s->flow.src_port;
	ev->server_port = s->flow.dst_port;
	ev->ifindex = ifindex;
	ev->egress = s->place & 1;
	ev->vlan[0] = s->flow.vlan[0];
	ev->vlan[1] = s->flow.vlan[1];
	ev->family = family;
	ev->syn_count = 1;
	copy_words(&ev->syn, &s->facts, sizeof(s->facts));
	ev->client_socket = s->socket;
	p->state = PENDING_SYN_SENT;
	/* a socket that connects to itself is a simultaneous open */
	p->simultaneous = ev->client_port == ev->server_port && same_address(ev->client, ev->server);
	p->group = s->flow.group;
	p->place = s->place;
	p->syn_print = s->print;
	p->client_next = s->seq + 1 + s->facts.payload_len;
	p->last_syn_ns = s->now_ns;
	p->deadline_ns = s->now_ns + NO_ANSWER_NS;
}

/* Counts a segment that leaves the entry's state alone, once where it is mirrored. Returns whether it is no copy. */
static __always_inline int count_aside(struct pending *p, const struct segment *s, __u8 *count)
{
	if (p->aside_print && p->aside_print == s->print) {
		if (is_seen_again(s, p->aside_place, p->last_aside_ns))
			return 0;
		if (is_copy(s, p->aside_print, p->last_aside_ns)) {
			p->ev.copies = saturating_increment(p->ev.copies);
			return 0;
		}
	}
	p->aside_print = s->print;
	p->aside_place = s->place;
	p->last_aside_ns = s->now_ns;
	*count = saturating_increment(*count);
	return 1;
}

static __always_inline void remember_retransmission(struct handshake_event *ev, const struct segment *s)
{
	__u32 i = ev->retx_count;

	if (i >= RETX_MAX)
		i = RETX_MAX - 1; /* the last one matters more than one in the middle */
	else
		ev->retx_count = i + 1;
	ev->retx[i].after_us = s->now_ns > ev->syn_ns ? (s->now_ns - ev->syn_ns) / NS_PER_US : 0;
	ev->retx[i].ts_val = s->facts.ts_val;
	ev->retx_flags[i] = (s->facts.tcp_flags & (TCP_ECE | TCP_CWR)) | s->facts.tcp_flags >> 8;
}

/* A SYN with the first one's ISN, from the client. */
static __always_inline struct pair_outcome pair_syn_again(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};

	if (is_seen_again(s, p->place, p->last_syn_ns)) {
		out.note = NOTE_SEEN_AGAIN;
		return out;
	}
	if (s->place == p->place && is_copy(s, p->syn_print, p->last_syn_ns)) {
		p->ev.copies = saturating_increment(p->ev.copies);
		return out;
	}
	p->ev.syn_count = saturating_increment(p->ev.syn_count);
	if (p->state != PENDING_ESTABLISHED)
		remember_retransmission(&p->ev, s);
	if (p->state == PENDING_TOMBSTONE) {
		p->syn_since = 1;
		p->deadline_ns = s->now_ns + wait_after(s->now_ns, p->last_syn_ns, TOMBSTONE_NS);
		out.note = NOTE_LATE_SYN;
	} else {
		if (p->state != PENDING_SYN_SENT)
			p->ev.late_syns = saturating_increment(p->ev.late_syns);
		if (p->state != PENDING_ESTABLISHED)
			p->deadline_ns = s->now_ns + wait_after(s->now_ns, p->last_syn_ns, NO_ANSWER_NS);
	}
	p->syn_gap_ns = s->now_ns > p->last_syn_ns ? s->now_ns - p->last_syn_ns : 0;
	p->last_syn_ns = s->now_ns;
	p->syn_print = s->print;
	return out;
}

/*
 * A SYN from the server's end while ours is unanswered (RFC 9293, section 3.5). It may be forged, so it says nothing
 * until either end acks it.
 */
static __always_inline void pair_crossing_syn(struct pending *p, const struct segment *s)
{
	p->crossed = 1;
	p->crossing_isn = s->seq;
}

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

/* The numbers of an RST must fit the handshake, else anybody could settle it. */
static __always_inline struct pair_outcome pair_rst(struct pending *p, const struct segment *s, int from_client)
{
	struct pair_outcome out = {};

	if (p->state == PENDING_TOMBSTONE)
		return out;
	if (!rst_fits(p, s, from_client)) {
		/* before the SYN-ACK the client resets others, as after a challenge ACK */
		if (!from_client || p->state != PENDING_SYN_SENT)
			count_aside(p, s, &p->ev.misfit_rsts);
		return out;
	}
	if (p->state == PENDING_SYN_SENT)
		p->ev.result = RESULT_REJECTED;
	else if (p->state == PENDING_SYN_ACKED)
		p->ev.result = RESULT_ABORTED;
	p->ev.reset_from = from_client ? RESET_BY_CLIENT : RESET_BY_SERVER;
	p->ev.reset_ttl = s->ttl;
	out.settled = SETTLED_BY_RST;
	return out;
}

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

static __always_inline struct pair_outcome established(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};

	p->ev.ack_ns = s->now_ns;
	p->ev.ack_ts_ecr = s->ts_ecr;
	note_bare(p, s);
	p->state = PENDING_ESTABLISHED;
	p->deadline_ns = s->now_ns + s->response_timeout_ns;
	if (s->payload_len)
		note_request(p, s);
	if (s->flags & TCP_FIN)
		p->ev.client_fin = 1;
	if (p->simultaneous)
		out.settled = SETTLED_BY_ACK;
	else if (p->ev.response_ns)
		out.settled = SETTLED_BY_RESPONSE;
	else if (p->server_fin)
		out.settled = SETTLED_BY_FIN;
	return out;
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

/* Does the client's segment complete the handshake? Then prepares for established(). */
static __always_inline int completes(struct pending *p, const struct segment *s)
{
	int takes;

	if (p->state == PENDING_SYN_SENT) {
		/* the client acks a SYN-ACK that we did not see, or not yet: it took another path, or it comes late */
		if (p->simultaneous || !one_way_fits(p, s))
			return 0;
		p->ev.one_way = 1;
		take_answer(p, s->ack - 1, s->seq, 0);
		return 1;
	}
	if (p->state == PENDING_TOMBSTONE && p->ev.result != RESULT_ABORTED)
		return 0;
	takes = answer_taken(p, s);
	if (takes == TAKES_OTHER)
		take_other(p);
	if (p->state == PENDING_TOMBSTONE && takes) {
		/* it may have crossed the server's RST: what the server does next tells */
		if (!p->early_ack_ns)
			p->early_ack_ns = s->now_ns;
		if (s->payload_len)
			note_request(p, s);
		/* one stack of the client reset the SYN-ACK, another goes on; but CPUs may swap an ACK and the RST behind it */
		return p->ev.reset_from == RESET_BY_CLIENT && s->now_ns >= p->ev.settled_ns + SWAPPED_NS;
	}
	if (!takes && p->state == PENDING_SYN_ACKED && s->flags & TCP_ACK && client_seq_fits(p, s->seq) &&
	    !(p->early_ack_ns && p->early_ack == s->ack)) {
		p->early_ack = s->ack;
		p->early_ack_ns = s->now_ns;
	}
	return takes != 0;
}

static __always_inline struct pair_outcome pair_from_client(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};
	int note = NOTE_NONE;

	if (p->state == PENDING_ESTABLISHED) {
		if (client_fits(p, s))
			note_from_client(p, s);
		return out;
	}
	if (!completes(p, s))
		return out;
	if (p->state == PENDING_TOMBSTONE) {
		open_again(p);
		note = NOTE_OPENED_AGAIN;
	}
	out = established(p, s);
	out.note = note;
	return out;
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

/* While the SYN is unanswered. */
static __always_inline void pair_ahead_of_synack(struct pending *p, const struct segment *s)
{
	if (p->simultaneous || !(s->flags & TCP_ACK))
		return;
	if (in_range(s->ack, p->ev.syn.seq + 1, p->ev.syn.payload_len)) {
		/* it overtook the SYN-ACK, which will tell whether it is the first byte */
		if (s->payload_len && !p->ev.response_ns) {
			p->ev.response_ns = s->now_ns;
			p->server_isn = s->seq - 1;
		}
		return;
	}
	/*
	 * A bare ACK for a SYN is a challenge (RFC 5961, section 4): the server still has a connection of this 4-tuple.
	 * The client resets that connection and sends its SYN again, so the entry stays.
	 */
	if (!s->payload_len && !(s->flags & TCP_FIN))
		count_aside(p, s, &p->ev.challenge_acks);
}

static __always_inline struct pair_outcome pair_from_server(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};

	if (p->state == PENDING_SYN_SENT) {
		/* a simultaneous open whose server sends its SYN and its ACK apart */
		if (p->simultaneous && p->ev.ack_ns && (s->flags & TCP_ACK) && s->ack == p->ev.syn.seq + 1)
			out.settled = SETTLED_BY_ACK;
		else
			pair_ahead_of_synack(p, s);
		return out;
	}
	if (p->state == PENDING_TOMBSTONE) {
		/* a RST that neither end sent: the client acked the SYN-ACK, and the server answers */
		if (p->ev.result != RESULT_ABORTED || !p->early_ack_ns || !server_fits(p, s) ||
		    !covers(s, p->server_isn + 1))
			return out;
		open_again(p);
		p->ev.ack_ns = p->early_ack_ns;
		p->state = PENDING_ESTABLISHED;
		out.note = NOTE_OPENED_AGAIN;
	}
	if (!server_fits(p, s)) {
		if (p->has_other && s->payload_len && covers(s, p->other.facts.seq + 1) && !p->other.response_ns) {
			p->other.response_ns = s->now_ns;
			p->other.server_next = s->seq + s->payload_len;
		}
		return out;
	}
	if (s->flags & TCP_FIN) {
		if (is_next_of_server(p, s->seq))
			p->server_fin = 1;
		else
			p->server_fin_ahead = 1; /* data before it may come again, and is the response then */
	}
	note_from_server(p, s);
	if (p->state == PENDING_ESTABLISHED) {
		if (p->ev.response_ns)
			out.settled = SETTLED_BY_RESPONSE;
		else if (p->server_fin)
			out.settled = SETTLED_BY_FIN;
	}
	return out;
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

static __always_inline struct pair_outcome pair_icmp(struct pending *p, const struct segment *s, __u8 type, __u8 code)
{
	struct pair_outcome out = {};

	if (p->state != PENDING_SYN_SENT)
		return out;
	if (s->seq != p->ev.syn.seq) {
		count_aside(p, s, &p->ev.misfit_icmps);
		return out;
	}
	p->ev.result = RESULT_UNREACHABLE;
	p->ev.icmp_type = type;
	p->ev.icmp_code = code;
	out.settled = SETTLED_BY_ICMP;
	return out;
}

static __always_inline int pending_is_live(const struct pending *p)
{
	return p->state == PENDING_SYN_SENT || p->state == PENDING_SYN_ACKED || p->state == PENDING_ESTABLISHED;
}

/* How long to remember a failed handshake after its last SYN. Of a single one nobody knows how late it was. */
static __always_inline __u64 tombstone_ns(const struct pending *p)
{
	__u64 wait_ns = p->ev.syn_count == 1 ? LONGEST_GAP_NS : p->syn_gap_ns * 5 / 2;

	if (p->ev.result == RESULT_NO_REPLY && wait_ns > TOMBSTONE_NS)
		return wait_ns;
	return p->syn_gap_ns * 5 / 2 > TOMBSTONE_NS ? p->syn_gap_ns * 5 / 2 : TOMBSTONE_NS;
}

/*
 * Makes the record final: then `p->ev` is what user space gets, and the entry is
 * free or a tombstone. Returns whether it is a tombstone.
 */
static __always_inline int settle(struct pending *p, int reason, __u64 now_ns)
{
	struct handshake_event *ev = &p->ev;

	if (ev->result == RESULT_NONE) {
		if (p->simultaneous)
			ev->result = RESULT_SIMULTANEOUS_OPEN;
		else if (p->state == PENDING_ESTABLISHED)
			ev->result = RESULT_ESTABLISHED;
		else if (p->state == PENDING_SYN_ACKED)
			ev->result = RESULT_HALF_OPEN;
		else if (ev->challenge_acks)
			ev->result = RESULT_SYN_ON_ESTABLISHED;
		else
			ev->result = RESULT_NO_REPLY;
	}
	ev->reason = reason == SETTLED_BY_TIMEOUT && p->server_fin_ahead ? SETTLED_BY_FIN : reason;
	ev->settled_ns = now_ns;
	if (ev->result == RESULT_REJECTED || ev->result == RESULT_UNREACHABLE || ev->result == RESULT_NO_REPLY ||
	    ev->result == RESULT_ABORTED) {
		p->state = PENDING_TOMBSTONE;
		p->deadline_ns = now_ns + tombstone_ns(p);
		return 1;
	}
	p->state = PENDING_FREE;
	return 0;
}

#endif
