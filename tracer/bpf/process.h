/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Which process sends a SYN, and which listener answers one? This reads the
 * kernel's own structures at offsets that loader/load.py took from its BTF
 * (KERNEL_*); without them, nothing here is compiled and no process is named.
 *
 * Any process may be running when a SYN passes here: it may be sent by a timer,
 * after a neighbour's answer, from a queue that another process flushes, or from
 * behind a veth. So we name the running process only if it provably has this
 * socket: the first argument of its present system call is a descriptor of the
 * socket's file, as in connect, sendto, sendmsg, write. Nothing else that a
 * register or a stale pointer may contain is that file. All other cases are left
 * to user space (root/socket_owners.py), which gets the socket's inode number.
 */
#ifndef TFOTRACE_PROCESS_H
#define TFOTRACE_PROCESS_H

#include "kernel_read.h"
#include "state.h"

#ifdef KERNEL_SOCK_SOCKET

/* enum in include/net/tcp_states.h */
#define STATE_SYN_SENT 2
#define STATE_SYN_RECV 3
#define STATE_NEW_SYN_RECV 12

/* x86-64 and arm64 with pages of 4 KiB; elsewhere we read the wrong place and find no descriptor */
#define KERNEL_STACK_SIZE 16384

/* The file of a socket, 0 if it has none. Reads twice: a socket that is being closed has no owner. */
static __always_inline __u64 file_of(__u64 sk)
{
	__u64 socket = read_u64(sk + KERNEL_SOCK_SOCKET), file;

	if (!socket)
		return 0;
	file = read_u64(socket + KERNEL_SOCKET_FILE);
	if (!file || read_u64(file + KERNEL_FILE_PRIVATE_DATA) != socket || read_u64(sk + KERNEL_SOCK_SOCKET) != socket)
		return 0;
	return file;
}

static __always_inline __u32 inode_of(__u64 file)
{
	return file ? read_u64(read_u64(file + KERNEL_FILE_INODE) + KERNEL_INODE_NUMBER) : 0;
}

/* Does the task have this file as descriptor `fd`? */
static __always_inline int holds(__u64 task, __u64 fd, __u64 file)
{
	__u64 table = read_u64(read_u64(task + KERNEL_TASK_FILES) + KERNEL_FILES_TABLE);

	fd &= 0xffffffff; /* descriptors are ints */
	if (fd >= read_u32(table + KERNEL_TABLE_MAX))
		return 0;
	return read_u64(read_u64(table + KERNEL_TABLE_FILES) + fd * 8) == file;
}

#ifdef KERNEL_REGS_FIRST
static __always_inline int is_in_a_call_on(__u64 task, __u64 file)
{
	__u64 first = read_u64(task + KERNEL_TASK_STACK) + KERNEL_STACK_SIZE - KERNEL_REGS_SIZE + KERNEL_REGS_FIRST;

	/* with CONFIG_X86_FRED there are two words above the registers */
	return holds(task, read_u64(first), file) || holds(task, read_u64(first - 16), file);
}
#else
static __always_inline int is_in_a_call_on(__u64 task, __u64 file)
{
	return 0;
}
#endif

static __always_inline void describe_task(struct process *p, __u64 task)
{
	__u64 cgroup = read_u64(read_u64(task + KERNEL_TASK_CGROUPS) + KERNEL_CSS_SET_DEFAULT);

	/* of the process, not of the calling thread */
	read_kernel(p->name, sizeof(p->name), (const void *)(read_u64(task + KERNEL_TASK_LEADER) + KERNEL_TASK_NAME));
	p->uid = read_u32(read_u64(task + KERNEL_TASK_CRED) + KERNEL_CRED_EUID);
	p->cgroup = read_u64(read_u64(cgroup + KERNEL_CGROUP_NODE) + KERNEL_NODE_ID);
	p->pid = read_u32(task + KERNEL_TASK_TGID);
}

/* The listener whose SYN-ACK this is; the SYN-ACK's socket is a request, or with Fast Open the child. */
static __always_inline __u64 listener_of(__u64 sk, __u32 state)
{
	__u64 request = sk;

	if (state == STATE_SYN_RECV)
		request = read_u64(sk + KERNEL_TCP_FASTOPEN_REQUEST);
	else if (state != STATE_NEW_SYN_RECV)
		request = 0;
	return request ? read_u64(request + KERNEL_REQUEST_LISTENER) : 0;
}

/* Fills in sc->process and sc->segment.socket for a SYN or SYN-ACK that has a socket here. */
static __always_inline void find_process(struct __sk_buff *skb, struct scratch *sc)
{
	struct bpf_sock *owner = skb->sk;
	__u64 sk, file, task;
	__u32 state;

	if (!owner)
		return;
	state = owner->state;
	/* through memory: the verifier allows no arithmetic on a socket */
	sc->sk = (__u64)owner;
	asm volatile("" : : : "memory");
	sk = sc->sk;
	if (sc->segment.flags & TCP_ACK) {
		sk = listener_of(sk, state);
		if (sk)
			sc->segment.socket = inode_of(file_of(sk));
		return;
	}
	/* another program may have assigned an arriving SYN to a listener before us (bpf_sk_assign) */
	if (state != STATE_SYN_SENT)
		return;
	file = file_of(sk);
	if (!file)
		return;
	sc->segment.socket = inode_of(file);
#ifdef OUR_PIDS
	task = bpf_get_current_task();
	if (is_in_a_call_on(task, file))
		describe_task(&sc->process, task);
#endif
}

#else

static __always_inline void find_process(struct __sk_buff *skb, struct scratch *sc)
{
}

#endif

#endif
