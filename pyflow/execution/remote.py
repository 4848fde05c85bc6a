"""Nodes that are executed elsewhere: by any worker of a queue, one attempt at a time.

The process that executes the run renders nothing and runs nothing of such a node: it asks for an attempt and awaits its
outcome. Retries, limits on parallelism and what the outcome means for the run stay with it. Where the attempt is
executed, everything it needs is made again from the definition and the record, so that neither inputs nor secrets are
copied into a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pyflow.core.errors import NodeTimeoutError, WorkerLostError
from pyflow.execution.run_log import LogLine
from pyflow.isolation.errors import describe_error, rebuild_error

if TYPE_CHECKING:
    from pyflow.execution.plan import PlannedNode

#: The outcome of one attempt, as JSON: ``{output}`` or ``{error: …}`` as ``describe_error`` returns it; ``log``: its
#: lines and those of attempts that were made with it. The executor may add ``secrets``: marks of those it used.
Outcome = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """The place of an attempt: of the node itself, or (with ``index``) of one item of its fan-out.

    ``round``, ``earlier_attempts``: as of the record of the node or item.
    """

    attempt: int
    started_at: float | None = None
    index: int | None = None
    round: int = 1
    earlier_attempts: int = 0


class RemoteNodes(Protocol):
    """Has attempts of one run's nodes executed elsewhere."""

    async def call(self, node: PlannedNode, place: Place) -> object:
        """The output of an attempt; raises what the node raised. Cancelled, the attempt is given up."""


def output_of(outcome: Outcome) -> object:
    """The output of an attempt that was executed elsewhere; raises what it raised there."""
    described = outcome.get("error")
    if described is None:
        return outcome["output"]
    if "NodeTimeoutError" in described["classes"]:
        raise NodeTimeoutError(described["message"], kind=described["kind"])
    raise rebuild_error(described)


def with_log(outcomes: Sequence[Outcome], lines: Sequence[LogLine]) -> list[Outcome]:
    """Outcomes of attempts that were made together, with what they logged, in its order."""
    log = [list(astuple(line)) for line in lines]
    return [outcome | {"log": log} if log and not index else outcome for index, outcome in enumerate(outcomes)]


def log_of(outcomes: Sequence[Outcome]) -> list[LogLine]:
    """Return the log lines of attempts that were executed elsewhere."""
    return [LogLine(*line) for outcome in outcomes for line in outcome.get("log", ())]


def lost() -> Outcome:
    """The outcome of an attempt whose worker was lost."""
    return {"error": describe_error(WorkerLostError("the worker that executed the node was lost"))}
