/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Maps and programs. The way of a packet has two stages. The programs that are
 * attached (tc_ingress, tc_egress, xdp_ingress) read: frame -> headers
 * (parse_common.h) -> tag filter (table.h) -> scratch. Only SYNs and segments of
 * tracked connections go on, by tail call, to the second stage (tc_pair,
 * xdp_pair): options -> pending entry under its set's lock (pair.h) -> ring. On
 * the side of this road are tc_uncommon, which reads whatever is not of the common
 * kind (the other parse_*.h), tc_icmp for errors that quote a SYN, and tc_payload
 * for a first SYN that has one; likewise for xdp. Several small programs compile
 * and verify in a fraction of the time of one large one, and a leftover of a killed
 * run, whose second stage is gone, does nothing at all.
 *
 * Compiled by bcc (tracer/load.py) with SETS, HASH_KEY, EVENT_RING_PAGES and
 * PAYLOAD_RING_PAGES defined; TRANSPORT_PERF, REPLAY, PACKETS and NO_DETAILS are
 * choices.
 */
#include "counting.h"
#include "filter.h"
#include "follow.h"
#include "parse_common.h"
#include "parse_icmp.h"
#include "payload.h"
#include "process.h"
#include "read.h"
#include "state.h"
#include "table.h"

#define XDP_GO_ON 2   /* XDP_PASS */
#define TC_GO_ON (-1) /* TC_ACT_UNSPEC, TCX_NEXT: whoever is behind us sees the packet too */

#define DIRECTION_INGRESS 0
#define DIRECTION_EGRESS 1

/* How far headers are looked for when they are not all in the linear part of an skb. */
#define HEADERS_PULL 512

#define UNANSWERED_PER_SECOND 10000ULL
#define NS_PER_S 1000000000ULL

/*
 * Two tail calls that differ only in their slot would be made one with a variable
 * slot, and only a call to a fixed slot is a jump: no compiler merges these.
 */
#define KEEP_APART(number) asm volatile("" : : "i"(number))

/* Interfaces with an index below this are found without hashing. */
#ifndef NEAR_INTERFACES
#define NEAR_INTERFACES 4096
#endif

/* Filled by user space before programs are attached (load.py), one element. */
BPF_ARRAY(config, struct config, 1);
/* Inserted, changed and cleared by user space as interfaces come and go (rootpart.py). */
BPF_ARRAY(interfaces_near, struct interface_config, NEAR_INTERFACES);
BPF_HASH(interfaces_far, u32, struct interface_config, 1024);
/* Entries are inserted by a first SYN, freed by the segment or the sweep that settles them, all under the set's lock. */
BPF_ARRAY(flows, struct flow_set, SETS);
/* Written under the lock of the set of the same index, read without. */
BPF_ARRAY(tags, u64, SETS);
/* Added to by programs, read by user space; nobody clears them. */
BPF_PERCPU_ARRAY(cpus, struct cpu, 1);
/* A packet's work space; programs on one CPU do not interrupt each other (BH is off). */
BPF_PERCPU_ARRAY(scratches, struct scratch, 1);
BPF_PERCPU_ARRAY(payload_scratch, struct payload_event, 1);
BPF_ARRAY(limiters, struct limiter, 1);
/* Position set by user space before each round, moved on by the sweep. */
BPF_ARRAY(sweep_states, struct sweep_state, 1);
BPF_ARRAY(sweep_scratch, struct handshake_event, 1);

/* The second stages, put in by user space before the first ones are attached. */
BPF_PROG_ARRAY(tc_stages, STAGES);
BPF_PROG_ARRAY(xdp_stages, STAGES);
#ifdef FILTER
/* Written by the filter programs, which user space puts into the stage maps (load.py). */
BPF_PERCPU_ARRAY(filter_states, struct filter_state, 1);
#endif
/* Records: submitted by programs, consumed by user space (drain.py). */
#ifdef TRANSPORT_PERF
BPF_PERF_OUTPUT(events);
BPF_PERF_OUTPUT(payloads);
#else
BPF_RINGBUF_OUTPUT(events, EVENT_RING_PAGES);
BPF_RINGBUF_OUTPUT(payloads, PAYLOAD_RING_PAGES);
#endif
#ifdef PACKETS
BPF_PERCPU_ARRAY(packet_scratch, struct packet_event, 1);
#ifdef TRANSPORT_PERF
BPF_PERF_OUTPUT(packets);
#else
BPF_RINGBUF_OUTPUT(packets, PACKET_RING_PAGES);
#endif
#endif

/* For load.py only: it learns the structs' layout from the map's value type, nothing is stored here. */
struct layout {
	struct handshake_event event;
	struct payload_event payload;
	struct cpu cpu;
	struct config config;
	struct sweep_state sweep;
#ifdef PACKETS
	struct packet_event packet;
#endif
};
BPF_ARRAY(layout, struct layout, 1);

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

/* User space polls: a wake-up here would cost the packet more than all the rest. */
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

/* Before the lock, under which no helper may be called: room for a record that is likely to be final after it. */
#ifdef TRANSPORT_PERF
static __always_inline struct handshake_event *reserve_event(void)
{
	return 0;
}
#define finish_event(ev, is_final, c)
#else
static __always_inline struct handshake_event *reserve_event(void)
{
	return events.ringbuf_reserve(sizeof(struct handshake_event));
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

/* One look-up after the other: a choice between two maps would keep the compiler from inlining either. */
static __always_inline struct interface_config *find_interface(__u32 ifindex)
{
	struct interface_config *conf = interfaces_near.lookup(&ifindex);

	return conf ? conf : interfaces_far.lookup(&ifindex);
}

static __always_inline __u32 interface_of(const struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
#ifdef REPLAY
	__u32 mark = skb->mark; /* the capture's own interface: this host need not have it */

	asm volatile("" : "+r"(ifindex), "+r"(mark)); /* or one load from either place, which the verifier refuses */
	if (mark)
		return mark;
#endif
	return ifindex;
}

/* The tag that was taken out of the packet, as in struct frame. */
static __always_inline __u32 tag_beside(const struct __sk_buff *skb)
{
	return skb->vlan_present ? 0x10000 | skb->vlan_tci | service_tag(skb) : 0;
}

static __always_inline void take_skb(struct frame *f, const struct __sk_buff *skb)
{
	f->data = (void *)(long)skb->data;
	f->data_end = (void *)(long)skb->data_end;
	f->len = skb->len;
#ifdef REPLAY
	f->now_ns = skb->tstamp;
#endif
}

static __always_inline void take_xdp(struct frame *f, const struct xdp_md *xdp)
{
	f->data = (void *)(long)xdp->data;
	f->data_end = (void *)(long)xdp->data_end;
	f->len = f->data_end - f->data;
}

/*
 * An opening SYN is the first to look at its set for a while: these loads wait for memory all at once, and while the
 * rest of the packet is read, and not one after the other under the lock. Most often it gets the first way.
 */
static __always_inline void touch_first_way(struct flow_set *set, const __u64 *set_tags)
{
	(void)*(const volatile __u64 *)set_tags;
#pragma clang loop unroll(full)
	for (int at = 0; at < sizeof(set->way[0]); at += 64)
		(void)*(const volatile __u64 *)((const __u8 *)&set->way[0] + at);
}

/*
 * A TCP segment whose headers are known: into scratch with it, if it is for the second stage. Returns enum stage.
 * `ask_tag`: that of `skb` has not been looked at yet; few segments come as far as to need it.
 */
static __always_inline int read_segment(struct frame *f, const struct __sk_buff *skb, int ask_tag,
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
	if (found && is_idle(&set->way[first_way(found)], &sc->segment))
		return STAGE_NONE;
	sc->segment.now_ns = f->now_ns ? f->now_ns : bpf_ktime_get_ns();
	if (syn && !(sc->segment.flags & TCP_ACK))
		touch_first_way(set, set_tags);
	sc->hash = hash;
	sc->family = h->family;
	read_frame(sc, f);
	return stage_of_segment(&sc->segment);
}

/* First stage, of a packet that is not of the common kind. Returns enum stage. */
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
		return stage_by_link(read_segment(f, 0, 0, &c, &h, group), no_link_header);
	}
	asm volatile("" : "+r"(result)); /* one road from here on, not one for each way to fail */
	if (f->can_pull && (result >= BAD_ETHERNET || result == PARSED_ICMP))
		return STAGE_AGAIN;
	cpu->counters.packets++;
	if (result != PARSED_ICMP) {
		count_bad(&cpu->counters, result);
		return STAGE_NONE;
	}
	sc = scratches.lookup(&zero);
	if (!sc)
		return STAGE_NONE;
	sc->segment.now_ns = f->now_ns ? f->now_ns : bpf_ktime_get_ns();
	sc->group = group;
	sc->family = h.family;
	sc->vlans = h.vlans;
	sc->icmp_offset = (__u8 *)c.pos - (__u8 *)f->data;
	sc->icmp_len = h.l4_len;
	read_frame(sc, f);
	return STAGE_ICMP;
}

/*
 * First stage: reads the packet into scratch if it is for another stage. Returns enum stage. `skb` or else, with
 * `is_xdp`, `xdp` is there. Of the packet only what is needed is asked: nearly all end here.
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
	/* those far away are uncommon: a second look-up here would cost every packet its registers */
	conf = interfaces_near.lookup(&ifindex);
	if (!cpu || (conf && !conf->traced))
		return STAGE_NONE;
	if (conf && !conf->no_link_header) {
		if (is_xdp)
			take_xdp(&f, xdp);
		else
			take_skb(&f, skb);
		f.ifindex = ifindex;
		f.direction = direction;
		c.pos = f.data;
		c.end = f.data_end;
		h.l3_len = f.len;
		result = parse_common(&c, &h, LENGTH_RULE, 0);
	}
	if (result == NOT_COMMON) {
		sc = scratches.lookup(&zero);
		if (!sc)
			return STAGE_NONE;
		sc->direction = direction;
		return STAGE_UNCOMMON;
	}
	cpu->counters.packets++;
	if (result != PARSED_TCP)
		return STAGE_NONE;
	return read_segment(&f, skb, !is_xdp, &c, &h, conf->group);
}

/* An ICMP packet that the first stage has seen: is it an error that quotes a SYN of ours? Returns enum stage. */
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
	sc->icmp = 1;
	return STAGE_PAIR;
}

/* Each family on a road of its own: verifiers before 6.2 forget which one the bounds were checked for. */
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

/* Did the filter program say that this SYN is not wanted? */
static __always_inline int is_unwanted(void)
{
#ifdef FILTER
	struct filter_state *state;
	int zero = 0;

	state = filter_states.lookup(&zero);
	return state && state->unwanted;
#else
	return 0;
#endif
}

#ifdef PACKETS
/* Before the record, so that who has read the record finds its packets. */
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

/* Second stage. Returns 1 if the packet is a first SYN whose payload is wanted. */
static __always_inline int pair_packet(void *ctx, void *data, void *data_end, struct scratch *sc, struct counters *c)
{
	struct segment *s = &sc->segment;
	struct config *conf;
	struct flow_set *set;
	__u64 *set_tags;
	__u32 index;
	enum segment_kind kind = SEGMENT_PLAIN;
	int done, zero = 0;

	index = set_of(sc->hash, SETS);
	set_tags = tags.lookup(&index);
	set = flows.lookup(&index);
	conf = config.lookup(&zero);
	if (!set_tags || !set || !conf)
		return 0;
	s->response_timeout_ns = conf->response_timeout_ns;
	begin_packet(sc);
	if (sc->icmp) {
		kind = SEGMENT_ICMP;
	} else if (s->flags & TCP_SYN) {
		if (s->flags & (TCP_FIN | TCP_RST)) {
			c->malformed_tcp_flags++;
			return 0;
		}
		read_options(&sc->options, sc, data, data_end);
#ifdef REPLAY
		/* The capture kept less than the header: what it offered or granted is not known. */
		if (sc->options.len < sc->payload_offset - sc->options_offset) {
			c->malformed_tcp_header++;
			return 0;
		}
#endif
		count_option_errors(c, parse_options(&s->facts, &sc->options));
		if (s->flags & TCP_ACK) {
			kind = SEGMENT_SYNACK;
			c->synacks++;
		} else {
			kind = SEGMENT_FIRST_SYN;
			c->syns++;
		}
	} else if (is_closing(set, *set_tags, sc)) {
		/* A road of its own: a pointer that is either room in the ring or scratch is too much for 5.10. */
		struct handshake_event *reserved = reserve_event();

		if (reserved) {
			done = follow(set, set_tags, sc, reserved, c, SEGMENT_PLAIN, 0);
			send_packet(ctx, data, data_end, sc, c);
			finish_event(reserved, done & FOLLOWED_SETTLED, c);
			return 0;
		}
	}
	done = follow(set, set_tags, sc, &sc->out, c, kind, kind == SEGMENT_FIRST_SYN && is_unwanted());
	send_packet(ctx, data, data_end, sc, c);
	if (done & FOLLOWED_SETTLED)
		send_event(ctx, &sc->out, c);
#ifdef NO_DETAILS
	return 0; /* nobody would look at it */
#else
	return done & FOLLOWED_OPENED && s->payload_len > 0;
#endif
}

static __always_inline void send_payload(void *ctx, struct payload_event *p, __u64 len, struct counters *c)
{
	__u64 size = __builtin_offsetof(struct payload_event, data) + len;
	int error;

	asm volatile("" : "+r"(size));
	if (size > sizeof(*p))
		return;
#ifdef TRANSPORT_PERF
	error = payloads.perf_submit(ctx, p, size);
#else
	error = payloads.ringbuf_output(p, size, BPF_RB_NO_WAKEUP);
#endif
	if (error)
		c->payloads_lost++;
	else
		c->payloads++;
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

int tc_ingress(struct __sk_buff *skb)
{
	tc_next(skb, read_packet(skb, 0, 0, DIRECTION_INGRESS));
	return TC_GO_ON;
}

int tc_egress(struct __sk_buff *skb)
{
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
	 * Some drivers and tunnels leave headers out of the linear part. Pull them in,
	 * as the stack itself does a moment later, and begin again.
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

int tc_pair(struct __sk_buff *skb)
{
	struct scratch *sc;
	struct cpu *cpu;
	int zero = 0;

	cpu = cpus.lookup(&zero);
	sc = scratches.lookup(&zero);
	if (!cpu || !sc)
		return TC_GO_ON;
	if ((sc->segment.flags & TCP_SYN) && !sc->icmp) {
		find_process(skb, sc);
		/* The options of a SYN, too, may lie beyond the linear part. */
		if (skb->data_end - skb->data < sc->payload_offset)
			bpf_skb_pull_data(skb, sc->payload_offset);
	}
	if (pair_packet(skb, (void *)(long)skb->data, (void *)(long)skb->data_end, sc, &cpu->counters))
		tc_stages.call(skb, STAGE_PAYLOAD);
	return TC_GO_ON;
}

int tc_payload(struct __sk_buff *skb)
{
	struct payload_event *p;
	struct scratch *sc;
	struct cpu *cpu;
	int zero = 0;
	__u64 len;

	cpu = cpus.lookup(&zero);
	sc = scratches.lookup(&zero);
	p = payload_scratch.lookup(&zero);
	if (!cpu || !sc || !p)
		return TC_GO_ON;
	len = begin_payload(p, sc);
	/*
	 * Opaque, and one less: the compiler would fold the two tests into one on another
	 * register, and verifiers before 6.2 do not learn from "not 0" that it is at least 1.
	 */
	len--;
	asm volatile("" : "+r"(len));
	if (len >= PAYLOAD_MAX)
		return TC_GO_ON;
	len++;
	/* Beyond the headers an skb is often not linear: no direct access here. */
	if (bpf_skb_load_bytes(skb, sc->payload_offset, p->data, len))
		cpu->counters.payloads_lost++;
	else
		send_payload(skb, p, len, &cpu->counters);
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

int xdp_pair(struct xdp_md *ctx)
{
	struct scratch *sc;
	struct cpu *cpu;
	int zero = 0;

	cpu = cpus.lookup(&zero);
	sc = scratches.lookup(&zero);
	if (!cpu || !sc)
		return XDP_GO_ON;
	if (pair_packet(ctx, (void *)(long)ctx->data, (void *)(long)ctx->data_end, sc, &cpu->counters))
		xdp_stages.call(ctx, STAGE_PAYLOAD);
	return XDP_GO_ON;
}

int xdp_payload(struct xdp_md *ctx)
{
	struct payload_event *p;
	struct scratch *sc;
	struct cpu *cpu;
	void *data, *data_end;
	int zero = 0;
	__u32 len;

	cpu = cpus.lookup(&zero);
	sc = scratches.lookup(&zero);
	p = payload_scratch.lookup(&zero);
	if (!cpu || !sc || !p)
		return XDP_GO_ON;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	len = begin_payload(p, sc);
	copy_chunks(p, data + (sc->payload_offset & 0x7fff), data_end, len, &sc->way);
	/* All of it afresh: nothing is known of it then, however many chunks were copied. */
	asm volatile("" : : : "memory");
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	len = p->captured;
	copy_rest(p, data + (sc->payload_offset & 0x7fff), data_end, len, &sc->way);
	len = sc->way;
	p->captured = len;
	send_payload(ctx, p, len, &cpu->counters);
	return XDP_GO_ON;
}
#endif

/* One set a run: user space runs it SETS times a round (BPF_PROG_TEST_RUN's repeat). */
int sweep(struct __sk_buff *skb)
{
	struct sweep_state *state;
	struct handshake_event *out;
	struct flow_set *set;
	__u64 *set_tags;
	__u64 now;
	__u32 index;
	int zero = 0;

	state = sweep_states.lookup(&zero);
	out = sweep_scratch.lookup(&zero);
	if (!state || !out)
		return 0;
	index = state->cursor++ & (SETS - 1);
	set_tags = tags.lookup(&index);
	if (!set_tags || !*set_tags)
		return 0;
	set = flows.lookup(&index);
	if (!set)
		return 0;
	now = state->now_ns ? state->now_ns : bpf_ktime_get_ns();
	NO_UNROLL
	for (int i = 0; i < WAYS; i++) {
		struct pending *p = &set->way[i];
		int settled = 0, live;

		if (!(*set_tags >> i * 8 & 0xff))
			continue;
		bpf_spin_lock(&set->lock);
		live = pending_is_live(p);
		if (p->state == PENDING_TOMBSTONE) {
			if (state->flush || now >= p->deadline_ns) {
				p->state = PENDING_FREE;
				*set_tags = with_tag(*set_tags, i, 0);
			}
		} else if (live && (state->flush || now >= p->deadline_ns)) {
			if (!settle(p, state->flush ? SETTLED_AT_END : SETTLED_BY_TIMEOUT, now) || state->flush) {
				p->state = PENDING_FREE;
				*set_tags = with_tag(*set_tags, i, 0);
			}
			*out = p->ev;
			settled = 1;
			live = 0;
		}
		bpf_spin_unlock(&set->lock);
		state->live += live;
		if (settled)
			send_event(skb, out, &state->counters);
	}
	return 0;
}
