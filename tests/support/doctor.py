"""What tests of `tfotrace doctor` share."""

from __future__ import annotations

import sys

from tracer.doctor.model import Finding, Report

# Imports first: a checkout in root's home cannot be read afterwards. Dumpable again, as after an exec.
_AS_NOBODY = """
import ctypes, os, sys
import tracer.doctor.examine, tracer.doctor.text
from tracer.cli import main as cli
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
sys.exit(cli.main(sys.argv[1:]))
"""
NOBODY = (sys.executable, "-I", "-c", _AS_NOBODY)


def find(report: Report, topic: str, word: str) -> Finding:
    (found,) = (f for f in report.findings if (f.topic.value, f.id) == (topic, word))
    return found


def has(report: Report, topic: str, word: str) -> bool:
    return any((f.topic.value, f.id) == (topic, word) for f in report.findings)
