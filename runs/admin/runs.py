"""Admin pages of runs, their nodes, items, events and signals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from pyflow.core.errors import PyFlowError
from pyflow.core.events import EventType
from runs.admin.screens import apart, main_nodes, page_of
from runs.admin.timeline import duration
from runs.explain.explanation import explain_run
from runs.models import EventRecord, NodeItem, NodeRun, Run, RunSignal, matching
from runs.services.bulk import MOST_RUNS, Action, act_on_runs
from runs.services.reruns import rerun
from runs.services.signals import PENDING_APPROVAL
from tenants.access import Permission
from tenants.admin.access import acting
from tenants.admin.base import RowT, TenantFilter, TenantOwnedAdmin, badge, pretty

#: Seconds between two looks at a run that goes on, where the server cannot stream its events.
LIVE_SECONDS = 5
#: How many refusals are shown one by one.
MOST_REFUSALS = 5
#: What is asked before it is done, with what it does. The other actions can be taken back.
ASKED = {
    "cancel": "Running nodes are cancelled, completed ones are compensated, and then `finally` runs.",
    "terminate": "The runs end at once. No node is compensated, and `finally` does not run.",
    "retry": "Nodes that failed or were not reached run, with their side effects. Completed nodes keep their results.",
    "rerun": "Each run is repeated as a new run, with all side effects.",
}
DONE = {
    "cancel": "being cancelled",
    "terminate": "terminated",
    "pause": "pausing",
    "resume": "resumed",
    "retry": "queued again",
    "rerun": "repeated",
}
VERSIONS = ("original", "latest")


def value(inline: Any, reference: Any) -> SafeString:
    """A value as JSON; of one that is stored apart, what there is of it and where it can be read."""
    return pretty(inline) if reference is None else format_html("{}", apart(reference))


class OfRuns(TenantOwnedAdmin[RowT]):
    """Read-only rows of runs: nothing is added, changed or deleted."""

    read, write = Permission.RUNS_READ, Permission.RUNS_WRITE

    @admin.display(description="State", ordering="state")
    def shown_state(self, row: Any) -> SafeString:
        """The state in its colour."""
        return badge(row.state)

    @admin.display(description="Output")
    def shown_output(self, row: Any) -> SafeString:
        """The output as JSON."""
        return value(row.output, row.output_ref)

    @admin.display(description="Error")
    def shown_error(self, row: Any) -> SafeString:
        """The error as JSON."""
        return pretty(row.error)


class OfOneRun(OfRuns[RowT]):
    """Rows below a run, found by its id."""

    search_fields = ("node_id",)
    search_help_text = "A run id, or a complete node id."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[RowT], search_term: str
    ) -> tuple[QuerySet[RowT], bool]:
        """Search by indexed columns only: these tables are the largest."""
        try:
            return queryset.filter(run=UUID(search_term)), False
        except ValueError:
            field = str(self.get_search_fields(request)[0])
            return queryset.filter(**{field: search_term.replace("\0", "")}) if search_term else queryset, False


@admin.register(Run)
class RunAdmin(OfRuns[Run]):
    """Runs, newest first: by their times, because the ids of child runs follow from those of their parents."""

    ordering: ClassVar[tuple[str, ...]] = ("-created_at", "-id")
    list_display = ("id", "workflow", "shown_state", "tenant", "trigger", "created_at", "took")
    list_filter = ("state", TenantFilter, "trigger", ("created_at", admin.DateFieldListFilter))
    list_select_related = ("workflow", "tenant")
    search_fields = ("workflow__name",)
    search_help_text = "A run id, or part of a workflow's name."
    change_form_template = "runs/admin/run.html"
    fields = ("id", "state")
    actions = ("cancel", "terminate", "pause", "resume", "retry", "rerun")

    @admin.display(description="Took")
    def took(self, run: Run) -> str:
        """From its start to its end; nothing while it goes on."""
        if run.started_at is None or run.finished_at is None:
            return "–"
        return duration((run.finished_at - run.started_at).total_seconds())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        """Without documents, inputs and outputs where a list is made of them."""
        rows = super().get_queryset(request)
        if request.resolver_match is not None and str(request.resolver_match.url_name).endswith("_changelist"):
            return rows.defer("input", "outputs", "error", "lineage", "secrets_used")
        return rows.select_related("workflow", "version", "tenant")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        """By id, or by a part of the workflow's name."""
        term = search_term.replace("\0", "").strip()
        return (queryset.filter(matching(term)) if term else queryset), False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of a run; that of one that goes on follows its events, or is looked at again by the browser."""
        run = self.get_object(request, object_id)
        if run is not None and self.has_view_permission(request, run):
            page = page_of(run)
            live = page.is_live and request.GET.get("live") != "off"
            explanation = explain_run(tenant_id=run.tenant_id, run_id=run.pk)
            verbs = [
                verb for verb in explanation.verbs if verb.verb in DONE and self.has_write_permission(request, run)
            ]
            extra_context = {
                **(extra_context or {}),
                "page": page,
                "explanation": explanation,
                "verbs": verbs,
                "shown": {
                    "input": value(run.input, run.input_ref),
                    "outputs": value(run.outputs, run.outputs_ref),
                    "error": pretty(run.error),
                },
                "refresh": LIVE_SECONDS if live else 0,
                "event_types": " ".join(EventType),
                "title": f"Run of {run.workflow.name}",
            }
        return super().change_view(request, object_id, form_url, extra_context)

    @admin.action(description="Cancel the selected runs", permissions=["write"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        """Ask each to stop."""
        return self._act(request, queryset, "cancel")

    @admin.action(description="Terminate the selected runs", permissions=["write"])
    def terminate(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        """End each at once."""
        return self._act(request, queryset, "terminate")

    @admin.action(description="Pause the selected runs", permissions=["write"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        """Let nothing more start in them."""
        return self._act(request, queryset, "pause")

    @admin.action(description="Resume the selected runs", permissions=["write"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        """Let them go on."""
        return self._act(request, queryset, "resume")

    @admin.action(description="Retry the selected runs", permissions=["write"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        """Take each up again."""
        return self._act(request, queryset, "retry")

    @admin.action(description="Repeat the selected runs as new runs", permissions=["write"])
    def rerun(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        """Repeat each in a new run; of a single one, from a node that is chosen."""
        return self._act(request, queryset, "rerun")

    def _act(self, request: HttpRequest, queryset: QuerySet[Run], action: str) -> HttpResponse | None:
        """By the verbs, once it is confirmed where that is asked; what each run refuses is a message."""
        rows = queryset.select_related("workflow", "version", "tenant")[: MOST_RUNS + 1]
        runs = [run for run in rows if self.has_write_permission(request, run)]
        if len(runs) > MOST_RUNS:
            self.message_user(request, f"Select at most {MOST_RUNS} runs.", messages.ERROR)
            return None
        if action in ASKED and "confirmed" not in request.POST:
            return self._asked(request, runs, action)
        outcomes = _reruns(request, runs) if action == "rerun" else _outcomes(request, runs, Action(action))
        self._report(request, outcomes, action)
        return self._back(request, runs, outcomes)

    def _asked(self, request: HttpRequest, runs: Sequence[Run], action: str) -> HttpResponse:
        """A page that says what will be done, and to which runs."""
        one = runs[0] if action == "rerun" and len(runs) == 1 else None
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{action.capitalize()} {'this run' if len(runs) == 1 else f'{len(runs)} runs'}?",
            "runs": runs,
            "action": action,
            "warning": ASKED[action],
            "back": request.POST.get("back", ""),
            "nodes": [] if one is None else main_nodes(one),
            "versions": [] if one is None else VERSIONS,
        }
        return TemplateResponse(request, "runs/admin/confirm.html", context)

    def _report(self, request: HttpRequest, outcomes: Sequence[Run | PyFlowError], action: str) -> None:
        refusals = [str(outcome) for outcome in outcomes if isinstance(outcome, PyFlowError)]
        if len(refusals) < len(outcomes):
            count = len(outcomes) - len(refusals)
            self.message_user(request, f"{count} run{'' if count == 1 else 's'} {DONE[action]}.", messages.SUCCESS)
        for refusal in refusals[:MOST_REFUSALS]:
            self.message_user(request, refusal, messages.ERROR)
        if len(refusals) > MOST_REFUSALS:
            self.message_user(request, f"{len(refusals) - MOST_REFUSALS} more runs refused the action.", messages.ERROR)

    def _back(
        self, request: HttpRequest, runs: Sequence[Run], outcomes: Sequence[Run | PyFlowError]
    ) -> HttpResponse | None:
        """To the page of the run, or of the new one, that the action was taken from; else to the list."""
        if "back" not in request.POST or len(runs) != 1:
            return None
        run = outcomes[0] if isinstance(outcomes[0], Run) else runs[0]
        return HttpResponseRedirect(reverse("admin:runs_run_change", args=[run.pk]))


def _outcomes(request: HttpRequest, runs: Collection[Run], action: Action) -> list[Run | PyFlowError]:
    of_tenant: dict[UUID, list[UUID]] = defaultdict(list)
    for run in runs:
        of_tenant[run.tenant_id].append(run.pk)
    return [
        outcome
        for tenant_id, run_ids in of_tenant.items()
        for outcome in act_on_runs(by=acting(request, tenant_id), action=action, run_ids=run_ids, workflows=None)
    ]


def _reruns(request: HttpRequest, runs: Collection[Run]) -> list[Run | PyFlowError]:
    version = request.POST.get("version", VERSIONS[0])
    start_from = request.POST.get("from") or None
    outcomes: list[Run | PyFlowError] = []
    for run in runs:
        try:
            outcomes.append(
                rerun(
                    by=acting(request, run.tenant_id),
                    run_id=run.pk,
                    start_from=start_from,
                    version=version if version in VERSIONS else VERSIONS[0],
                )
            )
        except PyFlowError as error:
            outcomes.append(error)
    return outcomes


class PendingFilter(admin.SimpleListFilter):
    """Filter of runs that wait for a decision."""

    title, parameter_name = "pending", "pending"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The one that there is."""
        return [("approvals", "approvals")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The nodes, or items, that wait for a decision."""
        return queryset.filter(PENDING_APPROVAL) if self.value() == "approvals" else queryset


@admin.register(NodeRun)
class NodeRunAdmin(OfOneRun[NodeRun]):
    """The nodes of runs."""

    list_display = ("node_id", "run_id", "shown_state", "tenant", "attempts", "started_at", "finished_at")
    list_filter = ("state", PendingFilter, TenantFilter)
    list_select_related = ("tenant",)
    fields = (
        "run",
        "node_id",
        "tenant",
        "state",
        "round",
        "attempts",
        "reason",
        "tolerated",
        "started_at",
        "finished_at",
        "wake_at",
        "wait",
        "progress",
        "shown_output",
        "shown_error",
    )


@admin.register(EventRecord)
class EventAdmin(OfOneRun[EventRecord]):
    """Events of runs, read-only."""

    list_display = ("seq", "run_id", "time", "type", "node_id", "tenant")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    fields = ("run", "tenant", "seq", "time", "type", "node_id", "shown_data")

    @admin.display(description="At")
    def time(self, event: EventRecord) -> str:
        """The time with its milliseconds: what happens in a run happens quickly."""
        return event.at.isoformat(sep=" ", timespec="milliseconds")

    @admin.display(description="Data")
    def shown_data(self, event: EventRecord) -> SafeString:
        """The data as JSON."""
        return pretty(event.data)


@admin.register(NodeItem)
class NodeItemAdmin(OfOneRun[NodeItem]):
    """The items of fan-outs."""

    list_display = ("run_id", "node_id", "index", "key", "shown_state", "attempts", "at")
    list_filter = ("state", PendingFilter, TenantFilter)
    search_fields = ("key",)
    search_help_text = "A run id, or the complete key of an item."
    fields = (
        *("run", "node_id", "index", "key", "tenant", "state", "round", "attempts", "at", "wake_at", "wait"),
        *("shown_output", "shown_error"),
    )


@admin.register(RunSignal)
class RunSignalAdmin(OfOneRun[RunSignal]):
    """Signals, delivered and waiting."""

    list_display = ("run_id", "name", "consumed", "created_at")
    list_filter = ("consumed", TenantFilter)
    search_fields = ("name",)
    search_help_text = "A run id, or the complete name of a signal."
    fields = ("run", "tenant", "name", "dedupe_id", "consumed", "created_at", "shown_payload")

    @admin.display(description="Payload")
    def shown_payload(self, signal: RunSignal) -> SafeString:
        """The payload as JSON."""
        return pretty(signal.payload)
