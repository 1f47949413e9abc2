"""bpf(2) in typed functions: only what the root part needs.

All functions take plain descriptors, because the programs are loaded elsewhere. Offsets are those of `union bpf_attr`
and `struct bpf_*_info` in include/uapi/linux/bpf.h. The kernel accepts a longer attribute than it knows if the rest is
zero. All integers are in host byte order. Every function raises OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from functools import lru_cache

from tracer.linux.libc import checked, libc

# attach types (enum bpf_attach_type)
CGROUP_SOCK_OPS = 3
XDP = 37
TCX_INGRESS = 46
TCX_EGRESS = 47

# XDP attach modes (include/uapi/linux/if_link.h), for links and for netlink alike
XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
XDP_FLAGS_SKB_MODE = 1 << 1
XDP_FLAGS_DRV_MODE = 1 << 2
XDP_FLAGS_REPLACE = 1 << 4

# the kernel's internal "not supported", which bpf(2) also returns to user space
ENOTSUPP = 524

_MAP_CREATE = 0
_MAP_LOOKUP_ELEM = 1
_MAP_UPDATE_ELEM = 2
_MAP_DELETE_ELEM = 3
_PROG_LOAD = 5
_PROG_TEST_RUN = 10
_PROG_GET_FD_BY_ID = 13
_OBJ_GET_INFO_BY_FD = 15
_PROG_QUERY = 16
_RAW_TRACEPOINT_OPEN = 17
_BTF_LOAD = 18
_BTF_GET_FD_BY_ID = 19
_LINK_CREATE = 28
_UNKNOWN_COMMAND = 0x7FFFFFFF

_F_BEFORE = 1 << 3
_ATTR_SIZE = 128
_INFO_SIZE = 232

_SYSCALL_NUMBERS = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "ppc64le": 361,
    "s390x": 351,
    "armv7l": 386,
    "i686": 357,
}


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """A loaded program. `loaded_ns` (CLOCK_BOOTTIME, ns) tells it from a later program with the same id."""

    type: int
    id: int
    name: str
    tag: str
    loaded_ns: int
    run_time_ns: int
    run_count: int


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """A BPF link. `ifindex` is 0 once the interface is gone; `attach_type` is 0 if this kind of link has none."""

    type: int
    id: int
    program_id: int
    ifindex: int
    attach_type: int


@dataclass(frozen=True, slots=True)
class MapInfo:
    """A map. Sizes are bytes, without the rounding of per-CPU values. `btf_*` are 0 if it was made without BTF."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str
    btf_id: int = 0
    btf_key_type: int = 0
    btf_value_type: int = 0


@dataclass(frozen=True, slots=True)
class TestRunResult:
    """What BPF_PROG_TEST_RUN returned. `duration_ns` is the mean of the repetitions."""

    __test__ = False  # pytest would take it for a test class

    retval: int
    duration_ns: int
    data_out: bytes
    ctx_out: bytes


def syscall_number() -> int:
    """The number of bpf(2) on this machine."""
    number = _SYSCALL_NUMBERS.get(os.uname().machine)
    if number is None:
        raise OSError(ENOTSUPP, f"the number of bpf(2) on {os.uname().machine} is not known here")
    return number


_Buffer = ctypes.Array[ctypes.c_char]


def _buffer(data: bytes) -> _Buffer:
    return ctypes.create_string_buffer(data, len(data))


def _bpf(command: int, layout: str, *fields: int | bytes | _Buffer) -> tuple[int, _Buffer]:
    """Call bpf(2) with these fields, buffers by address. Returns its result and the attribute as the kernel left it."""
    attr = ctypes.create_string_buffer(_ATTR_SIZE)
    values = (ctypes.addressof(field) if isinstance(field, ctypes.Array) else field for field in fields)
    struct.pack_into(layout, attr, 0, *values)
    number, size = ctypes.c_long(syscall_number()), ctypes.c_ulong(_ATTR_SIZE)
    return checked(libc.syscall(number, ctypes.c_long(command), ctypes.byref(attr), size)), attr


def _call(command: int, layout: str, *fields: int | bytes | _Buffer) -> int:
    return _bpf(command, layout, *fields)[0]


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("ascii", "replace")


def link_create_tcx(prog_fd: int, ifindex: int, attach_type: int, before: bool = True) -> int:
    """Attach a SCHED_CLS program by a TCX link (Linux 6.6) at TCX_INGRESS or TCX_EGRESS, with `before` in first place.

    The link lives as long as the returned descriptor. EINVAL on a kernel without TCX.
    """
    return _call(_LINK_CREATE, "=IIIIIIQ", prog_fd, ifindex, attach_type, _F_BEFORE if before else 0, 0, 0, 0)


def link_create_xdp(prog_fd: int, ifindex: int, flags: int) -> int:
    """Attach an XDP program by a link (Linux 5.9); `flags` is XDP_FLAGS_DRV_MODE or _SKB_MODE.

    EBUSY or EEXIST if another program has the interface: this never replaces any.
    """
    return _call(_LINK_CREATE, "=IIII", prog_fd, ifindex, XDP, flags)


def link_create_cgroup(prog_fd: int, cgroup_fd: int, attach_type: int) -> int:
    """Attach a program to a cgroup by a link (Linux 5.7), beside those of others; `attach_type` is CGROUP_SOCK_OPS.

    EPERM where a program of an outer cgroup allows no other.
    """
    return _call(_LINK_CREATE, "=IIII", prog_fd, cgroup_fd, attach_type, 0)


def raw_tracepoint_open(name: str, prog_fd: int) -> int:
    """Attach a program of type RAW_TRACEPOINT; it hears the tracepoint as long as the returned descriptor lives.

    EINVAL if it reads more arguments than there are.
    """
    return _call(_RAW_TRACEPOINT_OPEN, "=QI", _buffer(name.encode("ascii") + b"\0"), prog_fd)


def tcx_query(ifindex: int, attach_type: int) -> tuple[int, ...]:
    """Ids of the programs on a TCX hook, in the order in which they run. EINVAL on a kernel without TCX."""
    capacity = 64  # BPF_MPROG_MAX
    ids = (ctypes.c_uint32 * capacity)()
    _, attr = _bpf(_PROG_QUERY, "=IIIIQII", ifindex, attach_type, 0, 0, ctypes.addressof(ids), capacity, 0)
    (count,) = struct.unpack_from("=I", attr, 24)
    return tuple(ids[:count])


def program_by_id(program_id: int) -> int:
    """Descriptor of a loaded program. ENOENT if there is none."""
    return _call(_PROG_GET_FD_BY_ID, "=I", program_id)


def _info(fd: int, info: _Buffer) -> _Buffer:
    _call(_OBJ_GET_INFO_BY_FD, "=IIQ", fd, len(info), info)
    return info


def program_info(fd: int) -> ProgramInfo:
    """What the kernel says about a program (struct bpf_prog_info). Run time and count need kernel.bpf_stats_enabled."""
    info = _info(fd, ctypes.create_string_buffer(_INFO_SIZE))
    kind, number, tag = struct.unpack_from("=II8s", info, 0)
    (loaded,) = struct.unpack_from("=Q", info, 40)
    (name,) = struct.unpack_from("=16s", info, 64)
    run_time, run_count = struct.unpack_from("=QQ", info, 192)
    return ProgramInfo(kind, number, _text(name), tag.hex(), loaded, run_time, run_count)


def program_info_by_id(program_id: int) -> ProgramInfo | None:
    """The same for an id; None if no such program is loaded."""
    try:
        fd = program_by_id(program_id)
    except FileNotFoundError:
        return None
    try:
        return program_info(fd)
    finally:
        os.close(fd)


def link_info(fd: int) -> LinkInfo:
    """What the kernel says about an XDP or TCX link (struct bpf_link_info)."""
    info = _info(fd, ctypes.create_string_buffer(64))
    kind, number, program_id, _, ifindex, attach_type = struct.unpack_from("=IIIIII", info, 0)
    return LinkInfo(kind, number, program_id, ifindex, attach_type)


def map_get_info(fd: int) -> MapInfo:
    """Type, sizes and name of a map (struct bpf_map_info)."""
    info = _info(fd, ctypes.create_string_buffer(80))
    kind, number, key, value, entries, flags, name = struct.unpack_from("=IIIIII16s", info, 0)
    btf, btf_key, btf_value = struct.unpack_from("=III", info, 64)
    return MapInfo(kind, number, key, value, entries, flags, _text(name), btf, btf_key, btf_value)


def map_create(info: MapInfo, btf_fd: int = 0) -> int:
    """Make an empty map like `info`; returns its descriptor. Ids are ignored, BTF types are those of `btf_fd`."""
    types = (info.btf_key_type, info.btf_value_type) if btf_fd else (0, 0)
    sizes = (info.type, info.key_size, info.value_size, info.max_entries, info.flags)
    return _call(_MAP_CREATE, "=IIIIIII16sIIII", *sizes, 0, 0, info.name.encode("ascii")[:15], 0, btf_fd, *types)


def prog_load(kind: int, name: str, code: bytes) -> int:
    """Load a GPL program of type `kind` (enum bpf_prog_type) from struct bpf_insn; returns its descriptor.

    EACCES, EINVAL and the like if the verifier refuses it.
    """
    where = (_buffer(code), _buffer(b"GPL\0"))
    return _call(_PROG_LOAD, "=IIQQIIQII16s", kind, len(code) // 8, *where, 0, 0, 0, 0, 0, name.encode("ascii")[:15])


def btf_load(data: bytes) -> int:
    """Load type information (Documentation/bpf/btf.rst); returns its descriptor."""
    return _call(_BTF_LOAD, "=QQII", _buffer(data), 0, len(data), 0)


def answers_unknown_commands() -> bool:
    """Does bpf(2) say EINVAL to a command that no kernel has? A filter of system calls would say something else."""
    try:
        _call(_UNKNOWN_COMMAND, "=I", 0)
    except OSError as error:
        return error.errno == errno.EINVAL
    return True


def may_read_btf() -> bool:
    """Does the kernel show the types of maps? That takes CAP_SYS_ADMIN, while loading takes CAP_BPF."""
    try:
        btf_by_id(0)  # no object has this id
    except PermissionError:
        return False
    except OSError:
        pass
    return True


def btf_by_id(btf_id: int) -> bytes:
    """Type information in the kernel, as it was loaded. ENOENT if there is none with that id."""
    fd = _call(_BTF_GET_FD_BY_ID, "=I", btf_id)
    try:
        size = 1 << 20
        buffer = ctypes.create_string_buffer(size)
        info = ctypes.create_string_buffer(16)  # struct bpf_btf_info: address, size, id
        struct.pack_into("=QI", info, 0, ctypes.addressof(buffer), size)
        (used,) = struct.unpack_from("=I", _info(fd, info), 8)
        if used > size:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return buffer.raw[:used]
    finally:
        os.close(fd)


def map_lookup_elem(fd: int, key: bytes, value_size: int) -> bytes:
    """The value of `key`. ENOENT if it is not there.

    `value_size` must be what the kernel copies, or memory is overrun. In a per-CPU map that is one value, rounded up to
    8 bytes, for each possible CPU.
    """
    value = ctypes.create_string_buffer(value_size)
    _call(_MAP_LOOKUP_ELEM, "=IIQQ", fd, 0, _buffer(key), value)
    return value.raw


def map_lookup_per_cpu(fd: int, key: bytes, value_size: int) -> list[bytes]:
    """The value of each possible CPU, `value_size` bytes each (MapInfo.value_size)."""
    step = (value_size + 7) // 8 * 8
    raw = map_lookup_elem(fd, key, step * possible_cpus())
    return [raw[start : start + value_size] for start in range(0, len(raw), step)]


def map_update_elem(fd: int, key: bytes, value: bytes, flags: int = 0) -> None:
    """Set the value of `key`. Per-CPU maps take the rounded values of all possible CPUs, joined."""
    _call(_MAP_UPDATE_ELEM, "=IIQQQ", fd, 0, _buffer(key), _buffer(value), flags)


def map_delete_elem(fd: int, key: bytes) -> None:
    """Remove `key`. ENOENT if it is not there."""
    _call(_MAP_DELETE_ELEM, "=IIQ", fd, 0, _buffer(key))


def prog_test_run(prog_fd: int, data: bytes, ctx_in: bytes = b"", repeat: int = 1) -> TestRunResult:
    """Run a program over one frame (BPF_PROG_TEST_RUN), `repeat` times.

    `ctx_in` is a struct __sk_buff or xdp_md, or empty. EINVAL for frames below 14 or above about 4,000 bytes.
    """
    out = ctypes.create_string_buffer(len(data) + 256)  # XDP may grow the frame by its headroom
    ctx_out = _buffer(ctx_in)
    frame = (len(data), len(out), _buffer(data), out)
    context = (len(ctx_in), len(ctx_in), *((_buffer(ctx_in), ctx_out) if ctx_in else (0, 0)))
    _, attr = _bpf(_PROG_TEST_RUN, "=IIIIQQIIIIQQ", prog_fd, 0, *frame, repeat, 0, *context)
    (retval,) = struct.unpack_from("=I", attr, 4)
    (size,) = struct.unpack_from("=I", attr, 12)
    duration, _, ctx_size = struct.unpack_from("=III", attr, 36)
    return TestRunResult(retval, duration, out.raw[:size], ctx_out.raw[:ctx_size])


@lru_cache(maxsize=1)
def possible_cpus() -> int:
    """Number of possible CPUs, each with a value in a per-CPU map (/sys/devices/system/cpu/possible: like "0-3,8")."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        text = file.read().strip()
    count = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count
