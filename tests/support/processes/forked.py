"""Python programs that a fork server starts: with the interface of `subprocess`, without a second of imports each.

Only on a system that can; the commands themselves, `manage.py up` among them, are started by `tests/e2e/test_up.py`,
`test_web_login.py` and others as an operator starts them.
"""

import atexit
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

from pyflow.isolation.parent import end_with_parent

ROOT = Path(__file__).parents[3]
MODULE = "tests.support.processes.fork_server"


class Forked:
    """A running program, in a session of its own. It ends with the tests, however those end."""

    stdin = stdout = None

    def __init__(self, command: Sequence[str], env: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]) -> None:
        """Start what `sys.executable` would make of a command that begins with it."""
        interpreter, *arguments = command
        assert interpreter == sys.executable, command
        self.args = command
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_server())
        order = json.dumps({"arguments": arguments, "env": dict(env), "cwd": str(ROOT)})
        with Path(os.devnull).open("rb") as nothing:
            socket.send_fds(self._connection, [order.encode()], [s.fileno() for s in (nothing, stdout, stderr)])
        self._answers = self._connection.makefile("r")
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        """Return the exit status if it has ended: the number of the signal that ended it is negative."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode

    def terminate(self) -> None:
        """Send it SIGTERM, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


def run(arguments: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end: `python ARGUMENTS`, whose output is captured. Any exit status is returned."""
    command = [sys.executable, *arguments]
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        status = Forked(command, env, stdout, stderr).wait()
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(command, status, *texts)


@cache
def _server() -> str:
    """Start the fork server of this process, and return the path of its socket."""
    assert threading.current_thread() is threading.main_thread(), "the server would end with the thread"
    # In the session's folder, which goes with the session also if this process is killed.
    path = str(Path(tempfile.mkdtemp(prefix="forks-", dir=os.environ.get("PYFLOW_HOME"))) / "socket")
    server = subprocess.Popen(
        [sys.executable, "-m", MODULE, path],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=end_with_parent(),  # noqa: PLW1509 - two system calls
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"

    def end() -> None:
        server.kill()
        server.wait()
        server.stdout.close()  # type: ignore[union-attr]
        shutil.rmtree(Path(path).parent, ignore_errors=True)

    atexit.register(end)
    return path
