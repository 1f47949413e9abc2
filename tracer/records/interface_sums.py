"""What became of a run's interfaces, in its `end` record."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tracer.records.types import said


def _count(text: str) -> msgspec.Meta:
    return said(text, minimum=0)


class InterfaceSums(msgspec.Struct, frozen=True):
    """Interfaces of a run. Handshakes that pass while programs are missing are not seen, or only one direction is."""

    traced: Annotated[int, _count("that were traced for some time")] = 0
    gone: Annotated[int, _count("that were deleted, or moved to another namespace")] = 0
    removed: Annotated[int, _count("how often somebody removed programs from one that stayed")] = 0
    attached_again: Annotated[int, _count("how often programs were attached again after that")] = 0
    not_traced: Annotated[int, _count("that could not be traced when the run ended")] = 0
