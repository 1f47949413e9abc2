"""Where handshakes failed, in words."""

from __future__ import annotations

from tracer.vocabulary.addresses import endpoint_text

# what so large a share of some have is told of all of them; of fewer it is told as "mostly"
MOST = 0.9


def at_place(ip: str | None, port: int, seen: int, of: int, *, lately: bool = False) -> str:
    """ " at 192.0.2.1:443", or ", mostly at ..." or ", now at ...": to stand behind what happened there.

    Where there is no address it is the port of several servers.
    """
    at = f"at {endpoint_text(ip, port) if ip else f'port {port}'}"
    words = [*(["now"] if lately else []), *(["mostly"] if seen < MOST * of else []), at]
    return f"{', ' if words[1:] else ' '}{' '.join(words)}"
