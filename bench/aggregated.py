"""tfotrace as it is, but nobody reads the records one by one: they are judged and added up, nothing is written."""

from __future__ import annotations

import sys

from tracer import run
from tracer.cli import main

if __name__ == "__main__":
    run.open_sinks = lambda *_words, **_more: []
    sys.exit(main())
