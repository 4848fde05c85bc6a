"""Computations of strangers, in processes that can be killed: whatever they take, the caller's interpreter goes on.

A process is a fresh interpreter without the caller's environment or secrets, started when it is first needed and used
again. A computation that takes more than its CPU time ends with its process; the next one starts another. Calls and
answers are JSON, so that a hostile answer is data.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

from pyflow.core.errors import ErrorCategory, PyFlowError
from pyflow.isolation.environment import SETTING, child_environment

__all__ = ["MAX_PROCESSES", "ComputationBusyError", "ComputationLimitError", "compute"]

#: Processes at once, of each process that calls; a caller's group (a tenant) has at most one of them.
MAX_PROCESSES = 2
#: CPU time of one computation, and what it may take in all on a machine that is busy: seconds.
CPU_SECONDS = 10
MAX_SECONDS = 30.0
#: How long a call waits for a process: seconds.
MAX_WAIT = 5.0
#: Bytes that computations may use on top of what the interpreter and the node types take.
MEMORY = 512 * 1024 * 1024
MAX_ANSWER = 64 * 1024 * 1024


class ComputationLimitError(PyFlowError):
    """A computation of the request exceeds its limit of CPU time or memory."""

    code: ClassVar[str] = "computation_limit"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class ComputationBusyError(PyFlowError):
    """All processes for computations are busy. Send the same request again."""

    code: ClassVar[str] = "computation_busy"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAVAILABLE
    retry_after = 2


def compute(function: str, *args: Any, group: str) -> Any:
    """Call ``module:function`` in another process, with JSON arguments and a JSON result.

    ``group``: whose computation this is. Raises ``ComputationLimitError`` or ``ComputationBusyError``.
    """
    with _pool.process(group) as process:
        return process.call(function, args)


class _Process:
    """A process for computations, seen from its caller. One call at a time."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            # Not `-m`: the working directory and what `__main__` is here must make no difference.
            path = [str(Path(entry).absolute()) for entry in sys.path]
            code = f"import sys; sys.path[:] = {path!r}; from pyflow.isolation.computations_child import main; main()"
            environment = child_environment({name: value for name, value in os.environ.items() if name != SETTING})
            self._child = subprocess.Popen(  # noqa: S603 - our own code
                [sys.executable, "-c", code, str(theirs.fileno()), str(CPU_SECONDS), str(MEMORY)],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=environment,
            )
        self.usable = True

    def call(self, function: str, args: tuple[Any, ...]) -> Any:
        """The result of a call; a process that gives none is ended."""
        try:
            self._send(json.dumps([function, args]).encode("utf-8", "surrogatepass"))
            answer = json.loads(self._receive())
        except (OSError, EOFError, struct.error):
            self.end()
            raise self._why() from None
        except BaseException:
            self.end()
            raise
        if "result" in answer:
            return answer["result"]
        if answer["error"] == "memory":
            raise _too_much(f"{MEMORY:,} bytes of memory")
        raise RuntimeError(f"{function} failed in its process: {answer['error']}")

    def end(self) -> None:
        """Kill the process with whatever it started, and reap it."""
        self.usable = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._socket.close()

    def forget(self) -> None:
        """Close the connection of a process that another process started."""
        self._socket.close()

    def _why(self) -> Exception:
        status = self._child.returncode
        if status in (-signal.SIGXCPU, -signal.SIGKILL):  # of its CPU time, or by `end`: it did not answer in time
            return _too_much(f"{CPU_SECONDS} s of CPU time")
        return RuntimeError(f"the process for computations ended with status {status}")

    def _send(self, body: bytes) -> None:
        self._socket.settimeout(MAX_SECONDS)
        self._socket.sendall(struct.pack("!I", len(body)) + body)

    def _receive(self) -> bytes:
        until = time.monotonic() + MAX_SECONDS
        length, self.usable = struct.unpack("!I?", self._exactly(5, until))
        if length > MAX_ANSWER:
            raise EOFError
        return self._exactly(length, until)

    def _exactly(self, size: int, until: float) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            self._socket.settimeout(max(until - time.monotonic(), 0.001))
            chunk = self._socket.recv(min(size - len(parts), 1 << 20))
            if not chunk:
                self._child.wait()  # it has closed its end: its status says why
                raise EOFError
            parts += chunk
        return bytes(parts)


def _too_much(what: str) -> ComputationLimitError:
    return ComputationLimitError(
        f"the templates and expressions of this request together take more than {what}; "
        "make them smaller, or look at fewer of them at once"
    )


class _Pool:
    """The processes of this one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[_Process] = []
        self._busy: list[_Process] = []
        self._groups: set[str] = set()

    @contextlib.contextmanager
    def process(self, group: str) -> Any:
        """A process for one call of this group."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_free(group), MAX_WAIT):
                raise ComputationBusyError("other documents are being looked at; send the request again in a moment")
            self._groups.add(group)
            process = self._idle.pop() if self._idle else None
        try:
            process = process or _Process()
            self._busy.append(process)
            yield process
        finally:
            with self._changed:
                self._groups.discard(group)
                if process in self._busy:
                    self._busy.remove(process)
                if process is not None and process.usable:
                    self._idle.append(process)
                self._changed.notify_all()
            if process is not None and not process.usable:
                process.end()

    def _is_free(self, group: str) -> bool:
        return group not in self._groups and len(self._groups) < MAX_PROCESSES

    def end(self) -> None:
        """End the processes that wait for a call; the others end with this one, when their connection closes."""
        for process in self._idle:
            process.end()

    def forget(self) -> None:
        """Leave the processes to the one that started them: this is a fork of it."""
        for process in (*self._idle, *self._busy):
            process.forget()


_pool = _Pool()


def _after_fork() -> None:
    global _pool  # noqa: PLW0603 - the pool is of the process
    _pool.forget()
    _pool = _Pool()


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _at_exit() -> None:
    _pool.end()
