"""Quotas of tenants: limits, counters, and checks before something is used.

What is counted in a counter is taken by one conditional statement in the transaction of what it is taken for: no two
requests take the same last piece, and what is rolled back has taken nothing. A counter is locked until that transaction
ends: take from it before writing to the audit, as everybody does, or two transactions may wait for each other. What has
no limit is counted in shards, one for each of a few threads, so that an unlimited tenant's requests do not queue up.
Processes learn of a new limit at different times, so that some count in shards what others count in one row: a counter
is the sum of its rows, wherever each change was counted, and a limit is compared with that sum. Whoever must not wait
for a tenant counts in shards apart (``count_apart``), which nobody holds for longer than a commit takes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import Substr
from django.utils import timezone

from plumbing.database import locks
from pyflow.core.ids import new_uuid
from tenants import audit
from tenants.access import Actor
from tenants.errors import PlanError, QuotaExceededError, UpgradeNeededError
from tenants.models import Tenant, UsageCounter, access_changed
from tenants.plans import LEAST, MOST, Plan, Quota, better_plan, checked_overrides, effective

#: How long a process believes what a tenant's limits are; longer than it believes a credential, whose check reads
#: them anew. Seconds.
CACHE_SECONDS = 10.0
CACHE_SIZE = 10_000
#: How many rows share the count of what has no limit.
SHARDS = 16
#: How many more there are for those who wait for nobody.
SHARDS_APART = 4
#: The period of what is counted for good.
ALL_TIME = "all"


@dataclass(frozen=True, slots=True)
class Allowance:
    """A tenant's plan and what follows from it and from the tenant's own limits."""

    plan: Plan
    limits: Mapping[Quota, int | None]
    overridden: frozenset[Quota]


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of a quota; ``None`` where it limits one thing at a time, and nothing adds up."""

    quota: Quota
    used: int | None
    limit: int | None
    resets_at: datetime | None


_allowances: dict[UUID, tuple[float, Allowance]] = {}


def remember(tenant_id: UUID, plan: str, limits: Mapping[str, Any]) -> Allowance:
    """Keep what a tenant that was just read is allowed, for ``CACHE_SECONDS``."""
    allowance = Allowance(Plan(plan), effective(plan, limits), frozenset(Quota(name) for name in limits))
    if len(_allowances) >= CACHE_SIZE:
        _allowances.clear()
    _allowances[tenant_id] = (time.monotonic() + CACHE_SECONDS, allowance)
    return allowance


def allowance_of(tenant_id: UUID) -> Allowance:
    """Return a tenant's limits, at most ``CACHE_SECONDS`` old."""
    until, allowance = _allowances.get(tenant_id, (0.0, None))
    if allowance is not None and until > time.monotonic():
        return allowance
    plan, limits = Tenant.objects.values_list("plan", "limits").get(pk=tenant_id)
    return remember(tenant_id, plan, limits)


def limit_of(tenant_id: UUID, quota: Quota) -> int | None:
    """The limit of one quota; ``None`` is no limit."""
    return allowance_of(tenant_id).limits[quota]


def check(*, tenant_id: UUID, quota: Quota, wanted: int) -> None:
    """Check that one thing may be as large as ``wanted`` (schedules: as frequent). Raises ``QuotaExceededError``."""
    limit = limit_of(tenant_id, quota)
    if limit is not None and (wanted < limit if quota in LEAST else wanted > limit):
        raise _exceeded(tenant_id, quota, limit, wanted, "requested")


def check_room(*, tenant_id: UUID, quota: Quota, count: Callable[[], int]) -> None:
    """Check that there is room for one more than ``count`` finds. Raises ``QuotaExceededError``.

    Until the current transaction ends nobody else adds one: creators of the same tenant come one at a time.
    """
    limit = limit_of(tenant_id, quota)
    if limit is None:
        return
    _lock(tenant_id, quota)
    there_are = count()
    if there_are >= limit:
        raise _exceeded(tenant_id, quota, limit, there_are)


class Consumption:
    """Amounts to take from counted quotas, from all or from none, by one ``statement``.

    It may be the last part of a larger one; ``settle`` gets what it has returned. Amounts are positive; those of 0
    are left out. Raises ``QuotaExceededError`` for what no counter could grant.
    """

    def __init__(self, tenant_id: UUID, amounts: Mapping[Quota, int]) -> None:
        self._tenant_id = tenant_id
        self._limits = allowance_of(tenant_id).limits
        self._wanted = {quota: amounts[quota] for quota in sorted(amounts) if amounts[quota]}
        for quota, amount in self._wanted.items():
            limit = self._limits[quota]
            if limit is not None and amount > limit:  # be there a counter or not
                raise exceeded(tenant_id=tenant_id, quota=quota)
        # What is given back goes where it was taken from, even if the day has ended meanwhile.
        self._periods = {quota: PERIODS[quota]() for quota in self._wanted}
        self.statement = ""
        self.parameters: Sequence[Any] = ()
        if self._wanted:
            self.statement, self.parameters = _taking(tenant_id, self._wanted, self._limits, self._periods)

    def settle(self, names: Iterable[str]) -> None:
        """Raises ``QuotaExceededError`` if not all was granted, and gives back what was."""
        taken = {Quota(name) for name in names}
        for quota in self._wanted:
            if quota not in taken:
                for other in taken:
                    amount, period = -self._wanted[other], self._periods[other]
                    count_anyway(tenant_id=self._tenant_id, quota=other, amount=amount, period=period)
                raise exceeded(tenant_id=self._tenant_id, quota=quota)


def consume(*, tenant_id: UUID, amounts: Mapping[Quota, int]) -> None:
    """Take from counted quotas, from all or from none. Raises ``QuotaExceededError``. See ``Consumption``."""
    consumption = Consumption(tenant_id, amounts)
    if consumption.statement:
        consumption.settle(_names(consumption.statement, consumption.parameters))


def exceeded(*, tenant_id: UUID, quota: Quota) -> QuotaExceededError:
    """The refusal of what a counted quota has no room for, with what is used of it now."""
    limit = limit_of(tenant_id, quota)
    return _exceeded(tenant_id, quota, MOST if limit is None else limit, _used(tenant_id, quota))


def add_stored_bytes(*, tenant_id: UUID, amount: int) -> None:
    """Count bytes that are stored from now on or, if negative, no more. Raises ``QuotaExceededError``."""
    if amount >= 0:
        consume(tenant_id=tenant_id, amounts={Quota.STORED_BYTES: amount})
    else:
        count_anyway(tenant_id=tenant_id, quota=Quota.STORED_BYTES, amount=amount)


def check_stored_bytes(*, tenant_id: UUID, wanted: int) -> None:
    """Check that there is room for so many bytes more. Raises ``QuotaExceededError``.

    Nothing is taken: what is stored afterwards is counted by ``count_anyway``, wherever the limit is by then.
    """
    limit = limit_of(tenant_id, Quota.STORED_BYTES)
    if limit is not None and _used(tenant_id, Quota.STORED_BYTES) + wanted > limit:
        raise exceeded(tenant_id=tenant_id, quota=Quota.STORED_BYTES)


def count_anyway(*, tenant_id: UUID, quota: Quota, amount: int, period: str = "") -> None:
    """Add to a counter, or (negative) take from it, in this transaction, although that may go beyond the limit.

    Without a ``period`` it is the present one.

    One row of a counter may be negative: what it gives back was counted in another.
    """
    is_limited = limit_of(tenant_id, quota) is not None
    limits, periods = {quota: MOST if is_limited else None}, {quota: period or PERIODS[quota]()}
    _names(*_taking(tenant_id, {quota: amount}, limits, periods))


def count_apart(*, tenant_id: UUID, quota: Quota, amount: int) -> None:
    """Count as ``count_anyway`` does, in a row that no request takes from, so that it waits for none of them.

    Call it last, before the commit, for one tenant after the other by id: others that count so wait for that commit.
    """
    shard = _shards_apart(quota)[threading.get_native_id() % SHARDS_APART]
    _names(*_taking(tenant_id, {quota: amount}, {quota: MOST}, {quota: shard}))


def counter(*, tenant_id: UUID, quota: Quota) -> int:
    """Return a counter's value in its present period; negative only if it is wrong (``runs.storage.counters``)."""
    return int(_counters(tenant_id, quota).aggregate(total=Sum("count"))["total"] or 0)


def room_for_files(*, tenant_id: UUID) -> int | None:
    """Return the bytes that a tenant's files may have together, beside the stored bytes; ``None``: no limit.

    Files are not counted here: whoever writes one adds up those that there are, so nothing can drift from them.
    """
    limit = limit_of(tenant_id, Quota.STORED_BYTES)
    return None if limit is None else max(0, limit - _used(tenant_id, Quota.STORED_BYTES))


def usage_of(*, tenant_id: UUID, measured: Mapping[Quota, Usage | int]) -> list[Usage]:
    """Every quota of a tenant with what is used of it; what others count is ``measured`` by them."""
    limits = allowance_of(tenant_id).limits
    usages = []
    for quota in Quota:
        known = measured.get(quota)
        if known is None and quota in PERIODS:
            known = _used(tenant_id, quota)
        usages.append(known if isinstance(known, Usage) else Usage(quota, known, limits[quota], resets_at(quota)))
    return usages


def history(*, tenant_id: UUID, first: date, last: date) -> dict[date, int]:
    """The runs that were accepted on each day of UTC from ``first`` to ``last``, days without any included."""
    rows = UsageCounter.objects.for_tenant(tenant_id).filter(name=Quota.RUNS_PER_DAY.value)
    rows = rows.annotate(day=Substr("period", 1, 10))  # without the shard
    counts = Counter[str]()
    for day, count in rows.filter(day__gte=first.isoformat(), day__lte=last.isoformat()).values_list("day", "count"):
        counts[day] += count
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return {date_: counts[date_.isoformat()] for date_ in days}


def set_plan(*, tenant: Tenant, plan: str, overrides: Mapping[str, Any], by: Actor) -> Tenant:
    """Give a tenant a plan and limits of its own, in place of those that it had. Raises ``PlanError``.

    Requests notice at once, as of every change of access; workers within ``CACHE_SECONDS``.
    What is beyond a lowered limit stays; there is only no more of it.
    """
    if plan not in set(Plan):
        raise PlanError(f"There is no plan {plan!r}. The plans are: {', '.join(Plan)}.")
    limits = checked_overrides(overrides)
    with transaction.atomic():
        row = Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
        before = {"plan": row.plan, "limits": row.limits}
        for quota in PERIODS:
            _gather(row.pk, quota)
        row.plan, row.limits, row.updated_at = plan, limits, timezone.now()
        row.save(update_fields=["plan", "limits", "updated_at"])
        after = {"plan": plan, "limits": limits}
        audit.record(by=by, action="tenant.plan_changed", target=f"tenant:{row.slug}", before=before, after=after)
        access_changed(row.pk)
        _allowances.pop(row.pk, None)
        transaction.on_commit(lambda: _allowances.pop(row.pk, None))  # others may have read the old ones meanwhile
    return row


def resets_at(quota: Quota) -> datetime | None:
    """Return when a counter resets; ``None`` for one that never does."""
    if quota is not Quota.RUNS_PER_DAY:
        return None
    tomorrow = timezone.now().astimezone(UTC).date() + timedelta(days=1)
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=UTC)


def _today() -> str:
    return timezone.now().astimezone(UTC).date().isoformat()


#: The period that each counted quota is counted in now.
PERIODS: Mapping[Quota, Callable[[], str]] = {Quota.RUNS_PER_DAY: _today, Quota.STORED_BYTES: lambda: ALL_TIME}


def _taking(
    tenant_id: UUID,
    amounts: Mapping[Quota, int],
    limits: Mapping[Quota, int | None],
    periods: Mapping[Quota, str],
) -> tuple[str, Sequence[Any]]:
    """Add to the counters that stay within their limits; returns their names. Rows are locked in the order of names."""
    rows: list[Any] = []
    cases: list[Any] = []
    for quota, amount in amounts.items():
        limit = limits[quota]
        ids = [UsageCounter._meta.pk.get_db_prep_value(value, connection) for value in (new_uuid(), tenant_id)]
        rows += [*ids, quota.value, _place(periods[quota], limit), amount]
        cases += [quota.value] if limit is None else [quota.value, limit]
    return _counting(tuple(limits[quota] is not None for quota in amounts)), [*rows, *cases]


@cache
def _counting(limited: tuple[bool, ...]) -> str:
    """The statement for counters of which each has a limit or none. What is limited, its shards count for, too."""
    table = connection.ops.quote_name(UsageCounter._meta.db_table)
    periods = ", ".join(f"{table}.period || '/{shard:02}'" for shard in range(SHARDS + SHARDS_APART))
    shards = f"""(
        SELECT COALESCE(SUM(shard.count), 0) FROM {table} shard WHERE shard.tenant_id = {table}.tenant_id
        AND shard.name = {table}.name AND shard.period IN ({periods})
    )"""  # noqa: S608 - names and numbers of ours
    fits = f"{table}.count + excluded.count + {shards} <= %s"
    return f"""
        INSERT INTO {table} (id, tenant_id, name, period, count)
        VALUES {", ".join(["(%s, %s, %s, %s, %s)"] * len(limited))}
        ON CONFLICT (tenant_id, name, period) DO UPDATE SET count = {table}.count + excluded.count
        WHERE CASE {table}.name {" ".join(f"WHEN %s THEN {fits if each else 'TRUE'}" for each in limited)} END
        RETURNING name
    """  # noqa: S608 - names and placeholders; every value is a parameter


def _names(statement: str, parameters: Sequence[Any]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [name for (name,) in cursor.fetchall()]


def _place(period: str, limit: int | None) -> str:
    """Return the counter's row for this thread: the only one of the period or, without a limit, its shard.

    A thread keeps to its shard: whoever locked several, each at another time, would wait for others in a circle.
    """
    return period if limit is not None else f"{period}/{threading.get_native_id() % SHARDS:02}"


def _shards_apart(quota: Quota) -> list[str]:
    return [f"{PERIODS[quota]()}/{SHARDS + number:02}" for number in range(SHARDS_APART)]


def _used(tenant_id: UUID, quota: Quota) -> int:
    return max(0, counter(tenant_id=tenant_id, quota=quota))


def _counters(tenant_id: UUID, quota: Quota) -> QuerySet[UsageCounter]:
    """The rows of a counter in its present period."""
    period = PERIODS[quota]()
    here = Q(period=period) | Q(period__startswith=f"{period}/")
    return UsageCounter.objects.for_tenant(tenant_id).filter(here, name=quota.value)


def _gather(tenant_id: UUID, quota: Quota) -> None:
    """Count in one row what was counted in shards; it is there even if nothing was, for a limit to be compared with.

    Shards apart stay: whoever counts in them would wait until the plan is changed.
    """
    taken = _counters(tenant_id, quota).exclude(period__in=_shards_apart(quota))
    rows = list(taken.select_for_update(no_key=True).order_by("period"))
    if not rows or any("/" in row.period for row in rows):
        total = sum(row.count for row in rows)
        _counters(tenant_id, quota).filter(pk__in=[row.pk for row in rows]).delete()
        # Added to the row, should a request have made it meanwhile.
        _names(*_taking(tenant_id, {quota: total}, {quota: MOST}, {quota: PERIODS[quota]()}))


def _exceeded(tenant_id: UUID, quota: Quota, limit: int, used: int, amount: str = "used") -> QuotaExceededError:
    allowance = allowance_of(tenant_id)
    better = None if quota in allowance.overridden else better_plan(quota, limit)
    resets = resets_at(quota)
    bound = "minimum" if quota in LEAST else "limit"
    detail = f"Quota `{quota}` exceeded: {bound} {limit}, {amount} {used}."
    if resets is not None:
        detail += f" Resets at {resets:%Y-%m-%d %H:%M} UTC."
    if better is not None:
        detail += f" The plan `{better}` allows more than `{allowance.plan}`."
    kind = QuotaExceededError if better is None else UpgradeNeededError
    return kind(
        detail,
        quota=quota.value,
        limit=limit,
        used=used,
        resets_at=resets,
        retry_after=None if resets is None else max(1, int((resets - timezone.now()).total_seconds()) + 1),
    )


def _lock(tenant_id: UUID, quota: Quota) -> None:
    locks.lock(f"quota {quota.value} {tenant_id}")
