"""Child processes that end with their parent, whichever way it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from pyflow.isolation.parent import end_with_parent

#: Seconds that a child has between SIGTERM and SIGKILL.
GRACE = 15.0
#: Seconds between two looks at the children.
LOOK = 0.2


class Child:
    """A process in a session of its own: the terminal's Ctrl-C reaches only its parent, which ends it in order.

    Its lines go to our standard output, each after ``prefix``; without one, it writes there itself. Start children from
    the main thread: Linux signals them when the thread that started them ends.
    """

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], prefix: str | None = None) -> None:
        self.name = name
        self._process = subprocess.Popen(  # noqa: S603 - commands of ours
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=None if prefix is None else subprocess.PIPE,
            stderr=None if prefix is None else subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent(signal.SIGTERM),  # noqa: PLW1509 - two system calls
        )
        if prefix is not None and self._process.stdout is not None:
            threading.Thread(target=_relay, args=(self._process.stdout, prefix), daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id, also of its session."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Return its exit code (negative: the signal that ended it), or ``None`` while it runs."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic seconds) for its end, then end it and whatever it has started."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def end_all(children: Sequence[Child]) -> None:
    """Ask all children to end, at once, and see to it that they do."""
    for child in children:
        child.ask_to_end()
    deadline = time.monotonic() + GRACE
    for child in children:
        child.end(deadline)


def first_to_end(children: Sequence[Child]) -> Child:
    """Wait until one of the children ended, and return it."""
    while True:
        for child in children:
            if child.exit_code is not None:
                return child
        time.sleep(LOOK)


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived. Like ``KeyboardInterrupt`` it is no error, and ``except Exception`` lets it pass."""


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise ``Stopped`` in the block when SIGINT or SIGTERM arrives; a further one is ignored, for the tidying up."""

    def stop(_number: int, _frame: object) -> None:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier server that are still closing do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def web_command(host: str, port: int) -> list[str]:
    """The command of the web server."""
    return [sys.executable, "-m", "daphne", "-v", "0", "-b", host, "-p", str(port), "pyflow_site.asgi:application"]


def port_of(text: str) -> int:
    """A port number; ``ValueError`` says what one is."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= 65535:
        raise ValueError(f"a port is a number from 1 to 65535, not {text!r}")
    return int(text)


def _relay(lines: IO[bytes], prefix: str) -> None:
    for line in lines:
        sys.stdout.write(prefix + line.decode("utf-8", "replace").rstrip("\r\n") + "\n")
        sys.stdout.flush()
