"""Words for packets that gave no handshake: what was not read, and what is malformed (struct counters in event.h)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Carrier(NamedTuple):
    """Frames that may hold handshakes which are not read."""

    name: str
    interface: str | None  # where Linux shows what was inside, an example
    is_replayed: bool = False  # a replay of a capture reads into it


NOT_READ = {
    "gre": Carrier("GRE", "gre1", True),
    "vxlan": Carrier("VXLAN", "vxlan0", True),
    "geneve": Carrier("GENEVE", "geneve0", True),
    "gtp": Carrier("GTP-U", "gtp0"),
    "ipip": Carrier("IP in IP", "tunl0", True),
    "mpls": Carrier("MPLS", None),
    "pppoe": Carrier("PPPoE", "ppp0"),
    "vlan": Carrier("3+ VLAN tags", "eth0.10.20.30"),
    "sgt": Carrier("Cisco SGT", None),
}

# Whole packets; a SYN with a malformed option is read nevertheless.
MALFORMED = {
    "ethernet": "shorter than the link header",
    "ip_header": "a bad or cut IP header",
    "ip_length": "an IP length beyond the frame",
    "ip_extension": "a bad IPv6 extension header",
    "tcp_header": "a bad or cut TCP header",
    "tcp_offset": "a TCP data offset beyond the segment",
    "tcp_flags": "SYN together with FIN or RST",
}


def not_read(counters: Mapping[str, int]) -> dict[str, int] | None:
    """Frames that were not read by kind, most first, without zeros; None where nobody counted them (older files)."""
    found = {kind: counters[name] for kind in NOT_READ if (name := f"not_read_{kind}") in counters}
    return by_number(found) if found else None


def malformed(counters: Mapping[str, int]) -> dict[str, int]:
    """Malformed packets by reason, most first, without zeros."""
    return by_number({reason: counters.get(f"malformed_{reason}", 0) for reason in MALFORMED})


def by_number(counts: Mapping[str, int]) -> dict[str, int]:
    """Most first, without zeros."""
    return {name: count for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count}
