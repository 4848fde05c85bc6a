"""Measures how long the command line takes to start: wall time of a process, beside Python's own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import Row, interleaved, rows

SMALL = """
name: small
trigger: {type: manual}
nodes:
  - {id: pick, type: transform, config: {input: {x: 1}, expression: $.x}}
  - {id: big, type: condition, config: {if: "pick > 0"}, depends_on: [pick]}
"""
PYTHON = "python -c pass"


def _wall(command: list[str]) -> Callable[[], float]:
    def measure() -> float:
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started

    return measure


def measure(runs: int) -> Iterator[Row]:
    """Milliseconds a process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "small.yaml")
        file.write_text(SMALL)
        subjects = {
            PYTHON: _wall([sys.executable, "-c", "pass"]),
            "pyflow run of a small file": _wall(
                [sys.executable, "-c", "from pyflow.cli import main; main()", "run", str(file)]
            ),
        }
        yield from rows(interleaved(subjects, runs), "ms", to=PYTHON, scale=1e3)
