/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Fixed-width types and unaligned loads that kernel programs and host tests share. */
#ifndef TFOTRACE_TYPES_H
#define TFOTRACE_TYPES_H

#ifdef __KERNEL__ /* bcc defines it in every pass */

#include <linux/types.h>

/* The verifier allows unaligned loads where the CPU has them: x86-64 and arm64. */
#define load_u16(p) (*(const __u16 *)(p))
#define load_u32(p) (*(const __u32 *)(p))
#define load_u64(p) (*(const __u64 *)(p))

#else

#include <stdint.h>
#include <string.h>
typedef uint8_t __u8;
typedef uint16_t __u16;
typedef uint32_t __u32;
typedef uint64_t __u64;
typedef int32_t __s32;

static inline __u16 load_u16(const void *p)
{
	__u16 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline __u32 load_u32(const void *p)
{
	__u32 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline __u64 load_u64(const void *p)
{
	__u64 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

#endif

/* Loops stay loops: the verifier walks them, and code size is compile time. */
#ifdef __clang__
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define NO_UNROLL
#endif

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* Network order to host order; both architectures are little endian. */
#define load_be16(p) __builtin_bswap16(load_u16(p))
#define load_be32(p) __builtin_bswap32(load_u32(p))

#endif
