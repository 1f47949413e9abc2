"""Times in filters: a day, a time of day (of any day), or both; as lists show them, or UTC with a Z behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import Bool
from tracer.handshake.rows import Rows
from tracer.vocabulary.local_time import QUARTER_S, offset_s

NS_PER_S = 10**9
NS_PER_DAY = 86_400 * NS_PER_S
_TIME = re.compile(
    r"(?:(?P<day>\d{4}-\d\d-\d\d)(?:[T ]|(?=Z?$)))?(?:(?P<h>\d\d?):(?P<m>\d\d)(?::(?P<s>\d\d)(?:\.(?P<f>\d{1,9}))?)?)?"
    r"(?P<utc>Z)?"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """From `begin_ns` on for as long as its last digit stands for: 12:14 is a minute. Since 1970, or `of_any_day`.

    It is of local time, or of UTC.
    """

    begin_ns: int
    length_ns: int
    of_any_day: bool
    utc: bool

    def fits(self, operator: str, times_ns: Any) -> Any:
        """Do these times since 1970, UTC, fit?"""
        times = times_ns if self.utc else local_ns(times_ns)
        times = times % NS_PER_DAY if self.of_any_day else times
        begin, end = self.begin_ns, self.begin_ns + self.length_ns
        if operator == "==":
            return (times >= begin) & (times < end)
        # before it begins, or from its end on
        at = begin if operator in ("<", ">=") else end
        return times < at if operator in ("<", "<=") else times >= at


def moment(text: str) -> Moment | None:
    """What a text means; None if it is no time."""
    found = _TIME.fullmatch(text)
    if found is None or not (found["day"] or found["h"]):
        return None
    begin, length = 0, NS_PER_DAY
    try:
        if found["day"]:
            begin = int(np.datetime64(found["day"], "ns").astype(np.int64))
    except ValueError:
        return None
    if found["h"]:
        hours, minutes, seconds = int(found["h"]), int(found["m"]), int(found["s"] or 0)
        if hours > 23 or minutes > 59 or seconds > 59:
            return None
        begin += ((hours * 60 + minutes) * 60 + seconds) * NS_PER_S
        length = NS_PER_S if found["s"] else 60 * NS_PER_S
        if found["f"]:
            length = 10 ** (9 - len(found["f"]))
            begin += int(found["f"]) * length
    return Moment(begin, length, of_any_day=not found["day"], utc=bool(found["utc"]))


def local_ns(times_ns: Any) -> Any:
    """Nanoseconds since 1970, UTC, as those that a local clock would have counted; one time or an array."""
    quarters = times_ns // (QUARTER_S * NS_PER_S)
    if not isinstance(quarters, np.ndarray):
        return times_ns + offset_s(int(quarters)) * NS_PER_S
    if not len(quarters):
        return times_ns
    found, places = np.unique(quarters, return_inverse=True)
    return times_ns + np.array([offset_s(one) * NS_PER_S for one in found.tolist()], np.int64)[places]


def since_1970(text: str) -> int | None:
    """The `ts` of a record in nanoseconds; None if it is none."""
    found = moment(text)
    return None if found is None or found.of_any_day else found.begin_ns


def stamps(rows: Rows) -> NDArray[np.int64]:
    """The same of rows."""
    return rows.events["syn_ns"].astype(np.int64) + rows.offset_ns


def rows_fit(found: Moment, operator: str) -> Callable[[Rows], Bool]:
    """Which rows fit?"""

    def rows(rows: Rows) -> Bool:
        fitting: Bool = found.fits(operator, stamps(rows))
        return fitting

    return rows
