"""Routes of runs, below ``/api/v1/``."""

from django.urls import path

from runs.api.views import CancelView, EventsView, RunView, SignalsView, StartRunView

urlpatterns = [
    path("workflows/<str:name>/runs", StartRunView.as_view(), name="workflow-runs"),
    path("runs/<uuid:run_id>", RunView.as_view(), name="run"),
    path("runs/<uuid:run_id>/signals", SignalsView.as_view(), name="run-signals"),
    path("runs/<uuid:run_id>/cancel", CancelView.as_view(), name="run-cancel"),
    path("runs/<uuid:run_id>/events", EventsView.as_view(), name="run-events"),
]
