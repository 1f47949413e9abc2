/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The pending table: sets of WAYS entries under one spin lock each, so that
 * eviction is exact and counted. Beside it one u64 a set holds an 8-bit tag for
 * each way (0 = free): segments of other connections stop at that word.
 */
#ifndef TFOTRACE_TABLE_H
#define TFOTRACE_TABLE_H

#include "pair.h"

#define WAYS 8

struct flow_set {
	struct bpf_spin_lock lock;
	__u32 pad;
	struct pending way[WAYS];
};

static __always_inline __u64 tag_of(__u32 hash)
{
	return 1 + (hash & 0xff) % 255;
}

static __always_inline __u32 set_of(__u32 hash, __u32 sets)
{
	return (hash >> 8) & (sets - 1);
}

/*
 * The ways whose tag is `tag`, as the upper bit of each one's byte; 0 if there is none. The classic "has zero byte" of
 * Bit Twiddling Hacks: the lowest bit is always right, one above it can be wrong where a tag differs by one.
 */
static __always_inline __u64 ways_tagged(__u64 tags, __u64 tag)
{
	__u64 x = tags ^ tag * 0x0101010101010101ULL;

	return (x - 0x0101010101010101ULL) & ~x & 0x8080808080808080ULL;
}

/* The first of the ways that ways_tagged() found, without a branch: the multiplication moves its number to the top. */
static __always_inline __u32 first_way(__u64 found)
{
	return (((found & -found) >> 7) * 0x0001020304050607ULL) >> 56 & (WAYS - 1);
}

static __always_inline __u64 with_tag(__u64 tags, __u32 way, __u64 tag)
{
	__u32 shift = (way & (WAYS - 1)) * 8;

	return (tags & ~(0xffULL << shift)) | tag << shift;
}

enum direction { NOT_THIS_FLOW, FROM_CLIENT, FROM_SERVER };

/*
 * Which end of `p` sent a segment of flow `f`. A socket connected to itself is
 * both: its SYNs are the client's, all else the server's.
 */
static __always_inline int direction_of(const struct pending *p, const struct flow *f, int syn)
{
	const struct handshake_event *ev = &p->ev;
	int client, server;

	if (p->state == PENDING_FREE || p->group != f->group || ev->vlan[0] != f->vlan[0] || ev->vlan[1] != f->vlan[1])
		return NOT_THIS_FLOW;
	client = ev->client_port == f->src_port && ev->server_port == f->dst_port && same_address(ev->client, f->src) &&
		 same_address(ev->server, f->dst);
	server = ev->server_port == f->src_port && ev->client_port == f->dst_port && same_address(ev->server, f->src) &&
		 same_address(ev->client, f->dst);
	if (client && (syn || !server))
		return FROM_CLIENT;
	return server ? FROM_SERVER : NOT_THIS_FLOW;
}

/* What find_way() or choose_way() left in memory. */
static __always_inline __u32 chosen_way(const volatile __u32 *chosen)
{
	return *chosen & (WAYS - 1);
}

/*
 * Finds the way that holds the flow; returns whether one does. Under the set's
 * lock. The way goes through memory (`found`), so that to the verifier it is any
 * way: it checks what follows once and not once for each.
 */
static __always_inline int find_way(const struct flow_set *set, __u64 tags, __u64 tag, const struct flow *f, int syn,
				    int *direction, volatile __u32 *found)
{
	__u64 tagged = ways_tagged(tags, tag);

	NO_UNROLL
	for (int i = 0; i < WAYS && tagged; i++) {
		*found = first_way(tagged);
		*direction = direction_of(&set->way[chosen_way(found)], f, syn);
		if (*direction != NOT_THIS_FLOW)
			return 1;
		tagged &= tagged - 1;
	}
	return 0;
}

/* Who has to go first: nothing waits for a tombstone, most is known of an established one. */
static __always_inline __u64 eviction_rank(const struct pending *p)
{
	switch (p->state) {
	case PENDING_TOMBSTONE:
		return 1;
	case PENDING_SYN_SENT:
		return 2;
	case PENDING_SYN_ACKED:
		return 3;
	default:
		return 4;
	}
}

/* The way for a new entry: a free one, which its tag tells, else the victim, by rank and then the oldest. */
static __always_inline void choose_way(const struct flow_set *set, __u64 tags, volatile __u32 *chosen)
{
	__u64 free = ways_tagged(tags, 0);
	__u64 best_age = ~0ULL;
	__u64 best_rank = ~0ULL;

	*chosen = first_way(free);
	if (free)
		return;
	NO_UNROLL
	for (int i = 0; i < WAYS; i++) {
		__u64 rank = eviction_rank(&set->way[i]);
		__u64 age = set->way[i].ev.syn_ns;

		if (rank < best_rank || (rank == best_rank && age < best_age)) {
			best_rank = rank;
			best_age = age;
			*chosen = i;
		}
	}
}

#endif
