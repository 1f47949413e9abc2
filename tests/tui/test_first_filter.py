"""The filter given at the start (--filter-record) is in the list of handshakes from the beginning."""

from __future__ import annotations

import asyncio

from tests.support.rows import records_of
from tests.tui.driving import SMALL, press, settle, until
from tests.tui.recorded import Recorded
from tui.app import Dashboard
from tui.screens.handshakes import Handshakes


def test_the_list_begins_filtered_and_the_filter_can_be_dropped() -> None:
    async def main() -> None:
        app = Dashboard(Recorded(), pull_s=0, filter_text="group == failed")
        async with app.run_test(size=SMALL) as pilot:
            await settle(pilot)
            total = app.latest.totals.handshakes
            await press(pilot, "2")
            screen = app.screen
            assert isinstance(screen, Handshakes)
            await until(pilot, lambda: 0 < len(screen.source) < total, "the list is filtered")
            assert screen.filter_text == "group == failed"
            groups = {record.tfo.group for record in records_of(app.latest.rows)}
            assert len(groups) > 1
            await press(pilot, "escape")
            await until(pilot, lambda: len(screen.source) == total, "the list is whole")
            assert app.latest.totals.handshakes == total

    asyncio.run(main())
