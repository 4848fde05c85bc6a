"""Verbs about workflows; those about their versions are in ``versions``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.utils import timezone

from plugins.discovery import discover
from pyflow.core.errors import DefinitionError, Problem
from pyflow.core.events import EventType
from pyflow.documents.models import WorkflowDef
from pyflow.execution.plan import Plan, compile_stored
from pyflow.triggers.schedule_config import ScheduleConfig
from pyflow.validation.loader import Format
from tenants import audit, quotas
from tenants.access import Actor, Principal
from tenants.plans import Quota
from workflows.dependents import Change, changed, dependents
from workflows.documents import canonical_text, check_document, merged, uuid_of
from workflows.errors import (
    WorkflowArchivedError,
    WorkflowExistsError,
    WorkflowInUseError,
    WorkflowMissingError,
)
from workflows.models import OctetLength, Version, VersionState, Workflow

#: Asked with the row, once it is locked (``None``: there is none): raises if the caller means another state of it.
Precondition = Callable[[Workflow | None], None]


def any_state(_: object) -> None:
    """The precondition of those who have none."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The result of saving a document: its version, and whether that version and its workflow are new."""

    workflow: Workflow
    version: Version
    created: bool
    changed: bool


def create_workflow(*, by: Actor, source: str, source_format: Format, draft: bool = False) -> Saved:
    """Store a new workflow, published unless it is to be a ``draft``.

    Raises ``DocumentError``, ``DefinitionError``, ``WorkflowExistsError`` or ``QuotaExceededError``.
    """
    definition = checked(by.tenant_id, source, source_format)
    try:
        with transaction.atomic():
            _check_room(by.tenant_id)
            workflow = Workflow.objects.create(tenant_id=by.tenant_id, name=definition.name)
            version = add_version(workflow, definition, source, source_format, number=1, publication=int(not draft))
            record_change(by, "workflow.created", version)
            _follow_first(by, version)
    except IntegrityError:
        raise WorkflowExistsError(
            f"A workflow named {definition.name!r} exists. PUT the document to its address to make a new version."
        ) from None
    return Saved(workflow, version, created=True, changed=True)


def put_workflow(
    *, by: Actor, name: str, source: str, source_format: Format, precondition: Precondition = any_state
) -> Saved:
    """Publish a document as the newest version of ``name`` (or of that id), making the workflow if need be.

    The text of the newest version, sent again, changes nothing. Raises as ``create_workflow`` does, what the
    precondition raises, ``WorkflowArchivedError``, and ``DefinitionError`` if the document has another name.
    """
    definition = checked(by.tenant_id, source, source_format)
    with transaction.atomic():
        workflow = _locked(by.tenant_id, name)
        _check_name(definition, name if workflow is None else workflow.name)
        precondition(workflow)
        created = workflow is None
        if workflow is None:
            _check_room(by.tenant_id)
            try:
                with transaction.atomic():
                    workflow = Workflow.objects.create(tenant_id=by.tenant_id, name=name)
            except IntegrityError:
                workflow, created = _found(_locked(by.tenant_id, name), name), False
                precondition(workflow)
        return _publish_next(by, workflow, definition, source, source_format, created=created)


def patch_workflow(*, by: Actor, name: str, patch: Any, precondition: Precondition = any_state) -> Saved:
    """Publish the current document with a JSON Merge Patch (RFC 7396) applied as the newest version.

    The result is checked before the workflow is locked, and once more only if another version came meanwhile. Raises
    as ``put_workflow`` does, and ``WorkflowMissingError``.
    """
    workflow = find_workflow(tenant_id=by.tenant_id, name=name)
    precondition(workflow)
    seen = current_version(workflow)
    source, source_format, definition = _patched(by.tenant_id, seen, patch)
    with transaction.atomic():
        workflow = _found(_locked(by.tenant_id, name), name)
        precondition(workflow)
        version = current_version(workflow)
        if (version.pk, version.checksum) != (seen.pk, seen.checksum):
            source, source_format, definition = _patched(by.tenant_id, version, patch)
        _check_name(definition, workflow.name)
        return _publish_next(by, workflow, definition, source, source_format, created=False)


def _patched(tenant_id: UUID, version: Version, patch: Any) -> tuple[str, Format, WorkflowDef]:
    source_format: Format = "json" if version.source_format == "json" else "yaml"
    source = merged(version.source, source_format, patch)
    return source, source_format, checked(tenant_id, source, source_format)


def archive_workflow(*, by: Actor, name: str, archived: bool, precondition: Precondition = any_state) -> Workflow:
    """Archive a workflow, or bring it back: no run of an archived one starts, and it is not changed.

    Doing it twice is doing it once. Raises ``WorkflowMissingError`` and what the precondition raises.
    """
    with transaction.atomic():
        workflow = _found(_locked(by.tenant_id, name), name)
        precondition(workflow)
        if (workflow.archived_at is not None) == archived:
            return workflow
        workflow.archived_at = timezone.now() if archived else None
        workflow.touch("archived_at")
        action = "workflow.archived" if archived else "workflow.unarchived"
        audit.record(by=by, action=action, target=f"workflow:{workflow.pk}", after={"name": workflow.name})
        type = EventType.WORKFLOW_ARCHIVED if archived else EventType.WORKFLOW_UPDATED
        changed(Change(type=type, workflow=workflow, by=by, data={"archived": archived}))
    return workflow


def delete_workflow(*, by: Actor, name: str, precondition: Precondition = any_state) -> None:
    """Delete a workflow with its versions and, of an archived one, its runs.

    Raises ``WorkflowMissingError``, what the precondition raises, and ``WorkflowInUseError`` while runs are in flight
    or, unless it is archived, exist.
    """
    with transaction.atomic():
        workflow = _found(_locked(by.tenant_id, name), name)
        precondition(workflow)
        _check_unused(workflow)
        versions = Version.objects.for_tenant(by.tenant_id).filter(workflow=workflow)
        size = versions.aggregate(size=models.Sum(OctetLength("source")))["size"] or 0
        quotas.add_stored_bytes(tenant_id=by.tenant_id, amount=-size)
        audit.record(by=by, action="workflow.deleted", target=f"workflow:{workflow.pk}", before={"name": workflow.name})
        # From here on no start of it is committed; one that was, before, keeps it.
        Workflow.objects.for_tenant(by.tenant_id).select_for_update().get(pk=workflow.pk)
        _check_unused(workflow)
        changed(Change(type=EventType.WORKFLOW_DELETED, workflow=workflow, by=by))
        dependents().delete(tenant_id=by.tenant_id, workflow_id=workflow.pk)
        workflow.delete()


def visible_workflows(principal: Principal) -> models.QuerySet[Workflow]:
    """The workflows that a principal may see: those of its tenant."""
    return Workflow.objects.for_tenant(principal.tenant_id)


def with_current_version(rows: models.QuerySet[Workflow], tenant_id: UUID) -> models.QuerySet[Workflow]:
    """The workflows with ``number``, ``checksum`` and ``version_state`` of their current version."""
    versions = by_currency(Version.objects.for_tenant(tenant_id).filter(workflow=OuterRef("pk")))
    return rows.annotate(
        number=Subquery(versions.values("number")[:1]),
        checksum=Subquery(versions.values("checksum")[:1]),
        version_state=Subquery(versions.values("state")[:1]),
    )


def current_version(workflow: Workflow) -> Version:
    """The version that stands for a workflow: what runs start or, if none is published, the newest."""
    rows = Version.objects.for_tenant(workflow.tenant_id).filter(workflow=workflow)
    version = by_currency(rows).first()
    assert version is not None  # noqa: S101 - a workflow is stored together with its first version
    return version


def by_currency(versions: models.QuerySet[Version]) -> models.QuerySet[Version]:
    """Order the versions of a workflow so that the first one is the current one."""
    return versions.order_by(F("publication").desc(nulls_last=True), "-number")


def named(name: str, prefix: str = "") -> Q:
    """The condition that a workflow has this name, or this id."""
    if "\0" in name:  # an address may hold one; PostgreSQL refuses to be asked for it
        return Q(pk__in=())
    found = uuid_of(name)
    return Q(**{f"{prefix}name": name}) if found is None else Q(**{f"{prefix}id": found})


def find_current(*, tenant_id: UUID, name: str, content: bool = True) -> Version:
    """The current version of a workflow by name or id, with its workflow. Raises ``WorkflowMissingError``.

    Without its ``content``, source and definition are fetched when they are asked for.
    """
    rows = Version.objects.for_tenant(tenant_id).filter(named(name, "workflow__")).select_related("workflow")
    if not content:
        rows = rows.defer("source", "definition")
    version = by_currency(rows).first()
    if version is None:
        raise missing(name)
    return version


def workflow_or_none(*, tenant_id: UUID, name: str) -> Workflow | None:
    """A tenant's workflow by its name or id, if there is one."""
    return Workflow.objects.for_tenant(tenant_id).filter(named(name)).first()


def find_workflow(*, tenant_id: UUID, name: str) -> Workflow:
    """A tenant's workflow by its name or id. Raises ``WorkflowMissingError``."""
    return _found(workflow_or_none(tenant_id=tenant_id, name=name), name)


def lock_workflow(*, tenant_id: UUID, name: str) -> Workflow:
    """Lock a workflow, to change it or its versions in this transaction. Raises ``WorkflowArchivedError``, too."""
    workflow = _found(_locked(tenant_id, name), name)
    check_not_archived(workflow)
    return workflow


def check_not_archived(workflow: Workflow) -> None:
    """Raise ``WorkflowArchivedError`` for an archived workflow."""
    if workflow.archived_at is not None:
        raise WorkflowArchivedError(f"The workflow {workflow.name!r} is archived. Unarchive it first.")


def plan_of(version: Version) -> Plan:
    """The compiled definition of a version; compiled once per process and checksum."""
    return compile_stored(version.checksum, lambda: version.definition, discover().registry)


def checked(tenant_id: UUID, source: str, source_format: Format) -> WorkflowDef:
    """The definition of a document that the tenant may store.

    Raises ``DocumentError``, ``DefinitionError`` or ``QuotaExceededError``.
    """
    definition = check_document(source, source_format)
    nodes = sum(1 for _ in definition.all_nodes())
    quotas.check(tenant_id=tenant_id, quota=Quota.NODES_PER_WORKFLOW, wanted=nodes)
    for seconds in _schedule_gaps(definition):
        quotas.check(tenant_id=tenant_id, quota=Quota.SCHEDULE_SECONDS, wanted=int(seconds))
    return definition


def _schedule_gaps(definition: WorkflowDef) -> Iterator[float]:
    """Yield the shortest time between two slots of each schedule."""
    for trigger in definition.all_triggers():
        if trigger.type != "schedule":
            continue
        try:
            gap = ScheduleConfig.of(trigger.config).shortest_gap()
        except ValueError:  # a file of version 1 may have any config: such a schedule never fires
            continue
        if gap is not None:
            yield gap


def size_of(source: str) -> int:
    """Return the bytes that a stored document counts for."""
    return len(source.encode("utf-8", "surrogatepass"))


def add_version(
    workflow: Workflow,
    definition: WorkflowDef,
    source: str,
    source_format: Format,
    *,
    number: int,
    publication: int,
    copied_from: Version | None = None,
) -> Version:
    """Store a version: published if it has a ``publication``, else (0) a draft. The workflow must be locked."""
    now = timezone.now()
    version = Version(
        tenant_id=workflow.tenant_id,
        workflow=workflow,
        number=number,
        state=VersionState.PUBLISHED if publication else VersionState.DRAFT,
        publication=publication or None,
        published_at=now if publication else None,
        copied_from=copied_from,
        source=source,
        source_format=source_format,
        definition=canonical_text(definition),
        checksum=definition.checksum(),
        created_at=now,
        updated_at=now,
    )
    version.save(force_insert=True)
    quotas.add_stored_bytes(tenant_id=workflow.tenant_id, amount=size_of(source))
    if publication or number == 1:
        workflow.description, workflow.labels = definition.description or "", definition.labels
    workflow.touch("description", "labels")
    return version


def next_numbers(workflow: Workflow) -> tuple[int, int]:
    """The number that the next version of a locked workflow gets, and its publication."""
    rows = Version.objects.for_tenant(workflow.tenant_id).filter(workflow=workflow)
    most = rows.aggregate(number=models.Max("number"), publication=models.Max("publication"))
    return (most["number"] or 0) + 1, (most["publication"] or 0) + 1


def record_change(by: Actor, action: str, version: Version, *, before: Version | None = None) -> None:
    """Audit that something became of a version."""
    audit.record(
        by=by,
        action=action,
        target=f"workflow:{version.workflow_id}",
        before=None if before is None else _traits(before),
        after={"name": version.workflow.name, **_traits(version)},
    )


def changed_version(by: Actor, type: EventType, version: Version, **data: Any) -> None:
    """Record a change of a version in the log, for those who follow workflows."""
    traits = {"state": version.state, "checksum": version.checksum}
    changed(Change(type=type, workflow=version.workflow, version=version, by=by, data=traits | data))


def _follow_first(by: Actor, version: Version) -> None:
    changed_version(by, EventType.WORKFLOW_CREATED, version)
    if version.state == VersionState.PUBLISHED:
        changed_version(by, EventType.WORKFLOW_PUBLISHED, version)


def _publish_next(
    by: Actor, workflow: Workflow, definition: WorkflowDef, source: str, source_format: Format, *, created: bool
) -> Saved:
    check_not_archived(workflow)
    latest = None if created else current_version(workflow)
    # By what it means: a version with other comments or another layout is none that anybody could tell apart by runs.
    is_same = latest is not None and latest.checksum == definition.checksum()
    if latest is not None and latest.state == VersionState.PUBLISHED and is_same:
        return Saved(workflow, latest, created=False, changed=False)
    number, publication = (1, 1) if created else next_numbers(workflow)
    version = add_version(workflow, definition, source, source_format, number=number, publication=publication)
    record_change(by, "workflow.created" if created else "workflow.updated", version, before=latest)
    if created:
        _follow_first(by, version)
    else:
        changed_version(by, EventType.WORKFLOW_PUBLISHED, version)
    return Saved(workflow, version, created=created, changed=True)


def _check_name(definition: WorkflowDef, name: str) -> None:
    if definition.name != name:
        message = f"the document's name is {definition.name!r}, the address says {name!r}"
        raise DefinitionError([Problem("name_mismatch", message, "/name")])


def _check_unused(workflow: Workflow) -> None:
    """Raise ``WorkflowInUseError`` unless a workflow may be deleted."""
    whose = {"tenant_id": workflow.tenant_id, "workflow_id": workflow.pk}
    if in_flight := sum(dependents().in_flight(**whose).values()):
        raise WorkflowInUseError(f"{in_flight} of its runs are active. Cancel them, or wait until they end.")
    if workflow.archived_at is None and dependents().exist(**whose):
        raise WorkflowInUseError("It has runs. Archive it first: it is then deleted together with them.")


def _locked(tenant_id: UUID, name: str) -> Workflow | None:
    # The row is locked (PostgreSQL; SQLite locks everything): version numbers are given one at a time.
    return Workflow.objects.for_tenant(tenant_id).select_for_update(no_key=True).filter(named(name)).first()


def _found(workflow: Workflow | None, name: str) -> Workflow:
    if workflow is None:
        raise missing(name)
    return workflow


def missing(name: str) -> WorkflowMissingError:
    """The error that there is no workflow of a name."""
    return WorkflowMissingError(f"There is no workflow named {name!r}.")


def _traits(version: Version) -> dict[str, Any]:
    return {"version": version.number, "state": version.state, "checksum": version.checksum}


def _check_room(tenant_id: UUID) -> None:
    quotas.check_room(tenant_id=tenant_id, quota=Quota.WORKFLOWS, count=Workflow.objects.for_tenant(tenant_id).count)
