"""Which parts of the kernel can be asked without changing the host.

A question to a part that is a module makes the kernel load it (request_module). tfotrace only watches, so it asks
where the part is loaded or built in, and does without it elsewhere.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path


class Modules:
    """The modules of this kernel. Other folders are for tests."""

    def __init__(self, sys: str = "/sys/module", proc: str = "/proc/modules", lib: str = "/lib/modules") -> None:
        self._sys = sys
        self._proc = proc
        self._builtin = Path(lib) / os.uname().release / "modules.builtin"

    def present(self, name: str) -> bool:
        """Whether it is loaded or built in. A module may be loaded at any time, so ask again."""
        # a built-in one has a folder only if it has parameters
        return os.path.exists(f"{self._sys}/{name}") or self._never_loads() or name in _names(self._builtin)

    def _never_loads(self) -> bool:
        """A kernel without modules has all that it has built in."""
        return not os.path.exists(self._proc) and os.path.isdir(self._sys)


@lru_cache(maxsize=4)
def _names(builtin: Path) -> frozenset[str]:
    """Names of all built-in modules, from lines like kernel/net/ipv4/tcp_diag.ko."""
    try:
        lines = builtin.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.rpartition("/")[2].removesuffix(".ko").replace("-", "_") for line in lines)
