/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The maps, and where a packet's way goes. It has two stages. The programs that are
 * attached (read.bpf.c: tc_ingress, tc_egress, xdp_ingress) read: frame -> headers
 * (parse_common.h) -> tag filter (table.h) -> scratch. Only SYNs and segments of
 * tracked connections go on, by tail call, to the second stage (pair.bpf.c: tc_pair,
 * xdp_pair): options -> pending entry under its set's lock (pair.h) -> ring. On
 * the side of this road are tc_uncommon, which reads whatever is not of the common
 * kind (the other parse_*.h), tc_icmp for errors that quote a SYN, and tc_payload
 * for a first SYN that has one; likewise for xdp. Several small programs compile
 * and verify in a fraction of the time of one large one, and a leftover of a killed
 * run, whose second stage is gone, does nothing at all.
 *
 * bcc knows maps in its one source text only, so these files are not units of
 * translation: tracer/loader/compiler.py strings them together, this one first, with SETS,
 * HASH_KEY, EVENT_RING_PAGES and PAYLOAD_RING_PAGES defined; TRANSPORT_PERF,
 * REPLAY, FILTER, PACKETS, NO_DETAILS and WITH_XDP are choices.
 */
#include "filter.h"
#include "state.h"
#include "table.h"

#define XDP_GO_ON 2   /* XDP_PASS */
#define TC_GO_ON (-1) /* TC_ACT_UNSPEC, TCX_NEXT: whoever is behind us sees the packet too */

/* Interfaces with an index below this are found without hashing. */
#ifndef NEAR_INTERFACES
#define NEAR_INTERFACES 4096
#endif

/* Filled by user space before programs are attached (loader/load.py), one element. */
BPF_ARRAY(config, struct config, 1);
/* Inserted, changed and cleared by user space as interfaces come and go (root/part.py). */
BPF_ARRAY(interfaces_near, struct interface_config, NEAR_INTERFACES);
BPF_HASH(interfaces_far, u32, struct interface_config, 1024);
/* Entries are inserted by a first SYN, freed by the segment or the sweep that settles them, all under their head's lock. */
BPF_ARRAY(flows, struct flow_set, SETS);
/* Written under the lock of the same index, read without. */
BPF_ARRAY(tags, u64, SETS);
/* The locks, and what is written under them, by whoever changes an entry's state. */
BPF_ARRAY(heads, struct flow_head, SETS);
/* Added to by programs, read by user space; nobody clears them. */
BPF_PERCPU_ARRAY(cpus, struct cpu, 1);
/* A packet's work space; programs on one CPU do not interrupt each other (BH is off). */
BPF_PERCPU_ARRAY(scratches, struct scratch, 1);
BPF_PERCPU_ARRAY(payload_scratch, struct payload_event, 1);
BPF_ARRAY(limiters, struct limiter, 1);
/* Position set by user space before each round, moved on by the sweep. */
BPF_ARRAY(sweep_states, struct sweep_state, 1);
BPF_ARRAY(sweep_scratch, struct handshake_event, 1);

/* The second stages, put in by user space before the first ones are attached. */
BPF_PROG_ARRAY(tc_stages, STAGES);
BPF_PROG_ARRAY(xdp_stages, STAGES);
#ifdef FILTER
/* Written by the filter programs, which user space puts into the stage maps (loader/load.py). */
BPF_PERCPU_ARRAY(filter_states, struct filter_state, 1);
#endif
/* Records: submitted by programs, consumed by user space (ring/drain.py). */
#ifdef TRANSPORT_PERF
BPF_PERF_OUTPUT(events);
BPF_PERF_OUTPUT(payloads);
#else
BPF_RINGBUF_OUTPUT(events, EVENT_RING_PAGES);
BPF_RINGBUF_OUTPUT(payloads, PAYLOAD_RING_PAGES);
#endif
#ifdef PACKETS
BPF_PERCPU_ARRAY(packet_scratch, struct packet_event, 1);
#ifdef TRANSPORT_PERF
BPF_PERF_OUTPUT(packets);
#else
BPF_RINGBUF_OUTPUT(packets, PACKET_RING_PAGES);
#endif
#endif

/* One look-up after the other: a choice between two maps would keep the compiler from inlining either. */
static __always_inline struct interface_config *find_interface(__u32 ifindex)
{
	struct interface_config *conf = interfaces_near.lookup(&ifindex);

	return conf ? conf : interfaces_far.lookup(&ifindex);
}
