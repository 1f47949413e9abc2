"""How many times longer than usual one part waits for the other: 1, and more in emulated machines.

There everything takes longer, but records may wait no longer. TFOTRACE_PATIENCE sets the factor, also for the tests
(vagrant/kernels). sudo does not pass it on by itself.
"""

from __future__ import annotations

import os

MOST = 100.0


def factor(text: str) -> float:
    """The variable's value, between 1 and MOST; 1 if it is not a number."""
    try:
        return min(max(1.0, float(text)), MOST)  # in this order for NaN
    except ValueError:
        return 1.0


FACTOR = factor(os.environ.get("TFOTRACE_PATIENCE", ""))
