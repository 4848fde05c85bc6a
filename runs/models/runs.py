"""Runs, and the state of their nodes, items, tasks, slots and signals."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.fields.json import KeyTextTransform
from django.db.models.lookups import Exact
from django.utils import timezone

from plumbing.database.dialect import is_postgresql
from pyflow.core.ids import new_uuid
from pyflow.core.states import RUN_TRANSITIONS, NodeState, RunState, check_transition
from tenants.scoping import TenantManager, TenantOwned
from workflows.models import Version, Workflow

#: Lost with so many executors in a row, a run is executed in a process of its own (see `quarantine`).
POISON_LOSSES = 2
#: The name of the platform itself among those of senders; callers' names have a kind (`user:…`).
PLATFORM = "platform"
RUN_STATES = [(state.value, state.value) for state in RunState]
NODE_STATES = [(state.value, state.value) for state in NodeState]


class Trigger(StrEnum):
    """The cause that started a run."""

    API = "api"
    MANUAL = "manual"
    """By hand: a command, the admin."""
    WORKFLOW = "workflow"
    """Another run, its parent."""
    SCHEDULE = "schedule"
    WEBHOOK = "webhook"
    EVENT = "event"


TRIGGERS = [(trigger.value, trigger.value) for trigger in Trigger]


class RunQuerySet(models.QuerySet["Run"]):
    """Questions about runs."""

    def with_names(self) -> RunQuerySet:
        """Each with its workflow and the number of its version, without the documents."""
        return self.select_related("workflow", "version").defer("version__source", "version__definition")

    def labelled(self, name: str, value: str) -> RunQuerySet:
        """Select runs with a label of this value. On PostgreSQL the index ``run_labels`` holds all runs with labels."""
        if is_postgresql(self.db):
            return self.filter(labels__contains={name: value}).exclude(labels={})
        return self.filter(Exact(KeyTextTransform(name, "labels"), value))

    def found_by(self, text: str) -> RunQuerySet:
        """Select runs whose workflow's name contains the text, or whose id it is."""
        return self.filter(matching(text))


def matching(text: str) -> Q:
    """Of runs: the text is in the workflow's name, or is the run's id."""
    named = Q(workflow__name__icontains=text)
    try:
        return named | Q(pk=UUID(text))
    except ValueError:
        return named


class RunManager(TenantManager["Run"]):
    """Runs of a tenant, or of all."""

    def for_tenant(self, tenant: Any) -> RunQuerySet:
        return self._unscoped().filter(tenant=tenant)

    def across_tenants(self) -> RunQuerySet:
        return self._unscoped()

    def _unscoped(self) -> RunQuerySet:
        return RunQuerySet(self.model, using=self._db)


class Run(TenantOwned):
    """One execution of a version. A committed row is the job: whoever finds it, executes it.

    ``owner``, ``lease_until`` and ``epoch`` say who executes it now; every write of an executor names its epoch, and
    one that was replaced writes nothing. ``event_seq`` counts the run's events, ``log_lines`` the lines of its log.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="runs")
    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="runs")
    state = models.CharField(max_length=16, choices=RUN_STATES, default=RunState.QUEUED.value)
    trigger = models.CharField(max_length=16, choices=TRIGGERS, default=Trigger.MANUAL.value, editable=False)
    started_by = models.JSONField(null=True, blank=True, editable=False, help_text="{kind, id, name, request_id}.")
    labels = models.JSONField(default=dict, blank=True, help_text="Labels of the workflow and of the start.")
    dedupe_key = models.CharField(max_length=255, null=True, blank=True, editable=False)  # noqa: DJ001 - null: none
    input = models.JSONField(default=dict)
    input_ref = models.JSONField(
        null=True, blank=True, editable=False, help_text="Reference to the input, if it is large."
    )
    outputs = models.JSONField(null=True, blank=True)
    outputs_ref = models.JSONField(
        null=True, blank=True, editable=False, help_text="Reference to the outputs, if they are large."
    )
    value_bytes = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="Total bytes of its outputs that are stored outside the row."
    )
    error = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    owner = models.CharField(max_length=128, blank=True, default="", editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    epoch = models.PositiveIntegerField(default=0, editable=False)
    claims = models.PositiveIntegerField(default=0, editable=False)
    losses = models.PositiveIntegerField(
        default=0, editable=False, help_text="Consecutive workers lost while executing it, since a node last completed."
    )
    queue = models.CharField(
        max_length=63, blank=True, default="", editable=False, help_text="Queue whose workers execute it."
    )
    event_seq = models.PositiveIntegerField(default=0, editable=False)
    log_position = models.BigIntegerField(default=0, editable=False, help_text="Of its last event in the tenant's log.")
    compensation = models.CharField(
        max_length=16, blank=True, default="", help_text="Result of the compensation, if there was one."
    )
    wake_at = models.DateTimeField(null=True, blank=True, help_text="Time at which a waiting run continues.")
    cancel_requested_at = models.DateTimeField(null=True, blank=True, editable=False)
    pause_requested_at = models.DateTimeField(null=True, blank=True, editable=False)
    retries = models.PositiveIntegerField(default=0, editable=False, help_text="Number of retries.")
    source_run = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="reruns",
        help_text="The run that this one repeats.",
    )
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="children")
    on_parent_cancel = models.CharField(
        max_length=16,
        blank=True,
        default="",
        editable=False,
        help_text="Action when its parent stops waiting for it. Empty: the parent never waited.",
    )
    called_by = models.JSONField(
        null=True,
        blank=True,
        editable=False,
        help_text="Attempt of the parent's node that started it: {node_id, item, attempt, retry}.",
    )
    children_to_stop = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="It has ended, and some child runs still have to be stopped.",
    )
    priority = models.PositiveSmallIntegerField(default=5, editable=False, help_text="From 1 (lowest) to 9 (highest).")
    queue_deadline = models.DateTimeField(
        null=True, blank=True, help_text="It times out if it has not started by then."
    )
    lineage = models.JSONField(default=list, editable=False, help_text="Names of the workflows of its parents.")
    secrets_used = models.JSONField(
        default=list, editable=False, help_text="Marks of the secrets that it used, without values."
    )
    log_lines = models.PositiveIntegerField(default=0, editable=False)
    log_characters = models.PositiveIntegerField(default=0, editable=False)

    objects: ClassVar[RunManager] = RunManager()

    class Meta(TenantOwned.Meta):
        """Newest first; the queue is an index over what is not finished."""

        abstract = False
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=("workflow", "dedupe_key"),
                name="run_once_per_key",
                condition=models.Q(dedupe_key__isnull=False),
            ),
        )
        indexes = (
            models.Index(
                fields=("queue", "tenant", "-priority", "created_at"),
                name="run_queue",
                condition=models.Q(state=RunState.QUEUED.value),
            ),
            models.Index(fields=("lease_until",), name="run_leases", condition=models.Q(state=RunState.RUNNING.value)),
            models.Index(fields=("wake_at",), name="run_timers", condition=models.Q(state=RunState.WAITING.value)),
            models.Index(
                fields=("queue_deadline",),
                name="run_deadlines",
                condition=models.Q(state=RunState.QUEUED.value, started_at__isnull=True, queue_deadline__isnull=False),
            ),
            models.Index(fields=("id",), name="run_orphans", condition=models.Q(children_to_stop=True)),
            models.Index(fields=("queue",), name="run_poison", condition=models.Q(losses=POISON_LOSSES)),
            models.Index(fields=("tenant", "-created_at", "-id"), name="run_of_tenant"),
            models.Index(fields=("-created_at", "-id"), name="run_newest"),
        )

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def stored_bytes(self) -> int:
        """Return the bytes that the run counts for in its quota: its input, as compact JSON, and its large values."""
        if self.input_ref is not None:
            return int(self.input_ref["size"]) + self.value_bytes
        text = json.dumps(self.input, ensure_ascii=False, separators=(",", ":"))
        return len(text.encode("utf-8", "surrogatepass")) + self.value_bytes

    def move(self, state: RunState) -> None:
        """Give it another state. Raises ``InvalidTransitionError`` if that may not follow the one it has."""
        check_transition(RUN_TRANSITIONS, RunState(self.state), state)
        self.state = state.value


class NodeRun(TenantOwned):
    """One node of a run, as far as it has come."""

    #: What it is before anything happened to it.
    UNTOUCHED: ClassVar[dict[str, Any]] = {
        "state": NodeState.PENDING.value,
        "attempts": 0,
        "round": 1,
        "earlier_attempts": 0,
        "output": None,
        "output_ref": None,
        "error": None,
        "reason": "",
        "tolerated": False,
        "started_at": None,
        "finished_at": None,
        "wake_at": None,
        "wait": None,
        "progress": None,
    }

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="nodes")
    node_id = models.CharField(max_length=255)
    state = models.CharField(max_length=16, choices=NODE_STATES, default=NodeState.PENDING.value)
    attempts = models.PositiveIntegerField(default=0)
    round = models.PositiveIntegerField(default=1, db_default=1, help_text="Round of `until`.")
    earlier_attempts = models.PositiveIntegerField(default=0, db_default=0, help_text="Attempts in earlier rounds.")
    output = models.JSONField(null=True, blank=True)
    output_ref = models.JSONField(
        null=True, blank=True, editable=False, help_text="Reference to the output, if it is large: {sha256, size}."
    )
    error = models.JSONField(null=True, blank=True)
    reason = models.CharField(
        max_length=64,
        blank=True,
        default="",
        help_text="Reason why it was skipped. `reused`: the result is from the source run.",
    )
    tolerated = models.BooleanField(default=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    wake_at = models.DateTimeField(null=True, blank=True)
    wait = models.JSONField(null=True, blank=True, help_text="Timer or signal that a waiting node waits for.")
    progress = models.JSONField(
        null=True, blank=True, help_text="Last progress report of its attempt: {fraction, message, at, item}."
    )

    class Meta(TenantOwned.Meta):
        """One row per node of a run."""

        abstract = False
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=("run", "node_id"), name="node_per_run"),)
        indexes = (
            # Over `wait`, which hardly ever changes, and not over `state`: updates that touch no index are cheap.
            models.Index(fields=("tenant", "id"), name="nodes_waiting", condition=models.Q(wait__isnull=False)),
        )

    def __str__(self) -> str:
        return self.node_id


class NodeItem(TenantOwned):
    """One item of a fan-out. The items that are recorded as succeeded are not executed again."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="items")
    node_id = models.CharField(max_length=255)
    index = models.PositiveIntegerField()
    key = models.TextField()
    state = models.CharField(max_length=16, choices=NODE_STATES)
    attempts = models.PositiveIntegerField(default=0)
    round = models.PositiveIntegerField(default=1, db_default=1, help_text="Round of `until`.")
    earlier_attempts = models.PositiveIntegerField(default=0, db_default=0, help_text="Attempts in earlier rounds.")
    output = models.JSONField(null=True, blank=True)
    output_ref = models.JSONField(
        null=True, blank=True, editable=False, help_text="Reference to the output, if it is large: {sha256, size}."
    )
    error = models.JSONField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True, help_text="Start of the first attempt.")
    wake_at = models.DateTimeField(null=True, blank=True, help_text="Time of the next attempt or round.")
    wait = models.JSONField(null=True, blank=True, help_text="Timer or signal that the item waits for.")
    at = models.DateTimeField()

    class Meta(TenantOwned.Meta):
        """One row per item, in the order of the items."""

        abstract = False
        ordering = ("run", "node_id", "index")
        constraints = (models.UniqueConstraint(fields=("run", "node_id", "index"), name="item_per_node"),)
        indexes = (models.Index(fields=("tenant", "id"), name="items_waiting", condition=models.Q(wait__isnull=False)),)

    def __str__(self) -> str:
        return f"{self.node_id}[{self.key}]"


class NodeTask(TenantOwned):
    """Attempts of one node of a run (or of some items of its fan-out) that any worker of a queue may execute.

    It belongs to the executor that has the run under ``run_epoch``, which awaits ``outcomes`` and removes the row.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tasks")
    run_epoch = models.PositiveIntegerField()
    node_id = models.CharField(max_length=255)
    places = models.JSONField(
        help_text="The attempts: [attempt, started at, index of the item, round, attempts in earlier rounds]."
    )
    queue = models.CharField(max_length=63, blank=True, default="")
    owner = models.CharField(max_length=128, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    epoch = models.PositiveIntegerField(default=0)
    losses = models.PositiveIntegerField(default=0)
    outcomes = models.JSONField(null=True, blank=True)
    progress = models.JSONField(null=True, blank=True, help_text="Last progress report of its attempts.")

    class Meta(TenantOwned.Meta):
        """Oldest first; indexes over what is to be done, and what is being done."""

        abstract = False
        ordering = ("id",)
        indexes = (
            models.Index(
                fields=("queue", "id"),
                name="tasks_queued",
                condition=models.Q(lease_until__isnull=True, outcomes__isnull=True),
            ),
            models.Index(fields=("lease_until",), name="tasks_leases", condition=models.Q(lease_until__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.node_id} ({len(self.places)})"


class Slot(TenantOwned):
    """A slot of a concurrency key that a run or one of its nodes holds, or its place among those that wait for one.

    That of a run lasts until the run has ended, whoever executes it. That of a node belongs to the executor that has
    the run under ``run_epoch``.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="slots")
    node_id = models.CharField(
        max_length=255, blank=True, default="", help_text="Empty: the slot is of the run as a whole."
    )
    run_epoch = models.PositiveIntegerField(
        null=True, blank=True, help_text="Epoch of the run, for a node's slot; null: the run's own slot."
    )
    key = models.TextField(help_text="The rendered key.")
    lane = models.CharField(max_length=64, help_text="SHA-256 of the kind of the slot (run or node) and the key.")
    limit = models.PositiveIntegerField(help_text="Maximum number of holders when this one gets its slot.")
    priority = models.PositiveSmallIntegerField(default=5)
    held = models.BooleanField()
    displaced = models.BooleanField(default=False, help_text="True if it has to give the slot to a newer request.")
    since = models.DateTimeField(default=timezone.now, help_text="Time of the request.")

    class Meta(TenantOwned.Meta):
        """Oldest first; one of a run, and indexes over who holds and who waits."""

        abstract = False
        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(fields=("run",), name="slot_of_run", condition=models.Q(run_epoch__isnull=True)),
        )
        indexes = (
            models.Index(fields=("tenant", "lane", "id"), name="slots_held", condition=models.Q(held=True)),
            models.Index(
                fields=("tenant", "lane", "-priority", "id"), name="slots_waiting", condition=models.Q(held=False)
            ),
        )

    def __str__(self) -> str:
        return self.key


class RunSignal(TenantOwned):
    """A named message to a run. One that is early waits here; one with a known ``dedupe_id`` is the same signal."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="signals")
    name = models.CharField(max_length=255)
    payload = models.JSONField(null=True, blank=True)
    dedupe_id = models.CharField(max_length=255)
    sender = models.JSONField(
        null=True, blank=True, editable=False, help_text="Names of the sender, for approvals; null: unknown."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    consumed = models.BooleanField(default=False, editable=False)

    class Meta(TenantOwned.Meta):
        """Oldest first."""

        abstract = False
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=("run", "dedupe_id"), name="signal_once"),)
        indexes = (models.Index(fields=("run",), name="signals_waiting", condition=models.Q(consumed=False)),)

    def __str__(self) -> str:
        return self.name
