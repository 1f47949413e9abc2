"""The server name of a ClientHello in the SYN, in words for people."""

from __future__ import annotations

from tracer.records.record import Handshake
from tracer.vocabulary.printable import printable

BEYOND = "beyond the SYN"


def server_name(record: Handshake) -> str:
    """The name, safe to print; where the SYN ends before it, this; nothing where there is none."""
    if record.tls is None:
        return ""
    if record.tls.sni:
        return printable(record.tls.sni)
    return BEYOND if record.payload is not None and record.payload.truncated else ""
