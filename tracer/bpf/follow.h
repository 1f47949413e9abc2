/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Second stage: finds the connection's entry under its set's lock and applies the segment to it. */
#ifndef TFOTRACE_FOLLOW_H
#define TFOTRACE_FOLLOW_H

#include "counting.h"
#include "packets.h"
#include "state.h"
#include "table.h"

enum segment_kind { SEGMENT_FIRST_SYN, SEGMENT_SYNACK, SEGMENT_ICMP, SEGMENT_PLAIN };

/*
 * How well a segment fits an entry of its addresses and ports: the sum of these. Numbers decide before VLAN tags, which
 * can differ by direction; tags decide where a router sends the same segment back with another tag.
 */
#define FIT_FLOW 1
#define FIT_LIVE 2
#define FIT_TAGS 4
#define FIT_NUMBERS 8  /* within the windows of fit.h */
#define FIT_EXACTLY 16 /* without anything that was not seen */

static __always_inline int plain_fit(const struct pending *p, const struct segment *s, int from_client)
{
	__u32 first = p->ev.syn.seq + 1, of_server = p->server_isn + 1;
	int fits, exactly;

	if (s->flags & TCP_RST) {
		fits = p->state != PENDING_TOMBSTONE && rst_fits(p, s, from_client);
		exactly = !from_client || in_range(s->seq, first, p->client_next - first);
	} else if (p->state == PENDING_SYN_SENT) {
		fits = from_client ? one_way_fits(p, s)
				   : (s->flags & TCP_ACK) && in_range(s->ack, first, p->ev.syn.payload_len);
		exactly = 1;
	} else if (from_client) {
		fits = p->state == PENDING_ESTABLISHED ? client_fits(p, s) : answer_taken(p, s);
		exactly = in_range(s->seq, first, p->client_next - first) &&
			  in_range(s->ack, of_server, p->server_next - of_server);
	} else {
		fits = server_fits(p, s);
		exactly = in_range(s->seq, of_server, p->server_next - of_server);
	}
	return !fits ? 0 : exactly ? FIT_NUMBERS | FIT_EXACTLY : FIT_NUMBERS;
}

static __always_inline int numbers_fit(const struct pending *p, const struct segment *s, enum segment_kind kind,
				       int from_client)
{
	if (kind == SEGMENT_ICMP)
		return s->seq == p->ev.syn.seq ? FIT_NUMBERS : 0;
	if (kind == SEGMENT_PLAIN)
		return plain_fit(p, s, from_client);
	if (from_client)
		return s->seq == p->ev.syn.seq ? FIT_NUMBERS : 0;
	if (!synack_fits(p, s))
		return 0;
	return in_range(s->ack, p->ev.syn.seq + 1, p->ev.syn.payload_len) ? FIT_NUMBERS | FIT_EXACTLY : FIT_NUMBERS;
}

/* A SYN belongs only to an entry with its number and tags, or it crosses an unanswered one. */
static __always_inline int syn_fit(const struct pending *p, const struct segment *s, int from_client)
{
	if (!same_tags(p, &s->flow))
		return 0;
	if (from_client)
		return s->seq == p->ev.syn.seq ? FIT_NUMBERS : 0;
	return p->state == PENDING_SYN_SENT ? FIT_FLOW : 0;
}

static __always_inline int fit_of(const struct pending *p, const struct segment *s, enum segment_kind kind,
				  int from_client)
{
	int fit = FIT_FLOW;

	if (kind == SEGMENT_FIRST_SYN)
		return syn_fit(p, s, from_client);
	if (same_tags(p, &s->flow))
		fit |= FIT_TAGS;
	/* an ACK that says nothing new may be the challenge that answers a newer SYN */
	if (kind == SEGMENT_PLAIN && pair_is_idle(p, s, from_client))
		return fit;
	if (p->state != PENDING_TOMBSTONE)
		fit |= FIT_LIVE;
	return fit | numbers_fit(p, s, kind, from_client);
}

/* As direction_of(); a tombstone beyond its time is nobody's, though the sweep has not come to it. */
static __always_inline int sender_of(const struct pending *p, const struct segment *s, int syn)
{
	if (p->state == PENDING_TOMBSTONE && s->now_ns >= p->deadline_ns)
		return NOT_THIS_FLOW;
	return direction_of(p, &s->flow, syn);
}

/*
 * Finds the entry that the segment fits best, and which end sent it; returns how well, 0: there is none. Call it under
 * the set's lock. What it finds goes through memory, so that the verifier does not know it: it checks what follows once,
 * not once for each way.
 */
static __always_inline int find_entry(const struct flow_set *set, __u64 tags, struct scratch *sc,
				      enum segment_kind kind)
{
	__u64 tagged = ways_tagged(tags, tag_of(sc->hash));
	const struct segment *s = &sc->segment;

	/* one alone needs no comparison, except for a SYN, which may open another */
	if (kind != SEGMENT_FIRST_SYN && !(tagged & (tagged - 1))) {
		sc->way = first_way(tagged);
		sc->from = tagged ? sender_of(&set->way[chosen_way(&sc->way)], s, 0) : NOT_THIS_FLOW;
		return sc->from;
	}
	if (!tagged)
		return NOT_THIS_FLOW;
	sc->best = 0;
	sc->rank = 0;
	NO_UNROLL
	for (int i = 0; i < WAYS && tagged; i++) {
		const struct pending *p;
		int direction;

		sc->candidate = first_way(tagged);
		tagged &= tagged - 1;
		p = &set->way[chosen_way(&sc->candidate)];
		direction = sender_of(p, s, kind == SEGMENT_FIRST_SYN);
		if (direction == NOT_THIS_FLOW)
			continue;
		sc->rank += pending_is_live(p);
		sc->fit = fit_of(p, s, kind, direction == FROM_CLIENT);
		if (sc->fit > sc->best) {
			sc->best = sc->fit;
			sc->way = sc->candidate;
			sc->from = direction;
		}
	}
	/* a failed handshake goes on only where it would not be the third of its 4-tuple */
	if (sc->rank > 1 && kind != SEGMENT_FIRST_SYN && set->way[chosen_way(&sc->way)].state == PENDING_TOMBSTONE)
		return 0;
	return sc->best;
}

/*
 * Are there two live entries of a new SYN's 4-tuple and tags? Then one has to go, or forged SYNs would fill the set: the
 * unanswered one, of two such the newer, else the older. Leaves it in sc->way.
 */
static __always_inline int find_displaced(const struct flow_set *set, __u64 tags, struct scratch *sc)
{
	__u64 tagged = ways_tagged(tags, tag_of(sc->hash));
	const struct segment *s = &sc->segment;

	if (!(tagged & (tagged - 1)))
		return 0;
	sc->best = 0;
	sc->rank = 0;
	NO_UNROLL
	for (int i = 0; i < WAYS && tagged; i++) {
		const struct pending *p;
		__u64 rank;

		sc->candidate = first_way(tagged);
		tagged &= tagged - 1;
		p = &set->way[chosen_way(&sc->candidate)];
		if (direction_of(p, &s->flow, 1) == NOT_THIS_FLOW || !same_tags(p, &s->flow) || !pending_is_live(p))
			continue;
		rank = p->state == PENDING_SYN_SENT ? 1ULL << 63 | p->ev.syn_ns : ~p->ev.syn_ns & ~(1ULL << 63);
		sc->best++;
		if (rank >= sc->rank) {
			sc->rank = rank;
			sc->way = sc->candidate;
		}
	}
	return sc->best > 1;
}

/* Applies the segment to its entry. Call it under the set's lock. */
static __always_inline struct pair_outcome pair(struct pending *p, const struct scratch *sc, enum segment_kind kind,
						int direction)
{
	const struct segment *s = &sc->segment;
	struct pair_outcome nothing = {};

	if (kind == SEGMENT_FIRST_SYN) {
		if (direction == FROM_CLIENT)
			return pair_syn_again(p, s);
		pair_crossing_syn(p, s);
		return nothing;
	}
	if (kind == SEGMENT_ICMP)
		return direction == FROM_CLIENT ? pair_icmp(p, s, sc->icmp_type, sc->icmp_code, sc->icmp_from)
						: nothing;
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

/*
 * Is the record likely to be final after this plain segment? A guess from the first
 * entry with its tag, without the lock: if so, room for a record is reserved first.
 */
static __always_inline int is_closing(const struct flow_set *set, __u64 tags, const struct scratch *sc)
{
	const struct pending *p = &set->way[first_way(ways_tagged(tags, tag_of(sc->hash)))];
	const struct segment *s = &sc->segment;

	if (s->flags & TCP_RST || p->ev.response_ns)
		return 1;
	return p->state == PENDING_ESTABLISHED && p->ev.server_port == s->flow.src_port;
}

/* What follow() did. */
#define FOLLOWED_SETTLED (1 << 0) /* the record is final */
#define FOLLOWED_OPENED (1 << 1)  /* the SYN opened an entry */
#define FOLLOWED_NOTHING (1 << 2) /* no entry fits */

/*
 * Keeps a SYN-ACK that belongs to no entry, for a moment: its SYN may come next. If another CPU opens the entry between the
 * look for it and this, the SYN-ACK is lost, and the record is one-way.
 */
static __always_inline void keep_early(struct early_synack *early, const struct scratch *sc)
{
	const struct segment *s = &sc->segment;

	bpf_spin_lock(&early->lock);
	if (early->hash != sc->hash || !is_copy(s, early->segment.print, early->segment.now_ns)) {
		copy_words(&early->segment, s, sizeof(early->segment));
		early->hash = sc->hash;
	}
	bpf_spin_unlock(&early->lock);
}

/* Before a SYN is applied: fetches the SYN-ACK that may belong to it. */
static __always_inline void fetch_early(struct early_synack *early, struct scratch *sc)
{
	bpf_spin_lock(&early->lock);
	if (early->hash == sc->hash) {
		copy_words(&sc->early, &early->segment, sizeof(early->segment));
		early->hash = 0;
		sc->has_early = 1;
	}
	bpf_spin_unlock(&early->lock);
}

/* The new entry's SYN-ACK, if it came just before the SYN. */
static __always_inline int take_early(struct pending *p, const struct scratch *sc)
{
	const struct segment *s = &sc->early;

	if (apart(sc->segment.now_ns, s->now_ns) >= EARLY_NS || direction_of(p, &s->flow, 0) != FROM_SERVER ||
	    !synack_fits(p, s))
		return NOTE_NONE;
	return first_synack(p, s);
}

/*
 * Takes the lock once: finds the entry, applies the segment to it, copies the
 * record to `reserved` if it `has_room`, else to sc->out, if it is final, and adds a new entry if a SYN opens one and
 * is not `unwanted`.
 */
static __always_inline int follow(struct flow_set *set, struct flow_head *head, __u64 *set_tags, struct scratch *sc,
				  struct handshake_event *reserved, __u64 has_room, struct counters *c,
				  enum segment_kind kind, int unwanted)
{
	const struct segment *s = &sc->segment;
	int is_syn = kind == SEGMENT_FIRST_SYN;
	struct pair_outcome result = {};
	int evicted = PENDING_FREE;
	int done = 0, opens, filtered, exists, did;
	struct pending *p;
	__u32 way;

	bpf_spin_lock(&head->lock);
	exists = find_entry(set, *set_tags, sc, kind);
	opens = is_syn && !exists && !unwanted;
	filtered = is_syn && !exists && unwanted;
	if (opens && find_displaced(set, *set_tags, sc)) {
		result.settled = SETTLED_BY_NEW_SYN;
	} else if (opens) {
		choose_way(head, *set_tags, &sc->way);
		evicted = state_of(head, chosen_way(&sc->way));
	}
	if (exists || opens) {
		way = chosen_way(&sc->way);
		p = &set->way[way];
		if (exists)
			result = pair(p, sc, kind, sc->from);
		if (result.settled) {
			if (!settle(p, result.settled, s->now_ns))
				*set_tags = with_tag(*set_tags, way, 0);
			/* two copies: verifiers reject a pointer that is either room in the ring or scratch */
			if (has_room) {
				*reserved = p->ev;
				KEEP_APART(1);
			} else {
				sc->out = p->ev;
				KEEP_APART(2);
			}
			done |= FOLLOWED_SETTLED;
		}
		if (opens) {
			pair_open(p, s, sc->ifindex, sc->family);
			p->ev.addressee = sc->addressee;
			copy_words(&p->ev.client_process, &sc->process, sizeof(sc->process));
			sc->id = p->ev.id;
			if (sc->has_early)
				result.note |= take_early(p, sc);
			keep_order(head, way);
			*set_tags = with_tag(*set_tags, way, tag_of(sc->hash));
			done |= FOLLOWED_OPENED;
		}
		keep_head(head, way, p);
		choose_packet(sc, p, &result, opens, filtered);
	} else {
		done = FOLLOWED_NOTHING;
	}
	/* through memory, so that the verifier forgets it: else it follows all the rest for each way there was */
	sc->did = done | result.note << 8 | evicted << 16;
	bpf_spin_unlock(&head->lock);
	did = sc->did;
	done = did & 0xff;
	count_note(c, did >> 8 & 0xff);
	count_evicted(c, did >> 16);
	if (done & FOLLOWED_OPENED)
		c->opened++;
	c->filtered += filtered;
	if (done == FOLLOWED_NOTHING && kind == SEGMENT_SYNACK)
		c->synack_unmatched++;
	return done;
}

#endif
