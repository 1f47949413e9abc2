"""How doctor judges what it reads: levels, words, exit status."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from tracer.doctor import cookies, counters, host, listeners, settings
from tracer.doctor.model import Finding, Level, Listener, Report, Topic, exit_code, some, to_do
from tracer.doctor.text import lines
from tracer.linux import tcp_metrics
from tracer.loader.load import kernel_version
from tracer.records.ends import Process

CAPABLE = (1 << 41) - 1


def finding(level: Level, prevents: bool = False) -> Finding:
    return Finding(Topic.TRACING, "x", level, "text", prevents_tracing=prevents)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([], 0),
        ([finding(Level.OK), finding(Level.WARNING), finding(Level.UNKNOWN), finding(Level.INFO)], 0),
        ([finding(Level.PROBLEM)], 5),
        ([finding(Level.PROBLEM), finding(Level.PROBLEM, prevents=True)], 3),
    ],
)
def test_exit_status(found: list[Finding], code: int) -> None:
    assert exit_code(found) == code


def test_a_list_for_a_sentence_is_bounded() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(map(str, range(10))) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


# --- host ---


@pytest.mark.parametrize(
    ("release", "version"), [("6.18.44-fc", (6, 18)), ("5.10.0-30-amd64", (5, 10)), ("6.1", (6, 1)), ("odd", (0, 0))]
)
def test_kernel_version(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version


@pytest.mark.parametrize(
    ("release", "level"), [("5.10.1", Level.OK), ("5.9.16", Level.WARNING), ("5.4", Level.WARNING)]
)
def test_kernels_it_is_written_for(release: str, level: Level) -> None:
    found = host.kernel(release)
    assert found.level is level
    assert ("perf buffer" in found.text) == (release == "5.4")


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ((), "with the capabilities"),
        ((21,), "with the capabilities"),
        ((12,), "lacks CAP_NET_ADMIN:"),
        ((21, 38), "lacks CAP_PERFMON:"),
        ((12, 21, 38, 39), "lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN:"),
    ],
)
def test_root_without_what_it_takes(lacking: tuple[int, ...], words: str) -> None:
    found = host.privilege(True, CAPABLE & ~sum(1 << bit for bit in lacking))
    assert words in found.text
    assert found.prevents_tracing == ("lacks" in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[none] integrity confidentiality\n", "is off"),
        ("none [integrity] confidentiality\n", "at integrity, which allows reading packets"),
        ("none integrity [confidentiality]\n", "processes are not named"),
    ],
)
def test_lockdown(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "lockdown").write_text(text)
    found = host.lockdown(tmp_path / "lockdown")
    assert words in found.text
    assert found.level is Level.OK
    assert "not there" in host.lockdown(tmp_path / "none").text


def test_memlock_matters_before_5_11_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "since Linux 5.11" in host.memlock((5, 11), 0).text
    monkeypatch.setattr(host.resource, "getrlimit", lambda _: (65536, 65536))
    assert host.memlock((5, 10), 0).level is Level.WARNING
    assert host.memlock((5, 10), CAPABLE).level is Level.OK


# --- settings ---


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        ("00000000-00000000-00000000-00000000\n", Level.INFO, "no cookie key yet"),
        ("00000000-00000000-00000000-00000001\n", Level.OK, "no backup key"),
        ("1-2-3-4,5-6-7-8\n", Level.OK, "a backup key are set"),
    ],
)
def test_the_key(tmp_path: Path, text: str, level: Level, words: str) -> None:
    (tmp_path / "tcp_fastopen_key").write_text(text)
    found = settings.key(3, "", tmp_path)
    assert found.level is level
    assert words in found.text


def test_a_kernel_without_fast_open() -> None:
    (found,) = settings.findings({}, "")
    assert found.level is Level.UNKNOWN


@pytest.mark.parametrize("value", [0, 1, 2, 3, 4, 0x200, 0x204, 0x400, 0x405, 0x602, 0x607])
def test_one_value_answers_every_finding_and_keeps_every_bit(value: int) -> None:
    asks = [*settings.findings({"tcp_fastopen": str(value)}, ""), *by_id([listener(9)], value).values()]
    commands = {item.command for item in asks if "tcp_fastopen=" in (item.command or "")}
    assert commands == ({f"sysctl -w net.ipv4.tcp_fastopen={value | 3}"} if value & 3 != 3 else set())
    said = {item.id for item in asks}
    assert ("client_no_cookie" in said, "server_no_cookie" in said) == (bool(value & 4), bool(value & 0x200))


def test_what_would_matter_once_fast_open_is_on_is_said_at_once() -> None:
    sysctls = {"tcp_syncookies": "2", "tcp_fastopen_blackhole_timeout_sec": "3600"}
    for value, level in (("0", Level.WARNING), ("3", Level.PROBLEM)):
        found = {item.id: item for item in settings.findings({**sysctls, "tcp_fastopen": value}, "")}
        assert (found["syn_cookies"].level, found["blackhole"].level) == (level, Level.WARNING)


def test_the_sum_is_one_command() -> None:
    def asks(level: Level, setting: str, topic: Topic = Topic.SETTINGS) -> Finding:
        return Finding(topic, "x", level, "text", f"nsenter --net=/x sysctl -w {setting}")

    found = [
        finding(Level.PROBLEM),
        asks(Level.WARNING, "a=3"),
        asks(Level.PROBLEM, "b=1"),
        asks(Level.PROBLEM, "a=3"),
        asks(Level.OK, "key=NEW,OLD  # rotates"),
        asks(Level.WARNING, "backlog=512", Topic.COUNTERS),
    ]
    assert to_do(found) == "nsenter --net=/x sysctl -w a=3 b=1"
    assert to_do(found[:1]) is None


# --- listeners ---


def listener(queue: int | None, name: str = "nginx", **more: object) -> Listener:
    values: dict[str, object] = {"own_keys": 0, "no_cookie": False, "waiting": 0, "backlog": 100}
    fast_open = None if queue is None else queue > 0
    fields = {**dict.fromkeys(values), **more} if queue is None else {**values, **more}
    return Listener("0.0.0.0", 443, 0, (Process(5, name, 0),), fast_open, queue, **fields)  # type: ignore[arg-type]


def by_id(found: list[Listener], bits: int) -> dict[str, Finding]:
    return {item.id: item for item in listeners.findings(found, bits, "")}


def test_no_listener_asks() -> None:
    found = by_id([listener(0)], 3)
    assert found.keys() == {"off"}
    assert (found["off"].level, found["off"].cause) == (Level.WARNING, "listener_disabled")
    assert found["off"].command == "nginx: listen ... fastopen=256;"
    unknown_program = by_id([listener(0, "own")], 3)["off"]
    assert unknown_program.command is None, "bit 0x400 would serve every other listener too"
    assert "set bit 0x400 of net.ipv4.tcp_fastopen" in unknown_program.text
    assert by_id([listener(0)], 1)["off"].level is Level.INFO
    assert by_id([], 3)["none"].level is Level.INFO


def test_a_listener_that_could_not_be_asked_may_be_one_with_fast_open() -> None:
    found = by_id([listener(0), listener(None, unknown_because="why")], 3)
    assert {word: item.level for word, item in found.items()} == {"off": Level.INFO, "not_asked": Level.UNKNOWN}
    assert "1 of 2 listening sockets could not be read: why" in found["not_asked"].text


# --- cookies and counters ---


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def decoded(attributes: bytes) -> dict[str, Any]:
    """What pyroute2 makes of a message of the kernel: nlmsghdr, genlmsghdr, attributes."""
    message = tcp_metrics.Message(struct.pack("=IHHIIBBH", 20 + len(attributes), 27, 2, 1, 0, 1, 1, 0) + attributes)
    message.decode()
    return dict(message["attrs"])


def test_an_entry_of_the_cache() -> None:
    address = attribute(1, bytes((192, 0, 2, 9))) + attribute(3, (1500).to_bytes(8, sys.byteorder))
    assert cookies.parse(decoded(address)) is None  # round trips only
    entry = cookies.parse(decoded(
        address + attribute(7, (1460).to_bytes(2, sys.byteorder)) + attribute(8, (3).to_bytes(2, sys.byteorder))
        + attribute(10, b"8 bytes!") + attribute(11, bytes((192, 0, 2, 1)))
    ))  # fmt: skip
    assert entry is not None
    assert (entry.server_ip, entry.client_ip, entry.cookie_len) == ("192.0.2.9", "192.0.2.1", 8)
    assert (entry.mss, entry.syn_drops, entry.age_us) == (1460, 3, 1_500_000.0)
    found = {item.id: item for item in cookies.findings([entry], 3, "")}
    assert found["syn_drops"].cause == "path_drops_syn_data"
    assert "192.0.2.9" in found["kept"].text


def of_counters(values: dict[str, int], bits: int = 3, **sysctls: str) -> dict[str, Finding]:
    whole = {"TCPFastOpenActive": 0, "TCPFastOpenPassive": 0, **values}
    return {item.id: item for item in counters.findings(whole, sysctls, bits, "", "./tfotrace any")}


@pytest.mark.parametrize(
    ("good", "failed", "level"), [(0, 0, Level.INFO), (100, 9, Level.OK), (100, 11, Level.OK), (100, 12, Level.WARNING)]
)
def test_failures_beyond_loss_are_a_warning(good: int, failed: int, level: Level) -> None:
    found = of_counters(
        {
            "TCPFastOpenActive": good,
            "TCPFastOpenActiveFail": failed,
            "TCPFastOpenPassive": good,
            "TCPFastOpenPassiveFail": failed,
        }
    )
    assert found["client"].level is found["server"].level is level
    advice = "./tfotrace any" if level is Level.WARNING else None
    assert found["client"].command == found["server"].command == advice


def test_traps_of_the_counters() -> None:
    assert "cookie_requests" not in of_counters({})
    assert of_counters({"TCPFastOpenCookieReqd": 5}, bits=1)["cookie_requests"].level is Level.WARNING
    assert of_counters({"TCPFastOpenCookieReqd": 5}, bits=3)["cookie_requests"].level is Level.INFO
    off = {"tcp_fastopen_blackhole_timeout_sec": "0"}
    assert "stays 0" in of_counters({}, **off)["blackhole"].text
    assert of_counters({"TCPFastOpenBlackhole": 1}, tcp_fastopen_blackhole_timeout_sec="9")["blackhole"].level is (
        Level.WARNING
    )
    assert of_counters({"TCPFastOpenListenOverflow": 2})["queue_overflow"].cause == "queue_overflow"
    crowded = of_counters({"TCPReqQFullDoCookies": 2}, tcp_max_syn_backlog="128")["syn_cookies"]
    assert crowded.command == "sysctl -w net.ipv4.tcp_max_syn_backlog=512"


# --- text ---


def test_the_report_is_harmless_and_counts_what_it_says() -> None:
    evil = listener(16, "e\x1b[2Jvil")
    report = Report(
        1, "t", "v", "6.18", True, None,
        (finding(Level.PROBLEM), Finding(Topic.LISTENERS, "y", Level.WARNING, "w\x1b ord " * 40, "do \x07it")),
        (), (evil, evil, listener(None), listener(0)), (), {}, {}, 5,
    )  # fmt: skip
    said = list(lines(report))
    assert not any("\x1b" in line or "\x07" in line for line in said)
    assert max(map(len, said)) <= 100
    assert any("0.0.0.0:443 (2 sockets)" in line and "queue 16" in line for line in said)
    assert any(line.endswith("unknown") for line in said)
    assert said[-1] == "1 problem, 1 warning; doctor changed nothing"
    assert any("\x1b[1;31mproblem" in line for line in lines(report, colour=True))
