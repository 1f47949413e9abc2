"""HOST[:PORT], and files of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracer.errors import UsageError
from tracer.probe.model import Target
from tracer.probe.targets import addresses, each_once, read, target


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.org", "example.org", 443), ("example.org:80", "example.org", 80), ("192.0.2.1:1", "192.0.2.1", 1),
        ("2001:db8::1", "2001:db8::1", 443), ("[2001:db8::1]:8443", "2001:db8::1", 8443), ("[::1]", "::1", 443),
        ("fe80::1%eth0", "fe80::1%eth0", 443), ("::", "::", 443), ("bücher.example:65535", "bücher.example", 65535),
    ],
)  # fmt: skip
def test_target(text: str, host: str, port: int) -> None:
    assert target(text) == Target(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", ":80", "a:", "a:0", "a:65536", "a:+1", "a:1x", "a:١", "[::1", "[::1]80", "[]:80", "a:b:c", "a b",
        "https://a", "a/b", "x" * 256, "a:99999999999999999999", "::1:",
    ],
)  # fmt: skip
def test_no_target(text: str) -> None:
    with pytest.raises(UsageError):
        target(text)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# servers\n\n  a.example \nb.example:80\na.example:443\n")
    assert each_once(read(path, None)) == [Target("a.example", 443), Target("b.example", 80)]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "names no server"), (b"# a\n", "names no server"), (b"a\nb:x\n", "line 2"), (b"\xff\n", "is not text")],
)
def test_bad_file(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read(path, None)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "hosts", None)


@pytest.mark.parametrize("name", ["x" * 64 + ".example", "a..b", "\x00"])
def test_names_that_cannot_be_looked_up(name: str) -> None:
    found, why = addresses(Target(name, 443), 0)
    assert not found
    assert why


def test_addresses() -> None:
    assert addresses(Target("127.0.0.1", 80), 0) == ([("127.0.0.1", 80)], "")
    assert addresses(Target("::1", 80), 0) == ([("::1", 80, 0, 0)], "")
