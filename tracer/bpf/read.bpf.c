/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* First stage: reads those frames into scratch that go on to another stage (path: maps.bpf.c). */
#include "counting.h"
#include "follow.h"
#include "parse_common.h"
#include "parse_icmp.h"
#include "read.h"

#define DIRECTION_INGRESS 0
#define DIRECTION_EGRESS 1

/* How much to pull in if the headers are not all in the linear part of an skb. */
#define HEADERS_PULL 512

static __always_inline __u32 interface_of(const struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
#ifdef REPLAY
	__u32 mark = skb->mark; /* the capture's interface, which this host need not have */

	asm volatile("" : "+r"(ifindex), "+r"(mark)); /* else one load from either place, which the verifier rejects */
	if (mark)
		return mark;
#endif
	return ifindex;
}

/* The tag that was removed from the packet, as in struct frame. */
static __always_inline __u32 tag_beside(const struct __sk_buff *skb)
{
	return skb->vlan_present ? 0x10000 | skb->vlan_tci | service_tag(skb) : 0;
}

#ifdef REPLAY
#define WIRE_LEN_MAX 0xffff	 /* tracer/replay/root_part.py: the kernel takes no more from it */
#define WIRE_LEN_UNKNOWN 0x20000 /* beyond what any IP header claims */

static __always_inline __u64 wire_len(const struct __sk_buff *skb)
{
	__u64 len = skb->wire_len;

	return len < WIRE_LEN_MAX ? len : WIRE_LEN_UNKNOWN;
}
#endif

static __always_inline void take_skb(struct frame *f, const struct __sk_buff *skb)
{
	f->data = (void *)(long)skb->data;
	f->data_end = (void *)(long)skb->data_end;
	f->len = skb->len;
#ifdef REPLAY
	f->wire_len = wire_len(skb);
	f->now_ns = skb->tstamp;
#else
	f->wire_len = f->len;
#endif
}

static __always_inline void take_xdp(struct frame *f, const struct xdp_md *xdp)
{
	f->data = (void *)(long)xdp->data;
	f->data_end = (void *)(long)xdp->data_end;
	f->len = f->data_end - f->data;
	f->wire_len = f->len;
}

/*
 * An opening SYN is often the first in a while to use its set. These loads wait for memory all at once, while the rest
 * of the packet is read, instead of one after the other under the lock. Mostly the SYN gets the first way. In a full
 * set, as in a flood, the victim is only written to, which does not wait.
 */
static __always_inline void touch_first_way(struct flow_set *set, __u32 index, __u64 set_tags)
{
	struct flow_head *head = heads.lookup(&index);

	if (!head)
		return;
	(void)*(const volatile __u32 *)&head->order;
	if (!ways_tagged(set_tags, 0))
		return;
#pragma clang loop unroll(full)
	for (int at = 0; at < __builtin_offsetof(struct pending, other); at += 64)
		(void)*(const volatile __u64 *)((const __u8 *)&set->way[0] + at);
}

/*
 * Most segments of a tracked connection change nothing, or only say something about the client's request: these are done
 * with here, the latter only for `common` packets, which keeps the other program small. Only where one way has the tag:
 * among several, numbers decide (follow.h). Returns whether it is done.
 */
static __always_inline int note_segment(struct pending *p, __u32 index, struct segment *s, int common)
{
	struct flow_head *head;
	__u64 id = p->ev.id;
	int direction, from_client;

	if (p->state != PENDING_ESTABLISHED || s->flags & (TCP_FIN | TCP_RST))
		return 0;
	/* most likely the answer, which settles: whose it is, the second stage finds out */
	if (s->payload_len && p->ev.server_port == s->flow.src_port && p->ev.client_port == s->flow.dst_port)
		return 0;
	direction = direction_of(p, &s->flow, 0);
	from_client = direction == FROM_CLIENT;
	if (direction == NOT_THIS_FLOW || pair_is_idle(p, s, from_client))
		return 1;
	if (!common || !pair_can_be_noted(p, s, from_client))
		return 0;
	head = heads.lookup(&index);
	if (!head)
		return 0;
	s->print = print_of_plain(s);
	if (!s->now_ns)
		s->now_ns = bpf_ktime_get_ns();
	bpf_spin_lock(&head->lock);
	if (p->ev.id == id && p->state == PENDING_ESTABLISHED)
		pair_note(p, s, from_client);
	bpf_spin_unlock(&head->lock);
	return 1;
}

/*
 * Reads a TCP segment whose headers are known into scratch, if it is for the second stage. Returns enum stage.
 * `ask_tag`: the tag of `skb` has not been read yet, since few segments need it.
 */
static __always_inline int read_segment(struct frame *f, const struct __sk_buff *skb, int ask_tag, int common,
					const struct cursor *c, struct headers *h, __u32 group)
{
	__u32 hash, index;
	__u64 syn = has_syn(h->tcp);
	struct flow_set *set;
	struct scratch *sc;
	__u64 *set_tags, found = 0;
	int zero = 0;

	hash = flow_hash(h, group, HASH_KEY);
	index = set_of(hash, SETS);
	set_tags = tags.lookup(&index);
	if (!set_tags)
		return STAGE_NONE;
	if (!syn) {
		found = ways_tagged(*set_tags, tag_of(hash));
		if (!found)
			return STAGE_NONE;
	}
	sc = scratches.lookup(&zero);
	set = flows.lookup(&index);
	if (!sc || !set)
		return STAGE_NONE;
	if (ask_tag) {
		f->vlan_tci = tag_beside(skb);
		h->vlans = f->vlan_tci & VLAN_VID_MASK;
	}
	read_flow(sc, h, group);
	read_tcp(sc, f, c, h);
	sc->segment.now_ns = f->now_ns;
	if (found && !(found & (found - 1)) && note_segment(&set->way[first_way(found)], index, &sc->segment, common))
		return STAGE_NONE;
	if (!sc->segment.now_ns)
		sc->segment.now_ns = bpf_ktime_get_ns();
	if (syn && !(sc->segment.flags & TCP_ACK))
		touch_first_way(set, index, *set_tags);
	sc->hash = hash;
	sc->family = h->family;
	read_frame(sc, f);
	return stage_of_segment(&sc->segment);
}

/* First stage for a packet that is not of the common kind. Returns enum stage. */
static __always_inline int read_uncommon(struct frame *f)
{
	struct interface_config *conf;
	__u32 group, no_link_header;
	struct headers h = {};
	struct scratch *sc;
	struct cursor c;
	struct cpu *cpu;
	int result, zero = 0;

	cpu = cpus.lookup(&zero);
	conf = find_interface(f->ifindex);
	if (!cpu || !conf || !conf->traced)
		return STAGE_NONE;
	group = conf->group;
	no_link_header = conf->no_link_header;
	result = parse_frame(f, no_link_header, &c, &h, &cpu->opaque);
	if (result == PARSED_TCP) {
		cpu->counters.packets++;
		return stage_by_link(read_segment(f, 0, 0, 0, &c, &h, group), no_link_header);
	}
	asm volatile("" : "+r"(result)); /* one path from here on, not one for each error */
	if (f->can_pull && (result >= PARSED_CUT || result == PARSED_ICMP))
		return STAGE_AGAIN;
	cpu->counters.packets++;
	count_result(&cpu->counters, result);
	if (result != PARSED_ICMP)
		return STAGE_NONE;
	sc = scratches.lookup(&zero);
	if (!sc)
		return STAGE_NONE;
	sc->segment.now_ns = f->now_ns ? f->now_ns : bpf_ktime_get_ns();
	sc->group = group;
	sc->family = h.family;
	sc->vlans = h.vlans;
	sc->icmp_offset = (__u8 *)c.pos - (__u8 *)f->data;
	sc->segment.place = place_of(f);
	sc->icmp_len = h.l4_len;
	if (h.family == 4)
		map_ipv4(sc->icmp_from, h.ip + 12);
	else
		copy_address(sc->icmp_from, h.ip + 8);
	read_frame(sc, f);
	return STAGE_ICMP;
}

/*
 * First stage: reads the packet into scratch if it is for another stage. Returns enum stage. Takes `xdp` if `is_xdp`,
 * else `skb`. It reads no more than it needs, since nearly all packets end here.
 */
static __always_inline int read_packet(struct __sk_buff *skb, struct xdp_md *xdp, int is_xdp, __u32 direction)
{
	struct interface_config *conf;
	struct headers h = {};
	struct frame f = {};
	struct scratch *sc;
	struct cursor c;
	struct cpu *cpu;
	__u32 ifindex;
	int result = NOT_COMMON, zero = 0;

	ifindex = is_xdp ? xdp->ingress_ifindex : interface_of(skb);
	cpu = cpus.lookup(&zero);
	/* far interfaces are uncommon: a second look-up here would cost every packet registers */
	conf = interface_slot(ifindex);
	if (!cpu || !conf)
		return STAGE_NONE;
	if (conf->ifindex == ifindex && !conf->no_link_header) {
		if (!conf->traced)
			return STAGE_NONE;
		if (is_xdp)
			take_xdp(&f, xdp);
		else
			take_skb(&f, skb);
		f.ifindex = ifindex;
		f.direction = direction;
		c.pos = f.data;
		c.end = f.data_end;
		h.l3_len = f.wire_len;
		result = parse_common(&c, &h, LENGTH_WITHIN_FRAME, 0);
	}
	if (result == NOT_COMMON) {
		sc = scratches.lookup(&zero);
		if (!sc)
			return STAGE_NONE;
		sc->direction = direction;
		return STAGE_UNCOMMON;
	}
	cpu->counters.packets++;
	if (result != PARSED_TCP) {
		cpu->counters.not_tcp++;
		return STAGE_NONE;
	}
	return read_segment(&f, skb, !is_xdp, 1, &c, &h, conf->group);
}

/* Is the ICMP packet from the first stage an error that quotes a tracked SYN? Returns enum stage. */
static __always_inline int read_icmp(void *data, void *data_end, struct cpu *cpu, struct scratch *sc, __u64 family)
{
	struct headers h = {};
	struct cursor c;
	__u64 *set_tags;
	__u32 index;

	h.family = family;
	h.vlans = sc->vlans;
	h.l4_len = sc->icmp_len;
	c.pos = data + (sc->icmp_offset & 0x7fff);
	c.end = data_end;
	if (parse_icmp(&c, &h, &sc->icmp_type, &sc->icmp_code, &cpu->opaque) != PARSED_TCP)
		return STAGE_NONE;
	sc->hash = flow_hash(&h, sc->group, HASH_KEY);
	index = set_of(sc->hash, SETS);
	set_tags = tags.lookup(&index);
	if (!set_tags || !ways_tagged(*set_tags, tag_of(sc->hash)))
		return STAGE_NONE;
	read_flow(sc, &h, sc->group);
	sc->segment.print =
		finished_print(sc->segment.seq * PRINT_KEY_NUMBERS, (__u32)sc->icmp_type << 8 | sc->icmp_code, 0);
	sc->icmp = 1;
	return STAGE_PAIR;
}

/* A path for each family: verifiers before 6.2 forget for which one the bounds were checked. */
static __always_inline int read_either_icmp(void *data, void *data_end)
{
	struct scratch *sc;
	struct cpu *cpu;
	int zero = 0;

	cpu = cpus.lookup(&zero);
	sc = scratches.lookup(&zero);
	if (!cpu || !sc)
		return STAGE_NONE;
	if (sc->family == 4)
		return read_icmp(data, data_end, cpu, sc, 4);
	return read_icmp(data, data_end, cpu, sc, 6);
}

static __always_inline void tc_next(struct __sk_buff *skb, int stage)
{
	if (stage == STAGE_PAIR) {
		tc_stages.call(skb, STAGE_PAIR);
		KEEP_APART(STAGE_PAIR);
	} else if (stage == STAGE_UNCOMMON) {
		tc_stages.call(skb, STAGE_UNCOMMON);
		KEEP_APART(STAGE_UNCOMMON);
	} else if (stage == STAGE_ICMP) {
		tc_stages.call(skb, STAGE_ICMP);
		KEEP_APART(STAGE_ICMP);
	}
#ifdef FILTER
	else if (is_filter(stage))
		tc_stages.call(skb, stage);
#endif
}

/*
 * Without JIT all stages run on the first one's stack. From Linux 6.9 on, the kernel gives it no more than that one uses
 * itself (do_misc_fixups() sets aux->stack_depth anew), and what later ones write beyond it is the kernel's own.
 */
static __always_inline void take_all_stack(void)
{
	asm volatile("*(u64 *)(r10 - 512) = %0" : : "r"(0ULL) : "memory");
}

int tc_ingress(struct __sk_buff *skb)
{
	take_all_stack();
	tc_next(skb, read_packet(skb, 0, 0, DIRECTION_INGRESS));
	return TC_GO_ON;
}

int tc_egress(struct __sk_buff *skb)
{
	take_all_stack();
	tc_next(skb, read_packet(skb, 0, 0, DIRECTION_EGRESS));
	return TC_GO_ON;
}

int tc_uncommon(struct __sk_buff *skb)
{
	struct frame f = {};
	struct scratch *sc;
	int stage, zero = 0;

	sc = scratches.lookup(&zero);
	if (!sc)
		return TC_GO_ON;
	take_skb(&f, skb);
	f.can_pull = f.data_end - f.data < f.len && f.data_end - f.data < HEADERS_PULL;
	f.ifindex = interface_of(skb);
	f.direction = sc->direction;
	f.vlan_tci = tag_beside(skb);
	stage = read_uncommon(&f);
	/*
	 * Some drivers and tunnels leave headers outside the linear part. Pull them in,
	 * as the stack itself does a moment later, and start again.
	 */
	if (stage == STAGE_AGAIN && !bpf_skb_pull_data(skb, skb->len < HEADERS_PULL ? skb->len : HEADERS_PULL))
		stage = STAGE_UNCOMMON;
	tc_next(skb, stage);
	return TC_GO_ON;
}

int tc_icmp(struct __sk_buff *skb)
{
	if (read_either_icmp((void *)(long)skb->data, (void *)(long)skb->data_end) == STAGE_PAIR)
		tc_stages.call(skb, STAGE_PAIR);
	return TC_GO_ON;
}

#ifdef WITH_XDP
static __always_inline void xdp_next(struct xdp_md *ctx, int stage)
{
	if (stage == STAGE_PAIR) {
		xdp_stages.call(ctx, STAGE_PAIR);
		KEEP_APART(STAGE_PAIR);
	} else if (stage == STAGE_UNCOMMON) {
		xdp_stages.call(ctx, STAGE_UNCOMMON);
		KEEP_APART(STAGE_UNCOMMON);
	} else if (stage == STAGE_ICMP) {
		xdp_stages.call(ctx, STAGE_ICMP);
		KEEP_APART(STAGE_ICMP);
	}
#ifdef FILTER
	else if (is_filter(stage))
		xdp_stages.call(ctx, stage);
#endif
}

int xdp_ingress(struct xdp_md *ctx)
{
	take_all_stack();
	xdp_next(ctx, read_packet(0, ctx, 1, DIRECTION_INGRESS));
	return XDP_GO_ON;
}

int xdp_uncommon(struct xdp_md *ctx)
{
	struct frame f = {};

	take_xdp(&f, ctx);
	f.ifindex = ctx->ingress_ifindex;
	f.direction = DIRECTION_INGRESS;
	xdp_next(ctx, read_uncommon(&f));
	return XDP_GO_ON;
}

int xdp_icmp(struct xdp_md *ctx)
{
	if (read_either_icmp((void *)(long)ctx->data, (void *)(long)ctx->data_end) == STAGE_PAIR)
		xdp_stages.call(ctx, STAGE_PAIR);
	return XDP_GO_ON;
}
#endif
