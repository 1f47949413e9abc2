"""--filter-record: what sinks get, what the sums count, how wrong usage is reported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.support.rows import INTERFACES, random_batch
from tracer.cli import main as cli
from tracer.encode.composer import Composer
from tracer.filters.filter import parse
from tracer.handshake.batch import Batch
from tracer.records.run import End, NoticeRecord, Start, Stats
from tracer.sinks.filtered import Filtered, RecordFilter
from tracer.store.chunks import CHUNK_ROWS


@dataclass
class Taker:
    """A sink that keeps what it is given."""

    batches: list[Batch] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def start(self, record: Start) -> None:
        self.told.append("start")

    def write(self, batch: Batch) -> None:
        self.batches.append(batch)

    def notice(self, record: NoticeRecord) -> None:
        self.told.append("notice")

    def stats(self, record: Stats) -> None:
        self.told.append("stats")

    def tick(self) -> None:
        self.told.append("tick")

    def close(self, record: End | None) -> None:
        self.told.append("close")


def composer() -> Composer:
    return Composer(INTERFACES, offset_ns=1_700_000_000_000_000_000)


@pytest.mark.parametrize(
    "text", ["sni ~ demo", "rtt > 20us", "p0f ~ tfo or port == 443", "payload.protocol == tls", "ts ~ :1", "login", ""]
)
def test_a_sink_gets_what_the_records_say(text: str) -> None:
    made, expression = composer(), parse(text)
    taker = Taker()
    sink = Filtered(taker, RecordFilter(expression, made))
    expected, found = [], []
    for seed in range(3):
        batch = random_batch(seed, 200)
        expected += [record for record in made.compose(batch) if expression.matches(record)]
        sink.write(batch)
    for batch in taker.batches:
        found += list(made.compose(batch))
    assert found == expected
    assert 0 < len(found) <= 600


def test_large_batches_go_piece_by_piece() -> None:
    batch = random_batch(5, 2 * CHUNK_ROWS + 17, payloads=False)
    expression = parse("result == established")
    mask = RecordFilter(expression, composer()).mask(batch)
    assert len(mask) == len(batch)
    assert (mask == (batch.events["result"] == 1)).all()


def test_several_sinks_cost_one_look() -> None:
    batch = random_batch(6, 50)
    one = RecordFilter(parse("rtt > 1us"), composer())
    first, second = Taker(), Taker()
    Filtered(first, one).write(batch)
    Filtered(second, one).write(batch)
    assert first.batches[0] is second.batches[0]


def test_a_sink_hears_of_the_run_and_of_no_empty_batch() -> None:
    taker = Taker()
    sink = Filtered(taker, RecordFilter(parse("port == 1 and port == 2"), composer()))
    sink.write(random_batch(7, 20))
    sink.tick()
    sink.close(None)
    assert taker.batches == []
    assert taker.told == ["tick", "close"]


def test_counting_ends_with_the_last_one_wanted() -> None:
    batch = random_batch(8, 300)
    one = RecordFilter(parse("result == established"), composer())
    passing = one.passing(batch)
    assert 3 < passing < 300
    cut = one.until(batch, 3)
    assert one.passing(cut) == 3
    assert one.mask(cut)[-1]
    assert one.until(batch, passing + 1) is batch
    assert np.array_equal(one.until(batch, passing).events, batch.events[: len(one.until(batch, passing))])


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ordinary user: a wrong expression is reported before the lack of root."""
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    return


@pytest.mark.parametrize("command", [[], ["demo"]])
@pytest.mark.parametrize(
    ("text", "place"),
    [("rtt > 50", "        ^^"), ("sni ~ 'a\x1b", "        ^"), ("outcom == data_acked", "  ^^^^^^"), ("a b", "    ^")],
)
def test_a_wrong_expression_is_one_message(
    command: list[str], text: str, place: str, as_nobody: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*(command or ["lo"]), "--filter-record", text]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    sentence, shown, mark = said.err.splitlines()
    assert sentence.startswith("tfotrace: --filter-record: column ")
    assert shown.isprintable()
    assert mark == place
    assert sys.exc_info() == (None, None, None)


def test_the_place_is_marked_in_wide_and_in_long_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lo", "--filter-record", "sni ~ 中中 and rtt > x"]) == 2
    _, shown, mark = capsys.readouterr().err.splitlines()
    assert len(mark) - len("^") == len(shown) - len("x") + 2  # each of the two is two cells wide
    assert cli.main(["lo", "--filter-record", "rtt > 1ms and " * 30 + "rtt > x" + " or rtt > 1ms" * 30]) == 2
    _, shown, mark = capsys.readouterr().err.splitlines()
    assert shown[mark.index("^")] == "x"
    assert len(shown) < 100
