"""Compiler flags that tell bpf/process.h the running kernel's layout, so that it finds out whose socket a packet is."""

from __future__ import annotations

import os
from contextlib import suppress

from tracer.linux.btf import KERNEL, Btf, BtfError

# macro: struct and member
_MEMBERS = {
    "SOCK_SOCKET": ("sock", "sk_socket"),
    "SOCKET_FILE": ("socket", "file"),
    "FILE_PRIVATE_DATA": ("file", "private_data"),
    "FILE_INODE": ("file", "f_inode"),
    "INODE_NUMBER": ("inode", "i_ino"),
    "REQUEST_LISTENER": ("sock_common", "skc_listener"),  # a request_sock begins with a sock_common
    "TCP_FASTOPEN_REQUEST": ("tcp_sock", "fastopen_rsk"),
    "TASK_FILES": ("task_struct", "files"),
    "FILES_TABLE": ("files_struct", "fdt"),
    "TABLE_MAX": ("fdtable", "max_fds"),
    "TABLE_FILES": ("fdtable", "fd"),
    "TASK_STACK": ("task_struct", "stack"),
    "TASK_LEADER": ("task_struct", "group_leader"),
    "TASK_TGID": ("task_struct", "tgid"),
    "TASK_NAME": ("task_struct", "comm"),
    "TASK_CRED": ("task_struct", "cred"),
    "CRED_EUID": ("cred", "euid"),
    "TASK_CGROUPS": ("task_struct", "cgroups"),
    "CSS_SET_DEFAULT": ("css_set", "dfl_cgrp"),
    "CGROUP_NODE": ("cgroup", "kn"),
    "NODE_ID": ("kernfs_node", "id"),
}
# the member of struct pt_regs with a system call's first argument
_FIRST_ARGUMENT = {"x86_64": "di", "aarch64": "orig_x0"}
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # inode; include/linux/proc_ns.h, PROC_PID_INIT_INO


def sees_all_pids() -> bool:
    """Are the kernel's process ids those of /proc? In a container they are not."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        return False


def variant_flags() -> list[str]:
    """Flags in which two runs on the same kernel may differ."""
    return ["-DOUR_PIDS"] if sees_all_pids() else []


def offset_flags() -> list[str]:
    """Offsets in this kernel's structures; empty if it does not describe them. Takes a tenth of a second."""
    argument = _FIRST_ARGUMENT.get(os.uname().machine)
    if argument is None or not KERNEL.exists():
        return []
    try:
        btf = Btf.of_kernel()
        values = {macro: btf.offset(*where) for macro, where in _MEMBERS.items()}
    except (BtfError, IndexError, ValueError):
        return []
    # if the kernel keeps registers in another way (User Mode Linux), only user space looks for clients
    with suppress(BtfError, IndexError, ValueError):
        values |= {"REGS_FIRST": btf.offset("pt_regs", argument), "REGS_SIZE": btf.size("pt_regs")}
    return [f"-DKERNEL_{macro}={value}" for macro, value in values.items()]
