/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Fixed-width types and unaligned loads for kernel programs and host tests. */
#ifndef TFOTRACE_TYPES_H
#define TFOTRACE_TYPES_H

#ifdef __KERNEL__ /* bcc defines it in every pass */

#include <linux/types.h>

/* The verifier allows unaligned loads if the CPU does: x86-64 and arm64. */
#define load_u16(p) (*(const __u16 *)(p))
#define load_u32(p) (*(const __u32 *)(p))
#define load_u64(p) (*(const __u64 *)(p))
#define store_u32(p, v) (*(__u32 *)(p) = (v))
#define store_u64(p, v) (*(__u64 *)(p) = (v))

#else

#include <stdint.h>
#include <string.h>
typedef uint8_t __u8;
typedef uint16_t __u16;
typedef uint32_t __u32;
typedef uint64_t __u64;
typedef int32_t __s32;
typedef int64_t __s64;

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

static inline void store_u32(void *p, __u32 v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void store_u64(void *p, __u64 v)
{
	memcpy(p, &v, sizeof(v));
}

#endif

/* Keep loops: the verifier can follow them, and more code takes longer to compile. */
#ifdef __clang__
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define NO_UNROLL
#endif

/*
 * The compiler merges two ends of code that differ only in a slot or a pointer. This keeps them apart: only a tail call to a
 * fixed slot is a jump, and the verifier wants one type of pointer for each store.
 */
#define KEEP_APART(number) asm volatile("" : : "i"(number))

/* bcc makes debug information for the maps' types; that of inlined functions would take a quarter of the time. */
#ifdef __KERNEL__
#undef __always_inline
#define __always_inline inline __attribute__((always_inline, nodebug))
#elif !defined(__always_inline)
#define __always_inline inline __attribute__((always_inline))
#endif

/* Copies eight bytes at a time at any alignment, unlike a compiler. `size`: a constant, a multiple of 4. */
static __always_inline void copy_words(void *to, const void *from, __u64 size)
{
#ifdef __clang__
#pragma clang loop unroll(full)
#endif
	for (__u64 at = 0; at + 8 <= size; at += 8)
		store_u64((__u8 *)to + at, load_u64((const __u8 *)from + at));
	if (size & 4)
		store_u32((__u8 *)to + size - 4, load_u32((const __u8 *)from + size - 4));
}

/* Network order to host order; both architectures are little endian. */
#define load_be16(p) __builtin_bswap16(load_u16(p))
#define load_be32(p) __builtin_bswap32(load_u32(p))

#endif
