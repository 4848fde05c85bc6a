"""What operators ask of a run, over HTTP."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from runs.api.serializers import RunShape, show_run
from runs.api.shared import OfRun
from runs.api.views import CONFLICT, links
from runs.verbs import pause_run, resume_run, retry_run, terminate_run
from tenants.access import Permission


class TerminateView(OfRun):
    """The end of a run, at once."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="runs_terminate",
        summary="Terminate a run",
        request=None,
        responses={200: OpenApiResponse(RunShape, description="It has ended, as `cancelled`."), **CONFLICT},
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Without clean-up: nothing is compensated and `finally` does not run. `cancel` is the gentle way."""
        run = terminate_run(by=self.actor, run_id=run_id)
        return Response(show_run(run), headers=links(request, run))


class PauseView(OfRun):
    """The request to start nothing more."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="runs_pause",
        summary="Pause a run",
        request=None,
        responses={
            202: OpenApiResponse(RunShape, description="Nodes that run end first, and then it is `paused`."),
            **CONFLICT,
        },
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """No more nodes start, until `resume`. Timers that come due and signals wait; a paused run holds no worker."""
        run = pause_run(by=self.actor, run_id=run_id)
        return Response(show_run(run), status=202, headers=links(request, run))


class ResumeView(OfRun):
    """The end of a pause."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="runs_resume",
        summary="Resume a run",
        request=None,
        responses={202: OpenApiResponse(RunShape, description="It goes on as soon as a worker is free."), **CONFLICT},
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Let a paused run go on."""
        run = resume_run(by=self.actor, run_id=run_id)
        return Response(show_run(run), status=202, headers=links(request, run))


class RetryView(OfRun):
    """Another try of a run that did not succeed."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="runs_retry",
        summary="Retry a run",
        request=None,
        responses={202: OpenApiResponse(RunShape, description="The same run is queued again."), **CONFLICT},
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """The same run goes on: what failed or was not reached is done; what has completed, items too, stays."""
        run = retry_run(by=self.actor, run_id=run_id)
        return Response(show_run(run), status=202, headers=links(request, run))
