"""Which tunnel is a packet of? The two directions of one tunnel have one number, different tunnels never share one.

A tunnel is known by its network identifier (VXLAN, GENEVE), or by the two outer addresses and GRE's key. A key is
chosen by the end that receives it, so the directions of a GRE tunnel may have different ones, or only one of them
has a key. Where a pair of addresses has exactly one key that came from one end only, and the other end sends with a
key never seen before, they are taken for one tunnel. Should a key that was joined so come from both ends after all,
it gets a tunnel of its own from then on. (Pairing compares sequence numbers too, so little depends on that guess.)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np


class Kind(IntEnum):
    """What a packet is in."""

    VXLAN = 1
    GENEVE = 2
    GRE = 3
    IPIP = 4

    @property
    def word(self) -> str:
        """As records have it."""
        return self.name.lower()


# A tunnel as one direction of it has it. `around`: the tunnel that it is in, 0 if none; `id`: -1 if none; the ends only
# where tunnels are known by them
KEY = np.dtype([("around", "<u4"), ("kind", "<u4"), ("id", "<i8"), ("src", "u1", (16,)), ("dst", "u1", (16,))])
_AROUND_AND_KIND = struct.Struct("<II")
_ENDS = 16  # bytes before them
TUNNELS_MAX = 1 << 14  # of a capture: a hostile one would fill the memory


@dataclass(slots=True)
class Tunnels:
    """All tunnels of a capture. `through[number]` are the kinds that lead into that one, the outermost first."""

    through: list[tuple[str, ...]] = field(default_factory=lambda: [()])
    _numbers: dict[bytes, int] = field(default_factory=dict)  # by KEY, for each direction
    _lonely: dict[bytes, list[bytes]] = field(default_factory=dict)  # by all but the id: keys from this end only
    _joined: dict[bytes, bytes] = field(default_factory=dict)  # keys that were taken for those of one tunnel

    def numbers(self, keys: list[bytes]) -> list[int]:
        """The tunnel of each KEY; 0 if there are too many."""
        known = self._numbers
        try:
            return [known[key] for key in keys]
        except KeyError:
            return [known[key] if key in known else self._new(key) for key in keys]

    def _new(self, key: bytes) -> int:
        around, kind = _AROUND_AND_KIND.unpack_from(key)
        if len(self._numbers) >= TUNNELS_MAX:
            return 0
        back = key[:_ENDS] + key[_ENDS + 16 :] + key[_ENDS : _ENDS + 16]
        there = self._numbers.get(back)
        if kind in (Kind.VXLAN, Kind.GENEVE) or back == key:
            number = self._add(around, kind)
        elif there is None:
            number = self._join(key, back) or self._add(around, kind)
        elif back in self._joined:
            mate = self._joined.pop(back)
            del self._joined[mate]
            self._lonely.setdefault(_without_id(mate), []).append(mate)
            number = self._numbers[back] = self._add(around, kind)
        else:
            number = there
            self._lonely[_without_id(back)].remove(back)
        self._numbers[key] = number
        return number

    def _join(self, key: bytes, back: bytes) -> int:
        """Take a key for that of the other direction of a tunnel, if there is one to which it can belong."""
        others = self._lonely.get(_without_id(back), [])
        if len(others) != 1 or self._lonely.get(_without_id(key)):
            self._lonely.setdefault(_without_id(key), []).append(key)
            return 0
        mate = others.pop()
        self._joined[key], self._joined[mate] = mate, key
        return self._numbers[mate]

    def _add(self, around: int, kind: int) -> int:
        self.through.append((*self.through[around], Kind(kind).word))
        return len(self.through) - 1


def _without_id(key: bytes) -> bytes:
    return key[: _AROUND_AND_KIND.size] + key[_ENDS:]
