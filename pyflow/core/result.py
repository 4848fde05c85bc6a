"""Results of runs: the run, its node runs, its errors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pyflow.core.context import ExecutionContext
from pyflow.core.error_kinds import kind_of
from pyflow.core.events import rfc3339
from pyflow.core.messages import cut, masked, show
from pyflow.core.plain import NotPlainError, to_plain
from pyflow.core.redaction import Redactor
from pyflow.core.states import NodeState, RunState
from pyflow.core.suspension import Suspension
from pyflow.core.tracebacks import text_of, traceback_of
from pyflow_sdk.errors import NodeError, PyFlowError

#: Of a traceback, which is shortened at its beginning.
MAX_TRACEBACK = 8 * 1024
MAX_MESSAGE = 4000
#: Characters of the body of a failed answer.
MAX_BODY = 8 * 1024
#: What only some errors have.
_DETAILS = ("kind", "status", "body")
#: Of an error's message in a ``repr``.
MAX_IN_REPR = 120
#: The reason of a node whose result was taken over from another run.
REUSED = "reused"


class RecordedError(NodeError):
    """An error read back from a record; ``original_code`` and ``original_type`` are those of the first one."""

    def __init__(self, message: str, code: str, type_name: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.original_code = code
        self.original_type = type_name


class ErrorInfo:
    """An error as data: ``code`` (stable), ``message`` (for people), ``type`` (class name), the node it came from.

    ``traceback``: of an error that the node did not raise on purpose, the way to it through the node's code. ``kind``:
    what ``retry_on`` calls it, such as ``http_404`` or ``timeout``. ``status`` and ``body``: of a failed HTTP answer.
    """

    __slots__ = ("body", "code", "kind", "message", "node_id", "status", "traceback", "type")

    def __init__(
        self,
        code: str,
        message: str,
        type: str,
        node_id: str | None,
        traceback: str | None = None,
        *,
        kind: str | None = None,
        status: int | None = None,
        body: Any = None,
    ) -> None:
        self.code = code
        self.message = cut(message, MAX_MESSAGE)
        self.type = type
        self.node_id = node_id
        self.traceback = traceback
        self.kind = kind
        self.status = status
        self.body = body

    def __repr__(self) -> str:
        node = "" if self.node_id is None else f" in {self.node_id}"
        return f"<ErrorInfo{node}: {cut(masked(self.headline), MAX_IN_REPR)}>"

    @classmethod
    def of(cls, error: BaseException, node_id: str | None, redactor: Redactor | None = None) -> ErrorInfo:
        """The data of an exception, with what ``redactor`` knows masked before anything is cut to its length."""
        code = error.code if isinstance(error, PyFlowError) else "node_error"
        text, traceback = text_of(error), traceback_of(error)
        if redactor:
            text, traceback = redactor.redact_message((text, traceback))
        name = type(error).__name__
        status, body = (error.status, error.body) if isinstance(error, NodeError) else (None, None)
        return cls(
            code,
            text or name,
            name,
            node_id,
            traceback and cut(traceback, MAX_TRACEBACK, keep="end"),
            kind=kind_of(error),
            status=status,
            body=None if body is None else bounded_body(body, redactor),
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any], node_id: str | None) -> ErrorInfo:
        """Rebuild an error from what ``as_record`` returned."""
        details = {name: record.get(name) for name in _DETAILS}
        return cls(record["code"], record["message"], record["type"], node_id, record.get("traceback"), **details)

    @property
    def headline(self) -> str:
        """The error in one line that names its type: ``KeyError: 'missing'``, or ``http_404: …`` by its code."""
        return headline(self.code, self.type, self.message)

    def as_record(self) -> dict[str, Any]:
        """``{code, message, type, node_id, kind?, status?, body?, traceback?}``, as it is kept with a node's run."""
        return self.as_dict() if self.traceback is None else {**self.as_dict(), "traceback": self.traceback}

    def as_dict(self) -> dict[str, Any]:
        """``{code, message, type, node_id, kind?, status?, body?}``, as the run as a whole has it."""
        return {name: value for name, value in self.as_names().items() if name not in _DETAILS or value is not None}

    def as_names(self) -> dict[str, Any]:
        """``{code, message, type, node_id, kind, status, body}``, as templates and expressions see it."""
        return {
            "code": self.code,
            "message": self.message,
            "type": self.type,
            "node_id": self.node_id,
            **{name: getattr(self, name) for name in _DETAILS},
        }

    def as_exception(self) -> RecordedError:
        """The error as something that can be raised or stored in a context."""
        return RecordedError(self.message, self.code, self.type, kind=self.kind, status=self.status, body=self.body)


def bounded_body(body: object, redactor: Redactor | None) -> Any:
    """The body of an answer as it is recorded: JSON with secrets masked, or the beginning of a text that is too long.

    ``None`` for what can be neither: binary data.
    """
    try:
        plain = to_plain(body)
    except NotPlainError:
        return None
    plain = redactor.redact(plain) if redactor else plain
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return plain if len(text) <= MAX_BODY else cut(text, MAX_BODY)


def headline(code: str, type: str, message: str) -> str:
    """An error in one line. What the node did not raise on purpose has no code that says more than its class."""
    if code != NodeError.code or type == NodeError.__name__:
        return f"{code}: {message}"
    return message if message == type else f"{type}: {message}"


def count_states(states: Iterable[object]) -> str:
    """Count by state, as a ``repr`` shows it: ``2 succeeded, 1 failed``."""
    return ", ".join(f"{count} {state}" for state, count in Counter(map(str, states)).items()) or "none"


def told_items(states: Iterable[object]) -> str:
    """Say in a few words how many items of a fan-out that succeeded failed or were skipped; empty without any."""
    counts = Counter(map(str, states))
    total = f"{sum(counts.values()):,} item{'' if sum(counts.values()) == 1 else 's'}"
    failed, skipped = counts[NodeState.FAILED] + counts[NodeState.TIMED_OUT], counts[NodeState.SKIPPED]
    told = [f"{failed:,} of {total} failed (tolerated)"] if failed else []
    told += [f"{skipped:,} of {total} skipped"] if skipped else []
    return ", ".join(told)


class ItemRun:
    """One item of a fan-out: ``index`` from 0, ``key``, state, attempts, error, and its output once it succeeded."""

    __slots__ = (
        "attempts",
        "earlier_attempts",
        "error",
        "finished_at",
        "index",
        "key",
        "output",
        "round",
        "started_at",
        "state",
        "value",
        "wait",
        "wake_at",
    )

    def __init__(self, index: int, key: str, value: object = None) -> None:
        self.index = index
        self.key = key
        #: The item itself; not recorded, it is found again by evaluating ``for_each``.
        self.value = value
        self.state = NodeState.PENDING
        self.attempts = 0
        #: As of a node.
        self.round = 1
        self.earlier_attempts = 0
        self.output: object = None
        self.error: ErrorInfo | None = None
        self.started_at: float | None = None
        #: When it succeeded.
        self.finished_at: float | None = None
        #: When its next attempt is due, or its wait ends.
        self.wake_at: float | None = None
        #: What it waits for.
        self.wait: Suspension | None = None

    def __repr__(self) -> str:
        error = "" if self.error is None else f", {self.error.code}"
        return f"<ItemRun {self.index}: {self.state}, attempts: {self.attempts}{error}>"

    def as_dict(self) -> dict[str, Any]:
        """``{index, key, state, attempts, round?, error?}``."""
        shape: dict[str, Any] = {
            "index": self.index,
            "key": self.key,
            "state": str(self.state),
            "attempts": self.attempts,
        }
        if self.round > 1:
            shape["round"] = self.round
        if self.error is not None:
            shape["error"] = self.error.as_record()
        return shape


class NodeRun:
    """One node of a run. Times are POSIX seconds; ``attempts`` counts those begun; ``reason``: why it was skipped."""

    __slots__ = (
        "attempts",
        "earlier_attempts",
        "error",
        "finished_at",
        "id",
        "items",
        "output",
        "reason",
        "round",
        "started_at",
        "state",
        "tolerated",
        "wait",
        "wake_at",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        state: NodeState,
        *,
        output: object = None,
        error: ErrorInfo | None = None,
        attempts: int = 0,
        reason: str | None = None,
        tolerated: bool = False,
        wake_at: float | None = None,
    ) -> None:
        self.id = id
        self.state = state
        self.output = output
        self.error = error
        self.attempts = attempts
        #: The round of ``until`` that it is in, or was in at its end; and its attempts in the rounds before.
        self.round = 1
        self.earlier_attempts = 0
        self.reason = reason
        self.started_at: float | None = None
        self.finished_at: float | None = None
        #: The failure did not fail the run.
        self.tolerated = tolerated
        #: When a retry or a wait is due.
        self.wake_at = wake_at
        #: The items of a fan-out, by index.
        self.items: dict[int, ItemRun] | None = None
        #: What a waiting node waits for.
        self.wait: Suspension | None = None

    def __repr__(self) -> str:
        items = "" if self.items is None else f", items: {count_states(item.state for item in self.items.values())}"
        error = "" if self.error is None else f", {self.error.code}"
        return f"<NodeRun {cut(self.id, MAX_IN_REPR)}: {self.state}, attempts: {self.attempts}{items}{error}>"

    def as_dict(self) -> dict[str, Any]:
        """``{id, state, attempts, round?, started_at, finished_at, output?, error?, reason?}``, times as RFC 3339."""
        shape: dict[str, Any] = {
            "id": self.id,
            "state": str(self.state),
            "attempts": self.attempts,
            "started_at": None if self.started_at is None else rfc3339(self.started_at),
            "finished_at": None if self.finished_at is None else rfc3339(self.finished_at),
        }
        if self.round > 1:
            shape["round"] = self.round
        if self.state is NodeState.SUCCEEDED:
            shape["output"] = self.output
        if self.error is not None:
            shape["error"] = self.error.as_record()
        if self.tolerated:
            shape["tolerated"] = True
        if self.reason is not None:
            shape["reason"] = self.reason
        if self.items is not None:
            shape["items"] = [self.items[index].as_dict() for index in sorted(self.items)]
        return shape


class RunResult:
    """A finished run. ``context`` is what v1's ``run`` returned; ``nodes`` has a ``NodeRun`` for every node."""

    def __init__(
        self,
        *,
        run_id: str,
        workflow: str,
        state: RunState,
        outputs: Any,
        error: ErrorInfo | None,
        nodes: dict[str, NodeRun],
        context: ExecutionContext,
        started_at: float,
        finished_at: float,
        compensation: str | None = None,
        wake_at: float | None = None,
    ) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.state = state
        self.outputs = outputs
        self.error = error
        self.nodes = nodes
        self.context = context
        self.started_at = started_at
        self.finished_at = finished_at
        #: ``succeeded`` or ``failed`` if something was undone.
        self.compensation = compensation
        #: Of a run in state ``waiting``: when the next timer is due (POSIX seconds).
        self.wake_at = wake_at

    def __repr__(self) -> str:
        nodes = count_states(run.state for run in self.nodes.values())
        error = "" if self.error is None else f", {self.error.code}"
        return f"<RunResult {show(self.run_id)} of {show(self.workflow)}: {self.state}, nodes: {nodes}{error}>"

    @property
    def succeeded(self) -> bool:
        """Return whether the run ended as it should."""
        return self.state is RunState.SUCCEEDED

    def outputs_or_results(self) -> Any:
        """The declared outputs; the results of all nodes by id where the workflow declares none."""
        if self.outputs is not None:
            return self.outputs
        return {run.id: run.output for run in self.nodes.values() if run.state is NodeState.SUCCEEDED}

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data with secrets masked; outputs of nodes as they are (JSON only if the nodes' are)."""
        shape = {
            "run_id": self.run_id,
            "workflow": self.workflow,
            "state": str(self.state),
            "started_at": rfc3339(self.started_at),
            "finished_at": rfc3339(self.finished_at),
            "outputs": self.outputs,
            "error": None if self.error is None else self.error.as_dict(),
            "compensation": self.compensation,
            "nodes": [run.as_dict() for run in self.nodes.values()],
        }
        redacted: dict[str, Any] = self.context.redactor.redact(shape)
        return redacted
