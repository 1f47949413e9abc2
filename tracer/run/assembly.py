"""Assembles a run, wherever its records come from: signals, user, sinks, filter, dashboard, narration."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tracer.encode.composer import Composer
from tracer.linux import privileges
from tracer.linux.collector import collect_seldom
from tracer.run import dashboard
from tracer.run.fanout import Fanout, Narrate
from tracer.run.stop import Quota, StopRequest
from tracer.sinks import targets
from tracer.sinks.base import Observer, Sink, TakesPackets
from tracer.sinks.stream import Stream

if TYPE_CHECKING:
    from tracer.report.output import PageFile
    from tracer.sinks.prometheus import Prometheus


class Run(Protocol):
    """What is assembled: a pipeline, or a replay of records."""

    @property
    def composer(self) -> Composer: ...
    @property
    def fanout(self) -> Fanout: ...
    def run(self) -> int: ...


class Assembly:
    """The parts that every run has. Create it, `become` the user, `open` the sinks, and `run`."""

    def __init__(self, options: Namespace, narrate: Narrate, *, reopens: bool = False) -> None:
        """`reopens`: SIGHUP closes and reopens files."""
        self.stop = StopRequest(reopens=reopens)
        self.stop.install()
        self.metrics = open_metrics(options)
        self.app: Any = dashboard.load() if dashboard.is_wanted(options) else None
        self._options = options
        self._narrate_now = narrate
        self._kept: list[str] = []  # sentences, until the dashboard has left the terminal
        self.narrate: Narrate = narrate if self.app is None else self._kept.append
        self._user: privileges.User | None = None
        self._stdout: Stream | None = None
        self._page: PageFile | None = None

    def become(self, user: privileges.User | None, *, live: bool = False) -> None:
        """Continue as `user` (None: as the current one). `live`: a reader that stalls must not hold up the run."""
        if self.app is None:
            self._stdout = Stream.stdout(live=live)  # opens the pipe again, which may be another user's
        self._user = user
        privileges.drop(user)

    def open(self, composer: Composer) -> Fanout:
        """Every sink but the dashboard's store. Raises UsageError."""
        options = self._options
        self._page = open_page(options)
        told: list[str] = []
        sinks = open_sinks(options, composer, self._stdout, told.append)
        # before the filter, which passes records only, wraps the sinks
        packet_takers: list[TakesPackets] = [sink for sink in sinks if isinstance(sink, TakesPackets)]
        record_filter = None
        if options.filter_record is not None:
            from tracer.sinks.filtered import Filtered, RecordFilter

            record_filter = RecordFilter(options.filter_record, composer)
            sinks = [Filtered(sink, record_filter) for sink in sinks]
        fanout = Fanout(sinks, self.narrate, Quota(options.count, record_filter), packet_takers, told=told)
        if self.metrics is not None:
            fanout.observe(self.metrics)
        return fanout

    def warn_of_root(self) -> None:
        """Say so if every part runs as root. Call this after all checks of the command line."""
        if self._user is None:
            self.narrate("running as root throughout: there is no user behind sudo and no --user")

    def run(
        self,
        run: Run,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        leave_when_ended: bool = False,
        replay_of: str | None = None,
    ) -> int:
        """Run to the end, behind the dashboard if it is wanted; return the exit status.

        `clock` gives nanoseconds on the clock of the records. `leave_when_ended`: the dashboard does not stay.
        `replay_of`: the name of the file if this is a replay.
        """
        if self._page is not None:
            run.fanout.observe(self._report(self._page, run.composer, clock))
        if self.app is None:
            collect_seldom()
            return run.run()
        from tracer.store.store import BEHIND_NS, Store

        options = self._options
        behind_ns = 0 if replay_of is not None else BEHIND_NS
        store = Store(options.keep, composer=run.composer, clock=clock, behind_ns=behind_ns, replay_of=replay_of)
        run.fanout.observe(store)
        text = options.filter_record.text if options.filter_record is not None else ""
        try:
            return dashboard.run(
                self.app, run.run, store, self.stop, leave_when_ended=leave_when_ended, filter_text=text
            )
        finally:
            for line in self._kept:
                self._narrate_now(line)

    def _report(self, page: PageFile, composer: Composer, clock: Callable[[], int]) -> Observer:
        from tracer.report.page import Source
        from tracer.report.sink import Report

        files = tuple(str(one) for one in getattr(self._options, "files", ()))
        return Report(page, Source(files), composer, clock, self.narrate)


def open_page(options: Namespace) -> PageFile | None:
    """--report: see whether a page can be written there. Raises UsageError."""
    if options.report is None:
        return None
    from tracer.report.output import page_file

    return page_file(options.report)


def open_metrics(options: Namespace) -> Prometheus | None:
    """--prometheus: bind its address before the slow work begins. Raises UsageError."""
    if getattr(options, "prometheus", None) is None:  # replays have no such option
        return None
    from tracer.sinks.prometheus import Prometheus
    from tracer.sinks.prometheus_server import MetricsServer

    return Prometheus(MetricsServer(options.prometheus), options.prometheus_peers)


def open_sinks(
    options: Namespace, composer: Composer, stdout: Stream | None, tell: Callable[[str], None]
) -> list[Sink]:
    """Standard output in the form asked for (None: the dashboard has it) and every -w. `tell` gets files' troubles."""
    # a sink that nobody asked for is not even imported: the dashboard usually has none, and somebody waits for it
    sinks: list[Sink] = []
    if stdout is not None and options.json:
        from tracer.sinks.jsonl import JsonLines

        sinks.append(JsonLines(stdout, composer))
    elif stdout is not None and not options.quiet:
        from tracer.sinks.text import Text, wants_colour

        sinks.append(Text(stdout, composer, wants_colour(sys.stdout.isatty()), options.fields))
    return [*sinks, *_open_files(options, composer, tell)]


def _open_files(options: Namespace, composer: Composer, tell: Callable[[str], None]) -> list[Sink]:
    rotation = targets.rotation(options.rotate_size, options.rotate_time, options.rotate_keep)
    wanted = targets.targets(options.write)
    if not wanted:
        return []
    from tracer.sinks.files import OutputFile
    from tracer.sinks.jsonl import JsonLines
    from tracer.sinks.pcapng import Pcapng

    sinks: list[Sink] = []
    for one in wanted:
        form = Pcapng if one.form is targets.Form.PCAPNG else JsonLines
        sinks.append(form(OutputFile(one, rotation, private=composer.show_cookies, tell=tell), composer))
    return sinks
