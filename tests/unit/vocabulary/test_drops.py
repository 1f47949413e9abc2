"""What the kernel's reasons mean: which blame this host, and that they are the kernel's words."""

from __future__ import annotations

import pytest

from tracer.linux.btf import KERNEL, Btf
from tracer.vocabulary.causes import handshake_sentence
from tracer.vocabulary.drops import _BY_REASON, DROPPED_BY, dropped_by, found_no_socket


@pytest.mark.parametrize(
    ("reason", "at", "by"),
    [
        ("NETFILTER_DROP", "nft_do_chain", "firewall"),
        ("NETFILTER_DROP", None, "firewall"),
        ("IP_RPFILTER", "ip_rcv_finish_core", "reverse path filter"),
        ("TCP_RFC7323_TW_PAWS", "tcp_v4_rcv", "old timestamps"),
        ("TCP_RFC7323_TSECR", "tcp_v4_rcv", None),
        ("TCP_MD5NOTFOUND", "tcp_v4_rcv", "authentication"),
        ("TCP_AOFAILURE", "tcp_v6_rcv", "authentication"),
        ("NEIGH_FAILED", "neigh_invalidate", "neighbour"),
        ("XFRM_POLICY", "tcp_v4_rcv", "policy"),
        ("XFRM_POLICY", "raw_rcv", None),
        ("SOCKET_FILTER", "tcp_v6_rcv", "firewall"),
        ("SOCKET_FILTER", "raw_rcv", None),
        ("SOCKET_FILTER", None, None),
        ("TCP_RFC7323_PAWS_ACK", "tcp_v4_rcv", None),
        ("NOT_SPECIFIED", "ip_error", "route"),
        ("NOT_SPECIFIED", "tcp_v4_rcv", None),
        ("NOT_SPECIFIED", None, None),
        ("NO_SOCKET", "tcp_v4_rcv", None),
        ("TCP_LISTEN_OVERFLOW", "tcp_v4_rcv", None),
        ("QDISC_DROP", "__dev_queue_xmit", "queue"),
        ("FQ_FLOW_LIMIT", None, "queue"),
        ("QUEUE_PURGE", "inet_csk_destroy_sock", None),
        ("OF_A_LATER_KERNEL", "somewhere", None),
    ],
)
def test_which_reasons_blame_this_host(reason: str, at: str | None, by: str | None) -> None:
    assert dropped_by(reason, at) == by


def test_no_socket_counts_where_tcp_looked_for_one() -> None:
    assert found_no_socket("NO_SOCKET", "tcp_v6_rcv")
    assert not found_no_socket("NO_SOCKET", "cookie_v4_check")
    assert not found_no_socket("NO_SOCKET", None)
    assert not found_no_socket("NETFILTER_DROP", "tcp_v4_rcv")


@pytest.mark.parametrize("by", DROPPED_BY)
def test_a_sentence_says_what_to_do(by: str) -> None:
    sentence = handshake_sentence("host_dropped", dropped=by)
    assert sentence == DROPPED_BY[by]
    assert sentence.endswith(".")
    assert sentence.count(": ") == 1
    assert sentence.count(". ") == 0
    assert by in {*_BY_REASON.values(), dropped_by("TCP_MD5FAILURE", None), dropped_by("NEIGH_DEAD", None)}


@pytest.mark.skipif(not KERNEL.exists(), reason="this kernel does not describe its types")
def test_the_reasons_are_the_kernels() -> None:
    names = {name.removeprefix("SKB_DROP_REASON_") for name in Btf.of_kernel().enum("skb_drop_reason").values()}
    if "DUALPI2_STEP_DROP" not in names:
        pytest.skip("an older kernel, which knows fewer reasons")
    assert not _BY_REASON.keys() - names
