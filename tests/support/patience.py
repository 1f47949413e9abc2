"""How long tests wait for what must happen. This measures nothing.

A busy machine is slow, an emulated one (vagrant/kernels) many times slower: there TFOTRACE_PATIENCE multiplies the wait
and reduces repetitions.
"""

from __future__ import annotations

from tracer.linux.patience import FACTOR

__all__ = ["FACTOR", "KEPT_BACK", "LONG_S", "PATIENCE_S", "SHORT_S"]

SHORT_S = 10.0 * FACTOR
PATIENCE_S = 30.0 * FACTOR
LONG_S = 90.0 * FACTOR

# How certain it is that this host dropped all SYNs of a client which gives up at once. Its socket must be asked in the
# fifth of a second before it would send another one, which an emulated machine may miss.
KEPT_BACK = ("certain",) if FACTOR == 1 else ("certain", "likely")
