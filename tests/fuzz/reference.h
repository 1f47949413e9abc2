/* SPDX-License-Identifier: MIT */
/*
 * The headers read a second time, as plainly as can be: by offsets into bytes
 * whose number is known, from the RFCs, with nothing of tracer/bpf but the
 * numbers of the results. For the fuzz targets to compare with.
 */
#ifndef TFOTRACE_TESTS_REFERENCE_H
#define TFOTRACE_TESTS_REFERENCE_H

#include "../host/host.h"

static inline void require(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

/* A packet of which `have` bytes are there and that was `wire` bytes long. */
struct packet {
	const __u8 *bytes;
	__u64 have;
	__u64 wire;
};

struct reading {
	int result;   /* enum parse_result */
	__u64 ip, l4; /* offsets */
	__u64 l4_len, extra, vlans;
	unsigned int family;
};

static inline unsigned int two(const struct packet *p, __u64 at)
{
	return p->bytes[at] << 8 | p->bytes[at + 1];
}

static inline int reference_link(const struct packet *p, unsigned int tci, struct reading *r)
{
	unsigned int vids[3] = {0}, tags = 0, ethertype;
	__u64 at = 12;

	if (p->have < 14)
		return BAD_ETHERNET;
	if (tci)
		vids[tags++] = tci & 0xfff;
	ethertype = two(p, at);
	while (tags < 2 && (ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100)) {
		if (p->have < at + 6)
			return BAD_ETHERNET;
		vids[tags++] = two(p, at + 2) & 0xfff;
		at += 4;
		ethertype = two(p, at);
	}
	/* priority tags name no VLAN */
	r->vlans = vids[0] ? vids[0] | vids[1] << 16 : vids[1];
	r->ip = at + 2;
	r->family = ethertype == 0x0800 ? 4 : ethertype == 0x86dd ? 6 : 0;
	switch (ethertype) {
	case 0x0800:
	case 0x86dd:
		return PARSED_TCP;
	case 0x8100:
	case 0x88a8:
	case 0x9100:
		return NOT_READ_VLAN;
	case 0x8847:
	case 0x8848:
		return NOT_READ_MPLS;
	case 0x8864:
		return NOT_READ_PPPOE;
	case 0x8909:
		return NOT_READ_SGT;
	default:
		return PARSED_OTHER;
	}
}

/* What is behind the IP header, by its protocol. */
static inline int reference_transport(const struct packet *p, unsigned int protocol, const struct reading *r)
{
	switch (protocol) {
	case 6:
		return PARSED_TCP;
	case 4:
	case 41:
		return NOT_READ_IPIP;
	case 47:
		return NOT_READ_GRE;
	case 17:
		break;
	default:
		return protocol == (r->family == 4 ? 1 : 58) ? PARSED_ICMP : PARSED_OTHER;
	}
	if (r->l4_len < 8)
		return PARSED_OTHER;
	if (p->have < r->l4 + 4)
		return PARSED_CUT;
	switch (two(p, r->l4 + 2)) {
	case 4789:
	case 8472:
		return NOT_READ_VXLAN;
	case 6081:
		return NOT_READ_GENEVE;
	case 2152:
		return NOT_READ_GTP;
	default:
		return PARSED_OTHER;
	}
}

/* The IP header at r->ip; `limit` is how many bytes may come from there on. */
static inline int reference_ip(const struct packet *p, __u64 limit, int may_be_cut, struct reading *r)
{
	__u64 at = r->ip, length, next;

	if (r->family == 4) {
		if (p->have < at + 20 || limit < 20 || p->bytes[at] >> 4 != 4 || (p->bytes[at] & 15) < 5)
			return BAD_IP_HEADER;
		length = two(p, at + 2);
		if (!length && limit > 65535)
			length = limit;
		r->extra = (p->bytes[at] & 15) * 4 - 20;
		if (length < 20 + r->extra || (!may_be_cut && length > limit))
			return BAD_IP_LENGTH;
		r->l4 = at + 20 + r->extra;
		r->l4_len = length - 20 - r->extra;
		next = p->bytes[at + 9];
		if (two(p, at + 6) & 0x1fff)
			return next == 6 ? PARSED_FRAGMENT : PARSED_OTHER;
		return reference_transport(p, next, r);
	}
	if (p->have < at + 40 || limit < 40 || p->bytes[at] >> 4 != 6)
		return BAD_IP_HEADER;
	length = two(p, at + 4);
	if (!length && limit > 65535)
		length = limit - 40;
	if (!may_be_cut && length > limit - 40)
		return BAD_IP_LENGTH;
	next = p->bytes[at + 6];
	r->extra = 0;
	for (int headers = 0;; headers++) {
		__u64 ext = at + 40 + r->extra, size;

		if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60 && next != 135 && next != 139 &&
		    next != 140)
			break;
		if (headers == IPV6_EXTENSIONS_MAX || p->have < ext + 8 || length - r->extra < 8)
			return BAD_IP_EXTENSION;
		size = next == 44 ? 8 : next == 51 ? (p->bytes[ext + 1] + 2) * 4 : (p->bytes[ext + 1] + 1) * 8;
		if (size > length - r->extra)
			return BAD_IP_EXTENSION;
		if (next == 44 && two(p, ext + 2) >> 3)
			return p->bytes[ext] == 6 ? PARSED_FRAGMENT : PARSED_OTHER;
		next = p->bytes[ext];
		r->extra += size;
	}
	r->l4 = at + 40 + r->extra;
	r->l4_len = length - r->extra;
	return reference_transport(p, next, r);
}

static inline int reference_tcp(const struct packet *p, const struct reading *r)
{
	if (p->have < r->l4 + 20 || r->l4_len < 20 || p->bytes[r->l4 + 12] >> 4 < 5)
		return BAD_TCP_HEADER;
	return (p->bytes[r->l4 + 12] >> 4) * 4u > r->l4_len ? BAD_TCP_OFFSET : PARSED_TCP;
}

/* The SYN that an ICMP error at r->l4 quotes: `r` becomes that of the quoted packet. */
static inline int reference_icmp(const struct packet *p, struct reading *r)
{
	unsigned int type, code, refuses;

	if (p->have < r->l4 + 8 || r->l4_len < 8)
		return PARSED_OTHER;
	type = p->bytes[r->l4];
	code = p->bytes[r->l4 + 1];
	if (r->family == 4)
		refuses = (type == 3 && code != 4) || type == 11 || type == 12;
	else
		refuses = type == 1 || type == 3 || type == 4;
	if (!refuses)
		return PARSED_OTHER;
	r->ip = r->l4 + 8;
	if (reference_ip(p, r->l4_len - 8, 1, r) != PARSED_TCP || p->have < r->l4 + 8)
		return PARSED_OTHER;
	return PARSED_TCP;
}

/* What a walk over `len` bytes of options finds: errors, and the facts that are read off them. */
static inline unsigned int reference_options(const __u8 *o, unsigned int len, struct segment_facts *f)
{
	static const struct {
		unsigned int kind, least, most, has;
	} known[] = {
		{2, 4, 4, HAS_MSS},    {3, 3, 3, HAS_WSCALE}, {4, 2, 2, HAS_SACK},    {8, 10, 10, HAS_TIMESTAMPS},
		{19, 18, 18, HAS_MD5}, {29, 4, 40, HAS_AO},   {30, 3, 40, HAS_MPTCP},
	};
	unsigned int at = 0, errors = 0;

	f->ts_offset = f->tfo_offset = NO_OFFSET;
	while (at < len && o[at] != 0) {
		unsigned int kind = o[at], size, head = 0;

		if (kind == 1) {
			at++;
			continue;
		}
		size = at + 1 < len ? o[at + 1] : 0;
		if (at + 1 >= len || size < 2 || at + size > len) {
			f->has |= HAS_BAD_OPTIONS;
			return errors | (at + 1 >= len ? OPTION_ERROR_CUT
					 : size < 2    ? OPTION_ERROR_LENGTH
						       : OPTION_ERROR_OVERRUN);
		}
		for (unsigned int i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
			if (known[i].kind != kind)
				continue;
			if (size < known[i].least || size > known[i].most) {
				errors |= OPTION_ERROR_SIZE;
				continue;
			}
			f->has |= known[i].has;
			if (kind == 2)
				f->mss = o[at + 2] << 8 | o[at + 3];
			if (kind == 3)
				f->wscale = o[at + 2];
			if (kind == 8) {
				f->ts_offset = at + 2;
				f->ts_val = (__u32)o[at + 2] << 24 | o[at + 3] << 16 | o[at + 4] << 8 | o[at + 5];
				f->ts_ecr = (__u32)o[at + 6] << 24 | o[at + 7] << 16 | o[at + 8] << 8 | o[at + 9];
			}
		}
		if (kind == 34)
			head = 2;
		else if (kind >= 253 && kind <= 254 && size >= 4 && o[at + 2] == 0xf9 && o[at + 3] == 0x89)
			head = 4;
		if (head && (size == head || (size >= head + 4 && size <= head + 16 && size % 2 == 0))) {
			f->has |= HAS_TFO;
			f->tfo_kind = kind;
			f->tfo_offset = at + head;
			f->cookie_len = size - head;
		} else if (head) {
			f->has |= HAS_TFO_MALFORMED;
			errors |= OPTION_ERROR_TFO;
		}
		at += size;
	}
	return errors;
}

#endif
