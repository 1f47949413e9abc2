/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Second stage: applies SYNs and segments of tracked connections to the pending table (path: maps.bpf.c). */
#include "counting.h"
#include "follow.h"
#include "payload.h"
#include "process.h"
#include "read.h"

/* Did the filter program reject this SYN? */
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

/* Second stage. Returns 1 if the packet is a first SYN whose payload is wanted. */
static __always_inline int pair_packet(void *ctx, void *data, void *data_end, struct scratch *sc, struct counters *c)
{
	struct segment *s = &sc->segment;
	struct config *conf;
	struct handshake_event *reserved = 0;
	struct early_synack *early = 0;
	struct flow_head *head;
	struct flow_set *set;
	__u64 *set_tags, has_room = 0;
	__u32 index;
	enum segment_kind kind = SEGMENT_PLAIN;
	int done, zero = 0;

	index = set_of(sc->hash, SETS);
	set_tags = tags.lookup(&index);
	head = heads.lookup(&index);
	set = flows.lookup(&index);
	conf = config.lookup(&zero);
	if (!set_tags || !head || !set || !conf)
		return 0;
	s->response_timeout_ns = conf->response_timeout_ns;
	begin_packet(sc);
	if (sc->icmp) {
		kind = SEGMENT_ICMP;
	} else if (s->flags & TCP_SYN) {
		index = sc->hash & (EARLY_SLOTS - 1);
		early = early_synacks.lookup(&index);
		if (!early)
			return 0;
		/* Linux takes a SYN-ACK with FIN, but no SYN with it */
		if (s->flags & TCP_RST || (s->flags & (TCP_FIN | TCP_ACK)) == TCP_FIN) {
			c->malformed_tcp_flags++;
			return 0;
		}
		read_options(&sc->options, sc, data, data_end);
#ifdef REPLAY
		/* the capture cut the header, so we do not know what it offered or granted */
		if (sc->options.len < sc->payload_offset - sc->options_offset) {
			c->malformed_tcp_header++;
			return 0;
		}
#endif
		count_option_errors(c, parse_options(&s->facts, &sc->options));
		s->print = print_of_syn(s);
		if (s->flags & TCP_ACK) {
			kind = SEGMENT_SYNACK;
			c->synacks++;
		} else {
			kind = SEGMENT_FIRST_SYN;
			c->syns++;
			sc->has_early = 0;
			if (early->hash == sc->hash)
				fetch_early(early, sc);
		}
	}
	if (kind == SEGMENT_PLAIN) {
		s->print = print_of_plain(s);
		if (is_closing(set, *set_tags, sc)) {
			reserved = reserve_event();
			has_room = is_room(reserved);
		}
	}
	done = follow(set, head, set_tags, sc, reserved, has_room, c, kind, kind == SEGMENT_FIRST_SYN && is_unwanted());
	if (early && kind == SEGMENT_SYNACK && done == FOLLOWED_NOTHING)
		keep_early(early, sc);
	send_packet(ctx, data, data_end, sc, c);
	if (has_room)
		finish_event(reserved, done & FOLLOWED_SETTLED, c);
	else if (done & FOLLOWED_SETTLED)
		send_event(ctx, &sc->out, c);
#ifdef NO_DETAILS
	return 0; /* nobody needs it */
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
#ifndef REPLAY
		sc->addressee = skb->pkt_type ? ADDRESSED_TO_OTHERS : ADDRESSED_TO_HOST;
#endif
		/* a SYN's options may be outside the linear part, too */
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
	 * Opaque, and one less: the compiler would merge the two tests into one on another
	 * register, and verifiers before 6.2 do not conclude from "not 0" that it is at least 1.
	 */
	len--;
	asm volatile("" : "+r"(len));
	if (len >= PAYLOAD_MAX)
		return TC_GO_ON;
	len++;
	/* after the headers an skb is often not linear: no direct access here */
	if (bpf_skb_load_bytes(skb, sc->payload_offset, p->data, len))
		cpu->counters.payloads_lost++;
	else
		send_payload(skb, p, len, &cpu->counters);
	return TC_GO_ON;
}

#ifdef WITH_XDP
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
	/* load everything again, so that the verifier knows nothing, whatever the number of chunks copied */
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
