"""A private lab of two hosts with Fast Open traffic of every outcome: what `tfotrace demo` and the tests trace."""

from __future__ import annotations

from tracer.lab.lab import Lab
from tracer.lab.scenarios import SCENARIOS, Expected, Scenario, server_address

__all__ = ["SCENARIOS", "Expected", "Lab", "Scenario", "server_address"]
