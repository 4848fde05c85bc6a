"""The same request to many runs."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.serializers import Strict, validated
from pyflow.core.errors import PyFlowError
from runs.api.queries import AllRunsFilter, matching
from runs.api.serializers import RunSummaryShape, show_summary
from runs.models import Run
from runs.services.bulk import BATCH, MOST_RUNS, Action, act_on_runs, select, writable_workflows
from tenants.access import Permission
from tenants.api.views import TenantView
from tenants.errors import ForbiddenError


class RunActions(Strict):
    """An action, and the runs that it applies to: ``runs``, or those that match a ``filter``."""

    action = serializers.ChoiceField([action.value for action in Action])
    runs = serializers.ListField(
        child=serializers.UUIDField(), required=False, min_length=1, max_length=MOST_RUNS, help_text="Run ids."
    )
    filter = AllRunsFilter(
        required=False,
        help_text="At least one filter of the list of runs. It applies to matching runs that it would change, in "
        "the order of their ids.",
    )
    after = serializers.UUIDField(
        required=False, help_text="With a `filter`: continue after this id, the `next` of the previous response."
    )
    limit = serializers.IntegerField(
        required=False,
        default=MOST_RUNS,
        min_value=1,
        max_value=MOST_RUNS,
        help_text="With a `filter`: maximum number of runs.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Either ids or a filter, which says something."""
        if ("runs" in attrs) == ("filter" in attrs):
            raise serializers.ValidationError("Give either `runs` or `filter`.")
        if "after" in attrs and "runs" in attrs:
            raise serializers.ValidationError({"after": "It goes with a `filter`."})
        if "filter" in attrs and not attrs["filter"]:
            raise serializers.ValidationError({"filter": "It matches every run: give at least one condition."})
        return attrs


class ActionShape(serializers.Serializer[Any]):
    """The result for one run: the run, or a problem document."""

    id = serializers.UUIDField()
    status = serializers.IntegerField(
        help_text="Status that the single request would have: 200 or 202, or that of the problem."
    )
    run = RunSummaryShape(required=False)
    problem = serializers.DictField(required=False, help_text="A problem document.")


class ActionsShape(serializers.Serializer[Any]):
    """The result for each run, in the order of the request."""

    results = ActionShape(many=True)
    accepted = serializers.IntegerField(help_text="Number of runs that accepted the action.")
    next = serializers.UUIDField(
        allow_null=True, help_text="With a `filter`: more runs match; send this value as `after`."
    )


class ActionsView(TenantView):
    """The same request to many runs."""

    #: Asked run by run: a workflow may be shared with who has no such permission.
    permissions: ClassVar = {"POST": None}
    in_batches = True

    @extend_schema(
        operation_id="runs_actions",
        summary="Apply one action to many runs",
        request=RunActions,
        responses={200: OpenApiResponse(ActionsShape, description="One result per run.")},
    )
    def post(self, request: Request) -> Response:
        """Cancel, terminate, pause, resume or retry up to 100 runs, ten in each transaction.

        A refusal by one run does not affect the others. If the response is lost, repeat the request with the same
        `Idempotency-Key`: each run is changed together with the record of it, so it takes effect once, even after
        a crash. Without a key, a repeated request applies to the current state of the runs.
        """
        chosen = self.step(request, "choose", lambda: self._choose(request))
        action, run_ids = Action(chosen["action"]), [UUID(str(run_id)) for run_id in chosen["runs"]]
        results: list[dict[str, Any]] = []
        for first in range(0, len(run_ids), BATCH):
            act = partial(self._act, action, run_ids[first : first + BATCH])
            results += self.step(request, f"runs from {first}", act)
        accepted = sum("run" in result for result in results)
        return Response({"results": results, "accepted": accepted, "next": run_ids[-1] if chosen["more"] else None})

    def _choose(self, request: Request) -> dict[str, Any]:
        workflows = self._workflows()
        wanted = validated(RunActions, request.data)
        action, more = Action(wanted["action"]), False
        run_ids: list[UUID] = list(dict.fromkeys(wanted.get("runs", ())))
        if "filter" in wanted:
            rows = matching(Run.objects.for_tenant(self.principal.tenant_id), wanted["filter"])
            after, limit = wanted.get("after"), wanted["limit"]
            run_ids, more = select(rows, action, after=after, limit=limit, workflows=workflows)
        return {"action": action.value, "runs": run_ids, "more": more}

    def _act(self, action: Action, run_ids: list[UUID]) -> list[dict[str, Any]]:
        outcomes = act_on_runs(by=self.actor, action=action, run_ids=run_ids, workflows=self._workflows())
        return [self._show(action, *pair) for pair in zip(run_ids, outcomes, strict=True)]

    def _workflows(self) -> set[UUID] | None:
        """The workflows whose runs the caller may act on; ``None``: all."""
        if not self.principal.in_scope(Permission.RUNS_WRITE):
            raise ForbiddenError(f"This key lacks the scope `{Permission.RUNS_WRITE}`. Use a key that has it.")
        return writable_workflows(self.principal)

    def _show(self, action: Action, run_id: UUID, outcome: Run | PyFlowError) -> dict[str, Any]:
        if isinstance(outcome, Run):
            done = 200 if action is Action.TERMINATE else 202
            return {"id": run_id, "status": done, "run": show_summary(outcome)}
        # The same words that a single request would be answered with.
        problem = self.get_exception_handler()(outcome, self.get_exception_handler_context())
        assert problem is not None  # noqa: S101 - ours describes every error
        return {"id": run_id, "status": problem.status_code, "problem": problem.data}
