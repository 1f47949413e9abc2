/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The TCP header and its options (RFC 9293, 7323, 7413, 6994, 8684, 5925, 2385). */
#ifndef TFOTRACE_PARSE_TCP_H
#define TFOTRACE_PARSE_TCP_H

#include "event.h"
#include "parse_ip.h"

#define TCP_FIN 0x001
#define TCP_SYN 0x002
#define TCP_RST 0x004
#define TCP_PSH 0x008
#define TCP_ACK 0x010
#define TCP_URG 0x020
#define TCP_ECE 0x040
#define TCP_CWR 0x080
#define TCP_AE 0x100

#define TCP_HEADER_LEN 20

enum tcp_option {
	OPTION_EOL = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2,
	OPTION_WSCALE = 3,
	OPTION_SACK_PERMITTED = 4,
	OPTION_TIMESTAMPS = 8,
	OPTION_MD5 = 19,
	OPTION_AO = 29,
	OPTION_MPTCP = 30,
	OPTION_TFO = 34,
	OPTION_EXPERIMENT_1 = 253,
	OPTION_EXPERIMENT_2 = 254,
};

#define TFO_EXPERIMENT_MAGIC 0xf989 /* RFC 6994, Appendix A of RFC 7413 */
#define TFO_COOKIE_MIN 4
#define TFO_COOKIE_MAX 16

/* Errors found by parse_options(); one packet can have several. */
#define OPTION_ERROR_CUT (1 << 0)
#define OPTION_ERROR_LENGTH (1 << 1)
#define OPTION_ERROR_OVERRUN (1 << 2)
#define OPTION_ERROR_SIZE (1 << 3)
#define OPTION_ERROR_TFO (1 << 4)
/* After these the rest of the options cannot be read. */
#define OPTION_ERRORS_FATAL (OPTION_ERROR_CUT | OPTION_ERROR_LENGTH | OPTION_ERROR_OVERRUN)

/*
 * A copy of the options and the position of the walk. It reads at (offset & 63)
 * + 0..3, whatever a hostile length says, so this size needs no further check.
 * The position is volatile: the verifier cannot follow its value in memory, so
 * each step looks to it like the one before.
 */
struct option_walk {
	__u8 bytes[80];
	__u32 len;
	volatile __u32 offset;
	volatile __u32 errors; /* OPTION_ERROR_* */
};

static __always_inline __u16 tcp_flags(const __u8 *tcp)
{
	return (__u16)(load_be16(tcp + 12) & 0x0fff);
}

static __always_inline __u64 has_syn(const __u8 *tcp)
{
	return tcp[13] & TCP_SYN;
}

static __always_inline __u64 tcp_header_len(const __u8 *tcp)
{
	return (tcp[12] >> 4) * 4;
}

/* Parses the fixed header at the cursor. Leaves the cursor at the options. */
static __always_inline int parse_tcp(struct cursor *c, struct headers *h)
{
	__u8 *tcp = c->pos;
	__u64 header_len;

	if ((void *)(tcp + TCP_HEADER_LEN) > c->end || h->l4_len < TCP_HEADER_LEN)
		return BAD_TCP_HEADER;
	header_len = tcp_header_len(tcp);
	if (header_len < TCP_HEADER_LEN)
		return BAD_TCP_HEADER;
	if (header_len > h->l4_len)
		return BAD_TCP_OFFSET;
	h->tcp = tcp;
	c->pos = tcp + TCP_HEADER_LEN;
	return PARSED_TCP;
}

/*
 * Copies `len` bytes of options, a multiple of 4 up to 40, out of the packet.
 * A walk over the copy is a hundred times cheaper to verify than one over the
 * packet. `to` must be zeroed. Returns the bytes copied, fewer if the capture
 * ends before.
 */
static __always_inline __u32 copy_options(__u8 *to, const struct cursor *c, __u32 len)
{
	const __u8 *from = c->pos;
	__u32 i;

	NO_UNROLL
	for (i = 0; i < TCP_OPTIONS_MAX / 4; i++) {
		if (i * 4 >= len || (const void *)(from + i * 4 + 4) > (const void *)c->end)
			break;
		*(__u32 *)(to + i * 4) = load_u32(from + i * 4);
	}
	return i * 4;
}

static __always_inline int tfo_cookie_len_valid(__u32 len)
{
	return !len || (len >= TFO_COOKIE_MIN && len <= TFO_COOKIE_MAX && !(len & 1));
}

/* The last well-formed option counts, as in Linux' tcp_parse_options(). */
static __always_inline __u32 take_tfo(struct segment_facts *f, __u8 kind, __u32 offset, __u32 len)
{
	if (!tfo_cookie_len_valid(len)) {
		f->has |= HAS_TFO_MALFORMED;
		return OPTION_ERROR_TFO;
	}
	f->has |= HAS_TFO;
	f->tfo_kind = kind;
	f->tfo_offset = offset;
	f->cookie_len = len;
	return 0;
}

/* Takes one well-delimited option at `o`, `offset` bytes into the options. Returns OPTION_ERROR_* bits. */
static __always_inline __u32 take_option(struct segment_facts *f, const __u8 *o, __u32 offset, __u32 size)
{
	switch (o[0]) {
	case OPTION_MSS:
		if (size != 4)
			return OPTION_ERROR_SIZE;
		f->has |= HAS_MSS;
		f->mss = load_be16(o + 2);
		return 0;
	case OPTION_WSCALE:
		if (size != 3)
			return OPTION_ERROR_SIZE;
		f->has |= HAS_WSCALE;
		f->wscale = o[2];
		return 0;
	case OPTION_SACK_PERMITTED:
		if (size != 2)
			return OPTION_ERROR_SIZE;
		f->has |= HAS_SACK;
		return 0;
	case OPTION_TIMESTAMPS:
		if (size != 10)
			return OPTION_ERROR_SIZE;
		f->has |= HAS_TIMESTAMPS;
		f->ts_val = load_be32(o + 2);
		f->ts_ecr = load_be32(o + 6);
		f->ts_offset = offset + 2;
		return 0;
	case OPTION_MD5:
		if (size != 18)
			return OPTION_ERROR_SIZE;
		f->has |= HAS_MD5;
		return 0;
	case OPTION_AO:
		if (size < 4)
			return OPTION_ERROR_SIZE;
		f->has |= HAS_AO;
		return 0;
	case OPTION_MPTCP:
		if (size < 3)
			return OPTION_ERROR_SIZE;
		f->has |= HAS_MPTCP;
		return 0;
	case OPTION_TFO:
		return take_tfo(f, OPTION_TFO, offset + 2, size - 2);
	case OPTION_EXPERIMENT_1:
	case OPTION_EXPERIMENT_2:
		if (size < 4 || load_be16(o + 2) != TFO_EXPERIMENT_MAGIC)
			return 0;
		return take_tfo(f, o[0], offset + 4, size - 4);
	default:
		return 0;
	}
}

/* Linux begins every SYN with MSS, SACK permitted, timestamps, a NOP and window scale; these are without values. */
#define USUAL_OPTIONS_LEN 20
#define USUAL_MSS 0x0402		 /* bytes 02 04 */
#define USUAL_SACK_TIMESTAMPS 0x0a080204 /* bytes 04 02 08 0a */
#define USUAL_WSCALE 0x030301		 /* bytes 01 03 03 */

/* Starts the walk by taking the usual options at once. Returns their length in bytes, 0 for other options. */
static __always_inline __u32 take_usual_options(struct segment_facts *f, const __u8 *o, __u32 len)
{
	if (len < USUAL_OPTIONS_LEN || load_u16(o) != USUAL_MSS || load_u32(o + 4) != USUAL_SACK_TIMESTAMPS ||
	    (load_u32(o + 16) & 0xffffff) != USUAL_WSCALE)
		return 0;
	f->has |= HAS_MSS | HAS_SACK | HAS_TIMESTAMPS | HAS_WSCALE;
	f->mss = load_be16(o + 2);
	f->ts_val = load_be32(o + 8);
	f->ts_ecr = load_be32(o + 12);
	f->ts_offset = 8;
	f->wscale = o[19];
	return USUAL_OPTIONS_LEN;
}

/* Walks the options into `f`; returns OPTION_ERROR_* bits. */
static __always_inline __u32 parse_options(struct segment_facts *f, struct option_walk *w)
{
	__u32 len = w->len;

	f->options_len = len;
	copy_words(f->options, w->bytes, TCP_OPTIONS_MAX);
	f->ts_offset = NO_OFFSET;
	f->tfo_offset = NO_OFFSET;
	w->offset = take_usual_options(f, w->bytes, len);
	w->errors = 0;
	NO_UNROLL
	for (int i = 0; i < TCP_OPTIONS_MAX / 2;
	     i++) { /* each step takes two NOPs or an option of at least two bytes */
		__u32 offset = w->offset;
		const __u8 *o = w->bytes + (offset & 63);
		__u32 size;

		if (o[0] == OPTION_NOP) {
			offset++;
			o++;
		}
		if (offset >= len || o[0] == OPTION_EOL)
			break;
		if (o[0] == OPTION_NOP) {
			w->offset = offset + 1;
			continue;
		}
		size = o[1];
		if (offset + 1 >= len)
			w->errors |= OPTION_ERROR_CUT;
		else if (size < 2)
			w->errors |= OPTION_ERROR_LENGTH;
		else if (offset + size > len)
			w->errors |= OPTION_ERROR_OVERRUN;
		if (w->errors & OPTION_ERRORS_FATAL) {
			f->has |= HAS_BAD_OPTIONS;
			break;
		}
		w->errors |= take_option(f, o, offset, size);
		w->offset = offset + size;
	}
	return w->errors;
}

/* Takes everything but the options; `f` must be zeroed. */
static __always_inline void take_header_facts(struct segment_facts *f, const struct headers *h)
{
	const __u8 *ip = h->ip;
	const __u8 *tcp = h->tcp;

	f->has = HAS_SEGMENT;
	f->seq = load_be32(tcp + 4);
	f->ack = load_be32(tcp + 8);
	f->tcp_flags = tcp_flags(tcp);
	f->window = load_be16(tcp + 14);
	f->payload_len = h->l4_len - tcp_header_len(tcp);
	f->ip_header_extra = h->ip_extra > 255 ? 255 : h->ip_extra;
	if (load_u16(tcp + 18))
		f->quirks |= QUIRK_URGENT_PTR;
	if (h->family == 4) {
		__u16 fragment = load_be16(ip + 6);

		f->ttl = ip[8];
		f->tos = ip[1];
		if (fragment & 0x4000)
			f->quirks |= QUIRK_DF;
		if (fragment & 0x8000)
			f->quirks |= QUIRK_IP_RESERVED;
		if (load_u16(ip + 4))
			f->quirks |= QUIRK_IP_ID;
	} else {
		__u32 word = load_be32(ip);

		f->ttl = ip[7];
		f->tos = word >> 20;
		if (word & 0xfffff)
			f->quirks |= QUIRK_FLOW;
	}
}

/* The timestamps of a segment that has no other option, in the usual layout (RFC 7323, Appendix A); else 0. */
static __always_inline void usual_timestamps(const struct cursor *c, const struct headers *h, __u32 *ts_val,
					     __u32 *ts_ecr)
{
	const __u8 *options = c->pos;

	*ts_val = 0;
	*ts_ecr = 0;
	if (tcp_header_len(h->tcp) < 32 || (const void *)(options + 12) > (const void *)c->end ||
	    load_be32(options) != 0x0101080a)
		return;
	*ts_val = load_be32(options + 4);
	*ts_ecr = load_be32(options + 8);
}

#endif
