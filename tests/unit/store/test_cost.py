"""What tracing costs at the moment, of sums."""

from __future__ import annotations

from tracer.records.cost import Cost, ProgramCost
from tracer.store.cost import WINDOW, CostWindow, ProgramShare

SECOND = 1_000_000_000


def test_nothing_is_said_before_there_are_two() -> None:
    window = CostWindow()
    assert window.view() is None
    window.add(Cost(5.0, 5.0, 5.0), SECOND)
    window.add(Cost(9.0, 9.0, 5.0), SECOND)  # the same time: no share could be had of it
    assert window.view() is None


def test_shares_are_those_of_the_last_ten_seconds() -> None:
    window = CostWindow()
    window.add(Cost(7e6, 7e6, 2e6), 0)  # the start cost much
    for second in range(1, WINDOW + 1):
        window.add(Cost(7e6 + second * 250_000, 7e6 + second * 10_000, 2e6), second * SECOND)
    view = window.view()
    assert view is not None
    assert (view.user_share, view.root_share, view.loading_us, view.programs) == (0.25, 0.01, 2e6, None)


def test_programs_that_began_to_be_measured_meanwhile() -> None:
    window = CostWindow()
    window.add(Cost(0.0, 0.0, 0.0), 0)
    window.add(Cost(0.0, 0.0, 0.0, {"tc_ingress": ProgramCost(1000, 500_000.0), "sweep": ProgramCost(0, 0.0)}), SECOND)
    view = window.view()
    assert view is not None
    assert view.programs == (
        ProgramShare("tc_ingress", 0.5, 1000.0, 500_000.0),
        ProgramShare("sweep", 0.0, 0.0, None),
    )


def test_programs_that_are_measured_again_after_a_while() -> None:
    """What they took before is not of the last seconds."""
    window = CostWindow()
    before = {"tc_ingress": ProgramCost(1_000_000, 3600e6)}
    for second in range(3 * WINDOW):
        window.add(Cost(0.0, 0.0, 0.0, before if second < WINDOW else None), second * SECOND)
    window.add(Cost(0.0, 0.0, 0.0, {"tc_ingress": ProgramCost(1_000_010, 3601e6)}), 3 * WINDOW * SECOND)
    view = window.view()
    assert view is not None
    assert view.programs == (ProgramShare("tc_ingress", 0.1, 1.0, 100_000_000.0),)
