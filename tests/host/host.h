/* SPDX-License-Identifier: MIT */
/* What the host tests share: the lock the kernel would bring, checks that name what differs, and frames. */
#ifndef TFOTRACE_TESTS_HOST_H
#define TFOTRACE_TESTS_HOST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "types.h"

struct bpf_spin_lock {
	unsigned int v;
};

#include "event.h"
#include "flow.h"
#include "pair.h"
#include "table.h"
#include "parse_common.h"
#include "parse_icmp.h"

static int failures;
static int checks;

static inline void check_equal(unsigned long long found, unsigned long long expected, const char *what,
			       const char *name, int line)
{
	checks++;
	if (found == expected)
		return;
	failures++;
	fprintf(stderr, "line %d: %s: %s is %llu (0x%llx), expected %llu (0x%llx)\n", line, name, what, found, found,
		expected, expected);
}

/* `name` says which sentence or row of a table it is about. */
#define CHECK(name, found, expected) check_equal(found, expected, #found, name, __LINE__)

static inline int finish(const char *program)
{
	printf("%s: %d checks, %d failures\n", program, checks, failures);
	return failures || !checks;
}

/* A copy that ends where its heap block ends, so that AddressSanitizer sees one byte too many. */
static inline __u8 *exact_copy(const void *from, size_t len)
{
	__u8 *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	memcpy(copy, from, len);
	return copy;
}

static inline void put16(__u8 *to, unsigned int v)
{
	to[0] = v >> 8;
	to[1] = v;
}

static inline void put32(__u8 *to, __u32 v)
{
	put16(to, v >> 16);
	put16(to + 2, v);
}

#endif
