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
from workflows.latest import latest_version, latest_versions
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
class Wanted:
    """A start of a version in somebody's name; in place of the version, the error that there is none to start."""

    by: Actor
    version: Version | PyFlowError
    start: Start


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
    known = _known(version, start.key)
    if known is not None:
        return Started(known, created=False)
    run = _queued_run(version, start, by=by, trigger=trigger)
    if start.key is None:
        intake.add(run)
        return Started(run, created=True)
    try:
        with transaction.atomic():
            intake.add(run)
    except IntegrityError:
        quicker = _known(version, start.key)
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
    wanted = [Wanted(by, _chosen(newest, versions, start.version), start) for start in starts]
    outcomes = _accept_anyhow(by.tenant_id, Trigger.API, wanted)
    created = [outcome.run.pk for outcome in outcomes if isinstance(outcome, Started) and outcome.created]
    if created:
        after = {"count": len(created), "first": str(created[0]), "last": str(created[-1])}
        audit.record(by=by, action="run.batch_started", target=f"workflow:{workflow_name}", after=after)
    return outcomes


def start_triggered(
    *, tenant_id: UUID, trigger: Trigger, starts: Sequence[tuple[Actor, UUID, Start]]
) -> list[Started | PyFlowError]:
    """Accept runs of several workflows of a tenant at once, by their ids, each in the name of what triggers it.

    As ``start_runs``, but nothing is audited, as with ``start_run``.
    """
    versions = latest_versions(tenant_id=tenant_id, workflow_ids={workflow_id for _, workflow_id, _ in starts})
    wanted = [Wanted(by, versions[workflow_id], start) for by, workflow_id, start in starts]
    return _accept_anyhow(tenant_id, trigger, wanted)


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


def _accept_anyhow(tenant_id: UUID, trigger: Trigger, wanted: Sequence[Wanted]) -> list[Started | PyFlowError]:
    """Accept runs as ``_accept`` does, although other requests start runs with the same keys meanwhile."""
    for _ in wanted:
        try:
            with transaction.atomic():
                return _accept(tenant_id, trigger, wanted)
        except IntegrityError:  # one was quicker with one of the keys, which is known from now on
            continue
    return _accept(tenant_id, trigger, wanted)


def _accept(tenant_id: UUID, trigger: Trigger, wanted: Sequence[Wanted]) -> list[Started | PyFlowError]:
    known = _known_of_all(tenant_id, wanted)
    outcomes: list[Started | PyFlowError] = []
    fresh: list[Run] = []
    for each in wanted:
        if isinstance(each.version, PyFlowError):
            outcomes.append(each.version)
            continue
        key = (each.version.workflow_id, each.start.key)
        if key in known:
            outcomes.append(Started(known[key], created=False))
            continue
        try:
            run = _queued_run(each.version, each.start, by=each.by, trigger=trigger)
        except PyFlowError as error:
            outcomes.append(error)
        else:
            outcomes.append(Started(run, created=True))
            fresh.append(run)
            if each.start.key is not None:
                known[key] = run
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


def _known(version: Version, key: str | None) -> Run | None:
    """Return the run that the version's workflow has of a key."""
    if key is None or not _has_run(version, key):
        return None
    rows = Run.objects.for_tenant(version.tenant_id).filter(workflow=version.workflow_id, dedupe_key=key)
    return rows.with_names().first()


def _known_of_all(tenant_id: UUID, wanted: Iterable[Wanted]) -> dict[tuple[UUID, str | None], Run]:
    """Return the runs that there are of the keys of starts, by workflow and key."""
    keyed = [(each.version.workflow_id, each.start.key) for each in wanted if isinstance(each.version, Version)]
    keys = {key for _, key in keyed if key is not None}
    if not keys:
        return {}
    rows = Run.objects.for_tenant(tenant_id).filter(workflow__in={pk for pk, _ in keyed}, dedupe_key__in=keys)
    return {(run.workflow_id, run.dedupe_key): run for run in rows.with_names()}


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


def _chosen(newest: Version, versions: Mapping[int, Version], number: int | None) -> Version | PyFlowError:
    if number is None:
        return newest
    if number not in versions:
        return no_version(newest.workflow, number)
    try:
        versions[number].must_be_published()
    except PyFlowError as error:
        return error
    return versions[number]
