"""The process of a `quarantine`: executes poison runs, one at a time, until none are left or its parent is gone."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from typing import TYPE_CHECKING

import django
from django.conf import settings

if TYPE_CHECKING:
    from runs.worker.executor import RunExecutor

#: How often it is seen to that the event loop turns. Seconds.
PULSE_SECONDS = 1.0


def main() -> None:
    """Execute the poison runs of the queues that the command line names as JSON; ``null``: of all."""
    django.setup()
    from pyflow.isolation import node_loop  # noqa: PLC0415 - as below
    from runs.worker.executor import RunExecutor  # noqa: PLC0415 - models cannot be imported before Django is set up

    executor = RunExecutor(json.loads(sys.argv[1]), poison_runs=True)

    def follow_parent() -> None:
        sys.stdin.read()
        executor.stop()

    threading.Thread(target=follow_parent, name="pyflow-lifeline", daemon=True).start()
    node_loop.run(_drain(executor))


async def _drain(executor: RunExecutor) -> None:
    pulse = asyncio.ensure_future(_put_off_the_end())
    try:
        await executor.drain()
    finally:
        pulse.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)


async def _put_off_the_end() -> None:
    """Be ended by the kernel when the event loop stands still: nobody else watches this process.

    A node that never gives the interpreter back lets no handler run, but SIGALRM ends a process that has none.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while True:
        signal.setitimer(signal.ITIMER_REAL, 2.0 * float(settings.PYFLOW_LEASE_SECONDS))
        await asyncio.sleep(PULSE_SECONDS)
