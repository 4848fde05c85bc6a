"""``python -m benchmarks.peers [--json FILE] [--runs N] [NAME…]``: PyFlow and its peers on the same work."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.measure import as_json, as_text, environment
from benchmarks.peers.environments import PeerMissingError
from benchmarks.peers.systems import SYSTEMS
from benchmarks.workload import measure


def main() -> None:
    """Measure the chosen systems (all without a name), one after the other in every round."""
    about = "Measure PyFlow beside what others use."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=about)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(SYSTEMS)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--runs", type=int, default=5, help="rounds (default 5)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in SYSTEMS]
    if unknown:
        parser.error(f"no system {unknown[0]!r}; there are {', '.join(SYSTEMS)}")
    try:
        taken = list(measure([SYSTEMS[name] for name in arguments.names or SYSTEMS], arguments.runs))
    except PeerMissingError as error:
        sys.exit(f"cannot be installed here: {error}")
    about = environment()
    print(as_text(taken, about))
    if arguments.json is not None:
        arguments.json.write_text(as_json(taken, about))


if __name__ == "__main__":
    main()
