/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * A pending entry, and which numbers of a segment fit it. The windows are as
 * narrow as a handshake allows: whoever does not see the connection has to guess
 * them. Pure.
 */
#ifndef TFOTRACE_FIT_H
#define TFOTRACE_FIT_H

#include "flow.h"

#define NS_PER_US 1000ULL
#define NS_PER_MS 1000000ULL
#define NO_ANSWER_NS (3500 * NS_PER_MS)
#define TOMBSTONE_NS (3000 * NS_PER_MS)
/* Linux doubles the time between SYNs up to 64 s (tcp_syn_retries is 6). */
#define LONGEST_GAP_NS (65000 * NS_PER_MS)
/* The same SYN reaches another interface of a group within this time; a retransmission comes later. */
#define SEEN_AGAIN_NS (100 * NS_PER_MS)
/* A mirrored copy follows within this time (DESIGN.md section 3): with timestamps or an IPv4 id, and without. */
#define COPY_NS (10 * NS_PER_MS)
#define COPY_UNSURE_NS NS_PER_MS
/* A SYN-ACK comes before its SYN, or an ACK before its SYN-ACK, by less; so do an ACK and a RST that CPUs swap. */
#define EARLY_NS (10 * NS_PER_MS)
#define SWAPPED_NS NS_PER_MS

/* Bytes beyond the last that was seen: what an unscaled window allows. Then the position of the client is noted again. */
#define CLIENT_STEP 0xffffU
#define SERVER_STEP 0xffffU
/* A server that acks more than the SYN carried does so by less; beyond it is another connection's. */
#define OVER_ACK_MAX 0xffffU

enum pending_state {
	PENDING_FREE = 0,
	PENDING_SYN_SENT,    /* no SYN-ACK yet */
	PENDING_SYN_ACKED,   /* half open: no ACK yet */
	PENDING_ESTABLISHED, /* awaiting the server's first data byte */
	PENDING_TOMBSTONE,   /* settled as failed, to recognise late SYNs and those who go on */
};

/* A SYN-ACK with another ISN than the first: the client may take either. */
struct other_answer {
	__u64 ns;
	__u64 response_ns;
	__u32 server_next;
	__u32 socket;
	__u32 place;
	struct segment_facts facts;
};

struct pending {
	struct handshake_event ev;
	__u64 last_request_ns; /* of the segment with the byte that the SYN-ACK asks for; 0 = none */
	__u64 syn_gap_ns;      /* between the last two SYNs */
	__u64 early_ack_ns;    /* of an ACK that takes no SYN-ACK seen so far; 0 = none */
	__u32 aside_print;     /* of a segment that did not fit, or of a challenge ACK */
	__u8 state;	       /* enum pending_state */
	__u8 simultaneous;     /* the server's end also sent a SYN, and one of the two was acked */
	__u8 crossed;	       /* the server's end also sent a SYN */
	__u8 server_fin;       /* the server sent a FIN before the ACK */
	__u8 server_fin_ahead; /* a FIN behind data of the server's that was not seen */
	__u8 syn_since;	       /* a SYN came since the record was sent */
	__u8 has_other;
	__u8 pad[5];
	/* A new entry sets these; those behind client_next are not read before the segment that sets them. */
	__u64 deadline_ns;
	__u64 last_syn_ns;
	__u32 group;
	__u32 place;	   /* of the first SYN: ifindex and direction */
	__u32 syn_print;   /* of the latest SYN, likewise the other prints: see struct segment */
	__u32 client_next; /* behind the last byte seen of the client, at most CLIENT_STEP too low */
	__u64 last_synack_ns;
	__u64 last_aside_ns;
	__u64 last_ack_ns;  /* of ack_print: the client's latest segment without data */
	__u32 synack_place; /* of the SYN-ACK in ev */
	__u32 request_place;
	__u32 synack_print;
	__u32 ack_print;
	__u32 request_print;
	__u32 response_print;
	__u32 aside_place;
	__u32 server_isn;   /* of the SYN-ACK in ev, or as the client's ACK says */
	__u32 server_next;  /* behind the last byte seen of the server */
	__u32 awaited;	    /* the client's byte that the SYN-ACK asks for */
	__u32 crossing_isn; /* of a SYN from the server's end */
	__u32 early_ack;    /* what that ACK acks */
	struct other_answer other;
};

/* segment.print */
#define PRINT_IS_STRONG 1

/* A TCP segment of a tracked connection, or a SYN. */
struct segment {
	__u64 now_ns;
	struct flow flow;
	__u32 place;
	__u32 seq;
	__u32 ack;
	__u32 payload_len;
	__u32 ts_val;
	__u32 ts_ecr;
	__u32 flags;
	__u32 ip_id;	  /* IPv4, else 0 */
	__u32 header_len; /* bytes */
	__u32 print; /* hash of what a mirrored copy has in common with it; PRINT_IS_STRONG: with timestamps or an id */
	__u32 ttl;
	struct segment_facts facts; /* SYN and SYN-ACK only */
	__u32 socket;		    /* inode of the SYN's socket or the SYN-ACK's listener, 0 = unknown */
	__u64 response_timeout_ns;
};

/* Unrelated odd numbers: with related ones a difference in one word would make up for one in another. */
#define PRINT_KEY_NUMBERS 0x9e3779b97f4a7c15ULL
#define PRINT_KEY_FLAGS 0xbf58476d1ce4e5b9ULL
#define PRINT_KEY_STAMPS 0x94d049bb133111ebULL
#define PRINT_KEY_OPTIONS 0xd6e8feb86659fd93ULL

/* Sums of products, which a CPU computes side by side. */
static __always_inline __u64 print_of_header(const struct segment *s)
{
	return ((__u64)s->seq << 32 | s->ack) * PRINT_KEY_NUMBERS +
	       ((__u64)(s->header_len << 16 | s->flags) << 32 | s->payload_len) * PRINT_KEY_FLAGS;
}

static __always_inline __u32 finished_print(__u64 print, __u64 more, int is_strong)
{
	print += more * PRINT_KEY_STAMPS;
	return (__u32)(print >> 32 & ~(__u64)PRINT_IS_STRONG) | (is_strong ? PRINT_IS_STRONG : 0);
}

/* Is `seq` within [from, from + len], modulo 2^32? */
static __always_inline int in_range(__u32 seq, __u32 from, __u32 len)
{
	return seq - from <= len;
}

static __always_inline __u64 apart(__u64 one_ns, __u64 other_ns)
{
	return one_ns > other_ns ? one_ns - other_ns : other_ns - one_ns;
}

/* Is `seq` behind `other`, modulo 2^32? */
static __always_inline int is_behind(__u32 seq, __u32 other)
{
	return (__s32)(seq - other) > 0;
}

static __always_inline int covers(const struct segment *s, __u32 byte)
{
	return byte - s->seq < s->payload_len;
}

/* TFO.md section 2: an attempt is a TFO option or data in the first SYN. */
static __always_inline int tfo_attempted(const struct handshake_event *ev)
{
	return (ev->syn.has & HAS_TFO) || ev->syn.payload_len;
}

/* A SYN-ACK acks the SYN, of an attempt also its data, or more: that is judged. */
static __always_inline int synack_fits(const struct pending *p, const struct segment *s)
{
	const struct handshake_event *ev = &p->ev;

	return in_range(s->ack, ev->syn.seq + 1, tfo_attempted(ev) ? ev->syn.payload_len + OVER_ACK_MAX : 0);
}

/* The client's first segment where no SYN-ACK was seen. */
static __always_inline int one_way_fits(const struct pending *p, const struct segment *s)
{
	return (s->flags & TCP_ACK) && in_range(s->seq, p->ev.syn.seq + 1, p->ev.syn.payload_len);
}

/* Where the client's next segment can begin. */
static __always_inline int client_seq_fits(const struct pending *p, __u32 seq)
{
	__u32 first = p->ev.syn.seq + 1;

	return in_range(seq, first, p->client_next - first + CLIENT_STEP);
}

/* From the established client. Both numbers count: a segment without ACK is nobody's (RFC 9293, 3.10.7.4). */
static __always_inline int client_fits(const struct pending *p, const struct segment *s)
{
	return (s->flags & TCP_ACK) && client_seq_fits(p, s->seq) &&
	       in_range(s->ack, p->server_isn + 1, p->server_next - p->server_isn - 1 + SERVER_STEP);
}

#define TAKES_FIRST 1
#define TAKES_OTHER 2

/* Which SYN-ACK does the client's ACK take? 0: none. Data of the server's may be acked with it. */
static __always_inline int answer_taken(const struct pending *p, const struct segment *s)
{
	if (!(s->flags & TCP_ACK) || !client_seq_fits(p, s->seq))
		return 0;
	if (p->has_other && s->ack == p->other.facts.seq + 1)
		return TAKES_OTHER;
	if (in_range(s->ack, p->server_isn + 1, SERVER_STEP))
		return TAKES_FIRST;
	return p->has_other && in_range(s->ack, p->other.facts.seq + 1, SERVER_STEP) ? TAKES_OTHER : 0;
}

/* From the server, after its SYN-ACK. */
static __always_inline int server_fits(const struct pending *p, const struct segment *s)
{
	__u32 first = p->ev.syn.seq + 1;

	return (s->flags & TCP_ACK) && in_range(s->ack, first, p->client_next - first + CLIENT_STEP) &&
	       in_range(s->seq, p->server_isn + 1, p->server_next - p->server_isn - 1 + SERVER_STEP);
}

/* May the server end the connection with this number? Only what the client expects next, or what follows all that was seen. */
static __always_inline int is_next_of_server(const struct pending *p, __u32 seq)
{
	return seq == p->server_isn + 1 || seq == p->server_next;
}

/* Does the server ack more than its SYN-ACK did? */
static __always_inline int acks_beyond(const struct pending *p, const struct segment *s)
{
	return (s->flags & TCP_ACK) && in_range(s->ack, p->awaited + 1, p->client_next - p->awaited + CLIENT_STEP);
}

static __always_inline int rst_fits(const struct pending *p, const struct segment *s, int from_client)
{
	__u32 first = p->ev.syn.seq + 1;

	/* RFC 9293, 3.10.7.3: acceptable only if it acks the SYN, with or without its data */
	if (p->state == PENDING_SYN_SENT)
		return !from_client && (s->flags & TCP_ACK) && in_range(s->ack, first, p->ev.syn.payload_len);
	if (from_client)
		return in_range(s->seq, first,
				p->client_next - first + (p->state == PENDING_ESTABLISHED ? CLIENT_STEP : 0));
	if (p->state == PENDING_SYN_ACKED && p->has_other && s->seq == p->other.facts.seq + 1)
		return 1;
	return is_next_of_server(p, s->seq);
}

#endif
