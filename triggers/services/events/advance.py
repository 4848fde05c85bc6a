"""Advance event triggers along the log: each event starts at most one run, and a failure stops nothing.

A trigger's cursor and the runs that it starts are committed together, under a lock of the trigger's row. So a crash at
any point leaves either both or neither, and two tickers never handle one event twice. What could not be started is a
row of its own (``TriggerFailure``), with its own attempts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from events.cursor import Cursor
from events.errors import EventsRemovedError
from events.reading import EventFilter, read
from plumbing.database.transactions import is_passing
from pyflow.core.errors import PyFlowError
from pyflow.core.events import rfc3339
from pyflow.core.messages import cut
from pyflow.expressions.evaluation import compile_expression
from pyflow.triggers.events import EventConfig, EventPattern, ExpectConfig
from runs.models import EventRecord
from runs.storage import log
from triggers.errors import EventLoopError, FailureResolvedError
from triggers.models import EventTrigger, Expectation, FailureState, TriggerFailure
from triggers.services.events.starting import Facts, Slot, depth_of, depths_of, start_slot, start_slots
from triggers.services.firing import rendered

logger = logging.getLogger(__name__)
#: Events that one transaction handles, and seconds after which it ends early.
BATCH = 100
BATCH_SECONDS = 1.0
#: Triggers that one call of ``advance_due`` looks at; the next one goes on with the others.
MOST_TRIGGERS = 1000
#: Seconds after which a failed event is tried again; after the last of them it is given up.
RETRY_SECONDS = (10, 60, 300, 1800, 7200, 21_600)


def advance_due(*, now: datetime | None = None) -> int:
    """Let all event triggers that have something to do handle it; return 0 if there was nothing to do.

    Those are triggers with events after their cursor, with an expectation whose time is over, or with a failure to be
    tried again. The rest cost nothing: without triggers, this is two queries of empty tables.
    """
    now = now or timezone.now()
    handled, pending = 0, _due_triggers(now)
    while pending:  # in turns: one with many events delays no other
        pending = [trigger_id for trigger_id in pending if _guarded(partial(advance, trigger_id, now=now))]
        handled += 1
    for failure_id in _due_failures(now):
        handled += _guarded(partial(_retry_due, failure_id, now=now))
    return handled


def _guarded(step: Callable[[], bool]) -> bool:
    """Take a step; whatever ends it does not end the steps of other triggers. Nothing of it is kept: it comes again."""
    try:
        return step()
    except Exception as error:
        if isinstance(error, InterfaceError) or (isinstance(error, OperationalError) and not is_passing(error)):
            raise  # the database does not answer
        logger.exception("an event trigger could not be advanced, and is advanced later")
        return False


def _due_triggers(now: datetime) -> list[UUID]:
    newer = EventRecord.objects.across_tenants().filter(
        tenant=OuterRef("tenant"), position__gt=OuterRef("position"), position__lt=log.horizon()
    )
    over = Expectation.objects.across_tenants().filter(trigger=OuterRef("pk"), due_at__lte=now)
    rows = EventTrigger.objects.across_tenants().filter(tenant__suspended_at__isnull=True)
    in_the_middle = ~Q(seq=Cursor.end_of(0).seq)
    rows = rows.filter(in_the_middle | Exists(newer) | Exists(over))
    return list(rows.order_by("position", "pk").values_list("pk", flat=True)[:MOST_TRIGGERS])


def _due_failures(now: datetime) -> list[UUID]:
    rows = TriggerFailure.objects.across_tenants().filter(due_at__lte=now, trigger__tenant__suspended_at__isnull=True)
    return list(rows.order_by("due_at").values_list("pk", flat=True)[:BATCH])


@transaction.atomic
def advance(trigger_id: UUID, *, now: datetime | None = None) -> bool:
    """Handle the next events of a trigger, and at the end of the log its expectations; return whether more is left.

    Does nothing for a trigger that is being advanced elsewhere, or whose workflow is being changed: a change locks the
    workflow first and this row last, with counters of quotas between them, which starts of runs lock, too.
    """
    skip = connection.features.has_select_for_update_skip_locked
    rows = EventTrigger.objects.across_tenants().filter(pk=trigger_id).select_related("workflow")
    row = rows.select_for_update(of=("self", "workflow"), skip_locked=skip, no_key=True).first()
    return row is not None and _Advance(row, now or timezone.now()).run()


class _Advance:
    """One transaction of a locked trigger."""

    def __init__(self, row: EventTrigger, now: datetime) -> None:
        self._row = row
        self._now = now
        self._config = row.declaration()
        self._before = row.cursor
        self._fired_at = row.fired_at
        #: By the names of their slots.
        self._failures: dict[str, tuple[Slot, TriggerFailure]] = {}

    def run(self) -> bool:
        """Handle events up to the limits of a transaction; return whether more are left."""
        try:
            page = read(self._row.tenant_id, after=self._before, wanted=_wanted(self._config), limit=BATCH)
        except EventsRemovedError as error:
            self._pass_over_removed(error)
            return True
        until = time.monotonic() + BATCH_SECONDS
        has_more, cursor = page.has_more, page.next
        slots: list[Slot] = []
        for number, event in enumerate(page.events, 1):
            slots += self._handle(event)
            if time.monotonic() > until and number < len(page.events):
                has_more, cursor = True, Cursor.of(event)
                break
        self._row.cursor = cursor
        if not has_more:
            slots += [self._taken(expectation) for expectation in self._expectations(due_at__lte=self._now)]
        self._start(slots)
        self._keep_failures()
        if cursor != self._before or self._row.fired_at != self._fired_at:
            self._row.save(update_fields=["position", "seq", "event_id", "fired_at"])
        return has_more

    def _handle(self, event: EventRecord) -> list[Slot]:
        """Compare an event with the config; the slots whose runs it starts."""
        facts = {"event": _shape(event)}
        if self._config.expect is None:
            return [Slot(f"event:{event.pk}", facts, event)] if self._matches(self._config, event, facts) else []
        try:
            with transaction.atomic():
                return self._compare(event, facts, self._config.expect)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the events after it go on
            self._fail(Slot(f"event:{event.pk}", facts, event), error)
            return []

    def _compare(self, event: EventRecord, facts: Facts, expect: ExpectConfig) -> list[Slot]:
        """Compare an event with what the trigger expects, and with what arms it."""
        slots: list[Slot] = []
        if self._matches(self._config, event, facts):
            slots = self._settle(self._key(facts), event.at)
        if self._matches(self._config.arming, event, facts):
            self._arm(self._key(facts), facts, event, expect.within)
        return slots

    def _matches(self, pattern: EventPattern, event: EventRecord, facts: Facts) -> bool:
        workflow = facts["event"]["workflow"]
        if not pattern.matches_type(event.type) or (pattern.workflow and workflow not in pattern.workflow):
            return False
        try:
            return _passes(pattern, facts)
        except PyFlowError as error:
            self._fail(Slot(f"event:{event.pk}", facts, event), error)
            return False

    def _start(self, slots: Sequence[Slot]) -> None:
        """Start the runs of slots; a failure is kept, and undoes nothing else of this transaction."""
        for slot, outcome in zip(slots, start_slots(self._row, self._config, slots), strict=True):
            if isinstance(outcome, Exception):
                self._fail(slot, outcome)
            else:
                self._row.fired_at = self._now

    def _fail(self, slot: Slot, error: Exception) -> None:
        if not isinstance(error, PyFlowError):
            logger.error("the event trigger %s failed", self._row.pk, exc_info=error)
        is_hopeless = isinstance(error, EventLoopError | EventsRemovedError)
        failure = TriggerFailure(
            tenant_id=self._row.tenant_id,
            trigger=self._row,
            slot=slot.name,
            facts=dict(slot.facts),
            error=described(error),
            state=FailureState.DEAD if is_hopeless else FailureState.WAITING,
            due_at=None if is_hopeless else self._now + timedelta(seconds=RETRY_SECONDS[0]),
        )
        self._failures.setdefault(slot.name, (slot, failure))

    def _keep_failures(self) -> None:
        if not self._failures:
            return
        slots, failures = zip(*self._failures.values(), strict=True)
        for failure, depth in zip(failures, depths_of(slots), strict=True):
            failure.depth = depth
        # The first failure of a slot is kept.
        TriggerFailure.objects.for_tenant(self._row.tenant_id).bulk_create(failures, ignore_conflicts=True)

    def _pass_over_removed(self, error: EventsRemovedError) -> None:
        """Go on behind events that were removed before this trigger had read them, and keep that they were missed."""
        self._fail(Slot(f"removed:{self._before.position}", {}, 0), error)
        self._keep_failures()
        self._row.cursor = Cursor.end_of(log.removed_to(self._row.tenant_id))
        self._row.save(update_fields=["position", "seq", "event_id"])

    # --- events that are expected

    def _key(self, facts: Facts) -> str:
        """The hash of what an arming and the expected event have in common; without a template all have the same."""
        expect = self._config.expect
        if expect is None or expect.key is None:
            return ""
        try:
            value = rendered(expect.key, {"trigger": facts})
        except PyFlowError as error:
            value = {"failed": str(error)}
        return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()

    def _arm(self, key: str, facts: Facts, event: EventRecord, within: float) -> None:
        rows = Expectation.objects.for_tenant(self._row.tenant_id).filter(trigger=self._row, key=key)
        if rows.exists():  # one that is armed already is due earlier
            return
        Expectation.objects.create(
            tenant_id=self._row.tenant_id,
            trigger=self._row,
            key=key,
            armed_by=dict(facts["event"]),
            armed_at=event.at,
            due_at=event.at + timedelta(seconds=within),
            depth=depth_of(event),
        )

    def _settle(self, key: str, at: datetime) -> list[Slot]:
        """The expected event has come: in time, or too late, which starts a run."""
        late: list[Slot] = []
        for expectation in self._expectations(key=key):
            slot = self._taken(expectation)
            if at > expectation.due_at:
                late.append(slot)
        return late

    def _expectations(self, **conditions: Any) -> Iterator[Expectation]:
        rows = Expectation.objects.for_tenant(self._row.tenant_id).filter(trigger=self._row, **conditions)
        yield from rows.order_by("due_at", "pk")[:BATCH]

    def _taken(self, expectation: Expectation) -> Slot:
        """Remove an expectation; return the slot of the run that the absence of its event starts."""
        facts = {
            "event": expectation.armed_by,
            "absent": {
                "on": list(self._config.on),
                "since": rfc3339(expectation.armed_at.timestamp()),
                "due_at": rfc3339(expectation.due_at.timestamp()),
            },
        }
        slot = Slot(f"absent:{expectation.pk}", facts, expectation.depth)
        expectation.delete()
        return slot


def _passes(pattern: EventPattern, facts: Facts) -> bool:
    """Whether the filter lets an event through. Raises ``UnsafeExpressionError`` or ``EvaluationError``."""
    if pattern.when is None:
        return True
    return bool(compile_expression(pattern.when, version=2).evaluate({"trigger": facts}))


def retry_failure(failure: TriggerFailure, *, now: datetime | None = None) -> TriggerFailure:
    """Try a locked failure again now; return it with the result. Raises ``FailureResolvedError``.

    An event that the filter does not let through (any more) needs no run, and one that could have armed the trigger
    does not arm it so late: that resolves the failure, too.
    """
    if failure.state == FailureState.RESOLVED:
        raise FailureResolvedError(f"The failure is resolved by the run {failure.run_id}.")
    row, now = failure.trigger, now or timezone.now()
    config = row.declaration()
    failure.attempts += 1
    failure.updated_at = now
    try:
        with transaction.atomic():
            if failure.slot.startswith("absent:") or (_passes(config, failure.facts) and config.expect is None):
                failure.run_id = start_slot(row, config, Slot(failure.slot, failure.facts, failure.depth))
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        if not isinstance(error, PyFlowError):
            logger.exception("the event trigger %s failed again", row.pk)
        rest = RETRY_SECONDS[failure.attempts - 1 :]
        failure.error = described(error)
        failure.state = FailureState.WAITING if rest else FailureState.DEAD
        failure.due_at = now + timedelta(seconds=rest[0]) if rest else None
    else:
        failure.state, failure.due_at = FailureState.RESOLVED, None
    failure.save(update_fields=["attempts", "updated_at", "run_id", "error", "state", "due_at"])
    return failure


@transaction.atomic
def _retry_due(failure_id: UUID, *, now: datetime) -> bool:
    skip = connection.features.has_select_for_update_skip_locked
    rows = TriggerFailure.objects.across_tenants().filter(pk=failure_id, due_at__lte=now)
    rows = rows.select_related("trigger__workflow")
    locked = rows.select_for_update(of=("self", "trigger__workflow"), skip_locked=skip, no_key=True)
    failure = locked.first()
    if failure is not None:
        retry_failure(failure, now=now)
    return failure is not None


def described(error: Exception) -> dict[str, str]:
    """``{code, message}`` of an error; of one that is none of ours only that it was."""
    if isinstance(error, PyFlowError):
        return {"code": error.code, "message": cut(str(error), 1000)}
    return {"code": "internal_error", "message": "The trigger failed. The operator finds the cause in the logs."}


def _wanted(config: EventConfig) -> EventFilter:
    """Build the filter of the log: the events that the trigger may use."""
    patterns = [config, *([] if config.after is None else [config.after])]
    names = [pattern.workflow for pattern in patterns]
    workflows = tuple({name for part in names for name in part}) if all(names) else ()
    return EventFilter(types=tuple({name for pattern in patterns for name in pattern.on}), workflows=workflows)


def _shape(event: EventRecord) -> dict[str, Any]:
    """The event as templates, failures and runs see it: JSON."""
    return {name: _plain(value) for name, value in event.as_dict().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value.timestamp())
    return str(value) if isinstance(value, UUID) else value
