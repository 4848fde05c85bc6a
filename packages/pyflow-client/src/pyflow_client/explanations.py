"""Models of explanations of runs, of plans of reruns, and of results of actions on many runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pyflow_client.models import ErrorInfo, Progress, RunSummary, _Model


class Reason(_Model):
    """One thing that keeps a run where it is: ``code`` for programs, ``detail`` for people."""

    code: str
    detail: str


class QueuePlace(_Model):
    """The place of a queued run: ``ahead`` of the tenant's runs precede it, ``running`` of ``limit`` are executed."""

    name: str
    priority: int
    ahead: int
    running: int
    limit: int | None = None
    deadline: datetime | None = None


class Lease(_Model):
    """Lease of the worker that executes a run. ``epoch`` is the fencing token; an expired lease is taken over."""

    owner: str
    epoch: int
    until: datetime | None = None
    expired: bool
    claims: int
    losses: int


class Holder(_Model):
    """Holder of a slot: a run or, with a ``node_id``, a node of it."""

    run_id: str
    node_id: str
    since: datetime


class SlotPlace(_Model):
    """A slot that a run or a node of it waits for, ``ahead`` others first; ``ahead`` is ``None`` if it holds one."""

    node_id: str
    key: str
    limit: int
    since: datetime
    ahead: int | None = None
    held: int
    holders: tuple[Holder, ...] = ()


class ChildRun(_Model):
    """A run that an attempt of a node (of its item ``item``, if it is a fan-out) has started."""

    run_id: str
    workflow: str
    state: str
    error: ErrorInfo | None = None
    item: str | None = None
    attempt: int = 1


class ItemReason(_Model):
    """Explanation of the wait of one item of a fan-out."""

    index: int
    key: str
    code: str
    detail: str
    until: datetime | None = None
    signal: str | None = None


class NodeReason(_Model):
    """The state of a node, explained: ``waits_for`` are nodes, ``until`` is its timer, deadline or next attempt."""

    id: str
    state: str
    code: str
    detail: str
    waits_for: tuple[str, ...] = ()
    until: datetime | None = None
    signal: str | None = None
    attempts: int = 0
    error: ErrorInfo | None = None
    children: tuple[ChildRun, ...] = ()
    tasks: tuple[dict[str, Any], ...] = ()
    items: dict[str, int]
    waiting_items: tuple[ItemReason, ...] = ()
    progress: Progress | None = None


class Consequence(_Model):
    """A node that did not succeed because of others."""

    id: str
    state: str
    because: tuple[str, ...]


class Failure(_Model):
    """The first failure (``node_id`` is ``None`` if the run as a whole failed), and its consequences."""

    node_id: str | None = None
    at: datetime | None = None
    error: ErrorInfo | None = None
    child: ChildRun | None = None
    consequences: tuple[Consequence, ...] = ()
    more_consequences: int = 0


class Verb(_Model):
    """An action on the run: whether it is possible now and, if not, the reason."""

    verb: str
    possible: bool
    why_not: str | None = None


class Explanation(_Model):
    """The state of a run, explained. Of its nodes, those that have succeeded are only counted, in ``states``."""

    run: str
    workflow: str
    version: int
    state: str
    reasons: tuple[Reason, ...]
    queue: QueuePlace | None = None
    lease: Lease | None = None
    slots: tuple[SlotPlace, ...] = ()
    signals: tuple[str, ...] = ()
    states: dict[str, int]
    nodes: tuple[NodeReason, ...]
    more_nodes: int = 0
    failure: Failure | None = None
    verbs: tuple[Verb, ...]

    @property
    def possible(self) -> tuple[str, ...]:
        """Return the actions that are possible now."""
        return tuple(verb.verb for verb in self.verbs if verb.possible)


class NodePlan(_Model):
    """Action of a rerun on a node: ``reuse`` its result, ``run`` it; ``orphan``: only the source has it."""

    node: str
    action: str


class RerunPlan(_Model):
    """Plan of a rerun, and its version."""

    version: int
    nodes: tuple[NodePlan, ...]


class ActionResult(_Model):
    """Result for one of many runs: a ``run``, or a ``problem`` document. ``status`` is that of a single request."""

    id: str
    status: int
    run: RunSummary | None = None
    problem: dict[str, Any] | None = None


class ActionResults(_Model):
    """Results for each run; ``accepted`` did not refuse. With ``next`` as ``after``, a filter continues."""

    results: tuple[ActionResult, ...]
    accepted: int
    next: str | None = None
