/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The pending table: sets of WAYS entries with one spin lock each, so that
 * eviction is exact and counted. A separate u64 per set holds an 8-bit tag for
 * each way (0 = free): segments of other connections stop at that word. The lock
 * and the state that chooses the victim are separate too: in a flood every set
 * is full, and the entries do not fit in the caches.
 */
#ifndef TFOTRACE_TABLE_H
#define TFOTRACE_TABLE_H

#include "pair.h"

#define WAYS 8

struct flow_set {
	struct pending way[WAYS];
};

/* What eviction and the sweep need to know about a set; changed under the lock, with the entries. */
struct flow_head {
	struct bpf_spin_lock lock;
	__u32 order;  /* a nibble per way, the lowest opened first; XOR ORDER_AT_FIRST, so that zero is valid */
	__u32 states; /* two bits per way: counts_as() its entry, a tombstone counts as free */
	__u32 pad;
	__u64 due_ns; /* no entry's deadline is earlier */
};

/* A SYN-ACK that belonged to no entry. Few slots, so that a flood of them stays in the caches. */
struct early_synack {
	struct bpf_spin_lock lock;
	__u32 hash; /* 0 = none */
	struct segment segment;
};

#define EARLY_SLOTS 64

#define ORDER_AT_FIRST 0x76543210U

static __always_inline __u64 tag_of(__u32 hash)
{
	return 1 + (hash & 0xff) % 255;
}

static __always_inline __u32 set_of(__u32 hash, __u32 sets)
{
	return (hash >> 8) & (sets - 1);
}

/*
 * The ways whose tag is `tag`, as the upper bit of each one's byte; 0 if there is none. This is "has zero byte" of Bit
 * Twiddling Hacks: the lowest bit found is always right, one above it can be wrong if a tag differs by one.
 */
static __always_inline __u64 ways_tagged(__u64 tags, __u64 tag)
{
	__u64 x = tags ^ tag * 0x0101010101010101ULL;

	return (x - 0x0101010101010101ULL) & ~x & 0x8080808080808080ULL;
}

/* The first way found by ways_tagged(), without a branch: the multiplication moves its number to the top. */
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
 * Which end of `p` sent a segment of flow `f`? VLAN tags are not compared: they can differ by direction. A socket
 * connected to itself is both ends: its SYNs count as the client's, all else as the server's.
 */
static __always_inline int direction_of(const struct pending *p, const struct flow *f, int syn)
{
	const struct handshake_event *ev = &p->ev;
	int client, server;

	if (p->state == PENDING_FREE || p->group != f->group)
		return NOT_THIS_FLOW;
	client = ev->client_port == f->src_port && ev->server_port == f->dst_port && same_address(ev->client, f->src) &&
		 same_address(ev->server, f->dst);
	server = ev->server_port == f->src_port && ev->client_port == f->dst_port && same_address(ev->server, f->src) &&
		 same_address(ev->client, f->dst);
	if (client && (syn || !server))
		return FROM_CLIENT;
	return server ? FROM_SERVER : NOT_THIS_FLOW;
}

static __always_inline int same_tags(const struct pending *p, const struct flow *f)
{
	return p->ev.vlan[0] == f->vlan[0] && p->ev.vlan[1] == f->vlan[1];
}

/* The way that a function here left in memory. */
static __always_inline __u32 chosen_way(const volatile __u32 *chosen)
{
	return *chosen & (WAYS - 1);
}

static __always_inline __u32 state_of(const struct flow_head *head, __u32 way)
{
	return head->states >> (way & (WAYS - 1)) * 2 & 3;
}

/*
 * As which kind does an entry count against others? One whose SYN-ACK was not seen is unanswered, although its client
 * sent an ACK: nothing but an address is needed to forge both.
 */
static __always_inline __u32 counts_as(const struct pending *p)
{
	return p->state == PENDING_ESTABLISHED && p->ev.one_way ? PENDING_SYN_SENT : p->state & 3;
}

/* Call this after any change of the entry. */
static __always_inline void keep_head(struct flow_head *head, __u32 way, const struct pending *p)
{
	__u32 shift = (way & (WAYS - 1)) * 2;

	head->states = (head->states & ~(3U << shift)) | counts_as(p) << shift;
	if (p->state != PENDING_FREE && p->deadline_ns < head->due_ns)
		head->due_ns = p->deadline_ns;
}

/* The number of ways in this state. Counts set bits at even places, as in adding them to pairs, nibbles and bytes. */
static __always_inline __u32 ways_in(const struct flow_head *head, __u32 state)
{
	__u32 differs = head->states ^ state * 0x5555;
	__u32 n = ~(differs | differs >> 1) & 0x5555;

	n = (n & 0x3333) + (n >> 2 & 0x3333);
	n = (n + (n >> 4)) & 0x0f0f;
	return (n + (n >> 8)) & 0xf;
}

/* The number of unsettled entries. */
static __always_inline __u32 live_ways(const struct flow_head *head)
{
	return WAYS - ways_in(head, PENDING_FREE);
}

/* An entry was opened: moves its way behind all others. Finds the nibble as ways_tagged() finds a byte. */
static __always_inline void keep_order(struct flow_head *head, __u32 way)
{
	__u32 order = head->order ^ ORDER_AT_FIRST;
	__u32 x = order ^ way * 0x11111111U;
	__u32 found = (x - 0x11111111U) & ~x & 0x88888888U;
	__u32 before = ((found & -found) >> 3) - 1;

	head->order = ((order & before) | (order >> 4 & ~before & 0x0fffffffU) | way << 28) ^ ORDER_AT_FIRST;
}

/* Ways of a full set that the unanswered, the half open and the established each keep, however many there are of others. */
#define SHARE (WAYS / 4)

/*
 * Chooses the way for a new entry: a free one, according to the tags, else the
 * victim. Tombstones go first, since nothing waits for them. Of the others each kind
 * keeps its share; beyond it the unanswered go first, of which a flood has many, then
 * the half open, then the established, of which most is known. Three shares do not
 * fill a set, so some kind always has more. Within a kind the one opened first goes.
 */
static __always_inline void choose_way(const struct flow_head *head, __u64 tags, volatile __u32 *chosen)
{
	__u64 free = ways_tagged(tags, 0);
	__u32 order, victim = PENDING_ESTABLISHED;

	*chosen = first_way(free);
	if (free)
		return;
	if (ways_in(head, PENDING_FREE))
		victim = PENDING_FREE;
	else if (ways_in(head, PENDING_SYN_SENT) > SHARE)
		victim = PENDING_SYN_SENT;
	else if (ways_in(head, PENDING_SYN_ACKED) > SHARE)
		victim = PENDING_SYN_ACKED;
	order = head->order ^ ORDER_AT_FIRST;
	NO_UNROLL
	for (int i = 0; i < WAYS; i++) {
		__u32 way = order >> i * 4 & (WAYS - 1);

		if (state_of(head, way) == victim) {
			*chosen = way;
			break;
		}
	}
}

#endif
