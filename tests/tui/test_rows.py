"""What a row of the list of handshakes says: sign, colour and words by handshake and Fast Open together, never cut."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import msgspec
import pytest
from rich.cells import cell_len

from tests.support.rows import records_of
from tests.tui.driving import drive, press, screen_text
from tests.tui.recorded import Recorded
from tracer.aggregate.figures import Peer
from tracer.records.drop import Drop
from tracer.records.ends import Process
from tracer.records.record import Handshake
from tracer.vocabulary.causes import CAUSES_OF_DROPS
from tracer.vocabulary.fates import FAILED_WORDS
from tracer.vocabulary.vocabulary import CAUSE_WORDS, HANDSHAKE_CAUSE_WORDS, OUTCOME_WORDS, known
from tui.app import Dashboard
from tui.handshake_rows import default_columns, row_cells
from tui.lines import cut_middle
from tui.screens import listeners, peers
from tui.widgets.row_list import GAP, LAST_LEAST

REASONS = ("NETFILTER_DROP", "IP_RPFILTER", "TCP_RFC7323_PAWS", "TCP_MD5FAILURE", "NEIGH_FAILED", "IP_INNOROUTES")


@cache
def some_record() -> Handshake:
    """One of the recording."""
    return records_of(Recorded().snapshot().rows)[0]


def record(
    outcome: str = "not_attempted", group: str = "n/a", tfo_cause: str | None = None, **timing: object
) -> Handshake:
    """A recorded handshake that went this way."""
    found = some_record()
    replace = msgspec.structs.replace
    return replace(
        found,
        handshake=replace(found.handshake, **{"result": "established", "cause": None, **timing}),
        tfo=replace(found.tfo, outcome=outcome, group=group, cause=tfo_cause),
    )


@pytest.mark.parametrize(
    ("made", "result", "cause"),
    [
        (record(result="rejected"), ("✗ refused", "failed"), ("-", "failed")),
        (record(result="no_reply", cause="host_dropped"), ("✗ no reply", "failed"), ("dropped by this host", "failed")),
        (record(cause="slow_answer"), ("~ established", "degraded"), ("slow answer", "degraded")),
        (record("data_acked", "ok"), ("✓ data acked", "ok"), ("-", "text")),
        (record("data_acked", "ok", cause="synack_lost"), ("~ data acked", "degraded"), ("SYN-ACK lost", "degraded")),
        (record("data_acked", "failed"), ("✗ data acked, died", "failed"), ("-", "failed")),
        (record("data_acked_new_cookie", "ok", "key_rotation"), ("✓ data acked new cookie", "ok"),
         ("key rotation", "text")),
        (record("data_not_acked", "degraded", "server_disabled"), ("~ data not acked", "degraded"),
         ("server disabled", "degraded")),
        (record("no_answer", "failed", "packet_loss", result="no_reply", cause="filtered_or_down"),
         ("✗ no reply", "failed"), ("filtered or down", "failed")),
        (record(), ("· established", "none"), ("-", "text")),
        (record("cookie_only"), ("· cookie without data", "none"), ("-", "text")),
        (record(result="simultaneous_open"), ("· simultaneous open", "none"), ("-", "text")),
        (record(result="syn_on_established"), ("· SYN on established", "none"), ("-", "text")),
    ],
)  # fmt: skip
def test_sign_and_colour_tell_of_the_handshake_and_of_fast_open_together(
    made: Handshake, result: tuple[str, str], cause: tuple[str, str]
) -> None:
    assert row_cells(made, ["result", "cause"]) == [result, cause]


def every_fate() -> list[Handshake]:
    """Every way to fail, with every cause and what the kernel may say of it."""
    drops = [Drop(segment="syn", reason=reason, at="tcp_v4_rcv", netns=None) for reason in REASONS]
    return [
        record(result=result, cause=cause, cause_confidence="certain", drop=drop)
        for result in (*FAILED_WORDS, "established")
        for cause in HANDSHAKE_CAUSE_WORDS
        for drop in (drops if cause in CAUSES_OF_DROPS else (None,))
    ]


def every_outcome() -> list[Handshake]:
    """Every outcome of Fast Open, with every cause."""
    return [record(outcome, "degraded", cause) for outcome in known(OUTCOME_WORDS) for cause in known(CAUSE_WORDS)]


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (110, 30), (120, 40), (140, 40), (160, 50), (200, 60)])
def test_no_fate_is_cut(size: tuple[int, int]) -> None:
    widths: list[int] = []

    async def script(pilot: object, app: Dashboard) -> None:
        await press(pilot, "2")  # type: ignore[arg-type]
        widths.extend(app.handshakes.list.widths)

    drive(script, size=size)
    columns = default_columns(size[0])
    assert ("outcome" in columns) != {"result", "cause"}.issubset(columns)
    for made in (*every_fate(), *every_outcome()):
        for name, width, (text, _) in zip(columns, widths, row_cells(made, columns, widths), strict=True):
            if name in ("outcome", "result", "cause"):
                assert len(text) <= width, text


def test_columns_come_with_the_width() -> None:
    assert {"result", "cause"} <= set(default_columns(120))
    assert "process" not in default_columns(139)
    for cells in (140, 160, 190, 200, 240):
        assert {"result", "cause", "process"} <= set(default_columns(cells))


def test_the_process_is_told_where_the_record_has_it() -> None:
    replace, nginx = msgspec.structs.replace, Process(812, "nginx", 0)
    made = replace(record(), client=replace(record().client, process=None))
    owned = replace(made, server=replace(made.server, process=nginx))
    assert row_cells(owned, ["process"]) == [("nginx[812]", "text")]
    assert row_cells(replace(made, server=replace(made.server, process=None)), ["process"]) == [("-", "text")]


def test_the_headings_of_a_wide_screen() -> None:
    async def script(pilot: object, app: Dashboard) -> None:
        await press(pilot, "2")  # type: ignore[arg-type]
        heading = screen_text(app).splitlines()[2]
        assert heading.split()[0] == "Time▼"
        for title in ("Client", "Server", "Result", "RTT ms", "Process", "Cause"):
            assert title in heading

    drive(script, size=(140, 40))


def _peers(some: Peer) -> list[Peer]:
    """Each way that the last handshake of a peer can have gone, and each cause that most can have."""
    far = replace(some, ip="2001:db8:1234:5678:9abc:def0:1234:5678", port=65535)
    return [
        *(replace(far, last_outcome=outcome, last_group=group, last_result="established", last_cause=None)
          for outcome in known(OUTCOME_WORDS) for group in ("ok", "degraded", "failed")),
        *(replace(far, last_result=result, last_group="failed", last_cause=cause, cause=cause)
          for result in FAILED_WORDS for cause in (None, *HANDSHAKE_CAUSE_WORDS)),
    ]  # fmt: skip


def test_lists_of_peers_and_listeners_cut_no_verdict_and_no_port() -> None:
    taken = Recorded(local=True).snapshot()
    made = _peers(taken.peers[0])
    for by_width, things in (
        (peers.BY_WIDTH, made),
        (listeners.BY_WIDTH, [replace(taken.listeners[0], ip=one.ip, port=65535, cause=one.cause) for one in made]),
    ):
        for least, columns in by_width:
            room = max(least, 80) - 1  # beside the scrollbar
            left = room - sum(one.column.width + GAP for one in columns[:-1])
            last = columns[-1].column
            assert left >= (last.width if last.id in ("cause", "outcome") else LAST_LEAST - 1)
            for column, thing in itertools.product(columns, things):
                text, _ = column.text(thing, 0)
                if column.column.middle:
                    assert cut_middle(text, column.column.width).endswith("]:65535")
                else:
                    assert cell_len(text) <= column.column.width or column.column.id == "name", text
