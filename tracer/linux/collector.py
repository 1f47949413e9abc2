"""Python's garbage collector, which finds next to nothing here."""

from __future__ import annotations

import gc

YOUNG_MAX = 20_000  # new container objects after which the collector runs


def collect_seldom() -> None:
    """Run the collector seldom, and without the imported modules. Call this when a process has imported them.

    It may be switched off until then: what an import makes stays, and to look for garbage among it takes time.

    Batches make thousands of tuples at a time, which go without the collector's help. It would run for every 700.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_MAX)
    gc.enable()
