"""Conclusion of a run: its error, outputs and result, and the recorded facts from which an execution resumes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pyflow.core.result import REUSED, ErrorInfo, NodeRun
from pyflow.core.states import NodeState, RunState
from pyflow.execution.plan import COMPENSATE, MAIN, Plan, PlannedNode

FAILURES = frozenset({NodeState.FAILED, NodeState.TIMED_OUT})
_CUT = FAILURES | {NodeState.CANCELLED}
_STOPS = frozenset({RunState.CANCELLED.value, RunState.TIMED_OUT.value})
NodeRuns = Sequence[NodeRun | None]


def deciding_error(plan: Plan, runs: NodeRuns, state: RunState) -> ErrorInfo | None:
    """The error that decided the run: the earliest failure that nothing tolerated, else what ended it."""
    if state is RunState.FAILED:
        failures = [run for node, run in reached(plan, runs) if _decides(node, run)]
        if failures:
            return min(failures, key=lambda run: run.finished_at or 0.0).error
    if state is RunState.TIMED_OUT:
        seconds = plan.workflow.settings.timeout
        return ErrorInfo("run_timeout", f"the run did not finish in {seconds:g} s", "TimeoutError", None)
    if state is RunState.CANCELLED:
        return ErrorInfo("run_cancelled", "the run was cancelled", "CancelledError", None)
    return None


def _decides(node: PlannedNode, run: NodeRun) -> bool:
    return node.section != COMPENSATE and run.error is not None and run.state in FAILURES and not run.tolerated


def reached(plan: Plan, runs: NodeRuns) -> Iterable[tuple[PlannedNode, NodeRun]]:
    """The nodes that something became of."""
    return [(node, run) for node in plan.nodes if (run := runs[node.index]) is not None]


def shown_nodes(plan: Plan, runs: NodeRuns, *, ended: bool = True) -> dict[str, NodeRun]:
    """A node run for every node of the plan; compensations only if they ran. Of a run that goes on, others pend."""
    shown: dict[str, NodeRun] = {}
    for node in plan.nodes:
        run = runs[node.index]
        if run is not None:
            shown[node.id] = run
        elif node.section != COMPENSATE:
            missed = NodeRun(node.id, NodeState.SKIPPED, reason="not reached")
            shown[node.id] = missed if ended else NodeRun(node.id, NodeState.PENDING)
    return shown


def compensation_outcome(plan: Plan, runs: NodeRuns, *, failed: bool) -> str | None:
    """``succeeded`` or ``failed`` if anything was undone, else ``None``."""
    if all(runs[index] is None for index in plan.sections[COMPENSATE]):
        return None
    return "failed" if failed else "succeeded"


def next_wake(runs: NodeRuns, ends_at: float | None) -> float | None:
    """Return when a waiting run continues: its first timer, or its timeout (POSIX seconds)."""
    timers = [run.wake_at for run in runs if run is not None and run.wake_at is not None]
    return min([*timers, *([] if ends_at is None else [ends_at])], default=None)


def has_completed_items(run: NodeRun) -> bool:
    """Return whether any item of a fan-out has completed."""
    return run.items is not None and any(item.state is NodeState.SUCCEEDED for item in run.items.values())


def cut_short(plan: Plan, runs: NodeRuns) -> RunState | None:
    """Return the final state after a recorded stop that cut nodes of the graph short; else ``None``."""
    for index in plan.sections[MAIN]:
        run = runs[index]
        if run is not None and run.state in _CUT and run.reason in _STOPS:
            return RunState(run.reason)
    return None


def has_begun(recorded: Iterable[NodeRun]) -> bool:
    """Return whether a run with this record began before; results taken over from another run do not count."""
    return any(run.reason != REUSED for run in recorded)


def effects(runs: NodeRuns) -> list[int]:
    """Indices of nodes with something to undo, by the time they completed; what another run did is not this one's.

    A fan-out that was under way comes last: it ends after all that had ended before.
    """
    done = [
        (math.inf if run.finished_at is None else run.finished_at, index)
        for index, run in enumerate(runs)
        if run is not None and run.reason != REUSED and (run.state is NodeState.SUCCEEDED or has_completed_items(run))
    ]
    return [index for _, index in sorted(done)]
