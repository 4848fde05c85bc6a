"""Shapes of workflows in the API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from workflows.models import Workflow
from workflows.services import Saved


class WorkflowShape(serializers.Serializer[Any]):
    """A workflow as the API shows it."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    labels = serializers.DictField(child=serializers.CharField())
    version = serializers.IntegerField(help_text="Number of the newest version.")
    checksum = serializers.CharField(help_text="SHA-256 of the canonical definition.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class WorkflowDetailShape(WorkflowShape):
    """A workflow with its newest definition."""

    definition = serializers.DictField(help_text="The canonical definition.")


class WorkflowListShape(serializers.Serializer[Any]):
    """A page of workflows."""

    results = WorkflowShape(many=True)
    next = serializers.CharField(allow_null=True, help_text="The address of the next page.")
    previous = serializers.CharField(allow_null=True)


def show(workflow: Workflow, *, number: int, checksum: str) -> dict[str, Any]:
    """``WorkflowShape`` of a row."""
    return {
        "id": str(workflow.pk),
        "name": workflow.name,
        "description": workflow.description,
        "labels": workflow.labels,
        "version": number,
        "checksum": checksum,
        "created_at": workflow.created_at,
        "updated_at": workflow.updated_at,
    }


def show_saved(saved: Saved) -> dict[str, Any]:
    """``WorkflowShape`` of what was just stored."""
    return show(saved.workflow, number=saved.version.number, checksum=saved.version.checksum)
