"""The work of the scheduler: fires slots that are due, follows the runs that they started, starts what waited for them.

Every schedule is a transaction of its own, which locks its row and its workflow's and skips what is locked: two
schedulers never look at the same one, and none waits for the publication of a version. Nothing is in memory from one
tick to the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from plumbing.database.transactions import is_passing
from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from pyflow.triggers.schedule_config import CatchUp, Overlap, ScheduleConfig
from pyflow.triggers.timetable import CatchUpRule, Missed, plan_due
from tenants import audit
from triggers.models.schedules import FireCause, FireState, Schedule, ScheduleFire
from triggers.services.schedules.fires import acting, fire_slot, fires_of, pause_after_failures, start
from triggers.services.schedules.rows import invalidate, wait_from, zone_rules

logger = logging.getLogger(__name__)
#: Schedules that are looked up at a time.
BATCH = 200
#: Slots of one schedule that one transaction fires or starts.
MOST_FIRES = 50
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
    settled = _each(_ids(_with_ended_runs()), lambda pk: _settle(pk, now))
    return settled, _each(_ids(_with_free_buffer()), lambda pk: _release(pk, now))


def fire_due(now: datetime | None = None) -> int:
    """Decide about all slots that are due; of how many schedules."""
    now = now or timezone.now()
    return _each(_due_ids(now), lambda pk: _fire_due(pk, now), _record_crash)


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
    return _each(_ids(rows), lambda pk: _recompute(pk, now))


def _recompute(pk: UUID, now: datetime) -> bool:
    with transaction.atomic():
        row = _lock(pk)
        if row is not None and row.next_at is not None and row.next_at > now:
            wait_from(row, now)
            row.save()
    return False


def _each(
    ids: Iterable[UUID], work: Callable[[UUID], bool], crashed: Callable[[UUID, Exception], None] | None = None
) -> int:
    """Do the work of each schedule while it says that there is more; a failure of one keeps no other from its turn."""
    count = 0
    for pk in ids:
        count += 1
        try:
            while work(pk):
                pass
        except Exception as error:
            if is_passing(error):  # rolled back as a whole: the next tick does it again
                logger.warning("schedule %s is left to the next tick: %s", pk, error)
                continue
            if isinstance(error, OperationalError | InterfaceError):  # no schedule's fault: the database's
                raise
            logger.exception("schedule %s failed", pk)
            if crashed is not None:
                crashed(pk, error)
    return count


def _ids(rows: QuerySet[Schedule]) -> Iterator[UUID]:
    """Yield the ids of schedules in batches, each once."""
    batch = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
    while batch:
        yield from batch
        batch = list(rows.filter(pk__gt=batch[-1]).order_by("pk").values_list("pk", flat=True)[:BATCH])


def _due_ids(now: datetime) -> Iterator[UUID]:
    """Yield the ids of due schedules in batches, the longest due first."""
    rows = Schedule.objects.across_tenants().filter(due_at__lte=now, tenant__suspended_at__isnull=True)
    after = Q()
    while batch := list(rows.filter(after).order_by("due_at", "pk").values_list("due_at", "pk")[:BATCH]):
        yield from (pk for _, pk in batch)
        due_at, pk = batch[-1]
        after = Q(due_at__gt=due_at) | Q(due_at=due_at, pk__gt=pk)


def _lock(pk: UUID) -> Schedule | None:
    """Lock a schedule with its workflow; ``None`` if another transaction has one of them, or it is gone."""
    skip = connection.features.has_select_for_update_skip_locked
    rows = Schedule.objects.across_tenants().select_related("workflow").filter(pk=pk)
    return rows.select_for_update(of=_OF, skip_locked=skip, no_key=True).first()


_OF = ("self", "workflow")


# --- slots that are due ------------------------------------------------------------------------------------------


def _fire_due(pk: UUID, now: datetime) -> bool:
    """Decide about the due slots of a schedule; whether there are more of them."""
    with transaction.atomic():
        schedule = _lock(pk)
        if schedule is None or schedule.next_at is None or not _is_due(schedule, now):
            return False
        try:
            config, timetable = schedule.read_config(), schedule.timetable()
        except ValueError as error:
            invalidate(schedule, error)
            schedule.touch()
            schedule.save()
            return False
        rule = _rule(config)
        plan = plan_due(timetable, schedule.next_at, now, rule, schedule=schedule.pk, jitter=config.jitter)
        fires = [(slot, FireCause.CATCH_UP) for slot in plan.late] + [
            (slot, FireCause.SCHEDULE) for slot in plan.on_time
        ]
        following = plan.next if len(fires) <= MOST_FIRES else fires[MOST_FIRES][0]
        for slot, cause in fires[:MOST_FIRES]:
            fire_slot(schedule, slot, now=now, cause=cause)
        schedule.wait_for(following, zone_rules())
        pause_after_failures(schedule, now)
        schedule.save()
        _record_missed(schedule, plan.missed, now)
        return _is_due(schedule, now)


def _is_due(schedule: Schedule, now: datetime) -> bool:
    """Return whether a slot of a schedule fires now."""
    return schedule.due_at is not None and schedule.due_at <= now


def _rule(config: ScheduleConfig) -> CatchUpRule:
    most = {CatchUp.NONE: 0, CatchUp.LAST: 1, CatchUp.ALL: config.max_catch_up}[config.catch_up]
    return CatchUpRule(most, timedelta(seconds=config.catch_up_window), instead=config.catch_up is CatchUp.LAST)


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


def _record_crash(pk: UUID, error: Exception) -> None:
    """Record the slot whose decision failed because of a mistake of ours, and go on with the next one."""
    now = timezone.now()
    try:
        with transaction.atomic():
            schedule = _lock(pk)
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

#: Of a run, and of the row of its slot: inputs and outputs of runs may be large.
_SETTLED = ("tenant", "schedule", "scheduled_for", "state", "run_state", "run__state")
_OVER = Q(run__state__in=_TERMINAL) | Q(run__state__isnull=True)


def _with_ended_runs() -> QuerySet[Schedule]:
    ended = ScheduleFire.objects.across_tenants().filter(_OVER, state=FireState.STARTED)
    return Schedule.objects.across_tenants().filter(pk__in=ended.values("schedule"))


def _settle(pk: UUID, now: datetime) -> bool:
    """Note how runs of a schedule have ended, in the order of their slots, and count failures in a row."""
    with transaction.atomic():
        schedule = _lock(pk)
        if schedule is None:
            return False
        rows = fires_of(schedule).filter(_OVER, state=FireState.STARTED).order_by("scheduled_for")
        fires = list(rows.select_related("run").only(*_SETTLED)[:MOST_FIRES])
        for fire in fires:
            fire.state = FireState.ENDED
            fire.run_state = "" if fire.run is None else fire.run.state
            _count(schedule, fire.run_state)
        ScheduleFire.objects.for_tenant(schedule.tenant_id).bulk_update(fires, ["state", "run_state"])
        if pause_after_failures(schedule, now):
            schedule.touch()
        schedule.save()
        return len(fires) == MOST_FIRES


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


def _release(pk: UUID, now: datetime) -> bool:
    """Start the slot that has waited longest; with ``allow_all`` many, and return whether there are more."""
    with transaction.atomic():
        schedule = _lock(pk)
        if schedule is None or not schedule.declared:
            return False
        at_once = schedule.read_config().overlap is Overlap.ALLOW_ALL
        if not at_once and fires_of(schedule).filter(state=FireState.STARTED).exists():
            return False
        waiting = fires_of(schedule).filter(_IN_TURN, state=FireState.BUFFERED).order_by("scheduled_for")
        fires = list(waiting[: MOST_FIRES if at_once else 1])
        for fire in fires:
            start(schedule, fire, now=now)
            fire.save()
        if pause_after_failures(schedule, now):
            schedule.touch()
        schedule.save()
        # A slot that could not be started leaves its place to the next one.
        return (at_once and len(fires) == MOST_FIRES) or any(fire.state == FireState.FAILED for fire in fires)
