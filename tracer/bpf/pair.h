/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * One handshake from its first SYN until it is settled (DESIGN.md section 4):
 * what each segment does to the pending entry. Pure: the caller takes the lock,
 * finds the entry, and sends the record when a function here says it is final.
 * fit.h says which numbers fit an entry; this acts only on segments that do.
 */
#ifndef TFOTRACE_PAIR_H
#define TFOTRACE_PAIR_H

#include "note.h"
#include "synack.h"

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

static __always_inline struct pair_outcome pair_icmp(struct pending *p, const struct segment *s, __u8 type, __u8 code,
						     const __u8 *from)
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
	copy_address(p->ev.icmp_from, from);
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
