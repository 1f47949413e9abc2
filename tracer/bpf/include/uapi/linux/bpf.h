/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* bcc includes it; see linux/types.h. */
#include <bcc/bpf.h>
