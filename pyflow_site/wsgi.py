"""WSGI entry point. In the single-node shape this process also executes the runs."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
application = get_wsgi_application()

from pyflow_site.executor import start_executor  # noqa: E402 - models can be imported from here on

start_executor()
