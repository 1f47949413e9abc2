"""Why a probe's trace could not begin."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tracer.errors import ExitCode, TfotraceError
from tracer.linux import own_tree
from tracer.probe.trace import Trace

UNSAFE = "root runs here what user nobody may change"


@pytest.mark.parametrize("unsafe", [None, UNSAFE])
def test_the_reason_is_what_kept_it_from_tracing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsafe: str | None
) -> None:
    """A warning before it is no reason."""
    lines = [*([unsafe] if unsafe else []), "root here lacks CAP_BPF", "more"]
    run = tmp_path / "run"
    run.write_text("#!/bin/sh\n" + "".join(f"echo 'tfotrace: {line}' >&2\n" for line in lines) + "exit 3\n")
    run.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(run))
    monkeypatch.setattr(own_tree, "warning", lambda: unsafe)
    with pytest.raises(TfotraceError, match=r"^root here lacks CAP_BPF$") as failed:
        Trace(["lo"], "tcp", 1.0).__enter__()
    assert failed.value.exit_code is ExitCode.CANNOT_TRACE
