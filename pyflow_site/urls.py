"""All routes."""

from __future__ import annotations

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularRedocView, SpectacularSwaggerSplitView

from events.live import run_stream, tenant_stream
from pyflow_site.health import LiveView, ReadyView
from pyflow_site.pages import ProblemsPage
from pyflow_site.schema import SchemaView
from pyflow_site.usage import QuotasView, UsageView
from triggers.api.inbound import InboundView

#: The package's own load fonts from the network, and have styles without a nonce.
SWAGGER = "pyflow_site/swagger.html"
REDOC = "pyflow_site/redoc.html"

urlpatterns = [
    path("", RedirectView.as_view(url="/api/docs/"), name="home"),
    path("favicon.ico", RedirectView.as_view(url=static("drf_spectacular_sidecar/swagger-ui-dist/favicon-32x32.png"))),
    path("admin/live/runs/<uuid:run_id>", run_stream, name="live-run"),
    path("admin/live/tenants/<uuid:tenant_id>", tenant_stream, name="live-tenant"),
    path("admin/", admin.site.urls),
    # First what is asked for most: routes are tried in their order.
    path("api/v1/", include("runs.api.urls")),
    path("api/v1/", include("tenants.api.urls")),
    path("api/v1/", include("plugins.api.urls")),
    path("api/v1/", include("workflows.api.urls")),
    path("api/v1/", include("events.api.urls")),
    path("api/v1/", include("secrets_vault.api.urls")),
    path("api/v1/", include("triggers.api.urls")),
    path("api/v1/health/live", LiveView.as_view(), name="health-live"),
    path("api/v1/health/ready", ReadyView.as_view(), name="health-ready"),
    path("api/v1/quotas", QuotasView.as_view(), name="quotas"),
    path("api/v1/usage", UsageView.as_view(), name="usage"),
    path("api/v1/schema", SchemaView.as_view(), name="schema"),
    path("hooks/<str:slug>/<path:path>", InboundView.as_view(), name="inbound-hook"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema", template_name=SWAGGER), name="docs"),
    path("api/docs/redoc", SpectacularRedocView.as_view(url_name="schema", template_name=REDOC), name="redoc"),
    path("api/docs/problems", ProblemsPage.as_view(), name="problems"),
]
handler400 = "pyflow_site.problems.bad_request"
handler403 = "pyflow_site.problems.forbidden"
handler404 = "pyflow_site.problems.not_found"
handler500 = "pyflow_site.problems.server_error"
