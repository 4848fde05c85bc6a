"""Starts the processes of a system that is measured, and ends them with it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyflow.isolation.parent import end_with_parent

START_SECONDS = 120.0


@contextmanager
def running(
    command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, by SIGTERM and then by SIGKILL; what it prints goes to ``log``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **env},
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=end_with_parent(signal.SIGTERM),  # noqa: PLW1509 - two system calls, before any thread
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def await_url(url: str, processes: Sequence[subprocess.Popen[bytes]], log: Path) -> None:
    """Return when the address answers below 400. Raises ``RuntimeError`` with the log if a process ends before."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                if response.status < 400:
                    return
        except (urllib.error.URLError, OSError):
            ended = [process for process in processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"{url} does not answer:\n{log.read_text()[-4000:]}") from None
        time.sleep(0.02)
