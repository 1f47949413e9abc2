"""The confidence interval of the difference of two medians: published results, and what it promises, simulated."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from tracer.aggregate.reservoir import ordered
from tracer.aggregate.responses import ENOUGH, KEPT, KINDS, NORMAL, TFO, Comparisons, Sample, interval_of
from tracer.handshake.events import F64

SERVERS = 3000


def compared(tfo: F64, normal: F64) -> Comparisons:
    """Responses of some servers [n, samples], each with as many round trips of 1."""
    values = np.ones((KINDS, len(tfo), KEPT), np.float32)
    counts: NDArray[np.int64] = np.full((KINDS, len(tfo)), tfo.shape[1])
    for kind, own in ((TFO, tfo), (NORMAL, normal)):
        values[kind, :, : own.shape[1]] = own
        counts[kind] = own.shape[1]
    return Sample(values, counts).compared()


# The examples in the documentation of ci.median2 of the R package statpsych 1.6 and 2.0, which D. G. Bonett wrote: two
# groups, the difference of their medians, and its interval.
PUBLISHED = [
    ([36.8, 44.0, 47.1, 42.7, 49.0, 39.6, 46.2, 31.6, 33.1, 48.4],
     [32.1, 39.8, 26.3, 35.0, 43.1, 27.0, 40.9, 37.4, 34.0, 29.2], (-8.85, -17.66002, -0.0399751)),
    ([36, 44, 47, 42, 49, 39, 46, 31, 33, 48], [32, 39, 26, 35, 43, 27, 40, 37, 34, 29],
     (-8.5, -16.95977, -0.04022524)),
    ([102, 120, 78, 78, 417, 124, 86, 171, 176, 129, 230, 194, 100, 157, 306, 411, 164, 103, 193, 312],
     [70, 394, 43, 95, 62, 128, 2, 203, 81, 436, 85, 35, 156, 1, 3, 27, 63, 181, 184, 18],
     (-85, -157.7441, -12.25589)),
]  # fmt: skip


@pytest.mark.parametrize(("tfo", "normal", "published"), PUBLISHED)
def test_published_intervals(tfo: list[float], normal: list[float], published: tuple[float, float, float]) -> None:
    found = interval_of(*(ordered(np.array([one], np.float32), np.array([len(one)])) for one in (tfo, normal)))
    interval = [float(column[0]) for column in found]
    assert interval == pytest.approx(published, rel=1e-5, abs=1e-5)


Draw = Callable[[np.random.Generator, tuple[int, int]], F64]


def lognormal(rng: np.random.Generator, shape: tuple[int, int]) -> F64:
    return rng.lognormal(0, 1, shape) - 1


def floor_and_tail(rng: np.random.Generator, shape: tuple[int, int]) -> F64:
    """A round trip that is never undercut, and queues."""
    return rng.exponential(1, shape) - np.log(2)


def heavy_tail(rng: np.random.Generator, shape: tuple[int, int]) -> F64:
    return rng.pareto(1.5, shape) - (2 ** (1 / 1.5) - 1)


def some_wait(rng: np.random.Generator, shape: tuple[int, int]) -> F64:
    """One in five waits for something; z(0.625) = 0.3186 has the median."""
    return rng.normal(-0.31864, 1, shape) + np.where(rng.random(shape) < 0.2, 90, 0)


SHAPES: list[Draw] = [lognormal, floor_and_tail, heavy_tail, some_wait]
SIZES = [(10, 10), (30, 30), (256, 256), (10, 256), (256, 10)]


@pytest.mark.parametrize("sooner", [0.0, 0.8], ids=["equal", "shifted"])
@pytest.mark.parametrize(
    ("draw", "sizes"), list(product(SHAPES, SIZES)), ids=lambda one: getattr(one, "__name__", str(one))
)
def test_nineteen_of_twenty_intervals_hold_the_difference(draw: Draw, sizes: tuple[int, int], sooner: float) -> None:
    rng = np.random.default_rng(7413)
    tfo, normal = (50 + draw(rng, (SERVERS, size)) for size in sizes)
    found = compared(tfo, normal + sooner)
    holds = (found.sooner_low_us <= sooner) & (sooner <= found.sooner_high_us)
    assert holds.mean() > 0.92
    if not sooner:
        for wrong in (found.sooner_low_us > 0, found.sooner_high_us < 0):
            assert wrong.mean() < 0.06


def test_more_samples_tell_smaller_differences() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for size in (ENOUGH, 30, KEPT):
        found = compared(rng.lognormal(0, 1, (500, size)), rng.lognormal(0, 1, (500, size)))
        widths.append(np.median(found.sooner_high_us - found.sooner_low_us))
    assert widths == sorted(widths, reverse=True)


def test_without_enough_of_both_there_is_no_interval() -> None:
    for sizes in ((ENOUGH - 1, KEPT), (KEPT, ENOUGH - 1), (1, 1), (0, KEPT)):
        tfo, normal = (np.full((2, size), float(size)) for size in sizes)
        found = compared(tfo, normal)
        for column in (found.sooner_us, found.sooner_rtts, found.sooner_low_us, found.sooner_high_us):
            assert np.isnan(column).all()


@pytest.mark.parametrize("slow", [0.5, 0.4, 0.33])
@pytest.mark.parametrize("size", [10, 20, 50, 256])
def test_answers_of_two_kinds_make_no_benefit(slow: float, size: int) -> None:
    """Half of the answers come from a cache: the median is that of the one kind or of the other, by chance."""
    rng = np.random.default_rng(7413)
    tfo, normal = (np.where(rng.random((SERVERS, size)) < slow, 90.0, 60.0) + rng.normal(0, 1, (SERVERS, size))
                   for _ in range(2))  # fmt: skip
    found = compared(tfo, normal)
    wrong = (found.sooner_low_us > 0) | (found.sooner_high_us < 0)
    assert wrong.mean() < 0.07


def test_a_round_trip_is_told_with_the_least_samples() -> None:
    rng = np.random.default_rng(7413)
    tfo, normal = (rng.lognormal(0, 0.5, (SERVERS, ENOUGH)) * 5 + more for more in (40.0, 60.0))
    found = compared(tfo, normal)
    assert (found.sooner_low_us > 0).mean() > 0.95
