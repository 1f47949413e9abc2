// SPDX-License-Identifier: MIT
/*
 * Damaged frames through everything that reads or pairs them, each in a heap
 * block of exactly its size: the sanitizers see what a kernel would not forgive.
 * The same frames every time, from a generator of its own.
 */
#include "world.h"

#define HASH_KEY 0x9e3779b97f4a7c15ULL

static __u64 random_state = 0x123456789abcdef1ULL;

/* xorshift64*, Vigna 2016 */
static __u32 random32(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dULL >> 32;
}

static __u32 below(__u32 limit)
{
	return random32() % limit;
}

static unsigned long segments, common, quoted, settled, with_options, idle;

static unsigned int add_options(__u8 *to)
{
	static const __u8 kinds[] = {0, 1, 2, 3, 4, 8, 19, 28, 29, 30, 34, 34, 34, 69, 172, 253, 254, 254};
	static const __u8 sizes[] = {0, 1, 2, 3, 4, 6, 10, 10, 12, 18, 20, 40, 255};
	unsigned int len = 0, limit = below(11) * 4;

	for (unsigned int i = 0; i < limit; i++)
		to[i] = below(4) ? 1 : random32();
	while (len + 1 < limit) {
		to[len] = kinds[below(sizeof(kinds))];
		to[len + 1] = sizes[below(sizeof(sizes))];
		if (to[len] >= 253 && len + 4 <= limit)
			put16(to + len + 2, TFO_EXPERIMENT_MAGIC);
		len += to[len] < 2 ? 1 : to[len + 1] < 2 ? 2 : to[len + 1];
	}
	return limit;
}

/* Ports and numbers of a small world, so that segments meet in the table. */
static unsigned int add_tcp(__u8 *to)
{
	static const __u16 flags[] = {
		TCP_SYN,	   TCP_SYN, TCP_SYN | TCP_ACK, TCP_SYN | TCP_ACK, TCP_ACK, TCP_ACK,
		TCP_RST | TCP_ACK, TCP_RST, TCP_FIN | TCP_ACK, TCP_SYN | TCP_FIN, 0xfff,   0};
	unsigned int options = add_options(to + TCP_HEADER_LEN);
	unsigned int from_server = below(2), payload = below(3) ? 0 : below(40);

	put16(to, from_server ? 443 : 1 + below(6));
	put16(to + 2, from_server ? 1 + below(6) : 443);
	put32(to + 4, 1000 + below(3));
	put32(to + 8, 1000 + below(4));
	put16(to + 12, (TCP_HEADER_LEN + options) / 4 << 12 | flags[below(sizeof(flags) / sizeof(flags[0]))]);
	put16(to + 14, random32());
	put32(to + 16, random32());
	for (unsigned int i = 0; i < payload; i++)
		to[TCP_HEADER_LEN + options + i] = random32();
	return TCP_HEADER_LEN + options + payload;
}

static unsigned int add_ip(__u8 *to, unsigned int family, unsigned int nesting);

static unsigned int add_icmp(__u8 *to, unsigned int family, unsigned int nesting)
{
	to[0] = family == 4 ? 3 : 1;
	if (!below(4))
		to[0] = random32();
	to[1] = below(6);
	return 8 + add_ip(to + 8, family, nesting);
}

static unsigned int add_ip(__u8 *to, unsigned int family, unsigned int nesting)
{
	static const __u8 types[] = {0, 43, 44, 51, 60, 135, 139, 140};
	static const __u16 ports[] = {443, UDP_PORT_VXLAN, UDP_PORT_VXLAN_OLD, UDP_PORT_GENEVE, UDP_PORT_GTP};
	static const __u8 others[] = {IP_PROTOCOL_UDP, IP_PROTOCOL_UDP, IP_PROTOCOL_GRE, IP_PROTOCOL_IPV4, 50};
	unsigned int header = family == 4 ? 20 + below(4) / 3 * below(11) * 4 : 40;
	unsigned int icmp = nesting && !below(4);
	unsigned int protocol = icmp || below(16) ? IP_PROTOCOL_TCP : others[below(sizeof(others))];
	unsigned int len = header, inner;
	__u8 *next = to + 6;

	memset(to, 0, header);
	for (unsigned int i = family == 6 && !below(2) ? below(8) : 0; i; i--) {
		*next = types[below(sizeof(types))];
		next = to + len;
		memset(next, 0, 8);
		next[3] = below(8) ? 0 : random32();
		len += 8;
	}
	*next = icmp ? IP_PROTOCOL_ICMPV6 : protocol;
	inner = len;
	len += icmp ? add_icmp(to + len, family, nesting - 1) : add_tcp(to + len);
	if (protocol == IP_PROTOCOL_UDP)
		put16(to + inner + 2, ports[below(sizeof(ports) / sizeof(ports[0]))]);
	if (family == 4) {
		to[0] = 0x40 | header / 4;
		put16(to + 2, len);
		to[6] = below(8) ? 0x40 : 0;
		to[9] = icmp ? IP_PROTOCOL_ICMP : protocol;
	} else {
		to[0] = 0x60;
		put16(to + 4, len - 40);
	}
	return len;
}

static unsigned int make_frame(__u8 *frame)
{
	static const __u16 ethertypes[] = {ETHERTYPE_VLAN, ETHERTYPE_QINQ, ETHERTYPE_QINQ_OLD};
	unsigned int family = below(2) ? 4 : 6, len = 12;

	memset(frame, 0, 12);
	for (unsigned int tags = below(2) ? 0 : below(4); tags; tags--) {
		put16(frame + len, ethertypes[below(3)]);
		put16(frame + len + 2, below(3));
		len += 4;
	}
	put16(frame + len, family == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
	len += 2;
	return len + add_ip(frame + len, family, 2);
}

static unsigned int damage(__u8 *frame, unsigned int len)
{
	switch (below(4)) {
	case 0:
		return below(len + 1);
	case 1:
		for (unsigned int i = 1 + below(4); i; i--)
			frame[below(len)] ^= 1 << below(8);
		return len;
	case 2:
		frame[12 + below(len - 12)] = random32();
		return len;
	default:
		return len;
	}
}

static void require(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static void read_facts(struct segment *s, const struct headers *h, struct cursor *c)
{
	struct segment_facts *f = &s->facts;
	struct option_walk w = {};

	memset(f, 0, sizeof(*f));
	take_header_facts(f, h);
	w.len = copy_options(w.bytes, c, tcp_header_len(h->tcp) - TCP_HEADER_LEN);
	parse_options(f, &w);
	with_options += f->options_len != 0;
	require(f->options_len <= TCP_OPTIONS_MAX, "more than 40 bytes of options");
	require(!(f->has & HAS_TFO) == (f->tfo_offset == NO_OFFSET), "a cookie without offset");
	require(!(f->has & HAS_TFO) || f->tfo_offset + f->cookie_len <= f->options_len, "a cookie beyond the options");
	require(!(f->has & HAS_TIMESTAMPS) || f->ts_offset + 8 <= f->options_len, "timestamps beyond the options");
}

static int sc_way_is_sound(const struct world *w)
{
	return w->sc.way < WAYS;
}

static void count_settled(const struct handshake_event *ev)
{
	settled++;
	require(ev->result != RESULT_NONE, "settled without a result");
	require(ev->settled_ns >= ev->syn_ns || ev->resumed, "settled before it began");
}

/* As the stages do it, without maps and locks. */
static void pair_segment(struct world *w)
{
	const struct segment *s = &w->sc.segment;

	if (!w->sc.icmp && s->flags & TCP_SYN && (s->flags & TCP_RST || (s->flags & (TCP_FIN | TCP_ACK)) == TCP_FIN))
		return;
	switch (read_segment(w, 0)) {
	case -1:
		idle++;
		break;
	case FOLLOWED_SETTLED:
	case FOLLOWED_SETTLED | FOLLOWED_OPENED:
		count_settled(&w->sc.out);
	}
	require(sc_way_is_sound(w), "a way beyond the set");
}

/* What the quick road says of a frame, the thorough one must say too. `h` is as it was before either. */
static int parse(struct cursor *c, struct headers *h, enum length_rule rule, __u32 tci)
{
	struct cursor quick_c = *c;
	struct headers quick = *h;
	struct opaque o;
	int said = parse_common(&quick_c, &quick, rule, tci), result;

	result = parse_ethernet(c, h, tci, &o);
	if (result == PARSED_TCP)
		result = parse_ip(c, h, rule, &o);
	if (result == PARSED_TCP)
		result = parse_tcp(c, h);
	require(said == NOT_COMMON || said == result, "the quick road takes it for something else");
	if (said != PARSED_TCP)
		return result;
	common++;
	require(quick.ip == h->ip && quick.tcp == h->tcp && quick_c.pos == c->pos, "the quick road reads elsewhere");
	require(quick.l4_len == h->l4_len && quick.ip_extra == h->ip_extra && quick.vlans == h->vlans &&
			quick.family == h->family,
		"the quick road reads otherwise");
	return result;
}

static void run_frame(struct world *w, __u8 *frame, unsigned int len, __u64 now_ns)
{
	struct cursor c = {.pos = frame, .end = frame + len};
	enum length_rule rule = below(4) ? LENGTH_WITHIN_FRAME : LENGTH_MAY_BE_CUT;
	struct headers h = {.l3_len = len};
	struct segment *s = &w->sc.segment;
	struct opaque o;
	__u8 type, code;
	int result, icmp;

	if (below(16)) {
		result = parse(&c, &h, rule, below(8) ? 0 : 0x10000 | below(3));
	} else {
		result = parse_no_link(&c, &h);
		if (result == PARSED_TCP)
			result = parse_ip(&c, &h, rule, &o);
		if (result == PARSED_TCP)
			result = parse_tcp(&c, &h);
	}
	icmp = result == PARSED_ICMP;
	if (icmp)
		result = parse_icmp(&c, &h, &type, &code, &o);
	if (result != PARSED_TCP)
		return;
	memset(s, 0, sizeof(*s));
	s->now_ns = now_ns;
	s->place = 2 + below(2);
	s->response_timeout_ns = 5000 * NS_PER_MS;
	take_flow(&s->flow, &h, 1);
	s->seq = load_be32((__u8 *)h.tcp + 4);
	w->sc.icmp = icmp;
	w->sc.icmp_type = 3;
	w->sc.icmp_code = 1;
	w->sc.ifindex = 1;
	w->sc.family = h.family;
	w->sc.hash = flow_hash(&h, 1, HASH_KEY);
	if (icmp) {
		quoted++;
	} else {
		segments++;
		s->flags = tcp_flags(h.tcp);
		s->ack = load_be32((__u8 *)h.tcp + 8);
		s->payload_len = h.l4_len - tcp_header_len(h.tcp);
		usual_timestamps(&c, &h, &s->ts_val, &s->ts_ecr);
		require(rule == LENGTH_MAY_BE_CUT || (__u8 *)h.tcp + h.l4_len <= frame + len,
			"a segment beyond the frame");
		if (s->flags & TCP_SYN)
			read_facts(s, &h, &c);
	}
	pair_segment(w);
}

int main(int argc, char **argv)
{
	unsigned long frames = argc > 1 ? strtoul(argv[1], NULL, 10) : 300000;
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		abort();
	for (unsigned long i = 0; i < frames; i++) {
		__u8 scratch[1024];
		unsigned int len = damage(scratch, make_frame(scratch));
		__u8 *frame = exact_copy(scratch, len);

		run_frame(w, frame, len, 1000000000ULL + i * NS_PER_MS);
		free(frame);
	}
	sweep_world(w, ~0ULL >> 1, 1, count_settled);
	free(w);
	printf("frames=%lu segments=%lu common=%lu options=%lu quoted=%lu settled=%lu idle=%lu\n", frames, segments,
	       common, with_options, quoted, settled, idle);
	return 0;
}
