"""Runs started by runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from pyflow.core.errors import NodeError, NonRetryableError
from pyflow.core.ports import EventSink
from pyflow.core.suspension import Suspension, WaitKind, awaited

#: A run, its child, its child's child…
MAX_DEPTH = 10


class ChildRunFailedError(NodeError):
    """The child run did not succeed; the message says how it ended and why."""

    code = "child_run_failed"


class ChildRunRefusedError(NonRetryableError):
    """The child run may not be started: unknown workflow, recursion, or nested too deeply."""

    code = "child_run_refused"


class ChildConfig(BaseModel):
    """Config of a ``workflow`` node."""

    model_config = ConfigDict(extra="forbid")

    workflow: str = Field(description="Name of the workflow to run.")
    input: dict[str, Any] = Field(default_factory=dict, description="Its input.")
    wait: bool = Field(default=True, description="Wait for its end; otherwise the output is just {run_id}.")
    propagate: bool = Field(default=True, description="Its failure fails this node; otherwise it is in the output.")
    on_cancel: Literal["terminate", "request_cancel", "abandon"] = Field(
        default="request_cancel", description="What becomes of it when this run is cancelled."
    )


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """A child run to be started. ``run_id`` is the same whenever the same attempt of a node (or item) asks again.

    ``timeout``: how long this attempt waits for its end (seconds from its start); ``deadline``: until when all attempts
    together do (POSIX seconds). ``may_suspend``: whether the node can wait without executing.
    """

    run_id: str
    config: ChildConfig
    parent_run_id: str
    node_id: str
    lineage: tuple[str, ...]
    item: str | None = None
    attempt: int = 1
    timeout: float | None = None
    deadline: float | None = None
    may_suspend: bool = False
    #: Where the parent's events go; those of a child in this process go there, too.
    sink: EventSink | None = None


class ChildRuns(Protocol):
    """Starts child runs, and waits for them."""

    #: Whether ``run`` itself ends the wait when the ``timeout`` of a request is over.
    keeps_time: bool

    async def run(self, request: ChildRequest) -> object:
        """The node's output, or if the request allows it a ``Suspension`` (``wait_for``): ask again when it is over.

        Raises ``ChildRunRefusedError``, ``ChildRunFailedError`` or ``NodeTimeoutError``.
        """

    async def stop(self, wait: Suspension) -> None:
        """Nobody waits any more for the children of a wait: what becomes of each is what its ``on_cancel`` says."""


def child_id(parent_run_id: str, node_id: str, item: str | None, attempt: int = 1) -> str:
    """The id of the child run of an attempt of a node (or one of its items): always the same for the same attempt."""
    try:
        namespace = uuid.UUID(parent_run_id)
    except ValueError:
        namespace = uuid.uuid5(uuid.NAMESPACE_OID, parent_run_id)
    first = uuid.uuid5(namespace, node_id if item is None else f"{node_id}\0{item}")
    # A node's id is never empty: this is no id of a child of that child.
    return str(first if attempt == 1 else uuid.uuid5(first, f"\0{attempt}"))


def check_lineage(request: ChildRequest) -> None:
    """Raise ``ChildRunRefusedError`` if the child is one of its own ancestors, or too deep."""
    name = request.config.workflow
    chain = " -> ".join((*request.lineage, name))
    if name in request.lineage:
        raise ChildRunRefusedError(f"a workflow may not run itself: {chain}")
    if len(request.lineage) >= MAX_DEPTH:
        raise ChildRunRefusedError(f"child runs are nested deeper than {MAX_DEPTH}: {chain}")


def wait_for(run_ids: Iterable[str], until: float | None) -> Suspension:
    """The wait of a node for the first of some child runs to end, or until ``until`` (POSIX seconds)."""
    return Suspension(until, None, {"kind": WaitKind.CHILD.value, "runs": list(run_ids)})


def wait_for_any(waits: Iterable[Suspension], until: Iterable[float] = ()) -> Suspension:
    """Several waits for child runs, and times, as one: whichever is over first."""
    waits = list(waits)
    ends = [*until, *(wait.until for wait in waits if wait.until is not None)]
    return wait_for([run_id for wait in waits for run_id in awaited(wait)], min(ends, default=None))


def child_output(
    request: ChildRequest, run_id: str, state: str, outputs: Any, error: Mapping[str, Any] | None
) -> object:
    """The output of a node whose child run has ended; ``ChildRunFailedError`` if that is to propagate."""
    if state == "succeeded":
        return outputs
    if request.config.propagate:
        why = f": {error['message']}" if error else ""
        raise ChildRunFailedError(f"the child run {run_id} of {request.config.workflow!r} {state}{why}")
    return {"run_id": run_id, "state": state, "error": error}
