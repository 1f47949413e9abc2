/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* bcc includes it first; see linux/types.h. */
#include <linux/types.h>
