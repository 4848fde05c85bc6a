"""Actions on runs over HTTP: cancel, terminate, pause, resume, retry, rerun, signal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, PolymorphicProxySerializer, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.serializers import Strict, validated
from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from runs.api.preferences import PREFER, answer_waited
from runs.api.serializers import RunShape, show_run
from runs.api.shared import OfRun
from runs.api.views import CONFLICT, links
from runs.models import Run
from runs.services.cancel import cancel_run
from runs.services.pause import pause_run, resume_run
from runs.services.reruns import plan_rerun, rerun
from runs.services.retry import retry_run
from runs.services.terminate import terminate_run
from tenants.access import Permission
from tenants.plans import Quota


class StateVerb(OfRun):
    """A request that gives a run another state, or has its executor do so. ``verb`` does it, ``status`` is answered."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}
    reads_no_body: ClassVar = frozenset({"POST"})
    verb: ClassVar[Callable[..., Run]]
    status: ClassVar[int] = 202
    #: The states that ``Prefer: wait`` waits for.
    awaited: ClassVar[frozenset[RunState]] = TERMINAL_RUN_STATES

    def post(self, request: Request, run_id: UUID) -> Response:
        """The run as it is now."""
        run = type(self).verb(by=self.actor, run_id=run_id)
        return Response(show_run(run), status=self.status, headers=links(request, run))

    def after(self, request: Request, response: Response) -> Response:
        """With ``Prefer: wait``: the run once it is where the verb leads."""
        return answer_waited(self, request, response, self.awaited)


ViewT = TypeVar("ViewT", bound=type[StateVerb])


_WAITED = "With `Prefer: wait`: the requested state is reached, or the run has ended."


def _described(name: str, does: str, answer: str) -> Callable[[ViewT], ViewT]:
    """A decorator: ``runs_<name>`` in the OpenAPI document, which does this and answers that."""

    def describe(view: ViewT) -> ViewT:
        operation = extend_schema(
            operation_id=f"runs_{name}",
            summary=f"{name.capitalize()} a run",
            description=does,
            request=None,
            parameters=[PREFER],
            responses={
                200: OpenApiResponse(RunShape, description=_WAITED),
                view.status: OpenApiResponse(RunShape, description=answer),
                **CONFLICT,
            },
        )
        return extend_schema_view(post=operation)(view)

    return describe


@_described(
    "cancel",
    "Stop a run gracefully: running nodes are cancelled, completed nodes are compensated, then `finally` runs.",
    "Accepted; the run stops as soon as its nodes allow.",
)
class CancelView(StateVerb):
    """The request to stop a run."""

    verb = staticmethod(cancel_run)


@_described(
    "terminate",
    "End a run at once, without clean-up: no node is compensated and `finally` does not run. Prefer `cancel`.",
    "The run has ended as `cancelled`.",
)
class TerminateView(StateVerb):
    """The end of a run, at once."""

    verb = staticmethod(terminate_run)
    status = 200


@_described(
    "pause",
    "Start no more nodes until `resume`. Due timers and signals are kept until then. A paused run occupies no worker.",
    "Accepted; the run is `paused` when its running nodes have ended.",
)
class PauseView(StateVerb):
    """The request to start nothing more."""

    verb = staticmethod(pause_run)
    awaited = TERMINAL_RUN_STATES | {RunState.PAUSED}


@_described("resume", "Continue a paused run.", "Accepted; the run continues as soon as a worker is free.")
class ResumeView(StateVerb):
    """The end of a pause."""

    verb = staticmethod(resume_run)


@_described(
    "retry",
    "Continue the same run: only nodes and items without a result run again; completed ones keep theirs.",
    "The same run is queued again.",
)
class RetryView(StateVerb):
    """Another try of a run that did not succeed."""

    verb = staticmethod(retry_run)


class Rerun(Strict):
    """The options of a rerun."""

    version = serializers.RegexField(
        r"^(original|latest|[1-9][0-9]{0,8})$",
        required=False,
        default="original",
        help_text="`original`: the version of the run; `latest`: the version published last; or a number.",
    )
    input = serializers.DictField(
        required=False, help_text="Input to use instead of the original one; validated like the input of a start."
    )
    plan = serializers.BooleanField(
        required=False, default=False, help_text="Return the planned action for each node without starting a run."
    )

    def get_fields(self) -> dict[str, Any]:
        """``from``, too, which is no name in Python."""
        help_text = (
            "Run this node and everything downstream of it, and reuse the other results. Default: run all nodes."
        )
        start = serializers.CharField(required=False, max_length=255, help_text=help_text)
        return {"from": start} | super().get_fields()


class NodePlanShape(serializers.Serializer[Any]):
    """The planned action for one node."""

    node = serializers.CharField()
    action = serializers.ChoiceField(
        ["reuse", "run", "orphan"], help_text="`orphan`: only the source run has this node."
    )


class RerunPlanShape(serializers.Serializer[Any]):
    """The plan of a rerun."""

    version = serializers.IntegerField()
    nodes = NodePlanShape(many=True)


class RerunView(OfRun):
    """A new run that repeats another one."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}
    limited_by: ClassVar = {"POST": (Quota.RUNS_PER_DAY, Quota.STORED_BYTES)}

    @extend_schema(
        operation_id="runs_rerun",
        summary="Repeat a run",
        parameters=[PREFER],
        request=Rerun,
        responses={
            202: OpenApiResponse(RunShape, description="A new run, whose `source_run` is this one."),
            200: OpenApiResponse(
                PolymorphicProxySerializer("RunOrPlan", [RerunPlanShape, RunShape], None),
                description="With `plan`: nothing was started. With `Prefer: wait`: the new run, which has ended.",
            ),
            (409, "application/problem+json"): OpenApiResponse(
                OpenApiTypes.OBJECT, description="The workflow is archived, or the version is not published."
            ),
            (422, "application/problem+json"): OpenApiResponse(
                OpenApiTypes.OBJECT, description="Not valid, or the version that would run has no node `from`."
            ),
        },
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Start a new run with the same or another version, which can reuse results of nodes upstream of `from`."""
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

    def after(self, request: Request, response: Response) -> Response:
        """With ``Prefer: wait``: the new run once it has ended."""
        return answer_waited(self, request, response)
