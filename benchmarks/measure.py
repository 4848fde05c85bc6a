"""Taking and showing measurements: interleaved runs, medians with their spread, and the machine they are from."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass
class Row:
    """One measured quantity: ``values`` in ``unit``, one a run; ``ratios`` to the baseline ``to``, run by run."""

    name: str
    unit: str
    values: list[float]
    ratios: list[float] = field(default_factory=list)
    to: str = ""

    def as_dict(self) -> dict[str, Any]:
        """``{name, unit, median, min, max, runs, ratio?: {to, median, min, max}}``."""
        shape: dict[str, Any] = {"name": self.name, "unit": self.unit, **_spread(self.values), "runs": len(self.values)}
        if self.ratios:
            shape["ratio"] = {"to": self.to, **_spread(self.ratios)}
        return shape


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def interleaved(subjects: Mapping[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Run every subject once, then every subject again, …: a machine that slows down slows all of them.

    A subject gives its own figure. One round before the first is thrown away.
    """
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for round_ in range(runs + 1):
        for name, subject in subjects.items():
            gc.collect()
            value = subject()
            if round_:
                taken[name].append(value)
    return taken


def rows(
    taken: Mapping[str, list[float]], unit: str, prefix: str = "", to: str | None = None, scale: float = 1.0
) -> list[Row]:
    """Rows of what ``interleaved`` took; with ``to``, each has its ratio to that subject, round by round."""
    made = []
    for name, values in taken.items():
        ratios = [] if to is None or name == to else [a / b for a, b in zip(values, taken[to], strict=True)]
        made.append(Row(f"{prefix}{name}", unit, [value * scale for value in values], ratios, to or ""))
    return made


def environment() -> dict[str, Any]:
    """The machine, the versions and the commit that figures belong to."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or "unknown",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {_processor()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("pyflow", "pydantic", "jinja2", "pyyaml")},
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def as_text(taken: Sequence[Row], about: Mapping[str, Any]) -> str:
    """The table as text."""
    head = ("quantity", "median", "min", "max", "unit", "ratio: median", "min", "max", "to")
    lines: list[tuple[str, ...]] = [head]
    for row in taken:
        spread = _spread(row.values)
        cells = (row.name, *(f"{spread[key]:,.2f}" for key in ("median", "min", "max")), row.unit)
        ratio = _spread(row.ratios) if row.ratios else {}
        cells += tuple(f"{ratio[key]:,.2f}×" if ratio else "" for key in ("median", "min", "max"))
        lines.append((*cells, row.to if row.ratios else ""))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    left = {0, 4, 8}
    table = "\n".join(
        "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    runs = min((len(row.values) for row in taken), default=0)
    return (
        f"{table}\n\n{runs} or more runs each, baseline and subject taking turns\n"
        f"{about['machine']}\nPython {about['python']}, {versions}\ncommit {about['commit']}, {about['at']}"
    )


def as_json(taken: Sequence[Row], about: Mapping[str, Any]) -> str:
    """The table as JSON: ``{environment, rows: [Row.as_dict]}``."""
    return json.dumps({"environment": dict(about), "rows": [row.as_dict() for row in taken]}, indent=2)
