"""Models of the API's responses, as frozen pydantic models. Fields that a newer server adds are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel

#: The states in which a run stays.
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "timed_out"})


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


ItemT = TypeVar("ItemT")


class Page(_Model, Generic[ItemT]):
    """Some of a list; ``next`` is the address of what follows."""

    results: list[ItemT]
    next: str | None = None


class Nothing(_Model):
    """The answer of a request that has none."""


class Workflow(_Model):
    """A workflow and the number, state and checksum of its current version: what runs start or, with none, the newest.

    ``definition`` is the canonical definition of that version; only reading a single workflow gives it.
    """

    id: str
    name: str
    description: str
    labels: dict[str, str]
    version: int
    version_state: str | None = None
    checksum: str
    archived_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    definition: dict[str, Any] | None = None


class Version(_Model):
    """A version of a workflow. ``state`` is ``draft``, ``published`` or ``archived``.

    ``copied_from`` is the number of the version that a rollback brought back; ``definition`` is there when the version
    was read itself.
    """

    id: str
    workflow: str
    number: int
    state: str
    source_format: str
    checksum: str
    copied_from: int | None = None
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None = None
    archived_at: datetime | None = None
    definition: dict[str, Any] | None = None


class ErrorInfo(_Model):
    """The error of a run or a node: ``code`` for programs, ``message`` for people, ``type`` the class of the error.

    ``traceback``: of a node's error that it did not raise on purpose, the way to it through the node's code. ``kind``:
    what ``retry_on`` calls it, such as ``http_404``. ``status`` and ``body``: of a failed HTTP answer, masked.
    """

    code: str
    message: str
    type: str
    node_id: str | None = None
    kind: str | None = None
    status: int | None = None
    body: Any = None
    traceback: str | None = None


class Wait(_Model):
    """The condition a node waits for: a time, a signal, or whichever comes first.

    ``details`` depends on the type of the node; of an approval it has the ``message``, the
    ``assignees`` and the ``form``.
    """

    until: datetime | None = None
    signal: str | None = None
    details: dict[str, Any] = {}


class Reference(_Model):
    """A value that is too large to be sent among others: SHA-256 and bytes of its JSON. ``output_of`` reads it."""

    sha256: str
    size: int


class ProgressItem(_Model):
    """The item of a fan-out that reported progress."""

    index: int
    key: str


class Progress(_Model):
    """Progress as reported by a node: ``fraction`` is between 0 and 1."""

    fraction: float
    message: str
    at: datetime
    item: ProgressItem | None = None


class NodeRun(_Model):
    """One node of a run. ``reason`` says why it was skipped; ``attempts`` counts those begun, in all rounds.

    A large ``output`` is ``None``, and ``output_ref`` is set.
    """

    id: str
    state: str
    attempts: int
    round: int = 1
    output: Any = None
    output_ref: Reference | None = None
    error: ErrorInfo | None = None
    reason: str | None = None
    wait: Wait | None = None
    progress: Progress | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Attempt(_Model):
    """One attempt of a node."""

    attempt: int
    round: int = 1
    state: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: dict[str, Any] | None = None


class NodeRunDetail(NodeRun):
    """One node of a run with its attempts; ``items`` says how many items of a fan-out are on record."""

    type: str
    history: tuple[Attempt, ...]
    items: int


class Item(_Model):
    """One item of a fan-out; ``at`` is when its state became what it is."""

    index: int
    key: str
    state: str
    attempts: int
    round: int = 1
    output: Any = None
    output_ref: Reference | None = None
    error: ErrorInfo | None = None
    started_at: datetime | None = None
    wake_at: datetime | None = None
    wait: Wait | None = None
    at: datetime


class Event(_Model):
    """An event of a run, a workflow or a trigger. ``data`` depends on the ``type``.

    ``seq`` is 1, 2, 3… without gaps within a run, and 0 outside of runs. ``id`` is ``None`` for progress of a node,
    which is in no log.
    """

    id: str | None = None
    seq: int
    type: str
    at: datetime
    tenant: str = ""
    workflow: str | None = None
    version: int | None = None
    run_id: str | None = None
    node_id: str | None = None
    data: dict[str, Any]


class LoggedEvent(Event):
    """An event of the log of a tenant; with its ``cursor`` as ``after``, the log is read on behind it.

    From a server that cannot stream events come by pages, and only the last one of a page has a cursor of its own. The
    cursor of the others is that of the last one before the page, ``None`` if there is none: read on from there, the
    events of the page come again.
    """

    cursor: str | None


class EventLogPage(_Model):
    """Events of a tenant, in order; ``next`` is the cursor to continue from, also after an empty page."""

    results: list[Event]
    next: str
    has_more: bool


class EventKind(_Model):
    """A type of events, with the JSON Schema of such an event."""

    type: str
    version: int
    description: str
    stored: bool
    json_schema: dict[str, Any] = Field(alias="schema")


class EventKinds(_Model):
    """All types of events."""

    results: list[EventKind]


class Approval(_Model):
    """A node, or an ``item`` of a fan-out, that waits for a decision: ``signal`` is sent to ``run`` to decide it.

    ``assignees`` may decide, and owners; ``may_decide`` says whether the caller may. ``form`` is the JSON Schema of the
    decision's ``data``. At ``until`` it ends by itself, as ``on_timeout`` says.
    """

    id: str
    run: str
    workflow: str
    version: int
    node_id: str
    item: ProgressItem | None = None
    signal: str
    assignees: tuple[str, ...] = ()
    message: Any = None
    form: dict[str, Any] | None = None
    since: datetime | None = None
    until: datetime | None = None
    on_timeout: str = "fail"
    may_decide: bool = False


class CalledBy(_Model):
    """The attempt of a node of its parent (of the item ``item``, if it is a fan-out) that started a child run.

    ``attempt`` counts from 1, and again after each retry of the parent, of which there had been ``retry``.
    """

    node_id: str
    item: str | None = None
    attempt: int
    retry: int


class RunSummary(_Model):
    """One execution of a workflow, without what went into it and came out of it.

    ``trigger`` says what started it, ``started_by`` (``kind``, ``id``, ``name``) who; ``key`` what there is one run of.
    ``compensation`` says how undoing went, ``wake_at`` when a waiting run goes on if no signal comes, ``parent`` which
    run started it, ``source_run`` which one it repeats, ``retries`` how often it was taken up again.
    """

    id: str
    workflow: str
    version: int
    state: str
    trigger: str | None = None
    started_by: dict[str, str] | None = None
    labels: dict[str, str] = {}
    priority: int | None = None
    key: str | None = None
    error: ErrorInfo | None = None
    compensation: str | None = None
    wake_at: datetime | None = None
    parent: str | None = None
    called_by: CalledBy | None = None
    source_run: str | None = None
    retries: int = 0
    cancel_requested_at: datetime | None = None
    pause_requested_at: datetime | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def finished(self) -> bool:
        """Return whether the run ended, well or not."""
        return self.state in FINAL_STATES

    @property
    def succeeded(self) -> bool:
        """Return whether the run ended as it should."""
        return self.state == "succeeded"


class Run(RunSummary):
    """One execution of a workflow.

    ``nodes`` and ``events`` (the first 1,000) are there when the run was read, and empty in the answers to its
    start and to ``cancel``. What is large is not among them: ``input_ref`` and ``outputs_ref`` say so, and ``input_of``
    and ``outputs_of`` read it.
    """

    input: dict[str, Any]
    input_ref: Reference | None = None
    outputs: Any = None
    outputs_ref: Reference | None = None
    nodes: tuple[NodeRun, ...] = ()
    events: tuple[Event, ...] = ()


class BatchItem(_Model):
    """Result of one start: a ``run``, or a ``problem`` document. ``status`` is that of a single start."""

    status: int
    run: RunSummary | None = None
    problem: dict[str, Any] | None = None


class Batch(_Model):
    """Results of each start, in their order; ``accepted`` of them are new runs."""

    results: list[BatchItem]
    accepted: int


class Health(_Model):
    """Readiness of the server. ``checks`` has ``ok``, or the error, for each part."""

    status: str
    checks: dict[str, str] = {}

    @property
    def ok(self) -> bool:
        """Return whether every check passed."""
        return self.status == "ok"


class ProblemItem(_Model):
    """One problem of a request.

    ``pointer`` is a JSON Pointer (RFC 6901) into it; ``line`` and ``column`` count from 1 in a workflow document.
    """

    code: str
    detail: str
    pointer: str = ""
    line: int | None = None
    column: int | None = None
    suggestion: str | None = None


class Verdict(_Model):
    """Result of a validation: errors, warnings, and the secrets that the document uses."""

    valid: bool
    name: str | None = None
    problems: tuple[ProblemItem, ...] = ()
    warnings: tuple[ProblemItem, ...] = ()
    secrets: tuple[str, ...] = ()
    missing_secrets: tuple[str, ...] = ()


class DryRun(_Model):
    """Plan of a run: its nodes in order and by level, the longest chain, skipped nodes and the reasons.

    ``unresolved`` are references that would find nothing, ``input_problems`` what is wrong with the input.
    """

    workflow: str
    order: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    critical_path: tuple[str, ...]
    skipped: dict[str, str]
    unresolved: tuple[dict[str, Any], ...]
    input_problems: tuple[dict[str, Any], ...]
    nodes: tuple[dict[str, Any], ...]


class NodeType(_Model):
    """A node type. ``config`` and ``output`` are JSON Schemas, ``example`` is a config."""

    type: str
    display_name: str
    category: str
    description: str
    version: str
    config: dict[str, Any]
    output: dict[str, Any]
    example: dict[str, Any]


class Plugin(_Model):
    """A distribution that brings node types. ``status`` is ``loaded`` or ``broken``; admins see the ``error``."""

    name: str
    distribution: str
    version: str
    status: str
    error: str | None = None


class LogLine(_Model):
    """A line that a node logged. ``level`` is ``debug`` to ``critical``; without ``node_id`` the log was cut here."""

    seq: int
    at: datetime
    level: str
    node_id: str | None = None
    attempt: int | None = None
    item: int | None = None
    message: str


class Patch(RootModel[list[dict[str, Any]]]):
    """A JSON Patch (RFC 6902)."""


class Data(RootModel[dict[str, Any]]):
    """An answer that is data of its own format."""


class Value(RootModel[Any]):
    """An answer that is any JSON."""


class Text(RootModel[str]):
    """An answer that is text: a document as it was sent, or a drawing."""


class Delivery(_Model):
    """The delivery of a signal."""

    delivered: bool


class EventPage(_Model):
    """Events, in order, and the state that the run had just before they were read."""

    results: list[Event]
    state: str

    @property
    def final(self) -> bool:
        """Return whether the run had ended."""
        return self.state in FINAL_STATES
