"""ASGI entry point. In the single-node shape this process also executes the runs."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
_over_http = get_asgi_application()

# Models can be imported from here on.
from pyflow_site.executor import start_executor  # noqa: E402
from pyflow_site.routing import routed  # noqa: E402

application = routed(_over_http)
start_executor()
