"""Names from the network as text: always valid str without lone surrogates, always bounded.

Control characters stay in: sinks and screens remove them when printing (DESIGN), JSON escapes them.
"""

from __future__ import annotations

NAME_MAX = 255  # bytes: no host name is longer (RFC 1035 2.3.4); longer ones would only fill our memory


def name_text(raw: bytes) -> str:
    r"""UTF-8 if valid, else `\xNN` for each invalid byte; longer names are cut at NAME_MAX bytes and get a "…"."""
    if len(raw) > NAME_MAX:
        return raw[:NAME_MAX].decode("utf-8", "backslashreplace") + "…"
    return raw.decode("utf-8", "backslashreplace")
