"""Routes of workflows, below ``/api/v1/``."""

from django.urls import path

from workflows.api.views import WorkflowsView, WorkflowView

urlpatterns = [
    path("workflows", WorkflowsView.as_view(), name="workflows"),
    path("workflows/<str:name>", WorkflowView.as_view(), name="workflow"),
]
