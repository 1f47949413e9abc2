"""Compare tfotrace with the judge over a folder of captures and write docs/FIDELITY.md.

python -m scripts.fidelity DIR [--output FILE] [--jobs N]
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from scripts.fidelity import report, segments
from scripts.fidelity.comparing import ROOT, Compared, compare, tfotrace_version

MAGICS = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a")


def captures(folder: Path) -> list[Path]:
    """The files below a folder that begin like a pcap or pcapng file."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                if file.read(4) in MAGICS:
                    found.append(path)
    return found


def main() -> int:
    """Returns the exit status: 1 if a disagreement remains that nobody has looked into."""
    parser = argparse.ArgumentParser(prog="fidelity", description="hold replays against an independent judge")
    parser.add_argument("captures", type=Path, nargs="+", help="a folder, or single files")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "FIDELITY.md")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    paths: list[tuple[Path, str]] = []
    for place in asked.captures:
        files = captures(place) if place.is_dir() else [place]
        paths += [(path, str(path.relative_to(place) if place.is_dir() else path.name)) for path in files]
    if not paths:
        print(f"fidelity: no capture in {asked.captures[0]}", file=sys.stderr)
        return 2
    results: list[Compared] = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for number, one in enumerate(pool.map(compare, *zip(*paths, strict=True), chunksize=4), 1):
            results.append(one)
            if sys.stderr.isatty():
                print(f"\r{number} of {len(paths)} captures", end="", file=sys.stderr, flush=True)
    day = dt.datetime.now(dt.timezone.utc).date().isoformat()
    asked.output.write_text(report.text(results, segments.version(), tfotrace_version(), day))
    kinds = report.known()
    wrong = [each for one in results for each in one.disagreements]
    unknown = [each for each in wrong if report.kind_of(each, kinds) == report.UNKNOWN]
    handshakes = sum(one.handshakes for one in results)
    print(
        f"{len(results)} captures, {handshakes} handshakes, {len(wrong)} values disagree, "
        f"{len(unknown)} of them unexplained: {asked.output}"
    )
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
