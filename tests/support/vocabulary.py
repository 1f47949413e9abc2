"""TFO.md section 3 spelled again, so that a changed word in the code is noticed."""

from __future__ import annotations

OUTCOMES = {
    "not_attempted",
    "cookie_granted",
    "cookie_not_granted",
    "data_acked",
    "data_acked_new_cookie",
    "data_partly_acked",
    "data_not_acked",
    "data_not_acked_new_cookie",
    "data_not_acked_same_cookie",
    "syn_timeout_fallback",
    "cookie_only",
    "cookie_only_new_cookie",
    "cookie_only_same_cookie",
    "over_acked",
    "no_answer",
    "rejected",
}
RESULTS = {
    "established",
    "rejected",
    "aborted",
    "unreachable",
    "no_reply",
    "half_open",
    "simultaneous_open",
    "syn_on_established",
}
