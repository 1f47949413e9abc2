// SPDX-License-Identifier: MIT
/* The pending table: who is found, who has to go, and what tags say. */
#include "world.h"

static void check_victims(void)
{
	static const struct {
		const char *name;
		unsigned int states[WAYS];
		unsigned int opened[WAYS]; /* in this order, from 1 */
		unsigned int chosen;
	} rows[] = {
		{"empty", {0}, {0}, 0},
		{"the first free one", {1, 3, 0, 2, 0, 4, 1, 1}, {9, 9, 9, 9, 9, 9, 9, 9}, 2},
		{"a tombstone before the unanswered", {1, 1, 2, 3, 3, 4, 1, 1}, {1, 1, 1, 1, 1, 9, 1, 1}, 5},
		{"the unanswered before the half open", {2, 1, 2, 3, 1, 2, 1, 2}, {1, 8, 1, 1, 7, 1, 9, 1}, 4},
		{"the half open before the established", {3, 2, 3, 3, 3, 2, 2, 3}, {1, 3, 1, 1, 1, 4, 9, 1}, 1},
		{"a half open one before the last unanswered", {2, 1, 2, 2, 2, 1, 2, 2}, {5, 1, 4, 9, 8, 2, 7, 6}, 2},
		{"an established one before the last half open", {3, 2, 3, 3, 3, 2, 3, 3}, {5, 1, 4, 9, 8, 2, 7, 6}, 2},
		{"an established one before the last of others", {3, 2, 1, 3, 1, 2, 3, 3}, {5, 1, 2, 9, 3, 4, 7, 6}, 0},
		{"an unanswered one above the share", {3, 2, 1, 3, 1, 2, 1, 3}, {1, 4, 7, 2, 6, 5, 8, 3}, 4},
		{"an established one before the last unanswered",
		 {3, 2, 3, 3, 3, 1, 3, 3},
		 {5, 1, 4, 9, 8, 2, 7, 6},
		 2},
		{"the oldest of equals", {1, 1, 1, 1, 1, 1, 1, 1}, {5, 4, 9, 3, 8, 2, 7, 6}, 5},
		{"the oldest established", {3, 3, 3, 3, 3, 3, 3, 3}, {5, 4, 9, 3, 8, 7, 6, 2}, 7},
		{"the oldest tombstone", {4, 4, 4, 4, 4, 4, 4, 4}, {5, 1, 9, 3, 8, 7, 6, 2}, 1},
	};

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct flow_head head = {.due_ns = 1000};
		unsigned int live = 0, due = 1000;
		__u64 tags = 0;
		__u32 chosen;

		for (unsigned int turn = 1; turn <= 9; turn++)
			for (int way = 0; way < WAYS; way++)
				if (rows[i].opened[way] == turn)
					keep_order(&head, way);
		for (int way = 0; way < WAYS; way++) {
			struct pending p = {.state = rows[i].states[way], .deadline_ns = 900 - 10 * way};

			keep_head(&head, way, &p);
			live += pending_is_live(&p);
			if (p.state != PENDING_FREE)
				due = p.deadline_ns; /* they fall */
			tags = with_tag(tags, way, p.state == PENDING_FREE ? 0 : 1 + way);
		}
		choose_way(&head, tags, &chosen);
		CHECK(rows[i].name, chosen_way(&chosen), rows[i].chosen);
		CHECK("live entries", live_ways(&head), live);
		CHECK("the next deadline", head.due_ns, due);
	}
}

/* Whoever forges SYN and ACK saw no SYN-ACK, so its entry counts with the unanswered; a SYN-ACK seen later changes that. */
static void check_one_way(void)
{
	struct pending p = {.state = PENDING_ESTABLISHED, .ev.one_way = 1};
	struct flow_head head = {};

	keep_head(&head, 3, &p);
	CHECK("without a SYN-ACK", state_of(&head, 3), PENDING_SYN_SENT);
	CHECK("it is open", live_ways(&head), 1);
	p.ev.one_way = 0;
	keep_head(&head, 3, &p);
	CHECK("with it", state_of(&head, 3), PENDING_ESTABLISHED);
	p.state = PENDING_TOMBSTONE;
	p.ev.one_way = 1;
	keep_head(&head, 3, &p);
	CHECK("settled", state_of(&head, 3), PENDING_FREE);
	CHECK("none is open", live_ways(&head), 0);
}

static void check_tags(void)
{
	__u64 tags = 0;

	for (__u32 hash = 0; hash < 1024; hash++)
		CHECK("a tag is never 0", tag_of(hash) >= 1 && tag_of(hash) <= 255, 1);
	for (__u32 way = 0; way < WAYS; way++) {
		CHECK("not yet", !!ways_tagged(tags, 10 + way), 0);
		tags = with_tag(tags, way, 10 + way);
		CHECK("in its way", tags >> way * 8 & 0xff, 10 + way);
		CHECK("found there", first_way(ways_tagged(tags, 10 + way)), way);
		CHECK("the first of several", first_way(ways_tagged(with_tag(tags, 7, 10 + way), 10 + way)), way);
	}
	for (__u64 tag = 1; tag < 256; tag++)
		CHECK("exactly these", !!ways_tagged(tags, tag), tag >= 10 && tag < 10 + WAYS);
	tags = with_tag(tags, 3, 0);
	CHECK("cleared", !!ways_tagged(tags, 13), 0);
	CHECK("the others stay", tags, 0x11100f0e000c0b0aULL);
	/* Borrow between bytes is what this trick is known to trip over. */
	CHECK("1 beside 0", !!ways_tagged(0x0000000000000100ULL, 1), 1);
	CHECK("no 1", !!ways_tagged(0x0002020202020202ULL, 1), 0);
	CHECK("255", !!ways_tagged(0xff00000000000000ULL, 255), 1);
}

static struct world w;

static void segment_between(__u8 src, __u8 dst, __u16 src_port, __u16 dst_port)
{
	struct segment *s = &w.sc.segment;

	memset(s, 0, sizeof(*s));
	s->flow.src[15] = src;
	s->flow.dst[15] = dst;
	s->flow.src_port = src_port;
	s->flow.dst_port = dst_port;
	s->flow.group = 1;
	s->now_ns = 1;
	w.sc.hash = 8;
}

/* The way of the entry that the segment in the scratch belongs to, WAYS if none does. */
static __u32 way_of(enum segment_kind kind)
{
	return find_entry(&w.set, w.tags, &w.sc, kind) ? chosen_way(&w.sc.way) : WAYS;
}

static void put_entry(int way)
{
	w.sc.segment.facts.seq = w.sc.segment.seq;
	pair_open(&w.set.way[way], &w.sc.segment, 1, 4);
	w.tags = with_tag(w.tags, way, tag_of(w.sc.hash));
}

static void check_find(void)
{
	struct segment *s = &w.sc.segment;

	begin_world(&w);
	segment_between(1, 2, 10, 20);
	pair_open(&w.set.way[5], s, 1, 4);
	CHECK("no tag", way_of(SEGMENT_PLAIN), WAYS);
	for (int several = 0; several < 2; several++) {
		/* with a second tag the way is chosen by numbers, not because it is alone */
		w.tags = with_tag(with_tag(0, 5, tag_of(8)), 2, several ? tag_of(8) : 0);
		segment_between(1, 2, 10, 20);
		CHECK("from the client", way_of(SEGMENT_PLAIN), 5);
		CHECK("from the client", w.sc.from, FROM_CLIENT);
		for (int i = 0; i < 2; i++) {
			s->flow.vlan[i] = 3;
			CHECK("another VLAN", way_of(SEGMENT_PLAIN), 5);
			CHECK("a SYN in another VLAN", way_of(SEGMENT_FIRST_SYN), WAYS);
			s->flow.vlan[i] = 0;
		}
		CHECK("the SYN again", way_of(SEGMENT_FIRST_SYN), 5);
		s->seq = 1;
		CHECK("another SYN", way_of(SEGMENT_FIRST_SYN), WAYS);
		segment_between(2, 1, 20, 10);
		CHECK("from the server", way_of(SEGMENT_PLAIN), 5);
		CHECK("from the server", w.sc.from, FROM_SERVER);
		segment_between(1, 2, 10, 21);
		CHECK("another port", way_of(SEGMENT_PLAIN), WAYS);
		segment_between(1, 2, 10, 20);
		s->flow.group = 2;
		CHECK("another group", way_of(SEGMENT_PLAIN), WAYS);
		s->flow.group = 1;
		for (int i = 0; i < 16; i++) {
			s->flow.src[i] ^= 1;
			CHECK("another address", way_of(SEGMENT_PLAIN), WAYS);
			s->flow.src[i] ^= 1;
			s->flow.dst[i] ^= 1;
			CHECK("another address", way_of(SEGMENT_PLAIN), WAYS);
			s->flow.dst[i] ^= 1;
		}
	}
	segment_between(1, 1, 10, 10);
	put_entry(2);
	CHECK("SYN to itself", way_of(SEGMENT_FIRST_SYN), 2);
	CHECK("SYN to itself", w.sc.from, FROM_CLIENT);
	CHECK("SYN-ACK to itself", way_of(SEGMENT_SYNACK), 2);
	CHECK("SYN-ACK to itself", w.sc.from, FROM_SERVER);
	CHECK("a socket that connects to itself", w.set.way[2].simultaneous, 1);
}

/* Several entries of one 4-tuple: numbers choose, then tags. */
static void check_choice(void)
{
	struct segment *s = &w.sc.segment;

	begin_world(&w);
	segment_between(1, 2, 10, 20);
	s->seq = 1000;
	s->now_ns = 100;
	put_entry(3);
	s->seq = 100000;
	s->now_ns = 200;
	CHECK("alone", find_displaced(&w.set, w.tags, &w.sc), 0);
	put_entry(1);
	CHECK("two unanswered", find_displaced(&w.set, w.tags, &w.sc), 1);
	CHECK("the newer goes", chosen_way(&w.sc.way), 1);
	w.set.way[1].state = PENDING_SYN_ACKED;
	CHECK("one answered", find_displaced(&w.set, w.tags, &w.sc), 1);
	CHECK("the unanswered goes", chosen_way(&w.sc.way), 3);
	w.set.way[3].state = PENDING_ESTABLISHED;
	CHECK("both answered", find_displaced(&w.set, w.tags, &w.sc), 1);
	CHECK("the older goes", chosen_way(&w.sc.way), 3);
	s->flow.vlan[0] = 9;
	CHECK("a SYN with another tag", find_displaced(&w.set, w.tags, &w.sc), 0);
	w.set.way[1].state = w.set.way[3].state = PENDING_SYN_SENT;

	segment_between(2, 1, 20, 10);
	s->flags = TCP_SYN | TCP_ACK;
	s->ack = 1001;
	CHECK("a SYN-ACK", way_of(SEGMENT_SYNACK), 3);
	s->ack = 100001;
	CHECK("a SYN-ACK", way_of(SEGMENT_SYNACK), 1);
	s->flags = TCP_RST | TCP_ACK;
	CHECK("a RST", way_of(SEGMENT_PLAIN), 1);
	s->ack = 1001;
	CHECK("a RST", way_of(SEGMENT_PLAIN), 3);

	segment_between(1, 2, 10, 20);
	s->seq = 1000;
	s->flow.vlan[0] = 7;
	put_entry(6);
	segment_between(2, 1, 20, 10);
	s->flags = TCP_SYN | TCP_ACK;
	s->ack = 1001;
	CHECK("without a tag", way_of(SEGMENT_SYNACK), 3);
	s->flow.vlan[0] = 7;
	CHECK("the same numbers with a tag", way_of(SEGMENT_SYNACK), 6);
	s->flow.vlan[0] = 8;
	s->ack = 100001;
	CHECK("numbers before tags", way_of(SEGMENT_SYNACK), 1);
}

/* Both directions of a connection must come to the same set with the same tag. */
static void check_hash(void)
{
	unsigned int seen[256] = {};
	__u32 state = 1;

	for (unsigned int i = 0; i < 4096; i++) {
		__u8 ip[2][40], tcp[2][4];
		struct headers h[2] = {{.ip = ip[0], .tcp = tcp[0]}, {.ip = ip[1], .tcp = tcp[1]}};
		unsigned int size = i & 1 ? 16 : 4, at = i & 1 ? 8 : 12;

		for (unsigned int b = 0; b < 40; b++)
			ip[0][b] = (state = state * 1664525 + 1013904223) >> 24;
		memcpy(tcp[0], ip[0], 4);
		memcpy(ip[1], ip[0], 40);
		memcpy(ip[1] + at, ip[0] + at + size, size);
		memcpy(ip[1] + at + size, ip[0] + at, size);
		memcpy(tcp[1], tcp[0] + 2, 2);
		memcpy(tcp[1] + 2, tcp[0], 2);
		h[0].family = h[1].family = i & 1 ? 6 : 4;
		CHECK("both ways", flow_hash(&h[0], 3, 0x9e3779b97f4a7c15ULL),
		      flow_hash(&h[1], 3, 0x9e3779b97f4a7c15ULL));
		seen[set_of(flow_hash(&h[0], 3, 0x9e3779b97f4a7c15ULL), 256)]++;
	}
	for (unsigned int i = 0; i < 256; i++)
		CHECK("sets are filled alike (16 each on average)", seen[i] > 0 && seen[i] < 48, 1);
}

int main(void)
{
	check_victims();
	check_one_way();
	check_tags();
	check_find();
	check_choice();
	check_hash();
	return finish("table");
}
