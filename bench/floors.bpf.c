/* SPDX-License-Identifier: MIT */
/* Each program does one operation that a packet can cost, to compare with the one that does nothing. */
#include "event.h"

#define SETS 8192
#define RING_PAGES 2048

struct locked {
	struct bpf_spin_lock lock;
	u32 pad;
	u64 value;
};

BPF_ARRAY(array, u64, SETS);
BPF_PERCPU_ARRAY(counters, u64, 1);
BPF_HASH(hash, u32, u64, 1024);
BPF_ARRAY(locks, struct locked, SETS);
BPF_PERCPU_ARRAY(records, struct handshake_event, 1);
BPF_RINGBUF_OUTPUT(ring, RING_PAGES);
BPF_PROG_ARRAY(next, 1);

int floor_empty(struct __sk_buff *skb)
{
	return -1;
}

int floor_hash(struct __sk_buff *skb)
{
	u32 key = 77;

	return hash.lookup(&key) ? 0 : -1;
}

int floor_array(struct __sk_buff *skb)
{
	u32 key = 77;
	u64 *value = array.lookup(&key);

	return value && *value ? 0 : -1;
}

int floor_counter(struct __sk_buff *skb)
{
	int zero = 0;
	u64 *value = counters.lookup(&zero);

	if (value)
		*value += 1;
	return -1;
}

int floor_clock(struct __sk_buff *skb)
{
	return bpf_ktime_get_ns() == 1 ? 0 : -1;
}

int floor_lock(struct __sk_buff *skb)
{
	u32 key = 77;
	struct locked *l = locks.lookup(&key);

	if (!l)
		return -1;
	bpf_spin_lock(&l->lock);
	l->value++;
	bpf_spin_unlock(&l->lock);
	return -1;
}

int floor_record(struct __sk_buff *skb)
{
	int zero = 0;
	struct handshake_event *from = records.lookup(&zero);
	struct handshake_event *to = ring.ringbuf_reserve(sizeof(struct handshake_event));

	if (!to)
		return -1;
	if (from)
		*to = *from;
	ring.ringbuf_submit(to, BPF_RB_NO_WAKEUP);
	return -1;
}

int floor_output(struct __sk_buff *skb)
{
	int zero = 0;
	struct handshake_event *from = records.lookup(&zero);

	if (from)
		ring.ringbuf_output(from, sizeof(*from), BPF_RB_NO_WAKEUP);
	return -1;
}

int floor_jump(struct __sk_buff *skb)
{
	next.call(skb, 0);
	return -1;
}
