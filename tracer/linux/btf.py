"""What the running kernel says about its own types (BTF): offsets of members, names in enums, arguments of tracepoints.

Source: Documentation/bpf/btf.rst. All numbers are in host byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

KERNEL = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_HEADER = struct.Struct("=HBBIIIII")  # magic, version, flags, header, types' offset and length, strings'
_POINTER, _STRUCT, _UNION, _ENUM, _FUNCTION = 2, 4, 5, 6, 13
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG = 8, 9, 10, 11, 18
# words of a type beyond its first three: (always, for each of vlen)
_EXTRA = {
    1: (1, 0), 3: (3, 0), 4: (0, 3), 5: (0, 3), 6: (0, 2), 13: (0, 2), 14: (1, 0), 15: (0, 3), 17: (1, 0), 19: (0, 3),
}  # fmt: skip

_NAMES = {_STRUCT: "struct", _ENUM: "enum", _TYPEDEF: "type"}


class BtfError(Exception):
    """The kernel does not describe its types, or does not describe this one."""


class Btf:
    """Types of one kernel. Raises BtfError if the data is not BTF."""

    def __init__(self, data: bytes) -> None:
        try:
            magic, version, _, header, types, types_len, strings, strings_len = _HEADER.unpack_from(data)
        except struct.error:
            raise BtfError("cut short") from None
        if magic != _MAGIC or version != 1:
            raise BtfError("not BTF, or of another version")
        start = header + types
        self._words = memoryview(data)[start : start + types_len].cast("I")
        self._strings = data[header + strings : header + strings + strings_len]
        self._at = self._positions()

    @classmethod
    def of_kernel(cls, path: Path = KERNEL) -> Btf:
        """The running kernel's. Raises BtfError."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise BtfError(f"{path}: {error.strerror}") from None

    def _positions(self) -> list[int]:
        words, at = self._words, [0]  # type 0 is void
        fixed = [_EXTRA.get(kind, (0, 0))[0] for kind in range(32)]
        each = [_EXTRA.get(kind, (0, 0))[1] for kind in range(32)]
        place, end = 0, len(words)
        while place + 3 <= end:
            at.append(place)
            info = words[place + 1]
            kind = info >> 24 & 31
            place += 3 + fixed[kind] + each[kind] * (info & 0xFFFF)
        return at

    def _kind(self, at: int) -> int:
        return self._words[at + 1] >> 24 & 31

    def _find(self, name: str, kind: int = _STRUCT) -> int:
        """Position of the type of that name and kind."""
        offset = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        if offset:
            for at in self._at[1:]:
                if self._words[at] == offset and self._kind(at) == kind:
                    return at
        raise BtfError(f"the kernel does not describe {_NAMES[kind]} {name}")

    def size(self, name: str) -> int:
        """Size of a struct in bytes. Raises BtfError."""
        return self._words[self._find(name) + 2]

    def offset(self, name: str, member: str) -> int:
        """Bytes from the start of struct `name` to a member, which may be inside unnamed unions. Raises BtfError."""
        for found, offset in self._members(self._find(name)):
            if found == member:
                return offset
        raise BtfError(f"struct {name} has no member {member} in this kernel")

    def enum(self, name: str) -> dict[int, str]:
        """Names in an enum of 32 bits by their numbers. Raises BtfError."""
        at = self._find(name, _ENUM)
        found = {}
        for member in range(self._words[at + 1] & 0xFFFF):
            text, value = self._words[at + 3 + member * 2 : at + 5 + member * 2]
            found[value] = self._text(text)
        return found

    def tracepoint_arguments(self, name: str) -> int:
        """How many arguments a raw tracepoint's program gets. Raises BtfError."""
        at = self._find(f"btf_trace_{name}", _TYPEDEF)
        for kind in (_POINTER, _FUNCTION):
            at = self._at[self._words[at + 2]]
            if self._kind(at) != kind:
                raise BtfError(f"the kernel does not describe the arguments of the tracepoint {name}")
        return (self._words[at + 1] & 0xFFFF) - 1  # the first is the tracepoint's own

    def _members(self, at: int) -> Iterator[tuple[str, int]]:
        info = self._words[at + 1]
        has_bitfields = info >> 31
        for member in range(info & 0xFFFF):
            name, kind, bits = self._words[at + 3 + member * 3 : at + 6 + member * 3]
            if has_bitfields:
                if bits >> 24:
                    continue
                bits &= 0xFFFFFF
            if name:
                yield self._text(name), bits // 8
                continue
            inner = self._plain(kind)
            if inner is not None:
                for deeper, offset in self._members(inner):
                    yield deeper, bits // 8 + offset

    def _plain(self, kind: int) -> int | None:
        """Position of the struct or union that a type is, without const and the like."""
        for _ in range(16):
            at = self._at[kind]
            if self._kind(at) in (_STRUCT, _UNION):
                return at
            if self._kind(at) not in (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG):
                return None
            kind = self._words[at + 2]
        return None

    def _text(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode("ascii", "replace")
