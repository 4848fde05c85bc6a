"""The version that a workflow's runs start: asked for with every start, loaded once per process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import OuterRef, Subquery

from plumbing.database.statements import prepared
from pyflow.core.errors import PyFlowError
from workflows.documents import uuid_of
from workflows.errors import NothingPublishedError
from workflows.models import Version, VersionState, Workflow
from workflows.services import by_currency, check_not_archived, find_current, missing

CACHE_SIZE = 2_000


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A version as it was read, and the revision of its workflow that was read with it."""

    version: Version
    revision: int


#: By the id of the version. What is published is frozen, and each change of a workflow is another revision of it.
_loaded: dict[UUID, _Loaded] = {}


def latest_version(*, tenant_id: UUID, name: str) -> Version:
    """The version that runs start, with its workflow: one query, of four columns if this process has met it before.

    It may be shared with other threads: it is for reading. Its source and its definition are fetched when asked for.
    Raises ``WorkflowMissingError``, ``WorkflowArchivedError`` or ``NothingPublishedError``.
    """
    return _load(tenant_id, name, *_look(tenant_id, name))


def latest_versions(*, tenant_id: UUID, workflow_ids: Collection[UUID]) -> dict[UUID, Version | PyFlowError]:
    """Return for each workflow the version that runs start, or the error that ``latest_version`` raises.

    One query for all whose versions this process has met before.
    """
    current = by_currency(Version.objects.for_tenant(tenant_id).filter(workflow=OuterRef("pk")))
    columns = (Subquery(current.values(name)[:1]) for name in ("pk", "state"))
    rows = Workflow.objects.for_tenant(tenant_id).filter(pk__in=workflow_ids).values_list("pk", *columns, "revision")
    found = {pk: look for pk, *look in rows}
    versions: dict[UUID, Version | PyFlowError] = {}
    for pk in workflow_ids:
        try:
            versions[pk] = _load(tenant_id, str(pk), *found[pk]) if pk in found else missing(str(pk))
        except PyFlowError as error:
            versions[pk] = error
    return versions


def _load(tenant_id: UUID, name: str, version_id: UUID, state: str, revision: int) -> Version:
    known = _loaded.get(version_id)
    if known is None or known.revision != revision:
        version = find_current(tenant_id=tenant_id, name=name, content=False)
        known, state = _Loaded(version, version.workflow.revision), version.state
        if len(_loaded) >= CACHE_SIZE:
            _loaded.clear()
        _loaded[version.pk] = known
    check_not_archived(known.version.workflow)
    if state != VersionState.PUBLISHED:
        raise NothingPublishedError(
            f"The workflow {known.version.workflow.name!r} has no published version. Publish one."
        )
    return known.version


def _look(tenant_id: UUID, name: str) -> tuple[UUID, str, int]:
    """The current version's id and state, and its workflow's revision.

    As ``find_current`` finds it, but written out: to put the same query together for every start costs more than the
    database's answer.
    """
    given = uuid_of(name)
    column = "name" if given is None else "id"
    tenant_key, workflow_key = (Workflow._meta.pk.get_db_prep_value(value, connection) for value in (tenant_id, given))
    if "\0" in name:  # an address may hold one; PostgreSQL refuses to be asked for it
        raise missing(name)
    statement = f"""
        SELECT version.id, version.state, workflow.revision
        FROM workflows_version version JOIN workflows_workflow workflow ON workflow.id = version.workflow_id
        WHERE workflow.tenant_id = %s AND version.tenant_id = %s AND workflow.{column} = %s
        ORDER BY version.publication DESC NULLS LAST, version.number DESC
        LIMIT 1
    """  # noqa: S608 - one of two names; every value is a parameter
    with prepared() as cursor:
        cursor.execute(statement, [tenant_key, tenant_key, name if given is None else workflow_key])
        row = cursor.fetchone()
    if row is None:
        raise missing(name)
    return row[0] if isinstance(row[0], UUID) else UUID(row[0]), row[1], row[2]
