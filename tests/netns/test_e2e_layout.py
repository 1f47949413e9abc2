"""The dtype that unit tests use, read from event.h without a compiler, is the one that the compiled programs have."""

from __future__ import annotations

import os

import pytest

from tests.support.events import structs
from tracer.ipc.layout import to_dtype
from tracer.loader.load import Loader, LoadOptions

pytestmark = pytest.mark.root


def test_the_layout_read_from_the_header_is_the_learnt_one() -> None:
    loader = Loader(LoadOptions(table_size=8))
    loaded = loader.result()
    try:
        learnt, read = loaded.layout.nested("event"), structs()["handshake_event"]
        assert to_dtype(read) == to_dtype(learnt)
        assert read.size == learnt.size
        names = [field.name for field in structs()["counters"].fields]
        assert names == [field.name for field in loaded.layout.nested("cpu").nested("counters").fields]
    finally:
        loaded.close()
    with pytest.raises(ProcessLookupError):  # the process with LLVM in it has gone
        os.kill(loader.pid, 0)
