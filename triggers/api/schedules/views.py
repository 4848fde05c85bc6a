"""Schedules over HTTP: listed, previewed, paused, fired and backfilled. What they are is in the workflow's document."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db.models import Q
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.conditional import ETAG, IF_MATCH, check_match, is_known
from plumbing.rest.pagination import paginate
from plumbing.rest.serializers import validated
from tenants.access import Permission
from tenants.api.views import TenantView
from tenants.plans import Quota
from triggers.api.schedules.shapes import (
    Backfill,
    BackfillShape,
    ChangeSchedule,
    FireShape,
    FiresQuery,
    FiresShape,
    PreviewQuery,
    PreviewShape,
    ScheduleShape,
    SchedulesQuery,
    SchedulesShape,
    show_backfill,
    show_fire,
    show_preview,
    show_schedule,
    tag_of,
    with_states,
)
from triggers.models.schedules import Schedule, ScheduleFire
from triggers.services.schedules.previews import preview
from triggers.services.schedules.rows import find_schedule, workflow_of_schedule
from triggers.services.schedules.verbs import backfill, fire_now, pause_schedule
from workflows.api.answers import STALE, UNSEEN, refused
from workflows.models import Workflow

INACTIVE = (409, "The schedule is inactive, or its config cannot be used")


class SchedulesView(TenantView):
    """The schedules of all workflows."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="schedules_list",
        summary="List schedules",
        parameters=[SchedulesQuery],
        responses=SchedulesShape,
    )
    def get(self, request: Request) -> Response:
        """List the schedules of the tenant in the order in which they were made."""
        query, tenant_id = validated(SchedulesQuery, request.query_params), self.principal.tenant_id
        rows = Schedule.objects.for_tenant(tenant_id)
        if query.get("state"):
            rows = with_states(rows, query["state"])
        if "workflow" in query:
            rows = rows.filter(workflow__name__in=query["workflow"])
        if "search" in query:
            rows = rows.filter(Q(workflow__name__icontains=query["search"]) | Q(trigger_id__icontains=query["search"]))
        rows = rows.select_related("workflow")
        return paginate(request, rows, query, tenant_id=tenant_id, order=("id",)).response(show_schedule)


class OfSchedule(TenantView):
    """Something of the schedule ``schedule_id``."""

    def shared_object(self) -> Workflow | None:
        """The schedule's workflow may have been shared with the caller."""
        return workflow_of_schedule(tenant_id=self.principal.tenant_id, schedule_id=self.kwargs["schedule_id"])


class ScheduleView(OfSchedule):
    """One schedule."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ, "PATCH": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="schedules_read",
        summary="Read a schedule",
        parameters=[ETAG],
        responses={
            200: ScheduleShape,
            304: OpenApiResponse(description="Not modified since the `ETag` in `If-None-Match`."),
        },
    )
    def get(self, request: Request, schedule_id: UUID) -> Response:
        """Read a schedule with its next slot. Its `ETag` changes with every slot that fires."""
        schedule = find_schedule(tenant_id=self.principal.tenant_id, schedule_id=schedule_id)
        headers = {"ETag": tag_of(schedule)}
        if is_known(request, headers["ETag"]):
            return Response(status=304, headers=headers)
        return Response(show_schedule(schedule), headers=headers)

    @extend_schema(
        operation_id="schedules_update",
        summary="Pause or resume a schedule",
        parameters=[IF_MATCH, ETAG],
        request=ChangeSchedule,
        responses={200: ScheduleShape, **refused(STALE, UNSEEN, INACTIVE)},
    )
    def patch(self, request: Request, schedule_id: UUID) -> Response:
        """Pause or resume as `pause` and `resume` do, provided that the schedule is as it was read."""
        paused = validated(ChangeSchedule, request.data)["paused"]

        def unchanged(schedule: Schedule) -> None:
            check_match(request, tag_of(schedule), required=True)

        schedule = pause_schedule(by=self.actor, schedule_id=schedule_id, paused=paused, precondition=unchanged)
        return Response(show_schedule(schedule), headers={"ETag": tag_of(schedule)})


class _PausingView(OfSchedule):
    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}
    reads_no_body: ClassVar = frozenset({"POST"})
    paused: ClassVar[bool]

    def _change(self, schedule_id: UUID) -> Response:
        schedule = pause_schedule(by=self.actor, schedule_id=schedule_id, paused=self.paused)
        return Response(show_schedule(schedule), headers={"ETag": tag_of(schedule)})


class PauseScheduleView(_PausingView):
    """Stopping a schedule for a while."""

    paused = True

    @extend_schema(
        operation_id="schedules_pause",
        summary="Pause a schedule",
        parameters=[ETAG],
        request=None,
        responses={200: ScheduleShape},
    )
    def post(self, request: Request, schedule_id: UUID) -> Response:
        """Let no slot fire until the schedule is resumed; active runs continue. New versions keep it paused."""
        return self._change(schedule_id)


class ResumeScheduleView(_PausingView):
    """Letting a schedule go on."""

    paused = False

    @extend_schema(
        operation_id="schedules_resume",
        summary="Resume a schedule",
        parameters=[ETAG],
        request=None,
        responses={200: ScheduleShape, **refused(INACTIVE)},
    )
    def post(self, request: Request, schedule_id: UUID) -> Response:
        """Go on with the first slot from now on: those that passed meanwhile are not caught up. Failures count anew."""
        return self._change(schedule_id)


class FireScheduleView(OfSchedule):
    """A slot on request."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}
    reads_no_body: ClassVar = frozenset({"POST"})
    limited_by: ClassVar = {"POST": (Quota.RUNS_PER_DAY, Quota.STORED_BYTES)}

    @extend_schema(
        operation_id="schedules_fire",
        summary="Fire a schedule now",
        request=None,
        responses={202: FireShape, **refused(INACTIVE)},
    )
    def post(self, request: Request, schedule_id: UUID) -> Response:
        """Fire a slot of this moment, whether the schedule is paused or not; its other slots stay as they are.

        Its rule for overlap holds: while an earlier run is active, the answer may be a slot that was `skipped`, or
        that is `buffered`.
        """
        return Response(show_fire(fire_now(by=self.actor, schedule_id=schedule_id)), status=202)


class PreviewView(OfSchedule):
    """Slots to come."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="schedules_preview",
        summary="Preview the next slots of a schedule",
        parameters=[PreviewQuery],
        responses={200: PreviewShape, **refused(INACTIVE)},
    )
    def get(self, request: Request, schedule_id: UUID) -> Response:
        """List the next slots, with notes on clock changes, and on the rules for overlap and catch-up."""
        count = validated(PreviewQuery, request.query_params)["n"]
        schedule = find_schedule(tenant_id=self.principal.tenant_id, schedule_id=schedule_id)
        return Response(show_preview(preview(schedule, count)))


class BackfillView(OfSchedule):
    """Slots of the past."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="schedules_backfill",
        summary="Start the runs of slots in the past",
        request=Backfill,
        responses={
            200: OpenApiResponse(BackfillShape, description="With `dry_run`: nothing is started."),
            202: OpenApiResponse(BackfillShape, description="The scheduler starts the runs."),
            **refused(INACTIVE, (422, "The range is not valid, or has too many slots")),
        },
    )
    def post(self, request: Request, schedule_id: UUID) -> Response:
        """Start a run for each slot of the range that has started none, by the timetable of the published version.

        One after the other, the earliest first, or all at once with `overlap: allow_all`. Their input sees the slot as
        `trigger.scheduled_for`. A paused schedule is backfilled, too.
        """
        wanted = validated(Backfill, request.data)
        slots = backfill(
            by=self.actor,
            schedule_id=schedule_id,
            begin=wanted["from"],
            end=wanted["to"],
            dry_run=wanted["dry_run"],
        )
        status = 200 if wanted["dry_run"] else 202
        return Response(show_backfill(slots, dry_run=wanted["dry_run"]), status=status)


class FiresView(OfSchedule):
    """Slots that have passed."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="schedule_fires_list",
        summary="List the slots of a schedule that have passed",
        parameters=[FiresQuery],
        responses=FiresShape,
    )
    def get(self, request: Request, schedule_id: UUID) -> Response:
        """List what became of each slot, the newest first: its run, or why there is none."""
        query, tenant_id = validated(FiresQuery, request.query_params), self.principal.tenant_id
        schedule = find_schedule(tenant_id=tenant_id, schedule_id=schedule_id)
        rows = ScheduleFire.objects.for_tenant(tenant_id).filter(schedule=schedule)
        for name, condition in _CONDITIONS.items():
            if query.get(name):
                rows = rows.filter(**{condition: query[name]})
        return paginate(request, rows, query, tenant_id=tenant_id, order=("-scheduled_for", "-id")).response(show_fire)


_CONDITIONS = {
    "state": "state__in",
    "cause": "cause__in",
    "scheduled_after": "scheduled_for__gte",
    "scheduled_before": "scheduled_for__lt",
}
