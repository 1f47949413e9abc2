"""struct handshake_event as a numpy dtype, and blank records."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.ipc.event_header import struct
from tracer.ipc.layout import to_dtype


@cache
def event_dtype() -> np.dtype[Any]:
    """struct handshake_event."""
    return to_dtype(struct("handshake_event"))


def blank(count: int) -> NDArray[np.void]:
    """Records of zeroes."""
    return np.zeros(count, event_dtype())
