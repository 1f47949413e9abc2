// SPDX-License-Identifier: MIT
/*
 * Fuzz target: segments of a small world through the pending table, one set of
 * it, and after each the sums and what must hold of every entry.
 *
 * Input: 6 bytes a step, see take_step(); at most STEPS_MAX steps.
 */
#include "../host/world.h"

#define STEP 6
#define STEPS_MAX 400
#define CLIENT_ISN 0xfffffff0u /* soon beyond zero */
#define SERVER_ISN 0x7ffffffeu
/* of some connections */
#define SOCKET 77
#define PROCESS 99

static struct world w;
static __u64 now_ns;

static void require(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static int is_zero(const void *from, const void *to)
{
	for (const __u8 *at = from; at < (const __u8 *)to; at++)
		if (*at)
			return 0;
	return 1;
}

/* What every record is, however it came to its end. */
static void check_record(const struct handshake_event *ev)
{
	int answered = ev->synack_ns != 0;

	require(answered || is_zero(&ev->synack, &ev->synack + 1), "facts of a SYN-ACK that never came");
	require(is_zero(&ev->retx[ev->retx_count], &ev->retx[RETX_MAX]), "a retransmission that is not counted");
	require(ev->client_socket == 0 || ev->client_socket == SOCKET, "nobody's socket");
	require(ev->server_socket == 0 || ev->server_socket == SOCKET, "nobody's listener");
	require(ev->client_process.pid == 0 || ev->client_process.pid == PROCESS, "nobody's process");
	require(!ev->client_process.cgroup && is_zero(&ev->client_process.uid, &ev->client_process + 1),
		"a process of an earlier record");

	require(ev->result != RESULT_NONE && ev->result <= RESULT_SYN_ON_ESTABLISHED, "a record without a result");
	require(ev->reason != SETTLED_NOT && ev->reason <= SETTLED_AT_END, "a record without a reason");
	require(ev->syn_count >= 1 && ev->syn.has & HAS_SEGMENT, "a record without a SYN");
	require(ev->retx_count <= RETX_MAX, "more retransmissions than there is room for");
	require(ev->syn_count == 255 || ev->retx_count < ev->syn_count, "more retransmissions than SYNs");
	require(ev->late_syns < ev->syn_count || ev->syn_count == 255, "more late SYNs than SYNs");
	require(answered == (ev->synack_count != 0), "SYN-ACKs without a time");
	require(answered == !!(ev->synack.has & HAS_SEGMENT), "SYN-ACKs without facts");
	require(!ev->one_way || !answered, "one-way, yet answered");
	require(ev->result != RESULT_HALF_OPEN || (answered && !ev->ack_ns), "half open, yet acked");
	require(ev->result != RESULT_NO_REPLY || (!answered && !ev->ack_ns), "no reply, yet answered");
	require(ev->result != RESULT_ESTABLISHED || ev->ack_ns, "established without an ACK");
	require(!ev->synack_isns == !answered, "SYN-ACKs without a number");
	require(ev->synack_isns <= ev->synack_count || ev->synack_count == 255, "more numbers than SYN-ACKs");
	require(!ev->first_answer.has || ev->synack_isns > 1, "a first answer, yet one number");
	require(ev->first_answer.has ? ev->first_answer.seq != ev->synack.seq
				     : is_zero(&ev->first_answer, &ev->first_answer + 1),
		"a first answer that is the one taken");
	require(ev->first_answer.cookie_len <= TFO_COOKIE_MAX &&
			is_zero(ev->first_answer.cookie + ev->first_answer.cookie_len, &ev->first_answer + 1),
		"bytes behind the cookie");
	require(!ev->reset_from == (ev->reason != SETTLED_BY_RST), "a RST of nobody's, or one that settled nothing");
	require(!ev->request_ns || ev->ack_ns, "a request before the ACK");
	require(!ev->request_repeats || ev->request_ns, "repeated, but never sent");
	require(!ev->synacks_after_ack || (answered && ev->ack_ns), "after an ACK that never came");
	require(!ev->client_fin || ev->ack_ns, "a FIN before the ACK");
	require(ev->resumed == 0 || ev->resumed == RESULT_REJECTED || ev->resumed == RESULT_ABORTED ||
			ev->resumed == RESULT_UNREACHABLE || ev->resumed == RESULT_NO_REPLY,
		"resumed after no failure");
	require(ev->result != RESULT_UNREACHABLE || ev->reason == SETTLED_BY_ICMP, "unreachable without ICMP");
	require((ev->result != RESULT_REJECTED && ev->result != RESULT_ABORTED) || ev->reason == SETTLED_BY_RST,
		"refused without a RST");
	require(ev->reason != SETTLED_BY_RESPONSE || (ev->ack_ns && ev->response_ns), "a response without its time");
	require(ev->result != RESULT_SYN_ON_ESTABLISHED || ev->challenge_acks, "challenged without a challenge");
	require(ev->family == 4 || ev->family == 6, "no family");
}

static int is_same_flow(const struct pending *p, const struct pending *q)
{
	struct flow f = {.src_port = q->ev.client_port, .dst_port = q->ev.server_port, .group = q->group};

	memcpy(f.src, q->ev.client, 16);
	memcpy(f.dst, q->ev.server, 16);
	return direction_of(p, &f, 1) != NOT_THIS_FLOW;
}

/* Tags and states agree, at most two live entries a connection, and what was opened is accounted for. */
static void check_table(void)
{
	const struct counters *c = &w.counters;
	unsigned int order = 0;
	__u64 live = 0;

	for (int way = 0; way < WAYS; way++) {
		const struct pending *p = &w.set.way[way];
		__u64 tag = w.tags >> way * 8 & 0xff;
		int alike = 0;

		require(!tag == (p->state == PENDING_FREE), "a tag without an entry, or an entry without a tag");
		require(p->state <= PENDING_TOMBSTONE, "no such state");
		require(state_of(&w.head, way) == counts_as(p), "a state that is not its entry's");
		order |= 1 << ((w.head.order ^ ORDER_AT_FIRST) >> way * 4 & 15);
		live += pending_is_live(p);
		if (!tag)
			continue;
		require(p->deadline_ns >= w.head.due_ns, "an entry that the sweep would not see in time");
		require(p->ev.syn_count >= 1 && p->ev.retx_count <= RETX_MAX, "counts of an entry");
		require(!pending_is_live(p) || p->ev.result == RESULT_NONE, "a live entry that has a result");
		require(p->state != PENDING_SYN_ACKED || p->ev.synack_ns, "acked by nobody");
		require(p->state != PENDING_ESTABLISHED || p->ev.ack_ns, "established by nobody");
		for (int other = 0; other < way; other++) {
			const struct pending *q = &w.set.way[other];

			require(!pending_is_live(p) || !pending_is_live(q) || p->ev.id != q->ev.id ||
					p->group != q->group || p->ev.vlan[0] != q->ev.vlan[0],
				"two live entries of one handshake");
			alike += pending_is_live(p) && pending_is_live(q) && p->group == q->group &&
				 p->ev.vlan[0] == q->ev.vlan[0] && is_same_flow(p, q);
		}
		require(alike <= 1, "three live entries of one connection");
	}
	require(order == 0xff, "a way twice in the order, and one not at all");
	require(live == live_ways(&w.head), "live entries, counted otherwise");
	require(c->opened ==
			w.final + c->evicted_unanswered + c->evicted_half_open + c->evicted_awaiting_response + live,
		"the sums do not balance");
	require(!is_locked, "the lock was kept");
}

/* Would the first stage take the segment for one that changes nothing? */
static int is_idle_now(const struct segment *s)
{
	__u64 found = ways_tagged(w.tags, tag_of(w.sc.hash));
	const struct pending *p = &w.set.way[first_way(found)];
	int direction = direction_of(p, &s->flow, 0);

	return !w.sc.icmp && found && !(found & (found - 1)) && direction != NOT_THIS_FLOW &&
	       pair_is_idle(p, s, direction == FROM_CLIENT);
}

static const __u32 times_us[] = {0, 1, 50, 1000, 90000, 110000, 1000000, 3000001};

/*
 * Byte 0: flags, 1: which connection, direction and place, 2: time and options,
 * 3: sequence number, 4: ack number, 5: payload, and what is no TCP segment.
 */
static void take_step(const __u8 *b)
{
	static const __u8 flags[] = {
		TCP_SYN, TCP_SYN,	    TCP_SYN | TCP_ACK, TCP_SYN | TCP_ACK, TCP_ACK,
		TCP_ACK, TCP_RST,	    TCP_RST | TCP_ACK, TCP_FIN | TCP_ACK, 0,
		TCP_FIN, TCP_PSH | TCP_ACK, TCP_SYN | TCP_ECE, TCP_ACK | TCP_URG, TCP_RST | TCP_FIN,
		1};
	struct segment *s = &w.sc.segment;
	unsigned int connection = b[1] & 15, from_server = b[1] >> 4 & 1, family = b[1] & 8 ? 6 : 4;
	enum segment_kind kind = SEGMENT_PLAIN;
	struct handshake_event before[WAYS];
	__u64 opened = w.counters.opened;
	int idle = 0, unwanted, done;
	__u32 place;

	now_ns += times_us[b[2] & 7] * NS_PER_US;
	if (b[5] == 255) {
		sweep_world(&w, now_ns, 0, check_record);
		return;
	}
	memset(s, 0, sizeof(*s));
	s->now_ns = b[5] == 254 && now_ns > NS_PER_MS ? now_ns - NS_PER_MS : now_ns;
	s->response_timeout_ns = 5000 * NS_PER_MS;
	place = 2 + (b[1] >> 5 & 3);
	s->place = place;
	s->flow.src[15] = from_server && connection != 15 ? 2 : 1;
	s->flow.dst[15] = from_server || connection == 15 ? 1 : 2;
	s->flow.src_port = from_server ? 443 : 1000 + connection;
	s->flow.dst_port = from_server ? 1000 + connection : 443;
	if (connection == 15)
		s->flow.src_port = s->flow.dst_port = 443; /* connected to itself */
	s->flow.group = 1 + (b[1] >> 7);
	s->flags = flags[b[0] & 15];
	/* the numbers a real peer would use, and a little off */
	s->seq = (from_server ? SERVER_ISN : CLIENT_ISN) + (b[3] < 128 ? b[3] / 16 : b[3] - 192u);
	s->ack = (from_server ? CLIENT_ISN : SERVER_ISN) + (b[4] < 128 ? b[4] / 16 : (b[4] - 192u) << 15);
	s->payload_len = b[5] < 64 ? 0 : b[5] < 128 ? b[5] / 16 : b[5] * 8u;
	s->ts_ecr = b[2] >> 3;
	s->ts_val = s->ts_ecr ? b[2] : 0;
	s->ip_id = b[5] & 1;
	s->flow.vlan[0] = b[0] >> 4 & b[1] >> 4 & 3;
	w.sc.icmp = 0;
	if (s->flags & TCP_SYN || b[0] & 128) {
		s->facts.has = HAS_SEGMENT | (b[2] & 8 ? HAS_TFO : 0) | (b[2] & 16 ? HAS_TIMESTAMPS : 0);
		s->facts.cookie_len = b[2] & 8 ? b[2] >> 5 << 1 : 0;
		s->facts.seq = s->seq;
		s->facts.ack = s->ack;
		s->facts.ts_val = b[2];
		s->facts.payload_len = s->payload_len;
	}
	if (b[0] & 128) {
		kind = SEGMENT_ICMP; /* only addresses, ports and number of what it quotes are known */
		w.sc.icmp = 1;
		w.sc.icmp_type = 3;
		w.sc.icmp_code = b[0] & 15;
		s->flags = 0;
	} else if (s->flags & TCP_SYN) {
		kind = s->flags & TCP_ACK ? SEGMENT_SYNACK : SEGMENT_FIRST_SYN;
	}
	w.sc.hash = connection * 0x01000193u + family;
	w.sc.family = family;
	s->socket = connection == 3 ? SOCKET : 0;
	w.sc.process.pid = connection == 5 ? PROCESS : 0;
	w.sc.ifindex = place >> 1;
	unwanted = kind == SEGMENT_FIRST_SYN && b[0] & 64;

	for (int way = 0; way < WAYS; way++)
		before[way] = w.set.way[way].ev;
	idle = is_idle_now(s);
	done = b[3] & 1 ? read_segment(&w, unwanted) : follow_segment(&w, unwanted);
	if (done > 0 && done & FOLLOWED_SETTLED) {
		check_record(&w.sc.out);
		require(w.sc.out.reason != SETTLED_BY_TIMEOUT && w.sc.out.reason != SETTLED_AT_END,
			"the sweep's reasons are its own");
	}
	require(done <= 0 || !(done & FOLLOWED_OPENED) || w.counters.opened > opened, "opened, and not counted");
	require(done <= 0 || !(done & FOLLOWED_OPENED) || (kind == SEGMENT_FIRST_SYN && !unwanted),
		"opened by what is no SYN");
	require(!idle || done <= 0, "idle, yet it did something");
	for (int way = 0; way < WAYS && idle; way++)
		require(!memcmp(&before[way], &w.set.way[way].ev, sizeof(before[way])), "idle, yet it changed");
}

int LLVMFuzzerTestOneInput(const __u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const __u8 *data, size_t size)
{
	begin_world(&w);
	now_ns = 1000 * NS_PER_MS;
	for (size_t step = 0; step < STEPS_MAX && (step + 1) * STEP <= size; step++) {
		take_step(data + step * STEP);
		check_table();
	}
	sweep_world(&w, now_ns, 1, check_record);
	check_table();
	require(!w.tags, "entries behind the end");
	return 0;
}
