"""What the kernel's reasons for dropping a segment mean, as far as they say that this host let a handshake fail.

Reasons are those of enum skb_drop_reason; TFO.md section 8 has where each was seen.
"""

from __future__ import annotations

# what this host's drop comes from, and what to do about it
DROPPED_BY: dict[str, str] = {
    "firewall": "A packet filter of this host dropped the segment: look for the rule (nft list ruleset, iptables -S, "
    "programs at tc and XDP), and let this traffic pass; or see whether dmesg says that "
    "conntrack's table was full.",
    "reverse path filter": "This host dropped the segment since it has no route to its source by the interface that it "
    "came in by: mend the routes, or set net.ipv4.conf.INTERFACE.rp_filter to 2 (loose) or 0.",
    "old timestamps": "This host dropped the segment since its timestamp is older than one seen before of these "
    "addresses and ports, as with clients behind one NAT: let the NAT keep ports apart, or clear timestamps there.",
    "authentication": "This host dropped the segment since TCP MD5 or TCP-AO does not fit: set the same key for this "
    "peer at both ends, or at neither.",
    "neighbour": "The next hop does not answer to ARP or neighbour discovery, so the segment never left: see whether "
    "it is up and in the same network (ip neigh).",
    "policy": "An IPsec policy of this host forbids the segment: see ip xfrm policy.",
    "route": "This host has no route for the segment, or one that forbids it: see ip route get with its destination, "
    "and whether forwarding is on.",
    "queue": "A queueing discipline of this host dropped the segment before it left: look at its limits, and at what "
    "fills it (tc -s qdisc).",
    "checksum": "The segment's checksum is wrong, so this host dropped it: look for what damages packets, such as "
    "broken checksum offload at the sender.",
    "hop limit": "The segment's TTL is below what this listener asks for (IP_MINTTL): let the client connect from "
    "nearer, or lower the limit.",
}
_NO_REASON = "NOT_SPECIFIED"
_ROUTE_PLACES = ("ip_error",)
_NEIGHBOUR_PLACES = ("neigh_invalidate", "ndisc_error_report")  # IPv6 gives no reason there
_LOOKED_FOR = ("tcp_v4_rcv", "tcp_v6_rcv")
# A raw socket gets a copy, which is freed for the same reasons.
_ONLY_AT = {
    "SOCKET_FILTER": _LOOKED_FOR,
    "XFRM_POLICY": (*_LOOKED_FOR, "ip_forward", "ip6_forward"),
    _NO_REASON: (*_ROUTE_PLACES, *_NEIGHBOUR_PLACES),
}
_BY_REASON = {
    "NETFILTER_DROP": "firewall",
    "BPF_CGROUP_EGRESS": "firewall",
    "TC_INGRESS": "firewall",
    "TC_EGRESS": "firewall",
    "XDP": "firewall",
    "SOCKET_FILTER": "firewall",
    "IP_RPFILTER": "reverse path filter",
    "XFRM_POLICY": "policy",
    "IP_INNOROUTES": "route",
    "IP_OUTNOROUTES": "route",
    "IP_INADDRERRORS": "route",
    "CAKE_FLOOD": "queue",
    "DUALPI2_STEP_DROP": "queue",
    "TCP_RFC7323_PAWS": "old timestamps",
    "TCP_RFC7323_TW_PAWS": "old timestamps",
    "TCP_AUTH_HDR": "authentication",
    "TCP_CSUM": "checksum",
    "IP_CSUM": "checksum",
    "TCP_MINTTL": "hop limit",
}
_BY_BEGINNING = {
    "TCP_MD5": "authentication",
    "TCP_AO": "authentication",
    "NEIGH_": "neighbour",
    "QDISC_": "queue",
    "FQ_": "queue",
}
_LAST_PROGRAMS = "TC_EGRESS"  # those of others, which run after ours


def is_telling(reason: str, at: str | None) -> bool:
    """Does it say that the segment itself was lost? Some reasons do so at some places only."""
    places = _ONLY_AT.get(reason)
    return places is None or at in places


def dropped_by(reason: str, at: str | None) -> str | None:
    """A key of DROPPED_BY; None where the reason does not say that this host let the segment fail."""
    if not is_telling(reason, at):
        return None
    if reason == _NO_REASON:
        return "route" if at in _ROUTE_PLACES else "neighbour"
    for beginning, what in _BY_BEGINNING.items():
        if reason.startswith(beginning):
            return what
    return _BY_REASON.get(reason)


def comes_after_hook(reason: str) -> bool:
    """Did the segment leave for all that tc programs at egress see, and yet not leave?"""
    return reason == _LAST_PROGRAMS or dropped_by(reason, None) == "queue"


def found_no_socket(reason: str, at: str | None) -> bool:
    """Did the kernel look for a socket and find none? The same reason elsewhere means other things."""
    return reason == "NO_SOCKET" and at in _LOOKED_FOR


def found_queue_full(reason: str, at: str | None) -> bool:
    """Could a listener not take the connection that an ACK would have made?"""
    return reason == "TCP_LISTEN_OVERFLOW" and at in _LOOKED_FOR
