"""Data classes of an explanation of a run, as the API shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from runs.queue.slots import SlotPlace


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps a run where it is: ``code`` for programs, ``detail`` for people."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """The place of a queued run among those of its tenant, which takes turns with other tenants."""

    name: str
    priority: int
    ahead: int
    running: int
    limit: int | None
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The worker that executes a run, its fencing token, and the time at which its lease expires unless renewed."""

    owner: str
    epoch: int
    until: datetime | None
    expired: bool
    claims: int
    losses: int


@dataclass(frozen=True, slots=True)
class ChildRun:
    """A run that an attempt of a node (of its item ``item``, if it is a fan-out) has started."""

    run_id: UUID
    workflow: str
    state: str
    error: dict[str, Any] | None
    item: str | None
    attempt: int


@dataclass(frozen=True, slots=True)
class TaskPlace:
    """Attempts of a node that any worker of a queue executes; without an owner, none has claimed them yet."""

    queue: str
    attempts: int
    owner: str
    epoch: int
    until: datetime | None


@dataclass(frozen=True, slots=True)
class ItemReason:
    """Explanation of the wait of one item of a fan-out."""

    index: int
    key: str
    code: str
    detail: str
    until: datetime | None
    signal: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReason:
    """Explanation of the state of a node. Fields that do not concern it are empty."""

    id: str
    state: str
    code: str
    detail: str
    waits_for: list[str] = field(default_factory=list)
    until: datetime | None = None
    signal: str | None = None
    attempts: int = 0
    error: dict[str, Any] | None = None
    children: list[ChildRun] = field(default_factory=list)
    tasks: list[TaskPlace] = field(default_factory=list)
    items: dict[str, int] = field(default_factory=dict)
    waiting_items: list[ItemReason] = field(default_factory=list)
    progress: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Consequence:
    """A node that did not succeed because another node failed."""

    id: str
    state: str
    because: list[str]


@dataclass(frozen=True, slots=True)
class Failure:
    """The first failure of a run (``node_id`` is ``None``: the run as a whole), and its consequences."""

    node_id: str | None
    at: datetime | None
    error: dict[str, Any] | None
    child: ChildRun | None
    consequences: list[Consequence]
    more_consequences: int


@dataclass(frozen=True, slots=True)
class VerbReason:
    """An action on the run: whether it is possible now and, if not, the reason."""

    verb: str
    possible: bool
    why_not: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Explanation of the state of a run. Of its nodes, those that have succeeded are only counted, in ``states``."""

    run: UUID
    workflow: str
    version: int
    state: str
    reasons: list[Reason]
    queue: QueuePlace | None
    lease: Lease | None
    slots: list[SlotPlace]
    signals: list[str]
    states: dict[str, int]
    nodes: list[NodeReason]
    more_nodes: int
    failure: Failure | None
    verbs: list[VerbReason]
