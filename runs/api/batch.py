"""Many starts in one request."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.serializers import validated
from pyflow.core.states import TERMINAL_RUN_STATES
from runs.api.preferences import PREFER, applied, wait_for_runs
from runs.api.serializers import BatchShape, StartRun, StartRuns, show_summary
from runs.api.shared import OfWorkflow
from runs.services.start import Start, Started, start_runs
from tenants.access import Permission

NAME = OpenApiParameter("name", str, OpenApiParameter.PATH, description="The workflow's name.")


class BatchView(OfWorkflow):
    """Many new runs of one workflow."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="runs_start_batch",
        summary="Start up to 1,000 runs",
        parameters=[NAME, PREFER],
        request=StartRuns,
        responses={
            202: OpenApiResponse(BatchShape, description="One result per start, in the order of the request."),
            200: OpenApiResponse(BatchShape, description="As 202, and all accepted runs have ended."),
        },
    )
    def post(self, request: Request, name: str) -> Response:
        """Valid starts are accepted in one transaction; each invalid one gets a problem document.

        If a quota is exceeded on the way, the first starts are accepted and the others get a problem document.
        """
        bodies = validated(StartRuns, request.data)["runs"]
        read = [_read(body) for body in bodies]
        starts = [start for start in read if isinstance(start, Start)]
        outcomes = iter(start_runs(by=self.actor, workflow_name=name, starts=starts))
        results = [self._show(next(outcomes) if isinstance(start, Start) else start) for start in read]
        accepted = sum(result["status"] == 202 for result in results)
        return Response({"results": results, "accepted": accepted}, status=202)

    def after(self, request: Request, response: Response) -> Response:
        """With ``Prefer: wait``: the runs once all of them have ended, or as they are after that time."""
        found = [result for result in response.data["results"] if "run" in result]
        runs = wait_for_runs(self, request, [UUID(result["run"]["id"]) for result in found])
        if runs is None:
            return response
        for result in found:
            run = runs.get(UUID(result["run"]["id"]))
            if run is not None:
                done = run.state in TERMINAL_RUN_STATES
                result |= {"run": show_summary(run)} | ({"status": 200} if done else {})
        if all(result["status"] == 200 for result in found):
            response.status_code = 200
            applied(request, response)
        return response

    def _show(self, outcome: Started | Exception) -> dict[str, Any]:
        if isinstance(outcome, Started):
            return {"status": 202 if outcome.created else 200, "run": show_summary(outcome.run)}
        # The same words that a single start would be answered with.
        problem = self.get_exception_handler()(outcome, self.get_exception_handler_context())
        assert problem is not None  # noqa: S101 - ours describes every error
        return {"status": problem.status_code, "problem": problem.data}


def _read(body: object) -> Start | ValidationError:
    try:
        return Start(**validated(StartRun, body))
    except ValidationError as error:
        return error
