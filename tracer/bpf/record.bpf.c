/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Sends records to user space, and for captures the handshakes' own packets. */
#include "packets.h"

#define UNANSWERED_PER_SECOND 10000ULL
#define NS_PER_S 1000000000ULL

/* A flood of SYNs that nobody answers must not fill a disk: DESIGN.md section 5. */
static __always_inline int above_limit(const struct handshake_event *ev)
{
	struct limiter *l;
	__u64 second;
	int zero = 0;

	if (ev->result != RESULT_NO_REPLY && ev->result != RESULT_HALF_OPEN)
		return 0;
	l = limiters.lookup(&zero);
	if (!l)
		return 0;
	second = ev->settled_ns / NS_PER_S;
	if (l->second != second) {
		l->second = second;
		l->count = 0;
	}
	l->count++;
	return l->count > UNANSWERED_PER_SECOND;
}

/* User space polls: a wake-up here would cost more than all the rest. */
static __always_inline void send_event(void *ctx, struct handshake_event *ev, struct counters *c)
{
	int error;

	if (above_limit(ev)) {
		c->suppressed++;
		return;
	}
#ifdef TRANSPORT_PERF
	error = events.perf_submit(ctx, ev, sizeof(*ev));
#else
	error = events.ringbuf_output(ev, sizeof(*ev), BPF_RB_NO_WAKEUP);
#endif
	if (error)
		c->lost++;
	else
		c->emitted++;
}

/* Reserves room for a record that is likely to become final, before the lock, under which no helper may be called. */
#ifdef TRANSPORT_PERF
static __always_inline struct handshake_event *reserve_event(void)
{
	return 0;
}
#define is_room(ev) 0
#define finish_event(ev, is_final, c)
#else
static __always_inline struct handshake_event *reserve_event(void)
{
	return events.ringbuf_reserve(sizeof(struct handshake_event));
}

/*
 * Ask only once, right after reserve_event(): 5.10 thinks that a pointer into the ring can be 0 at each comparison.
 * The result is opaque, or the compiler would compare the pointer again.
 */
static __always_inline __u64 is_room(const struct handshake_event *ev)
{
	__u64 room = ev != 0;

	asm volatile("" : "+r"(room));
	return room;
}

static __always_inline void finish_event(struct handshake_event *ev, int is_final, struct counters *c)
{
	if (!is_final) {
		events.ringbuf_discard(ev, BPF_RB_NO_WAKEUP);
	} else if (above_limit(ev)) {
		c->suppressed++;
		events.ringbuf_discard(ev, BPF_RB_NO_WAKEUP);
	} else {
		c->emitted++;
		events.ringbuf_submit(ev, BPF_RB_NO_WAKEUP);
	}
}

#endif

#ifdef PACKETS
/* Call this before the record is sent, so that a reader of the record finds its packets. */
static __always_inline void send_packet(void *ctx, void *data, void *data_end, struct scratch *sc, struct counters *c)
{
	struct interface_config *conf;
	struct packet_event *e;
	int error, zero = 0;

	if (!sc->packet_id)
		return;
	e = packet_scratch.lookup(&zero);
	conf = find_interface(sc->ifindex);
	if (!e || !conf)
		return;
	copy_packet(e, data, data_end, describe_packet(e, sc, conf->no_link_header));
#ifdef TRANSPORT_PERF
	error = packets.perf_submit(ctx, e, sizeof(*e));
#else
	error = packets.ringbuf_output(e, sizeof(*e), BPF_RB_NO_WAKEUP);
#endif
	if (error)
		c->packets_lost++;
	else
		c->packets_kept++;
}
#endif
