"""Start runs, one or many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from plumbing.database.statements import ask
from pyflow.core.errors import PyFlowError
from pyflow.core.ids import new_uuid
from pyflow.core.states import RunState
from pyflow.validation.inputs import accept_input
from runs.models import Run, Trigger
from runs.storage import intake
from tenants import audit
from tenants.access import Actor
from tenants.errors import QuotaExceededError
from tenants.plans import Quota
from tenants.quotas import exceeded
from workflows.latest import latest_version
from workflows.models import Version, Workflow
from workflows.services import plan_of
from workflows.versions import no_version, startable_version

DEFAULT_PRIORITY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The input and options of a new run.

    ``version``: its number; ``None`` is the one published last. ``labels`` are added to the workflow's own.
    ``priority``: 1 (last) to 9 (first). ``key``: a workflow has one run of each key, whoever asks how often.
    """

    input: Mapping[str, Any] = field(default_factory=dict)
    version: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """An accepted run; ``created`` is false for one that was started before with the same key."""

    run: Run
    created: bool


def start_run(*, by: Actor, workflow_name: str, start: Start, trigger: Trigger = Trigger.API) -> Started:
    """Accept a run. Once this returns and the transaction is committed, it will be executed, whatever happens.

    Who started it is kept in its row (``started_by``), not in the audit's chain, whose lock would make the starts of a
    tenant queue up. Raises ``InputError``, ``QuotaExceededError``, or what ``latest_version`` and
    ``startable_version`` do.
    """
    version = _version(by.tenant_id, workflow_name, start.version)
    known = _known(version, [start])
    if start.key in known:
        return Started(known[start.key], created=False)
    run = _queued_run(version, start, by=by, trigger=trigger)
    if start.key is None:
        intake.add(run)
        return Started(run, created=True)
    try:
        with transaction.atomic():
            intake.add(run)
    except IntegrityError:
        quicker = _known(version, [start]).get(start.key)
        if quicker is None:  # it is not the key that was in the way
            raise
        return Started(quicker, created=False)
    return Started(run, created=True)


def start_runs(*, by: Actor, workflow_name: str, starts: Sequence[Start]) -> list[Started | PyFlowError]:
    """Accept many runs of a workflow at once: what became of each, in their order.

    One that is not valid keeps no other from being started. Where a quota has no room for all, the first ones that it
    has room for are started, and each other's outcome is ``QuotaExceededError``. One entry of the audit records them
    all. Raises what ``latest_version`` does.
    """
    newest = _version(by.tenant_id, workflow_name, None)
    versions = _versions(newest, starts)
    outcomes = _accept_anyhow(by, newest, versions, starts)
    created = [outcome.run.pk for outcome in outcomes if isinstance(outcome, Started) and outcome.created]
    if created:
        after = {"count": len(created), "first": str(created[0]), "last": str(created[-1])}
        audit.record(by=by, action="run.batch_started", target=f"workflow:{workflow_name}", after=after)
    return outcomes


def start_version(
    *,
    version: Version,
    input: dict[str, Any],
    by: Actor | None = None,
    trigger: Trigger = Trigger.MANUAL,
    run_id: UUID | None = None,
    parent_id: UUID | None = None,
    lineage: list[str] | None = None,
    on_parent_cancel: str = "",
    called_by: dict[str, Any] | None = None,
) -> Run:
    """Accept a run of one version. Raises ``InputError`` or ``QuotaExceededError``; child runs count as all others."""
    run = _queued_run(version, Start(input=input), by=by, trigger=trigger)
    run.id = run_id or run.id
    run.parent_id, run.lineage, run.on_parent_cancel = parent_id, lineage or [], on_parent_cancel
    run.called_by = called_by
    intake.add(run)
    return run


def _queued_run(version: Version, start: Start, *, by: Actor | None, trigger: Trigger) -> Run:
    workflow = plan_of(version).workflow
    accepted = accept_input(workflow, start.input)
    settings, now = workflow.settings, timezone.now()
    return Run(
        id=new_uuid(),
        tenant_id=version.tenant_id,
        workflow=version.workflow,
        version=version,
        state=RunState.QUEUED.value,
        trigger=trigger.value,
        started_by=None if by is None else by.as_dict(),
        labels={**workflow.labels, **start.labels},
        dedupe_key=start.key,
        input=accepted,
        queue=settings.queue or "",
        priority=start.priority or settings.priority or DEFAULT_PRIORITY,
        queue_deadline=None if settings.queue_timeout is None else now + timedelta(seconds=settings.queue_timeout),
        created_at=now,
    )


def _accept_anyhow(
    by: Actor, newest: Version, versions: Mapping[int, Version], starts: Sequence[Start]
) -> list[Started | PyFlowError]:
    """Accept runs as ``_accept`` does, although other requests start runs with the same keys meanwhile."""
    for _ in starts:
        try:
            with transaction.atomic():
                return _accept(by, newest, versions, starts)
        except IntegrityError:  # one was quicker with one of the keys, which is known from now on
            continue
    return _accept(by, newest, versions, starts)


def _accept(
    by: Actor, newest: Version, versions: Mapping[int, Version], starts: Sequence[Start]
) -> list[Started | PyFlowError]:
    known = _known(newest, starts)
    outcomes: list[Started | PyFlowError] = []
    fresh: list[Run] = []
    for start in starts:
        if start.key is not None and start.key in known:
            outcomes.append(Started(known[start.key], created=False))
            continue
        try:
            version = _chosen(newest, versions, start.version)
            run = _queued_run(version, start, by=by, trigger=Trigger.API)
        except PyFlowError as error:
            outcomes.append(error)
        else:
            outcomes.append(Started(run, created=True))
            fresh.append(run)
            if start.key is not None:
                known[start.key] = run
    refused = _add_what_fits(fresh)
    return [refused.get(item.run.pk, item) if isinstance(item, Started) else item for item in outcomes]


def _add_what_fits(runs: Sequence[Run]) -> dict[UUID, QuotaExceededError]:
    """Store the first runs that the quotas have room for; why not the others, by their ids."""
    refused: dict[UUID, Quota] = {}
    fitting = list(runs)
    while fitting:
        try:
            intake.add_all(fitting)
        except QuotaExceededError as error:
            count = min(intake.fitting(fitting, error), len(fitting) - 1)
            refused |= dict.fromkeys((run.pk for run in fitting[count:]), Quota(error.quota))
            fitting = fitting[:count]
        else:
            break
    # Computed now, they report the usage including the runs that were stored.
    refusals = {quota: exceeded(tenant_id=runs[0].tenant_id, quota=quota) for quota in {*refused.values()}}
    return {run_id: refusals[quota] for run_id, quota in refused.items()}


def _known(version: Version, starts: Iterable[Start]) -> dict[str | None, Run]:
    keys = {start.key for start in starts if start.key is not None}
    if not keys or (len(keys) == 1 and not _has_run(version, *keys)):
        return {}
    rows = Run.objects.for_tenant(version.tenant_id).filter(workflow=version.workflow_id, dedupe_key__in=keys)
    return {run.dedupe_key: run for run in rows.with_names()}


def _has_run(version: Version, key: str) -> bool:
    """Return whether the workflow has a run of a key. Most have none, and to read one takes a large query."""
    statement = "SELECT 1 FROM runs_run WHERE workflow_id = %s AND dedupe_key = %s"
    workflow_id = Workflow._meta.pk.get_db_prep_value(version.workflow_id, connection)
    return ask(statement, [workflow_id, key]) is not None


def _version(tenant_id: UUID, name: str, number: int | None) -> Version:
    if number is None:
        return latest_version(tenant_id=tenant_id, name=name)
    return startable_version(tenant_id=tenant_id, name=name, number=number)


def _versions(newest: Version, starts: Iterable[Start]) -> dict[int, Version]:
    numbers = {start.version for start in starts if start.version is not None}
    rows = Version.objects.for_tenant(newest.tenant_id).filter(workflow=newest.workflow_id, number__in=numbers)
    return {version.number: version for version in rows.select_related("workflow").defer("source")} if numbers else {}


def _chosen(newest: Version, versions: Mapping[int, Version], number: int | None) -> Version:
    if number is None:
        return newest
    if number not in versions:
        raise no_version(newest.workflow, number)
    versions[number].must_be_published()
    return versions[number]
