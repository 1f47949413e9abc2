"""Settings for all tests."""

from __future__ import annotations

import signal

# A shell without job control starts background jobs with SIGINT ignored, and what the tests start would inherit that:
# a traced run would ignore SIGINT.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
