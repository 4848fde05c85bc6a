"""Routes of the catalogue, below ``/api/v1/``."""

from django.urls import path

from plugins.api.views import NodesView, NodeView, PluginsView

urlpatterns = [
    path("nodes", NodesView.as_view(), name="nodes"),
    path("plugins", PluginsView.as_view(), name="plugins"),
    path("nodes/<str:type>", NodeView.as_view(), name="node"),
]
