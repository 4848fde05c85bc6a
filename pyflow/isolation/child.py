"""The child's side of ``isolation: process``: a process that executes one attempt of one node and ends."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import logging
import math
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from pyflow.core.context import ExecutionContext
from pyflow.core.messages import current_redactor
from pyflow.core.node import AnyNodeClass, invoker_for
from pyflow.core.plain import to_plain
from pyflow.core.redaction import Redactor
from pyflow.isolation.environment import address_space
from pyflow.isolation.errors import IsolatedOutputError, NotIsolatableError, describe_error
from pyflow.isolation.node_exit import NodeSelfCancelledError, exit_failure
from pyflow.isolation.parent import end_with
from pyflow.isolation.processes import Job
from pyflow.net.addresses import current_policy
from pyflow.net.files import current_quota, current_root
from pyflow_sdk.node import NodeContext, SecretNotFoundError

#: The stack of the thread in which a plain `def run` is called, and what the allocator rounds up.
_HEADROOM = 16 * 1024 * 1024
_OUT_OF_MEMORY = json.dumps(
    {"error": {"memory": True, "classes": ["MemoryError"], "message": "out of memory"}}
).encode()


class Parent:
    """The process that wants the result, seen from its child. Safe to use from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._asking = threading.Lock()
        self._answers: SimpleQueue[Mapping[str, Any]] = SimpleQueue()

    def receive_job(self) -> Job:
        """The job, which comes first. Only the parent can have sent it."""
        job = pickle.loads(self._receive())  # noqa: S301 - from the process that started this one
        assert isinstance(job, Job)  # noqa: S101 - nothing else is sent first
        return job

    def watch(self) -> None:
        """Take answers from now on; when the parent goes away, end this process and all that it started."""
        threading.Thread(target=self._watch, name="pyflow-parent", daemon=True).start()

    def _watch(self) -> None:
        try:
            while True:
                self._answers.put(json.loads(self._receive()))
        finally:
            os.killpg(0, signal.SIGKILL)

    def _receive(self) -> bytes:
        (length,) = struct.unpack("!I", self._exactly(4))
        return self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            chunk = self._connection.recv(min(size - len(parts), 1 << 20))
            if not chunk:
                raise EOFError
            parts += chunk
        return bytes(parts)

    def send(self, message: bytes) -> None:
        """Send one message (JSON)."""
        with self._sending:
            self._connection.sendall(struct.pack("!I", len(message)))
            self._connection.sendall(message)

    def progress(self, fraction: float, message: str) -> None:
        """Pass a report of progress on."""
        self.send(json.dumps({"progress": [fraction, message]}).encode())

    def secret(self, name: str) -> str:
        """Ask for a secret; ``SecretNotFoundError`` if there is none."""
        with self._asking:
            self.send(json.dumps({"secret": name}).encode())
            answer = self._answers.get()
        if not answer["found"]:
            raise SecretNotFoundError(str(answer["value"]))
        return str(answer["value"])

    def mask(self, value: str) -> None:
        """Have a value masked from now on in whatever comes from this process. Returns when the parent knows it."""
        with self._asking:
            self.send(json.dumps({"mask": value}).encode())
            self._answers.get()


class ReportingRedactor(Redactor):
    """Reports values to mask to the parent, before any output of this process can contain them."""

    def __init__(self, parent: Parent) -> None:
        super().__init__()
        self._parent = parent
        self._announced: set[str] = set()

    def add(self, value: str) -> None:
        """Mask ``value`` from now on, here and there."""
        super().add(value)
        if value not in self._announced:
            self._announced.add(value)
            self._parent.mask(value)


class Secrets(Mapping[str, str]):
    """``secrets``, each asked for when it is used. They cannot be listed."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent

    def __getitem__(self, name: str) -> str:
        return self._parent.secret(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def main() -> None:
    """Execute the job that arrives on the socket named by the arguments, and end."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    end_with(int(sys.argv[2]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parent = Parent(connection)
    try:
        job = parent.receive_job()
        parent.watch()
        parent.send(_execute(job, parent))
    except MemoryError:
        parent.send(_OUT_OF_MEMORY)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent gets it
        parent.send(json.dumps({"error": describe_error(error)}).encode())
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    # Not `sys.exit`: a thread that the node left behind would keep the process.
    os._exit(0)


def _execute(job: Job, parent: Parent) -> bytes:
    """The message with the node's output."""
    invoke = invoker_for(_load(job))
    context, node_context = _contexts(job, parent)
    current_redactor.set(context.redactor)
    current_root.set(job.storage_root)
    current_quota.set(job.storage_quota)
    current_policy.set(job.network_policy)
    _limit(job)
    output = asyncio.run(_awaited(invoke(job.config, context, node_context)))
    message = json.dumps({"result": to_plain(output)}, ensure_ascii=False, allow_nan=False).encode()
    if len(message) > job.max_output:
        raise IsolatedOutputError(f"the output is larger than {job.max_output:,} bytes")
    return message


async def _awaited(work: Any) -> object:
    try:
        output: object = await work
    except asyncio.CancelledError:
        raise NodeSelfCancelledError("the node's work was cancelled from within") from None
    except Exception:
        raise
    except BaseException as error:
        if (failure := exit_failure(error)) is None:
            raise
        raise failure from None
    return output


def _contexts(job: Job, parent: Parent) -> tuple[ExecutionContext, NodeContext]:
    secrets = Secrets(parent)
    context = ExecutionContext(workflow_name=job.workflow, run_id=job.run_id)
    context.redactor = ReportingRedactor(parent)
    for name, value in job.results.items():
        context.set_result(name, value)
    if job.scope is not None:
        context.scope = {**job.scope, "secrets": secrets}
    node_context = NodeContext(
        run_id=job.run_id,
        node_id=job.node_id,
        workflow=job.workflow,
        attempt=job.attempt,
        secrets=secrets,
        progress=parent.progress,
        idempotency_key=job.idempotency_key,
        item_key=job.item_key,
    )
    return context, node_context


def _load(job: Job) -> AnyNodeClass:
    found: Any = _module(job)
    for part in job.qualname.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _module(job: Job) -> ModuleType:
    """The module of the node's class: imported by name, or else from its file (a script, a plugin)."""
    if job.module != "__main__":
        try:
            return importlib.import_module(job.module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{job.module}.".startswith(f"{error.name}."):
                raise  # it is there, but something that it imports is not
    if job.file is None:
        raise NotIsolatableError(f"the module {job.module!r} of the node's class cannot be imported by another process")
    # As multiprocessing does, so that a script's `if __name__ == "__main__":` is left out.
    name = "__mp_main__" if job.module == "__main__" else job.module
    spec = importlib.util.spec_from_file_location(name, job.file)
    if spec is None or spec.loader is None:
        raise NotIsolatableError(f"{job.file} cannot be imported by another process")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _limit(job: Job) -> None:
    if job.memory_limit is not None:
        most = address_space() + _HEADROOM + job.memory_limit
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if job.cpu_limit is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = used.ru_utime + used.ru_stime
        # The timer is exact, the limit (whole seconds) also holds for processes that the node starts.
        signal.setitimer(signal.ITIMER_PROF, max(job.cpu_limit, 0.001))
        most = math.ceil(spent + job.cpu_limit)
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
