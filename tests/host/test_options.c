// SPDX-License-Identifier: MIT
/* The walk over the TCP options: every kind, every wrong length, and where it has to stop. */
#include "host.h"

struct row {
	const char *name;
	const char *bytes;
	unsigned int len;
	unsigned int errors;
	unsigned int has;
	unsigned int mss, wscale, ts_val, ts_ecr, ts_offset, tfo_kind, cookie_len, tfo_offset;
};

#define NONE .ts_offset = NO_OFFSET, .tfo_offset = NO_OFFSET
#define NO_TFO .tfo_offset = NO_OFFSET
#define NO_TS .ts_offset = NO_OFFSET

static const struct row rows[] = {
	{"none", "", 0, NONE},
	{"end of list alone", "\0\0\0\0", 4, NONE},
	{"MSS", "\2\4\5\264", 4, .has = HAS_MSS, .mss = 1460, NONE},
	{"MSS too short", "\2\3\5\1", 4, OPTION_ERROR_SIZE, NONE},
	{"MSS too long", "\2\5\5\264\0\0\0\0", 8, OPTION_ERROR_SIZE, NONE},
	{"MSS twice, the last counts", "\2\4\0\1\2\4\0\2", 8, .has = HAS_MSS, .mss = 2, NONE},
	{"window scale", "\3\3\16\0", 4, .has = HAS_WSCALE, .wscale = 14, NONE},
	{"window scale too short", "\3\2\1\1", 4, OPTION_ERROR_SIZE, NONE},
	{"SACK permitted", "\4\2\1\1", 4, .has = HAS_SACK, NONE},
	{"SACK permitted too long", "\4\3\0\1", 4, OPTION_ERROR_SIZE, NONE},
	{"timestamps", "\1\1\10\12\0\0\0\7\0\0\0\11", 12, .has = HAS_TIMESTAMPS, .ts_val = 7, .ts_ecr = 9,
	 .ts_offset = 4, NO_TFO},
	{"timestamps too short", "\10\11\0\0\0\7\0\0\0\1\1\1", 12, OPTION_ERROR_SIZE, NONE},
	{"MD5", "\23\22................\1\1", 20, .has = HAS_MD5, NONE},
	{"MD5 too short", "\23\21...............\1\1\1", 20, OPTION_ERROR_SIZE, NONE},
	{"AO", "\35\4\1\1", 4, .has = HAS_AO, NONE},
	{"AO too short", "\35\3\1\1", 4, OPTION_ERROR_SIZE, NONE},
	{"MPTCP", "\36\4\1\1", 4, .has = HAS_MPTCP, NONE},
	{"MPTCP too short", "\36\2\1\1", 4, OPTION_ERROR_SIZE, NONE},
	{"unknown kinds", "\105\2\254\3x\377\4xy\1\1\1", 12, NONE},
	{"end of list hides the rest", "\0\4\2\4\2\4\5\264", 8, NONE},
	{"40 NOPs", "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1", 40, NONE},
	{"36 NOPs and MSS", "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\2\4\5\264", 40,
	 .has = HAS_MSS, .mss = 1460, NONE},
	{"20 options of 2 bytes", "\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2\4\2",
	 40, .has = HAS_SACK, NONE},
	{"length 0", "\5\0\2\4\5\264\1\1", 8, OPTION_ERROR_LENGTH, HAS_BAD_OPTIONS, NONE},
	{"length 1", "\42\1\2\4\5\264\1\1", 8, OPTION_ERROR_LENGTH, HAS_BAD_OPTIONS, NONE},
	{"length beyond the header", "\4\2\42\3", 4, OPTION_ERROR_OVERRUN, HAS_BAD_OPTIONS | HAS_SACK, NONE},
	{"length 255", "\10\377\1\1", 4, OPTION_ERROR_OVERRUN, HAS_BAD_OPTIONS, NONE},
	{"kind without a length", "\1\1\1\2", 4, OPTION_ERROR_CUT, HAS_BAD_OPTIONS, NONE},
	{"kind without a length at 40",
	 "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\10", 40, OPTION_ERROR_CUT,
	 HAS_BAD_OPTIONS, NONE},
	{"an option that ends at 40", "\143\50......................................", 40, NONE},
	{"a wrong size and an overrun", "\2\2\2\4\5\264\3\7", 8, OPTION_ERROR_SIZE | OPTION_ERROR_OVERRUN,
	 HAS_BAD_OPTIONS | HAS_MSS, .mss = 1460, NONE},
	{"both TFO forms, the last counts", "\42\6abcd\376\10\371\211efgh\1\1", 16, .has = HAS_TFO, .tfo_kind = 254,
	 .cookie_len = 4, .tfo_offset = 10, NO_TS},
	{"TFO twice, the last counts", "\42\10abcdef\42\6efgh\1\1", 16, .has = HAS_TFO, .tfo_kind = 34, .cookie_len = 4,
	 .tfo_offset = 10, NO_TS},
	{"a malformed TFO option does not hide a good one", "\42\6abcd\42\3x\1\1\1", 12, OPTION_ERROR_TFO,
	 HAS_TFO | HAS_TFO_MALFORMED, .tfo_kind = 34, .cookie_len = 4, .tfo_offset = 2, NO_TS},
	{"experiment 253", "\375\4\371\211", 4, .has = HAS_TFO, .tfo_kind = 253, .tfo_offset = 4, NO_TS},
	{"another experiment", "\376\4\371\212", 4, NONE},
	{"an experiment too short for the magic before it", "\376\2\371\1", 4, OPTION_ERROR_LENGTH, HAS_BAD_OPTIONS,
	 NONE},
	{"half a magic", "\376\3\371\211\2\1\1\1", 8, NONE},
};

static void walk(struct segment_facts *facts, unsigned int *errors, const void *bytes, unsigned int len)
{
	__u8 *packet = exact_copy(bytes, len);
	struct cursor c = {.pos = packet, .end = packet + len};
	struct option_walk w = {};

	memset(facts, 0, sizeof(*facts));
	w.len = copy_options(w.bytes, &c, len);
	*errors = parse_options(facts, &w);
	free(packet);
}

static void check_row(const struct row *row)
{
	struct segment_facts f;
	unsigned int errors;
	char bytes[TCP_OPTIONS_MAX] = {};

	memcpy(bytes, row->bytes, row->len);
	walk(&f, &errors, bytes, row->len);
	CHECK(row->name, errors, row->errors);
	CHECK(row->name, f.has, row->has);
	CHECK(row->name, f.mss, row->mss);
	CHECK(row->name, f.wscale, row->wscale);
	CHECK(row->name, f.ts_val, row->ts_val);
	CHECK(row->name, f.ts_ecr, row->ts_ecr);
	CHECK(row->name, f.ts_offset, row->ts_offset);
	CHECK(row->name, f.tfo_kind, row->tfo_kind);
	CHECK(row->name, f.cookie_len, row->cookie_len);
	CHECK(row->name, f.tfo_offset, row->tfo_offset);
	CHECK(row->name, f.options_len, row->len);
	CHECK(row->name, memcmp(f.options, bytes, TCP_OPTIONS_MAX), 0);
}

/* RFC 7413, 4.1.1: 2 = request, 6 to 18 and even = cookie, all else malformed; the experimental form has 2 bytes more. */
static void check_tfo_length(unsigned int size, int experimental)
{
	unsigned int head = experimental ? 4 : 2, cookie = size - head;
	int valid = size == head || (cookie >= 4 && cookie <= 16 && cookie % 2 == 0);
	__u8 bytes[24] = {experimental ? 254 : 34, size, experimental ? 0xf9 : 0, experimental ? 0x89 : 0};
	struct segment_facts f;
	unsigned int errors;
	char name[40];

	snprintf(name, sizeof(name), "TFO %d of length %u", bytes[0], size);
	walk(&f, &errors, bytes, sizeof(bytes));
	CHECK(name, errors, valid ? 0 : OPTION_ERROR_TFO);
	CHECK(name, f.has, valid ? HAS_TFO : HAS_TFO_MALFORMED);
	CHECK(name, f.cookie_len, valid ? cookie : 0);
	CHECK(name, f.tfo_kind, valid ? bytes[0] : 0);
	CHECK(name, f.tfo_offset, valid ? head : NO_OFFSET);
}

/* A capture that ends within the options: whole words of what is there. */
static void check_cut_capture(void)
{
	__u8 *packet = exact_copy("\2\4\5\264\1\1\4\2", 7);
	struct cursor c = {.pos = packet, .end = packet + 7};
	struct option_walk w = {};

	CHECK("cut capture", copy_options(w.bytes, &c, 8), 4);
	CHECK("cut capture", memcmp(w.bytes, "\2\4\5\264\0\0\0\0", 8), 0);
	free(packet);
}

int main(void)
{
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_row(&rows[i]);
	for (unsigned int size = 2; size <= 20; size++)
		check_tfo_length(size, 0);
	for (unsigned int size = 4; size <= 22; size++)
		check_tfo_length(size, 1);
	check_cut_capture();
	return finish("options");
}
