/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The same segment again: mirrored, or at another interface of the group. And what the functions on an entry return. */
#ifndef TFOTRACE_COPIES_H
#define TFOTRACE_COPIES_H

#include "fit.h"

/* What a function here did, for the caller's counters. */
enum pair_note {
	NOTE_NONE = 0,
	NOTE_SEEN_AGAIN = 1 << 0,
	NOTE_STRAY_ACK = 1 << 1,
	NOTE_ODD_ACK = 1 << 2,
	NOTE_LATE_SYN = 1 << 3,
	NOTE_UNSOLICITED = 1 << 4,
	NOTE_OPENED_AGAIN = 1 << 5, /* the handshake goes on after its record was sent */
};

struct pair_outcome {
	int settled; /* enum settle_reason, SETTLED_NOT if the entry is still pending */
	int note;    /* enum pair_note, a bit mask */
};

static __always_inline __u8 saturating_increment(__u8 v)
{
	return v == 255 ? v : v + 1;
}

/* CPUs race for the lock and captures may be unsorted: "last" can be later than "now". */
static __always_inline __u64 wait_after(__u64 now_ns, __u64 last_ns, __u64 least_ns)
{
	__u64 wait_ns = now_ns > last_ns ? (now_ns - last_ns) * 5 / 2 : 0;

	return wait_ns > least_ns ? wait_ns : least_ns;
}

/* The same segment at another interface of the group. */
static __always_inline int is_seen_again(const struct segment *s, __u32 place, __u64 last_ns)
{
	return s->place != place && s->now_ns < last_ns + SEEN_AGAIN_NS;
}

/*
 * A mirror port's second copy (DESIGN.md section 3). What makes two segments equal is in their prints; a print without
 * timestamps or an IPv4 id says less, so copies must then follow each other more closely.
 */
static __always_inline int is_copy(const struct segment *s, __u32 print, __u64 last_ns)
{
	return s->print == print && apart(s->now_ns, last_ns) <= (print & PRINT_IS_STRONG ? COPY_NS : COPY_UNSURE_NS);
}

/* Counts a segment that leaves the entry's state alone, once where it is mirrored. Returns whether it is no copy. */
static __always_inline int count_aside(struct pending *p, const struct segment *s, __u8 *count)
{
	if (p->aside_print && p->aside_print == s->print) {
		if (is_seen_again(s, p->aside_place, p->last_aside_ns))
			return 0;
		if (is_copy(s, p->aside_print, p->last_aside_ns)) {
			p->ev.copies = saturating_increment(p->ev.copies);
			return 0;
		}
	}
	p->aside_print = s->print;
	p->aside_place = s->place;
	p->last_aside_ns = s->now_ns;
	*count = saturating_increment(*count);
	return 1;
}

#endif
