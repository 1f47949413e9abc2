"""Settings for all tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

# A shell without job control starts background jobs with SIGINT ignored, and what the tests start would inherit that:
# a traced run would ignore SIGINT.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# nohup ignores SIGHUP. A handler that does nothing does so, too, but programs that tests start do not inherit it.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# Tests start hundreds of runs: with this set, each would compile every module again, a second of CPU.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Times for people are local: what they are here must not matter to tests. What tests start inherits it.
os.environ["TZ"] = "UTC0"
time.tzset()

# Files that take longest, these first: one that begins last keeps a single process busy while the others have ended.
LONGEST = (
    "netns/test_probe_many", "netns/test_doctor", "netns/test_probe", "netns/test_replay_capture",
    "netns/test_kernel_words", "netns/test_queues", "netns/test_sides", "tui/test_keys", "unit/store/test_store",
    "netns/test_unsent", "tui/test_robust", "tui/test_overview", "tui/test_list", "netns/test_kernel_words_by_place",
    "prog/test_program_cache", "netns/test_e2e_interfaces", "netns/test_e2e_filter", "netns/test_add_a_field",
    "netns/test_e2e_ending", "netns/test_restricted", "netns/test_doctor_namespaces", "netns/test_e2e_pcapng",
    "netns/test_e2e_bad_input", "netns/test_e2e_demo", "netns/test_e2e_neighbours", "netns/test_compare",
    "unit/test_bounds", "netns/test_faults_processes", "netns/test_e2e_killed", "netns/test_container_causes",
    "netns/test_load_cpus", "tui/test_day",
)  # fmt: skip
_RANK = {name: rank for rank, name in enumerate(LONGEST)}
_TESTS = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest files, and let what uses real traffic fail once.

    Timers of two kernels expire in one order or the other, so of thousands of such tests one fails now and then. It
    runs once more, the summary shows its first failure, and at most three tests of a run may do so (pyproject.toml).
    With --pdb none does: who debugs wants to stop at the first failure, and pytest refuses to do both.
    """
    for item in items:
        if item.get_closest_marker("root") and not config.getoption("usepdb"):
            item.add_marker(pytest.mark.flaky(reruns=1))
    items.sort(key=lambda item: _RANK.get(item.path.relative_to(_TESTS).with_suffix("").as_posix(), len(_RANK)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give a test that runs again its file's fixtures anew: scenes are played in them, once for the whole file."""
    if getattr(item, "execution_count", 1) > 1 and isinstance(item, pytest.Function):
        for fixtures in item._fixtureinfo.name2fixturedefs.values():
            for fixture in fixtures:
                if fixture.scope == "module":
                    fixture.finish(item._request)
