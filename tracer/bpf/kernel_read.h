/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Reads the kernel's own memory, at offsets from its BTF; 0 where it cannot be read. */
#ifndef TFOTRACE_KERNEL_READ_H
#define TFOTRACE_KERNEL_READ_H

#include "types.h"

/*
 * bpf_probe_read_kernel under a name of our own. bcc looks for that one in /proc/kallsyms, and where addresses are
 * hidden (no CAP_SYSLOG) puts bpf_probe_read in its place, which the kernel allows in no tc program.
 */
static long (*read_kernel)(void *into, __u32 size, const void *from) = (void *)BPF_FUNC_probe_read_kernel;

static __always_inline __u64 read_u64(__u64 address)
{
	__u64 value = 0;

	read_kernel(&value, sizeof(value), (const void *)address);
	return value;
}

static __always_inline __u32 read_u32(__u64 address)
{
	__u32 value = 0;

	read_kernel(&value, sizeof(value), (const void *)address);
	return value;
}

#endif
