"""A run's graph over HTTP: the workflow's, with the states of its nodes."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.serializers import Strict, validated
from pyflow.compare.drawing import graph, mermaid
from pyflow.core.states import NodeState
from runs.api.shared import OfRun
from runs.models import NodeRun
from runs.services.find import find_run
from tenants.access import Permission
from workflows.graph_drawing import svg
from workflows.services import plan_of


class GraphQuery(Strict):
    """Query parameters of the graph: its format."""

    format = serializers.ChoiceField(["json", "mermaid", "svg"], required=False, default="json")


class GraphView(OfRun):
    """The graph of one run."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="runs_graph",
        summary="Draw a run",
        parameters=[GraphQuery],
        responses={
            (200, "application/json"): OpenApiResponse(OpenApiTypes.OBJECT, description="Nodes with states, and edges"),
            (200, "application/yaml"): OpenApiResponse(OpenApiTypes.OBJECT, description="Nodes with states, and edges"),
            (200, "text/vnd.mermaid"): OpenApiResponse(OpenApiTypes.STR, description="With `format=mermaid`"),
            (200, "image/svg+xml"): OpenApiResponse(OpenApiTypes.STR, description="With `format=svg`"),
        },
    )
    def get(self, request: Request, run_id: UUID) -> Response | HttpResponse:
        """Read nodes and edges with the current state of each node, as data or as a drawing."""
        wanted = validated(GraphQuery, request.query_params)["format"]
        run = find_run(tenant_id=self.principal.tenant_id, run_id=run_id)
        rows = NodeRun.objects.for_tenant(run.tenant_id).filter(run=run)
        plan, states = plan_of(run.version), dict(rows.values_list("node_id", "state"))
        if wanted == "mermaid":
            return HttpResponse("\n".join(mermaid(plan, states)) + "\n", content_type="text/vnd.mermaid; charset=utf-8")
        if wanted == "svg":
            return HttpResponse(svg(plan, states), content_type="image/svg+xml; charset=utf-8")
        drawn = graph(plan)
        for node in drawn["nodes"]:
            node["state"] = states.get(node["id"], NodeState.PENDING.value)
        return Response(drawn | {"run": str(run.pk), "state": run.state})
