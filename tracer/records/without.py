"""What a run does without, because the kernel does not give it."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec

from tracer.records.types import said


class Lacking(str, Enum):
    """What may be lacking while tracing goes on."""

    PROCESSES = "processes"  # no process is named at all
    SOCKET_OWNERS = "socket_owners"  # not every process: those that are looked for in /proc
    LISTENER_OPTIONS = "listener_options"
    DROP_REASONS = "drop_reasons"
    RESET_REASONS = "reset_reasons"
    PLACES = "places"


class Without(msgspec.Struct, frozen=True):
    """One thing that a run does without, and why."""

    what: Annotated[
        str,
        said(
            "processes: none is named; socket_owners: some listeners are not, nor clients that the programs do not see "
            "in a system call on their socket; listener_options: a listener's queue, keys and Fast Open options; "
            "drop_reasons, reset_reasons: the kernel's word on dropped segments and resets; places: where it dropped",
            enum=[one.value for one in Lacking],
        ),
    ]
    text: Annotated[str, said("a sentence: what is lacking, and why")]
    capabilities: Annotated[tuple[str, ...], said("names of the capabilities that would give it")] = ()
