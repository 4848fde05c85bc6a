"""Nodes that would take others with them: what they raise, and what they do to the event loop and the process."""

import asyncio
import decimal
import gc
import locale
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from pyflow.core.node import NodeRegistry
from tests.support.factories.nodes import register


class Fatal(BaseException):
    """Not an ``Exception``."""


class UnspeakableError(Exception):
    """Its own text ends the process."""

    def __str__(self) -> str:
        raise SystemExit(9)


RAISED: dict[str, Callable[[], BaseException]] = {
    "system_exit": lambda: SystemExit(3),
    "keyboard_interrupt": KeyboardInterrupt,
    "generator_exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "fatal": Fatal,
    "unspeakable": UnspeakableError,
    "stop_iteration": StopIteration,
}


def _raising(make: Callable[[], BaseException]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    async def on_the_loop(ctx: Any) -> None:
        await asyncio.sleep(0.02)
        raise make()

    def in_a_thread(ctx: Any) -> None:
        raise make()

    return on_the_loop, in_a_thread


async def cancels_itself(ctx: Any) -> None:
    """Cancels its own task."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


async def cancels_itself_and_fails(ctx: Any) -> None:
    """Cancels its own task, and does not wait for it."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    raise ValueError("failed")


async def cancels_all(ctx: Any) -> None:
    """Cancels whatever the loop executes."""
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0.1)


async def cancels_all_later(ctx: Any) -> None:
    """Has a callback do it."""
    for task in asyncio.all_tasks():
        asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.sleep(0.1)


async def stops_the_loop(ctx: Any) -> None:
    """Stops the loop."""
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.1)


async def stops_the_loop_later(ctx: Any) -> None:
    """Has a callback do it."""
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.stop)
    await asyncio.sleep(0.1)


async def closes_the_loop(ctx: Any) -> None:
    """Closes the loop."""
    asyncio.get_running_loop().close()


async def callback_exits(ctx: Any) -> None:
    """Has a callback end the process."""
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.1)


async def task_exits(ctx: Any) -> None:
    """Leaves a task behind that ends the process."""

    async def leave() -> None:
        raise SystemExit(3)

    await asyncio.create_task(leave())


async def sets_handlers_of_the_loop(ctx: Any) -> None:
    """Takes the loop's default executor and its exception handler."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: sys.exit(3))


async def sets_the_task_factory(ctx: Any) -> None:
    """Makes tasks of another kind."""
    asyncio.get_running_loop().set_task_factory(lambda *_, **__: None)  # type: ignore[arg-type]


async def shuts_the_threads_down(ctx: Any) -> None:
    """Ends the threads that nodes are executed in."""
    await asyncio.get_running_loop().shutdown_default_executor()


async def sets_an_event_loop(ctx: Any) -> None:
    """Leaves a loop of its own in its thread."""
    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    loop.close()


async def spams_callbacks(ctx: Any) -> None:
    """Keeps the loop busy."""
    loop = asyncio.get_running_loop()
    for _ in range(20_000):
        loop.call_soon(int)
    await asyncio.sleep(0)


async def leaks_tasks(ctx: Any) -> None:
    """Leaves tasks behind."""
    left = [asyncio.create_task(asyncio.sleep(1)) for _ in range(200)]
    await asyncio.sleep(0)
    del left


def leaks_threads(ctx: Any) -> None:
    """Leaves threads behind."""
    for _ in range(20):
        threading.Thread(target=time.sleep, args=(1,), daemon=True).start()


def forks(ctx: Any) -> int:
    """Goes on in a child as if it were its parent."""
    return os.fork()


async def forks_on_the_loop(ctx: Any) -> int:
    """Goes on in a child, on the event loop of its parent."""
    pid = os.fork()
    await asyncio.sleep(0)
    return pid


def changes_settings(ctx: Any) -> None:
    """Changes whatever the process shares."""
    os.chdir("/")
    os.umask(0)
    os.environ["HOME"] = "/nowhere"
    os.environ["PYFLOW_OF_A_NODE"] = "x"
    sys.path.insert(0, "/nowhere")
    sys.setrecursionlimit(500)
    sys.setswitchinterval(1)
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")
    socket.setdefaulttimeout(0.001)
    gc.disable()
    decimal.getcontext().prec = 2
    warnings.simplefilter("error")
    logging.disable(logging.CRITICAL)
    logging.root.handlers.clear()
    sys.stdout = None
    threading.excepthook = lambda _: None


async def changes_settings_on_the_loop(ctx: Any) -> None:
    """Likewise, where others are executed."""
    changes_settings(ctx)
    await asyncio.sleep(0)


async def sets_signal_handlers(ctx: Any) -> None:
    """Takes SIGTERM, which only the main thread may."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _raising_all() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for name, make in RAISED.items():
        found[f"raises_{name}"], found[f"raises_{name}_in_a_thread"] = _raising(make)
    return found


#: By what they misuse.
GROUPS: dict[str, dict[str, Callable[..., Any]]] = {
    "exceptions": _raising_all(),
    "event loop": {
        function.__name__: function
        for function in (
            cancels_itself, cancels_itself_and_fails, cancels_all, cancels_all_later, stops_the_loop,
            stops_the_loop_later, closes_the_loop, callback_exits, task_exits, sets_handlers_of_the_loop,
            sets_the_task_factory, shuts_the_threads_down, sets_an_event_loop, spams_callbacks, leaks_tasks,
        )
    },
    "process": {
        function.__name__: function
        for function in (
            leaks_threads, forks, forks_on_the_loop, changes_settings, changes_settings_on_the_loop,
            sets_signal_handlers,
        )
    },
}  # fmt: skip
POISONS = {name: function for group in GROUPS.values() for name, function in group.items()}
#: The error with which their runs fail; the others' succeed.
CODES = {
    **{f"raises_{name}{place}": "node_exit" for name in ("system_exit", "keyboard_interrupt", "fatal")
       for place in ("", "_in_a_thread")},
    "raises_generator_exit": "node_exit",
    "raises_generator_exit_in_a_thread": "node_error",
    "raises_cancelled": "node_self_cancelled",
    "raises_cancelled_in_a_thread": "node_self_cancelled",
    "raises_unspeakable": "node_error",
    "raises_unspeakable_in_a_thread": "node_error",
    "raises_stop_iteration": "node_error",
    "raises_stop_iteration_in_a_thread": "node_error",
    "cancels_itself": "node_self_cancelled",
    "cancels_itself_and_fails": "node_error",
    "cancels_all": "event_loop_misuse",
    "cancels_all_later": "node_self_cancelled",
    "stops_the_loop": "event_loop_misuse",
    "closes_the_loop": "event_loop_misuse",
    "task_exits": "node_exit",
    "sets_handlers_of_the_loop": "event_loop_misuse",
    "sets_the_task_factory": "event_loop_misuse",
    "shuts_the_threads_down": "event_loop_misuse",
    "sets_signal_handlers": "node_error",
}  # fmt: skip


async def exits_hard(ctx: Any) -> None:
    """Ends the process."""
    await asyncio.sleep(0.1)
    os._exit(3)


async def kills_itself(ctx: Any) -> None:
    """Kills the process."""
    await asyncio.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)


async def never_yields(ctx: Any) -> None:
    """Keeps the event loop."""
    while True:
        time.sleep(0.01)  # noqa: ASYNC251 - that is it


def register_fatal(registry: NodeRegistry) -> None:
    """Register what ends the process, whatever is done about it."""
    for function in (exits_hard, kills_itself, never_yields):
        register(registry, function.__name__, function)


def register_poisons(registry: NodeRegistry) -> None:
    """Register each as a node type of its name."""
    for name, function in POISONS.items():
        register(registry, name, function)
