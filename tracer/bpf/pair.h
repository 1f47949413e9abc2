/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * One handshake from its first SYN until it is settled (DESIGN.md section 4):
 * what each segment does to the pending entry. Pure: the caller takes the lock,
 * finds the entry, and sends the record when a function here says it is final.
 */
#ifndef TFOTRACE_PAIR_H
#define TFOTRACE_PAIR_H

#include "flow.h"

#define NS_PER_US 1000ULL
#define NS_PER_MS 1000000ULL
#define NO_ANSWER_NS (3500 * NS_PER_MS)
#define TOMBSTONE_NS (3000 * NS_PER_MS)
/* The same SYN reaches another interface of a group within this time; a retransmission comes later. */
#define SEEN_AGAIN_NS (100 * NS_PER_MS)
/* Numbers further off than this belong to another connection of the same 4-tuple. */
#define SEQUENCE_WINDOW (1U << 20)

enum pending_state {
	PENDING_FREE = 0,
	PENDING_SYN_SENT,    /* no SYN-ACK yet */
	PENDING_SYN_ACKED,   /* half open: no ACK yet */
	PENDING_ESTABLISHED, /* awaiting the server's first data byte */
	PENDING_TOMBSTONE,   /* settled unanswered, to count late SYNs */
};

struct pending {
	struct handshake_event ev;
	__u64 deadline_ns;
	__u64 last_syn_ns;
	__u64 last_synack_ns;
	__u32 group;
	__u32 place;	    /* of the first SYN: ifindex and direction */
	__u32 synack_place; /* of the first SYN-ACK */
	__u32 server_isn;   /* of the latest SYN-ACK; that of the first one is in ev */
	__u8 state;	    /* enum pending_state */
	__u8 simultaneous;  /* the server's end also sent a SYN */
	__u8 server_fin;    /* the server sent a FIN before the ACK */
	__u8 pad[5];
};

/* A TCP segment of a tracked connection, or a SYN. */
struct segment {
	__u64 now_ns;
	struct flow flow;
	__u32 place;
	__u32 seq;
	__u32 ack;
	__u32 payload_len;
	__u32 ts_ecr;
	__u32 flags;
	struct segment_facts facts; /* SYN and SYN-ACK only */
	__u32 socket;		    /* inode of the SYN's socket or the SYN-ACK's listener, 0 = unknown */
	__u64 response_timeout_ns;
};

/* What a function here did, for the caller's counters. */
enum pair_note {
	NOTE_NONE = 0,
	NOTE_SEEN_AGAIN = 1 << 0,
	NOTE_STRAY_ACK = 1 << 1,
	NOTE_ODD_ACK = 1 << 2,
	NOTE_LATE_SYN = 1 << 3,
	NOTE_UNSOLICITED = 1 << 4,
};

struct pair_outcome {
	int settled; /* enum settle_reason, SETTLED_NOT if the entry is still pending */
	int note;    /* enum pair_note, a bit mask */
};

static __always_inline __u8 saturating_increment(__u8 v)
{
	return v == 255 ? v : v + 1;
}

static __always_inline __u64 answer_deadline(__u64 now_ns, __u64 last_ns)
{
	/* CPUs race for the lock and captures may be unsorted: "last" can be later than "now" */
	__u64 wait_ns = now_ns > last_ns ? (now_ns - last_ns) * 5 / 2 : 0;

	return now_ns + (wait_ns > NO_ANSWER_NS ? wait_ns : NO_ANSWER_NS);
}

/* Is `seq` within [from, from + len], modulo 2^32? */
static __always_inline int in_range(__u32 seq, __u32 from, __u32 len)
{
	return seq - from <= len;
}

/* TFO.md section 2: an attempt is a TFO option or data in the first SYN. */
static __always_inline int tfo_attempted(const struct handshake_event *ev)
{
	return (ev->syn.has & HAS_TFO) || ev->syn.payload_len;
}

/* Makes an entry for the first SYN, overwriting any other. */
static __always_inline void pair_open(struct pending *p, const struct segment *s, __u32 ifindex, __u8 family)
{
	struct handshake_event *ev = &p->ev;

	__builtin_memset(p, 0, sizeof(*p));
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
}

/* A SYN with the first one's ISN, from the client. */
static __always_inline struct pair_outcome pair_syn_again(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};

	if (p->state == PENDING_TOMBSTONE) {
		out.note = NOTE_LATE_SYN;
		return out;
	}
	if (s->place != p->place && s->now_ns < p->last_syn_ns + SEEN_AGAIN_NS) {
		out.note = NOTE_SEEN_AGAIN;
		return out;
	}
	p->ev.syn_count = saturating_increment(p->ev.syn_count);
	if (p->state == PENDING_SYN_SENT)
		remember_retransmission(&p->ev, s);
	else
		p->ev.late_syns = saturating_increment(p->ev.late_syns);
	if (p->state != PENDING_ESTABLISHED)
		p->deadline_ns = answer_deadline(s->now_ns, p->last_syn_ns);
	p->last_syn_ns = s->now_ns;
	return out;
}

/* A SYN from the server's end while ours is unanswered (RFC 9293, section 3.5). */
static __always_inline struct pair_outcome pair_crossing_syn(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};

	p->simultaneous = 1;
	p->server_isn = s->seq;
	p->deadline_ns = s->now_ns + NO_ANSWER_NS;
	return out;
}

static __always_inline void first_synack(struct pending *p, const struct segment *s)
{
	p->ev.synack_ns = s->now_ns;
	p->ev.synack_count = 1;
	copy_words(&p->ev.synack, &s->facts, sizeof(s->facts));
	p->ev.server_socket = s->socket;
	p->server_isn = s->seq;
	p->synack_place = s->place;
	p->last_synack_ns = s->now_ns;
	p->state = PENDING_SYN_ACKED;
	p->deadline_ns = s->now_ns + NO_ANSWER_NS;
	if (s->facts.payload_len)
		p->ev.response_ns = s->now_ns;
}

static __always_inline struct pair_outcome pair_synack_from_server(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};
	__u32 acked = s->ack - (p->ev.syn.seq + 1);

	/* one-way: an earlier SYN-ACK took another path, so this is not the first one */
	if (p->state == PENDING_TOMBSTONE || p->ev.one_way)
		return out;
	if (acked > SEQUENCE_WINDOW) {
		out.note = NOTE_STRAY_ACK;
		return out;
	}
	if (p->state != PENDING_SYN_SENT) {
		if (s->place != p->synack_place && s->now_ns < p->last_synack_ns + SEEN_AGAIN_NS) {
			out.note = NOTE_SEEN_AGAIN;
			return out;
		}
		p->ev.synack_count = saturating_increment(p->ev.synack_count);
		p->server_isn = s->seq;
		if (p->state == PENDING_SYN_ACKED)
			p->deadline_ns = answer_deadline(s->now_ns, p->last_synack_ns);
		p->last_synack_ns = s->now_ns;
		return out;
	}
	first_synack(p, s);
	if (acked && !tfo_attempted(&p->ev))
		out.note |= NOTE_ODD_ACK;
	if ((s->facts.has & HAS_TFO) && !(p->ev.syn.has & HAS_TFO))
		out.note |= NOTE_UNSOLICITED;
	if (p->simultaneous && p->ev.ack_ns)
		out.settled = SETTLED_BY_ACK;
	return out;
}

/* The client sends one only in a simultaneous open. */
static __always_inline struct pair_outcome pair_synack_from_client(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};

	if (!p->simultaneous || p->state == PENDING_TOMBSTONE)
		return out;
	if (!p->ev.ack_ns)
		p->ev.ack_ns = s->now_ns;
	if (p->state == PENDING_SYN_ACKED)
		out.settled = SETTLED_BY_ACK;
	return out;
}

/* Does it belong to this connection's server, and not to an earlier connection of the 4-tuple? */
static __always_inline int server_seq_fits(const struct pending *p, __u32 seq)
{
	/* no SYN-ACK was seen, so there is nothing to compare with */
	if (!p->ev.synack_ns && !p->simultaneous)
		return 1;
	return in_range(seq, p->server_isn, SEQUENCE_WINDOW) || in_range(seq, p->ev.synack.seq, SEQUENCE_WINDOW);
}

/* The numbers of an RST must fit the handshake, else anybody could settle it. */
static __always_inline struct pair_outcome pair_rst(struct pending *p, const struct segment *s, int from_client)
{
	struct pair_outcome out = {};
	__u32 first = p->ev.syn.seq + 1;

	switch (p->state) {
	case PENDING_SYN_SENT:
		/* RFC 9293, 3.10.7.3: acceptable only if it acks the SYN, with or without its data */
		if (from_client || !(s->flags & TCP_ACK) || !in_range(s->ack, first, p->ev.syn.payload_len))
			return out;
		p->ev.result = RESULT_REJECTED;
		break;
	case PENDING_SYN_ACKED:
		if (!in_range(s->seq, from_client ? first : p->server_isn, SEQUENCE_WINDOW))
			return out;
		p->ev.result = RESULT_ABORTED;
		break;
	case PENDING_ESTABLISHED:
		/* the client may have sent a lot already; the server has sent nothing but its SYN-ACK */
		if (from_client ? !in_range(s->seq, first, 1U << 31) : !server_seq_fits(p, s->seq))
			return out;
		break;
	default:
		return out;
	}
	out.settled = SETTLED_BY_RST;
	return out;
}

static __always_inline struct pair_outcome established(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};

	p->ev.ack_ns = s->now_ns;
	p->ev.ack_ts_ecr = s->ts_ecr;
	p->state = PENDING_ESTABLISHED;
	p->deadline_ns = s->now_ns + s->response_timeout_ns;
	if (p->simultaneous)
		out.settled = SETTLED_BY_ACK;
	else if (p->ev.response_ns)
		out.settled = SETTLED_BY_RESPONSE;
	else if (p->server_fin || (s->flags & TCP_FIN))
		out.settled = SETTLED_BY_FIN;
	return out;
}

static __always_inline struct pair_outcome pair_from_client(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};
	__u32 first = p->ev.syn.seq + 1;

	if (p->state == PENDING_SYN_SENT) {
		/* the client acks a SYN-ACK that we did not see: it took another path */
		if (!p->simultaneous && (s->flags & TCP_ACK) && in_range(s->seq, first, p->ev.syn.payload_len)) {
			p->ev.one_way = 1;
			return established(p, s);
		}
	} else if (p->state == PENDING_SYN_ACKED) {
		/* after accepted SYN data, seq is up to isn + 1 + len, or more if segments were lost */
		if ((s->flags & TCP_ACK) && in_range(s->seq, first, SEQUENCE_WINDOW) &&
		    (in_range(s->ack, p->server_isn + 1, SEQUENCE_WINDOW) ||
		     in_range(s->ack, p->ev.synack.seq + 1, SEQUENCE_WINDOW)))
			return established(p, s);
	} else if (p->state == PENDING_ESTABLISHED && (s->flags & TCP_FIN) && in_range(s->seq, first, 1U << 31)) {
		out.settled = SETTLED_BY_FIN;
	}
	return out;
}

static __always_inline struct pair_outcome pair_from_server(struct pending *p, const struct segment *s)
{
	struct pair_outcome out = {};

	if (p->state == PENDING_SYN_SENT) {
		/*
		 * A bare ACK for a SYN is a challenge (RFC 5961, section 4): the server
		 * still has a connection of this 4-tuple. If it acks this SYN, it just
		 * overtook the SYN-ACK.
		 */
		if (!p->simultaneous && (s->flags & TCP_ACK) &&
		    !in_range(s->ack, p->ev.syn.seq + 1, p->ev.syn.payload_len)) {
			/* the client resets that connection and sends its SYN again, so the entry stays */
			if (!s->payload_len && !(s->flags & TCP_FIN))
				p->ev.challenge_acks = saturating_increment(p->ev.challenge_acks);
			return out;
		}
	} else if (p->state != PENDING_SYN_ACKED && p->state != PENDING_ESTABLISHED) {
		return out;
	}
	if (!server_seq_fits(p, s->seq))
		return out;
	if (s->payload_len && !p->ev.response_ns)
		p->ev.response_ns = s->now_ns;
	if (s->flags & TCP_FIN)
		p->server_fin = 1;
	if (p->state == PENDING_ESTABLISHED) {
		if (p->ev.response_ns)
			out.settled = SETTLED_BY_RESPONSE;
		else if (p->server_fin)
			out.settled = SETTLED_BY_FIN;
	}
	return out;
}

/*
 * Does the segment leave the entry unchanged? Most of a tracked connection do:
 * the client's request, and the server's bare ACKs before its answer. This may
 * be called without the lock: if the entry changes meanwhile, the segment counts
 * as one that came a moment earlier.
 */
static __always_inline int pair_is_idle(const struct pending *p, const struct segment *s, int from_client)
{
	return p->state == PENDING_ESTABLISHED && !(s->flags & (TCP_SYN | TCP_FIN | TCP_RST)) &&
	       (from_client || !s->payload_len);
}

static __always_inline struct pair_outcome pair_icmp(struct pending *p, const struct segment *s, __u8 type, __u8 code)
{
	struct pair_outcome out = {};

	if (p->state != PENDING_SYN_SENT || s->seq != p->ev.syn.seq)
		return out;
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
	ev->reason = reason;
	ev->settled_ns = now_ns;
	if (ev->result == RESULT_REJECTED || ev->result == RESULT_UNREACHABLE || ev->result == RESULT_NO_REPLY) {
		p->state = PENDING_TOMBSTONE;
		p->deadline_ns = now_ns + TOMBSTONE_NS;
		return 1;
	}
	p->state = PENDING_FREE;
	return 0;
}

#endif
