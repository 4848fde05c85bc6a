"""Settings of the whole process that nodes may change: put back as they were, for whatever runs beside them."""

from __future__ import annotations

import decimal
import gc
import locale
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyflow.core.node import NodeRegistry
from pyflow.execution.engine import Handler, Middleware, NodeCall
from pyflow.isolation.node_loop import end_if_forked

logger = logging.getLogger(__name__)
Setting = tuple[Callable[[], Any], Callable[[Any], object]]


class ProcessSettings:
    """The settings of this process as they were when this was made. For one executor, on its own thread."""

    def __init__(self) -> None:
        # Duplicates: with a stream that a node closes, its descriptor is gone.
        self._descriptors = [os.dup(number) for number in (1, 2)]
        self._settings = _SETTINGS | {"umask": (self._umask, os.umask), "standard streams": (_streams, self._reopen)}
        if threading.current_thread() is threading.main_thread():
            self._settings["signal handlers"] = (_handlers, _set_handlers)
        os.umask(mask := os.umask(0o077))  # it cannot be read otherwise
        self._mask = mask
        self._saved = {name: read() for name, (read, _) in self._settings.items()}

    def close(self) -> None:
        """Release what this holds."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def restore(self) -> list[str]:
        """Put back what has changed; returns the names of those settings."""
        changed = [name for name, (read, _) in self._settings.items() if _read(read) != self._saved[name]]
        for name in changed:
            _, write = self._settings[name]
            write(self._saved[name])
        return changed

    def guard(self, registry: NodeRegistry) -> Middleware:
        """Middleware that puts settings back after each attempt of a node that is not one of PyFlow's own.

        The decimal context is of the task, not of the process: each attempt has a copy.
        """
        own = {name for name in registry if registry.get(name).__module__.startswith("pyflow.")}

        async def guarded(call: NodeCall, run: Handler) -> object:
            if call.node.type in own:
                return await run(call)
            try:
                with decimal.localcontext():
                    return await run(call)
            finally:
                end_if_forked()
                if changed := self.restore():
                    logger.warning("a node of type %s or one beside it changed %s: put back", call.node.type, changed)

        return guarded

    def _umask(self) -> int:
        # Setting it is the only way to read it, so that it is never another one than this.
        return os.umask(self._mask)

    def _reopen(self, saved: Sequence[tuple[Any, bool]]) -> None:
        for (stream, _), name, descriptor in zip(saved, ("stdout", "stderr"), self._descriptors, strict=True):
            if stream is None or not stream.closed:
                setattr(sys, name, stream)
                continue
            number = {"stdout": 1, "stderr": 2}[name]
            os.dup2(descriptor, number)
            again = open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, again)
            for handler in logging.root.handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
                    handler.stream = again  # not `setStream`, which flushes the one that is closed


def _read(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except OSError:  # a working directory that is gone
        return None


def _streams() -> list[tuple[Any, bool]]:
    return [(stream, stream is not None and stream.closed) for stream in (sys.stdout, sys.stderr)]


def _set_environment(saved: Mapping[str, str]) -> None:
    for name in os.environ.keys() - saved.keys():
        del os.environ[name]
    os.environ.update(saved)


def _set_filters(saved: Sequence[Any]) -> None:
    warnings.resetwarnings()  # what has been shown or not is decided anew
    warnings.filters[:] = saved  # type: ignore[index]


def _logging() -> tuple[int, int, list[logging.Handler]]:
    return logging.root.level, logging.root.manager.disable, list(logging.root.handlers)


def _set_logging(saved: tuple[int, int, list[logging.Handler]]) -> None:
    level, disabled, handlers = saved
    logging.root.setLevel(level)
    logging.disable(disabled)
    logging.root.handlers[:] = handlers


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _set_handlers(saved: Mapping[int, Any]) -> None:
    for number, handler in saved.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _set_hooks(saved: tuple[Any, Any, Any]) -> None:
    sys.excepthook, sys.unraisablehook, threading.excepthook = saved


_SETTINGS: dict[str, Setting] = {
    "the working directory": (os.getcwd, os.chdir),
    "the environment": (lambda: dict(os.environ), _set_environment),
    "sys.path": (lambda: list(sys.path), lambda path: setattr(sys, "path", list(path))),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "the switch interval": (sys.getswitchinterval, sys.setswitchinterval),
    "the locale": (lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    "the socket timeout": (socket.getdefaulttimeout, socket.setdefaulttimeout),
    "garbage collection": (gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    "warning filters": (lambda: list(warnings.filters), _set_filters),
    "logging": (_logging, _set_logging),
    "exception hooks": (lambda: (sys.excepthook, sys.unraisablehook, threading.excepthook), _set_hooks),
}
