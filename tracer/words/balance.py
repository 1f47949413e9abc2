"""The balance sheet in words: every handshake that was opened is accounted for, or the losses are told."""

from __future__ import annotations

# terms of the balance (DESIGN.md section 5), their meaning, is it a loss; opened is the sum of TERMS
BALANCE = (
    ("opened", "first SYNs seen", False),
    ("emitted", "settled and sent to this program", False),
    ("lost", "the event ring was full", True),
    ("evicted", "the table was full", True),
    ("suppressed", "unanswered above 10,000/s", True),
    ("still_open", "not settled yet", False),
    ("received", "emitted ones that arrived here", False),
    ("dropped", "not written to every output", True),
)
TERMS = ("emitted", "lost", "evicted", "suppressed", "still_open")
