// SPDX-License-Identifier: MIT
/*
 * Fuzz target: one frame through all that reads frames, in a heap block of
 * exactly its size, compared with the reference in every number.
 *
 * Input: a byte of choices, a VLAN tag if chosen (2 bytes), the frame.
 */
#include "reference.h"
#include "payload.h"
#include "read.h"

#define CHOICE_TAG 1	      /* a tag was taken out of the packet */
#define CHOICE_NO_LINK 2      /* the frame begins with the IP header */
#define CHOICE_CUT 4	      /* a capture may be cut by its snap length */
#define CHOICE_LONGER 8	      /* 64 bytes more than are readable */
#define CHOICE_MUCH_LONGER 16 /* BIG TCP */

static struct scratch sc;
static struct payload_event payload;

static void check_position(const struct packet *p, const void *at, __u64 expected, const char *what)
{
	require((__u64)((const __u8 *)at - p->bytes) == expected, what);
}

static void check_options(const struct packet *p, const struct headers *h, __u64 tcp)
{
	__u64 header_len = tcp_header_len(h->tcp), len = header_len - TCP_HEADER_LEN;
	struct segment_facts *f = &sc.segment.facts, want = {};
	unsigned int errors;

	/* of what is cut by the end of the capture whole words are read */
	if (tcp + header_len > p->have)
		len = (p->have - tcp - TCP_HEADER_LEN) & ~3ULL;
	read_options(&sc.options, &sc, (void *)p->bytes, (void *)(p->bytes + p->have));
	errors = parse_options(f, &sc.options);
	require(errors == reference_options(p->bytes + tcp + TCP_HEADER_LEN, len, &want), "option errors differ");
	require(f->options_len == len && !memcmp(f->options, p->bytes + tcp + TCP_HEADER_LEN, len),
		"other option bytes than the packet's");
	for (__u64 i = len; i < TCP_OPTIONS_MAX; i++)
		require(!f->options[i], "option bytes behind the options");
	require(f->has == (want.has | HAS_SEGMENT), "other options found");
	require(f->mss == want.mss && f->wscale == want.wscale, "MSS or window scale differ");
	require(f->ts_val == want.ts_val && f->ts_ecr == want.ts_ecr && f->ts_offset == want.ts_offset,
		"timestamps differ");
	require(f->tfo_kind == want.tfo_kind && f->tfo_offset == want.tfo_offset && f->cookie_len == want.cookie_len,
		"the Fast Open option differs");
	require(!(f->has & HAS_TFO) || f->tfo_offset + f->cookie_len <= f->options_len, "a cookie beyond the options");
	require(!(f->has & HAS_TIMESTAMPS) || f->ts_offset + 8 <= f->options_len, "timestamps beyond the options");
}

static void check_payload(const struct packet *p, __u64 data, __u64 len)
{
	__u64 want = len;
	__u32 room, copied;
	volatile __u32 done = 0;

	room = begin_payload(&payload, &sc);
	if (data + want > p->wire)
		want = p->wire > data ? p->wire - data : 0;
	if (want > PAYLOAD_MAX)
		want = PAYLOAD_MAX;
	require(room == want && payload.captured == want, "payload: other room than there is");
	require(payload.len == (len > 0xffff ? 0xffff : len), "payload: other length");
	copy_chunks(&payload, p->bytes + data, p->bytes + p->have, room, &done);
	copy_rest(&payload, p->bytes + data, p->bytes + p->have, room, &done);
	copied = done;
	if (data + want > p->have)
		want = p->have > data ? p->have - data : 0;
	/* byte by byte it goes 63 bytes far, which is enough when all is readable */
	require(copied <= want && (copied == want || data + room > p->have), "payload: not all of it");
	require(!memcmp(payload.data, p->bytes + data, copied), "payload: other bytes");
}

static void check_segment(const struct packet *p, struct cursor *c, struct headers *h, const struct reading *r)
{
	struct frame f = {
		.data = (void *)p->bytes,
		.data_end = (void *)(p->bytes + p->have),
		.len = p->wire,
		.wire_len = p->wire,
	};
	struct segment *s = &sc.segment;
	__u64 header_len;

	header_len = tcp_header_len(h->tcp);
	read_frame(&sc, &f);
	read_flow(&sc, h, 7);
	read_tcp(&sc, &f, c, h);
	require(s->payload_len == r->l4_len - header_len, "another payload length");
	require(s->flow.src_port == two(p, r->l4) && s->flow.dst_port == two(p, r->l4 + 2), "other ports");
	require(s->flow.vlan[0] == (r->vlans & 0xffff) && s->flow.vlan[1] == r->vlans >> 16, "other VLANs in the flow");
	require(s->seq == ((__u32)two(p, r->l4 + 4) << 16 | two(p, r->l4 + 6)), "another sequence number");
	require(s->flags == (two(p, r->l4 + 12) & 0xfff), "other flags");
	if (!(s->flags & TCP_SYN))
		return;
	require(sc.options_offset == r->l4 + TCP_HEADER_LEN && sc.payload_offset == r->l4 + header_len,
		"options or payload begin elsewhere");
	require(s->facts.payload_len == (__u16)s->payload_len && s->facts.window == two(p, r->l4 + 14), "facts differ");
	if (sc.options_offset > 0x7fff)
		return; /* the programs step back to where they may read; such headers are no real ones */
	check_options(p, h, r->l4);
	if (sc.payload_offset <= 0x7fff && sc.payload_offset <= p->have)
		check_payload(p, sc.payload_offset, s->payload_len);
}

static void check_common(const struct packet *p, const struct headers *before, enum length_rule rule, unsigned int tci,
			 const struct reading *r)
{
	struct cursor c = {.pos = (void *)p->bytes, .end = (void *)(p->bytes + p->have)};
	struct headers h = *before;
	int said = parse_common(&c, &h, rule, tci);

	if (said == NOT_COMMON)
		return;
	require(said == r->result, "the quick road ends otherwise");
	if (said != PARSED_TCP)
		return;
	check_position(p, h.ip, r->ip, "the quick road finds IP elsewhere");
	check_position(p, h.tcp, r->l4, "the quick road finds TCP elsewhere");
	check_position(p, c.pos, r->l4 + TCP_HEADER_LEN, "the quick road stops elsewhere");
	require(h.l4_len == r->l4_len && h.ip_extra == r->extra && h.vlans == r->vlans && h.family == r->family,
		"the quick road reads otherwise");
}

static void run_frame(const struct packet *p, unsigned int choices, unsigned int tci)
{
	enum length_rule rule = choices & CHOICE_CUT ? LENGTH_MAY_BE_CUT : LENGTH_WITHIN_FRAME;
	struct cursor c = {.pos = (void *)p->bytes, .end = (void *)(p->bytes + p->have)};
	struct headers h = {.l3_len = p->wire}, fresh = h;
	struct reading r = {};
	__u8 type = 0, code = 0;
	struct opaque o;
	int result;

	if (choices & CHOICE_NO_LINK) {
		result = parse_no_link(&c, &h);
		r.family = p->have ? p->bytes[0] >> 4 : 0;
		r.result = !p->have ? BAD_ETHERNET : r.family == 4 || r.family == 6 ? PARSED_TCP : PARSED_OTHER;
	} else {
		result = parse_ethernet(&c, &h, tci, &o);
		r.result = reference_link(p, tci, &r);
	}
	require(result == r.result, "link headers end otherwise");
	if (result != PARSED_TCP) {
		if (!(choices & CHOICE_NO_LINK))
			check_common(p, &fresh, rule, tci, &r);
		return;
	}
	result = parse_ip(&c, &h, rule, &o);
	r.result = reference_ip(p, p->wire - r.ip, rule == LENGTH_MAY_BE_CUT, &r);
	require(result == r.result, "IP headers end otherwise");
	if (result == PARSED_TCP) {
		check_position(p, c.pos, r.l4, "TCP begins elsewhere");
		result = parse_tcp(&c, &h);
		r.result = reference_tcp(p, &r);
		require(result == r.result, "TCP headers end otherwise");
	}
	if (!(choices & CHOICE_NO_LINK))
		check_common(p, &fresh, rule, tci, &r);
	if (result == PARSED_ICMP) {
		check_position(p, c.pos, r.l4, "ICMP begins elsewhere");
		require(h.l4_len == r.l4_len, "another length of ICMP");
		result = parse_icmp(&c, &h, &type, &code, &o);
		require(result == reference_icmp(p, &r), "ICMP errors end otherwise");
		if (result != PARSED_TCP)
			return;
		check_position(p, h.tcp, r.l4, "the quoted segment is elsewhere");
		take_flow(&sc.segment.flow, &h, 7);
		return;
	}
	if (result != PARSED_TCP)
		return;
	check_position(p, h.ip, r.ip, "IP is elsewhere");
	check_position(p, h.tcp, r.l4, "TCP is elsewhere");
	require(h.l4_len == r.l4_len && h.ip_extra == r.extra && h.vlans == r.vlans && h.family == r.family,
		"headers differ");
	require(rule == LENGTH_MAY_BE_CUT || r.l4 + h.l4_len <= p->wire, "a segment beyond the frame");
	check_segment(p, &c, &h, &r);
}

int LLVMFuzzerTestOneInput(const __u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const __u8 *data, size_t size)
{
	unsigned int choices, tci = 0, skip = 1;
	struct packet p;
	__u8 *copy;

	if (size < 3)
		return 0;
	choices = data[0];
	if (choices & CHOICE_TAG) {
		tci = 0x10000 | data[1] << 8 | data[2];
		skip = 3;
	}
	copy = exact_copy(data + skip, size - skip);
	p.bytes = copy;
	p.have = size - skip;
	p.wire = p.have + (choices & CHOICE_LONGER ? 64 : 0) + (choices & CHOICE_MUCH_LONGER ? 70000 : 0);
	run_frame(&p, choices, tci);
	free(copy);
	return 0;
}
