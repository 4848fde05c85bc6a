"""The nodes of a run over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.pagination import paginate
from plumbing.rest.serializers import validated
from runs.api.queries import NodesQuery
from runs.api.serializers import (
    ItemsShape,
    NodeRunDetailShape,
    NodeRunsShape,
    show_attempts,
    show_item,
    show_node,
)
from runs.api.shared import OfRun
from runs.models import EventRecord, NodeItem, NodeRun
from runs.services.find import find_node, find_run
from tenants.access import Permission

NODE_ID = OpenApiParameter("node_id", str, OpenApiParameter.PATH, description="The node's id in the workflow.")


class NodesView(OfRun):
    """The nodes of one run."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="run_nodes_list",
        summary="List a run's nodes",
        parameters=[NodesQuery],
        responses=NodeRunsShape,
    )
    def get(self, request: Request, run_id: UUID) -> Response:
        """List the nodes that have a state other than `pending`, in the order in which they were first recorded."""
        query = validated(NodesQuery, request.query_params)
        run = find_run(tenant_id=self.principal.tenant_id, run_id=run_id)
        rows = NodeRun.objects.for_tenant(run.tenant_id).filter(run=run)
        if query.get("state"):
            rows = rows.filter(state__in=query["state"])
        return paginate(request, rows, query, tenant_id=run.tenant_id, order=("id",)).response(show_node)


class NodeView(OfRun):
    """One node of one run."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}

    @extend_schema(
        operation_id="run_nodes_read",
        summary="Read a node of a run",
        parameters=[NODE_ID],
        responses=NodeRunDetailShape,
    )
    def get(self, request: Request, run_id: UUID, node_id: str) -> Response:
        """Read a node with its attempts. A node without any record is `pending`."""
        node, type = find_node(tenant_id=self.principal.tenant_id, run_id=run_id, node_id=node_id)
        rows: dict[str, Any] = {"run": node.run_id, "node_id": node_id}
        events = EventRecord.objects.for_tenant(node.tenant_id).filter(**rows).order_by("seq")
        items = NodeItem.objects.for_tenant(node.tenant_id).filter(**rows).count()
        return Response(show_node(node) | {"type": type, "history": show_attempts(events), "items": items})


class ItemsView(OfRun):
    """The items of one fan-out."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="run_node_items_list",
        summary="List the items of a fan-out",
        parameters=[NODE_ID, NodesQuery],
        responses=ItemsShape,
    )
    def get(self, request: Request, run_id: UUID, node_id: str) -> Response:
        """List the items that have a state other than `pending`, by index."""
        query = validated(NodesQuery, request.query_params)
        node, _ = find_node(tenant_id=self.principal.tenant_id, run_id=run_id, node_id=node_id)
        rows = NodeItem.objects.for_tenant(node.tenant_id).filter(run=node.run_id, node_id=node_id)
        if query.get("state"):
            rows = rows.filter(state__in=query["state"])
        return paginate(request, rows, query, tenant_id=node.tenant_id, order=("index",)).response(show_item)
