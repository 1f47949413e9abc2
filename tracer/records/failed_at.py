"""What totals say of where handshakes failed."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tracer.records.types import IP_FORMS, Count, Port, said
from tracer.vocabulary.fates import FAILED_WORDS


class FailedAt(msgspec.Struct, frozen=True):
    """Where more than half of the handshakes of one result failed."""

    result: Annotated[str, said("what became of them", enum=list(FAILED_WORDS))]
    ip: Annotated[str | None, said("the server's address; null where they are of several", anyOf=IP_FORMS)]
    port: Annotated[Port, said("the server's port")]
    handshakes: Annotated[Count, said("how many of that result there are")]
