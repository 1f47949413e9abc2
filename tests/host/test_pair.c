// SPDX-License-Identifier: MIT
/* The state machine of one handshake, told as sentences of segments with their times. */
#include "world.h"

#define STEPS 14
#define ISN 1000
#define SERVER_ISN 5000
#define OTHER_ISN 900000
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
	struct step steps[STEPS];
	/* Afterwards. `state` of an entry that is not settled, else `reason` of the record settled last. */
	unsigned int state, reason, result;
	unsigned int syn_count, synack_count, late_syns, retx_count, one_way;
	unsigned int copies, misfit_rsts, misfit_synacks, misfit_icmps, synack_isns, synacks_after_ack, resumed;
	unsigned int request_repeats, request_acked, client_fin, reset_from;
	unsigned int seen_again, late, stray, odd; /* counters */
	unsigned int response, request, deadline;  /* ms; 0 = not looked at */
	unsigned int records;			   /* 0: one if there is a reason */
};

#define SYN_AT(ms) {CLIENT, ms, TCP_SYN, ISN, 0, 0, 0}
#define SYN_DATA(ms, len) {CLIENT, ms, TCP_SYN, ISN, 0, len, 0}
#define SYNACK_AT(ms) {SERVER, ms, TCP_SYN | TCP_ACK, SERVER_ISN, ISN + 1, 0, 0}
#define SYNACK_ACKS(ms, bytes) {SERVER, ms, TCP_SYN | TCP_ACK, SERVER_ISN, ISN + 1 + (bytes), 0, 0}
#define OTHER_SYNACK(ms, bytes) {SERVER, ms, TCP_SYN | TCP_ACK, OTHER_ISN, ISN + 1 + (bytes), 0, 0}
#define ACK_OF_OTHER(ms, bytes) {CLIENT, ms, TCP_ACK, ISN + 1 + (bytes), OTHER_ISN + 1, 0, 0}
#define REQUEST_AT(ms) {CLIENT, ms, TCP_ACK, ISN + 1, SERVER_ISN + 1, 100, 0}
#define FIN_AT(ms) {CLIENT, ms, TCP_FIN | TCP_ACK, ISN + 1, SERVER_ISN + 1, 0, 0}
#define SERVER_FIN(ms) {SERVER, ms, TCP_FIN | TCP_ACK, SERVER_ISN + 1, ISN + 1, 0, 0}
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
	 .retx_count = 1,
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
	 .seen_again = 1,
	 .deadline = 3500},
	{"SYN seen again by a faster CPU",
	 {{CLIENT, 10, TCP_SYN, ISN, 0, 0, 0}, {CLIENT, 9, TCP_SYN, ISN, 0, 0, OTHER_PLACE}},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .seen_again = 1,
	 .deadline = 3510},
	{"SYN out of order",
	 {{CLIENT, 12, TCP_SYN, ISN, 0, 0, 0}, {CLIENT, 9, TCP_SYN, ISN, 0, 0, 0}},
	 PENDING_SYN_SENT,
	 .syn_count = 2,
	 .retx_count = 1,
	 .deadline = 3509},
	{"a copy of a SYN, which says little by itself",
	 {SYN_AT(0), SYN_AT(1)},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .copies = 1,
	 .deadline = 3500},
	{"too late for a copy", {SYN_AT(0), SYN_AT(2)}, PENDING_SYN_SENT, .syn_count = 2, .retx_count = 1},
	{"copies of all",
	 {SYN_AT(0), SYN_AT(0), SYNACK_AT(9), SYNACK_AT(9), ACK_AT(20), ACK_AT(20), REQUEST_AT(21), REQUEST_AT(21),
	  DATA_AT(30)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .copies = 4},
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
	 .seen_again = 1},
	{"SYN-ACK again",
	 {SYN_AT(0), SYNACK_AT(1000), SYNACK_AT(3000)},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .synack_count = 2,
	 .deadline = 8000},
	{"stray SYN-ACK",
	 {SYN_AT(0), SYNACK_ACKS(9, -1)},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .stray = 1,
	 .misfit_synacks = 1},
	{"SYN-ACK at the edge of the window",
	 {SYN_DATA(0, 1), SYNACK_ACKS(9, OVER_ACK_MAX + 1)},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"SYN-ACK beyond the window",
	 {SYN_DATA(0, 1), SYNACK_ACKS(9, OVER_ACK_MAX + 2)},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .stray = 1,
	 .misfit_synacks = 1},
	{"odd SYN-ACK",
	 {SYN_AT(0), SYNACK_ACKS(9, 1)},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .misfit_synacks = 1,
	 .odd = 1},
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
	 .reset_from = RESET_BY_SERVER,
	 .syn_count = 1},
	{"RST that acks too much",
	 {SYN_DATA(0, 9), RST_AT(9, ISN + 11)},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .misfit_rsts = 1},
	{"RST that acks too little",
	 {SYN_DATA(0, 9), RST_AT(9, ISN)},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .misfit_rsts = 1},
	{"RST without ACK",
	 {SYN_AT(0), {SERVER, 9, TCP_RST, 0, ISN + 1, 0, 0}},
	 PENDING_SYN_SENT,
	 .syn_count = 1,
	 .misfit_rsts = 1},
	{"RST of the client's after its SYN",
	 {SYN_AT(0), {CLIENT, 9, TCP_RST | TCP_ACK, ISN + 1, ISN + 1, 0, 0}},
	 PENDING_SYN_SENT,
	 .syn_count = 1},
	{"aborted",
	 {SYN_AT(0), SYNACK_AT(9), {CLIENT, 20, TCP_RST, ISN + 1, 0, 0, 0}},
	 .reason = SETTLED_BY_RST,
	 .result = RESULT_ABORTED,
	 .reset_from = RESET_BY_CLIENT,
	 .syn_count = 1,
	 .synack_count = 1},
	{"not aborted",
	 {SYN_AT(0), SYNACK_AT(9), {CLIENT, 20, TCP_RST, ISN, 0, 0, 0}},
	 PENDING_SYN_ACKED,
	 .syn_count = 1,
	 .misfit_rsts = 1,
	 .synack_count = 1},
	{"RST when established",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20), {SERVER, 30, TCP_RST, SERVER_ISN + 1, 0, 0, 0}},
	 .reason = SETTLED_BY_RST,
	 .result = RESULT_ESTABLISHED,
	 .reset_from = RESET_BY_SERVER,
	 .syn_count = 1,
	 .synack_count = 1},
	{"FIN of the client's settles nothing",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20), FIN_AT(30)},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .client_fin = 1,
	 .deadline = 5020},
	{"FIN of the client's as its first ACK, an answer later",
	 {SYN_AT(0), SYNACK_AT(9), FIN_AT(20), {SERVER, 1500, TCP_ACK, SERVER_ISN + 1, ISN + 2, 10, 0}},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .client_fin = 1,
	 .request_acked = 1,
	 .response = 1500},
	{"FIN of both",
	 {SYN_AT(0),
	  SYNACK_AT(9),
	  ACK_AT(20),
	  FIN_AT(30),
	  {SERVER, 40, TCP_FIN | TCP_ACK, SERVER_ISN + 1, ISN + 2, 0, 0}},
	 .reason = SETTLED_BY_FIN,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .client_fin = 1,
	 .request_acked = 1},
	{"FIN beyond the window",
	 {SYN_AT(0),
	  SYNACK_AT(9),
	  ACK_AT(20),
	  {CLIENT, 30, TCP_FIN | TCP_ACK, ISN + 1 + CLIENT_STEP + 1, SERVER_ISN + 1, 0, 0},
	  {SERVER, 40, TCP_FIN | TCP_ACK, SERVER_ISN + 2, ISN + 1, 0, 0}},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"a FIN of the server's behind data that was not seen",
	 {SYN_AT(0),
	  SYNACK_AT(9),
	  ACK_AT(20),
	  {SERVER, 40, TCP_FIN | TCP_ACK, SERVER_ISN + 1600, ISN + 1, 0, 0},
	  {AT, 5020, 0, 0, 0, 0, 0}},
	 .reason = SETTLED_BY_FIN,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"the data comes again",
	 {SYN_AT(0),
	  SYNACK_AT(9),
	  ACK_AT(20),
	  {SERVER, 40, TCP_FIN | TCP_ACK, SERVER_ISN + 1600, ISN + 1, 0, 0},
	  DATA_AT(300)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .response = 300},
	{"request, sent again, acked",
	 {SYN_AT(0),
	  SYNACK_AT(9),
	  ACK_AT(20),
	  REQUEST_AT(21),
	  REQUEST_AT(221),
	  {CLIENT, 230, TCP_ACK, ISN + 101, SERVER_ISN + 1, 100, 0},
	  {SERVER, 240, TCP_ACK, SERVER_ISN + 1, ISN + 101, 0, 0}},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .request = 21,
	 .request_repeats = 1,
	 .request_acked = 1},
	{"keep-alives are no request",
	 {SYN_AT(0),
	  SYNACK_AT(9),
	  ACK_AT(20),
	  {CLIENT, 1000, TCP_ACK, ISN, SERVER_ISN + 1, 1, 0},
	  {CLIENT, 2000, TCP_ACK, ISN, SERVER_ISN + 1, 0, 0},
	  {SERVER, 2010, TCP_ACK, SERVER_ISN + 1, ISN + 1, 0, 0}},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"what follows accepted SYN data is the request",
	 {SYN_DATA(0, 9),
	  SYNACK_ACKS(9, 9),
	  {CLIENT, 20, TCP_ACK, ISN + 10, SERVER_ISN + 1, 0, 0},
	  {CLIENT, 21, TCP_ACK, ISN + 10, SERVER_ISN + 1, 50, 0},
	  {CLIENT, 300, TCP_ACK, ISN + 10, SERVER_ISN + 1, 50, 0},
	  {CLIENT, 900, TCP_ACK, ISN + 10, SERVER_ISN + 1, 50, 0}},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .request = 21,
	 .request_repeats = 2},
	{"an out-of-order tail is no response",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20), {SERVER, 30, TCP_ACK, SERVER_ISN + 11, ISN + 1, 10, 0}},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"two servers: the one whose ISN the client acks",
	 {SYN_AT(0),
	  SYNACK_AT(9),
	  SYN_AT(1000),
	  OTHER_SYNACK(1009, 0),
	  ACK_OF_OTHER(1020, 0),
	  SYNACK_AT(1100),
	  DATA_AT(1105),
	  {SERVER, 1110, TCP_ACK, OTHER_ISN + 1, ISN + 1, 10, 0}},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 2,
	 .synack_count = 3,
	 .synack_isns = 2,
	 .late_syns = 1,
	 .retx_count = 1,
	 .response = 1110},
	{"two servers: the first",
	 {SYN_AT(0), SYNACK_AT(9), OTHER_SYNACK(1009, 0), ACK_AT(1020), DATA_AT(1105)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 2,
	 .synack_isns = 2,
	 .response = 1105},
	{"an ACK ahead of its SYN-ACK",
	 {SYN_AT(0), ACK_AT(9), SYNACK_AT(9), DATA_AT(20)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"a SYN-ACK ahead of its SYN",
	 {SYNACK_AT(8), SYN_AT(9), ACK_AT(20)},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"another connection's SYN-ACK ahead of a SYN",
	 {SYNACK_ACKS(8, 1), SYN_AT(9)},
	 PENDING_SYN_SENT,
	 .syn_count = 1},
	{"SYN-ACK again after the ACK",
	 {SYN_AT(0), SYNACK_AT(9), ACK_AT(20), SYNACK_AT(1009), {AT, 5020, 0, 0, 0, 0, 0}},
	 .reason = SETTLED_BY_TIMEOUT,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 2,
	 .synacks_after_ack = 1},
	{"forged RSTs",
	 {SYN_AT(0),
	  SYNACK_AT(9),
	  ACK_AT(20),
	  {SERVER, 30, TCP_RST, SERVER_ISN + 2, 0, 0, 0},
	  {SERVER, 31, TCP_RST, SERVER_ISN, 0, 0, 0},
	  {CLIENT, 32, TCP_RST, ISN, 0, 0, 0},
	  {CLIENT, 33, TCP_RST, ISN + 1 + CLIENT_STEP + 1, 0, 0, 0}},
	 PENDING_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .misfit_rsts = 4},
	{"another ISN opens a record of its own",
	 {SYN_AT(0), SYNACK_AT(9), {CLIENT, 10, TCP_SYN, ISN + 70000, 0, 0, 0}, ACK_AT(20), DATA_AT(30)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .syn_count = 1,
	 .synack_count = 1},
	{"a third one displaces the unanswered one",
	 {SYN_AT(0),
	  SYNACK_AT(9),
	  {CLIENT, 10, TCP_SYN, ISN + 70000, 0, 0, 0},
	  {CLIENT, 11, TCP_SYN, ISN + 90000, 0, 0, 0}},
	 .reason = SETTLED_BY_NEW_SYN,
	 .result = RESULT_NO_REPLY,
	 .syn_count = 1},
	{"who goes on after a RST",
	 {SYN_AT(0), RST_AT(9, ISN + 1), SYNACK_AT(12), ACK_AT(20), DATA_AT(30)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .resumed = RESULT_REJECTED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .records = 2},
	{"who goes on after over-acking",
	 {SYN_DATA(0, 9),
	  SYNACK_ACKS(9, 20),
	  {CLIENT, 10, TCP_RST, ISN + 21, 0, 0, 0},
	  SYN_AT(200),
	  SYNACK_ACKS(209, 0),
	  ACK_AT(220),
	  DATA_AT(230)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .resumed = RESULT_ABORTED,
	 .syn_count = 2,
	 .retx_count = 1,
	 .synack_count = 1,
	 .late = 1,
	 .records = 2},
	{"a server that repeats what was reset is no news",
	 {SYN_AT(0), SYNACK_AT(9), {CLIENT, 10, TCP_RST, ISN + 1, 0, 0, 0}, SYNACK_AT(1009), SYNACK_AT(3009)},
	 .reason = SETTLED_BY_RST,
	 .result = RESULT_ABORTED,
	 .reset_from = RESET_BY_CLIENT,
	 .syn_count = 1,
	 .synack_count = 1},
	{"an ACK that crosses the server's RST is no news",
	 {SYN_AT(0), SYNACK_AT(9), {SERVER, 10, TCP_RST, SERVER_ISN + 1, 0, 0, 0}, ACK_AT(30)},
	 .reason = SETTLED_BY_RST,
	 .result = RESULT_ABORTED,
	 .reset_from = RESET_BY_SERVER,
	 .syn_count = 1,
	 .synack_count = 1},
	{"but an answer behind it is",
	 {SYN_AT(0), SYNACK_AT(9), {SERVER, 10, TCP_RST, SERVER_ISN + 1, 0, 0, 0}, ACK_AT(30), DATA_AT(40)},
	 .reason = SETTLED_BY_RESPONSE,
	 .result = RESULT_ESTABLISHED,
	 .resumed = RESULT_ABORTED,
	 .syn_count = 1,
	 .synack_count = 1,
	 .records = 2},
	{"a late retransmission as the first SYN",
	 {SYN_AT(0),
	  {AT, 3500, 0, 0, 0, 0, 0},
	  {AT, 9000, 0, 0, 0, 0, 0},
	  SYN_AT(32000),
	  {AT, 60000, 0, 0, 0, 0, 0},
	  SYN_AT(96000)},
	 .reason = SETTLED_BY_TIMEOUT,
	 .result = RESULT_NO_REPLY,
	 .syn_count = 1,
	 .late = 2},
	{"FIN of the server's, then the ACK",
	 {SYN_AT(0), SYNACK_AT(9), SERVER_FIN(10), ACK_AT(20)},
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
	 .syn_count = 1,
	 .misfit_icmps = 1},
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
	 .reset_from = RESET_BY_SERVER,
	 .syn_count = 1,
	 .late = 1},
	{"nothing else moves a tombstone",
	 {SYN_AT(0), RST_AT(9, ISN + 1), ACK_AT(11), DATA_AT(12), RST_AT(13, ISN + 1), {ICMP, 14, 0, ISN, 0, 0, 0}},
	 .reason = SETTLED_BY_RST,
	 .result = RESULT_REJECTED,
	 .reset_from = RESET_BY_SERVER,
	 .syn_count = 1,
	 .deadline = 3009},
};

static struct world w;

/* Puts the step's segment into the scratch. */
static void put_segment(const struct step *step)
{
	struct segment *s = &w.sc.segment;

	memset(s, 0, sizeof(*s));
	s->now_ns = START_NS + step->at * NS_PER_MS;
	s->flow.src[15] = step->who == SERVER ? 20 : 10;
	s->flow.dst[15] = step->who == SERVER ? 10 : 20;
	s->flow.src_port = step->who == SERVER ? 2 : 1;
	s->flow.dst_port = step->who == SERVER ? 1 : 2;
	s->flow.group = 7;
	s->place = step->place ? step->place : PLACE;
	s->seq = step->seq;
	s->ack = step->ack;
	s->payload_len = step->len;
	s->flags = step->flags;
	s->facts = (struct segment_facts){
		.seq = step->seq, .ack = step->ack, .payload_len = step->len, .has = HAS_SEGMENT};
	s->response_timeout_ns = RESPONSE_TIMEOUT_NS;
	w.sc.icmp = step->who == ICMP;
	w.sc.icmp_type = 3;
	w.sc.icmp_code = 1;
	w.sc.hash = 1;
	w.sc.family = 4;
	w.sc.ifindex = 1;
}

static struct handshake_event last_settled;

static void remember(const struct handshake_event *ev)
{
	last_settled = *ev;
}

static void tell(const struct sentence *t)
{
	const struct handshake_event *ev = &last_settled;
	const struct pending *p = NULL;
	unsigned int settled;
	__u64 now_ns = 0;

	begin_world(&w);
	memset(&last_settled, 0, sizeof(last_settled));
	for (unsigned int i = 0; i < STEPS && t->steps[i].who != END; i++) {
		now_ns = START_NS + t->steps[i].at * NS_PER_MS;
		if (t->steps[i].who == AT) {
			sweep_world(&w, now_ns, 0, remember);
			continue;
		}
		put_segment(&t->steps[i]);
		if (read_segment(&w, 0) > 0 && w.final)
			remember(&w.sc.out);
	}
	settled = w.final;
	CHECK(t->says, settled, t->records ? t->records : t->reason != 0);
	for (int way = 0; way < WAYS; way++)
		if (w.set.way[way].state != PENDING_FREE && (!p || w.set.way[way].ev.syn_ns > p->ev.syn_ns))
			p = &w.set.way[way];
	if (!t->reason) {
		CHECK(t->says, !!p, 1);
		if (!p)
			return;
		CHECK(t->says, p->state, t->state);
		ev = &p->ev;
	}
	CHECK(t->says, ev->reason, t->reason);
	CHECK(t->says, ev->result, t->result);
	CHECK(t->says, ev->syn_count, t->syn_count);
	CHECK(t->says, ev->synack_count, t->synack_count);
	CHECK(t->says, ev->late_syns, t->late_syns);
	CHECK(t->says, ev->retx_count, t->retx_count);
	CHECK(t->says, ev->one_way, t->one_way);
	CHECK(t->says, ev->copies, t->copies);
	CHECK(t->says, ev->misfit_rsts, t->misfit_rsts);
	CHECK(t->says, ev->misfit_synacks, t->misfit_synacks);
	CHECK(t->says, ev->misfit_icmps, t->misfit_icmps);
	CHECK(t->says, ev->synack_isns, t->synack_isns ? t->synack_isns : t->synack_count != 0);
	CHECK(t->says, ev->synacks_after_ack, t->synacks_after_ack);
	CHECK(t->says, ev->resumed, t->resumed);
	CHECK(t->says, ev->request_repeats, t->request_repeats);
	CHECK(t->says, ev->request_acked, t->request_acked);
	CHECK(t->says, ev->client_fin, t->client_fin);
	CHECK(t->says, ev->reset_from, t->reset_from);
	if (t->response)
		CHECK(t->says, ev->response_ns, START_NS + t->response * NS_PER_MS);
	if (t->request)
		CHECK(t->says, ev->request_ns, START_NS + t->request * NS_PER_MS);
	if (settled && !t->synack_count)
		CHECK(t->says, ev->synack.has, 0);
	if (settled && t->retx_count < RETX_MAX)
		CHECK(t->says, ev->retx[t->retx_count].after_us, 0);
	CHECK(t->says, w.counters.seen_again, t->seen_again);
	CHECK(t->says, w.counters.late_syns, t->late);
	CHECK(t->says, w.counters.synack_stray_ack, t->stray);
	CHECK(t->says, w.counters.synack_odd_ack, t->odd);
	if (t->deadline && p)
		CHECK(t->says, p->deadline_ns, START_NS + t->deadline * NS_PER_MS);
}

static void check_saturation(void)
{
	struct step again = SYN_AT(0);
	const struct handshake_event *ev = &w.set.way[0].ev;

	begin_world(&w);
	put_segment(&again);
	follow_segment(&w, 0);
	for (int i = 1; i <= 300; i++) {
		again.at = i * 200;
		put_segment(&again);
		follow_segment(&w, 0);
	}
	CHECK("300 SYNs", ev->syn_count, 255);
	CHECK("300 SYNs", ev->retx_count, RETX_MAX);
	CHECK("300 SYNs", ev->retx[0].after_us, 200000);
	CHECK("300 SYNs", ev->retx[RETX_MAX - 1].after_us, 300 * 200000);
}

/* The server's first answer is kept where the client takes another. */
static void check_first_answer(void)
{
	const struct first_answer *first = &w.sc.out.first_answer;
	struct step steps[] = {SYN_DATA(0, 9),
			       SYNACK_ACKS(9, 0),
			       OTHER_SYNACK(1009, 9),
			       ACK_OF_OTHER(1020, 9),
			       {SERVER, 1030, TCP_ACK, OTHER_ISN + 1, ISN + 10, 5, 0}};

	begin_world(&w);
	for (unsigned int i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		put_segment(&steps[i]);
		if (i == 1) {
			w.sc.segment.facts.has |= HAS_TFO;
			w.sc.segment.facts.tfo_kind = 34;
			w.sc.segment.facts.cookie_len = 8;
			w.sc.segment.facts.tfo_offset = 2;
			for (int b = 0; b < TCP_OPTIONS_MAX; b++)
				w.sc.segment.facts.options[b] = b;
		}
		follow_segment(&w, 0);
	}
	CHECK("first answer", w.final, 1);
	CHECK("first answer", w.sc.out.synack.seq, OTHER_ISN);
	CHECK("first answer", w.sc.out.synack_ns, START_NS + 1009 * NS_PER_MS);
	CHECK("first answer", w.sc.out.response_ns, START_NS + 1030 * NS_PER_MS);
	CHECK("first answer", w.sc.out.synack_isns, 2);
	CHECK("first answer", first->seq, SERVER_ISN);
	CHECK("first answer", first->ack, ISN + 1);
	CHECK("first answer", first->ns, START_NS + 9 * NS_PER_MS);
	CHECK("first answer", first->cookie_len, 8);
	CHECK("first answer", first->tfo_kind, 34);
	for (int b = 0; b < 16; b++)
		CHECK("first answer", first->cookie[b], b < 8 ? b + 2 : 0);
}

int main(void)
{
	for (unsigned int i = 0; i < sizeof(sentences) / sizeof(sentences[0]); i++)
		tell(&sentences[i]);
	check_saturation();
	check_first_answer();
	return finish("pair");
}
