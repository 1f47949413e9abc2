"""A process that ends when its parent is killed."""

from __future__ import annotations

from tracer.linux.libc import checked, libc

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def signal_at_parents_end(number: int) -> None:
    """Get this signal when the thread that forked this process ends, until this process changes its user (prctl(2)).

    Raises OSError.
    """
    checked(libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")
