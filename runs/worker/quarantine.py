"""Executes poison runs (their workers were lost before) in a separate process, one at a time.

An executor drives many runs, and all are lost with it when one kills its process. That one is lost again and again; the
others only happened to be there. Before a run fails for its losses it is therefore executed where nothing else is.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

logger = logging.getLogger(__name__)
START = "from runs.worker.quarantine_process import main; main()"


class Quarantine:
    """The child process of one executor that executes poison runs of its ``queues`` (``None``: of all)."""

    def __init__(self, queues: Collection[str] | None) -> None:
        self._queues = queues
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_busy(self) -> bool:
        """Return whether the process exists; it ends when no poison runs are left."""
        return self._process is not None and self._process.poll() is None

    def open(self) -> None:
        """Start the process unless it is there."""
        if self.is_busy:
            return
        self._close_pipe()
        logger.warning("runs that were lost with executors before are executed in a process of their own")
        # Not `-m`: the working directory must make no difference.
        path = [str(Path(entry).absolute()) for entry in sys.path]
        self._process = subprocess.Popen(  # noqa: S603 - a command of ours
            [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {START}", self._argument()],
            stdin=subprocess.PIPE,  # it ends when this does, whichever way we end
            start_new_session=True,
        )

    def close(self) -> None:
        """Let the process hand its run back and end."""
        self._close_pipe()

    def wait(self, seconds: float) -> None:
        """Wait for its end, and kill it if there is none within ``seconds``."""
        if self._process is None:
            return
        deadline = time.monotonic() + seconds
        while self.is_busy and time.monotonic() < deadline:
            time.sleep(0.05)
        self._process.kill()
        self._process.wait()

    def _argument(self) -> str:
        return json.dumps(None if self._queues is None else sorted(self._queues))

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
