// SPDX-License-Identifier: MIT
/* The state machine of one handshake, told as sentences of segments with their times. */
#include "host.h"

#define ISN 1000
#define SERVER_ISN 5000
#define RESPONSE_TIMEOUT_NS (5000 * NS_PER_MS)
#define PLACE 2
#define OTHER_PLACE 3

/* All times in a sentence are milliseconds after this. */
#define START_NS (1000000 * NS_PER_MS)

enum who { END, CLIENT, SERVER, ICMP, AT };

struct step {
	enum who who;
	unsigned int at;
	unsigned int flags;
	__u32 seq, ack;
	unsigned int len;
	unsigned int place; /* 0 = PLACE */
};

struct sentence {
	const char *says;
	struct step steps[10];
	/* Afterwards. `state` of an entry that is not settled, else `reason`. */
	unsigned int state, reason, result;
	unsigned int syn_count, synack_count, late_syns, retx_count, one_way;
	int note;	       /* the last segment's */
	unsigned int deadline; /* ms; 0 = not looked at */
};

#define SYN_AT(ms) {CLIENT, ms, TCP_SYN, ISN, 0, 0, 0}
#define SYN_DATA(ms, len) {CLIENT, ms, TCP_SYN, ISN, 0, len, 0}
#define SYNACK_AT(ms) {SERVER, ms, TCP_SYN | TCP_ACK, SERVER_ISN, ISN + 1, 0, 0}
#define SYNACK_ACKS(ms, bytes) {SERVER, ms, TCP_SYN | TCP_ACK, SERVER_ISN, ISN + 1 + (bytes), 0, 0}
#define ACK_AT(ms) {CLIENT, ms, TCP_ACK, ISN + 1, SERVER_ISN + 1, 0, 0}
#define DATA_AT(ms) {SERVER, ms, TCP_ACK, SERVER_ISN + 1, ISN + 1, 10, 0}
#define RST_AT(ms, acks) {SERVER, ms, TCP_RST | TCP_ACK, 0, acks, 0, 0}

static const struct sentence sentences[] = {
	{"a SYN opens", {SYN_AT(0)}, PENDING_SYN_SENT, .syn_count = 1, .deadline = 3500},
	{"SYN-ACK: half open",
	 {SYN_AT(0), SYNACK_AT(9)},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .deadline = 3509},
	{"ACK: awaiting a response",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20)},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .deadline = 5020},
	{"response",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20), DATA_AT(30)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"response before the ACK",
	 {SYN_DATA(0, 9), SYNACK_ACKS(9, 9), DATA_AT(10), ACK_AT(20)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"SYN again", {SYN_AT(0), SYN_AT(1000)}, PENDING_SYN_SENT, .syn_count = 2, .retx_count = 1, .deadline = 4500},
	{"SYN thrice",
	 {SYN_AT(0), SYN_AT(1000), SYN_AT(3000)},
	 PENDING_SYN_SENT,
	 .syn_count = 3,
	 .retx_count = 2,
	 .deadline = 8000},
	{"late SYN",
	 {SYN_AT(0), SYNACK_AT(900), SYN_AT(1000)},
	 PENDING_SYN_ACKED,
	 .syn_count = 2,
	 .synack_count = 1,
	 .late_syns = 1,
	 .deadline = 4500},
	{"late SYN does not move the response timeout",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20), SYN_AT(1000)},
	 PENDING_ESTABLISHED,
	 .syn_count = 2,
	 .synack_count = 1,
	 .late_syns = 1,
	 .deadline = 5020},
	{"SYN seen again",
	 {SYN_AT(0), {CLIENT, 99, TCP_SYN, ISN, 0, 0, OTHER_PLACE}},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .note = NOTE_SEEN_AGAIN,
	 .deadline = 3500},
	{"SYN seen again by a faster CPU",
	 {{CLIENT, 10, TCP_SYN, ISN, 0, 0, 0}, {CLIENT, 9, TCP_SYN, ISN, 0, 0, OTHER_PLACE}},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .note = NOTE_SEEN_AGAIN,
	 .deadline = 3510},
	{"SYN out of order",
	 {{CLIENT, 10, TCP_SYN, ISN, 0, 0, 0}, {CLIENT, 9, TCP_SYN, ISN, 0, 0, 0}},
	 PENDING_SYN_SENT,
	 .syn_count = 2,
	 .retx_count = 1,
	 .deadline = 3509},
	{"SYN elsewhere, later",
	 {SYN_AT(0), {CLIENT, 100, TCP_SYN, ISN, 0, 0, OTHER_PLACE}},
	 PENDING_SYN_SENT,
	 .syn_count = 2,
	 .retx_count = 1,
	 .deadline = 3600},
	{"SYN-ACK seen again",
	 {SYN_AT(0), SYNACK_AT(9), {SERVER, 10, TCP_SYN | TCP_ACK, SERVER_ISN, ISN + 1, 0, OTHER_PLACE}},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .note = NOTE_SEEN_AGAIN},
	{"SYN-ACK again",
	 {SYN_AT(0), SYNACK_AT(1000), SYNACK_AT(3000)},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .synack_count = 2,
	 .deadline = 8000},
	{"stray SYN-ACK", {SYN_AT(0), SYNACK_ACKS(9, -1)}, PENDING_SYN_SENT, .syn_count = 1, .note = NOTE_STRAY_ACK},
	{"SYN-ACK at the edge of the window",
	 {SYN_DATA(0, 1), SYNACK_ACKS(9, SEQUENCE_WINDOW)},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"SYN-ACK beyond the window",
	 {SYN_DATA(0, 1), SYNACK_ACKS(9, SEQUENCE_WINDOW + 1)},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .note = NOTE_STRAY_ACK},
	{"odd SYN-ACK",
	 {SYN_AT(0), SYNACK_ACKS(9, 1)},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .note = NOTE_ODD_ACK},
	{"crossing SYN, both SYN-ACKs",
	 {SYN_AT(0),
	  {SERVER, 1, TCP_SYN, SERVER_ISN, 0, 0, 0},
	  {CLIENT, 9, TCP_SYN | TCP_ACK, ISN, SERVER_ISN + 1, 0, 0},
	  SYNACK_AT(10)},
	 .reason = SETTLED_BY_ACK,
	 .result = RESULT_SIMULTANEOUS_OPEN,
	 .syn_count = 1,
	 .synack_count = 1},
	{"crossing SYN, SYN-ACK and ACK",
	 {SYN_AT(0), {SERVER, 1, TCP_SYN, SERVER_ISN, 0, 0, 0}, SYNACK_AT(10), ACK_AT(20)},
	 .reason = SETTLED_BY_ACK,
	 .result = RESULT_SIMULTANEOUS_OPEN,
	 .syn_count = 1,
	 .synack_count = 1},
	{"a SYN-ACK of the client's without a crossing SYN",
	 {SYN_AT(0), {CLIENT, 9, TCP_SYN | TCP_ACK, ISN, SERVER_ISN + 1, 0, 0}},
	 PENDING_SYN_SENT,
	 .syn_count = 1},
	{"ACK after accepted data",
	 {SYN_DATA(0, 100), SYNACK_ACKS(9, 100), {CLIENT, 20, TCP_ACK, ISN + 101, SERVER_ISN + 1, 0, 0}},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"ACK of nothing",
	 {SYN_AT(0), SYNACK_AT(9), {CLIENT, 20, TCP_ACK, ISN + 1, SERVER_ISN, 0, 0}},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"one-way road",
	 {SYN_DATA(0, 9), {CLIENT, 20, TCP_ACK, ISN + 10, SERVER_ISN + 1, 0, 0}},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .one_way = 1},
	{"not on a one-way road",
	 {SYN_AT(0), {CLIENT, 20, TCP_ACK, ISN + 2, SERVER_ISN + 1, 0, 0}},
	 PENDING_SYN_SENT,
	 .syn_count = 1},
	{"RST that fits",
	 {SYN_DATA(0, 9), RST_AT(9, ISN + 10)},
	 .reason = SETTLED_BY_RST,
	 .result = RESULT_REJECTED,
	 .syn_count = 1},
	{"RST that acks too much", {SYN_DATA(0, 9), RST_AT(9, ISN + 11)}, PENDING_SYN_SENT, .syn_count = 1},
	{"RST that acks too little", {SYN_DATA(0, 9), RST_AT(9, ISN)}, PENDING_SYN_SENT, .syn_count = 1},
	{"RST without ACK", {SYN_AT(0), {SERVER, 9, TCP_RST, 0, ISN + 1, 0, 0}}, PENDING_SYN_SENT, .syn_count = 1},
	{"RST of the client's after its SYN",
	 {SYN_AT(0), {CLIENT, 9, TCP_RST | TCP_ACK, ISN + 1, ISN + 1, 0, 0}},
	 PENDING_SYN_SENT,
	 .syn_count = 1},
	{"aborted",
	 {SYN_AT(0), SYNACK_AT(9), {CLIENT, 20, TCP_RST, ISN + 1, 0, 0, 0}},
	 .reason = SETTLED_BY_RST,
	 .result = RESULT_ABORTED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"not aborted",
	 {SYN_AT(0), SYNACK_AT(9), {CLIENT, 20, TCP_RST, ISN, 0, 0, 0}},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"RST when established",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20), {SERVER, 30, TCP_RST, SERVER_ISN + 1, 0, 0, 0}},
	 .reason = SETTLED_BY_RST,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"FIN of the client's",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20), {CLIENT, 30, TCP_FIN | TCP_ACK, ISN + 1, SERVER_ISN + 1, 0, 0}},
	 .reason = SETTLED_BY_FIN,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"FIN of the server's, then the ACK",
	 {SYN_AT(0), SYNACK_AT(9), {SERVER, 10, TCP_FIN | TCP_ACK, SERVER_ISN + 1, ISN + 1, 0, 0}, ACK_AT(20)},
	 .reason = SETTLED_BY_FIN,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"FIN of the server's with data",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20), {SERVER, 30, TCP_FIN | TCP_ACK, SERVER_ISN + 1, ISN + 1, 1, 0}},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"challenge ACK", {SYN_AT(0), {SERVER, 9, TCP_ACK, 77, 88, 0, 0}}, PENDING_SYN_SENT, .syn_count = 1},
	{"ahead of the SYN-ACK",
	 {SYN_AT(0), DATA_AT(8), SYNACK_AT(9), ACK_AT(20)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"ICMP error",
	 {SYN_AT(0), {ICMP, 9, 0, ISN, 0, 0, 0}},
	 .reason = SETTLED_BY_ICMP,
	 .result = RESULT_UNREACHABLE,
	 .syn_count = 1},
	{"ICMP error about another segment",
	 {SYN_AT(0), {ICMP, 9, 0, ISN + 1, 0, 0, 0}},
	 PENDING_SYN_SENT,
	 .syn_count = 1},
	{"ICMP error after the SYN-ACK",
	 {SYN_AT(0), SYNACK_AT(5), {ICMP, 9, 0, ISN, 0, 0, 0}},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"no reply",
	 {SYN_AT(0), {AT, 3500, 0, 0, 0, 0, 0}},
	 .reason = SETTLED_BY_TIMEOUT,
	 .result = RESULT_NO_REPLY,
	 .syn_count = 1},
	{"half open",
	 {SYN_AT(0), SYNACK_AT(9), {AT, 3509, 0, 0, 0, 0, 0}},
	 .reason = SETTLED_BY_TIMEOUT,
	 .result = RESULT_HALF_OPEN,
	 .syn_count = 1,
	 .synack_count = 1},
	{"no response",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20), {AT, 5020, 0, 0, 0, 0, 0}},
	 .reason = SETTLED_BY_TIMEOUT,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"SYN at a tombstone",
	 {SYN_AT(0), RST_AT(9, ISN + 1), SYN_AT(1000)},
	 .reason = SETTLED_BY_RST,
	 .result = RESULT_REJECTED,
	 .syn_count = 1,
	 .note = NOTE_LATE_SYN},
	{"nothing else moves a tombstone",
	 {SYN_AT(0),
	  RST_AT(9, ISN + 1),
	  SYNACK_AT(10),
	  ACK_AT(11),
	  DATA_AT(12),
	  RST_AT(13, ISN + 1),
	  {ICMP, 14, 0, ISN, 0, 0, 0}},
	 .reason = SETTLED_BY_RST,
	 .result = RESULT_REJECTED,
	 .syn_count = 1,
	 .deadline = 3009},
};

static struct segment segment_of(const struct step *step)
{
	struct segment s = {
		.now_ns = START_NS + step->at * NS_PER_MS,
		.flow = {.src = {10}, .dst = {20}, .src_port = 1, .dst_port = 2, .group = 7},
		.place = step->place ? step->place : PLACE,
		.seq = step->seq,
		.ack = step->ack,
		.payload_len = step->len,
		.flags = step->flags,
		.facts = {.seq = step->seq, .ack = step->ack, .payload_len = step->len, .has = HAS_SEGMENT},
		.response_timeout_ns = RESPONSE_TIMEOUT_NS,
	};

	return s;
}

/* The same choice as pair() in follow.h, which maps and locks keep out of this test. */
static struct pair_outcome pair(struct pending *p, const struct step *step, const struct segment *s)
{
	struct pair_outcome nothing = {};

	switch (step->who) {
	case ICMP:
		return pair_icmp(p, s, 3, 1);
	case AT:
		nothing.settled = pending_is_live(p) && s->now_ns >= p->deadline_ns ? SETTLED_BY_TIMEOUT : SETTLED_NOT;
		return nothing;
	case CLIENT:
		if (s->flags & TCP_RST)
			return pair_rst(p, s, 1);
		if (s->flags & TCP_SYN)
			return s->flags & TCP_ACK ? pair_synack_from_client(p, s) : pair_syn_again(p, s);
		return pair_from_client(p, s);
	case SERVER:
		if (s->flags & TCP_RST)
			return pair_rst(p, s, 0);
		if (s->flags & TCP_SYN)
			return s->flags & TCP_ACK ? pair_synack_from_server(p, s) : pair_crossing_syn(p, s);
		return pair_from_server(p, s);
	default:
		return nothing;
	}
}

static void tell(const struct sentence *t)
{
	struct pending p;
	int note = NOTE_NONE;
	int settled = 0;

	memset(&p, 0xa5, sizeof(p)); /* what an earlier handshake left */
	for (unsigned int i = 0; i < 10 && t->steps[i].who != END; i++) {
		struct segment s = segment_of(&t->steps[i]);
		struct pair_outcome out = {};

		if (!i)
			pair_open(&p, &s, 1, 4);
		else
			out = pair(&p, &t->steps[i], &s);
		note = out.note;
		if (out.settled) {
			int tombstone = settle(&p, out.settled, s.now_ns);

			settled++;
			CHECK(t->says, tombstone, p.state == PENDING_TOMBSTONE);
			CHECK(t->says, p.ev.settled_ns, s.now_ns);
		} else if (!settled) {
			CHECK(t->says, pending_is_live(&p), 1);
		}
	}
	CHECK(t->says, settled, t->reason != 0);
	if (!t->reason)
		CHECK(t->says, p.state, t->state);
	CHECK(t->says, p.ev.reason, t->reason);
	CHECK(t->says, p.ev.result, t->result);
	CHECK(t->says, p.ev.syn_count, t->syn_count);
	CHECK(t->says, p.ev.synack_count, t->synack_count);
	CHECK(t->says, p.ev.late_syns, t->late_syns);
	CHECK(t->says, p.ev.retx_count, t->retx_count);
	CHECK(t->says, p.ev.one_way, t->one_way);
	if (settled && !t->synack_count)
		CHECK(t->says, p.ev.synack.has, 0);
	if (settled && t->retx_count < RETX_MAX)
		CHECK(t->says, p.ev.retx[t->retx_count].after_us, 0);
	CHECK(t->says, note, t->note);
	if (t->deadline)
		CHECK(t->says, p.deadline_ns, START_NS + t->deadline * NS_PER_MS);
}

static void check_saturation(void)
{
	struct step again = SYN_AT(0);
	struct segment s = segment_of(&again);
	struct pending p;

	memset(&p, 0xa5, sizeof(p));
	pair_open(&p, &s, 1, 4);
	for (int i = 1; i <= 300; i++) {
		s.now_ns += 200 * NS_PER_MS;
		pair_syn_again(&p, &s);
	}
	CHECK("300 SYNs", p.ev.syn_count, 255);
	CHECK("300 SYNs", p.ev.retx_count, RETX_MAX);
	CHECK("300 SYNs", p.ev.retx[0].after_us, 200000);
	CHECK("300 SYNs", p.ev.retx[RETX_MAX - 1].after_us, 300 * 200000);
}

int main(void)
{
	for (unsigned int i = 0; i < sizeof(sentences) / sizeof(sentences[0]); i++)
		tell(&sentences[i]);
	check_saturation();
	return finish("pair");
}
