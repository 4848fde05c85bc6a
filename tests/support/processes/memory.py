"""How much memory a process has needed at most: for tests and benchmarks, which ask in a process of their own."""

import resource
import subprocess
import sys
import textwrap
from pathlib import Path


def peak() -> int:
    """Return the most bytes that this process has had in memory since it was started.

    On Linux `ru_maxrss` would do only until the next `exec`: it begins with what the parent had.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def printed_by(program: str, *arguments: object) -> str:
    """Run a Python program in a process of its own and return what it printed; its failure is an `AssertionError`."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
