/* SPDX-License-Identifier: MIT */
/* One set of the pending table without maps: segments go through follow(), as in a kernel program. */
#ifndef TFOTRACE_TESTS_WORLD_H
#define TFOTRACE_TESTS_WORLD_H

#include "host.h"

static int is_locked;

static void bpf_spin_lock(struct bpf_spin_lock *lock)
{
	if (is_locked || lock->v)
		abort();
	is_locked = 1;
}

static void bpf_spin_unlock(struct bpf_spin_lock *lock)
{
	if (!is_locked || lock->v)
		abort();
	is_locked = 0;
}

#include "follow.h"
#include "read.h"

struct world {
	struct flow_set set;
	struct flow_head head;
	struct early_synack early;
	__u64 tags;
	struct scratch sc;
	struct counters counters;
	__u64 final; /* records that left the table */
};

static inline void begin_world(struct world *w)
{
	memset(w, 0, sizeof(*w));
	memset(&w->set, 0xa5, sizeof(w->set)); /* a free entry is whatever an earlier one left */
	for (int way = 0; way < WAYS; way++)
		w->set.way[way].state = PENDING_FREE;
}

static inline enum segment_kind kind_of(const struct scratch *sc)
{
	if (sc->icmp)
		return SEGMENT_ICMP;
	if (!(sc->segment.flags & TCP_SYN))
		return SEGMENT_PLAIN;
	return sc->segment.flags & TCP_ACK ? SEGMENT_SYNACK : SEGMENT_FIRST_SYN;
}

/* The segment in w->sc, as pair_packet() does it; returns what follow() did. A final record is in w->sc.out. */
static inline int follow_segment(struct world *w, int unwanted)
{
	struct segment *s = &w->sc.segment;
	int done;

	if (!w->sc.icmp)
		s->print = s->flags & TCP_SYN ? print_of_syn(s) : print_of_plain(s);
	w->sc.has_early = 0;
	if (kind_of(&w->sc) == SEGMENT_FIRST_SYN && w->early.hash == w->sc.hash)
		fetch_early(&w->early, &w->sc);
	done = follow(&w->set, &w->head, &w->tags, &w->sc, 0, 0, &w->counters, kind_of(&w->sc), unwanted);
	if (kind_of(&w->sc) == SEGMENT_SYNACK && done == FOLLOWED_NOTHING)
		keep_early(&w->early, &w->sc);
	done &= ~FOLLOWED_NOTHING;
	w->final += done & FOLLOWED_SETTLED;
	return done;
}

/* The same, but by the first stage's shortcut where that would take it. Returns -1 where it did. */
static inline int read_segment(struct world *w, int unwanted)
{
	struct segment *s = &w->sc.segment;
	__u64 found = ways_tagged(w->tags, tag_of(w->sc.hash));
	struct pending *p = &w->set.way[first_way(found)];
	int direction;

	if (w->sc.icmp || s->flags & (TCP_SYN | TCP_FIN | TCP_RST) || !found || found & (found - 1) ||
	    p->state != PENDING_ESTABLISHED)
		return follow_segment(w, unwanted);
	direction = direction_of(p, &s->flow, 0);
	if (direction == NOT_THIS_FLOW || pair_is_idle(p, s, direction == FROM_CLIENT))
		return -1;
	if (!pair_can_be_noted(p, s, direction == FROM_CLIENT))
		return follow_segment(w, unwanted);
	s->print = print_of_plain(s);
	pair_note(p, s, direction == FROM_CLIENT);
	return -1;
}

/* As the sweep does it; calls `settled` with each record. */
static inline void sweep_world(struct world *w, __u64 now_ns, int flush,
			       void (*settled)(const struct handshake_event *))
{
	w->head.due_ns = ~0ULL;
	for (int i = 0; i < WAYS; i++) {
		struct pending *p = &w->set.way[i];
		int is_due = flush || now_ns >= p->deadline_ns;

		if (!(w->tags >> i * 8 & 0xff))
			continue;
		if (!is_due) {
			/* goes on */
		} else if (p->state == PENDING_TOMBSTONE) {
			p->state = PENDING_FREE;
			w->tags = with_tag(w->tags, i, 0);
		} else if (pending_is_live(p)) {
			if (!settle(p, flush ? SETTLED_AT_END : SETTLED_BY_TIMEOUT, now_ns) || flush) {
				p->state = PENDING_FREE;
				w->tags = with_tag(w->tags, i, 0);
			}
			settled(&p->ev);
			w->final++;
		}
		keep_head(&w->head, i, p);
	}
}

#endif
