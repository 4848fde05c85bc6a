"""Processes that end with the one that started them, also if that is killed and can tell nobody."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

#: From ``<sys/prctl.h>``.
_PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None] | None:
    """Return a ``preexec_fn`` that has Linux send a child the signal when this process ends; elsewhere ``None``.

    Start such children from the main thread: Linux sends the signal when the thread that started them ends. A signal
    that the child may ignore or answer late, such as SIGTERM, is for one that has to finish something in order.
    """
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()
    return lambda: _ask(libc, parent, number)


def end_with(parent: int) -> None:
    """Have Linux kill this process when its parent, the process with this id, ends; elsewhere do nothing."""
    if sys.platform == "linux":
        _ask(ctypes.CDLL(None), parent, signal.SIGKILL)


def _ask(libc: ctypes.CDLL, parent: int, number: signal.Signals) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it ended before the kernel knew
