"""How many files this process may have open: links take two for each interface that is traced."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

WANTED = 1 << 17
_RESERVED = 64  # for whatever else is opened meanwhile
_MOST = Path("/proc/sys/fs/nr_open")


def raise_limit(wanted: int = WANTED) -> int:
    """Raise RLIMIT_NOFILE to the hard limit, and both to `wanted` where that is more and CAP_SYS_RESOURCE allows it.

    Returns the limit. Raises nothing: what does not fit will say so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, wanted)
    with suppress(OSError, ValueError):
        wanted = min(wanted, int(_MOST.read_text(encoding="ascii")))
    for limit in (max(hard, wanted), hard):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(hard, limit)))
            return limit
    return soft


def are_scarce() -> bool:
    """Are all descriptors in use but some that this process needs for other things?"""
    try:
        lowest_free = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(lowest_free)
    return lowest_free >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVED
