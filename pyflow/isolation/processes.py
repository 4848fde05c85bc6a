"""``isolation``: where a node that blocks is executed. ``thread``: off the event loop; ``process``: in a child process.

The child is a fresh interpreter in a process group of its own. It can be killed whatever it does (a loop in C, a
handler for every signal), is limited in memory and CPU time, and sees few environment variables
(``pyflow.isolation.environment``). Starting one costs about 0.6 s until its first result, nearly all of it CPU
time for imports, on a machine where an empty Python takes 25 ms: for work that takes seconds, not for a fan-out of
thousands of short items.

Both sides speak frames over a socket: a length of four bytes and a body. The child is handed a pickle, because configs
and v1 results may hold any Python value; what it says is JSON, so that a hostile node has nothing to unpickle here.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import pickle
import re
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pyflow.core.context import ExecutionContext
from pyflow.core.errors import NodeError
from pyflow.core.messages import cut
from pyflow.core.node import AnyNodeClass, BaseNodeV2, Invoker, invoker_for
from pyflow.isolation.environment import child_environment
from pyflow.isolation.errors import (
    CpuLimitError,
    IsolatedOutputError,
    MemoryLimitError,
    NodeProcessDiedError,
    NotIsolatableError,
    rebuild_error,
)
from pyflow.net.addresses import policy_in_force
from pyflow.net.files import current_quota, current_root
from pyflow_sdk.node import NodeContext, SecretNotFoundError

__all__ = [
    "CpuLimitError",
    "IsolatedOutputError",
    "MemoryLimitError",
    "NodeProcessDiedError",
    "NotIsolatableError",
    "invoker_with",
    "run_isolated",
]

#: Bytes of JSON that an isolated node's output may have when nothing else is said.
MAX_OUTPUT = 16 * 1024 * 1024
#: Bytes of any other frame of the child: errors, progress.
MAX_MESSAGE = 256 * 1024
MAX_LOG_LINE = 8 * 1024
#: How many values a child may have masked, and how long each: masking costs time in this process.
MAX_MASKED = 100
MAX_MASKED_LENGTH = 64 * 1024


@dataclass(frozen=True, slots=True)
class Job:
    """Data for the child process. ``scope`` holds what templates see, without ``secrets``; v1-style classes read it."""

    module: str
    qualname: str
    file: str | None
    config: Any
    run_id: str
    workflow: str
    node_id: str
    attempt: int
    idempotency_key: str | None
    item_key: str | None
    results: Mapping[str, Any] = field(default_factory=dict)
    scope: Mapping[str, Any] | None = None
    storage_root: Path | None = None
    storage_quota: int | None = None
    network_policy: Any = None
    memory_limit: int | None = None
    cpu_limit: float | None = None
    max_output: int = MAX_OUTPUT


# --- the seam ----------------------------------------------------------------------------------------------------


def invoker_with(
    cls: AnyNodeClass,
    isolation: Literal["thread", "process"] | None,
    *,
    memory_limit: int | None = None,
    cpu_limit: float | None = None,
    max_output: int | None = None,
) -> Invoker:
    """Return a function that calls one attempt of this class under ``isolation``; without one, as ``invoker_for`` does.

    ``memory_limit`` and ``max_output`` are bytes, ``cpu_limit`` seconds; they hold for ``process``.
    """
    if isolation == "process":

        async def in_process(config: Any, context: ExecutionContext, node_context: NodeContext | None) -> object:
            return await run_isolated(
                cls,
                config,
                context,
                node_context,
                memory_limit=memory_limit,
                cpu_limit=cpu_limit,
                max_output=MAX_OUTPUT if max_output is None else max_output,
            )

        return in_process
    invoke = invoker_for(cls)
    work = cls.run if issubclass(cls, BaseNodeV2) else cls.execute
    # A plain `def` runs in a thread already.
    return _in_thread(invoke) if isolation == "thread" and inspect.iscoroutinefunction(work) else invoke


def _in_thread(invoke: Invoker) -> Invoker:
    """An ``async def`` that blocks, on an event loop of its own in a thread.

    Cancelling it cancels the node's task there; a node that blocks goes on in its thread, and its result is lost.
    """

    async def in_thread(config: Any, context: ExecutionContext, node_context: NodeContext | None) -> object:
        started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

        async def body() -> object:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - `asyncio.run` makes one
            started.append((asyncio.get_running_loop(), task))
            return await invoke(config, context, node_context)

        try:
            return await asyncio.to_thread(lambda: asyncio.run(body()))
        except asyncio.CancelledError:
            for loop, task in started:
                with contextlib.suppress(RuntimeError):  # the loop is closed: the node has just finished
                    loop.call_soon_threadsafe(task.cancel)
            raise

    return in_thread


async def run_isolated(
    cls: AnyNodeClass,
    config: Any,
    context: ExecutionContext,
    node_context: NodeContext | None,
    *,
    memory_limit: int | None = None,
    cpu_limit: float | None = None,
    max_output: int = MAX_OUTPUT,
) -> object:
    """Execute one attempt in a child process and return its output as plain data.

    ``memory_limit``: bytes on top of what the interpreter and the node's imports take. ``cpu_limit``: seconds of CPU
    time of the node. Cancelling this call kills the child and whatever it started, at once, and reaps it.

    Raises ``MemoryLimitError``, ``CpuLimitError``, ``NodeProcessDiedError``, ``NotIsolatableError``,
    ``IsolatedOutputError``, and the node's own errors as ``NodeError``s with their class name, message, code, kind,
    status and ``retry_after``.
    """
    job = _job(cls, config, context, node_context, memory_limit, cpu_limit, max_output)
    try:
        handed = await asyncio.to_thread(pickle.dumps, job, 5)
    except Exception as error:
        raise NotIsolatableError(f"the config cannot be handed to another process: {error}") from error
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = await _spawn(theirs)
        except BaseException:
            ours.close()
            raise
    child = _Child(process, node_context, context, job)
    try:
        return await child.converse(ours, handed)
    finally:
        await child.end()


def _job(
    cls: AnyNodeClass,
    config: Any,
    context: ExecutionContext,
    node_context: NodeContext | None,
    memory_limit: int | None,
    cpu_limit: float | None,
    max_output: int,
) -> Job:
    if "<locals>" in cls.__qualname__:
        raise NotIsolatableError(f"{cls.__qualname__} is defined inside a function; move it to the top of its module")
    module = sys.modules.get(cls.__module__)
    # Only v1-style classes look at the results of others; they may be large.
    shared = not issubclass(cls, BaseNodeV2)
    scope = context.scope if shared else None
    return Job(
        module=cls.__module__,
        qualname=cls.__qualname__,
        file=getattr(module, "__file__", None),
        config=config,
        run_id=context.run_id,
        workflow=context.workflow_name,
        node_id=node_context.node_id if node_context is not None else cls.node_type,
        attempt=node_context.attempt if node_context is not None else 1,
        idempotency_key=node_context.idempotency_key if node_context is not None else None,
        item_key=node_context.item_key if node_context is not None else None,
        results=dict(context.results) if shared else {},
        scope=None if scope is None else {name: _detached(scope[name]) for name in scope if name != "secrets"},
        storage_root=current_root.get(),
        storage_quota=current_quota.get(),
        network_policy=policy_in_force(),
        memory_limit=memory_limit,
        cpu_limit=cpu_limit,
        max_output=max_output,
    )


def _detached(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) and type(value) is not dict else value


# --- the parent's side -------------------------------------------------------------------------------------------


def _start_code() -> str:
    # Not `-m`: the working directory and what `__main__` is here must make no difference.
    path = [str(Path(entry).absolute()) for entry in sys.path]
    return f"import sys; sys.path[:] = {path!r}; from pyflow.isolation.child import main; main()"


async def _spawn(theirs: socket.socket) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _start_code(),
        str(theirs.fileno()),
        str(os.getpid()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
        env=child_environment(os.environ),
    )


class _Child:
    """A node's process, seen from its parent."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        node_context: NodeContext | None,
        context: ExecutionContext,
        job: Job,
    ) -> None:
        self._process = process
        self._node_context = node_context
        self._context = context
        self._job = job
        self._logger = logging.getLogger(f"pyflow.node.{job.node_id}") if node_context is None else node_context.logger
        self._errors = b""
        self._masked = 0
        streams = ((process.stdout, logging.INFO), (process.stderr, logging.WARNING))
        self._logs = [asyncio.create_task(self._log(stream, level)) for stream, level in streams if stream is not None]

    async def converse(self, ours: socket.socket, handed: bytes) -> object:
        """Hand over the job and serve the child until it has a result."""
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            with contextlib.suppress(ConnectionError):
                await write_frame(writer, handed)
            while (message := await self._read(reader)) is not None:
                if "result" in message:
                    return message["result"]
                if "error" in message:
                    raise self._error(message["error"])
                await self._serve(message, writer)
        finally:
            writer.close()
        await self._process.wait()
        await asyncio.wait(self._logs, timeout=1)
        raise self._death()

    async def _read(self, reader: asyncio.StreamReader) -> dict[str, Any] | None:
        """The next message; ``None`` when the child is gone."""
        try:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            if length > self._job.max_output + MAX_MESSAGE:
                raise NodeProcessDiedError(f"the node's process sent a message of {length:,} bytes")
            message = json.loads(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        except (ValueError, RecursionError) as error:
            raise NodeProcessDiedError(f"the node's process sent something unreadable: {error}") from None
        if not isinstance(message, dict):
            raise NodeProcessDiedError("the node's process sent something unreadable")
        return message

    async def _serve(self, message: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        if "progress" in message:
            if self._node_context is not None:
                fraction, text = message["progress"]
                self._node_context.progress(
                    float(fraction), cut(self._context.redactor.redact_message(str(text)), MAX_LOG_LINE)
                )
        elif "secret" in message:
            # Where secrets come from may block, as it may for a node that runs here.
            found, value = await asyncio.to_thread(self._secret, str(message["secret"]))
            await self._answer(writer, {"found": found, "value": value})
        elif "mask" in message:
            self._mask(str(message["mask"]))
            await self._answer(writer, {"masked": True})

    @staticmethod
    async def _answer(writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):
            await write_frame(writer, json.dumps(answer).encode())

    def _mask(self, value: str) -> None:
        """Mask what the node came to know: a token that it fetched is a secret as much as the one it was given."""
        self._masked += 1
        if self._masked > MAX_MASKED or len(value) > MAX_MASKED_LENGTH:
            raise NodeProcessDiedError(
                f"the node's process has more to mask than {MAX_MASKED} values of {MAX_MASKED_LENGTH:,} characters"
            )
        self._context.redactor.add(value)

    def _secret(self, name: str) -> tuple[bool, str]:
        try:
            if self._node_context is not None:
                return True, self._node_context.secret(name)
            secrets = None if self._context.scope is None else self._context.scope.get("secrets")
            if secrets is None:
                raise SecretNotFoundError(f"secret not found: {name}")
            return True, secrets[name]
        except KeyError as error:
            return False, str(error)

    def _error(self, described: Mapping[str, Any]) -> NodeError:
        if described.get("memory") and self._job.memory_limit is not None:
            return MemoryLimitError(f"the node wanted more than its {self._job.memory_limit:,} bytes (`memory_limit`)")
        return rebuild_error(described)

    def _death(self) -> NodeError:
        """Explain, from how the process ended, that there is no result."""
        status = self._process.returncode or 0
        if status in (-signal.SIGPROF, -signal.SIGXCPU) and self._job.cpu_limit is not None:
            return CpuLimitError(f"the node used more than its {self._job.cpu_limit:g} s of CPU time (`cpu_limit`)")
        if self._job.memory_limit is not None and re.search(rb"MemoryError|bad_alloc|[Oo]ut of memory", self._errors):
            return MemoryLimitError(f"the node wanted more than its {self._job.memory_limit:,} bytes (`memory_limit`)")
        how = f"was ended by signal {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return NodeProcessDiedError(f"the node's process {how} before it had a result", kind="process_died")

    async def _log(self, stream: asyncio.StreamReader, level: int) -> None:
        """The child's output, a line at a time, to the node's logger; a longer line in pieces."""
        rest = b""
        while chunk := await stream.read(MAX_LOG_LINE):
            if level == logging.WARNING:
                self._errors = (self._errors + chunk)[-MAX_LOG_LINE:]
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LOG_LINE:
                # Between words, so that a secret is not cut in two that nobody knows.
                piece, _, rest = rest.rpartition(b" ") if b" " in rest else (rest, b"", b"")
                lines.append(piece)
            for line in lines:
                self._log_line(line, level)
        if rest:
            self._log_line(rest, level)

    def _log_line(self, line: bytes, level: int) -> None:
        self._logger.log(level, "%s", self._context.redactor.redact_message(line.decode("utf-8", "replace")))

    async def end(self) -> None:
        """Kill the child with everything it started, and reap it. The rest of its output is still logged."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # The group outlives its leader as long as anything is in it.
            os.killpg(self._process.pid, signal.SIGKILL)
        ending = asyncio.ensure_future(self._reap())
        cancelled: asyncio.CancelledError | None = None
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _reap(self) -> None:
        await self._process.wait()
        # What left the group may hold the pipes open for ever.
        await asyncio.wait(self._logs, timeout=1)
        for log in self._logs:
            log.cancel()
        await asyncio.gather(*self._logs, return_exceptions=True)
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()


async def write_frame(writer: asyncio.StreamWriter, body: bytes) -> None:
    """Send one frame."""
    writer.write(struct.pack("!I", len(body)))
    writer.write(body)
    await writer.drain()
