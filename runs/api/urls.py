"""Routes of runs, below ``/api/v1/``."""

from django.urls import path

from runs.api.views import EventsView, RunView, StartRunView

urlpatterns = [
    path("workflows/<str:name>/runs", StartRunView.as_view(), name="workflow-runs"),
    path("runs/<uuid:run_id>", RunView.as_view(), name="run"),
    path("runs/<uuid:run_id>/events", EventsView.as_view(), name="run-events"),
]
