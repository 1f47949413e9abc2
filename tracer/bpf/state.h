/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The maps' values besides the pending table: configuration, per-CPU work space, the sweep's position. */
#ifndef TFOTRACE_STATE_H
#define TFOTRACE_STATE_H

#include "table.h"

/* Where a packet goes next; those before STAGES are slots of the stage maps. */
enum stage {
	STAGE_PAIR,
	STAGE_ICMP,
	STAGE_PAYLOAD,
	STAGE_UNCOMMON,
	STAGE_FILTER,	      /* filter.h */
	STAGE_FILTER_NO_LINK, /* likewise, for frames that begin with the IP header */
	STAGES,
	STAGE_NONE,
	STAGE_AGAIN
};

struct interface_config {
	__u32 group;
	__u32 ifindex; /* whose this is */
	__u8 traced;
	__u8 no_link_header; /* frames begin with the IP header */
	__u8 pad[2];
};

struct config {
	__u64 response_timeout_ns;
	__u32 only_group; /* of all traced interfaces; 0: there are several groups, or none */
	__u8 pad[4];
};

/* Unanswered handshakes settled in this second of the boot clock; if CPUs race, a few more may pass. */
struct limiter {
	__u64 second;
	__u64 count;
};

struct cpu {
	struct counters counters;
	struct opaque opaque;
};

struct sweep_state {
	__u64 now_ns;		  /* 0: read the clock */
	__u32 cursor;		  /* next set */
	__u32 flush;		  /* settle everything now */
	__u64 live;		  /* entries not settled, counted since cursor was 0 */
	struct counters counters; /* separate: on old kernels a packet can interrupt the sweep on its CPU */
};

/* What the first stage passes to the second. */
struct scratch {
	struct segment segment;
	struct handshake_event out;
	struct segment early; /* the SYN-ACK that came before this SYN */
	__u32 has_early;
	struct option_walk options;
	__u8 icmp_from[16];
	__u64 id;		/* of the record opened by the SYN */
	struct process process; /* the SYN's process */
	__u64 sk;
	__u32 hash;
	__u32 ifindex;
	__u32 options_offset; /* from the start of the frame, like those below */
	__u32 payload_offset;
	__u32 icmp_offset;
	__u32 icmp_len;
	__u32 frame_len;
	__u32 group;
	__u32 vlans;
	__u32 way;  /* this and the next five: what find_entry() and find_displaced() found */
	__u32 from; /* enum direction */
	volatile __u32 candidate;
	volatile __u32 fit;
	volatile __u32 best;
	volatile __u64 rank;
	volatile __u32 did; /* what follow() did: FOLLOWED_*, enum pair_note << 8, the evicted entry's state << 16 */
	__u32 direction;    /* for the uncommon stage, which both directions share */
#ifdef PACKETS
	__u64 packet_id; /* of the packet's handshake, 0 = none */
	__u64 packet_syn_ns;
	__u32 vlan_tci;
#endif
	__u8 family;
	__u8 icmp;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 addressee; /* ADDRESSED_TO_*, of a SYN */
};

/* One packet being processed. */
struct frame {
	void *data;
	void *data_end;
	__u64 len;
	__u64 wire_len; /* the same, but for a capture that kept less */
	__u32 ifindex;
	__u32 direction;
	__u32 can_pull; /* unreadable headers can be pulled in */
	__u32 vlan_tci; /* 0x10000 | TCI if the tag was removed from the packet */
	__u64 now_ns;	/* 0: read the clock, but only for packets that go on */
};

#endif
