"""What the probe refuses before it sends anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tracing import one_sentence, run
from tracer.errors import CannotTraceError
from tracer.probe.host import check, may_try_mptcp
from tracer.probe.trace import FILTERED_MAX, packet_filter


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name a server"),
        (("example.org", "--count", "1001"), "1001 is more than 1000"),
        (("example.org", "--count", "0"), "not a whole number above 0"),
        (("example.org", "--rate", "0"), "is not a rate"),
        (("example.org", "--rate", "nan"), "is not a rate"),
        (("example.org", "--payload", "quic"), 'unknown word "quic": tls, http, none'),
        (("example.org", "-4", "-6"), "exclude each other"),
        (("example.org:x",), "has no port"),
        (("example.org", "--interface", "nosuch0"), "nosuch0"),
        (("--hosts", "{folder}/missing"), "No such file"),
        (("--hosts", "{folder}/empty"), "names no server"),
    ],
)
def test_wrong_usage(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "empty").touch()
    done = run("probe", *(word.format(folder=tmp_path) for word in words))
    one_sentence(done, 2, said)


def test_needs_the_client_bit() -> None:
    with pytest.raises(CannotTraceError, match=r"sysctl -w net\.ipv4\.tcp_fastopen=3"):
        check({"tcp_fastopen": "2"}, force=True)
    with pytest.raises(CannotTraceError, match="no Fast Open"):
        check({}, force=True)
    check({"tcp_fastopen": "1"}, force=False)


def test_spares_other_programs() -> None:
    risky = {"tcp_fastopen": "1", "tcp_fastopen_blackhole_timeout_sec": "3600"}
    with pytest.raises(CannotTraceError, match="--force"):
        check(risky, force=False)
    check(risky, force=True)


@pytest.mark.parametrize(
    ("settings", "may"),
    [
        ({}, False),
        ({"enabled": "0"}, False),
        ({"enabled": "1"}, True),
        ({"enabled": "1", "blackhole_timeout": "3600"}, True),
        ({"enabled": "1", "blackhole_timeout": "3600", "syn_retrans_before_tcp_fallback": "1"}, False),
        ({"enabled": "1", "blackhole_timeout": "0", "syn_retrans_before_tcp_fallback": "1"}, True),
        ({"enabled": "?"}, False),
    ],
)
def test_mptcp_is_tried_where_it_harms_nobody(tmp_path: Path, settings: dict[str, str], may: bool) -> None:
    for name, value in settings.items():
        (tmp_path / name).write_text(value + "\n")
    assert may_try_mptcp(tmp_path) is may


def test_filter() -> None:
    assert packet_filter([("192.0.2.1", 443), ("::1", 80), ("::1", 80)]) == (
        "(dst host 192.0.2.1 and tcp dst port 443) or (dst host ::1 and tcp dst port 80)"
    )
    many = [(f"192.0.2.{number}", 443 + number % 2) for number in range(FILTERED_MAX + 1)]
    assert packet_filter(many) == "tcp dst port 443 or tcp dst port 444"
