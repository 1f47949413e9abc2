"""What records say of the segments that refuse a handshake, and of those that do not fit it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tracer.records.types import IP_FORMS, said
from tracer.vocabulary.vocabulary import RESET_FROM_WORDS, known


class Icmp(msgspec.Struct, frozen=True, gc=False):
    """The ICMP or ICMPv6 error that refused the SYN."""

    type: Annotated[int, said("type of the ICMP error")]
    code: Annotated[int, said("code of the ICMP error")]
    from_: Annotated[str | None, said("who sent it; null in older files", anyOf=IP_FORMS)] = msgspec.field(
        name="from", default=None
    )


class Reset(msgspec.Struct, frozen=True, gc=False):
    """The RST that settled the handshake, since its numbers fit."""

    from_: Annotated[str, said("whose RST it was", enum=known(RESET_FROM_WORDS))] = msgspec.field(name="from")
    after_us: Annotated[float | None, said("microseconds, first SYN to this RST")]
    ttl: Annotated[int, said("TTL or hop limit as it arrived", minimum=0, maximum=255)]
    hops: Annotated[int, said("routers passed, guessed from an initial TTL of 64, 128 or 255", minimum=0)]
    reason: Annotated[str | None, said("why this host's kernel sent it, in the kernel's word; null if not known")] = (
        None
    )


class Misfits(msgspec.Struct, frozen=True, gc=False):
    """Segments that came for this handshake, but whose numbers do not fit it, so that they changed nothing."""

    rst: Annotated[int, said("RSTs", minimum=0)]
    synack: Annotated[int, said("SYN-ACKs", minimum=0)]
    icmp: Annotated[int, said("ICMP errors", minimum=0)]
