"""The server name in lines and in the detail."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.lines import handshakes
from tracer.records.notes import asked
from tracer.records.record import PayloadInfo, TlsInfo
from tracer.records.server_name import server_name

change = msgspec.structs.replace


@pytest.mark.parametrize(
    ("sni", "truncated", "expected"),
    [("a.example", True, "a.example"), ("a\x1b", False, "a\\x1b"), (None, True, "beyond the SYN"), (None, False, "")],
)
def test_a_name_may_lie_beyond_the_syn(sni: str | None, truncated: bool, expected: str) -> None:
    found = next(one for one in handshakes() if one.tls is not None)
    told = change(found, tls=TlsInfo(sni, None, False), payload=PayloadInfo("tls", True, truncated))
    assert server_name(told) == expected
    assert [part for part in asked(told) if part.startswith("SNI")] == ([f"SNI {expected}"] if expected else [])
    assert ("ClientHello truncated" in asked(told)) == truncated


def test_without_a_hello_there_is_nothing_to_say() -> None:
    assert server_name(change(handshakes()[0], tls=None)) == ""
