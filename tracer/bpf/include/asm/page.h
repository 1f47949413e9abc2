/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* bcc includes it; see linux/types.h. */
#ifndef PAGE_SIZE
#define PAGE_SIZE 4096
#endif
