"""Shapes of workflows and their versions in the API."""

from __future__ import annotations

import json
from typing import Any

from drf_spectacular.utils import PolymorphicProxySerializer
from rest_framework import serializers

from plumbing.rest.pagination import PageQuery
from plumbing.rest.serializers import Strict
from workflows.models import Version, VersionState, Workflow

FORMATS = ["json", "yaml"]
MAX_LABELS = 10
ORDERS = ("name", "created_at", "updated_at")


class WorkflowShape(serializers.Serializer[Any]):
    """A workflow as the API shows it."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    labels = serializers.DictField(child=serializers.CharField())
    version = serializers.IntegerField(
        help_text="The published version, which new runs use; if none is published, the newest version."
    )
    version_state = serializers.ChoiceField(VersionState.values)
    checksum = serializers.CharField(help_text="SHA-256 of the canonical definition.")
    archived_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class WorkflowDetailShape(WorkflowShape):
    """A workflow with the definition of that version."""

    definition = serializers.DictField(help_text="The canonical definition.")


class SentShape(serializers.Serializer[Any]):
    """A document as it was sent, or converted to the other format."""

    nodes = serializers.ListField(child=serializers.DictField())


def or_sent(shape: type[serializers.Serializer[Any]]) -> PolymorphicProxySerializer:
    """Describe an operation with the parameter ``format``: it answers the shape or, when asked, the document."""
    return PolymorphicProxySerializer(
        component_name=f"{shape.__name__.removesuffix('Shape')}OrSent",
        serializers=[shape, SentShape],
        resource_type_field_name=None,
    )


class WorkflowListShape(serializers.Serializer[Any]):
    """A page of workflows."""

    results = WorkflowShape(many=True)
    next = serializers.CharField(allow_null=True, help_text="URL of the next page.")
    previous = serializers.CharField(allow_null=True)


class VersionShape(serializers.Serializer[Any]):
    """A version of a workflow."""

    id = serializers.UUIDField()
    workflow = serializers.CharField()
    number = serializers.IntegerField()
    state = serializers.ChoiceField(VersionState.values)
    source_format = serializers.ChoiceField(FORMATS)
    checksum = serializers.CharField(help_text="SHA-256 of the canonical definition.")
    copied_from = serializers.IntegerField(allow_null=True, help_text="The version that a rollback copied.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    published_at = serializers.DateTimeField(allow_null=True)
    archived_at = serializers.DateTimeField(allow_null=True)


class VersionDetailShape(VersionShape):
    """A version with its definition."""

    definition = serializers.DictField(help_text="The canonical definition.")


class VersionListShape(serializers.Serializer[Any]):
    """A page of versions."""

    results = VersionShape(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class WorkflowsQuery(PageQuery):
    """Query parameters of the list of workflows."""

    search = serializers.CharField(required=False, help_text="Text in the name or the description.")
    label = serializers.ListField(  # type: ignore[assignment] # `label` is an attribute of fields as well
        child=serializers.RegexField(r"(?s)^[^:]+:.*$"),
        required=False,
        default=list,
        max_length=MAX_LABELS,
        help_text="`key:value`. If repeated, a workflow must have all of them.",
    )
    state = serializers.ChoiceField(["active", "archived", "all"], required=False, default="active")
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)
    updated_after = serializers.DateTimeField(required=False)
    updated_before = serializers.DateTimeField(required=False)
    ordering = serializers.ChoiceField(
        [*ORDERS, *(f"-{field}" for field in ORDERS)],
        required=False,
        default="name",
        help_text="Field to sort by; `-` for descending order.",
    )

    def validate_search(self, value: str) -> str:
        """PostgreSQL cannot be asked for a NUL character."""
        return _without_nul(value)

    def validate_label(self, value: list[str]) -> list[str]:
        """PostgreSQL cannot be asked for a NUL character, in labels either."""
        return [_without_nul(label) for label in value]


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise serializers.ValidationError("Text may not hold a NUL character.")
    return value


class VersionsQuery(PageQuery):
    """Query parameters of the list of versions."""

    state = serializers.ChoiceField(VersionState.values, required=False)


class DocumentQuery(Strict):
    """Query parameters of a workflow or a version: its format."""

    format = serializers.ChoiceField(
        FORMATS,
        required=False,
        help_text="Respond with the document itself, byte for byte as it was sent if it was sent in this format.",
    )


class CreateQuery(Strict):
    """Query parameters of storing a new workflow."""

    draft = serializers.BooleanField(
        required=False, default=False, help_text="Store the version as a draft instead of publishing it."
    )


class GraphQuery(Strict):
    """Query parameters of a graph: its format."""

    format = serializers.ChoiceField(["json", "mermaid", "svg"], required=False, default="json")
    version = serializers.IntegerField(
        required=False, min_value=1, help_text="Version number. Default: the current version."
    )


class DiffQuery(Strict):
    """Query parameters of a comparison: the versions, and its format."""

    to = serializers.IntegerField(min_value=1, help_text="The number of the other version.")
    format = serializers.ChoiceField(["semantic", "json-patch", "text"], required=False, default="semantic")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """With ``from``, which is no name in Python."""
        first = serializers.IntegerField(min_value=1, help_text="The number of one version.")
        return {"from": first, **super().get_fields()}


class DryRunDocument(Strict):
    """A document that is not stored, and the input of the dry run."""

    document = serializers.JSONField(help_text="The workflow as an object, or as text.")
    format = serializers.ChoiceField(
        FORMATS, required=False, default="yaml", help_text="Format of a document that is sent as text."
    )
    input = serializers.DictField(required=False, default=dict)

    def validate_document(self, value: Any) -> Any:
        """Text or an object."""
        if not isinstance(value, str | dict):
            raise serializers.ValidationError("This is the text of a document, or an object.")
        return value


class DryRun(Strict):
    """The input of a dry run."""

    input = serializers.DictField(required=False, default=dict)
    version = serializers.IntegerField(
        required=False, min_value=1, help_text="Version number. Default: the current version."
    )


def show(workflow: Workflow, *, number: int, state: str, checksum: str) -> dict[str, Any]:
    """``WorkflowShape`` of a row."""
    return {
        "id": str(workflow.pk),
        "name": workflow.name,
        "description": workflow.description,
        "labels": workflow.labels,
        "version": number,
        "version_state": state,
        "checksum": checksum,
        "archived_at": workflow.archived_at,
        "created_at": workflow.created_at,
        "updated_at": workflow.updated_at,
    }


def show_with(version: Version) -> dict[str, Any]:
    """``WorkflowShape`` of the workflow of its current version."""
    return show(version.workflow, number=version.number, state=version.state, checksum=version.checksum)


def show_version(version: Version) -> dict[str, Any]:
    """``VersionShape`` of a row with its workflow and the version that it was copied from."""
    return {
        "id": str(version.pk),
        "workflow": version.workflow.name,
        "number": version.number,
        "state": version.state,
        "source_format": version.source_format,
        "checksum": version.checksum,
        "copied_from": None if version.copied_from is None else version.copied_from.number,
        "created_at": version.created_at,
        "updated_at": version.updated_at,
        "published_at": version.published_at,
        "archived_at": version.archived_at,
    }


def definition_of(version: Version) -> dict[str, Any]:
    """The canonical definition as data."""
    definition: dict[str, Any] = json.loads(version.definition)
    return definition
