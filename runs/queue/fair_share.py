"""Orders queued runs fairly between tenants. The only place that decides what a claim takes, and in which order.

Tenants take turns, those first of whom the fewest runs are executed now; each queue of a tenant takes part by itself.
Within one the most urgent run comes first, and of those the oldest: a run of low priority is started when none of a
higher one is queued, however long that takes. A tenant has no more runs executed at a time than its quota allows; the
others stay queued. A run that cannot be parked while it waits for child runs shares its place with one of them at a
time, or with a quota of one neither would ever go on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import Count, Q

from plumbing.database import locks
from plumbing.database.dialect import is_postgresql
from plumbing.database.statements import prepared
from pyflow.core.states import RunState
from runs.models import POISON_LOSSES, Run
from tenants.plans import Quota
from tenants.quotas import limit_of

#: A claim looks at the queues of so many tenants.
TENANTS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Share:
    """The runs to claim, which are locked, in their order."""

    run_ids: list[UUID]
    is_contended: bool = False
    """``True`` if runs of a limited tenant were left out because another executor was claiming them."""


def fair_share(limit: int, queues: Collection[str] | None, active: Collection[UUID], *, poison_runs: bool) -> Share:
    """Lock the next queued runs of all tenants, none of them twice. In a transaction.

    ``queues``: whose runs; ``None``: of all. ``active``: left out. ``poison_runs``: only those of a `quarantine`,
    otherwise only others.
    """
    served = queues_with_work() if queues is None else queues
    waiting = [(queue, tenant_id) for queue in sorted(served) for tenant_id in _tenants_with_work(queue)]
    if not waiting:
        return Share([])
    tenants = {tenant_id for _, tenant_id in waiting}
    # With one tenant's queue there is no order, and without a limit nothing to count for.
    alone = len(waiting) == 1 and limit_of(waiting[0][1], Quota.CONCURRENT_RUNS) is None
    running = Counter[UUID]() if alone else _running(tenants)
    room, contended = _room(tenants, running)
    ids = _next_in_places(sorted(room), served, limit, [*active], poison_runs=poison_runs)
    # Those that are equal in this must not always come in the same order.
    random.shuffle(waiting)
    waiting.sort(key=lambda pair: running[pair[1]])
    while waiting and len(ids) < limit:
        share, left = max(1, (limit - len(ids)) // len(waiting)), []
        for queue, tenant_id in waiting:
            wanted = min(share, limit - len(ids), room.get(tenant_id, limit))
            # What an earlier round took is still queued, and a transaction does not pass over its own locks.
            got = _next_of(tenant_id, queue, wanted, [*active, *ids], poison_runs=poison_runs) if wanted else []
            ids += got
            if tenant_id in room:
                room[tenant_id] -= len(got)
            if got and len(got) == wanted:
                left.append((queue, tenant_id))
        waiting = left
    return Share(ids, contended)


def oldest_of(run_ids: Collection[UUID], queues: Collection[str] | None, limit: int) -> list[UUID]:
    """Lock the next queued ones of these runs, whoever's they are: the most urgent, and of those the oldest."""
    runs = Run.objects.across_tenants().filter(pk__in=run_ids, state=RunState.QUEUED.value)
    if queues is not None:
        runs = runs.filter(queue__in=queues)
    locked = runs.select_for_update(no_key=True, skip_locked=connection.features.has_select_for_update_skip_locked)
    return list(locked.order_by("-priority", "created_at").values_list("pk", flat=True)[:limit])


def queues_with_work() -> set[str]:
    """The queues with queued runs: a look-up in an index for each."""
    found: set[str] = set()
    after = Run.objects.across_tenants().filter(state=RunState.QUEUED.value)
    queue = after.order_by("queue").values_list("queue", flat=True).first()
    while queue is not None:
        found.add(queue)
        queue = after.filter(queue__gt=queue).order_by("queue").values_list("queue", flat=True).first()
    return found


def queues_with_room(tenants: Collection[UUID]) -> set[str]:
    """The queues with queued runs of those of the tenants that have a limit and are below it."""
    limits = {tenant_id: limit_of(tenant_id, Quota.CONCURRENT_RUNS) for tenant_id in tenants}
    limited = {tenant_id: limit for tenant_id, limit in limits.items() if limit is not None}
    running = places_taken(limited) if limited else Counter[UUID]()
    below = [tenant_id for tenant_id, limit in limited.items() if running[tenant_id] < limit]
    if not below:
        return set()
    queued = Run.objects.across_tenants().filter(state=RunState.QUEUED.value, tenant__in=below)
    return {queue for queue in queues_with_work() if queued.filter(queue=queue).exists()}


def _next_of(tenant_id: UUID, queue: str, limit: int, taken: Collection[UUID], *, poison_runs: bool) -> list[UUID]:
    """Lock the next runs of a tenant's queue other than ``taken``; every claim asks this."""
    if is_postgresql():
        with prepared() as cursor:
            cursor.execute(
                _NEXT_POISON_RUNS if poison_runs else _NEXT, [queue, tenant_id, queue, tenant_id, list(taken), limit]
            )
            return [run_id for (run_id,) in cursor.fetchall()]
    runs = Run.objects.for_tenant(tenant_id).filter(queue=queue, state=RunState.QUEUED.value).exclude(pk__in=taken)
    runs = runs.filter(losses=POISON_LOSSES) if poison_runs else runs.exclude(losses=POISON_LOSSES)
    return list(runs.order_by("-priority", "created_at").values_list("pk", flat=True)[:limit])


# A comparison of rows, which only the index `run_queue` answers: PostgreSQL takes an index of all the tenant's runs for
# as good if it has not counted since they came, and would read and sort them.
_NEXT = f"""
    SELECT id FROM {Run._meta.db_table}
    WHERE state = '{RunState.QUEUED.value}' AND (queue, tenant_id) BETWEEN (%s, %s) AND (%s, %s)
        AND losses <> {POISON_LOSSES} AND id <> ALL(%s)
    ORDER BY queue, tenant_id, priority DESC, created_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""  # noqa: S608 - names and constants of ours
_NEXT_POISON_RUNS = _NEXT.replace("losses <>", "losses =")


def _running(tenants: Collection[UUID]) -> Counter[UUID]:
    rows = Run.objects.across_tenants().filter(state=RunState.RUNNING.value, tenant__in=tenants).order_by()
    return Counter(dict(rows.values_list("tenant").annotate(Count("pk"))))


#: Child runs that a parent waits for without being parked: it keeps its place, which they may have instead.
IN_PLACE = Q(called_by__in_place=True)


def places_taken(tenants: Collection[UUID]) -> Counter[UUID]:
    """Count the executing runs of each tenant, without parents that share their places with such a child run."""
    taken = _running(tenants)
    children = Run.objects.across_tenants().filter(IN_PLACE, state=RunState.RUNNING.value, tenant__in=tenants)
    parents = children.filter(parent__state=RunState.RUNNING.value).order_by().values_list("tenant")
    taken.subtract(dict(parents.annotate(Count("parent", distinct=True))))
    return taken


def _next_in_places(
    tenants: Collection[UUID], queues: Collection[str], limit: int, taken: Collection[UUID], *, poison_runs: bool
) -> list[UUID]:
    """Lock the next child run of each parent whose place no other one has, of tenants with a limit."""
    if not tenants:
        return []
    runs = Run.objects.across_tenants().filter(IN_PLACE, parent__state=RunState.RUNNING.value, tenant__in=tenants)
    having = runs.filter(state=RunState.RUNNING.value).values("parent")
    runs = runs.filter(state=RunState.QUEUED.value, queue__in=queues).exclude(parent__in=having).exclude(pk__in=taken)
    runs = runs.filter(losses=POISON_LOSSES) if poison_runs else runs.exclude(losses=POISON_LOSSES)
    skip = connection.features.has_select_for_update_skip_locked
    locked = runs.select_for_update(of=("self",) if skip else (), no_key=True, skip_locked=skip)
    first: dict[UUID, UUID] = {}
    for run_id, parent_id in locked.order_by("-priority", "created_at").values_list("pk", "parent_id")[:limit]:
        first.setdefault(parent_id, run_id)
    return list(first.values())


def _room(tenants: Collection[UUID], running: Counter[UUID]) -> tuple[dict[UUID, int], bool]:
    """Return how many more runs of each limited tenant may execute, and whether any tenant was left out.

    Claims for such a tenant come one at a time, or two could take the same last place: whoever comes second leaves its
    runs out and looks again soon.
    """
    limits = {tenant_id: limit_of(tenant_id, Quota.CONCURRENT_RUNS) for tenant_id in sorted(tenants)}
    limited = {tenant_id: limit for tenant_id, limit in limits.items() if limit is not None}
    locked = {tenant_id for tenant_id in limited if _claims_alone(tenant_id)}
    counted = places_taken(locked) if locked else running  # anew, now that nobody else adds to them
    room = {
        tenant_id: max(0, limit - counted[tenant_id]) if tenant_id in locked else 0
        for tenant_id, limit in limited.items()
    }
    return room, len(locked) < len(limited)


def _claims_alone(tenant_id: UUID) -> bool:
    """Return whether this transaction alone claims runs of the tenant until it ends (SQLite: always)."""
    return locks.try_lock(f"claims {tenant_id}")


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
