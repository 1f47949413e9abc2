"""What the kernel remembers about servers it connected to (tcp_metrics), in the calling thread's network namespace.

pyroute2 has no class for this generic netlink family, so its attributes are named here. Import this module only where
pyroute.py may be imported. Source: include/uapi/linux/tcp_metrics.h.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.generic import GenericNetlinkSocket

from tracer.linux.pyroute import refusals

_GET, _DELETE, _VERSION = 1, 2, 1


class Message(genlmsg):  # type: ignore[misc]  # pyroute2 has no types
    """A request or an entry. Attributes have the kernel's names without TCP_METRICS_ATTR_."""

    nla_map = (
        ("UNSPEC", "none"),
        ("ADDR_IPV4", "ip4addr"),
        ("ADDR_IPV6", "ip6addr"),
        ("AGE", "uint64"),  # milliseconds
        ("TW_TSVAL", "uint32"),
        ("TW_TS_STAMP", "int32"),
        ("VALS", "cdata"),
        ("FOPEN_MSS", "uint16"),
        ("FOPEN_SYN_DROPS", "uint16"),
        ("FOPEN_SYN_DROP_TS", "uint64"),
        ("FOPEN_COOKIE", "cdata"),
        ("SADDR_IPV4", "ip4addr"),
        ("SADDR_IPV6", "ip6addr"),
    )


def entries() -> list[dict[str, Any]]:
    """Attributes of every entry. Raises OSError if the kernel refuses."""
    return [dict(message["attrs"]) for message in _ask(_GET, NLM_F_DUMP)]


def forget(address: str) -> None:
    """Drop the cookie, the MSS and all else that the kernel remembers about `address`. Raises OSError."""
    with suppress(ProcessLookupError):  # there was nothing
        _ask(_DELETE, NLM_F_ACK, ("ADDR_IPV6" if ":" in address else "ADDR_IPV4", address))


def _ask(command: int, flags: int, *attributes: tuple[str, str]) -> list[Any]:
    with refusals(), GenericNetlinkSocket(ext_ack=True) as sock:
        sock.bind("tcp_metrics", Message)
        request = Message()
        request["cmd"], request["version"] = command, _VERSION
        request["attrs"] = list(attributes)
        return list(sock.nlm_request(request, msg_type=sock.prid, msg_flags=NLM_F_REQUEST | flags))
