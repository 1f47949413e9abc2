"""The structs as tracer reads them from the headers are those that the compiler made."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tracer.ipc.event_header import struct
from tracer.ipc.layout import to_dtype
from tracer.loader import compiler
from tracer.loader.artifact import random_hash_key
from tracer.loader.load import Loader, LoadOptions

pytestmark = pytest.mark.root

STRUCT_OF = {
    "sweep_scratch": "handshake_event",
    "payload_scratch": "payload_event",
    "packet_scratch": "packet_event",
    "cpus": "cpu",
    "sweep_states": "sweep_state",
    "config": "config",
    "interfaces_near": "interface_config",
    "filter_states": "filter_state",
}


@pytest.mark.parametrize("packets", [False, True])
def test_the_layout_read_from_the_headers_is_the_compilers(packets: bool) -> None:
    options = LoadOptions(table_size=8, packets=packets)
    flags = [*options.flags(random_hash_key()), "-DFILTER"]
    compiled = compiler._bcc().BPF(text=compiler.source().encode(), cflags=flags)
    try:
        for name, read in STRUCT_OF.items():
            if name == "packet_scratch" and not packets:
                continue
            table = compiled[name.encode()]
            learnt = np.dtype(getattr(table, "sLeaf", table.Leaf))  # Leaf of a per-CPU map is of all CPUs
            found = to_dtype(struct(read, packets=packets))
            assert found.itemsize == learnt.itemsize, name
            assert found.fields is not None
            assert learnt.fields is not None
            for field, (kind, offset, *_) in found.fields.items():
                assert (offset, kind.itemsize) == (learnt.fields[field][1], learnt.fields[field][0].itemsize), field
            assert set(found.names or ()) == {one for one in learnt.names or () if not one.startswith("__pad")}
    finally:
        compiled.cleanup()


def test_the_process_with_the_compiler_ends() -> None:
    loader = Loader(LoadOptions(table_size=8))
    loader.result().close()
    with pytest.raises(ProcessLookupError):
        os.kill(loader.pid, 0)
