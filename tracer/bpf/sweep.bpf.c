/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Settles records at their deadline, and all of them at the end. */
#include "follow.h"

static __always_inline void forget_early(__u32 index)
{
	struct early_synack *early;

	index &= EARLY_SLOTS - 1;
	early = early_synacks.lookup(&index);
	if (early)
		early->hash = 0;
}

/*
 * Sweeps one set per run: user space runs it SETS times per round (BPF_PROG_TEST_RUN's repeat). It does not
 * touch entries before their deadline, which would go through the caches in every round.
 */
int sweep(struct __sk_buff *skb)
{
	struct sweep_state *state;
	struct handshake_event *out;
	struct flow_head *head;
	struct flow_set *set;
	__u64 *set_tags;
	__u64 now;
	__u32 index;
	int zero = 0;

	state = sweep_states.lookup(&zero);
	out = sweep_scratch.lookup(&zero);
	if (!state || !out)
		return 0;
	index = state->cursor++ & (SETS - 1);
	set_tags = tags.lookup(&index);
	if (!set_tags || (!*set_tags && !state->flush))
		return 0;
	set = flows.lookup(&index);
	head = heads.lookup(&index);
	if (!set || !head)
		return 0;
	if (state->flush)
		forget_early(index);
	now = state->now_ns ? state->now_ns : bpf_ktime_get_ns();
	if (!state->flush && now < head->due_ns) {
		state->live += live_ways(head);
		return 0;
	}
	/* computed again below; opening an entry meanwhile lowers it too */
	bpf_spin_lock(&head->lock);
	head->due_ns = ~0ULL;
	bpf_spin_unlock(&head->lock);
	NO_UNROLL
	for (int i = 0; i < WAYS; i++) {
		struct pending *p = &set->way[i];
		int settled = 0, live;

		if (!(*set_tags >> i * 8 & 0xff))
			continue;
		bpf_spin_lock(&head->lock);
		live = pending_is_live(p);
		if (p->state == PENDING_TOMBSTONE) {
			if (state->flush || now >= p->deadline_ns) {
				p->state = PENDING_FREE;
				*set_tags = with_tag(*set_tags, i, 0);
			}
		} else if (live && (state->flush || now >= p->deadline_ns)) {
			if (!settle(p, state->flush ? SETTLED_AT_END : SETTLED_BY_TIMEOUT, now) || state->flush) {
				p->state = PENDING_FREE;
				*set_tags = with_tag(*set_tags, i, 0);
			}
			*out = p->ev;
			settled = 1;
			live = 0;
		}
		keep_head(head, i, p);
		bpf_spin_unlock(&head->lock);
		state->live += live;
		if (settled)
			send_event(skb, out, &state->counters);
	}
	return 0;
}
