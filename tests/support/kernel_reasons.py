"""The reasons that this kernel has for dropping a segment.

Each release names more of them. Where an older one has no name, it frees the same segment as NOT_SPECIFIED, at the same
place. That says nothing of why, so the record has no drop, and its cause comes from what else there is to see.
"""

from __future__ import annotations

from functools import cache

from tests.support.heard import KERNEL
from tracer.linux.btf import Btf, BtfError

NOT_SPECIFIED = "NOT_SPECIFIED"


@cache
def _names() -> frozenset[str]:
    try:
        enum = Btf.of_kernel().enum("skb_drop_reason")
    except BtfError:
        return frozenset()
    return frozenset(name.removeprefix("SKB_DROP_REASON_") for name in enum.values())


def has_reason(name: str) -> bool:
    """Does this kernel know that reason?"""
    return name in _names()


def as_traced(name: str) -> str:
    """What its trace says instead of it, if it does not."""
    return name if has_reason(name) else NOT_SPECIFIED


# Since Linux 6.11 a kernel also says why it sends a reset.
SAYS_WHY_IT_RESETS = KERNEL >= (6, 11)
