"""--report at the end of a run as users start it, and over its recording."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.tracing import CHECKOUT, tracing
from tests.unit.report.test_report import Page

pytestmark = pytest.mark.root

COMMAND = str(CHECKOUT / "tfotrace")


def test_the_demo_has_a_page_when_it_is_interrupted() -> None:
    with tracing("demo", "--json", "-w", "{folder}/events.jsonl", "--report", "{folder}/page.html") as run:
        run.wait_handshake(lambda one: one.handshake.result == "rejected")
        run.wait_handshake(lambda one: one.tfo.outcome == "data_acked")
        assert not (run.folder / "page.html").exists()
        assert run.stop() == 0
        page = Page((run.folder / "page.html").read_text())
        page.assert_self_contained()
        seen = len(run.handshakes)
        assert f"of {seen:,} handshakes" in page.said
        assert "Traced at demo-client by" in page.said
        assert "every handshake that began is accounted for" in page.said
        subprocess.run(
            [COMMAND, "report", run.folder / "events.jsonl", "-o", run.folder / "again.html"],
            capture_output=True, timeout=PATIENCE_S, check=True,
        )  # fmt: skip
        again = Page((run.folder / "again.html").read_text())
        again.assert_self_contained()
        # the recording says the same
        for heading in ("Why, and what to do", "Servers", "Is anything missing?"):
            assert part(again.said, heading) == part(page.said, heading)


def part(said: str, heading: str) -> str:
    """What follows a heading, up to the next one."""
    begin = said.index(heading)
    ends = (
        said.find(other, begin + 1) for other in ("Over time", "Servers", "One by one", "Told during", "To see more")
    )
    return said[begin : min(end for end in ends if end > begin)]


def test_a_page_that_cannot_be_written_is_told_before_tracing() -> None:
    done = subprocess.run(
        [COMMAND, "lo", "--quiet", "--report", "/proc/page.html"], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("tfotrace: cannot write the report to /proc/page.html: ")
    assert "tracing lo" not in done.stderr
