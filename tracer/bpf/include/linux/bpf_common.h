/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* bcc's bpf.h includes it for classic BPF opcodes, which C programs do not use; see linux/types.h. */
