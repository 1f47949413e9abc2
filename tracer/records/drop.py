"""What records have of the kernel's own word on segments that it dropped, and resets that it sent."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tracer.records.types import said

DROPPED = ["syn", "synack", "ack", "rst"]


class Drop(msgspec.Struct, frozen=True, gc=False):
    """What the kernel of this host says of a segment that it dropped."""

    segment: Annotated[str, said("which segment of the handshake", enum=DROPPED)]
    reason: Annotated[str, said("why, in the kernel's word (enum skb_drop_reason)")]
    at: Annotated[
        str | None,
        said("the kernel's function that dropped it; null where the kernel hides it, or names were not read yet"),
    ]
    netns: Annotated[int | None, said("inode number of the network namespace; null: the traced one")]


class EvidenceInfo(msgspec.Struct, frozen=True):
    """What this host's kernel says of segments that it dropped, and of resets that it sent."""

    drop_reasons: Annotated[bool, said("why it dropped a segment")]
    reset_reasons: Annotated[bool, said("why it sent a reset")]
    places: Annotated[bool, said("which of its functions dropped it")]
