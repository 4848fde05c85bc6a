"""The process of a `quarantine`: executes suspects, one at a time, until none are left or its parent is gone."""

from __future__ import annotations

import asyncio
import json
import sys
import threading

import django


def main() -> None:
    """Execute the suspects of the queues that the command line names as JSON; ``null``: of all."""
    django.setup()
    from runs.execution import RunExecutor  # noqa: PLC0415 - models cannot be imported before Django is set up

    executor = RunExecutor(json.loads(sys.argv[1]), suspects=True)

    def follow_parent() -> None:
        sys.stdin.read()
        executor.stop()

    threading.Thread(target=follow_parent, name="pyflow-lifeline", daemon=True).start()
    asyncio.run(executor.drain())
