// SPDX-License-Identifier: MIT
/* From the frame to the TCP header: Ethernet, VLAN tags, IPv4, IPv6 and its extension headers, ICMP errors. */
#include "host.h"

#define FRAME_MAX 512

struct frame_bytes {
	__u8 bytes[FRAME_MAX];
	unsigned int len;
};

static void add(struct frame_bytes *f, const void *bytes, unsigned int len)
{
	memcpy(f->bytes + f->len, bytes, len);
	f->len += len;
}

static void add_ethernet(struct frame_bytes *f, unsigned int ethertype)
{
	__u8 header[14] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};

	put16(header + 12, ethertype);
	add(f, header, sizeof(header));
}

/* Behind a header that ends with an ethertype: a tag whose TCI is `tci` and which names `ethertype`. */
static void add_tag(struct frame_bytes *f, unsigned int tci, unsigned int ethertype)
{
	__u8 tag[4];

	put16(tag, tci);
	put16(tag + 2, ethertype);
	add(f, tag, sizeof(tag));
}

static void add_ipv4(struct frame_bytes *f, unsigned int header_len, unsigned int protocol, unsigned int payload_len)
{
	__u8 header[60] = {0x40 | header_len / 4};

	put16(header + 2, header_len + payload_len);
	header[8] = 64;
	header[9] = protocol;
	memcpy(header + 12, "\xc0\0\2\1\xc6\x33\x64\2", 8);
	add(f, header, header_len);
}

static void add_ipv6(struct frame_bytes *f, unsigned int next, unsigned int payload_len)
{
	__u8 header[40] = {0x60};

	put16(header + 4, payload_len);
	header[6] = next;
	header[7] = 64;
	header[8] = 0x20;
	header[24] = 0x20;
	header[39] = 1;
	add(f, header, sizeof(header));
}

static void add_extension(struct frame_bytes *f, unsigned int next, unsigned int length_field, unsigned int size)
{
	__u8 header[64] = {next, length_field};

	add(f, header, size);
}

static void add_tcp(struct frame_bytes *f, unsigned int header_len)
{
	__u8 header[60] = {0x9c, 0x40, 1, 0xbb};

	put32(header + 4, 0x01020304);
	header[12] = header_len / 4 << 4;
	header[13] = TCP_SYN;
	add(f, header, header_len < 20 ? 20 : header_len);
}

static int parse(const struct frame_bytes *f, unsigned int tci, enum length_rule rule, struct headers *h)
{
	__u8 *packet = exact_copy(f->bytes, f->len);
	struct cursor c = {.pos = packet, .end = packet + f->len};
	struct opaque o;
	int result;

	memset(h, 0, sizeof(*h));
	h->l3_len = f->len;
	result = parse_ethernet(&c, h, tci, &o);
	if (result == PARSED_TCP)
		result = parse_ip(&c, h, rule, &o);
	if (result == PARSED_TCP)
		result = parse_tcp(&c, h);
	if (result == PARSED_TCP)
		CHECK("the header found", load_be32((__u8 *)h->tcp + 4), 0x01020304);
	free(packet);
	return result;
}

static void check_vlans(void)
{
	static const struct {
		const char *name;
		unsigned int tci; /* taken from the packet into the skb */
		unsigned int tags[3][2];
		int result;
		unsigned int vlans;
	} rows[] = {
		{"no tag", 0, {}, PARSED_TCP, 0},
		{"802.1Q", 0, {{0x8100, 0xe00a}}, PARSED_TCP, 10},
		{"802.1ad", 0, {{0x88a8, 10}, {0x8100, 20}}, PARSED_TCP, 10 | 20 << 16},
		{"0x9100", 0, {{0x9100, 10}, {0x9100, 20}}, PARSED_TCP, 10 | 20 << 16},
		{"three tags", 0, {{0x88a8, 10}, {0x8100, 20}, {0x8100, 30}}, NOT_READ_VLAN, 10 | 20 << 16},
		{"a priority tag", 0, {{0x8100, 0xe000}}, PARSED_TCP, 0},
		{"a priority tag before a tag", 0, {{0x8100, 0xe000}, {0x8100, 20}}, PARSED_TCP, 20},
		{"a priority tag behind a tag", 0, {{0x8100, 20}, {0x8100, 0xe000}}, PARSED_TCP, 20},
		{"a tag in the skb", 0x1e00a, {}, PARSED_TCP, 10},
		{"one in the skb, one in the packet", 0x1000a, {{0x8100, 20}}, PARSED_TCP, 10 | 20 << 16},
		{"a priority tag in the skb", 0x10000, {{0x8100, 20}}, PARSED_TCP, 20},
		{"one in the skb, two in the packet",
		 0x1000a,
		 {{0x8100, 20}, {0x8100, 30}},
		 NOT_READ_VLAN,
		 10 | 20 << 16},
	};

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct frame_bytes f = {};
		struct headers h;

		add_ethernet(&f, rows[i].tags[0][0] ? rows[i].tags[0][0] : ETHERTYPE_IPV4);
		for (int t = 0; t < 3 && rows[i].tags[t][0]; t++)
			add_tag(&f, rows[i].tags[t][1],
				t < 2 && rows[i].tags[t + 1][0] ? rows[i].tags[t + 1][0] : ETHERTYPE_IPV4);
		add_ipv4(&f, 20, IP_PROTOCOL_TCP, 20);
		add_tcp(&f, 20);
		CHECK(rows[i].name, parse(&f, rows[i].tci, LENGTH_WITHIN_FRAME, &h), rows[i].result);
		CHECK(rows[i].name, h.vlans, rows[i].vlans);
	}
}

/* A frame with one byte changed must give that result. */
static void check_changed(const char *name, const struct frame_bytes *f, unsigned int at, unsigned int value,
			  int result)
{
	struct frame_bytes changed = *f;
	struct headers h;

	changed.bytes[at] = value;
	CHECK(name, parse(&changed, 0, LENGTH_WITHIN_FRAME, &h), result);
}

/* Cut at every place: what the frame is said to be must not come later than the first missing byte. */
static void check_cut(const char *name, const struct frame_bytes *f, unsigned int ip, unsigned int ip_header)
{
	for (unsigned int len = 0; len < f->len; len++) {
		struct frame_bytes cut = *f;
		struct headers h;
		int expected = len < ip ? BAD_ETHERNET : len < ip + ip_header ? BAD_IP_HEADER : BAD_IP_LENGTH;

		cut.len = len;
		CHECK(name, parse(&cut, 0, LENGTH_WITHIN_FRAME, &h), expected);
	}
}

static void check_ipv4(void)
{
	struct frame_bytes f = {}, other = {};
	struct headers h;

	add_ethernet(&f, ETHERTYPE_IPV4);
	add_ipv4(&f, 32, IP_PROTOCOL_TCP, 24);
	add_tcp(&f, 24);
	CHECK("IPv4 with options", parse(&f, 0, LENGTH_WITHIN_FRAME, &h), PARSED_TCP);
	CHECK("IPv4 with options", h.ip_extra, 12);
	CHECK("IPv4 with options", h.l4_len, 24);
	CHECK("IPv4 with options", h.family, 4);
	check_cut("IPv4 cut", &f, 14, 20);
	check_changed("version 6", &f, 14, 0x68, BAD_IP_HEADER);
	check_changed("header of 16 bytes", &f, 14, 0x44, BAD_IP_HEADER);
	check_changed("total length below the header's", &f, 17, 31, BAD_IP_LENGTH);
	check_changed("total length beyond the frame", &f, 17, 57, BAD_IP_LENGTH);
	check_changed("first fragment", &f, 20, 0x20, PARSED_TCP);
	check_changed("second fragment", &f, 21, 1, PARSED_FRAGMENT);
	check_changed("UDP", &f, 23, 17, PARSED_OTHER);
	check_changed("ICMP", &f, 23, 1, PARSED_ICMP);
	check_changed("ARP", &f, 13, 6, PARSED_OTHER);
	check_changed("segment below 20 bytes", &f, 17, 51, BAD_TCP_HEADER);
	check_changed("data offset 4", &f, 14 + 32 + 12, 0x40, BAD_TCP_HEADER);
	check_changed("data offset beyond the segment", &f, 14 + 32 + 12, 0x70, BAD_TCP_OFFSET);
	add_ethernet(&other, ETHERTYPE_IPV4);
	add_ipv4(&other, 20, IP_PROTOCOL_TCP, 1000);
	add_tcp(&other, 20);
	CHECK("cut by the snap length", parse(&other, 0, LENGTH_MAY_BE_CUT, &h), PARSED_TCP);
	CHECK("cut by the snap length", h.l4_len, 1000);
	CHECK("longer than the frame", parse(&other, 0, LENGTH_WITHIN_FRAME, &h), BAD_IP_LENGTH);
}

static void check_ipv6(void)
{
	struct frame_bytes f = {}, long_chain = {};
	struct headers h;

	add_ethernet(&f, ETHERTYPE_IPV6);
	add_ipv6(&f, IPV6_HOP_BY_HOP, 8 + 16 + 8 + 24 + 20);
	add_extension(&f, IPV6_DESTINATION, 0, 8);
	add_extension(&f, IPV6_FRAGMENT, 1, 16);
	add_extension(&f, IPV6_AUTHENTICATION, 0, 8);
	add_extension(&f, IP_PROTOCOL_TCP, 4, 24); /* RFC 4302: words, less two */
	add_tcp(&f, 20);
	CHECK("IPv6 with four extensions", parse(&f, 0, LENGTH_WITHIN_FRAME, &h), PARSED_TCP);
	CHECK("IPv6 with four extensions", h.ip_extra, 56);
	CHECK("IPv6 with four extensions", h.l4_len, 20);
	check_cut("IPv6 cut", &f, 14, 40);
	check_changed("version 4", &f, 14, 0x40, BAD_IP_HEADER);
	check_changed("payload length beyond the frame", &f, 19, 77, BAD_IP_LENGTH);
	check_changed("payload length within the chain", &f, 19, 7, BAD_IP_EXTENSION);
	check_changed("extension beyond the packet", &f, 14 + 40 + 1, 30, BAD_IP_EXTENSION);
	check_changed("second fragment of another header", &f, 14 + 40 + 8 + 16 + 3, 8, PARSED_OTHER);
	check_changed("UDP", &f, 14 + 40 + 8 + 16 + 8, 17, PARSED_OTHER);
	check_changed("no next header", &f, 20, 59, PARSED_OTHER);
	add_ethernet(&long_chain, ETHERTYPE_IPV6);
	add_ipv6(&long_chain, IPV6_DESTINATION, 7 * 8 + 20);
	for (int i = 0; i < 6; i++)
		add_extension(&long_chain, IPV6_DESTINATION, 0, 8);
	add_extension(&long_chain, IP_PROTOCOL_TCP, 0, 8);
	add_tcp(&long_chain, 20);
	CHECK("seven extensions", parse(&long_chain, 0, LENGTH_WITHIN_FRAME, &h), BAD_IP_EXTENSION);
	long_chain.bytes[14 + 40 + 5 * 8] = IP_PROTOCOL_TCP;
	put32(long_chain.bytes + 14 + 40 + 6 * 8 + 4, 0x01020304);
	long_chain.bytes[14 + 40 + 6 * 8 + 12] = 0x50;
	CHECK("six extensions", parse(&long_chain, 0, LENGTH_WITHIN_FRAME, &h), PARSED_TCP);
	CHECK("six extensions", h.ip_extra, 48);
}

static void check_not_read_by_ethertype(void)
{
	static const struct {
		const char *name;
		unsigned int ethertype;
		int result;
	} rows[] = {
		{"MPLS", 0x8847, NOT_READ_MPLS},	   {"MPLS, multicast", 0x8848, NOT_READ_MPLS},
		{"PPPoE session", 0x8864, NOT_READ_PPPOE}, {"PPPoE discovery", 0x8863, PARSED_OTHER},
		{"Cisco MetaData", 0x8909, NOT_READ_SGT},  {"LLDP", 0x88cc, PARSED_OTHER},
		{"MACsec", 0x88e5, PARSED_OTHER},
	};

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct frame_bytes f = {}, tagged = {};
		struct headers h;

		add_ethernet(&f, rows[i].ethertype);
		CHECK(rows[i].name, parse(&f, 0, LENGTH_WITHIN_FRAME, &h), rows[i].result);
		CHECK(rows[i].name, parse(&f, 0x1000a, LENGTH_WITHIN_FRAME, &h), rows[i].result);
		add_ethernet(&tagged, ETHERTYPE_VLAN);
		add_tag(&tagged, 10, rows[i].ethertype);
		CHECK(rows[i].name, parse(&tagged, 0, LENGTH_WITHIN_FRAME, &h), rows[i].result);
	}
}

/* Parsed on both roads, which must agree; behind an extension header or an option there is only the thorough one. */
static int parse_both(const struct frame_bytes *f)
{
	struct headers h, quick = {.l3_len = f->len};
	struct cursor c = {.pos = (void *)f->bytes, .end = (void *)(f->bytes + f->len)};
	int result = parse(f, 0, LENGTH_WITHIN_FRAME, &h), said;

	said = parse_common(&c, &quick, LENGTH_WITHIN_FRAME, 0);
	if (said != NOT_COMMON)
		CHECK("the quick road", said, result);
	return result;
}

static void check_not_read_by_protocol(void)
{
	static const struct {
		const char *name;
		unsigned int protocol, src_port, dst_port;
		int result;
	} rows[] = {
		{"GRE", 47, 0, 0, NOT_READ_GRE},
		{"IPv4 inside", 4, 0, 0, NOT_READ_IPIP},
		{"IPv6 inside", 41, 0, 0, NOT_READ_IPIP},
		{"VXLAN", 17, 50000, 4789, NOT_READ_VXLAN},
		{"VXLAN, Linux' own port", 17, 50000, 8472, NOT_READ_VXLAN},
		{"GENEVE", 17, 50000, 6081, NOT_READ_GENEVE},
		{"GTP-U", 17, 2152, 2152, NOT_READ_GTP},
		{"GTP-C", 17, 50000, 2123, PARSED_OTHER},
		{"from VXLAN's port", 17, 4789, 50000, PARSED_OTHER},
		{"UDP to another port", 17, 50000, 443, PARSED_OTHER},
		{"ESP", 50, 0, 0, PARSED_OTHER},
		{"SCTP to VXLAN's port", 132, 50000, 4789, PARSED_OTHER},
	};

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (unsigned int road = 0; road < 4; road++) {
			struct frame_bytes f = {}, later, cut;
			__u8 inner[28] = {};
			unsigned int l4, fragment;

			put16(inner, rows[i].src_port);
			put16(inner + 2, rows[i].dst_port);
			add_ethernet(&f, road < 2 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
			if (road < 2) {
				add_ipv4(&f, road ? 24 : 20, rows[i].protocol, sizeof(inner));
				fragment = 14 + 7;
			} else if (road == 2) {
				add_ipv6(&f, rows[i].protocol, sizeof(inner));
				fragment = 0;
			} else {
				add_ipv6(&f, IPV6_DESTINATION, 16 + sizeof(inner));
				add_extension(&f, IPV6_FRAGMENT, 0, 8);
				add_extension(&f, rows[i].protocol, 0, 8);
				fragment = f.len - 8 + 3;
			}
			l4 = f.len;
			add(&f, inner, sizeof(inner));
			CHECK(rows[i].name, parse_both(&f), rows[i].result);
			later = cut = f;
			if (fragment) {
				later.bytes[fragment] = 8;
				CHECK(rows[i].name, parse_both(&later), PARSED_OTHER);
			}
			/* a capture keeps less than there was: the ports must be there to tell */
			cut.len = l4 + 3;
			if (rows[i].protocol == 17) {
				struct cursor c = {.pos = cut.bytes, .end = cut.bytes + cut.len};
				struct headers h = {.l3_len = f.len};
				struct opaque o;

				CHECK(rows[i].name, parse_ethernet(&c, &h, 0, &o), PARSED_TCP);
				CHECK(rows[i].name, parse_ip(&c, &h, LENGTH_WITHIN_FRAME, &o), PARSED_CUT);
			}
		}
	}
}

/* Fewer bytes than a UDP header has: what follows is the frame's padding and no port. */
static void check_udp_without_header(void)
{
	struct frame_bytes f = {}, six = {};

	add_ethernet(&f, ETHERTYPE_IPV4);
	add_ipv4(&f, 20, 17, 7);
	add_ethernet(&six, ETHERTYPE_IPV6);
	add_ipv6(&six, 17, 7);
	add(&f, "\xc3\x50\x12\xb5\0\0\0\0", 8);
	add(&six, "\xc3\x50\x12\xb5\0\0\0\0", 8);
	CHECK("IPv4, 7 bytes of UDP", parse_both(&f), PARSED_OTHER);
	CHECK("IPv6, 7 bytes of UDP", parse_both(&six), PARSED_OTHER);
}

static int parse_error(const struct frame_bytes *f, unsigned int family, struct headers *h, __u8 *type, __u8 *code)
{
	__u8 *packet = exact_copy(f->bytes, f->len);
	struct cursor c = {.pos = packet, .end = packet + f->len};
	struct opaque o;
	int result;

	memset(h, 0, sizeof(*h));
	h->family = family;
	h->l4_len = f->len;
	result = parse_icmp(&c, h, type, code, &o);
	if (result == PARSED_TCP)
		CHECK("the SYN quoted", load_be32((__u8 *)h->tcp + 4), 0x01020304);
	free(packet);
	return result;
}

static void check_icmp(void)
{
	static const struct {
		unsigned int family, type, code;
		int result;
	} rows[] = {
		{4, 3, 0, PARSED_TCP},	 {4, 3, 1, PARSED_TCP},	    {4, 3, 4, PARSED_OTHER}, {4, 3, 13, PARSED_TCP},
		{4, 11, 0, PARSED_TCP},	 {4, 12, 0, PARSED_TCP},    {4, 0, 0, PARSED_OTHER}, {4, 5, 1, PARSED_OTHER},
		{4, 1, 0, PARSED_OTHER}, {6, 1, 4, PARSED_TCP},	    {6, 2, 0, PARSED_OTHER}, {6, 3, 0, PARSED_TCP},
		{6, 4, 1, PARSED_TCP},	 {6, 128, 0, PARSED_OTHER},
	};

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct frame_bytes f = {};
		struct headers h;
		__u8 head[8] = {rows[i].type, rows[i].code}, type, code;
		char name[40];

		snprintf(name, sizeof(name), "ICMPv%u type %u code %u", rows[i].family, rows[i].type, rows[i].code);
		add(&f, head, sizeof(head));
		if (rows[i].family == 4)
			add_ipv4(&f, 20, IP_PROTOCOL_TCP, 1000);
		else
			add_ipv6(&f, IP_PROTOCOL_TCP, 1000);
		add_tcp(&f, 20);
		f.len -= 12; /* RFC 792: 64 bits of it */
		CHECK(name, parse_error(&f, rows[i].family, &h, &type, &code), rows[i].result);
		for (unsigned int len = 0; len < f.len; len++) {
			struct frame_bytes cut = f;

			cut.len = len;
			CHECK(name, parse_error(&cut, rows[i].family, &h, &type, &code), PARSED_OTHER);
		}
	}
}

static void check_no_link(void)
{
	static const struct {
		unsigned int byte;
		int result;
		unsigned int family;
	} rows[] = {{0x45, PARSED_TCP, 4}, {0x60, PARSED_TCP, 6}, {0x10, PARSED_OTHER, 0}};

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		__u8 byte = rows[i].byte;
		__u8 *packet = exact_copy(&byte, 1);
		struct cursor c = {.pos = packet, .end = packet + 1};
		struct headers h = {};

		CHECK("no link header", parse_no_link(&c, &h), rows[i].result);
		CHECK("no link header", h.family, rows[i].family);
		c.end = c.pos;
		CHECK("an empty packet", parse_no_link(&c, &h), BAD_ETHERNET);
		free(packet);
	}
}

int main(void)
{
	check_vlans();
	check_ipv4();
	check_ipv6();
	check_not_read_by_ethertype();
	check_not_read_by_protocol();
	check_udp_without_header();
	check_icmp();
	check_no_link();
	return finish("parse");
}
