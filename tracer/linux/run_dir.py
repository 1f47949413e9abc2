"""/run/tfotrace: what outlives a run, until the next boot. It is trusted only if nobody else can write there."""

from __future__ import annotations

import os
from pathlib import Path

RUN_DIR = Path("/run/tfotrace")


def require_own(status: os.stat_result, forbidden: int = 0o022) -> None:
    """Raise PermissionError unless what was looked at is ours and has no permission of `forbidden`."""
    if status.st_uid != os.geteuid() or status.st_mode & forbidden:
        raise PermissionError(13, "it belongs to another user or is open to others")
