/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Second stage: finds the connection's entry under its set's lock and applies the segment to it. */
#ifndef TFOTRACE_FOLLOW_H
#define TFOTRACE_FOLLOW_H

#include "counting.h"
#include "packets.h"
#include "state.h"
#include "table.h"

enum segment_kind { SEGMENT_FIRST_SYN, SEGMENT_SYNACK, SEGMENT_ICMP, SEGMENT_PLAIN };

/* Applies the segment to its entry. Call it under the set's lock. */
static __always_inline struct pair_outcome pair(struct pending *p, const struct scratch *sc, enum segment_kind kind,
						int direction)
{
	const struct segment *s = &sc->segment;
	struct pair_outcome nothing = {};

	if (kind == SEGMENT_ICMP)
		return direction == FROM_CLIENT ? pair_icmp(p, s, sc->icmp_type, sc->icmp_code) : nothing;
	if (s->flags & TCP_RST)
		return pair_rst(p, s, direction == FROM_CLIENT);
	if (kind == SEGMENT_SYNACK) {
		if (direction == FROM_SERVER)
			return pair_synack_from_server(p, s);
		return pair_synack_from_client(p, s);
	}
	if (direction == FROM_CLIENT)
		return pair_from_client(p, s);
	return pair_from_server(p, s);
}

/* For the first stage, without the lock: does the segment belong to this entry and leave it unchanged? */
static __always_inline int is_idle(const struct pending *p, const struct segment *s)
{
	int direction;

	if (!pair_is_idle(p, s, 1))
		return 0;
	direction = direction_of(p, &s->flow, 0);
	return direction == FROM_CLIENT || (direction == FROM_SERVER && pair_is_idle(p, s, 0));
}

/*
 * Is the record likely to be final after this plain segment? A guess from the first
 * entry with its tag, without the lock: if so, room for a record is reserved first.
 */
static __always_inline int is_closing(const struct flow_set *set, __u64 tags, const struct scratch *sc)
{
	const struct pending *p = &set->way[first_way(ways_tagged(tags, tag_of(sc->hash)))];

	return p->state == PENDING_ESTABLISHED || p->ev.response_ns || sc->segment.flags & (TCP_FIN | TCP_RST);
}

/* What follow() did. */
#define FOLLOWED_SETTLED (1 << 0) /* the record is final */
#define FOLLOWED_OPENED (1 << 1)  /* the SYN opened an entry */

/* A SYN for an existing entry. Returns whether it opens a new one in its place. */
static __always_inline int pair_syn(struct pending *p, const struct segment *s, int direction,
				    struct pair_outcome *result)
{
	if (direction == FROM_CLIENT && p->ev.syn.seq == s->seq) {
		*result = pair_syn_again(p, s);
		return 0;
	}
	if (direction == FROM_SERVER && p->state == PENDING_SYN_SENT) {
		*result = pair_crossing_syn(p, s);
		return 0;
	}
	/* a new connection of the same 4-tuple */
	if (pending_is_live(p))
		result->settled = SETTLED_BY_NEW_SYN;
	return 1;
}

/*
 * Takes the lock once: finds the entry, applies the segment to it, copies the
 * record to `record` if it is final, and adds a new entry if a SYN opens one and
 * is not `unwanted`.
 */
static __always_inline int follow(struct flow_set *set, struct flow_head *head, __u64 *set_tags, struct scratch *sc,
				  struct handshake_event *record, struct counters *c, enum segment_kind kind,
				  int unwanted)
{
	const struct segment *s = &sc->segment;
	int is_syn = kind == SEGMENT_FIRST_SYN;
	struct pair_outcome result = {};
	int direction = NOT_THIS_FLOW;
	int evicted = PENDING_FREE;
	int done = 0, opens = 0, filtered = 0, exists;
	struct pending *p;
	__u32 way;

	bpf_spin_lock(&head->lock);
	exists = find_way(set, *set_tags, tag_of(sc->hash), &s->flow, is_syn, &direction, &sc->way);
	if (is_syn && !exists && unwanted) {
		filtered = 1;
	} else if (is_syn && !exists) {
		choose_way(head, *set_tags, &sc->way);
		evicted = state_of(head, chosen_way(&sc->way));
		opens = 1;
	}
	if (exists || opens) {
		way = chosen_way(&sc->way);
		p = &set->way[way];
		if (!is_syn)
			result = pair(p, sc, kind, direction);
		else if (!opens)
			opens = pair_syn(p, s, direction, &result);
		if (opens && unwanted) {
			opens = 0;
			filtered = 1;
		}
		if (result.settled) {
			if (!settle(p, result.settled, s->now_ns))
				*set_tags = with_tag(*set_tags, way, 0);
			*record = p->ev;
			done |= FOLLOWED_SETTLED;
		}
		if (opens) {
			pair_open(p, s, sc->ifindex, sc->family);
			copy_words(&p->ev.client_process, &sc->process, sizeof(sc->process));
			sc->id = p->ev.id;
			keep_order(head, way);
			*set_tags = with_tag(*set_tags, way, tag_of(sc->hash));
			done |= FOLLOWED_OPENED;
		}
		keep_head(head, way, p);
		choose_packet(sc, p, &result, opens, filtered);
	}
	bpf_spin_unlock(&head->lock);
	count_note(c, result.note);
	count_evicted(c, evicted);
	if (opens)
		c->opened++;
	c->filtered += filtered;
	if (!exists && kind == SEGMENT_SYNACK)
		c->synack_unmatched++;
	return done;
}

#endif
