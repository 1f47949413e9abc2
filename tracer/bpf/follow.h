/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Second stage: find the connection's entry under its set's lock and do what the segment means for it. */
#ifndef TFOTRACE_FOLLOW_H
#define TFOTRACE_FOLLOW_H

#include "counting.h"
#include "state.h"
#include "table.h"

/* What the segment means for the entry it belongs to. Under the set's lock. */
static __always_inline struct pair_outcome pair(struct pending *p, const struct scratch *sc, int direction)
{
	const struct segment *s = &sc->segment;
	struct pair_outcome nothing = {};

	if (sc->icmp)
		return direction == FROM_CLIENT ? pair_icmp(p, s, sc->icmp_type, sc->icmp_code) : nothing;
	if (s->flags & TCP_RST)
		return pair_rst(p, s, direction == FROM_CLIENT);
	if (s->flags & TCP_SYN) {
		if (direction == FROM_SERVER)
			return pair_synack_from_server(p, s);
		return pair_synack_from_client(p, s);
	}
	if (direction == FROM_CLIENT)
		return pair_from_client(p, s);
	return pair_from_server(p, s);
}

/*
 * Finds the flow's entry and does what the segment means for it. `sc->out`
 * holds a record to send when the answer is not SETTLED_NOT.
 */
static __always_inline int follow(struct flow_set *set, __u64 *set_tags, struct scratch *sc, struct counters *c)
{
	const struct segment *s = &sc->segment;
	struct pair_outcome result = {};
	int direction = NOT_THIS_FLOW;
	__u32 way;

	bpf_spin_lock(&set->lock);
	way = find_way(set, *set_tags, tag_of(sc->hash), &s->flow, 0, &direction, &sc->way);
	if (way < WAYS) {
		struct pending *p = &set->way[way];

		result = pair(p, sc, direction);
		if (result.settled) {
			if (!settle(p, result.settled, s->now_ns))
				*set_tags = with_tag(*set_tags, way, 0);
			sc->out = p->ev;
		}
	}
	bpf_spin_unlock(&set->lock);
	count_note(c, result.note);
	if (way == WAYS && !sc->icmp && (s->flags & TCP_SYN))
		c->synack_unmatched++;
	return result.settled;
}

enum opened { OPENED_NOT, OPENED, OPENED_AND_SETTLED };

/* A SYN: opens an entry, or counts as one of an entry that is there. */
static __always_inline int follow_syn(struct flow_set *set, __u64 *set_tags, struct scratch *sc, struct counters *c)
{
	const struct segment *s = &sc->segment;
	struct pair_outcome result = {};
	int direction = NOT_THIS_FLOW;
	int evicted = PENDING_FREE;
	int opened = OPENED;
	__u32 way;

	bpf_spin_lock(&set->lock);
	way = find_way(set, *set_tags, tag_of(sc->hash), &s->flow, 1, &direction, &sc->way);
	if (way < WAYS) {
		struct pending *p = &set->way[way];

		if (direction == FROM_CLIENT && p->ev.syn.seq == s->seq) {
			result = pair_syn_again(p, s);
			opened = OPENED_NOT;
		} else if (direction == FROM_SERVER && p->state == PENDING_SYN_SENT) {
			result = pair_crossing_syn(p, s);
			opened = OPENED_NOT;
		} else if (pending_is_live(p)) {
			/* The 4-tuple begins anew. */
			settle(p, SETTLED_BY_NEW_SYN, s->now_ns);
			sc->out = p->ev;
			opened = OPENED_AND_SETTLED;
		}
	} else {
		way = choose_way(set, &sc->way);
		evicted = set->way[way & (WAYS - 1)].state;
	}
	if (opened) {
		way &= WAYS - 1;
		set->way[way] = sc->fresh;
		*set_tags = with_tag(*set_tags, way, tag_of(sc->hash));
	}
	bpf_spin_unlock(&set->lock);
	count_note(c, result.note);
	count_evicted(c, evicted);
	if (opened)
		c->opened++;
	return opened;
}

#endif
