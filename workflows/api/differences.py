"""Versions compared, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.serializers import validated
from tenants.access import Permission
from workflows.api.answers import NAME, SharedWorkflowView, verbatim
from workflows.api.serializers import DiffQuery
from workflows.impact import callers_of, runs_in_flight
from workflows.versions import Comparison, compare_versions


class ChangeShape(serializers.Serializer[Any]):
    """One difference."""

    kind = serializers.ChoiceField(["added", "removed", "changed"])
    pointer = serializers.CharField(help_text="JSON Pointer (RFC 6901), relative to the changed element.")
    before = serializers.JSONField(required=False, help_text="Value before the change; absent for an addition.")
    after = serializers.JSONField(required=False, help_text="Value after the change; absent for a removal.")


class ElementShape(serializers.Serializer[Any]):
    """A node or a trigger."""

    id = serializers.CharField(help_text="The id; for a trigger without one, its type.")
    type = serializers.CharField()
    section = serializers.ChoiceField(
        ["nodes", "on_failure", "finally"], required=False, help_text="Section of the workflow; nodes only."
    )
    config = serializers.DictField(required=False, help_text="Config; triggers only.")


class ChangedElementShape(ElementShape):
    """A changed node or trigger, in its new form."""

    changes = ChangeShape(many=True)


class ElementsShape(serializers.Serializer[Any]):
    """Nodes or triggers that differ."""

    added = ElementShape(many=True)
    removed = ElementShape(many=True)
    changed = ChangedElementShape(many=True)


class EdgeShape(serializers.Serializer[Any]):
    """A dependency between two nodes."""

    to = serializers.CharField(help_text="The dependent node.")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """With ``from``, which is no name in Python."""
        return {"from": serializers.CharField(help_text="The dependency."), **super().get_fields()}


class EdgesShape(serializers.Serializer[Any]):
    """Edges that differ."""

    added = EdgeShape(many=True)
    removed = EdgeShape(many=True)


class CallerShape(serializers.Serializer[Any]):
    """A node that runs the workflow."""

    workflow = serializers.CharField()
    version = serializers.IntegerField()
    node = serializers.CharField()


class InFlightShape(serializers.Serializer[Any]):
    """Runs of a version that have not ended."""

    version = serializers.IntegerField()
    runs = serializers.IntegerField()


class ImpactShape(serializers.Serializer[Any]):
    """The impact of a change."""

    schedules = ElementsShape(help_text="Changed triggers of the type `schedule`.")
    callers = CallerShape(
        many=True,
        help_text="Nodes that call the workflow, in current versions. Names computed by templates are not found.",
    )
    runs_in_flight = InFlightShape(
        many=True,
        allow_null=True,
        help_text="Active runs, which keep their version. Null without the permission `runs:read`.",
    )


class DiffShape(serializers.Serializer[Any]):
    """The differences in meaning between two versions."""

    workflow = serializers.CharField()
    to = serializers.IntegerField()
    identical = serializers.BooleanField()
    document = ChangeShape(many=True, help_text="Name, description and version of the format.")
    nodes = ElementsShape()
    edges = EdgesShape()
    triggers = ElementsShape()
    labels = ChangeShape(many=True)
    inputs = ChangeShape(many=True)
    outputs = ChangeShape(many=True)
    vars = ChangeShape(many=True)
    settings = ChangeShape(many=True)
    reordered = serializers.ListField(
        child=serializers.CharField(), help_text="Sections whose nodes have a different order."
    )
    impact = ImpactShape()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """With ``from``, which is no name in Python."""
        return {"from": serializers.IntegerField(), **super().get_fields()}


class DiffView(SharedWorkflowView):
    """Two versions of a workflow."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="versions_diff",
        summary="Compare two versions",
        parameters=[NAME, DiffQuery],
        responses={
            (200, "application/json"): DiffShape,
            (200, "application/yaml"): DiffShape,
            (200, "application/json-patch+json"): OpenApiResponse(
                {"type": "array", "items": {"type": "object"}}, description="`format=json-patch` (RFC 6902)"
            ),
            (200, "text/x-diff"): OpenApiResponse(OpenApiTypes.STR, description="`format=text`"),
        },
    )
    def get(self, request: Request, name: str) -> Response:
        """List what is added, removed and changed, and what it affects; or a JSON Patch; or a line diff.

        Any two versions, in either order, drafts included.
        """
        query = validated(DiffQuery, request.query_params)
        compared = compare_versions(
            tenant_id=self.principal.tenant_id, name=name, before=query["from"], after=query["to"]
        )
        if query["format"] == "json-patch":
            text = json.dumps(compared.patch(), ensure_ascii=False)
            return verbatim(request, text, "application/json-patch+json", {})
        if query["format"] == "text":
            return verbatim(request, compared.text(), "text/x-diff; charset=utf-8", {})
        return Response(self._show(compared))

    def _show(self, compared: Comparison) -> Mapping[str, Any]:
        diff, workflow = compared.diff(), compared.workflow
        runs = runs_in_flight(workflow) if self.principal.may(Permission.RUNS_READ) else None
        return {
            "workflow": workflow.name,
            "from": compared.before.number,
            "to": compared.after.number,
            **diff.as_dict(),
            "impact": {
                "schedules": diff.triggers.only("schedule").as_dict(),
                "callers": [
                    {"workflow": caller.workflow, "version": caller.version, "node": caller.node}
                    for caller in callers_of(workflow)
                ],
                "runs_in_flight": None
                if runs is None
                else [{"version": number, "runs": count} for number, count in runs.items()],
            },
        }
