"""The programs on an interface's hooks, and those that run before ours."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from tracer.attach import clsact, tcx, xdp
from tracer.linux import bpfsys

OWN_NAME = "tfotrace-"  # how the names of this program's own clsact filters begin


@dataclass(frozen=True, slots=True)
class Occupant:
    """A program on a hook. `program_id` is 0 for a tc filter that is not bpf; `harmless` ones are tfotrace's."""

    egress: bool
    program_id: int
    words: str
    harmless: bool = False


def _name(program_id: int) -> str:
    try:
        info = bpfsys.program_info_by_id(program_id)
    except PermissionError:  # doctor runs as an ordinary user, too
        return ""
    return info.name if info is not None else ""


def _words(what: str, program_id: int) -> str:
    name = _name(program_id)
    return f'{what} "{name}" (id {program_id})' if name else f"{what} (id {program_id})"


def _tcx(ifindex: int, egress: bool) -> list[Occupant]:
    side = "egress" if egress else "ingress"
    try:
        ids = bpfsys.tcx_query(ifindex, bpfsys.TCX_EGRESS if egress else bpfsys.TCX_INGRESS)
    except OSError as error:
        # the interface went away, or doctor runs as an ordinary user
        if error.errno in tcx.NOT_HERE or error.errno in (errno.ENODEV, errno.EPERM):
            return []
        raise
    return [Occupant(egress, number, _words(f"TCX {side} program", number)) for number in ids]


def has_tcx(ifindex: int) -> bool:
    """Is a TCX program on the interface, which would run before clsact filters?"""
    return bool(_tcx(ifindex, egress=False) or _tcx(ifindex, egress=True))


def _clsact(ifindex: int, egress: bool) -> list[Occupant]:
    side = "egress" if egress else "ingress"
    parent = clsact.PARENT_EGRESS if egress else clsact.PARENT_INGRESS
    found: list[Occupant] = []
    for item in clsact.filters(ifindex, parent):
        words = " ".join(filter(None, (f"tc {side} filter prio {item.priority} {item.kind}", item.name)))
        if item.program_id:
            words += f" (id {item.program_id})"
        elif found and found[-1].words == words:
            continue  # u32 also lists its hash tables, and many filters of a kind are one line for people
        found.append(Occupant(egress, item.program_id, words, item.name.startswith(OWN_NAME)))
    return found


def occupants(ifindex: int) -> list[Occupant]:
    """Everything on the XDP, TCX and clsact hooks, in the order in which packets of each direction meet it."""
    found = [
        Occupant(False, p.program_id, f"{_words('XDP program', p.program_id)} at {p.level} level")
        for p in xdp.programs(ifindex)
    ]
    for egress in (False, True):
        found += _tcx(ifindex, egress)
        found += _clsact(ifindex, egress)
    return found


def others(found: Iterable[Occupant], own_ids: frozenset[int]) -> tuple[str, ...]:
    """The words for those that are not ours."""
    return tuple(item.words for item in found if item.program_id not in own_ids)


def before_us(found: Iterable[Occupant], own_ids: frozenset[int]) -> tuple[str, ...]:
    """The words for those that a packet meets before our program in the same direction."""
    result: list[str] = []
    for egress in (False, True):
        side = [item for item in found if item.egress == egress]
        ours = [place for place, item in enumerate(side) if item.program_id in own_ids]
        if ours:
            result += [item.words for item in side[: ours[0]] if not item.harmless]
    return tuple(result)
