"""The event loop that nodes of many runs share: code of one node stops neither the loop nor what is not its own.

A *scope* is the task that calls a node. Context variables carry it into whatever the node starts: tasks, callbacks,
threads. Code in a scope may cancel the scope's task and the tasks that were created in it; any other is the engine's or
another node's. The engine itself works outside of scopes wherever it cancels or stops anything of others.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

from pyflow.core.errors import NonRetryableError
from pyflow.isolation.node_exit import is_from_signal

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")
#: With which status a process ends that a node forked off and let go on as if it were its parent.
FORKED_STATUS = 70

_scope: ContextVar[asyncio.Task[Any] | None] = ContextVar("pyflow_node_scope", default=None)


class EventLoopMisuseError(NonRetryableError):
    """A node wanted to stop or change the event loop, or to cancel tasks that are not its own."""

    code: ClassVar[str] = "event_loop_misuse"


def enter_scope(task: asyncio.Task[Any]) -> None:
    """Let the nodes that ``task`` calls from now on be held to what is theirs. Call it in ``task``."""
    _scope.set(task)


class NodeTask(asyncio.Task[Any]):
    """A task that code of other nodes cannot cancel, and that remembers who cancelled it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._owner = _scope.get()
        #: Whether a cancellation is pending that no code of its own scope has asked for.
        self.is_cancelled_from_outside = False
        super().__init__(*args, **kwargs)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task. Raises ``EventLoopMisuseError`` in the scope of another node."""
        caller = _scope.get()
        loop = self.get_loop()
        # A task hands its cancellation on to what it awaits: that is the wish of whoever may cancel the first one.
        direct = not getattr(loop, "is_cancelling", False)
        if direct and caller is not None and self is not caller and self._owner is not caller:
            raise EventLoopMisuseError("the node wanted to cancel a task of the event loop that is not its own")
        if caller is None:
            self.is_cancelled_from_outside = True
        if not isinstance(loop, NodeLoop) or not direct:
            return super().cancel(msg)
        loop.is_cancelling = True
        try:
            return super().cancel(msg)
        finally:
            loop.is_cancelling = False

    def uncancel(self) -> int:
        left = super().uncancel()
        if not left:
            self.is_cancelled_from_outside = False
        return left


def is_cancelled_from_outside(task: asyncio.Task[Any]) -> bool:
    """Return whether ``task`` was cancelled by anything but its node. Only tasks of a ``NodeLoop`` know."""
    return isinstance(task, NodeTask) and task.is_cancelled_from_outside


def _refused_to_nodes(name: str) -> Callable[..., Any]:
    method = getattr(asyncio.SelectorEventLoop, name)

    @functools.wraps(method)
    def guarded(self: NodeLoop, *args: Any, **kwargs: Any) -> Any:
        if _scope.get() is not None:
            raise EventLoopMisuseError(f"the node called `{name}` of the event loop, which it shares with other nodes")
        return method(self, *args, **kwargs)

    return guarded


class NodeLoop(asyncio.SelectorEventLoop):
    """An event loop whose tasks are ``NodeTask``s. It goes on when a callback of a node wants to end the process."""

    def __init__(self) -> None:
        super().__init__()
        #: Whether a task is being cancelled right now.
        self.is_cancelling = False
        self._main: asyncio.Future[Any] | None = None
        super().set_task_factory(lambda loop, coro, **options: NodeTask(coro, loop=loop, **options))
        _loops.add(self)

    stop = _refused_to_nodes("stop")
    close = _refused_to_nodes("close")
    set_default_executor = _refused_to_nodes("set_default_executor")
    set_exception_handler = _refused_to_nodes("set_exception_handler")
    set_task_factory = _refused_to_nodes("set_task_factory")
    set_debug = _refused_to_nodes("set_debug")
    add_signal_handler = _refused_to_nodes("add_signal_handler")  # type: ignore[assignment]
    remove_signal_handler = _refused_to_nodes("remove_signal_handler")
    shutdown_asyncgens = _refused_to_nodes("shutdown_asyncgens")
    shutdown_default_executor = _refused_to_nodes("shutdown_default_executor")

    def run_until_complete(self, future: Any) -> Any:
        self._main = asyncio.ensure_future(future, loop=self)
        try:
            return super().run_until_complete(self._main)
        finally:
            self._main = None

    def run_forever(self) -> None:
        """Run until stopped. A ``SystemExit`` of a task or callback that a node left behind does not end the loop."""
        while True:
            try:
                super().run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # What a signal handler raises is meant for the process; what the main task raises, for its caller.
                if is_from_signal(error) or self._main is None or self._main.done():
                    raise
                logger.exception("a callback or task that a node left behind wanted to end the process: ignored")
            else:
                return

    def end_forked_child(self) -> None:
        """End this process before it executes anything more of the loop, which is its parent's."""
        # The next callback, whichever would have been: there is no public way to be first.
        self._ready.appendleft(asyncio.Handle(os._exit, (FORKED_STATUS,), self))  # type: ignore[attr-defined]


def run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Execute ``main`` on a ``NodeLoop``, as ``asyncio.run`` does on another one."""
    with asyncio.Runner(loop_factory=NodeLoop) as runner:
        return runner.run(main)


# --- processes that nodes fork off

_loops: weakref.WeakSet[NodeLoop] = weakref.WeakSet()
_forked = False


def _after_fork_in_child() -> None:
    global _forked  # noqa: PLW0603 - of this process, as the fork is
    for loop in _loops:
        if loop.is_running():
            _forked = True
            loop.end_forked_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


def end_if_forked() -> None:
    """End this process if a node has forked it off: a child has no part in the runs of its parent."""
    if _forked:
        os._exit(FORKED_STATUS)
