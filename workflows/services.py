"""Verbs about workflows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.utils import timezone

from plugins.discovery import discover
from pyflow.core.checker import locate
from pyflow.core.errors import DefinitionError, Problem
from pyflow.core.loader import Format, parse_workflow
from pyflow.core.models import WorkflowDef
from pyflow.core.plan import Plan, compile_plan, compile_stored
from tenants import audit, quotas
from tenants.access import Actor, Principal
from tenants.plans import Quota
from workflows.errors import WorkflowExistsError, WorkflowMissingError
from workflows.models import Version, Workflow

MAX_NAME = 128
MAX_NODE_ID = 255

#: Asked with the row, once it is locked (``None``: there is none): raises if the caller means another state of it.
Precondition = Callable[[Workflow | None], None]


def _any_state(_: Workflow | None) -> None:
    """The precondition of those who have none."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a document: the version it is now, and whether that version and its workflow are new."""

    workflow: Workflow
    version: Version
    created: bool
    changed: bool


def create_workflow(*, by: Actor, source: str, source_format: Format) -> Saved:
    """Store a new workflow. Raises ``DocumentError``, ``DefinitionError``, ``WorkflowExistsError`` or
    ``QuotaExceededError``.
    """
    definition = _checked(by.tenant_id, source, source_format)
    try:
        with transaction.atomic():
            _check_room(by.tenant_id)
            workflow = Workflow.objects.create(tenant_id=by.tenant_id, name=definition.name)
            version = _add_version(workflow, definition, source, source_format, number=1)
            _record(by, "workflow.created", version)
    except IntegrityError:
        raise WorkflowExistsError(
            f"A workflow named {definition.name!r} exists. PUT the document to its address to make a new version."
        ) from None
    return Saved(workflow, version, created=True, changed=True)


def put_workflow(
    *, by: Actor, name: str, source: str, source_format: Format, precondition: Precondition = _any_state
) -> Saved:
    """Store a document as the newest version of ``name``, making the workflow if need be.

    The text of the newest version, sent again, changes nothing. Raises as ``create_workflow`` does, what the
    precondition raises, and ``DefinitionError`` if the document has another name.
    """
    definition = _checked(by.tenant_id, source, source_format)
    if definition.name != name:
        message = f"the document's name is {definition.name!r}, the address says {name!r}"
        raise DefinitionError([Problem("name_mismatch", message, "/name")])
    with transaction.atomic():
        # The row is locked (PostgreSQL; SQLite locks everything): version numbers are given one at a time.
        rows = Workflow.objects.for_tenant(by.tenant_id).select_for_update()
        workflow = rows.filter(name=name).first()
        precondition(workflow)
        created = workflow is None
        if workflow is None:
            _check_room(by.tenant_id)
            try:
                with transaction.atomic():
                    workflow = Workflow.objects.create(tenant_id=by.tenant_id, name=name)
            except IntegrityError:
                workflow, created = rows.get(name=name), False
                precondition(workflow)
        latest = workflow.latest()
        if latest is not None and latest.checksum == definition.checksum() and latest.source == source:
            return Saved(workflow, latest, created=False, changed=False)
        number = 1 if latest is None else latest.number + 1
        version = _add_version(workflow, definition, source, source_format, number=number)
        _record(by, "workflow.created" if created else "workflow.updated", version, before=latest)
    return Saved(workflow, version, created=created, changed=True)


def visible_workflows(principal: Principal) -> models.QuerySet[Workflow]:
    """The workflows that a principal may see: those of its tenant."""
    return Workflow.objects.for_tenant(principal.tenant_id)


def find_workflow(*, tenant_id: UUID, name: str) -> Workflow:
    """A tenant's workflow by its name. Raises ``WorkflowMissingError``."""
    workflow = Workflow.objects.for_tenant(tenant_id).filter(name=name).first()
    if workflow is None:
        raise WorkflowMissingError(f"There is no workflow named {name!r}.")
    return workflow


def latest_version(*, tenant_id: UUID, name: str) -> Version:
    """The newest version of a workflow, with its workflow loaded: one query. Raises ``WorkflowMissingError``."""
    versions = Version.objects.for_tenant(tenant_id).filter(workflow__name=name)
    # An address may hold a NUL character; PostgreSQL refuses to be asked for one.
    version = versions.select_related("workflow").order_by("-number").first() if "\0" not in name else None
    if version is None:
        raise WorkflowMissingError(f"There is no workflow named {name!r}.")
    return version


def plan_of(version: Version) -> Plan:
    """The compiled definition of a version; compiled once per process and checksum."""
    return compile_stored(version.checksum, version.definition, discover().registry)


def _record(by: Actor, action: str, version: Version, *, before: Version | None = None) -> None:
    audit.record(
        by=by,
        action=action,
        target=f"workflow:{version.workflow_id}",
        before=None if before is None else _traits(before),
        after={"name": version.workflow.name, **_traits(version)},
    )


def _traits(version: Version) -> dict[str, Any]:
    return {"version": version.number, "checksum": version.checksum}


def _check_room(tenant_id: UUID) -> None:
    quotas.check_room(tenant_id=tenant_id, quota=Quota.WORKFLOWS, count=Workflow.objects.for_tenant(tenant_id).count)


def _checked(tenant_id: UUID, source: str, source_format: Format) -> WorkflowDef:
    definition = parse_workflow(source, source_format)
    nodes = len(definition.nodes) + len(definition.on_failure) + len(definition.finally_)
    quotas.check(tenant_id=tenant_id, quota=Quota.NODES_PER_WORKFLOW, wanted=nodes)
    if definition.version == 1 and (problems := list(_not_storable(definition))):
        raise DefinitionError(locate(problems, definition._document))
    compile_plan(definition, discover().registry)
    return definition


def _not_storable(definition: WorkflowDef) -> Iterator[Problem]:
    """What version 1 lets a file say and a stored workflow, which has an address and rows, cannot."""
    name = definition.name
    if not name.strip() or len(name) > MAX_NAME or "/" in name or name in {".", ".."} or not name.isprintable():
        yield Problem(
            "bad_name", f"{name!r:.200} cannot be part of an address: 1 to {MAX_NAME} characters, no '/'", "/name"
        )
    for i, node in enumerate(definition.nodes):
        if len(node.id) > MAX_NODE_ID:
            yield Problem("bad_node_id", f"a node id has at most {MAX_NODE_ID} characters", f"/nodes/{i}/id")


def _add_version(
    workflow: Workflow, definition: WorkflowDef, source: str, source_format: Format, *, number: int
) -> Version:
    workflow.description = definition.description or ""
    workflow.labels = definition.labels
    workflow.updated_at = timezone.now()
    workflow.save(update_fields=["description", "labels", "updated_at"])
    version = Version(
        tenant_id=workflow.tenant_id,
        workflow=workflow,
        number=number,
        source=source,
        source_format=source_format,
        definition=json.dumps(definition.canonical(), ensure_ascii=False, separators=(",", ":")),
        checksum=definition.checksum(),
    )
    version.save()
    quotas.add_stored_bytes(tenant_id=workflow.tenant_id, amount=len(source.encode("utf-8", "surrogatepass")))
    return version
