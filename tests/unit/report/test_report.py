"""`tfotrace report`: a page that says what the dashboard says, is whole, fetches nothing and runs nothing."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import msgspec
import pytest

from tests.support.lines import as_lines, handshakes, run_records
from tracer.aggregate.history import Window
from tracer.aggregate.reasons import reasons
from tracer.cli import main as cli
from tracer.encode.composer import Composer
from tracer.ipc.traced import TracedInterface
from tracer.records.record import Handshake, HttpInfo, PayloadInfo, TlsInfo
from tracer.records.run import Balance, End, Record
from tracer.replay.columns import BatchBuilder, RecordedComposer
from tracer.replay.input import open_input
from tracer.replay.records import RecordReplay
from tracer.report.output import PageFile
from tracer.report.page import Source
from tracer.report.sink import Report
from tracer.run.fanout import Fanout
from tracer.run.stop import StopRequest
from tracer.store.store import Store
from tracer.vocabulary.vocabulary import Cause, HandshakeCause, HandshakeResult, word
from tracer.words.reasons import told
from tracer.words.verdicts import fast_open
from tracer.words.verdicts import handshakes as verdict_of

replace = msgspec.structs.replace
_VOID = {"meta"}
_FORBIDDEN = {
    "script",
    "img",
    "link",
    "iframe",
    "object",
    "embed",
    "form",
    "a",
    "base",
    "image",
    "use",
    "foreignobject",
}
HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'&\u202e\u2066\u200b\x1b[31m"


class Page(HTMLParser):
    """Reads a page and refuses what is not well-formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)

    @property
    def said(self) -> str:
        """All text."""
        return " ".join("".join(self.words).split())

    def assert_self_contained(self) -> None:
        assert _FORBIDDEN.isdisjoint(self.tags)
        names = {name for _, name, _ in self.attributes}
        assert not {name for name in names if name.startswith("on")}
        assert {"href", "src", "srcset", "style", "xlink:href", "action"}.isdisjoint(names)
        (sheet,) = re.findall(r"<style>(.*?)</style>", self.text, re.DOTALL)
        assert "url(" not in sheet
        assert "@import" not in sheet
        assert "://" not in self.text
        assert (
            "meta",
            "content",
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
        ) in (self.attributes)


def page_of(folder: Path, records: Sequence[Record], *words: str) -> Page:
    """The page on these records."""
    path, out = folder / "events.jsonl", folder / "page.html"
    path.write_bytes(as_lines(tuple(records)))
    assert cli.main(["report", str(path), "-o", str(out), "--utc", *words]) == 0
    page = Page(out.read_text())
    page.assert_self_contained()
    return page


def in_dashboard(folder: Path) -> Store:
    """The store that the dashboard would have after a replay of the same."""
    rows = BatchBuilder()
    composer = RecordedComposer(rows.interfaces, 100)
    store = Store(100_000, composer=composer, clock=lambda: rows.settled_ns)
    source = open_input(folder / "events.jsonl")
    fanout = Fanout([], lambda _: None)
    fanout.observe(store)
    assert RecordReplay([source], composer, rows, fanout, (), StopRequest()).run() == 0
    source.close()
    return store


def changed(record: Handshake, number: int, **timing: object) -> Handshake:
    """A record with another id, and another fate."""
    return replace(record, id=f"{number:016x}", handshake=replace(record.handshake, **timing))


def test_a_page_says_what_the_dashboard_says(tmp_path: Path) -> None:
    page = page_of(tmp_path, run_records())
    snapshot = in_dashboard(tmp_path).snapshot()
    history = snapshot.history
    said = page.said
    verdict = verdict_of(history, Window.ALL, None)
    assert verdict is not None
    assert fast_open(history, Window.ALL, None, ended=True)[0] in said
    assert verdict[0] in said
    for reason in reasons(history, Window.ALL, 100)[:5]:
        assert f"{reason.seen} {told(reason).words}" in said
        assert told(reason).remedy[1:] in said
    for heading in ("Why, and what to do", "Over time", "Servers", "One by one", "Is anything missing?", "To see more"):
        assert heading in said
    assert page.tags.count("svg") >= 3
    assert "first byte of the answer" in said  # a ladder
    assert len(page.text) < 1_000_000


def test_headings_tables_and_plots_can_be_read_aloud(tmp_path: Path) -> None:
    page = page_of(tmp_path, run_records())
    assert ("html", "lang", "en") in page.attributes
    assert page.tags.count("title") == page.tags.count("h1") == page.tags.count("main") == 1
    heads = [value for tag, name, value in page.attributes if tag == "th" and name == "scope"]
    assert page.tags.count("th") == len(heads)
    assert page.tags.count("caption") == page.tags.count("table") > 0
    labels = [value for tag, name, value in page.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == page.tags.count("svg")
    assert all(re.search(r"\d", label) for label in labels)


def test_names_from_the_network_are_text(tmp_path: Path) -> None:
    records = [
        replace(
            one, id=f"{number:016x}", tls=TlsInfo(HOSTILE, (HOSTILE,), False), http=HttpInfo("GET", HOSTILE),
            payload=PayloadInfo("tls", True, False), interface=HOSTILE,
        )
        for number, one in enumerate(handshakes()[:40])
    ]  # fmt: skip
    page = page_of(tmp_path, records)
    assert not re.search("[\u202e\u2066\u200b\x1b]", page.text)
    assert "<img" not in page.text
    assert "</script>" not in page.text
    assert page.text.count("</style>") == 1
    assert "onerror=alert(1)" in page.said
    assert "\\u202e" in page.said


def test_hostile_words_of_an_unknown_version_are_text(tmp_path: Path) -> None:
    start, *others = run_records()
    hostile = replace(start, argv=("tfotrace", HOSTILE), kernel=HOSTILE, version=HOSTILE)  # type: ignore[type-var]
    notice = next(one for one in others if type(one).__name__ == "NoticeRecord")
    page = page_of(tmp_path, [hostile, *others[:5], replace(notice, text=HOSTILE), others[-1]])  # type: ignore[type-var]
    assert "<img" not in page.text
    assert "\u202e" not in page.text


def test_nothing_at_all(tmp_path: Path) -> None:
    records = run_records()
    page = page_of(tmp_path, [records[0], records[-1]])
    assert "No handshake was seen." in page.said
    assert "Health" not in page.said
    assert "svg" not in page.tags


def test_packets_without_a_handshake(tmp_path: Path) -> None:
    start, *_, end = run_records()
    assert isinstance(end, End)
    nothing = Balance(**dict.fromkeys(Balance.__struct_fields__, 0))
    end = msgspec.structs.replace(end, balance=nothing, counters=end.counters | {"packets": 2})
    assert "of 2 packets none began a handshake" in page_of(tmp_path, [start, end]).said


def test_one_handshake_without_start_and_end(tmp_path: Path) -> None:
    record = handshakes()[0]
    page = page_of(tmp_path, [record])
    assert "of 1" in page.said or "1 handshake" in page.said
    assert "svg" not in page.tags  # a plot of one moment would show nothing
    assert "There is no balance sheet" in page.said


def test_every_result_and_cause(tmp_path: Path) -> None:
    record = next(one for one in handshakes() if one.handshake.result == "established" and one.tfo.cause is None)
    records = [
        changed(record, number, result=word(result), cause=word(cause) if cause else None,
                cause_confidence="likely" if cause else None)
        for number, (result, cause) in enumerate(product(HandshakeResult, HandshakeCause))
    ]  # fmt: skip
    records += [
        replace(
            changed(record, 1 << 32 | cause), tfo=replace(record.tfo, cause=word(cause), cause_confidence="possible")
        )
        for cause in Cause
        if cause
    ]
    page = page_of(tmp_path, records)
    assert len(page.text) < 1_000_000
    shown = re.findall(r"--filter-record '([^']+)'", page.said)
    assert len(shown) >= 12


@pytest.mark.parametrize("named", [True, False])
def test_a_live_run_is_advised_to_trace_the_same_again(tmp_path: Path, named: bool) -> None:
    """With `any` not the names of the containers that were there at the end."""
    out = tmp_path / "page.html"
    report = Report(PageFile(out), Source(()), Composer({}), lambda: 1_000_000_000, lambda _: None)
    report.set_interfaces([TracedInterface(number, f"veth{number}", "tcx", "", named=named) for number in (5, 6)])
    report.close(None)
    said = Page(out.read_text()).said
    assert f"sudo tfotrace {'veth5 veth6' if named else 'any'} -w events.jsonl" in said
    assert "Traced at veth5 by tcx, veth6 by tcx" in said


def test_several_recordings_become_one_page(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    records = handshakes()
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    files[0].write_bytes(as_lines(records[:10]).rstrip(b"\n"))  # without the last end of line
    files[1].write_bytes(as_lines(records[10:30]) + b"nonsense\n")
    out = tmp_path / "page.html"
    assert cli.main(["report", *map(str, files), "-o", str(out)]) == 0
    said = capfd.readouterr().err
    assert "b.jsonl: line 21 is no record of tfotrace" in said
    assert "a.jsonl: line" not in said
    page = Page(out.read_text())
    assert "a.jsonl, b.jsonl" in page.said
    assert "30 handshakes" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["no-such-file", "-o", "page.html"], "cannot read no-such-file: No such file or directory"),
        (["events.jsonl"], "tfotrace report needs -o: tfotrace report FILE [FILE ...] -o PAGE.html"),
        (["-o", "page.html"], "tfotrace report needs FILE"),
        (["events.jsonl", "-o", "no/such/page.html"], "cannot write the report to no/such/page.html: No such file"),
        (["events.jsonl", "-o", "."], "is a folder"),
        (["events.jsonl", "-o", "events.jsonl"], "is the file being replayed"),
        (["picture.png", "-o", "page.html"], "is neither recorded events"),
        (["events.jsonl", "trace.pcap", "-o", "page.html"], "name it alone"),
    ],
    ids=["unknown", "no -o", "no file", "no folder", "a folder", "the same", "a picture", "with a capture"],
)  # fmt: skip
def test_wrong_usage_is_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = as_lines(handshakes()[:3])
    Path("events.jsonl").write_bytes(before)
    Path("picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    Path("trace.pcap").write_bytes(bytes.fromhex("d4c3b2a1") + bytes(40))
    assert cli.main(["report", *words]) == 2
    said = capfd.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert Path("events.jsonl").read_bytes() == before
    assert not Path("page.html").exists()


def test_a_page_is_replaced_whole_and_keeps_its_permissions(tmp_path: Path) -> None:
    page_of(tmp_path, handshakes()[:3])
    out = tmp_path / "page.html"
    out.chmod(0o640)
    link = tmp_path / "link.html"
    link.symlink_to(out)
    with out.open() as old:
        assert cli.main(["report", str(tmp_path / "events.jsonl"), "-o", str(link)]) == 0
        assert old.read().endswith("</html>\n")  # who reads has the old one
        assert os.fstat(old.fileno()).st_ino != out.stat().st_ino
    assert link.is_symlink()
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert {path.name for path in tmp_path.iterdir()} == {"events.jsonl", "page.html", "link.html"}


def test_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(as_lines(handshakes()[:3]))
    assert cli.main(["report", str(path), "-o", "-"]) == 0
    Page(capfd.readouterr().out).assert_self_contained()


def test_what_cannot_be_written_in_the_end_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(as_lines(handshakes()[:3]))
    assert cli.main(["report", str(path), "-o", "/dev/full"]) == 4
    said = capfd.readouterr().err
    assert "cannot write the report to /dev/full: No space left on device" in said
    assert "3 handshakes" in said  # the summary comes all the same


def test_a_replay_with_another_output_makes_it_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "events.jsonl", tmp_path / "page.html"
    path.write_bytes(as_lines(handshakes()[:20]))
    assert cli.main(["replay", str(path), "--text", "--count", "5", "--report", str(out)]) == 0
    assert len([line for line in capfd.readouterr().out.splitlines() if re.match(r"\d\d:", line)]) == 5
    assert "handshakes of events.jsonl" in Page(out.read_text()).said
