"""How long tests wait for what must happen: nothing here is a measurement.

A busy machine is slow, one in emulation (vagrant/kernels) many times slower: there TFOTRACE_PATIENCE multiplies it, and
what is done a thousand times elsewhere is done less often.
"""

from __future__ import annotations

from tracer.linux.patience import FACTOR

__all__ = ["FACTOR", "LONG_S", "PATIENCE_S", "SHORT_S"]

SHORT_S = 10.0 * FACTOR
PATIENCE_S = 30.0 * FACTOR
LONG_S = 90.0 * FACTOR
