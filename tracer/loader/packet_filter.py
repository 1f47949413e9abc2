"""--filter: tcpdump's expressions, which libpcap compiles to classic BPF (pcap-filter(7), pcap_compile(3PCAP)).

Each expression is compiled for interfaces with an Ethernet header and for those without. It means the same as for
`tcpdump -r`: a VLAN tag is part of the packet, `len` is the length on the wire. It judges only the first SYN of a
handshake (bpf/filter.h), and all that follows belongs to that handshake.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from tracer.errors import UsageError
from tracer.linux.libpcap import library

DLT_EN10MB = 1
DLT_RAW = 12
SNAPLEN = 262144  # tcpdump's
INSTRUCTIONS_MAX = 2000  # classic ones: the verifiers of 5.10 and newer follow so many
_NETMASK = 0  # what tcpdump uses for a file
_TEXT_MAX = 65536
_JUMP_ALWAYS = 0x05
_LOAD_MASK, _LOAD_FIXED = 0xE7, 0x20  # without its size
_BESIDE_THE_PACKET = range(0xFFFFF000, 0xFFFFF040)  # SKF_AD_OFF (linux/filter.h): data that only a socket has


@dataclass(frozen=True, slots=True)
class Instruction:
    """struct bpf_insn of pcap/bpf.h."""

    code: int
    jt: int
    jf: int
    k: int


Code = tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class PacketFilter:
    """A parsed expression. `without_link` is for interfaces without an Ethernet header (tun, WireGuard); None if
    `why_not` rules them out."""

    text: str
    ethernet: Code
    without_link: Code | None
    why_not: str = ""


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint), ("instructions", ctypes.POINTER(_Instruction))]


class RefusedError(Exception):
    """libpcap's reason."""


def _said(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split()).removeprefix("can't parse filter expression: ")


def compile_for(text: str, link: int) -> Code:
    """Classic BPF for packets of a link type (DLT_ number).

    Raises:
        RefusedError: libpcap does not understand the expression, or nothing can ever match it.
        CannotTraceError: libpcap is missing.
    """
    lib = library()
    handle = lib.pcap_open_dead(link, SNAPLEN)
    if not handle:
        raise RefusedError("libpcap is out of memory")
    program = _Program()
    try:
        if lib.pcap_compile(handle, ctypes.byref(program), text.encode("utf-8", "surrogateescape"), 1, _NETMASK) != 0:
            raise RefusedError(_said(lib.pcap_geterr(handle)))
        try:
            found = program.instructions[: program.length]
            code = tuple(Instruction(one.code, one.jt, one.jf, one.k) for one in found)
        finally:
            lib.pcap_freecode(ctypes.byref(program))
    finally:
        lib.pcap_close(handle)
    if any(one.code == _JUMP_ALWAYS and at + 1 + one.k >= len(code) for at, one in enumerate(code)):
        raise RefusedError("protochain needs a loop, which the kernel does not allow")
    if any(one.code & _LOAD_MASK == _LOAD_FIXED and one.k in _BESIDE_THE_PACKET for one in code):
        raise RefusedError("inbound, outbound and the like ask for what is not in the packet")
    return code


def parse(text: str) -> PacketFilter:
    """Parse an expression; a blank one lets everything through.

    Raises:
        UsageError: it is not valid; the sentence says why.
        CannotTraceError: libpcap is missing.
    """
    if "\0" in text or len(text) > _TEXT_MAX:
        raise UsageError("--filter: an expression has no NUL in it and at most 65,536 characters")
    try:
        ethernet = compile_for(text, DLT_EN10MB)
    except RefusedError as error:
        raise UsageError(f"--filter: {error}: write it like 'dst port 443' (man pcap-filter)") from None
    without_link: Code | None = None
    why_not = ""
    try:
        without_link = compile_for(text, DLT_RAW)
    except RefusedError as error:
        why_not = str(error)
    longest = max(len(ethernet), len(without_link or ()))
    if longest > INSTRUCTIONS_MAX:
        raise UsageError(f"--filter: this makes {longest:,} instructions of at most {INSTRUCTIONS_MAX:,}: shorten it")
    return PacketFilter(text, ethernet, without_link, why_not)
