"""Signals to runs and the approvals that are pending, over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.pagination import PageQuery, paginate
from plumbing.rest.serializers import validated
from pyflow.nodes.approval import may_decide
from runs.api.serializers import SendSignal, SignalShape
from runs.api.shared import OfRun
from runs.models import NodeItem, NodeRun
from runs.services.signals import names_of, pending_approvals, signal_run
from tenants.access import Permission
from tenants.api.views import TenantView

_PROBLEM = "application/problem+json"


class SignalsView(OfRun):
    """Signals to one run."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="runs_signal",
        summary="Send a signal to a run",
        request=SendSignal,
        responses={
            202: OpenApiResponse(SignalShape, description="Stored; a node that waits for it later receives it, too."),
            (403, _PROBLEM): OpenApiResponse(
                OpenApiTypes.OBJECT, description="The caller is not among the `assignees` of the approval."
            ),
            (409, _PROBLEM): OpenApiResponse(
                OpenApiTypes.OBJECT,
                description="The run has ended, or no node of it can wait for a signal of this name; `awaited` lists "
                "the possible names.",
            ),
            (422, _PROBLEM): OpenApiResponse(
                OpenApiTypes.OBJECT, description="Not valid; for a decision, `errors` lists each problem."
            ),
        },
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Deliver a named payload. A decision is validated on receipt, even if its approval does not wait yet.

        The caller is recorded as `by`; a program that decides for a person names that person in `on_behalf_of`.
        """
        signal = validated(SendSignal, request.data)
        delivered = signal_run(
            by=self.actor,
            sender=self.principal,
            run_id=run_id,
            name=signal["name"],
            payload=signal["payload"],
            signal_id=signal.get("id"),
        )
        return Response({"delivered": delivered}, status=202)


class ApprovalsQuery(PageQuery):
    """Query parameters of the list of pending approvals."""

    assignee = serializers.CharField(
        required=False,
        max_length=255,
        help_text="`me`: approvals that the caller may decide; or an entry of `assignees`, such as `role:admin`.",
    )
    workflow = serializers.ListField(
        child=serializers.CharField(max_length=128), required=False, max_length=50, help_text="Name of the workflow."
    )
    run = serializers.UUIDField(required=False, help_text="Only approvals of this run.")


class ItemPlaceShape(serializers.Serializer[Any]):
    """An item of a fan-out."""

    index = serializers.IntegerField()
    key = serializers.CharField()


class ApprovalShape(serializers.Serializer[Any]):
    """An approval that waits for a decision."""

    id = serializers.UUIDField()
    run = serializers.UUIDField()
    workflow = serializers.CharField()
    version = serializers.IntegerField()
    node_id = serializers.CharField()
    item = ItemPlaceShape(allow_null=True, help_text="The item of a fan-out that waits; null for a node.")
    signal = serializers.CharField(help_text="The name of the signal that decides it.")
    assignees = serializers.ListField(child=serializers.CharField(), help_text="Who may decide; owners always may.")
    message = serializers.JSONField(allow_null=True, help_text="The question to decide.")
    form = serializers.DictField(allow_null=True, help_text="JSON Schema of the decision's `data`.")
    since = serializers.DateTimeField(allow_null=True)
    until = serializers.DateTimeField(allow_null=True, help_text="Time at which the approval times out.")
    on_timeout = serializers.ChoiceField(
        ["fail", "approve", "reject"], help_text="Outcome when the approval times out."
    )
    may_decide = serializers.BooleanField(help_text="Whether the caller may decide.")


class ApprovalsShape(serializers.Serializer[Any]):
    """A page of pending approvals."""

    results = ApprovalShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class ApprovalsView(TenantView):
    """The approvals that wait for a decision, of all runs."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="approvals_list",
        summary="List pending approvals",
        parameters=[ApprovalsQuery],
        responses=ApprovalsShape,
    )
    def get(self, request: Request) -> Response:
        """List approvals that wait for a decision, oldest first."""
        query = validated(ApprovalsQuery, request.query_params)
        mine, assignee = names_of(self.principal), query.get("assignee")
        names = mine if assignee == "me" else None if assignee is None else frozenset({_named(assignee)})
        tenant_id = self.principal.tenant_id
        of_nodes, of_items = pending_approvals(
            tenant_id, names=names, workflows=query.get("workflow", ()), run_id=query.get("run")
        )
        can_decide = self.principal.may(Permission.RUNS_WRITE)

        def show(row: NodeRun | NodeItem) -> dict[str, Any]:
            return show_approval(row) | {"may_decide": can_decide and may_decide(_assignees(row), mine)}

        page = paginate(request, of_nodes, query, tenant_id=tenant_id, order=("id",), beside=(of_items,))
        return page.response(show)


def _named(assignee: str) -> str:
    return assignee.casefold() if ":" in assignee else f"user:{assignee.casefold()}"


def _assignees(node: NodeRun | NodeItem) -> list[str]:
    assignees: list[str] = (node.wait or {})["details"].get("assignees", [])
    return assignees


def show_approval(node: NodeRun | NodeItem) -> dict[str, Any]:
    """``ApprovalShape`` of a waiting node or item, but for what depends on the caller."""
    wait = node.wait or {}
    details = wait["details"]
    return {
        "id": str(node.pk),
        "run": str(node.run_id),
        "workflow": node.run.workflow.name,
        "version": node.run.version.number,
        "node_id": node.node_id,
        "item": {"index": node.index, "key": node.key} if isinstance(node, NodeItem) else None,
        "signal": wait["signal"],
        "assignees": _assignees(node),
        "message": details.get("message"),
        "form": details.get("form"),
        "since": node.started_at,
        "until": node.wake_at,
        "on_timeout": details.get("on_timeout", "fail"),
    }
