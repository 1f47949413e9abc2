"""The processes that own the sockets, as named by the kernel programs or by a table that comes with the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.batch import Batch, RowOwners
from tracer.handshake.events import Events
from tracer.records.ends import Process
from tracer.records.record import Handshake


def named_rows(events: Events) -> NDArray[np.bool_]:
    """Rows whose client the kernel programs have named."""
    named: NDArray[np.bool_] = events["client_process"]["pid"] != 0
    return named


def processes(batch: Batch, cgroups: Mapping[int, str | None]) -> tuple[list[Process | None], list[Process | None]]:
    """The client's and the server's process of each row; rows with equal names from the kernel share an object."""
    count = len(batch)
    clients: list[Process | None] = [None] * count
    servers = clients
    owners = batch.owners
    if owners is not None:
        clients = [owners.table[place] for place in owners.client.tolist()]
        servers = [owners.table[place] for place in owners.server.tolist()]
    if named_rows(batch.events).any():
        said = batch.events["client_process"]
        keys: list[bytes] = said.view(f"V{said.dtype.itemsize}").tolist()
        found = {key: _named(said[row], cgroups) for key, row in dict(zip(keys, range(count), strict=True)).items()}
        clients = [found[key] or process for key, process in zip(keys, clients, strict=True)]
    return clients, servers


def _named(said: np.void, cgroups: Mapping[int, str | None]) -> Process | None:
    """Decode struct process; None if it is empty."""
    pid, uid, cgroup = (int(said[name]) for name in ("pid", "uid", "cgroup"))
    if not pid:
        return None
    return Process(pid, bytes(said["name"]).split(b"\0", 1)[0].decode("utf-8", "replace"), uid, cgroups.get(cgroup))


def owners_of(records: Sequence[Handshake]) -> RowOwners:
    """The processes that records name."""
    places: dict[Process | None, int] = {None: 0}
    clients = [places.setdefault(record.client.process, len(places)) for record in records]
    servers = [places.setdefault(record.server.process, len(places)) for record in records]
    return RowOwners(np.array(clients, np.uint32), np.array(servers, np.uint32), list(places))


def merge_owners(owners: RowOwners, places: dict[Process | None, int], table: list[Process | None]) -> list[int]:
    """The places of one table's processes in another table; missing ones are added."""
    found = []
    for process in owners.table:
        place = places.setdefault(process, len(table))
        if place == len(table):
            table.append(process)
        found.append(place)
    return found
