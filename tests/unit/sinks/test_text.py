"""--text: lines that align, say what happened before who it was, and fit into 140 columns in the usual case."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from tests.support.lines import as_lines, handshakes, run_records
from tests.support.zones import BERLIN, zone
from tracer.cli import main as cli
from tracer.errors import UsageError
from tracer.filters.fields import FIELDS
from tracer.filters.filter import ALIASES
from tracer.records.ends import Endpoint, Process
from tracer.records.record import Handshake, HttpInfo, TlsInfo
from tracer.records.refusal import Icmp, Reset
from tracer.records.run import InterfaceInfo, Start
from tracer.sinks import text_columns
from tracer.sinks.text import Lines, wants_colour
from tracer.store.list_columns import COLUMNS, UNKNOWN

change = msgspec.structs.replace
USUAL = 140


def start(*names: str, argv: tuple[str, ...] = ()) -> Start:
    first = run_records()[0]
    assert isinstance(first, Start)
    found = tuple(InterfaceInfo(name, at, "tcx", "", 0) for at, name in enumerate(names, 2))
    return change(first, interfaces=found, argv=("tfotrace", *argv))


def lines(*records: Handshake, fields: tuple[str, ...] | None = None, colour: bool = False) -> list[str]:
    return Lines(text_columns.of_run(fields, start("eth0")), colour).of(records)


def told(outcome: str = "not_attempted", more: dict[str, Any] | None = None, **timing: Any) -> Handshake:
    """A record of the lab between IPv4 addresses with this outcome, which says this of the handshake."""
    found = next(one for one in handshakes() if one.tfo.outcome == outcome and ":" not in one.client.ip)
    return change(found, handshake=change(found.handshake, **timing), **(more or {}))


def test_a_head_and_then_a_line_a_handshake() -> None:
    records = handshakes()
    day, head, *found = lines(*records)
    assert day == f"{records[0].ts[:10]}, times in UTC"
    assert head.split("  ")[0] == "TIME"
    assert [one[:12] for one in found] == [one.ts[11:23] for one in records]
    assert not any(one != one.rstrip() for one in (head, *found))


def test_every_column_begins_where_its_title_does() -> None:
    _, head, *found = lines(*handshakes())
    columns = text_columns.of_run(None, start("eth0"))
    seen = 0
    for record, line in zip(handshakes(), found, strict=True):
        begin = 0
        for column in columns[:-1]:
            text = column.text(record)
            if len(text) > column.width:  # longer than usual: whole all the same, and what follows is ragged
                assert line[begin:].startswith(text)
                assert column.name in ("client", "server", "result")
                break
            assert line[begin : begin + column.width].strip() == text
            seen += column.name == "server"
            begin += column.width + 1
    assert seen > len(found) / 2
    assert head.index("NOTES") == sum(one.width + 1 for one in columns[:-1])


def test_usual_lines_fit_into_140_columns() -> None:
    usual = [one for one in handshakes() if ":" not in one.client.ip]
    _, head, *found = lines(*usual)
    assert len(head) <= USUAL
    too_long = [
        line
        for line, one in zip(found, usual, strict=True)
        if len(line) > USUAL and one.handshake.result == "established" and one.handshake.syn_count == 1
    ]
    # what is left says how much of the SYN's data was taken, or has a name in the DNS and a type
    assert all(" B acked, " in one or " DNS " in one for one in too_long)
    assert len(too_long) < len(usual) / 30
    longest = told(
        "data_not_acked_new_cookie",
        {"client": Endpoint("192.168.100.20", 54321), "server": Endpoint("93.184.215.14", 443), "tls": None,
         "http": HttpInfo("GET", "www.example.com"), "dns": None},
    )  # fmt: skip
    assert len(lines(longest)[-1]) <= USUAL


def test_long_addresses_are_ragged_at_the_end_alone() -> None:
    ip = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"
    ends = {"client": Endpoint(ip, 65535), "server": Endpoint(ip, 65535)}
    short, long = lines(told("data_acked"), told("data_acked", ends))[-2:]
    at = short.index("10.")
    assert (short[:at], long[at:].split()[:2]) == (long[:at], [f"[{ip}]:65535"] * 2)


def test_what_is_too_long_takes_the_room_of_those_behind_it() -> None:
    ends = {"client": Endpoint("192.0.2.1", 1), "server": Endpoint("192.0.2.2", 2)}
    usual = told("not_attempted", ends, cause=None, rtt_us=1.0)
    cause = {"cause": "refused", "cause_confidence": "possible"}
    _, head, short, a_number, an_address = lines(
        usual,
        told("not_attempted", ends, **cause, rtt_us=None),
        told("not_attempted", ends, **cause, rtt_us=123_456.0),
    )
    long = "refused by the server (possible)"
    assert len(long) > next(one.width for one in text_columns.of_run(None, start("eth0")) if one.name == "cause")
    assert long in a_number
    assert long in an_address
    assert short.index("192.0.2.1:1") == a_number.index("192.0.2.1:1") == head.index("CLIENT")
    assert an_address.index("192.0.2.1:1") > head.index("CLIENT")
    assert {one.index("192.0.2.2:2") for one in (short, a_number, an_address)} == {head.index("SERVER")}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (told(result="rejected", cause="no_listener", cause_confidence="certain", reset=Reset("server", 340.0, 64, 0)),
         ["refused", "nobody listens", "reset by the server after 340 µs"]),
        (told(result="unreachable", cause="firewall_rejected", cause_confidence="likely",
              icmp=Icmp(3, 13, "192.0.2.254")),
         ["unreachable", "rejected by a firewall (likely)",
          "ICMP: administratively prohibited, says 192.0.2.254"]),
        (told(syn_count=2, connect_us=1_020_031.0, cause="syn_or_synack_lost", cause_confidence="possible"),
         ["established", "SYN or SYN-ACK lost (possible)", "2 SYNs, connected after 1.02 s"]),
        (told("data_acked", {"tls": TlsInfo(None, None, False),
                             "payload": msgspec.convert({"protocol": "tls", "captured": True, "truncated": True},
                                                        type(next(o.payload for o in handshakes() if o.payload)))}),
         ["data acked", UNKNOWN, "ClientHello truncated, SNI beyond the SYN"]),
        (told("no_answer", result="no_reply", cause=None), ["no reply", "TFO tried"]),
        (told(result="no_reply", cause=None, settled_by="at_end"), ["no reply", UNKNOWN, "still open at the end"]),
    ],
    ids=["refused", "icmp", "resent", "truncated", "no_reply", "cut_short"],
)  # fmt: skip
def test_what_happened_stands_in_the_line(record: Handshake, says: list[str]) -> None:
    line, at = lines(record)[-1], 0
    for words in says:
        at = line.index(words, at) + len(words)


def test_only_what_failed_is_told_to_be_open_at_the_end() -> None:
    assert "still open" not in lines(told(result="established", settled_by="at_end"))[-1]
    assert "still open" not in lines(told(result="no_reply", settled_by="timeout"))[-1]


def test_day_and_zone_are_told_once_and_where_they_change() -> None:
    times = ("2026-10-24T21:59:59.0Z", "2026-10-24T22:00:00.0Z", "2026-10-25T00:59:59.0Z", "2026-10-25T01:00:00.0Z",
             "2026-10-25T01:00:01.0Z")  # fmt: skip
    with zone(BERLIN):
        found = lines(*(change(told(), ts=ts) for ts in times))
    assert [one if "times in" in one else one.split()[0] for one in found] == [
        "2026-10-24, times in UTC+02:00", "TIME", "23:59:59.0",
        "2026-10-25, times in UTC+02:00", "00:00:00.0", "02:59:59.0",
        "2026-10-25, times in UTC+01:00", "02:00:00.0", "02:00:01.0",
    ]  # fmt: skip


def test_without_the_time_no_zone() -> None:
    assert lines(told(), fields=("server", "result"))[0].split() == ["SERVER", "RESULT", "OR", "FAST", "OPEN"]


@pytest.mark.parametrize(
    ("interfaces", "argv", "there"),
    [(("eth0",), (), False), (("eth0", "eth1"), (), True), (("eth0",), ("any",), True), ((), (), True)],
)
def test_the_interface_is_told_where_there_may_be_several(
    interfaces: tuple[str, ...], argv: tuple[str, ...], there: bool
) -> None:
    found = text_columns.of_run(None, start(*interfaces, argv=argv))
    assert ("interface" in [one.name for one in found]) is there
    names = [one.width for one in found if one.name == "interface"]
    assert not any(width < len(name) for width in names for name in interfaces or ("fifteen-letters",))
    chosen = text_columns.of_run(("interface", "server"), start(*interfaces, argv=argv))
    assert [one.name for one in chosen] == ["interface", "server"]


# --- colour ---


def test_colour_marks_what_failed_and_nothing_else() -> None:
    refused = told(result="rejected", cause="refused", cause_confidence="likely")
    assert "\x1b[31mrefused\x1b[0m" in lines(refused, colour=True)[-1]
    assert "\x1b[31mrefused by the server (likely)\x1b[0m" in lines(refused, colour=True)[-1]
    slow = told(cause="slow_answer", cause_confidence="likely")
    assert "\x1b[33mslow answer (likely)\x1b[0m" in lines(slow, colour=True)[-1]
    for plain in (told(), told("data_acked")):
        assert "\x1b" not in "".join(lines(plain, colour=True))
    for record in (refused, slow):
        with_colour = lines(record, colour=True)[-1]
        for code in ("\x1b[31m", "\x1b[33m", "\x1b[0m"):
            with_colour = with_colour.replace(code, "")
        assert with_colour == lines(record)[-1]


def test_when_there_is_colour() -> None:
    assert wants_colour(True, {})
    assert wants_colour(True, {"NO_COLOR": "", "TERM": "xterm"})
    assert not wants_colour(True, {"NO_COLOR": "1"})
    assert not wants_colour(True, {"TERM": "dumb"})
    assert not wants_colour(False, {})


def test_nothing_of_the_network_reaches_the_terminal_raw() -> None:
    evil = "a\x1b[2J\r\n\u202eb\x00"
    process = Process(1, evil, 0, evil)
    record = change(
        told("data_acked", result=evil, cause=evil, cause_confidence=evil, resumed=evil, icmp=Icmp(3, 1, evil),
             reset=Reset(evil, 1.0, 1, 1, evil)),
        interface=evil, hook=evil, vantage=evil, through=(evil,), warnings=(evil,), tls=TlsInfo(evil, (evil,), False),
        http=HttpInfo(evil, evil), client=Endpoint("10.0.0.1", 1, process), server=Endpoint("10.0.0.2", 1, process),
    )  # fmt: skip
    for fields in (None, *((name,) for name in COLUMNS)):
        for line in lines(record, fields=fields):
            assert line.isprintable(), fields


# --- --fields ---


@pytest.mark.parametrize("name", [*COLUMNS, *FIELDS, "notes", "why", "sni"])
def test_every_name_of_lists_filters_and_records_is_a_field(name: str) -> None:
    assert text_columns.parse(name) == (name,)
    assert lines(told("data_acked"), fields=("server", name))[-1]


def test_names_of_filters_that_stand_for_one_field_are_fields() -> None:
    for name, fields in ALIASES.items():
        if len(fields) == 1:
            assert text_columns.column(name)


@pytest.mark.parametrize(
    ("text", "shows"),
    [
        ("server.port,client.ip", ["443", "10.74.13.1"]),
        ("handshake.rtt_us", ["0.812"]),
        ("rtt", ["0.812"]),
        ("ts", ["2026-11-23T12:14:33.501000000Z"]),
        ("tfo.outcome,syn.options", ["not", "attempted", "mss"]),
    ],
)
def test_a_field_shows_its_value(text: str, shows: list[str]) -> None:
    record = told(rtt_us=812.4)
    record = change(
        record, ts="2026-11-23T12:14:33.501000000Z", server=Endpoint("10.0.0.1", 443),
        client=Endpoint("10.74.13.1", 5), syn=change(record.syn, options=("mss",)),
    )  # fmt: skip
    assert lines(record, fields=text_columns.parse(text))[-1].split() == shows


def test_more_beside_the_usual() -> None:
    usual = [one.name for one in text_columns.of_run(None, start("eth0"))]
    more = [one.name for one in text_columns.of_run(text_columns.parse("+vlan,process"), start("eth0"))]
    assert more == [*usual[:-1], "vlan", "process", "notes"]
    assert text_columns.parse("+vlan,+process") == text_columns.parse("+vlan, process")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("servr", "did you mean server?"),
        ("time,handshake.rt", "did you mean handshake.rtt_us?"),
        ("tfo", "tfo has several fields: tfo.request"),
        ("ip", "stands for client.ip and server.ip"),
        ("", "such as time,server,result"),
        ("time,,server", "such as time,server,result"),
        ("+", "such as time,server,result"),
        ("\x1b[31m", "`--fields help` lists them"),
        ("help,time", "--fields"),
    ],
)
def test_what_is_no_field(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        text_columns.parse(text)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_help_lists_all(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["eth0", "--fields", "help"])
    assert caught.value.code == 0
    said = capfd.readouterr().out
    assert all(f"\n{name} " in said for name in (*COLUMNS, "notes") if COLUMNS.get(name, text_columns.NOTES).says)


@pytest.mark.parametrize("form", ["--json", "--quiet"])
def test_fields_are_of_text(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eth0", "--fields", "time", form]) == 2
    assert f"use it without {form}" in capfd.readouterr().err


def test_a_replay_with_fields(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(as_lines(run_records()))
    assert cli.main(["replay", os.fspath(path), "--fields", "server.port,tfo.group"]) == 0
    head, *found = capfd.readouterr().out.splitlines()
    assert head.split() == ["SERVER.PORT", "TFO"]
    assert [one.split() for one in found] == [[str(one.server.port), one.tfo.group or "-"] for one in handshakes()]
