/* SPDX-License-Identifier: MIT */
/* Sends records of tfotrace's size in the ways that bcc's tools use. */
#include "event.h"

#define RING_PAGES 2048

BPF_PERCPU_ARRAY(records, struct handshake_event, 1);
BPF_PERF_OUTPUT(perf);
BPF_RINGBUF_OUTPUT(ring, RING_PAGES);

int send_perf(struct __sk_buff *skb)
{
	int zero = 0;
	struct handshake_event *from = records.lookup(&zero);

	if (from)
		perf.perf_submit(skb, from, sizeof(*from));
	return -1;
}

int send_ring(struct __sk_buff *skb)
{
	int zero = 0;
	struct handshake_event *from = records.lookup(&zero);

	if (from)
		ring.ringbuf_output(from, sizeof(*from), BPF_RB_NO_WAKEUP);
	return -1;
}
