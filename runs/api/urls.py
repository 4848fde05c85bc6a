"""Routes of runs, below ``/api/v1/``."""

from django.urls import path

from runs.api.actions import ActionsView
from runs.api.batch import BatchView
from runs.api.decisions import ApprovalsView, SignalsView
from runs.api.explanation import ExplainView
from runs.api.graph import GraphView
from runs.api.logs import LogsView
from runs.api.nodes import ItemsView, NodesView, NodeView
from runs.api.values import InputView, ItemOutputView, OutputsView, OutputView
from runs.api.verbs import CancelView, PauseView, RerunView, ResumeView, RetryView, TerminateView
from runs.api.views import RunsView, RunView, WorkflowRunsView

urlpatterns = [
    path("workflows/<str:name>/runs", WorkflowRunsView.as_view(), name="workflow-runs"),
    path("workflows/<str:name>/runs/batch", BatchView.as_view(), name="workflow-runs-batch"),
    path("runs", RunsView.as_view(), name="runs"),
    path("approvals", ApprovalsView.as_view(), name="approvals"),
    path("runs/actions", ActionsView.as_view(), name="runs-actions"),
    path("runs/<uuid:run_id>", RunView.as_view(), name="run"),
    path("runs/<uuid:run_id>/nodes", NodesView.as_view(), name="run-nodes"),
    path("runs/<uuid:run_id>/nodes/<str:node_id>", NodeView.as_view(), name="run-node"),
    path("runs/<uuid:run_id>/nodes/<str:node_id>/items", ItemsView.as_view(), name="run-node-items"),
    path(
        "runs/<uuid:run_id>/nodes/<str:node_id>/items/<int:index>/output",
        ItemOutputView.as_view(),
        name="run-item-output",
    ),
    path("runs/<uuid:run_id>/nodes/<str:node_id>/output", OutputView.as_view(), name="run-node-output"),
    path("runs/<uuid:run_id>/input", InputView.as_view(), name="run-input"),
    path("runs/<uuid:run_id>/outputs", OutputsView.as_view(), name="run-outputs"),
    path("runs/<uuid:run_id>/graph", GraphView.as_view(), name="run-graph"),
    path("runs/<uuid:run_id>/explain", ExplainView.as_view(), name="run-explain"),
    path("runs/<uuid:run_id>/signals", SignalsView.as_view(), name="run-signals"),
    path("runs/<uuid:run_id>/cancel", CancelView.as_view(), name="run-cancel"),
    path("runs/<uuid:run_id>/terminate", TerminateView.as_view(), name="run-terminate"),
    path("runs/<uuid:run_id>/pause", PauseView.as_view(), name="run-pause"),
    path("runs/<uuid:run_id>/resume", ResumeView.as_view(), name="run-resume"),
    path("runs/<uuid:run_id>/retry", RetryView.as_view(), name="run-retry"),
    path("runs/<uuid:run_id>/rerun", RerunView.as_view(), name="run-rerun"),
    path("runs/<uuid:run_id>/logs", LogsView.as_view(), name="run-logs"),
]
