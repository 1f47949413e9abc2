/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The interface between kernel and user space: the structs of a handshake
 * record, a SYN payload and the counters, and nothing else.
 *
 * User space takes sizes and offsets from here (tracer/ipc/event_header.py) and
 * never spells them again. All numbers are in host byte order; addresses are 16
 * bytes in network order, IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
 */
#ifndef TFOTRACE_EVENT_H
#define TFOTRACE_EVENT_H

#include "types.h"

#define TCP_OPTIONS_MAX 40 /* bytes: doff is at most 15 words, 5 are fixed */
#define RETX_MAX 6	   /* by default Linux retransmits a SYN 6 times (tcp_syn_retries) */
#define PAYLOAD_MAX 8960   /* bytes: one MSS at an MTU of 9000 */
#define NO_OFFSET 0xff

/* handshake.result in DESIGN.md section 3, TFO.md section 3. */
enum handshake_result {
	RESULT_NONE = 0,
	RESULT_ESTABLISHED,
	RESULT_REJECTED,
	RESULT_ABORTED,
	RESULT_UNREACHABLE,
	RESULT_NO_REPLY,
	RESULT_HALF_OPEN,
	RESULT_SIMULTANEOUS_OPEN,
	RESULT_SYN_ON_ESTABLISHED,
};

/* What made the record final (DESIGN.md section 4). */
enum settle_reason {
	SETTLED_NOT = 0,
	SETTLED_BY_RESPONSE, /* the server's first data byte */
	SETTLED_BY_RST,
	SETTLED_BY_ICMP,
	SETTLED_BY_FIN,
	SETTLED_BY_TIMEOUT,
	SETTLED_BY_NEW_SYN, /* another ISN on the same 4-tuple */
	SETTLED_BY_ACK,	    /* the last ACK of a simultaneous open */
	SETTLED_AT_END,	    /* tracing ended */
};

/* segment_facts.has */
#define HAS_SEGMENT (1 << 0) /* the segment was seen */
#define HAS_MSS (1 << 1)
#define HAS_WSCALE (1 << 2)
#define HAS_SACK (1 << 3)
#define HAS_TIMESTAMPS (1 << 4)
#define HAS_TFO (1 << 5)	   /* a well-formed TFO option, kind 34 or experimental */
#define HAS_TFO_MALFORMED (1 << 6) /* at least one TFO option that RFC 7413 does not allow */
#define HAS_MPTCP (1 << 7)
#define HAS_MD5 (1 << 8)
#define HAS_AO (1 << 9)
#define HAS_BAD_OPTIONS (1 << 10) /* the walk over the options was stopped */

/* segment_facts.quirks: what p0f's signature needs besides the options. */
#define QUIRK_DF (1 << 0)
#define QUIRK_IP_ID (1 << 1)	   /* IPv4 identification is not 0 */
#define QUIRK_IP_RESERVED (1 << 2) /* IPv4 "must be zero" flag is set */
#define QUIRK_FLOW (1 << 3)	   /* IPv6 flow label is not 0 */
#define QUIRK_URGENT_PTR (1 << 4)  /* urgent pointer is not 0 */

/* The first SYN of a handshake, or a SYN-ACK, as seen on the wire. */
struct segment_facts {
	__u32 seq;
	__u32 ack;
	__u32 ts_val;
	__u32 ts_ecr;
	__u16 payload_len; /* bytes, from the IP header's length */
	__u16 window;	   /* bytes, unscaled */
	__u16 mss;
	__u16 has;	 /* HAS_* */
	__u16 tcp_flags; /* 12 bits, FIN is bit 0, AE (once NS) bit 8 */
	__u8 wscale;
	__u8 ttl;	      /* or hop limit */
	__u8 tos;	      /* or traffic class */
	__u8 ip_header_extra; /* bytes of IPv4 options or IPv6 extension headers, at most 255 */
	__u8 quirks;	      /* QUIRK_* */
	__u8 options_len;     /* bytes used in options[] */
	__u8 ts_offset;	      /* of TSval in options[], NO_OFFSET if there is none */
	__u8 tfo_offset;      /* of the cookie in options[], NO_OFFSET if there is no option */
	__u8 tfo_kind;	      /* 34, 253, 254; 0 if there is no option */
	__u8 cookie_len;      /* bytes; 0 = cookie request */
	__u8 options[TCP_OPTIONS_MAX];
};

/* A SYN after the first one. */
struct retransmission {
	__u32 after_us; /* since the first SYN */
	__u32 ts_val;	/* 0 if it had no timestamps */
};

/*
 * The first SYN-ACK where the client took one with another initial sequence number: what the verdict on Fast Open needs.
 * All zero where the client took the first, or none.
 */
struct first_answer {
	__u64 ns;
	__u32 seq;
	__u32 ack;
	__u32 ts_ecr;
	__u16 has;	 /* HAS_* */
	__u8 tfo_kind;	 /* as in segment_facts */
	__u8 cookie_len; /* bytes */
	__u8 cookie[16];
};

/* handshake_event.reset_from */
#define RESET_BY_CLIENT 1
#define RESET_BY_SERVER 2

/* handshake_event.addressee */
#define ADDRESSED_TO_HOST 1
#define ADDRESSED_TO_OTHERS 2 /* seen by a mirror port or a bridge, or sent to several */

/* A process at the time when the SYN left; pid 0 = unknown. */
struct process {
	__u64 cgroup; /* number of its cgroup in the v2 hierarchy, 1 is the root */
	__u32 pid;    /* of the process, not the thread, in the initial pid namespace */
	__u32 uid;    /* effective */
	__u8 name[16];
};

struct handshake_event {
	__u64 id;	   /* of 4-tuple and client ISN, see handshake_id() in flow.h */
	__u64 syn_ns;	   /* first SYN; boot clock without suspend (CLOCK_MONOTONIC) */
	__u64 synack_ns;   /* the SYN-ACK that the client took, else the first; 0 = none, here and below */
	__u64 ack_ns;	   /* the client's first segment after the SYN-ACK */
	__u64 request_ns;  /* the client's first data that the SYN-ACK had not acked */
	__u64 response_ns; /* the server's first data byte */
	__u64 settled_ns;
	__u8 client[16];
	__u8 server[16];
	__u16 client_port;
	__u16 server_port;
	__u32 ifindex;	/* where the first SYN was seen */
	__u16 vlan[2];	/* outer, inner VID; 0 = none */
	__u8 egress;	/* the first SYN left by the interface */
	__u8 family;	/* 4 or 6 */
	__u8 result;	/* enum handshake_result */
	__u8 reason;	/* enum settle_reason */
	__u8 syn_count; /* SYNs with the first one's ISN, including it; saturates */
	__u8 synack_count;
	__u8 late_syns;	 /* those of syn_count that came after the first SYN-ACK */
	__u8 retx_count; /* used in retx[]: SYNs after the first, until the ACK */
	__u8 icmp_type;	 /* with RESULT_UNREACHABLE */
	__u8 icmp_code;
	__u8 one_way;	     /* the client went on, but no SYN-ACK was seen */
	__u8 challenge_acks; /* bare ACKs that answered the SYN (RFC 5961, section 4); saturates */
	__u8 synack_isns; /* different initial sequence numbers among the SYN-ACKs; this and the counts below saturate */
	__u8 synacks_after_ack; /* SYN-ACKs that came again, with the number that the client had acked */
	__u8 copies;		/* mirrored segments, which count nowhere else */
	__u8 resumed;		/* enum handshake_result of the earlier record of this id, 0 = there is none */
	__u8 misfit_rsts;	/* came for this handshake, but their numbers did not fit */
	__u8 misfit_synacks;
	__u8 misfit_icmps;
	__u8 reset_from; /* RESET_BY_*: whose RST settled it, 0 = nobody's */
	__u8 reset_ttl;
	__u8 request_acked;   /* the server acked more than its SYN-ACK did */
	__u8 request_repeats; /* how often the client sent again the byte that the SYN-ACK asks for */
	__u8 client_fin;      /* the client sent a FIN before the record was settled */
	__u32 ack_ts_ecr;     /* TSecr of the client's ACK, 0 = unknown: which SYN-ACK it answers */
	struct segment_facts syn;
	struct segment_facts synack; /* of synack_ns */
	struct first_answer first_answer;
	struct retransmission retx[RETX_MAX];
	__u8 retx_flags[RETX_MAX]; /* of each retransmission: the flags ECE and CWR, and AE as bit 0 */
	__u8 addressee;		   /* ADDRESSED_TO_*: of the first SYN's frame, where it came in; 0 = unknown */
	__u8 pad[1];
	__u8 icmp_from[16];  /* who sent the ICMP error */
	__u32 client_socket; /* inode number of the socket, 0 = unknown; likewise of the listener */
	__u32 server_socket;
	struct process client_process;
};

/* The first SYN's payload; `data` is cut at `captured`. */
struct payload_event {
	__u64 id;
	__u64 syn_ns;
	__u32 ifindex;
	__u16 len;	/* on the wire */
	__u16 captured; /* bytes in data[] */
	__u8 data[PAYLOAD_MAX];
};

/*
 * The kernel's word on a segment: it freed it and says why, or it sent a reset and says why. Without a segment
 * (a reset of the kernel's own accord) only time, addresses, ports, namespace and reason are known.
 */
struct drop_event {
	__u64 now_ns;
	__u64 location; /* of the code that freed it, 0 for a reset */
	__u8 src[16];	/* of the freed segment; for a reset, who sends it */
	__u8 dst[16];
	__u16 src_port;
	__u16 dst_port;
	__u32 seq;
	__u32 ack;
	__u32 reason;  /* enum skb_drop_reason; for a reset enum sk_rst_reason */
	__u32 netns;   /* inode number of the network namespace, 0 = unknown */
	__u32 ifindex; /* 0 = unknown */
	__u32 set;     /* with `tag`: of the pending table */
	__u16 payload_len;
	__u16 window;
	__u16 tcp_flags; /* as in segment_facts, like those below */
	__u8 family;	 /* 4 or 6 */
	__u8 is_reset;
	__u8 ttl;
	__u8 tos;
	__u8 quirks;
	__u8 ip_header_extra;
	__u8 tag;	  /* of a bare SYN that this host made, and would have sent by a traced interface; else 0 */
	__u8 options_len; /* bytes of a SYN's options; 0 also if they could not be read */
	__u8 options[TCP_OPTIONS_MAX];
	__u8 is_copy; /* perhaps another one was sent on: it was leaving by a port of a bridge, or was made by TEE */
	__u8 pad[5];
};

#ifdef PACKETS
#define PACKET_MAX 192 /* bytes: Ethernet, two tags, IPv6 and TCP with all options take 122 */

/* The headers of a handshake's segment as seen on the wire (-w FILE.pcapng). */
struct packet_event {
	__u64 id;
	__u64 syn_ns;
	__u64 now_ns;
	__u32 ifindex;
	__u32 frame_len;
	__u32 vlan_tci;	   /* 0x10000 | TCI of a tag that is not in data[]; 0x20000 if it is 802.1ad's */
	__u16 captured;	   /* bytes in data[] */
	__u16 headers_len; /* where the payload begins; 0 = unknown, an ICMP error */
	__u8 egress;
	__u8 no_link_header;
	__u8 pad[6];
	__u8 data[PACKET_MAX];
};
#endif

/*
 * Per-CPU sums, each counted where it happens. The first block is the balance
 * sheet (DESIGN.md section 5); still_open is counted by the sweep.
 */
struct counters {
	__u64 opened;
	__u64 emitted;
	__u64 lost; /* ring or perf buffer full */
	__u64 evicted_unanswered;
	__u64 evicted_half_open;
	__u64 evicted_awaiting_response;
	__u64 suppressed; /* unanswered, above the limit per second */

	__u64 filtered; /* SYNs that --filter kept from opening a handshake */
	__u64 packets;
	__u64 syns;
	__u64 synacks;
	__u64 late_syns;	/* same ISN, after the record was settled unanswered */
	__u64 seen_again;	/* the same segment at another interface of the group */
	__u64 synack_unmatched; /* SYN-ACK whose SYN was not seen */
	__u64 synack_stray_ack; /* its ack number belongs to no SYN seen here */
	__u64 synack_odd_ack;	/* acks more than the SYN without a TFO attempt: not judged */
	__u64 tfo_malformed;	/* SYN or SYN-ACK with a TFO option that the RFC does not allow */
	__u64 tfo_unsolicited;	/* unrequested cookie in a SYN-ACK */
	__u64 payloads;
	__u64 payloads_lost;
	__u64 drops;	     /* the kernel's words on segments, sent to user space */
	__u64 drops_lost;    /* their ring was full */
	__u64 drops_skipped; /* freed packets and resets not looked at, since there were too many at once */
#ifdef PACKETS
	__u64 packets_kept;
	__u64 packets_lost; /* the ring was full */
#endif
	__u64 fragments; /* not the first: no TCP header inside */
	__u64 not_tcp;	 /* well formed, and of none of the kinds here: UDP, ICMP, ARP ... */

	/* well formed, but handshakes inside are not read here */
	__u64 not_read_gre;
	__u64 not_read_vxlan;
	__u64 not_read_geneve;
	__u64 not_read_gtp;
	__u64 not_read_ipip; /* IPv4 or IPv6 inside either */
	__u64 not_read_mpls;
	__u64 not_read_pppoe; /* sessions */
	__u64 not_read_vlan;  /* more than two tags */
	__u64 not_read_sgt;   /* Cisco MetaData */

	__u64 malformed_ethernet;	/* shorter than its link header or tags */
	__u64 malformed_ip_header;	/* version, header length, truncated */
	__u64 malformed_ip_length;	/* total length against header or frame */
	__u64 malformed_ip_extension;	/* IPv6 extension header cut off or too many */
	__u64 malformed_tcp_header;	/* truncated or data offset below 5 */
	__u64 malformed_tcp_offset;	/* data offset beyond the segment */
	__u64 malformed_tcp_flags;	/* SYN together with FIN or RST */
	__u64 malformed_option_cut;	/* kind without a length byte */
	__u64 malformed_option_length;	/* length 0 or 1 */
	__u64 malformed_option_overrun; /* length beyond the header */
	__u64 malformed_option_size;	/* a known option of an invalid size */
};

#endif
