"""Places where a process may be made to die by SIGKILL, once in a fleet: only the tests' own build has them.

Its environment names one as ``PLACE:N`` (the N-th time that a process comes there), and a file that says that it has
happened, so that whoever takes over lives.
"""

import os
import signal
from collections import Counter
from pathlib import Path

PLACE, DONE = "PYFLOW_CHAOS_CRASH", "PYFLOW_CHAOS_CRASHED"
PLACES = (
    "claim.before",
    "claim.after",
    "effect.before",
    "effect.after",
    "commit.before",
    "commit.after",
    "notify.before",
    "notify.after",
)
_passed: Counter[str] = Counter()


def crash(place: str) -> None:
    """Die here if that is what the environment says."""
    wanted, _, count = os.environ.get(PLACE, "").partition(":")
    if wanted != place:
        return
    _passed[place] += 1
    if _passed[place] < int(count):
        return
    try:
        Path(os.environ[DONE]).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
