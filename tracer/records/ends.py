"""What records say of the ends of a connection: whose socket it is, who listens, how it is called behind a NAT."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tracer.records.types import IP_FORMS, Ip, Port, said


class Process(msgspec.Struct, frozen=True, gc=False):
    """Whose socket it is, where that is known for certain."""

    pid: Annotated[int, said("process id")]
    name: Annotated[str, said("name of its program, as the kernel has it (comm)")]
    uid: Annotated[int, said("effective user id")]
    cgroup: Annotated[str | None, said("path of its cgroup in the v2 hierarchy")] = None


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One end of a connection."""

    ip: Ip
    port: Port
    process: Process | None = None


class Listener(msgspec.Struct, frozen=True, gc=False):
    """A listening socket of this host, as it was when its queue was seen full, else just after the handshake's end."""

    ip: Annotated[str, said("address that it listens at; 0.0.0.0 or :: for all", anyOf=IP_FORMS)]
    port: Annotated[Port, said("port that it listens at")]
    queued: Annotated[int, said("connections that wait to be accepted; the queue is full above its backlog", minimum=0)]
    backlog: Annotated[int, said("how many may wait", minimum=0)]
    process: Annotated[Process | None, said("who holds it; null where that is not known")] = None


class NatEnd(msgspec.Struct, frozen=True, gc=False):
    """One end of a connection on the other side of a translation."""

    ip: Ip
    port: Annotated[Port, said("port on that side")]


class Nat(msgspec.Struct, frozen=True, gc=False):
    """The record of the same handshake with other addresses or ports."""

    client: NatEnd
    server: NatEnd
    id: Annotated[str, said("id of that record", pattern="^[0-9a-f]{16}$")]
