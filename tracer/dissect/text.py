"""Names from the network as text: always valid str without lone surrogates, always bounded.

Control characters stay in: whoever prints keeps them out (DESIGN: sinks and screens), JSON escapes them.
"""

from __future__ import annotations

NAME_MAX = 255  # bytes: no host name is longer (RFC 1035 2.3.4); a longer one is an attempt on our memory


def name_text(raw: bytes) -> str:
    r"""UTF-8 where it is valid, `\xNN` for each byte that is not; over NAME_MAX bytes cut there and marked by "…"."""
    if len(raw) > NAME_MAX:
        return raw[:NAME_MAX].decode("utf-8", "backslashreplace") + "…"
    return raw.decode("utf-8", "backslashreplace")
