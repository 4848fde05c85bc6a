"""Who executes a run: claiming, renewing and giving back. All times are the database's."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from pyflow.core.states import RunState
from runs.models import SUSPECT_LOSSES, Run
from runs.values import Reference
from tenants.models import Tenant
from tenants.plans import Quota
from tenants.quotas import limit_of
from tenants.statements import prepared
from tenants.transactions import retried
from workflows.models import Version, Workflow

#: So many executors lost with a run, one after the other and before a node completed, and it fails as ``worker_lost``.
#: With the last of them it was alone.
MAX_LOSSES = SUSPECT_LOSSES + 1
#: So many runs that were left behind are asked for their queues; the others are found after these are claimed.
LOOKED_AT = 100
#: A claim looks at the queues of so many tenants.
TENANTS_AT_ONCE = 200
#: A lease is not trusted to its very end: what is on its way to the database by then may arrive late. Seconds, at most.
MARGIN = 2.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that is ours while its lease lasts; ``epoch`` is the fencing token of every write."""

    run_id: UUID
    tenant_id: UUID
    tenant_slug: str
    workflow_name: str
    version_number: int
    checksum: str
    definition: str
    input: dict[str, Any]
    input_ref: Reference | None
    """Where the input is, if it is large; ``input`` is empty then."""
    epoch: int
    parent_id: UUID | None
    lineage: tuple[str, ...]
    cancel_requested: bool
    pause_requested: bool
    too_late: bool
    begun_at: float | None
    losses: int
    queue: str
    priority: int
    secrets_used: tuple[str, ...]
    log_lines: int
    log_characters: int
    is_new: bool
    """Nothing is on record of it but that it was queued."""


def trusted_seconds() -> float:
    """How long after asking for it the holder of a lease relies on it, by its own clock."""
    seconds = float(settings.PYFLOW_LEASE_SECONDS)
    return seconds - min(MARGIN, seconds / 5)


@retried
def claim(
    owner: str,
    limit: int,
    run_id: UUID | None = None,
    active: Collection[UUID] = (),
    *,
    queues: Collection[str] | None = None,
    overdue: bool = True,
    suspects: bool = False,
) -> list[Claim]:
    """Take up to ``limit`` runs (or only ``run_id`` and those below it), fairly between tenants; see ``_shared``.

    Two executors never get the same one.

    ``active``: what ``owner`` executes already. Late with a renewal, it must not take its own runs over. ``queues``:
    whose runs to take; ``None``: all. ``overdue``: also look for what was left behind and for what has waited.
    ``suspects``: only those that a `quarantine` is for, which others leave alone.
    """
    if limit <= 0:
        return []
    with transaction.atomic():
        runs = Run.objects.across_tenants()
        if run_id is not None:
            runs = runs.filter(pk__in=_family(run_id))
        if active:
            runs = runs.exclude(pk__in=active)
        if queues is not None:
            runs = runs.filter(queue__in=queues)
        ids: list[UUID] = []
        if overdue and not suspects:
            ids = _take(runs.filter(_lost()).order_by("lease_until"), limit)
            Run.objects.across_tenants().filter(pk__in=ids).update(losses=F("losses") + 1)
            if run_id is None:
                ids = _set_suspects_aside(ids)
        if run_id is None:
            runs = runs.filter(_suspect()) if suspects else runs.exclude(_suspect())
        if overdue:
            ids += _take(runs.filter(_due()).order_by("wake_at"), limit - len(ids))
        if run_id is None:
            ids += _shared(active, limit - len(ids), queues, suspects=suspects)
        else:
            ids += _queued(runs, limit - len(ids))
        if not ids:
            return []
        claimed = {taken.run_id: taken for taken in _begin(ids, owner)}
        return [claimed[run_id] for run_id in ids]


def _begin(ids: Collection[UUID], owner: str) -> list[Claim]:
    """Make runs that are locked those of ``owner``."""
    if connection.vendor == "postgresql":
        with prepared() as cursor:
            cursor.execute(_BEGIN, [RunState.RUNNING.value, owner, settings.PYFLOW_LEASE_SECONDS, list(ids)])
            rows = [(_values(row), row[len(_CLAIMED) :]) for row in cursor.fetchall()]
        definitions = _definitions_of({values["version_id"] for values, _ in rows})
        return [_claim(values, names, definitions[values["version_id"]]) for values, names in rows]
    runs = Run.objects.across_tenants().filter(pk__in=ids)
    runs.update(
        state=RunState.RUNNING.value,
        owner=owner,
        lease_until=_lease_end(),
        wake_at=None,
        epoch=F("epoch") + 1,
        claims=F("claims") + 1,
    )
    taken = list(runs.select_related("version", "workflow", "tenant").only(*_CLAIMED, *_NAMES))
    definitions = _definitions_of({run.version_id for run in taken})
    for run in taken:
        run.version.definition = definitions[run.version_id]
    return [claim_of(run) for run in taken]


_definitions: OrderedDict[UUID, str] = OrderedDict()
#: So many definitions of versions are kept in memory: they are as large as their documents, and never change.
DEFINITIONS_KEPT = 256


def _definitions_of(versions: Collection[UUID]) -> dict[UUID, str]:
    """The definitions of versions, of which each is fetched once per process."""
    missing = {version for version in versions if version not in _definitions}
    if missing:
        rows = Version.objects.across_tenants().filter(pk__in=missing)
        _definitions.update(rows.values_list("pk", "definition"))
    found = {version: _definitions[version] for version in versions}
    for version in versions:
        _definitions.move_to_end(version)
    while len(_definitions) > DEFINITIONS_KEPT:
        _definitions.popitem(last=False)
    return found


def suspects_wait(queues: Collection[str] | None) -> bool:
    """Whether a quarantine would find a run of ``queues`` (``None``: of any). A look-up in an index of suspects."""
    suspects = Run.objects.across_tenants().filter(_suspect())
    if queues is not None:
        suspects = suspects.filter(queue__in=queues)
    return suspects.filter(Q(state=RunState.QUEUED.value) | _due()).exists()


def _set_suspects_aside(lost: Collection[UUID]) -> list[UUID]:
    """Queue those that have become suspects again, for a quarantine; returns the others."""
    suspects = Run.objects.across_tenants().filter(_suspect(), pk__in=lost)
    aside = set(suspects.values_list("pk", flat=True)) if lost else set()
    if aside:
        ours = Run.objects.across_tenants().filter(pk__in=aside)
        ours.update(state=RunState.QUEUED.value, owner="", lease_until=None, epoch=F("epoch") + 1)
    return [run_id for run_id in lost if run_id not in aside]


#: What a claim is made of: columns of the run, and of what it belongs to.
_CLAIMED = (
    "id",
    "tenant_id",
    "workflow_id",
    "version_id",
    "input",
    "input_ref",
    "epoch",
    "claims",
    "losses",
    "queue",
    "priority",
    "parent_id",
    "lineage",
    "cancel_requested_at",
    "pause_requested_at",
    "started_at",
    "event_seq",
    "log_lines",
    "log_characters",
    "secrets_used",
    "queue_deadline",
)
_NAMES = ("tenant__slug", "workflow__name", "version__number", "version__checksum")
_DOCUMENTS = frozenset({"input", "input_ref", "lineage", "secrets_used"})
#: The update and the reading in one statement (PostgreSQL). Names are the models' own.
_BEGIN = f"""
    UPDATE {Run._meta.db_table} run SET state = %s, owner = %s, wake_at = NULL, epoch = run.epoch + 1,
        claims = run.claims + 1, lease_until = statement_timestamp() + make_interval(secs => %s)
    FROM {Tenant._meta.db_table} tenant, {Workflow._meta.db_table} workflow, {Version._meta.db_table} version
    WHERE run.id = ANY(%s)
        AND tenant.id = run.tenant_id AND workflow.id = run.workflow_id AND version.id = run.version_id
    RETURNING {", ".join(f"run.{name}" for name in _CLAIMED)}, {", ".join(name.replace("__", ".") for name in _NAMES)}
"""  # noqa: S608 - see above


def _values(row: Sequence[Any]) -> dict[str, Any]:
    values = dict(zip(_CLAIMED, row, strict=False))
    return values | {name: json.loads(values[name]) for name in _DOCUMENTS if values[name] is not None}


def _queued(runs: QuerySet[Run], limit: int) -> list[UUID]:
    """The next of these runs: the most urgent and of those the oldest first."""
    return _take(runs.filter(state=RunState.QUEUED.value).order_by("-priority", "created_at"), limit)


def _queued_of(tenant_id: UUID, queue: str, limit: int, active: Collection[UUID], *, suspects: bool) -> list[UUID]:
    """As ``_queued``, of a tenant's queue; every claim asks this."""
    if connection.vendor == "postgresql" and limit > 0:
        with prepared() as cursor:
            cursor.execute(
                _NEXT_SUSPECTS if suspects else _NEXT, [queue, tenant_id, queue, tenant_id, list(active), limit]
            )
            return [run_id for (run_id,) in cursor.fetchall()]
    runs = Run.objects.for_tenant(tenant_id).filter(queue=queue).exclude(pk__in=active)
    return _queued(runs.filter(_suspect()) if suspects else runs.exclude(_suspect()), limit)


# A comparison of rows, which only the index `run_queue` answers: PostgreSQL takes an index of all the tenant's runs for
# as good if it has not counted since they came, and would read and sort them.
_NEXT = f"""
    SELECT id FROM {Run._meta.db_table}
    WHERE state = '{RunState.QUEUED.value}' AND (queue, tenant_id) BETWEEN (%s, %s) AND (%s, %s)
        AND losses <> {SUSPECT_LOSSES} AND id <> ALL(%s)
    ORDER BY queue, tenant_id, priority DESC, created_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""  # noqa: S608 - names and constants of ours
_NEXT_SUSPECTS = _NEXT.replace("losses <>", "losses =")


def _shared(active: Collection[UUID], limit: int, queues: Collection[str] | None, *, suspects: bool) -> list[UUID]:
    """The next runs of all tenants: what is claimed in which order is decided here and nowhere else.

    Tenants take turns, those first of whom the fewest runs are executed now; each queue of a tenant takes part by
    itself. Within one the most urgent run comes first, and of those the oldest: a run of low priority is started when
    none of a higher one is queued, however long that takes. A tenant has no more runs executed at a time than its quota
    allows; the others stay queued.
    """
    if limit <= 0:
        return []
    served = _queues_with_work() if queues is None else queues
    waiting = [(queue, tenant_id) for queue in sorted(served) for tenant_id in _tenants_with_work(queue)]
    if not waiting:
        return []
    tenants = {tenant_id for _, tenant_id in waiting}
    # With one tenant's queue there is no order, and without a limit nothing to count for.
    alone = len(waiting) == 1 and limit_of(waiting[0][1], Quota.CONCURRENT_RUNS) is None
    running = Counter[UUID]() if alone else _running(tenants)
    room = _room(tenants, running)
    # Those that are equal in this must not always come in the same order.
    random.shuffle(waiting)
    waiting.sort(key=lambda pair: running[pair[1]])
    ids: list[UUID] = []
    while waiting and len(ids) < limit:
        share, left = max(1, (limit - len(ids)) // len(waiting)), []
        for queue, tenant_id in waiting:
            wanted = min(share, limit - len(ids), room.get(tenant_id, limit))
            got = _queued_of(tenant_id, queue, wanted, active, suspects=suspects)
            ids += got
            if tenant_id in room:
                room[tenant_id] -= len(got)
            if got and len(got) == wanted:
                left.append((queue, tenant_id))
        waiting = left
    return ids


def _running(tenants: Collection[UUID]) -> Counter[UUID]:
    rows = Run.objects.across_tenants().filter(state=RunState.RUNNING.value, tenant__in=tenants).order_by()
    return Counter(dict(rows.values_list("tenant").annotate(Count("pk"))))


def _room(tenants: Collection[UUID], running: Counter[UUID]) -> dict[UUID, int]:
    """How many more runs of each tenant may be executed, of those that have a limit.

    Claims for such a tenant come one at a time, or two could take the same last place: whoever comes second leaves the
    tenant to the first, which claims again as long as it gets any.
    """
    limits = {tenant_id: limit_of(tenant_id, Quota.CONCURRENT_RUNS) for tenant_id in sorted(tenants)}
    limited = {tenant_id: limit for tenant_id, limit in limits.items() if limit is not None}
    locked = {tenant_id for tenant_id in limited if _claims_alone(tenant_id)}
    counted = _running(locked) if locked else running  # anew, now that nobody else adds to them
    return {
        tenant_id: max(0, limit - counted[tenant_id]) if tenant_id in locked else 0
        for tenant_id, limit in limited.items()
    }


def _claims_alone(tenant_id: UUID) -> bool:
    """Whether nobody else claims runs of this tenant until the transaction ends (SQLite: nobody does anyway)."""
    if connection.vendor != "postgresql":
        return True
    digest = hashlib.sha256(f"claims {tenant_id}".encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int.from_bytes(digest[:8], "big", signed=True)])
        [locked] = cursor.fetchone()
    return bool(locked)


def _tenants_with_work(queue: str) -> list[UUID]:
    """Tenants with runs in a queue, a look-up in its index for each, however many runs they have.

    Of very many, any ``TENANTS_AT_ONCE``: the others' turn comes.
    """
    table = connection.ops.quote_name(Run._meta.db_table)
    first = f"SELECT tenant_id FROM {table} WHERE state = 'queued' AND queue = %s"  # noqa: S608 - a name of ours
    sql = f"""
        WITH RECURSIVE found(tenant_id) AS (
            SELECT ({first} ORDER BY tenant_id LIMIT 1)
            UNION ALL
            SELECT ({first} AND tenant_id > found.tenant_id ORDER BY tenant_id LIMIT 1)
            FROM found WHERE found.tenant_id IS NOT NULL
        )
        SELECT tenant_id FROM found WHERE tenant_id IS NOT NULL
    """  # noqa: S608 - names of ours and placeholders
    with prepared() as cursor:
        cursor.execute(sql, [queue, queue])
        tenants = [row[0] if isinstance(row[0], UUID) else UUID(row[0]) for row in cursor.fetchall()]
    return tenants if len(tenants) <= TENANTS_AT_ONCE else random.sample(tenants, TENANTS_AT_ONCE)


def _take(runs: QuerySet[Run], limit: int) -> list[UUID]:
    """Lock up to ``limit`` rows, passing over those that others are claiming (SQLite: claims take turns instead)."""
    if limit <= 0:
        return []
    locked = runs.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked, no_key=True)
    return list(locked.values_list("pk", flat=True)[:limit])


def _lost() -> Q:
    """Runs whose executor stopped renewing its lease."""
    return Q(state=RunState.RUNNING.value, lease_until__lt=Now())


def _suspect() -> Q:
    """Runs that may be why executors were lost with them."""
    return Q(losses=SUSPECT_LOSSES)


def _due() -> Q:
    """Waiting runs whose time has come."""
    return Q(state=RunState.WAITING.value, wake_at__lte=Now())


def unclaimed_queues() -> set[str]:
    """The queues with runs that somebody should claim now. A few look-ups in indexes, however many runs wait."""
    runs = Run.objects.across_tenants()
    found = _queues_with_work()
    for those, order in ((_lost(), "lease_until"), (_due(), "wake_at")):
        found.update(runs.filter(those).order_by(order).values_list("queue", flat=True)[:LOOKED_AT])
    return found


def _queues_with_work() -> set[str]:
    found: set[str] = set()
    after = Run.objects.across_tenants().filter(state=RunState.QUEUED.value)
    queue = after.order_by("queue").values_list("queue", flat=True).first()
    while queue is not None:
        found.add(queue)
        queue = after.filter(queue__gt=queue).order_by("queue").values_list("queue", flat=True).first()
    return found


@retried
def renew(owner: str, run_ids: Iterable[UUID]) -> set[UUID]:
    """Extend the leases that ``owner`` still holds, in one statement, and return which those are."""
    with transaction.atomic():
        kept = _lock_held(owner, run_ids)
        Run.objects.across_tenants().filter(pk__in=kept).update(lease_until=_lease_end())
    return kept


@retried
def release(owner: str, run_ids: Iterable[UUID]) -> set[UUID]:
    """Hand runs back unfinished: they are queued again at once. Returns those that ``owner`` still held."""
    with transaction.atomic():
        held = _lock_held(owner, run_ids)
        # A new epoch fences whatever the old owner still has on its way.
        runs = Run.objects.across_tenants().filter(pk__in=held)
        runs.update(state=RunState.QUEUED.value, owner="", lease_until=None, epoch=F("epoch") + 1)
    return held


def absolve(run_ids: Collection[UUID]) -> None:
    """Take a loss back from runs that others took over while their executor was cut off or frozen: it lives."""
    lost = Run.objects.across_tenants().filter(pk__in=run_ids, losses__gt=0, finished_at=None)
    lost.update(losses=F("losses") - 1)


def _lock_held(owner: str, run_ids: Iterable[UUID]) -> set[UUID]:
    """Which of the runs ``owner`` holds, locked in the order that writers keep, too: so no two wait for each other."""
    held = Run.objects.across_tenants().filter(pk__in=list(run_ids), owner=owner, state=RunState.RUNNING.value)
    return set(held.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))


def _family(run_id: UUID) -> set[UUID]:
    """A run and all below it."""
    family, generation = {run_id}, {run_id}
    while generation:
        children = Run.objects.across_tenants().filter(parent__in=generation)
        generation = set(children.values_list("pk", flat=True)) - family
        family |= generation
    return family


def _lease_end() -> Any:
    return Now() + timedelta(seconds=settings.PYFLOW_LEASE_SECONDS)


def claim_of(run: Run) -> Claim:
    """What an executor needs to know of a run, with its version, workflow and tenant."""
    names = run.tenant.slug, run.workflow.name, run.version.number, run.version.checksum
    return _claim(vars(run), names, run.version.definition)


def _claim(run: Mapping[str, Any], names: tuple[str, str, int, str], definition: str) -> Claim:
    tenant_slug, workflow_name, version_number, checksum = names
    begun_at, deadline = run["started_at"], run["queue_deadline"]
    return Claim(
        run_id=run["id"],
        tenant_id=run["tenant_id"],
        tenant_slug=tenant_slug,
        workflow_name=workflow_name,
        version_number=version_number,
        checksum=checksum,
        definition=definition,
        input=run["input"],
        input_ref=Reference.of(run["input_ref"]),
        epoch=run["epoch"],
        parent_id=run["parent_id"],
        lineage=tuple(run["lineage"]),
        secrets_used=tuple(run["secrets_used"]),
        log_lines=run["log_lines"],
        log_characters=run["log_characters"],
        is_new=run["event_seq"] == 1 and run["claims"] == 1,
        cancel_requested=run["cancel_requested_at"] is not None,
        pause_requested=run["pause_requested_at"] is not None,
        begun_at=None if begun_at is None else begun_at.timestamp(),
        losses=run["losses"],
        queue=run["queue"],
        priority=run["priority"],
        too_late=begun_at is None and deadline is not None and deadline < timezone.now(),
    )
