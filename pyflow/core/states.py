"""The states of runs and node runs, and which may follow which. The only place that knows."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, TypeVar

from pyflow_sdk.errors import PyFlowError


class RunState(StrEnum):
    """States of a run. ``waiting``: nothing can proceed until a timer, a signal, a child or a slot."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class NodeState(StrEnum):
    """States of a node run. ``retrying``: it failed and waits for its next attempt."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset(
        {RunState.RUNNING, RunState.PAUSED, RunState.CANCELLED, RunState.TIMED_OUT, RunState.FAILED}
    ),
    RunState.RUNNING: frozenset(
        {
            # Its executor handed it back.
            RunState.QUEUED,
            RunState.WAITING,
            RunState.PAUSED,
            RunState.SUCCEEDED,
            RunState.FAILED,
            RunState.CANCELLED,
            RunState.TIMED_OUT,
        }
    ),
    RunState.WAITING: frozenset(
        {
            # What it waited for has come.
            RunState.QUEUED,
            RunState.RUNNING,
            RunState.PAUSED,
            RunState.CANCELLED,
            RunState.TIMED_OUT,
            RunState.FAILED,
        }
    ),
    # `resume` queues it; it is claimed like any other.
    RunState.PAUSED: frozenset({RunState.QUEUED, RunState.CANCELLED}),
    # `retry` takes a finished run up again.
    RunState.FAILED: frozenset({RunState.QUEUED}),
    RunState.CANCELLED: frozenset({RunState.QUEUED}),
    RunState.TIMED_OUT: frozenset({RunState.QUEUED}),
    RunState.SUCCEEDED: frozenset(),
}

NODE_TRANSITIONS: Mapping[NodeState, frozenset[NodeState]] = {
    NodeState.PENDING: frozenset({NodeState.RUNNING, NodeState.SKIPPED, NodeState.FAILED, NodeState.CANCELLED}),
    NodeState.RUNNING: frozenset(
        {
            NodeState.RETRYING,
            NodeState.WAITING,
            NodeState.SUCCEEDED,
            NodeState.FAILED,
            NodeState.SKIPPED,
            NodeState.CANCELLED,
            NodeState.TIMED_OUT,
        }
    ),
    NodeState.RETRYING: frozenset({NodeState.RUNNING, NodeState.CANCELLED, NodeState.FAILED, NodeState.TIMED_OUT}),
    NodeState.WAITING: frozenset({NodeState.RUNNING, NodeState.CANCELLED, NodeState.FAILED, NodeState.TIMED_OUT}),
    NodeState.SUCCEEDED: frozenset(),
    # `retry` of a run starts its failed and unreached nodes again.
    NodeState.FAILED: frozenset({NodeState.PENDING}),
    NodeState.SKIPPED: frozenset({NodeState.PENDING}),
    NodeState.CANCELLED: frozenset({NodeState.PENDING}),
    NodeState.TIMED_OUT: frozenset({NodeState.PENDING}),
}

TERMINAL_RUN_STATES = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.TIMED_OUT})
TERMINAL_NODE_STATES = frozenset(
    {NodeState.SUCCEEDED, NodeState.FAILED, NodeState.SKIPPED, NodeState.CANCELLED, NodeState.TIMED_OUT}
)

_ANY_TIME = ("signal", "rerun")
_ON_THE_WAY = ("cancel", "terminate", "pause", *_ANY_TIME)
_AFTER_A_FAILURE = ("retry", "rerun")
#: What can be asked of a run in each state.
RUN_VERBS: Mapping[RunState, tuple[str, ...]] = {
    RunState.QUEUED: _ON_THE_WAY,
    RunState.RUNNING: _ON_THE_WAY,
    RunState.WAITING: _ON_THE_WAY,
    RunState.PAUSED: ("cancel", "terminate", "resume", *_ANY_TIME),
    RunState.SUCCEEDED: ("rerun",),
    RunState.FAILED: _AFTER_A_FAILURE,
    RunState.CANCELLED: _AFTER_A_FAILURE,
    RunState.TIMED_OUT: _AFTER_A_FAILURE,
}

StateT = TypeVar("StateT", RunState, NodeState)


class InvalidTransitionError(PyFlowError, ValueError):
    """A state may not follow another; names both."""

    code: ClassVar[str] = "invalid_transition"


def check_transition(table: Mapping[StateT, frozenset[StateT]], current: StateT, new: StateT) -> None:
    """Raise ``InvalidTransitionError`` unless ``table`` allows ``new`` after ``current``."""
    if new not in table[current]:
        allowed = ", ".join(sorted(table[current])) or "nothing"
        raise InvalidTransitionError(f"{current} cannot become {new}; it may become {allowed}")
