"""`python -m tests.support.processes.executors`: reads `fork` and `reap PID`, and answers with a line to each.

What is slow to import is imported once, here; each forked child then only executes runs, until it is killed.
"""

import asyncio
import os
import sys

import django


def main() -> None:
    """Serve the two commands until stdin ends."""
    django.setup()
    import pyflow.net.http_client  # noqa: F401 - the first request would import it
    from plugins.discovery import discover
    from runs.worker.executor import RunExecutor

    discover()
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "reap":
            _, status = os.waitpid(int(argument), 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                asyncio.run(RunExecutor().serve())
                os._exit(0)
        print(answer, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
    main()
