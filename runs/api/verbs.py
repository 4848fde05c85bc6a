"""What operators ask of a run, over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from runs.api.serializers import RunShape, show_run
from runs.api.shared import OfRun
from runs.api.views import CONFLICT, links
from runs.reruns import plan_rerun, rerun
from runs.verbs import pause_run, resume_run, retry_run, terminate_run
from tenants.access import Permission
from tenants.api.serializers import Strict, validated


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


class Rerun(Strict):
    """How a run is repeated."""

    version = serializers.RegexField(
        r"^(original|latest|[1-9][0-9]{0,8})$",
        required=False,
        default="original",
        help_text="`original`: that of the run; `latest`: the one published last; or a number.",
    )
    input = serializers.DictField(required=False, help_text="Instead of the run's own; checked as that of a start.")
    plan = serializers.BooleanField(
        required=False, default=False, help_text="Only tell what would become of each node."
    )

    def get_fields(self) -> dict[str, Any]:
        """``from``, too, which is no name in Python."""
        help_text = "This node and what comes after it is run; other results are reused. Without it: all is run."
        start = serializers.CharField(required=False, max_length=255, help_text=help_text)
        return {"from": start} | super().get_fields()


class NodePlanShape(serializers.Serializer[Any]):
    """What becomes of one node."""

    node = serializers.CharField()
    action = serializers.ChoiceField(["reuse", "run", "orphan"], help_text="`orphan`: only the source has it.")


class RerunPlanShape(serializers.Serializer[Any]):
    """What a rerun would do."""

    version = serializers.IntegerField()
    nodes = NodePlanShape(many=True)


class RerunView(OfRun):
    """A new run that repeats another one."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="runs_rerun",
        summary="Repeat a run",
        request=Rerun,
        responses={
            202: OpenApiResponse(RunShape, description="A new run, whose `source_run` is this one."),
            200: OpenApiResponse(RerunPlanShape, description="With `plan`: nothing was started."),
        },
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Start a new run, on the same version or another one, that may reuse the results upstream of a node."""
        wanted = validated(Rerun, request.data)
        version = wanted["version"] if wanted["version"] in {"original", "latest"} else int(wanted["version"])
        start_from = wanted.get("from")
        if wanted["plan"]:
            _, target, steps = plan_rerun(
                tenant_id=self.principal.tenant_id, run_id=run_id, start_from=start_from, version=version
            )
            nodes = [{"node": step.node_id, "action": step.action} for step in steps]
            return Response({"version": target.number, "nodes": nodes})
        run = rerun(by=self.actor, run_id=run_id, start_from=start_from, version=version, input=wanted.get("input"))
        return Response(show_run(run), status=202, headers=links(request, run))
