"""Signs and styles of the groups of Fast Open's outcomes (RFC 7413: did it work?) and of handshakes."""

from __future__ import annotations

# a sign for each group, so that a line can be read at a glance and without colour
GROUP_SIGN = {"ok": "✓", "degraded": "~", "failed": "✗"}


def group_style(group: str | None) -> str:
    """Style of an outcome group."""
    return group if group in GROUP_SIGN else "none"


def group_sign(group: str | None) -> str:
    """Sign of an outcome group."""
    return GROUP_SIGN.get(group or "", "·")
