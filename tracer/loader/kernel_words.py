"""Load the programs that hear why the kernel dropped a segment or sent a reset (bpf/drops.bpf.c), beside the others.

Nobody depends on them: where the kernel does not give its reasons, or refuses these programs, tracing goes on without.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from tracer.ipc.event_header import BPF_DIR
from tracer.linux.btf import Btf, BtfError
from tracer.loader import artifact, cache, compiler
from tracer.loader.artifact import Artifact

PAGE_SIZE = 4096
FREED, RESET = "freed_segment", "sent_reset"
SHARED_MAPS = ("config", "interfaces_near", "interfaces_far", "tags", "cpus")  # those of the other programs
RING = "drops"
TRACEPOINTS = {FREED: "kfree_skb", RESET: "tcp_send_reset"}
NOT_SPECIFIED = "NOT_SPECIFIED"
# A copy for a packet socket or a mirror port was freed, or a segment that TCP had taken: no handshake failed by that.
IDLE = frozenset({"OTHERHOST", "PACKET_SOCK_ERROR", "QUEUE_PURGE", "TCP_RESET", "TCP_CLOSE", "SOCKET_CLOSE"})
_MASKED, _LOW = 128, (1 << 64) - 1
# arguments with which a tracepoint also gives the reason
_WITH_REASON = 3
_PREFIXES = {"skb_drop_reason": "SKB_DROP_REASON_", "sk_rst_reason": "SK_RST_REASON_"}

# macro: struct and member
_MEMBERS = {
    "SKB_DEV": ("sk_buff", "dev"),
    "SKB_SK": ("sk_buff", "sk"),
    "SKB_ROUTE": ("sk_buff", "_skb_refdst"),
    "SKB_IIF": ("sk_buff", "skb_iif"),
    "SKB_PROTOCOL": ("sk_buff", "protocol"),
    "SKB_NETWORK_HEADER": ("sk_buff", "network_header"),
    "SKB_TAIL": ("sk_buff", "tail"),
    "SKB_HEAD": ("sk_buff", "head"),
    "ROUTE_DEV": ("dst_entry", "dev"),
    "DEV_IFINDEX": ("net_device", "ifindex"),
    "DEV_RX_HANDLER": ("net_device", "rx_handler"),
    "DEV_NET": ("net_device", "nd_net"),
    "SOCK_NET": ("sock_common", "skc_net"),
    "SOCK_FAMILY": ("sock_common", "skc_family"),
    "SOCK_DESTINATION": ("sock_common", "skc_daddr"),  # and behind it the source
    "SOCK_DESTINATION6": ("sock_common", "skc_v6_daddr"),
    "SOCK_SOURCE6": ("sock_common", "skc_v6_rcv_saddr"),
    "SOCK_PORTS": ("sock_common", "skc_dport"),
}
_SKB_READ_MAX = 128  # bytes from skb_iif to head; they are copied to the program's stack


class Words(msgspec.Struct, frozen=True):
    """What was loaded: names of programs, and the names of reasons by their numbers. Their descriptors go beside it.

    No programs: `why` says what the kernel lacks, or, where it `failed`, what went wrong.
    """

    programs: list[str] = []
    drop_reasons: dict[int, str] = {}
    reset_reasons: dict[int, str] = {}
    why: str = ""
    failed: bool = False


class CannotHearError(Exception):
    """The kernel does not give its reasons."""


def load(
    flags: list[str], ring_bytes: int, hash_key: int, maps: Mapping[str, int], *, keep: bool
) -> tuple[Words, list[int]]:
    """Load them with the flags and maps of the other programs; never raises.

    The descriptors are those of the programs, and of the ring.
    """
    flags = flags_with_ring(flags, ring_bytes)
    try:
        key = cache_key(flags)
        made = cache.fetch(key, cache.DIRECTORY) if key is not None else None
        if made is None:
            made = compiled(flags)
            if keep and key is not None:
                with suppress(OSError):
                    cache.store(key, made, cache.DIRECTORY)
        shared = {name: maps[name] for name in SHARED_MAPS}
        programs, own = artifact.load(made, hash_key, shared)
    except CannotHearError as error:
        return Words(why=str(error)), []
    except Exception as error:  # bcc raises bare Exception, and tracing must begin all the same  # noqa: BLE001
        return Words(why=f"the kernel refuses the programs that hear its reasons: {error}"[:300], failed=True), []
    names = list(programs)
    return _words(names, made), [*programs.values(), own[RING]]


def _words(programs: list[str], made: Artifact) -> Words:
    return Words(programs, made.words["skb_drop_reason"], made.words.get("sk_rst_reason", {}))


def flags_with_ring(flags: list[str], ring_bytes: int) -> list[str]:
    """The flags of the other programs, and the size of the ring."""
    return [*flags, f"-DDROP_RING_PAGES={ring_bytes // PAGE_SIZE}"]


def cache_key(flags: list[str]) -> str | None:
    """Under which the programs with these flags are kept."""
    return cache.key(BPF_DIR, flags, (*TRACEPOINTS, *SHARED_MAPS, RING))


def compiled(flags: list[str]) -> Artifact:
    """Raises CannotHearError, and Exception: the compiler refuses."""
    offsets, words = of_kernel()
    programs = [FREED] + ([RESET] if "sk_rst_reason" in words else [])
    hash_key = artifact.random_hash_key()
    flags = [*flags, f"-DHASH_KEY={hash_key:#x}ULL", *offsets]
    made = compiler.make_words(flags, programs, (*SHARED_MAPS, RING), hash_key)
    return msgspec.structs.replace(made, words=words)


def of_kernel() -> tuple[list[str], dict[str, dict[int, str]]]:
    """Compiler flags with this kernel's layout, and the names of its reasons. Raises CannotHearError."""
    try:
        btf = Btf.of_kernel()
        freed = btf.tracepoint_arguments(TRACEPOINTS[FREED])
        if freed < _WITH_REASON:
            raise CannotHearError("this kernel does not say why it drops a packet: that takes Linux 5.17")
        words = {"skb_drop_reason": _names(btf, "skb_drop_reason")}
        offsets = {macro: btf.offset(*where) for macro, where in _MEMBERS.items()}
        offsets["NET_INODE"] = btf.offset("net", "ns") + btf.offset("ns_common", "inum")
    except (BtfError, IndexError, ValueError) as error:
        raise CannotHearError(f"this kernel does not describe what is needed to hear its reasons: {error}") from None
    if not 0 < offsets["SKB_HEAD"] - offsets["SKB_IIF"] <= _SKB_READ_MAX - 8:
        raise CannotHearError("this kernel's sk_buff is not laid out as expected")
    with suppress(BtfError):  # a kernel without conntrack
        offsets["SKB_CONNTRACK"] = btf.offset("sk_buff", "_nfct")
    no_reason = next((number for number, name in words["skb_drop_reason"].items() if name == NOT_SPECIFIED), -1)
    flags = [f"-DKERNEL_{macro}={value}" for macro, value in offsets.items()]
    idle = sum(1 << number for number, name in words["skb_drop_reason"].items() if name in IDLE and number < _MASKED)
    flags += [f"-DIDLE_REASONS_LOW={idle & _LOW:#x}ULL", f"-DIDLE_REASONS_HIGH={idle >> 64:#x}ULL"]
    flags += [f"-DFREED_ARGUMENTS={freed}", f"-DREASON_NOT_SPECIFIED={no_reason}U"]
    with suppress(BtfError, IndexError, ValueError):  # older kernels do not say why they reset
        if btf.tracepoint_arguments(TRACEPOINTS[RESET]) >= _WITH_REASON:
            words["sk_rst_reason"] = _names(btf, "sk_rst_reason")
            flags.append("-DWITH_RESETS")
    return flags, words


def _names(btf: Btf, enum: str) -> dict[int, str]:
    prefix = _PREFIXES[enum]
    return {number: name.removeprefix(prefix) for number, name in btf.enum(enum).items()}


def close(fds: list[int]) -> None:
    """Close descriptors that nobody needs."""
    for fd in fds:
        os.close(fd)
