/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The kernel's word: why it freed a segment (skb:kfree_skb, Linux 5.17) and why it
 * sent a reset (tcp:tcp_send_reset, Linux 6.11). A flood of freed packets must cost
 * little, so two reads and a look-up tell whether one may be of interest: a TCP
 * segment with SYN or RST, or of a tracked connection. Only that one is read whole.
 * User space joins it with its record (run/kernel_words.py).
 *
 * loader/kernel_words.py compiles this behind maps.bpf.c, with the kernel's own
 * offsets (KERNEL_*) and numbers (REASON_*, FREED_ARGUMENTS), and loads it with
 * the maps of the other programs. They do not need it.
 */
#include "flow.h"
#include "kernel_read.h"
#include "state.h"

/* The programs below submit, user space consumes. */
BPF_RINGBUF_OUTPUT(drops, DROP_RING_PAGES);

/* Words sent in a period; programs on one CPU may interrupt each other here, which costs a word at most. */
struct word_budget {
	__u64 jiffy; /* of the latest look at the clock, which costs more than jiffies do */
	__u64 period;
	__u64 sent;
};
BPF_PERCPU_ARRAY(word_budgets, struct word_budget, 1);

/* A CPU sends so many words in 134 ms, 20,000 a second: two for each of the records that are printed at most. */
#define PERIOD_SHIFT 27
#define WORDS_A_PERIOD 2700

/* From skb_iif to head: what tells where the headers are, and where the packet came in. */
#define SKB_BEGIN (KERNEL_SKB_IIF & ~7) /* pointers in the copy are to be aligned, as older verifiers want it */
#define SKB_READ (KERNEL_SKB_HEAD + 8 - SKB_BEGIN)
#define OF_SKB(member) (KERNEL_SKB_##member - SKB_BEGIN)

/* The lower bits of skb->_nfct (include/linux/skbuff.h, nf_conntrack_common.h). */
#define CONNTRACK_INFO 7
#define CONNTRACK_UNTRACKED 7

#define IPV4_LEN 20
#define IPV6_LEN 40

/* What is read of a freed packet. Its headers are copied, so that nothing here depends on a pointer. */
struct look {
	__u8 skb[SKB_READ] __attribute__((aligned(8)));
	__u8 ip[IPV6_LEN + TCP_HEADER_LEN];
	__u64 tcp_at; /* address of the TCP header in the kernel */
	struct headers h;
};

/* Reads the headers. False if it is no TCP segment that can be read; IPv6 extension headers are left alone. */
static __always_inline int read_headers(struct look *l, __u64 skb)
{
	__u64 ip_at, room;
	__u32 len;
	__u16 protocol;

	if (read_kernel(l->skb, SKB_READ, (const void *)(skb + SKB_BEGIN)))
		return 0;
	protocol = load_be16(l->skb + OF_SKB(PROTOCOL));
	ip_at = load_u64(l->skb + OF_SKB(HEAD)) + load_u16(l->skb + OF_SKB(NETWORK_HEADER));
	room = load_u32(l->skb + OF_SKB(TAIL)) - load_u16(l->skb + OF_SKB(NETWORK_HEADER));
	if (protocol == ETHERTYPE_IPV4) {
		if (room < IPV4_LEN + TCP_HEADER_LEN || room > 0xffffff ||
		    read_kernel(l->ip, IPV4_LEN + TCP_HEADER_LEN, (const void *)ip_at))
			return 0;
		if (l->ip[0] >> 4 != 4 || l->ip[9] != IP_PROTOCOL_TCP || load_be16(l->ip + 6) & IPV4_FRAGMENT_OFFSET)
			return 0;
		len = (l->ip[0] & 0x0f) * 4;
		l->tcp_at = ip_at + len;
		if (len != IPV4_LEN && (len < IPV4_LEN || room < len + TCP_HEADER_LEN ||
					read_kernel(l->ip + IPV4_LEN, TCP_HEADER_LEN, (const void *)l->tcp_at)))
			return 0;
		l->h.family = 4;
		l->h.l4_len = load_be16(l->ip + 2) - len;
	} else if (protocol == ETHERTYPE_IPV6) {
		if (room < IPV6_LEN + TCP_HEADER_LEN || room > 0xffffff ||
		    read_kernel(l->ip, IPV6_LEN + TCP_HEADER_LEN, (const void *)ip_at))
			return 0;
		if (l->ip[0] >> 4 != 6 || l->ip[6] != IP_PROTOCOL_TCP)
			return 0;
		l->tcp_at = ip_at + IPV6_LEN;
		l->h.family = 6;
		l->h.l4_len = load_be16(l->ip + 4);
	} else {
		return 0;
	}
	l->h.ip = l->ip;
	return 1;
}

static __always_inline __u32 group_of(const struct look *l, __u64 skb)
{
	struct interface_config *conf;
	struct config *c;
	__u32 ifindex;
	__u64 dev;
	int zero = 0;

	c = config.lookup(&zero);
	if (c && c->only_group)
		return c->only_group;
	ifindex = load_u32(l->skb + OF_SKB(IIF));
	if (!ifindex) { /* it is on its way out */
		dev = read_u64(skb + KERNEL_SKB_DEV);
		ifindex = dev ? read_u32(dev + KERNEL_DEV_IFINDEX) : 0;
	}
	conf = find_interface(ifindex);
	return conf && conf->traced ? conf->group : 0;
}

/*
 * A packet without route that is freed for no reason was never on its way: BPF_PROG_TEST_RUN (a replay) makes and
 * frees such packets by the thousand.
 */
static __always_inline int is_made_up(__u64 skb, __u32 reason)
{
	return reason == REASON_NOT_SPECIFIED && !read_u64(skb + KERNEL_SKB_ROUTE);
}

/* Is it of a connection in the pending table? By its tag: one of 32 others looks like it. */
static __always_inline int is_tracked(const struct look *l, __u64 skb)
{
	__u32 group = group_of(l, skb), hash, index;
	__u64 *set_tags;

	if (!group)
		return 0;
	hash = flow_hash(&l->h, group, HASH_KEY);
	index = set_of(hash, SETS);
	set_tags = tags.lookup(&index);
	return set_tags && ways_tagged(*set_tags, tag_of(hash));
}

static __always_inline int is_of_interest(const struct look *l, __u64 skb)
{
	__u16 flags = tcp_flags(l->h.tcp);

	return flags & (TCP_SYN | TCP_RST) || (flags & TCP_ACK && is_tracked(l, skb));
}

static __always_inline void take_segment(struct drop_event *ev, const struct look *l)
{
	const __u8 *ip = l->ip, *tcp = l->h.tcp;
	__u64 header_len = tcp_header_len(tcp), len = header_len - TCP_HEADER_LEN;
	struct segment_facts facts = {};

	if (l->h.family == 4) {
		map_ipv4(ev->src, ip + 12);
		map_ipv4(ev->dst, ip + 16);
		ev->ip_header_extra = (ip[0] & 0x0f) * 4 - IPV4_LEN;
	} else {
		copy_address(ev->src, ip + 8);
		copy_address(ev->dst, ip + 24);
	}
	take_header_facts(&facts, &l->h);
	ev->family = l->h.family;
	ev->src_port = load_be16(tcp);
	ev->dst_port = load_be16(tcp + 2);
	ev->seq = facts.seq;
	ev->ack = facts.ack;
	ev->tcp_flags = facts.tcp_flags;
	ev->window = facts.window;
	ev->ttl = facts.ttl;
	ev->tos = facts.tos;
	ev->quirks = facts.quirks;
	ev->payload_len = l->h.l4_len > header_len ? facts.payload_len : 0;
	if (!(ev->tcp_flags & TCP_SYN))
		return;
	/* only the options: what lies behind them is nobody's business. Opaque, as in tc_payload() */
	len--;
	asm volatile("" : "+r"(len));
	if (len >= TCP_OPTIONS_MAX)
		return;
	len++;
	if (!read_kernel(ev->options, len, (const void *)(l->tcp_at + TCP_HEADER_LEN)))
		ev->options_len = len;
}

/*
 * One of several that a bridge floods leaves by a port that is not the one it came in by; what TEE or dup made is left
 * alone by conntrack. Of neither does its loss say that the segment was lost.
 */
static __always_inline int may_be_copy(const struct look *l, __u64 skb)
{
	__u64 dev = read_u64(skb + KERNEL_SKB_DEV);
	__u32 in = load_u32(l->skb + OF_SKB(IIF));

	if (!in || !dev || read_u32(dev + KERNEL_DEV_IFINDEX) == in)
		return 0;
#ifdef KERNEL_SKB_CONNTRACK
	if ((read_u64(skb + KERNEL_SKB_CONNTRACK) & CONNTRACK_INFO) == CONNTRACK_UNTRACKED)
		return 1;
#endif
	return read_u64(dev + KERNEL_DEV_RX_HANDLER) != 0;
}

/* Where it happened. Local output has no device yet. */
static __always_inline void take_place(struct drop_event *ev, __u64 dev, __u64 sk, __u64 other_sk)
{
	__u64 net = 0;

	if (dev) {
		ev->ifindex = read_u32(dev + KERNEL_DEV_IFINDEX);
		net = read_u64(dev + KERNEL_DEV_NET);
	} else if (sk) {
		net = read_u64(sk + KERNEL_SOCK_NET);
	} else if (other_sk) {
		net = read_u64(other_sk + KERNEL_SOCK_NET);
	}
	if (net)
		ev->netns = read_u32(net + KERNEL_NET_INODE);
}

/* The interface by which the host would have sent it; 0 if that is not known. Only later does it get a device. */
static __always_inline __u32 way_out(__u64 skb)
{
	__u64 dev = read_u64(skb + KERNEL_SKB_DEV);
	__u64 route = read_u64(skb + KERNEL_SKB_ROUTE) & ~7ULL; /* the lower bits are flags */

	if (!dev && route)
		dev = read_u64(route + KERNEL_ROUTE_DEV);
	return dev ? read_u32(dev + KERNEL_DEV_IFINDEX) : 0;
}

/*
 * A SYN that this host made. The hooks may never have seen it, and then user space makes a record of it; with the place
 * where the pending table would have it, it can ask whether a later one was seen.
 */
static __always_inline void note_own_syn(struct drop_event *ev, const struct look *l, __u64 skb)
{
	struct interface_config *conf;
	__u32 hash, ifindex;

	if ((ev->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN || load_u32(l->skb + OF_SKB(IIF)))
		return;
	ifindex = way_out(skb);
	conf = find_interface(ifindex);
	if (!conf || !conf->traced)
		return;
	hash = flow_hash(&l->h, conf->group, HASH_KEY);
	ev->ifindex = ifindex;
	ev->set = set_of(hash, SETS);
	ev->tag = tag_of(hash);
}

/* Are there more words than anybody needs? Then this leaves at once, without a look at the packet. */
static __always_inline int is_enough(void)
{
	__u64 jiffy = bpf_jiffies64(), period;
	struct word_budget *budget;
	struct cpu *cpu;
	int zero = 0;

	budget = word_budgets.lookup(&zero);
	if (!budget)
		return 1;
	if (budget->jiffy != jiffy) {
		budget->jiffy = jiffy;
		period = bpf_ktime_get_ns() >> PERIOD_SHIFT;
		if (budget->period != period) {
			budget->period = period;
			budget->sent = 0;
		}
	}
	if (budget->sent < WORDS_A_PERIOD)
		return 0;
	cpu = cpus.lookup(&zero);
	if (cpu)
		__sync_fetch_and_add(&cpu->counters.drops_skipped, 1);
	return 1;
}

static __always_inline void send_drop(struct drop_event *ev)
{
	struct word_budget *budget;
	struct cpu *cpu;
	int zero = 0;

	ev->now_ns = bpf_ktime_get_ns();
	budget = word_budgets.lookup(&zero);
	cpu = cpus.lookup(&zero);
	if (!budget || !cpu)
		return;
	budget->sent++;
	/* atomic: unlike the other programs, this one may be interrupted by itself */
	if (drops.ringbuf_output(ev, sizeof(*ev), BPF_RB_NO_WAKEUP))
		__sync_fetch_and_add(&cpu->counters.drops_lost, 1);
	else
		__sync_fetch_and_add(&cpu->counters.drops, 1);
}

static __always_inline int hear_freed(struct bpf_raw_tracepoint_args *ctx)
{
	struct drop_event ev = {};
	__u64 skb = ctx->args[0];
	struct look l;

	if (!read_headers(&l, skb))
		return 0;
	l.h.tcp = l.h.family == 4 ? l.ip + IPV4_LEN : l.ip + IPV6_LEN;
	ev.reason = ctx->args[2];
	if (!is_of_interest(&l, skb) || is_made_up(skb, ev.reason))
		return 0;
	take_segment(&ev, &l);
	ev.location = ctx->args[1];
#if FREED_ARGUMENTS > 3
	take_place(&ev, read_u64(skb + KERNEL_SKB_DEV), read_u64(skb + KERNEL_SKB_SK), ctx->args[3]);
#else
	take_place(&ev, read_u64(skb + KERNEL_SKB_DEV), read_u64(skb + KERNEL_SKB_SK), 0);
#endif
	note_own_syn(&ev, &l, skb);
	ev.is_copy = may_be_copy(&l, skb);
	send_drop(&ev);
	return 0;
}

/* Reasons that say nothing of a handshake's fate (loader/kernel_words.py), such as of copies for packet sockets. */
static __always_inline int is_idle(__u64 reason)
{
	return reason < 128 && (reason < 64 ? IDLE_REASONS_LOW : IDLE_REASONS_HIGH) >> (reason & 63) & 1;
}

int freed_segment(struct bpf_raw_tracepoint_args *ctx)
{
	return is_idle((__u32)ctx->args[2]) || is_enough() ? 0 : hear_freed(ctx);
}

#ifdef WITH_RESETS
static __always_inline void turn_around(struct drop_event *ev)
{
	__u8 src[16];
	__u16 src_port = ev->src_port;

	copy_address(src, ev->src);
	copy_address(ev->src, ev->dst);
	copy_address(ev->dst, src);
	ev->src_port = ev->dst_port;
	ev->dst_port = src_port;
}

/* A reset that answers no segment: the socket has the addresses. */
static __always_inline int take_socket(struct drop_event *ev, __u64 sk)
{
	__u32 ports = 0;
	__u8 ip[8];

	ev->family = (read_u32(sk + KERNEL_SOCK_FAMILY) & 0xffff) == 2 ? 4 : 6;
	if (ev->family == 4) {
		if (read_kernel(ip, sizeof(ip), (const void *)(sk + KERNEL_SOCK_DESTINATION)))
			return 0;
		map_ipv4(ev->dst, ip);
		map_ipv4(ev->src, ip + 4);
	} else {
		read_kernel(ev->dst, 16, (const void *)(sk + KERNEL_SOCK_DESTINATION6));
		read_kernel(ev->src, 16, (const void *)(sk + KERNEL_SOCK_SOURCE6));
	}
	ports = read_u32(sk + KERNEL_SOCK_PORTS);
	ev->dst_port = __builtin_bswap16(ports);
	ev->src_port = ports >> 16;
	return 1;
}

static __always_inline int hear_reset(struct bpf_raw_tracepoint_args *ctx)
{
	struct drop_event ev = {};
	__u64 sk = ctx->args[0], skb = ctx->args[1], dev = 0;
	struct look l;

	if (skb) {
		if (!read_headers(&l, skb))
			return 0;
		l.h.tcp = l.h.family == 4 ? l.ip + IPV4_LEN : l.ip + IPV6_LEN;
		take_segment(&ev, &l);
		turn_around(&ev);
		dev = read_u64(skb + KERNEL_SKB_DEV);
	} else if (!sk || !take_socket(&ev, sk)) {
		return 0;
	}
	ev.is_reset = 1;
	ev.reason = ctx->args[2];
	take_place(&ev, dev, sk, 0);
	send_drop(&ev);
	return 0;
}

int sent_reset(struct bpf_raw_tracepoint_args *ctx)
{
	return is_enough() ? 0 : hear_reset(ctx);
}
#endif
