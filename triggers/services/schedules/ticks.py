"""The work of the scheduler: fires slots that are due, follows the runs that they started, starts what waited for them.

Schedules of a tenant are worked at together, in a transaction that locks their rows and their workflows' and skips what
is locked: two schedulers never look at the same one, and none waits for the publication of a version. If the work of
several fails, each gets a transaction of its own, so that only the one whose fault it is fails. Nothing is in memory
from one tick to the next.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from plumbing.database.statements import update_rows
from plumbing.database.transactions import is_passing
from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from pyflow.triggers.schedule_config import Overlap
from pyflow.triggers.timetable import DuePlan, Missed, plan_due
from tenants import audit
from triggers.models.schedules import FireCause, FireState, Schedule, ScheduleFire
from triggers.services.schedules.fires import Slots, fire_slots
from triggers.services.schedules.rows import invalidate, wait_from, zone_rules
from triggers.services.schedules.starting import acting, pause_after_failures, start_fires

logger = logging.getLogger(__name__)
#: Schedules that are looked up at a time: at most so many are locked together.
BATCH = 200
#: Slots of one schedule that one transaction fires or starts.
MOST_FIRES = 50
#: Slots of all its schedules that one transaction fires, or whose ends it notes, at most.
MOST_AT_ONCE = 500
_TERMINAL = [state.value for state in TERMINAL_RUN_STATES]
_FAILED = frozenset({RunState.FAILED.value, RunState.TIMED_OUT.value})


@dataclass(slots=True)
class Ticked:
    """Counts of one tick: schedules whose due slots were decided about, whose runs ended, and whose buffer moved."""

    due: int = 0
    settled: int = 0
    released: int = 0


def tick(now: datetime | None = None) -> Ticked:
    """Do all that is due at ``now``."""
    now = now or timezone.now()
    # In this order: an ended run makes room for what waits, and that comes before later slots.
    settled, released = follow_runs(now)
    return Ticked(fire_due(now), settled, released)


def follow_runs(now: datetime | None = None) -> tuple[int, int]:
    """Note how runs have ended, and start slots that waited for that; of how many schedules each."""
    now = now or timezone.now()
    settled = _in_groups(_by_id(_with_ended_runs()), partial(_settle, now))
    return settled, _in_groups(_by_id(_with_free_buffer()), partial(_release, now))


def fire_due(now: datetime | None = None) -> int:
    """Decide about all slots that are due; of how many schedules."""
    now = now or timezone.now()
    return _in_groups(_due(now), partial(_fire_due, now), _record_crash)


def next_due() -> datetime | None:
    """Return the moment at which the next slot of any schedule fires."""
    rows = Schedule.objects.across_tenants().filter(due_at__isnull=False, tenant__suspended_at__isnull=True)
    return rows.order_by("due_at", "pk").values_list("due_at", flat=True).first()


def refresh_zone_rules(now: datetime | None = None) -> int:
    """Compute the next slots anew that other rules of time zones gave, as after an update of tzdata; how many.

    A slot that is due already stays.
    """
    now = now or timezone.now()
    rows = Schedule.objects.across_tenants().filter(due_at__gt=now).exclude(zone_rules__in=("", zone_rules()))
    return _in_groups(_by_id(rows), partial(_recompute, now))


def _recompute(now: datetime, tenant_id: UUID, pks: Sequence[UUID]) -> list[UUID]:
    with transaction.atomic():
        rows = [row for row in _lock(tenant_id, pks) if row.next_at is not None and row.next_at > now]
        for row in rows:
            wait_from(row, now)
        _save(rows)
    return []


#: Does the work of schedules of a tenant, in a transaction; returns those for which there is more to do.
_Work = Callable[[UUID, Sequence[UUID]], list[UUID]]
_Crashed = Callable[[UUID, UUID, Exception], None]


def _in_groups(batches: Iterable[Sequence[tuple[UUID, UUID]]], work: _Work, crashed: _Crashed | None = None) -> int:
    """Do the work of all schedules in batches of tenants and ids, a tenant's together; how many there were."""
    count = 0
    for batch in batches:
        groups: dict[UUID, list[UUID]] = {}
        for tenant_id, pk in batch:
            groups.setdefault(tenant_id, []).append(pk)
        for tenant_id, pks in groups.items():
            _do(tenant_id, pks, work, crashed)
        count += len(batch)
    return count


def _do(tenant_id: UUID, pks: Sequence[UUID], work: _Work, crashed: _Crashed | None) -> None:
    """Do the work of schedules until there is no more; a failure of one keeps no other from its turn."""
    try:
        while pks:
            pks = work(tenant_id, pks)
    except Exception as error:
        if is_passing(error):  # rolled back as a whole: the next tick does it again
            logger.warning("schedules %s are left to the next tick: %s", ", ".join(map(str, pks)), error)
        elif isinstance(error, OperationalError | InterfaceError):  # no schedule's fault: the database's
            raise
        elif len(pks) > 1:
            for pk in pks:
                _do(tenant_id, [pk], work, crashed)
        else:
            [pk] = pks
            logger.exception("schedule %s failed", pk)
            if crashed is not None:
                crashed(tenant_id, pk, error)


def _by_id(rows: QuerySet[Schedule]) -> Iterator[list[tuple[UUID, UUID]]]:
    """Yield the tenants and ids of schedules in batches, each once."""
    ordered = rows.order_by("pk").values_list("tenant", "pk")
    batch = list(ordered[:BATCH])
    while batch:
        yield batch
        batch = list(ordered.filter(pk__gt=batch[-1][1])[:BATCH])


def _due(now: datetime) -> Iterator[list[tuple[UUID, UUID]]]:
    """Yield the tenants and ids of due schedules in batches, the longest due first."""
    rows = Schedule.objects.across_tenants().filter(due_at__lte=now, tenant__suspended_at__isnull=True)
    ordered, after = rows.order_by("due_at", "pk").values_list("due_at", "pk", "tenant"), Q()
    while batch := list(ordered.filter(after)[:BATCH]):
        yield [(tenant_id, pk) for _, pk, tenant_id in batch]
        due_at, pk, _ = batch[-1]
        after = Q(due_at__gt=due_at) | Q(due_at=due_at, pk__gt=pk)


def _lock(tenant_id: UUID, pks: Sequence[UUID]) -> list[Schedule]:
    """Lock schedules with their workflows, without those of which another transaction has locked one or the other."""
    skip = connection.features.has_select_for_update_skip_locked
    rows = Schedule.objects.for_tenant(tenant_id).select_related("workflow").filter(pk__in=pks).order_by("pk")
    return list(rows.select_for_update(of=("self", "workflow"), skip_locked=skip, no_key=True))


def _save(schedules: Sequence[Schedule]) -> None:
    """Save locked schedules: what a fire changes in one statement, what else has changed of those that were paused."""
    update_rows(schedules, ("next_at", "due_at", "zone_rules", "failures"))
    for schedule in schedules:
        if schedule.paused_at is not None:
            schedule.save()


# --- slots that are due ------------------------------------------------------------------------------------------


def _fire_due(now: datetime, tenant_id: UUID, pks: Sequence[UUID]) -> list[UUID]:
    """Decide about due slots of schedules; which of them have more."""
    with transaction.atomic():
        due: list[Slots] = []
        missed: list[tuple[Schedule, Missed]] = []
        room = MOST_AT_ONCE
        schedules = [schedule for schedule in _lock(tenant_id, pks) if _is_due(schedule, now)]
        for number, schedule in enumerate(schedules):
            if room <= 0:
                schedules, rest = schedules[:number], schedules[number:]
                break
            if (plan := _plan(schedule, now)) is None:
                continue
            fires = [(slot, FireCause.CATCH_UP) for slot in plan.late]
            fires += [(slot, FireCause.SCHEDULE) for slot in plan.on_time]
            schedule.wait_for(plan.next if len(fires) <= MOST_FIRES else fires[MOST_FIRES][0], zone_rules())
            due.append(Slots(schedule, fires[:MOST_FIRES]))
            missed.append((schedule, plan.missed))
            room -= len(fires[:MOST_FIRES])
        else:
            rest = []
        fire_slots(tenant_id, due, now=now)
        for each in due:
            pause_after_failures(each.schedule, now)
        _save(schedules)
        for schedule, slots in missed:
            _record_missed(schedule, slots, now)
        return [schedule.pk for schedule in (*schedules, *rest) if _is_due(schedule, now)]


def _plan(schedule: Schedule, now: datetime) -> DuePlan | None:
    """Return the plan for the due slots of a schedule; a config that cannot be used pauses it instead."""
    assert schedule.next_at is not None  # noqa: S101 - it is due
    try:
        config, timetable = schedule.read_config(), schedule.timetable()
    except ValueError as error:
        invalidate(schedule, error)
        schedule.touch()
        return None
    rule = config.catch_up_rule()
    return plan_due(timetable, schedule.next_at, now, rule, schedule=schedule.pk, jitter=config.jitter)


def _is_due(schedule: Schedule, now: datetime) -> bool:
    """Return whether a slot of a schedule fires now."""
    return schedule.due_at is not None and schedule.due_at <= now


def _record_missed(schedule: Schedule, missed: Missed, now: datetime) -> None:
    if missed.first is None or missed.last is None:
        return
    fire = ScheduleFire(
        tenant_id=schedule.tenant_id,
        schedule=schedule,
        scheduled_for=missed.first,
        until=missed.last,
        count=missed.count,
        cause=FireCause.SCHEDULE,
        fired_at=now,
    )
    fire.has_no_run(FireState.MISSED, "late", "No scheduler worked when it was due, and the rules did not catch it up.")
    ScheduleFire.objects.bulk_create([fire], ignore_conflicts=True)
    after = {"count": missed.count, "first": missed.first.isoformat(), "last": missed.last.isoformat()}
    audit.record(by=acting(schedule), action="schedule.missed", target=f"schedule:{schedule.pk}", after=after)


def _record_crash(tenant_id: UUID, pk: UUID, error: Exception) -> None:
    """Record the slot whose decision failed because of a mistake of ours, and go on with the next one."""
    now = timezone.now()
    try:
        with transaction.atomic():
            schedule = next(iter(_lock(tenant_id, [pk])), None)
            if schedule is None or schedule.next_at is None:
                return
            slot = schedule.next_at
            fire = ScheduleFire(
                tenant_id=schedule.tenant_id,
                schedule=schedule,
                scheduled_for=slot,
                cause=FireCause.SCHEDULE,
                fired_at=now,
            )
            fire.has_no_run(FireState.FAILED, "internal_error", f"The scheduler failed: {type(error).__name__}.")
            ScheduleFire.objects.bulk_create([fire], ignore_conflicts=True)
            schedule.failures += 1
            schedule.wait_for(schedule.timetable().next_after(slot), zone_rules())
            pause_after_failures(schedule, now)
            schedule.save()
    except Exception:
        logger.exception("schedule %s failed again", pk)


# --- runs that ended, and slots that waited for that -------------------------------------------------------------

_OVER = Q(run__state__in=_TERMINAL) | Q(run__state__isnull=True)


def _with_ended_runs() -> QuerySet[Schedule]:
    ended = ScheduleFire.objects.across_tenants().filter(_OVER, state=FireState.STARTED)
    return Schedule.objects.across_tenants().filter(pk__in=ended.values("schedule"))


def _settle(now: datetime, tenant_id: UUID, pks: Sequence[UUID]) -> list[UUID]:
    """Note how runs of schedules have ended, in the order of their slots, and count failures in a row."""
    with transaction.atomic():
        schedules = {schedule.pk: schedule for schedule in _lock(tenant_id, pks)}
        before = {schedule.pk: schedule.failures for schedule in schedules.values()}
        rows = ScheduleFire.objects.for_tenant(tenant_id)
        over = rows.filter(_OVER, schedule__in=schedules, state=FireState.STARTED).order_by("schedule", "scheduled_for")
        ended: dict[str, list[UUID]] = {}
        found = list(over.values_list("schedule", "pk", "run__state")[:MOST_AT_ONCE])
        for schedule_id, pk, run_state in found:
            ended.setdefault(run_state or "", []).append(pk)
            _count(schedules[schedule_id], run_state or "")
        for run_state, fires in ended.items():
            rows.filter(pk__in=fires).update(state=FireState.ENDED, run_state=run_state)
        changed = [schedule for schedule in schedules.values() if schedule.failures != before[schedule.pk]]
        for schedule in changed:
            if pause_after_failures(schedule, now):
                schedule.touch()
        _save(changed)
        return list(schedules) if len(found) == MOST_AT_ONCE else []


def _count(schedule: Schedule, run_state: str) -> None:
    if run_state in _FAILED:
        schedule.failures += 1
    elif run_state == RunState.SUCCEEDED:
        schedule.failures = 0


def _with_free_buffer() -> QuerySet[Schedule]:
    """Return the schedules that have slots that wait, and no active run."""
    of_this = ScheduleFire.objects.across_tenants().filter(schedule=OuterRef("schedule"), state=FireState.STARTED)
    waiting = ScheduleFire.objects.across_tenants().filter(_IN_TURN, ~Exists(of_this), state=FireState.BUFFERED)
    return Schedule.objects.across_tenants().filter(
        pk__in=waiting.values("schedule"), declared=True, tenant__suspended_at__isnull=True
    )


#: A pause keeps waiting slots back, but not what somebody has asked for.
_IN_TURN = Q(schedule__paused_at__isnull=True) | Q(cause__in=(FireCause.MANUAL, FireCause.BACKFILL))


def _release(now: datetime, tenant_id: UUID, pks: Sequence[UUID]) -> list[UUID]:
    """Start the slots that have waited longest, one of each schedule or, with ``allow_all``, many.

    Returns the schedules that have more to start at once.
    """
    with transaction.atomic():
        schedules = {schedule.pk: schedule for schedule in _lock(tenant_id, pks) if schedule.declared}
        at_once = {pk for pk, row in schedules.items() if row.read_config().overlap is Overlap.ALLOW_ALL}
        rows = ScheduleFire.objects.for_tenant(tenant_id)
        alone = schedules.keys() - at_once
        busy = set(rows.filter(schedule__in=alone, state=FireState.STARTED).values_list("schedule", flat=True))
        waiting = rows.filter(_IN_TURN, state=FireState.BUFFERED).order_by("scheduled_for")
        first = waiting.filter(schedule=OuterRef("schedule")).values("pk")[:1]
        fires = list(rows.filter(pk=Subquery(first), schedule__in=alone - busy))
        for pk in at_once:
            fires += waiting.filter(schedule=pk)[:MOST_FIRES]
        start_fires(tenant_id, [(schedules[fire.schedule_id], fire) for fire in fires], now=now)
        update_rows(fires, ("state", "reason", "message", "run", "fired_at"))
        for schedule in schedules.values():
            if pause_after_failures(schedule, now):
                schedule.touch()
        _save(list(schedules.values()))
        counts = Counter(fire.schedule_id for fire in fires)
        # A slot that could not be started leaves its place to the next one.
        more = {fire.schedule_id for fire in fires if fire.state == FireState.FAILED}
        return [pk for pk in schedules if pk in more or (pk in at_once and counts[pk] == MOST_FIRES)]
