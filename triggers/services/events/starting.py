"""Start the runs of event triggers, many in few statements, and record in the log that the triggers fired."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from pyflow.core.errors import PyFlowError
from pyflow.core.events import EventType
from pyflow.triggers.events import MAX_DEPTH, EventConfig
from runs.models import EventRecord, Run, Trigger
from runs.services.start import Start, Started, start_triggered
from runs.storage import log
from tenants.access import Actor
from triggers.errors import EventLoopError, TriggerInputError
from triggers.models import EventTrigger
from triggers.services.firing import fired_key, rendered

#: How many parents of a run are looked at for the trigger that started the first of them.
MAX_PARENTS = 32

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Slot:
    """An event, or the absence of one, that starts at most one run of a trigger.

    ``facts``: what `trigger` is in templates. ``cause``: the event, or the number of triggers that led to it.
    """

    name: str
    facts: Facts
    cause: EventRecord | int


@dataclass(frozen=True, slots=True)
class _Prepared:
    slot: Slot
    depth: int
    start: Start


def start_slot(row: EventTrigger, config: EventConfig, slot: Slot) -> UUID:
    """Start the run of a slot, unless it was started before; return its id.

    Raises ``EventLoopError``, ``TriggerInputError`` and what ``start_run`` does.
    """
    [outcome] = start_slots(row, config, [slot])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def start_slots(row: EventTrigger, config: EventConfig, slots: Sequence[Slot]) -> list[UUID | Exception]:
    """Start the runs of slots as ``start_slot`` does; what it raises for one is that one's outcome.

    The number of statements does not depend on that of the slots. Raises only what says that the database is away.
    """
    prepared = [_prepare(row, config, slot, depth) for slot, depth in zip(slots, depths_of(slots), strict=True)]
    ready = [each for each in prepared if isinstance(each, _Prepared)]
    started = iter(_accept(row, ready))
    return [next(started) if isinstance(each, _Prepared) else each for each in prepared]


def _prepare(row: EventTrigger, config: EventConfig, slot: Slot, depth: int) -> _Prepared | Exception:
    if depth >= MAX_DEPTH:
        return EventLoopError(
            f"The event comes from a run that was started by an event, and so on, {MAX_DEPTH} times: workflows that "
            "start each other by events never end. Narrow `on`, `workflow` or `when` of one of their triggers."
        )
    try:
        key = slot.name if config.key is None else f"key:{_hashed(_rendered(config.key, slot.facts))}"
        given = _rendered(config.input, slot.facts) if config.input is not None else dict(slot.facts)
        if not isinstance(given, dict):
            raise TriggerInputError("The result of the trigger's `input` is no object, and a run's input is one.")
    except Exception as error:  # noqa: BLE001 - whatever it is, the other slots go on
        return error
    return _Prepared(slot, depth + 1, Start(input=given, key=f"event:{row.pk}:{key.removeprefix('event:')}"))


def _accept(row: EventTrigger, prepared: Sequence[_Prepared]) -> list[UUID | Exception]:
    """Start runs all at once or, if that fails, one by one: so that only those fail that are the reason."""
    if not prepared:
        return []
    by = Actor.system(row.tenant_id, f"{Trigger.EVENT}:{row.trigger}")
    starts = [(by, row.workflow_id, each.start) for each in prepared]
    try:
        with transaction.atomic():
            outcomes = start_triggered(tenant_id=row.tenant_id, trigger=Trigger.EVENT, starts=starts)
            pairs = zip(prepared, outcomes, strict=True)
            fired = [(each, made.run) for each, made in pairs if isinstance(made, Started) and made.created]
            log.append_all_outside(row.tenant_id, [_fired(row, each, run) for each, run in fired])
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the other slots go on
        return [error] if len(prepared) == 1 else [made for each in prepared for made in _accept(row, [each])]
    return [made.run.pk if isinstance(made, Started) else made for made in outcomes]


def _fired(row: EventTrigger, each: _Prepared, run: Run) -> EventRecord:
    event = each.slot.facts.get("event") or {}
    return EventRecord(
        type=EventType.TRIGGER_FIRED.value,
        at=timezone.now(),
        workflow_name=row.workflow.name,
        version_number=run.version.number,
        key=fired_key(run.pk),
        data={
            "trigger": row.trigger,
            "kind": Trigger.EVENT.value,
            "run_id": str(run.pk),
            "event_id": event.get("id"),
            "event_type": event.get("type"),
            "depth": each.depth,
        },
    )


def _rendered(template: Any, facts: Facts) -> Any:
    try:
        return rendered(template, {"trigger": facts})
    except PyFlowError as error:
        raise TriggerInputError(f"The trigger cannot be computed: {error}") from None


def _hashed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:40]


def depths_of(slots: Sequence[Slot]) -> list[int]:
    """Count, for each slot, the event triggers that led to it, one after another: 0 if none did."""
    events = [slot.cause for slot in slots if isinstance(slot.cause, EventRecord)]
    known = _depths(events)
    return [known[slot.cause.pk] if isinstance(slot.cause, EventRecord) else slot.cause for slot in slots]


def depth_of(event: EventRecord) -> int:
    """Count the event triggers that led to an event, one after another: 0 if none did."""
    return _depths([event])[event.pk]


def _depths(events: Sequence[EventRecord]) -> dict[UUID, int]:
    """Return the depths by the events' ids."""
    depths = {event.pk: 0 for event in events}
    of_runs: dict[UUID, UUID] = {}
    for event in events:
        if event.type == EventType.TRIGGER_FIRED.value:
            depths[event.pk] = _depth_in(event.data)
        elif event.run_id is not None:
            of_runs[event.pk] = event.run_id
    if of_runs:
        families = _families(events[0].tenant_id, set(of_runs.values()))
        keys = {fired_key(member) for family in families.values() for member in family}
        fired = EventRecord.objects.for_tenant(events[0].tenant_id).filter(key__in=keys).values_list("key", "data")
        known = {key: _depth_in(data) for key, data in fired}
        for pk, run_id in of_runs.items():
            depths[pk] = max(known.get(fired_key(member), 0) for member in families[run_id])
    return depths


def _depth_in(data: Mapping[str, Any]) -> int:
    return int(data.get("depth") or 0)


def _families(tenant_id: UUID, run_ids: Iterable[UUID]) -> dict[UUID, list[UUID]]:
    """Return runs with their parents and theirs, up to ``MAX_PARENTS``: a child's events are its parent's doing."""
    families = {run_id: [run_id] for run_id in run_ids}
    children = set(families)
    while children and max(map(len, families.values())) < MAX_PARENTS:
        rows = Run.objects.for_tenant(tenant_id).filter(pk__in=children, parent__isnull=False)
        parents = {child: parent for child, parent in rows.values_list("pk", "parent") if parent is not None}
        for family in families.values():
            if family[-1] in parents:
                family.append(parents[family[-1]])
        children = set(parents.values())
    return families
