/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The maps, and a packet's path, which has two stages. The attached programs
 * (read.bpf.c: tc_ingress, tc_egress, xdp_ingress) read: frame -> headers
 * (parse_common.h) -> tag filter (table.h) -> scratch. Only SYNs and segments of
 * tracked connections go on, by tail call, to the second stage (pair.bpf.c: tc_pair,
 * xdp_pair): options -> pending entry under its set's lock (pair.h) -> ring. Beside
 * this path, tc_uncommon reads packets that are not of the common kind (the other
 * parse_*.h), tc_icmp reads errors that quote a SYN, and tc_payload copies the
 * payload of a first SYN; likewise for xdp. Several small programs compile and
 * verify in a fraction of the time of one large one, and what a killed run leaves
 * does nothing, since its second stage is gone.
 *
 * bcc knows maps only within one source text, so these files are not translation
 * units: tracer/loader/compiler.py concatenates them, this one first, with SETS,
 * HASH_KEY, EVENT_RING_PAGES and PAYLOAD_RING_PAGES defined; TRANSPORT_PERF,
 * REPLAY, FILTER, PACKETS, NO_DETAILS and WITH_XDP are optional.
 */
#include "filter.h"
#include "state.h"
#include "table.h"

#define XDP_GO_ON 2   /* XDP_PASS */
#define TC_GO_ON (-1) /* TC_ACT_UNSPEC, TCX_NEXT: programs behind us see the packet too */

/* So many slots hold interfaces that are found without hashing, and so many more interfaces may be traced. */
#ifndef NEAR_INTERFACES
#define NEAR_INTERFACES 16384
#define FAR_INTERFACES 8192
#endif

/* Filled by user space before programs are attached (loader/load.py), one element. */
BPF_ARRAY(config, struct config, 1);
/*
 * Inserted, changed and cleared by user space as interfaces come and go (root/kernel.py). An interface has the slot of
 * its index modulo NEAR_INTERFACES, and is in the hash map where another one has that. Indexes grow for as long as a
 * host runs, but those of one time are mostly close to each other.
 */
BPF_ARRAY(interfaces_near, struct interface_config, NEAR_INTERFACES);
BPF_HASH(interfaces_far, u32, struct interface_config, FAR_INTERFACES);
/* A first SYN inserts entries, the segment or sweep that settles them frees them, all under their head's lock. */
BPF_ARRAY(flows, struct flow_set, SETS);
/* Written under the lock of the same index, read without it. */
BPF_ARRAY(tags, u64, SETS);
/* The locks, and what is written under them at every change of an entry's state. */
BPF_ARRAY(heads, struct flow_head, SETS);
/* A SYN-ACK without an entry is kept here under the slot's lock; a SYN that follows at once, or the end, takes it. */
BPF_ARRAY(early_synacks, struct early_synack, EARLY_SLOTS);
/* Programs add to them, user space reads them; nobody clears them. */
BPF_PERCPU_ARRAY(cpus, struct cpu, 1);
/* A packet's work space; programs on one CPU do not interrupt each other (BH is off). */
BPF_PERCPU_ARRAY(scratches, struct scratch, 1);
BPF_PERCPU_ARRAY(payload_scratch, struct payload_event, 1);
BPF_ARRAY(limiters, struct limiter, 1);
/* User space sets the position before each round, the sweep advances it. */
BPF_ARRAY(sweep_states, struct sweep_state, 1);
BPF_ARRAY(sweep_scratch, struct handshake_event, 1);

/* The second stages; user space inserts them before it attaches the first ones. */
BPF_PROG_ARRAY(tc_stages, STAGES);
BPF_PROG_ARRAY(xdp_stages, STAGES);
#ifdef FILTER
/* Written by the filter programs, which user space inserts into the stage maps (loader/load.py). */
BPF_PERCPU_ARRAY(filter_states, struct filter_state, 1);
#endif
/* Programs submit records, user space consumes them (ring/drain.py). */
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

/* The slot of this interface, which another one may have: compare `ifindex`. */
static __always_inline struct interface_config *interface_slot(__u32 ifindex)
{
	__u32 slot = ifindex % NEAR_INTERFACES;

	return interfaces_near.lookup(&slot);
}

/* Two look-ups in a row: a choice between two maps would keep the compiler from inlining either. */
static __always_inline struct interface_config *find_interface(__u32 ifindex)
{
	struct interface_config *conf = interface_slot(ifindex);

	if (conf && conf->ifindex == ifindex)
		return conf;
	return interfaces_far.lookup(&ifindex);
}
