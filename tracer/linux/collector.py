"""Python's garbage collector, which has next to nothing to find here."""

from __future__ import annotations

import gc

YOUNG_MAX = 20_000  # objects that may refer to others, until the collector looks at them


def collect_seldom() -> None:
    """Batches make thousands of tuples a moment, which go without the collector's help: it need not run for every 700
    of them, nor look at what was imported again and again. To be called when a process has its modules."""
    gc.freeze()
    gc.set_threshold(YOUNG_MAX)
