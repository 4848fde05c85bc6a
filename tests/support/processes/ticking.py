"""A scheduler of its own in accelerated time: `python -m tests.support.processes.ticking BEGIN SPEED UNTIL`.

Its clock was at the POSIX time BEGIN when the real one was at START (in the environment), and runs SPEED times as fast,
until UNTIL. It writes a line when it begins.
"""

import os
import sys
import time
from datetime import UTC, datetime

import django

from plumbing.database.transactions import is_passing


def main(begin: float, speed: float, until: float) -> None:
    """Tick until the end."""
    django.setup()
    from triggers.services.schedules.ticks import tick

    print("ticking", flush=True)
    start = float(os.environ["START"])
    while True:
        now = begin + (time.time() - start) * speed
        try:
            tick(datetime.fromtimestamp(min(now, until), UTC))
        except Exception as error:
            if not is_passing(error):
                raise
        if now >= until:
            return


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
