"""Strings from the network are harmless on every screen."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from textual.pilot import Pilot

from tests.tui.driving import LARGE, drive, press, screen_text, segments, settle
from tests.tui.recorded import Recorded, batches
from tracer.handshake.batch import Batch
from tracer.handshake.syn_payloads import SynPayload, SynPayloads
from tracer.vocabulary.printable import printable
from tui.app import Dashboard
from tui.lines import safe

NAMES = {
    "escapes": b"\x1b[31mred\x1b]0;title\x07\x9b2J.example",
    "markup": b"[bold red]a[/] [link=http://x]b[/link] [@click=app.quit]c[/]",
    "direction": "\u202eelpmaxe\u2066\u200f.gnp".encode(),
    "long": b"a" * 255,
    "invalid": b"\xff\xfe\xc3(\xa0\xed\xa0\x80",
    "newlines": b"one\r\ntwo\tthree\x0bfour\x85",
    "combining": ("x" + "\u0301" * 60 + "\u200d\ufeff").encode(),
    "wide": "漢字かな".encode() * 20,
}


def client_hello(name: bytes) -> bytes:
    """A ClientHello with this server name."""

    def sized(body: bytes, size: int = 2) -> bytes:
        return len(body).to_bytes(size, "big") + body

    names = sized(b"\0" + sized(name))
    extensions = b"\0\0" + sized(names) + b"\0\x10" + sized(sized(sized(name[:200], 1)))
    body = b"\x03\x03" + bytes(32) + sized(b"", 1) + sized(b"\x13\x01") + sized(b"\0", 1) + sized(extensions)
    return b"\x16\x03\x01" + sized(b"\x01" + sized(body, 3))


def with_name(name: bytes) -> Batch:
    """A recorded handshake with SYN data, now the newest and with a ClientHello for this name."""
    batch = next(one for one in batches() if one.events["syn"]["payload_len"].any())
    at = next(row for row in range(len(batch)) if int(batch.events["syn"]["payload_len"][row]))
    batch = batch.select(np.array([at]))
    batch.events["syn_ns"] += np.uint64(3600 * 10**9)
    key = int(batch.events["id"][0]), int(batch.events["syn_ns"][0])
    data = client_hello(name)
    return replace(batch, payloads=SynPayloads.of([SynPayload(*key, len(data), data)]))


def assert_harmless(texts: list[str]) -> None:
    """Nothing in there that a terminal would obey."""
    for text in texts:
        for character in text:
            category = unicodedata.category(character)
            assert category not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), f"{character!r} in {text!r}"


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_hostile_name_on_every_screen(name: bytes) -> None:
    engine = Recorded(share=0.1)
    engine.store.write(with_name(name))

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        record = app.latest.rows.record(len(app.latest.rows) - 1)
        assert record.tls is not None
        assert record.tls.sni
        await press(pilot, "2")
        app.handshakes.chosen = ("sni", "alpn", "name")
        app.handshakes._columns_changed()
        await settle(pilot)
        start = safe(record.tls.sni)[:20]
        assert start in screen_text(app)
        assert_harmless(segments(app))
        await press(pilot, "enter")
        assert start in screen_text(app)
        assert_harmless(segments(app))
        await press(pilot, "y")
        assert app.clipboard.isprintable() or "\\u" in app.clipboard or "\n" in app.clipboard
        assert_harmless([app.clipboard.replace("\n", "")])
        for key in "1345":
            await press(pilot, key)
            assert_harmless(segments(app))
        assert app.is_running

    drive(script, engine, LARGE)


def test_brackets_are_shown_as_they_are() -> None:
    engine = Recorded(share=0.1)
    engine.store.write(with_name(NAMES["markup"]))

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "enter")
        assert "[bold red]a[/] [link=http://x]b[/link] [@click=app.quit]c[/]" in screen_text(app)

    drive(script, engine, LARGE)


def test_hostile_notices_interfaces_and_ends() -> None:
    engine = Recorded(share=0.1)
    bad = "[red]\x1b[2J\u202e[/]\n"
    taken = engine.snapshot()
    engine.changes = {
        "ended": bad,
        "interfaces": tuple(
            replace(one, name=bad, why=bad, others=(bad,), warnings=(bad,)) for one in taken.interfaces
        ),
        "peers": tuple(replace(one, name=bad) for one in taken.peers),
        "comparisons": tuple(replace(one, name=bad) for one in taken.comparisons),
    }

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        for key in "12345":
            await press(pilot, key)
            assert_harmless(segments(app))
            assert "[red]\\x1b[2J\\u202e[/]\\x0a" in screen_text(app)

    drive(script, engine, (160, 50))


def test_a_filter_that_was_pasted_with_escapes_is_shown_harmlessly() -> None:
    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "2", "slash")
        app.handshakes.filter_line.input.value = "[red]\x1b[2J == \u202e"
        await settle(pilot)
        assert_harmless(segments(app))

    drive(script)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_safe_text_has_a_width_in_every_character(name: bytes) -> None:
    from rich.cells import cell_len

    text = safe(name.decode("utf-8", "backslashreplace"))
    assert all(cell_len(character) > 0 for character in text)
    assert_harmless([text])
    assert text.isascii() or printable(text)
