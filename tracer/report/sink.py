"""A report as a sink: it adds up what comes, in bounded memory, and writes the page when the run ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from tracer.aggregate.series import Series
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.ipc.traced import TracedInterface
from tracer.records.cost import Cost
from tracer.records.run import Balance, End, NoticeRecord, Start, Stats
from tracer.report.output import PageFile
from tracer.report.page import Source, report_page
from tracer.report.worst import Worst
from tracer.store.store import Store


class Report:
    """An observer (tracer.sinks.base.Observer) that writes a page when it is closed."""

    def __init__(
        self,
        file: PageFile,
        source: Source,
        composer: Composer,
        clock: Callable[[], int],
        narrate: Callable[[str], None],
    ) -> None:
        self._file, self._source, self._composer, self._narrate = file, source, composer, narrate
        # peers, balance and notices as the dashboard has them; of rows no more than its unit
        self._store = Store(1, composer=composer, clock=clock)
        self._series = Series()
        self._worst = Worst(composer)

    # --- Sink ---

    def start(self, record: Start) -> None:
        """The run begins."""
        self._store.start(record)

    def write(self, batch: Batch) -> None:
        """Add up a batch."""
        self._series.add(batch, self._composer.offset_ns)
        self._worst.add(batch)
        self._store.write(batch)

    def notice(self, record: NoticeRecord) -> None:
        """Keep the newest."""
        self._store.notice(record)

    def stats(self, record: Stats) -> None:
        """The balance sheet so far."""
        self._store.stats(record)

    def tick(self) -> None:
        """Nothing waits."""

    def close(self, record: End | None) -> None:
        """Write the page. Raises EndedEarlyError or SinkClosedError if it cannot be written."""
        self._store.close(record)
        series = self._series.view()
        snapshot = replace(self._store.snapshot(), history=series.history)
        page = report_page(self._source, snapshot, series, self._worst)
        self._file.write(page)
        self._narrate(f"report written to {self._file.path}")

    # --- StatusListener ---

    def set_balance(self, balance: Balance, counters: Mapping[str, int]) -> None:
        """The balance sheet as of now."""
        self._store.set_balance(balance, counters)

    def set_interfaces(self, interfaces: Iterable[TracedInterface]) -> None:
        """The interfaces traced now."""
        self._store.set_interfaces(interfaces)

    def set_host(self, counters: Mapping[str, int], sysctls: Mapping[str, str]) -> None:
        """Nothing of the host's is in a report."""

    def set_cost(self, cost: Cost, taken_ns: int) -> None:
        """Nor what tracing costs."""

    def set_ring_fill(self, share: float) -> None:
        """Of no interest later."""

    def set_drain_lag(self, lag_us: float | None) -> None:
        """Likewise."""
