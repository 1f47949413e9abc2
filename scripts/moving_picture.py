#!/usr/bin/env python3
"""Make docs/tfotrace.gif: the real dashboard over a recording, from the overview to the ladder of one handshake.

Run it with the checkout's Python: .venv/bin/python scripts/moving_picture.py [RECORDING.jsonl]
Without a recording it makes one of the demo, which needs root. It needs rsvg-convert (librsvg2-bin).
"""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402
from textual.pilot import Pilot  # noqa: E402

from tests.tui.driving import press, settle  # noqa: E402
from tracer.filters.filter import parse  # noqa: E402
from tracer.ipc.traced import TracedInterface  # noqa: E402
from tracer.records.record import Handshake  # noqa: E402
from tracer.records.run import Start, Stats  # noqa: E402
from tracer.replay.columns import BatchBuilder, RecordedComposer  # noqa: E402
from tracer.replay.input import open_input  # noqa: E402
from tracer.replay.lines import Problems, read_lines  # noqa: E402
from tracer.store.snapshot import Snapshot  # noqa: E402
from tracer.store.store import Store  # noqa: E402
from tui.app import Dashboard  # noqa: E402

FILE = ROOT / "docs" / "tfotrace.gif"
SIZE = (120, 36)  # columns, rows
WIDTH = 1220  # pixels
BYTES_MAX = 2_000_000
COLOURS = 64
STEPS = 10  # frames in which the recording plays
PLAYING_MS, READING_MS = 500, 2500
# the first that fits a handshake: where Fast Open saves a round trip that can be felt
FILTERS = ("outcome == data_acked and port == 443 and rtt > 15ms", "outcome == data_acked and port == 443")
RECORD_FOR = "45s"

# Textual's SVG is laid out for a font whose characters are 12.2 pixels wide; rsvg-convert has only fonts of this host.
_FONT, _FONT_SIZE = "DejaVu Sans Mono", 12.2 / 0.602


@dataclass
class Film:
    """Pictures of the screen, and how long each is shown."""

    frames: list[Image.Image]
    times_ms: list[int]

    def take(self, app: Dashboard, time_ms: int) -> None:
        """One more picture."""
        self.frames.append(_picture(app.export_screenshot(title="tfotrace")))
        self.times_ms.append(time_ms)

    def save(self, path: Path) -> None:
        """Write them with one palette, which keeps what does not change from flickering."""
        palette = _joined(self.frames).quantize(COLOURS, dither=Image.Dither.NONE)
        reduced = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
        reduced[0].save(
            path, save_all=True, append_images=reduced[1:], duration=self.times_ms, loop=0, optimize=True, disposal=1
        )


def _joined(frames: list[Image.Image]) -> Image.Image:
    width, height = frames[0].size
    whole = Image.new("RGB", (width, height * len(frames)))
    for row, frame in enumerate(frames):
        whole.paste(frame, (0, row * height))
    return whole


def _picture(svg: str) -> Image.Image:
    svg = svg.replace("Fira Code", _FONT).replace("font-size: 20px", f"font-size: {_FONT_SIZE:.2f}px")
    svg = svg.replace("<text ", '<text xml:space="preserve" ')  # or librsvg drops no-break spaces at both ends
    made = subprocess.run(
        ["rsvg-convert", "--width", str(WIDTH), "--keep-aspect-ratio"],
        input=svg.encode(),
        capture_output=True,
        check=True,
    )
    return Image.open(io.BytesIO(made.stdout)).convert("RGB")


class Playing:
    """An engine that plays the handshakes of a recording bit by bit; its clock follows them."""

    def __init__(self, path: Path) -> None:
        source = open_input(path)
        self._lines = [line for lines in read_lines(source, Problems()) for line in lines]
        source.close()
        self._rows = BatchBuilder()
        self._composer = RecordedComposer(self._rows.interfaces, len(self._lines))
        self.store = Store(len(self._lines), composer=self._composer, clock=lambda: self._rows.settled_ns, refresh_ns=0)
        self._played = 0

    def play(self, share: float) -> None:
        """Go on until this share of all records has come."""
        until = int(len(self._lines) * share)
        for line in self._lines[self._played : until]:
            match line.record:
                case Start() as record:
                    for one in record.interfaces:
                        self._rows.interfaces.add(TracedInterface(one.index, one.name, one.hook, one.why, [], []))
                    self._rows.begin(record.ts)
                    self.store.start(record)
                case Handshake() as record:
                    batch, _ = self._rows.batch([record])
                    self._composer.add(batch, [record], [line.raw])
                    self.store.write(batch)
                case Stats() as record:
                    self.store.set_balance(record.balance, record.counters)
        self.store.set_interfaces(self._composer.interfaces.values())
        self._played = until

    def has(self, text: str) -> bool:
        """Is there a handshake that a filter lets through?"""
        wanted = parse(text)
        return any(isinstance(line.record, Handshake) and wanted.matches(line.record) for line in self._lines)

    def snapshot(self) -> Snapshot:
        """What the dashboard shows."""
        return self.store.snapshot()

    def clear(self) -> None:
        """Nobody presses x."""

    def stop(self) -> None:
        """Nothing runs."""


async def _play(film: Film, path: Path) -> None:
    engine = Playing(path)
    engine.play(0.02)
    wanted = next(one for one in FILTERS if engine.has(one))
    app = Dashboard(engine, pull_s=0)
    app.theme, app.animation_level = "tfotrace-dark", "none"

    async def on(pilot: Pilot[None], until: float) -> None:
        engine.play(until)
        app.pull()
        await settle(pilot)

    async with app.run_test(size=SIZE) as pilot:
        for step in range(1, STEPS + 1):
            await on(pilot, 0.6 * step / STEPS)
            film.take(app, PLAYING_MS)
        film.times_ms[-1] = READING_MS
        await press(pilot, "2")
        for step in range(1, 5):
            await on(pilot, 0.6 + 0.1 * step)
            film.take(app, PLAYING_MS)
        await press(pilot, "slash")
        for at in range(0, len(wanted), 9):
            await pilot.press(*(_KEYS.get(one, one) for one in wanted[at : at + 9]))
            await settle(pilot)
            film.take(app, PLAYING_MS // 2)
        await press(pilot, "enter")
        film.take(app, PLAYING_MS * 2)
        await press(pilot, "enter")
        film.take(app, READING_MS * 2)


_KEYS = {" ": "space", "=": "equals_sign", "_": "underscore", ".": "full_stop", ">": "greater_than_sign"}


def main() -> int:
    """Make it; returns the exit status."""
    if shutil.which("rsvg-convert") is None:
        print("moving_picture.py: rsvg-convert is missing: apt-get install librsvg2-bin", file=sys.stderr)
        return 1
    film = Film([], [])
    if len(sys.argv) > 1:
        asyncio.run(_play(film, Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "demo.jsonl")
            words = ["demo", "--quiet", "--user", "root", "--duration", RECORD_FOR, "-w", str(path)]
            subprocess.run([sys.executable, "-I", "-m", "tracer", *words], check=True)
            asyncio.run(_play(film, path))
    film.save(FILE)
    size = FILE.stat().st_size
    print(f"{FILE}: {len(film.frames)} frames, {size:,} bytes")
    if size > BYTES_MAX:
        print(f"moving_picture.py: more than {BYTES_MAX:,} bytes: lower WIDTH or STEPS", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
