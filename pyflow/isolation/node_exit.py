"""Exceptions of nodes that are not an ``Exception`` (``SystemExit`` …): they fail that node and nothing else."""

from __future__ import annotations

import asyncio
import signal
import threading
from types import CodeType
from typing import Any, ClassVar

from pyflow.core.errors import NodeError


class NodeExitError(NodeError):
    """A node raised ``SystemExit``, ``KeyboardInterrupt`` or another exception that is meant to end the process."""

    code: ClassVar[str] = "node_exit"


class NodeSelfCancelledError(NodeError):
    """A node raised ``CancelledError``, or cancelled its own task, although nobody had asked its run to stop."""

    code: ClassVar[str] = "node_self_cancelled"


def exit_failure(error: BaseException) -> NodeExitError | None:
    """The failure of the node that raised ``error``; ``None`` if it is not the node's.

    That of a signal handler only happened to interrupt the node, and ``GeneratorExit`` outside of its task closes a
    coroutine that nobody awaits any more.
    """
    if is_from_signal(error) or (isinstance(error, GeneratorExit) and not _is_in_a_task()):
        return None
    try:
        said = str(error)
    except BaseException:  # noqa: BLE001 - an error of a node may be broken itself
        said = ""
    what = type(error).__name__ + (f" ({said})" if said else "")
    return NodeExitError(f"the node raised {what}, which does not end the process: raise an error that is an Exception")


def _is_in_a_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


# --- signals

#: The code of signal handlers in Python that this process had when it was last looked.
_handlers: set[CodeType] = set()


def know_signal_handlers() -> None:
    """Remember the handlers that are installed now: one may uninstall itself before it raises."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        code = getattr(getattr(handler, "func", handler), "__code__", None)  # asyncio's is a `partial`
        if isinstance(code, CodeType):
            _handlers.add(code)


def is_from_signal(error: BaseException) -> bool:
    """Return whether a signal handler raised it, wherever it interrupted: a user's Ctrl-C, a supervisor's SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        return False
    # Python's own handler of SIGINT leaves no trace that distinguishes its exception from one that a node raises.
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return True
    know_signal_handlers()
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in _handlers:
            return True
        trace = trace.tb_next
    return False
