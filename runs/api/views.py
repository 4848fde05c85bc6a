"""Runs over HTTP: one, and many."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache, lru_cache
from typing import Any, ClassVar
from uuid import UUID

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.conditional import etag, is_known
from plumbing.rest.pagination import paginate
from plumbing.rest.serializers import Strict, validated
from pyflow.core.states import TERMINAL_RUN_STATES
from runs.api.preferences import PREFER, answer_waited, applied, wait_for_runs
from runs.api.queries import ORDERS, AllRunsQuery, RunsQuery, matching
from runs.api.serializers import (
    RunDetailShape,
    RunShape,
    RunsShape,
    StartRun,
    show_event,
    show_node,
    show_run,
    show_summary,
)
from runs.api.shared import OfRun, OfWorkflow
from runs.models import EventRecord, Run, RunQuerySet
from runs.services.find import find_run, first_events_of, nodes_of, progress_of_nodes
from runs.services.start import Start, start_run
from tenants.access import Permission, Principal
from tenants.api.views import TenantView
from tenants.plans import Quota
from workflows.services import find_workflow

CONFLICT = {
    (409, "application/problem+json"): OpenApiResponse(
        OpenApiTypes.OBJECT,
        description="The run's `state` does not allow this; `possible` lists the actions that it allows.",
    )
}
NAME = OpenApiParameter("name", str, OpenApiParameter.PATH, description="The workflow's name.")


class WorkflowRunsView(OfWorkflow):
    """Runs of one workflow."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ, "POST": Permission.RUNS_WRITE}
    reads_query = frozenset({"GET"})
    limited_by: ClassVar = {"POST": (Quota.RUNS_PER_DAY, Quota.STORED_BYTES)}

    @extend_schema(
        operation_id="workflow_runs_list",
        summary="List a workflow's runs",
        parameters=[NAME, RunsQuery],
        responses=RunsShape,
    )
    def get(self, request: Request, name: str) -> Response:
        """List the workflow's runs, newest first unless `ordering` is given."""
        query = validated(RunsQuery, request.query_params)
        workflow = find_workflow(tenant_id=self.principal.tenant_id, name=name)
        runs = Run.objects.for_tenant(workflow.tenant_id).filter(workflow=workflow)
        return _page(request, self.principal, runs, query)

    @extend_schema(
        operation_id="runs_start",
        summary="Start a run",
        parameters=[NAME, PREFER],
        request=StartRun,
        responses={
            202: OpenApiResponse(RunShape, description="Accepted: the run will be executed. `Location` is its URL."),
            200: OpenApiResponse(
                RunShape, description="The run has already ended, or a run with this `key` already existed."
            ),
        },
    )
    def post(self, request: Request, name: str) -> Response:
        """Start a run of the published version, or of `version`. The run is stored durably before the response."""
        start = Start(**validated(StartRun, request.data))
        started = start_run(by=self.actor, workflow_name=name, start=start)
        headers = links(request, started.run, is_new=True)
        return Response(show_run(started.run), status=202 if started.created else 200, headers=headers)

    def after(self, request: Request, response: Response) -> Response:
        """With ``Prefer: wait``: the run once it has ended."""
        return answer_waited(self, request, response) if request.method == "POST" else response


class RunsView(TenantView):
    """The runs of all workflows."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="runs_list",
        summary="List runs",
        parameters=[AllRunsQuery],
        responses=RunsShape,
    )
    def get(self, request: Request) -> Response:
        """List the tenant's runs, newest first unless `ordering` is given."""
        query = validated(AllRunsQuery, request.query_params)
        return _page(request, self.principal, Run.objects.for_tenant(self.principal.tenant_id), query)


def _page(request: Request, principal: Principal, rows: RunQuerySet, query: dict[str, Any]) -> Response:
    rows = matching(rows, query).with_names().defer(*NOT_LISTED)
    order = ORDERS[query["ordering"]]
    return paginate(request, rows, query, tenant_id=principal.tenant_id, order=order).response(show_summary)


#: Of any size, and not part of a summary.
NOT_LISTED = ("version__source", "version__definition", "input", "outputs")
FIELDS = tuple(RunDetailShape().fields)


class RunQuery(Strict):
    """Query parameters of one run: the fields that are wanted."""

    fields = serializers.CharField(  # type: ignore[assignment]
        required=False,
        max_length=500,
        help_text="Only these fields, separated by commas; `id,state` makes a small response for polling.",
    )

    def validate_fields(self, text: str) -> frozenset[str]:
        """The names."""
        names = frozenset(text.split(","))
        if unknown := sorted(names - set(FIELDS)):
            raise serializers.ValidationError(f"There is no field {unknown[0]!r}. The fields are: {', '.join(FIELDS)}.")
        return names


class RunView(OfRun):
    """One run."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="runs_read",
        summary="Read a run",
        parameters=[RunQuery, PREFER],
        responses={
            200: RunDetailShape,
            304: OpenApiResponse(description="Not modified since the `ETag` in `If-None-Match`"),
        },
    )
    def get(self, request: Request, run_id: UUID) -> Response:
        """The run with its node runs and its first 1,000 events. `ETag` and `If-None-Match` make polling cheap.

        With `Prefer: wait=N`, respond when the run has ended, or after N seconds at the latest.
        """
        fields = validated(RunQuery, request.query_params).get("fields", frozenset(FIELDS))
        run = find_run(tenant_id=self.principal.tenant_id, run_id=run_id)
        said = progress_of_nodes(run) if "nodes" in fields else ()
        facts = (run.event_seq, run.state, run.wake_at, *map(str, said))
        tag = etag("run", run.pk, *facts, request.accepted_media_type, *sorted(fields))
        headers = {"ETag": tag} | links(request, run)
        if is_known(request, tag):
            return Response(status=304, headers=headers)
        return Response(_detail(run, fields), headers=headers)

    def after(self, request: Request, response: Response) -> Response:
        """With ``Prefer: wait``: the run after that wait."""
        run_id = self.kwargs["run_id"]
        runs = wait_for_runs(self, request, [run_id]) if request.method == "GET" else None
        if runs is None:
            return response
        with self.scope(request):
            response = type(self).get(self, request, run_id)
        if run_id in runs and runs[run_id].state in TERMINAL_RUN_STATES:
            applied(request, response)
        return response


def _detail(run: Run, fields: Collection[str]) -> dict[str, Any]:
    body = show_run(run)
    if "nodes" in fields:
        body["nodes"] = [show_node(node) for node in nodes_of(run.tenant_id, run.pk)]
    if "events" in fields:
        body["events"] = [_show_event_of(run, event) for event in first_events_of(run.tenant_id, run.pk)]
    return {name: value for name, value in body.items() if name in fields}


def _show_event_of(run: Run, event: EventRecord) -> dict[str, Any]:
    event.run = run
    return show_event(event)


_ANY = UUID(int=0)


@cache
def _path_of_a_run() -> str:
    return reverse("run", kwargs={"run_id": _ANY})


@lru_cache(maxsize=1000)
def _path_of_workflow(name: str) -> str:
    return reverse("workflow", kwargs={"name": name})


def links(request: Request, run: Run, *, is_new: bool = False) -> dict[str, str]:
    """Return the links of a run (RFC 8288); of one ``is_new``, its own address, too."""
    # Routes once, not for each run: looking one up costs more than all the rest of an answer's headers.
    server = request.build_absolute_uri("/").rstrip("/")
    address = server + _path_of_a_run().replace(str(_ANY), str(run.pk))
    links = [(server + _path_of_workflow(run.workflow.name), "up")]
    links += [(f"{address}/{part}", part) for part in ("nodes", "events", "logs", "graph")]
    headers = {"Link": ", ".join(f'<{target}>; rel="{relation}"' for target, relation in links)}
    return headers | {"Location": address} if is_new else headers


class EventsQuery(Strict):
    """Query parameters of the events: the position after which reading continues."""

    after = serializers.IntegerField(
        required=False, default=0, min_value=0, max_value=2**31 - 1, help_text="The `seq` of the last event received."
    )
    limit = serializers.IntegerField(required=False, default=200, min_value=1, max_value=1000)


class EventsView(OfRun):
    """The events of one run."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})

    def get(self, request: Request, run_id: UUID) -> Response:
        """List events after `after`, in order. The list is complete when it is empty and `state` is final."""
        query = validated(EventsQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        # The state is read before the events: a final state then means that no event is missing.
        run = find_run(tenant_id=tenant_id, run_id=run_id)
        rows = EventRecord.objects.for_tenant(tenant_id).filter(run=run, seq__gt=query["after"])
        events = rows.order_by("seq")[: query["limit"]]
        return Response({"results": [_show_event_of(run, event) for event in events], "state": run.state})
