"""``python -m benchmarks [--json FILE] [--runs N] [NAME…]``: measure, and print the table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import api, command_line, definitions, engine, fan_out, schedules, service, streams
from benchmarks.measure import Row, as_json, as_text, environment

#: Another benchmark is another module with ``measure(runs)``, named here.
BENCHMARKS: dict[str, Callable[[int], Iterator[Row]]] = {
    "engine": engine.measure,
    "fan_out": fan_out.measure,
    "definitions": definitions.measure,
    "command_line": command_line.measure,
    "service": service.measure,
    "api": api.measure,
    "schedules": schedules.measure,
    "streams": streams.measure,
}
FEWEST_RUNS = 5


def main() -> None:
    """Run the chosen benchmarks (all without a name)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure PyFlow on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--runs", type=int, default=7, help="runs of each (at least 5; default 7)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if arguments.runs < FEWEST_RUNS:
        parser.error(f"fewer than {FEWEST_RUNS} runs say nothing about their spread")
    taken: list[Row] = []
    for name in arguments.names or BENCHMARKS:
        print(f"measuring {name} …", file=sys.stderr)
        taken += BENCHMARKS[name](arguments.runs)
    about = environment()
    print(as_text(taken, about))
    if arguments.json is not None:
        arguments.json.write_text(as_json(taken, about))


if __name__ == "__main__":
    main()
