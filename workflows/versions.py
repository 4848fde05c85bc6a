"""Verbs about the versions of a workflow: drafts are edited, published, archived, and earlier ones come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.utils import timezone

from pyflow.compare.diff import Diff, compare, json_patch
from pyflow.compare.text_diff import unified
from pyflow.core.errors import DefinitionError, Problem
from pyflow.core.events import EventType
from pyflow.documents.models import WorkflowDef
from pyflow.validation.loader import Format
from tenants import quotas
from tenants.access import Actor
from workflows.documents import canonical_text, converted
from workflows.errors import VersionMissingError, VersionStateError
from workflows.models import Version, VersionState, Workflow
from workflows.services import (
    add_version,
    any_state,
    changed_version,
    check_not_archived,
    checked,
    current_version,
    find_workflow,
    lock_workflow,
    named,
    next_numbers,
    record_change,
    size_of,
)

Precondition = Callable[[Version], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions of a workflow, and what else the way from one to the other concerns."""

    before: Version
    after: Version

    @property
    def workflow(self) -> Workflow:
        """The workflow of both versions."""
        return self.after.workflow

    def diff(self) -> Diff:
        """Compare the two definitions."""
        return compare(json.loads(self.before.definition), json.loads(self.after.definition))

    def patch(self) -> list[dict[str, Any]]:
        """The JSON Patch (RFC 6902) from one definition to the other."""
        return json_patch(json.loads(self.before.definition), json.loads(self.after.definition))

    def text(self) -> str:
        """Their documents line by line, in the format of the second, as ``diff -u`` shows them."""
        ours = converted(self.before.source, _format(self.before), _format(self.after))
        names = {"before_name": f"version {self.before.number}", "after_name": f"version {self.after.number}"}
        return unified(ours, self.after.source, **names)


MAX_NUMBER = 2**31 - 1


def versions_of(workflow: Workflow) -> models.QuerySet[Version]:
    """The versions of a workflow without their documents, and with the one that they were copied from."""
    rows = Version.objects.for_tenant(workflow.tenant_id).filter(workflow=workflow).select_related("copied_from")
    return rows.defer("source", "definition", "copied_from__source", "copied_from__definition")


def find_version(*, tenant_id: UUID, name: str, number: int) -> Version:
    """A version with its workflow. Raises ``WorkflowMissingError`` or ``VersionMissingError``."""
    workflow = find_workflow(tenant_id=tenant_id, name=name)
    return _version(workflow, number)


def startable_version(*, tenant_id: UUID, name: str, number: int) -> Version:
    """The version of this number, for a run to be started of it; with its workflow, without its source: one query.

    Raises ``WorkflowMissingError``, ``WorkflowArchivedError``, ``VersionMissingError``, or ``VersionStateError`` if it
    is a draft or archived.
    """
    rows = Version.objects.for_tenant(tenant_id).filter(named(name, "workflow__"), number=number)
    version = rows.select_related("workflow").defer("source").first() if number <= MAX_NUMBER else None
    if version is None:
        raise no_version(find_workflow(tenant_id=tenant_id, name=name), number)
    check_not_archived(version.workflow)
    version.must_be_published()
    return version


def compare_versions(*, tenant_id: UUID, name: str, before: int, after: int) -> Comparison:
    """Two versions to be compared. Raises ``WorkflowMissingError`` or ``VersionMissingError``."""
    workflow = find_workflow(tenant_id=tenant_id, name=name)
    return Comparison(_version(workflow, before), _version(workflow, after))


def create_draft(*, by: Actor, name: str, source: str, source_format: Format) -> Version:
    """Store a document as a draft: no run starts it until it is published.

    Raises ``WorkflowMissingError``, ``WorkflowArchivedError``, ``DocumentError`` or ``DefinitionError``.
    """
    definition = checked(by.tenant_id, source, source_format)
    with transaction.atomic():
        workflow = lock_workflow(tenant_id=by.tenant_id, name=name)
        _check_name(definition, workflow)
        number, _ = next_numbers(workflow)
        version = add_version(workflow, definition, source, source_format, number=number, publication=0)
        record_change(by, "version.drafted", version)
        changed_version(by, EventType.WORKFLOW_UPDATED, version)
    return version


def edit_draft(
    *, by: Actor, name: str, number: int, source: str, source_format: Format, precondition: Precondition = any_state
) -> Version:
    """Replace the document of a draft. Raises as ``create_draft`` does, and ``VersionStateError``."""
    definition = checked(by.tenant_id, source, source_format)
    with transaction.atomic():
        workflow, version = _locked(by, name, number, precondition)
        _check_name(definition, workflow)
        version.must_be_draft()
        before = Version(number=number, state=version.state, checksum=version.checksum)
        quotas.add_stored_bytes(tenant_id=by.tenant_id, amount=size_of(source) - size_of(version.source))
        version.source, version.source_format = source, source_format
        version.definition, version.checksum = canonical_text(definition), definition.checksum()
        version.updated_at = timezone.now()
        version.save()
        record_change(by, "version.edited", version, before=before)
        changed_version(by, EventType.WORKFLOW_UPDATED, version)
    return version


def delete_draft(*, by: Actor, name: str, number: int, precondition: Precondition = any_state) -> None:
    """Delete a draft. Raises ``VersionStateError`` for what is none, or is all that the workflow has."""
    with transaction.atomic():
        workflow, version = _locked(by, name, number, precondition)
        version.must_be_draft()
        if not versions_of(workflow).exclude(pk=version.pk).exists():
            raise VersionStateError("It is the only version of its workflow. Delete the workflow.")
        quotas.add_stored_bytes(tenant_id=by.tenant_id, amount=-size_of(version.source))
        record_change(by, "version.deleted", version)
        version.delete()
        changed_version(by, EventType.WORKFLOW_UPDATED, version, deleted=True)


def publish_version(*, by: Actor, name: str, number: int, precondition: Precondition = any_state) -> Version:
    """Freeze a draft and let runs start it from now on; runs in flight keep the version that they began with.

    Raises ``VersionStateError``, and ``DefinitionError`` if it cannot run here any more.
    """
    with transaction.atomic():
        workflow, version = _locked(by, name, number, precondition)
        version.must_be_draft()
        definition = checked(by.tenant_id, version.source, _format(version))
        version.publish(next_numbers(workflow)[1])
        workflow.description, workflow.labels = definition.description or "", definition.labels
        workflow.touch("description", "labels")
        record_change(by, "workflow.published", version)
        changed_version(by, EventType.WORKFLOW_PUBLISHED, version)
    return version


def archive_version(*, by: Actor, name: str, number: int, precondition: Precondition = any_state) -> Version:
    """Let no run start a version any more; runs then start the one published before. Raises ``VersionStateError``."""
    with transaction.atomic():
        workflow, version = _locked(by, name, number, precondition)
        version.archive()
        current = json.loads(current_version(workflow).definition)
        workflow.description, workflow.labels = current.get("description") or "", current.get("labels", {})
        workflow.touch("description", "labels")
        record_change(by, "version.archived", version)
        changed_version(by, EventType.WORKFLOW_UPDATED, version)
    return version


def rollback(*, by: Actor, name: str, number: int) -> Version:
    """Publish a copy of an earlier version, which says where it came from. Raises ``VersionStateError`` for a draft."""
    with transaction.atomic():
        workflow, earlier = _locked(by, name, number, any_state)
        if earlier.state == VersionState.DRAFT:
            raise VersionStateError(f"Version {number} is a draft, which never ran. Publish it.")
        source_format = _format(earlier)
        definition = checked(by.tenant_id, earlier.source, source_format)
        following, publication = next_numbers(workflow)
        version = add_version(
            workflow,
            definition,
            earlier.source,
            source_format,
            number=following,
            publication=publication,
            copied_from=earlier,
        )
        record_change(by, "workflow.rolled_back", version, before=earlier)
        changed_version(by, EventType.WORKFLOW_PUBLISHED, version, copied_from=earlier.number)
    return version


def _locked(by: Actor, name: str, number: int, precondition: Precondition) -> tuple[Workflow, Version]:
    workflow = lock_workflow(tenant_id=by.tenant_id, name=name)
    version = _version(workflow, number)
    precondition(version)
    return workflow, version


def _version(workflow: Workflow, number: int) -> Version:
    rows = Version.objects.for_tenant(workflow.tenant_id).filter(workflow=workflow, number=number)
    version = rows.select_related("copied_from").first() if number <= MAX_NUMBER else None
    if version is None:
        raise no_version(workflow, number)
    version.workflow = workflow
    return version


def no_version(workflow: Workflow, number: int) -> VersionMissingError:
    """The error of a number that no version has."""
    return VersionMissingError(f"The workflow {workflow.name!r} has no version {number}.")


def _format(version: Version) -> Format:
    return "json" if version.source_format == "json" else "yaml"


def _check_name(definition: WorkflowDef, workflow: Workflow) -> None:
    if definition.name != workflow.name:
        message = f"the document's name is {definition.name!r}, that of the workflow {workflow.name!r}"
        raise DefinitionError([Problem("name_mismatch", message, "/name")])
