"""How many times longer than usual one part waits for the other: 1, and more in emulated machines.

There everything takes longer but the time that records may wait. TFOTRACE_PATIENCE says so, to the tests as well
(vagrant/kernels); sudo does not pass it on unasked.
"""

from __future__ import annotations

import os

MOST = 100.0


def factor(text: str) -> float:
    """What the variable says, between 1 and MOST; 1 if it is no number."""
    try:
        return min(max(1.0, float(text)), MOST)  # in this order for NaN
    except ValueError:
        return 1.0


FACTOR = factor(os.environ.get("TFOTRACE_PATIENCE", ""))
